//! One side of one connection: a session, and the calls that are made with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Pace;
use super::app::{Manner, Reader, Writer};
use super::book::{Book, Call, Content, End};
use super::chance::Chance;
use super::content::{self, Way};
use super::host::Seat;
use super::tap::Tap;
use crate::session::{
    self, Anomaly, Dialect, Event, ExchangeId, InvokeError, Outcome, Session, SessionConfig,
};
use crate::{CallId, Metadata, Multipart, OrderingKey, Urgency};

pub(super) struct Post {
    pub(super) session: Session,
    pub(super) seat: Seat,
    pub(super) config: SessionConfig,
    pub(super) tap: Tap,
    pub(super) calls: BTreeMap<CallId, usize>,
    /// Results that are read, some of calls that have ended.
    pub(super) results: BTreeMap<CallId, Reader>,
    pub(super) arguments: BTreeMap<CallId, Writer>,
    /// The last request that came out, of each key, or urgency where there is none.
    newest: BTreeMap<(OrderingKey, Urgency), usize>,
    /// The last call that was answered in its turn, by key.
    answered: BTreeMap<OrderingKey, usize>,
    pub(super) draining: bool,
    pub(super) requests: usize,
    /// It has the name of another, for whom something may be under way still.
    pub(super) is_newcomer: bool,
}

impl Post {
    pub(super) fn new(session: Session, seat: Seat, config: SessionConfig, other: &SessionConfig) -> Self {
        let given = crate::wire::Credit { stream: other.first_window, link: other.link_window };
        Self {
            session,
            seat,
            tap: Tap::new(given, config.ordered_replies),
            config,
            calls: BTreeMap::new(),
            results: BTreeMap::new(),
            arguments: BTreeMap::new(),
            newest: BTreeMap::new(),
            answered: BTreeMap::new(),
            draining: false,
            requests: 0,
            is_newcomer: false,
        }
    }

    /// The next message, heard by whoever listens on the line.
    pub(super) fn transmit(&mut self, now: Instant) -> Option<Multipart> {
        let message = self.session.poll_transmit(now)?;
        if message.frames().len() == 1 {
            self.tap.sent(&message.clone().into_one().expect("it has one frame"));
        }
        Some(message)
    }

    pub(super) fn receive(&mut self, now: Instant, message: Multipart) {
        if self.session.dialect() == Some(Dialect::Two) && message.frames().len() == 1 {
            self.tap.heard(&message.frames()[0]);
        }
        self.session.handle_message(now, message);
    }

    /// Whether only a peer that breaks the protocol causes this.
    pub(super) fn is_fault(&self, event: &Event) -> bool {
        match event {
            Event::Anomaly(Anomaly::UnknownReply | Anomaly::UnknownCancel | Anomaly::Body(_)) => false,
            // It is for another, in a dialect that is not agreed on yet; or what it has begun in that is answered.
            Event::Anomaly(Anomaly::NotAMessage) => {
                !self.is_newcomer || (self.seat.side == 0 && self.session.is_established())
            }
            event => matches!(event, Event::Anomaly(_)),
        }
    }

    /// It is gone with its host, and so is everybody who waited for its calls.
    pub(super) fn die(&self, book: &mut Book) {
        for number in self.calls.values() {
            book.0[*number].end = Some(End::Abandoned);
        }
    }

    pub(super) fn invoke(&mut self, now: Instant, book: &mut Book, chance: &mut Chance<'_>) {
        let number = book.0.len();
        let streamed = chance.one_in(3);
        let len = chance.size(if streamed { 40_000 } else { 200_000 });
        let mut call = session::Call {
            key: key(chance.below(4)),
            compressed: chance.one_in(3),
            urgency: if chance.one_in(2) {
                Urgency::DEFAULT
            } else {
                Urgency::new(chance.below(8) as u8).expect("it is below 8")
            },
            deadline: chance.one_in(5).then(|| now + Duration::from_millis(chance.below(3_000) as u64)),
            streamed,
            ..session::Call::new(number.to_string(), content::bytes(number, Way::Argument, 0, len))
        };
        if chance.one_in(4) {
            call.metadata.insert("number", number.to_string()).expect("it is small");
        }
        let argument = match streamed {
            true => Content { written: len as u64, ..Content::default() },
            false => Content::whole(len),
        };
        let noted = Call {
            key: call.key.clone(),
            urgency: call.urgency,
            deadline: call.deadline,
            metadata: call.metadata.clone(),
            streamed,
            argument,
            result: Content::default(),
            reached: false,
            started: false,
            responded: false,
            said: None,
            end: None,
        };
        let before = self.session.queued_bytes();
        match self.session.invoke(now, call) {
            Ok(id) => {
                let limit = self.config.max_outgoing_bytes;
                assert!(before == 0 || self.session.queued_bytes() <= limit, "the queue has a limit");
                assert!(!self.draining, "it drains");
                book.0.push(noted);
                assert!(self.calls.insert(id, number).is_none(), "an id used twice");
                if streamed {
                    let (target, gives_up) = (len + chance.size(150_000), chance.one_in(6));
                    self.arguments.insert(id, Writer::new(number, Way::Argument, target, gives_up));
                }
            }
            Err(InvokeError::Draining) => assert!(self.draining),
            Err(InvokeError::BodyTooLarge { size, limit }) => assert!(size == len && size > limit),
            Err(InvokeError::NeedsDialect2) => assert!(streamed || !noted.metadata.is_empty()),
            Err(InvokeError::QueueFull { .. }) => assert!(before > 0),
            Err(InvokeError::PeerDraining) => {}
            Err(InvokeError::Closed) => assert!(self.session.is_closed()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn abandon(&mut self, which: usize, book: &mut Book) {
        let open: Vec<_> = self.calls.iter().map(|(id, number)| (*id, *number)).collect();
        if let Some((id, number)) = open.get(which % open.len().max(1)) {
            assert!(self.session.abandon(*id), "it was open");
            assert!(!self.session.abandon(*id));
            book.0[*number].end = Some(End::Abandoned);
            self.let_go(*id, true);
        }
    }

    fn let_go(&mut self, id: CallId, unread: bool) {
        self.calls.remove(&id);
        self.arguments.remove(&id);
        if unread {
            self.results.remove(&id);
        }
    }

    /// A call has ended. Answers that have to wait for their turn come in turn, if the other side `orders` them.
    ///
    /// # Panics
    /// If they do not, or it was not open.
    pub(super) fn ended(
        &mut self,
        id: CallId,
        outcome: &Outcome,
        metadata: &Metadata,
        orders: bool,
        book: &mut Book,
    ) {
        let number = *self.calls.get(&id).unwrap_or_else(|| panic!("{id:?} is not open: {outcome:?}"));
        let in_turn = book.ended(number, outcome);
        if matches!(outcome, Outcome::Result(_)) && self.session.dialect() == Some(Dialect::Two) {
            check_metadata(number, metadata);
        }
        self.let_go(id, *outcome != Outcome::Complete);
        if in_turn && orders {
            self.answered(number, book);
        }
    }

    /// # Panics
    /// If a later call with the same key was answered before.
    fn answered(&mut self, number: usize, book: &Book) {
        if book.0[number].key.is_given() {
            let last = self.answered.insert(book.0[number].key.clone(), number);
            let other = last.map(|last| &book.0[last]);
            assert!(last <= Some(number), "{number} was answered late: {:?}, {other:?}", book.0[number]);
        }
    }

    /// A request has come out.
    ///
    /// # Panics
    /// If it came out before, or out of order.
    pub(super) fn requested(&mut self, number: usize, book: &mut Book) {
        let call = &mut book.0[number];
        assert!(!std::mem::replace(&mut call.reached, true), "{number} comes out again");
        // Calls of a key keep their order, whatever their urgency.
        let urgency = if call.key.is_given() { Urgency::MOST } else { call.urgency };
        let last = self.newest.insert((call.key.clone(), urgency), number);
        assert!(last < Some(number), "{number} came out after {last:?}");
        self.requests += 1;
    }

    /// A result has begun, in its turn, if the other side `orders` answers.
    ///
    /// # Panics
    /// If it has before, or out of turn.
    pub(super) fn responded(
        &mut self,
        id: CallId,
        metadata: &Metadata,
        (manner, orders): (Manner, bool),
        book: &mut Book,
    ) {
        let number = *self.calls.get(&id).expect("only of open calls");
        let call = &mut book.0[number];
        assert!(!std::mem::replace(&mut call.responded, true) && call.is_open(), "{number} begins again");
        check_metadata(number, metadata);
        self.results.insert(id, Reader::new(number, Way::Result, manner));
        if orders {
            self.answered(number, book);
        }
    }

    /// Reads and writes a bit; whether that changed anything.
    pub(super) fn work(
        &mut self,
        now: Instant,
        book: &mut Book,
        chance: &mut Chance<'_>,
        pace: Pace,
    ) -> bool {
        let mut worked = false;
        for (id, writer) in &mut self.arguments {
            if pace != Pace::Leisurely || chance.one_in(2) {
                worked |= writer.step(&mut self.session, ExchangeId::Ours(*id), book, chance);
            }
        }
        for (id, reader) in &mut self.results {
            if pace != Pace::Leisurely || chance.one_in(2) {
                worked |= reader.step(&mut self.session, ExchangeId::Ours(*id), now, book, pace);
            }
        }
        self.results.retain(|_, reader| !reader.done);
        self.arguments.retain(|_, writer| !writer.done);
        worked
    }

    /// # Panics
    /// If session and model differ, or more is held than may be.
    pub(super) fn check(&self, now: Instant) {
        let session = &self.session;
        assert_eq!(session.open_calls(), self.calls.len());
        assert_eq!(session.open_requests(), self.requests);
        assert!(self.requests <= self.config.max_requests);
        let (held, window) = (session.held_bytes(), self.config.link_window);
        assert!(held <= window, "{held} bytes are held, of {window}");
        session.audit();
        assert!(session.poll_timeout().is_none_or(|(at, _)| at > now), "a timer would spin");
    }
}

/// Results bring the number of their call.
pub(super) fn result_metadata(number: usize, some: bool) -> Metadata {
    let mut metadata = Metadata::new();
    if some {
        metadata.insert("number", number.to_string()).expect("it is small");
    }
    metadata
}

fn check_metadata(number: usize, metadata: &Metadata) {
    for (_, value) in metadata.iter() {
        assert_eq!(value, number.to_string().as_bytes());
    }
}

fn key(which: usize) -> OrderingKey {
    match which {
        0 | 1 => OrderingKey::none(),
        2 => OrderingKey::text("k"),
        _ => OrderingKey::binary(&b"k"[..]),
    }
}
