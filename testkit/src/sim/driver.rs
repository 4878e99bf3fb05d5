//! One side of one connection, and the calls that its applications make with it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::Pace;
use super::app::{ReadMode, Reader, Writer};
use super::chance::Chance;
use super::link_side::LinkSide;
use super::model::{Call, End, Model, StreamState};
use super::monitor::Monitor;
use super::payload::{self, Direction};
use super::setup;
use crate::readable::assert_readable;
use callosum_proto::internals::wire::dialect2::{Record, records};
use callosum_proto::internals::wire::{self, Credit, MessageType, UPPER};
use callosum_proto::{
    Anomaly, CallId, Connection, ConnectionConfig, Delivery, Dialect, Event, InvokeError, Metadata,
    Multipart, OrderingKey, Outcome, RequestId, Text, Urgency, internals,
};

pub(super) struct Driver {
    pub(super) connection: Connection,
    pub(super) at: LinkSide,
    pub(super) config: ConnectionConfig,
    pub(super) monitor: Monitor,
    pub(super) calls: BTreeMap<CallId, usize>,
    /// Streamed results that are being read, also of calls that have ended.
    pub(super) results: BTreeMap<CallId, Reader>,
    pub(super) arguments: BTreeMap<CallId, Writer>,
    /// Calls of the other side whose requests the connection was given and has not reported yet, in their order.
    arriving: VecDeque<(Option<RequestId>, usize)>,
    /// The last request that the connection has taken, per key, and per urgency if there is no key.
    newest: BTreeMap<(OrderingKey, Urgency), usize>,
    /// The last call whose answer was in order, per key.
    answered: BTreeMap<OrderingKey, usize>,
    pub(super) draining: bool,
    /// Requests that the connection has taken and not answered.
    pub(super) open: BTreeMap<RequestId, usize>,
    /// The connector reconnected with the identity of its former connection; messages for that one may still arrive.
    pub(super) took_over: bool,
}

impl Driver {
    pub(super) fn new(
        connection: Connection,
        at: LinkSide,
        config: ConnectionConfig,
        other: &ConnectionConfig,
    ) -> Self {
        let given = Credit { stream: other.first_window, link: other.connection_window };
        Self {
            connection,
            at,
            monitor: Monitor::new(given, config.ordered_replies),
            config,
            calls: BTreeMap::new(),
            results: BTreeMap::new(),
            arguments: BTreeMap::new(),
            arriving: VecDeque::new(),
            newest: BTreeMap::new(),
            answered: BTreeMap::new(),
            draining: false,
            open: BTreeMap::new(),
            took_over: false,
        }
    }

    /// The next message; the monitor checks it.
    pub(super) fn transmit(&mut self, now: Instant) -> Option<Multipart> {
        let message = self.connection.poll_message(now)?;
        assert_readable(&message);
        if message.frames().len() == 1 {
            self.monitor.on_sent(now, &message.clone().into_one().expect("it has one frame"));
        }
        Some(message)
    }

    pub(super) fn receive(&mut self, now: Instant, message: Multipart) {
        if self.connection.dialect() == Some(Dialect::Two) && message.frames().len() == 1 {
            self.monitor.on_received(now, &message.frames()[0]);
        }
        self.arriving = self.requests_in(&message).into();
        self.connection.handle_message(now, message);
    }

    /// The calls whose requests a message brings. Dialect 1 does not say under which number this side takes one.
    fn requests_in(&self, message: &Multipart) -> Vec<(Option<RequestId>, usize)> {
        let number = |method: &Text| method.parse().expect("methods are numbers");
        if let Some(packet) = message.clone().into_one() {
            let opened =
                records(&packet).expect("a packet").filter_map(|record| match record.expect("a record") {
                    Record::Open { call, method, .. } => {
                        Some((Some(internals::request_id(self.at.connection, call / 2)), number(&method)))
                    }
                    _ => None,
                });
            return opened.collect();
        }
        let Some([marker, header, _]) = message.clone().into_three() else { return Vec::new() };
        match wire::decode_header(&header) {
            Ok(header) if marker == UPPER && header.kind == MessageType::Function => {
                vec![(None, number(&header.id.method))]
            }
            _ => Vec::new(),
        }
    }

    /// Whether only a peer that breaks the protocol causes this event.
    pub(super) fn is_fault(&self, event: &Event) -> bool {
        match event {
            Event::Anomaly(Anomaly::UnknownReply | Anomaly::UnknownCancel | Anomaly::Body(_)) => false,
            // A message for the former connection arrives in a dialect that isn't agreed on yet, or answers such a message.
            Event::Anomaly(Anomaly::NotAMessage) => {
                !self.took_over || (self.at.side == 0 && self.connection.is_established())
            }
            event => matches!(event, Event::Anomaly(_)),
        }
    }

    /// The host has crashed: the callers of its open calls are gone.
    pub(super) fn crash(&self, model: &mut Model) {
        for number in self.calls.values() {
            model.0[*number].end = Some(End::Abandoned);
        }
    }

    pub(super) fn invoke(&mut self, now: Instant, model: &mut Model, chance: &mut Chance<'_>) {
        let number = model.0.len();
        let streamed = chance.one_in(3);
        let len = chance.size(if streamed { 40_000 } else { 200_000 });
        let mut call = callosum_proto::Call::new(
            number.to_string(),
            payload::bytes(number, Direction::Argument, 0, len),
        );
        call.key = key(chance.below(4));
        call.compressed = chance.one_in(3);
        if !chance.one_in(2) {
            call.urgency = Urgency::new(chance.below(8) as u8).expect("it is below 8");
        }
        call.deadline = chance.one_in(5).then(|| now + Duration::from_millis(chance.below(3_000) as u64));
        call.argument = if streamed { Delivery::Stream } else { Delivery::Whole };
        call.result = if chance.one_in(3) { Delivery::Whole } else { Delivery::Stream };
        if chance.one_in(4) {
            call.metadata.insert("number", number.to_string()).expect("it is small");
        }
        let argument = match streamed {
            true => StreamState { written: len as u64, streamed, ..StreamState::default() },
            false => StreamState::whole(len),
        };
        let noted = Call {
            key: call.key.clone(),
            urgency: call.urgency,
            deadline: call.deadline,
            metadata: call.metadata.clone(),
            streamed,
            delivery: call.result,
            argument,
            result: StreamState { reassembled: call.result == Delivery::Whole, ..StreamState::default() },
            reached: false,
            started: false,
            responded: false,
            answer: None,
            end: None,
        };
        let before = self.connection.queued_bytes();
        match self.connection.invoke(now, call) {
            Ok(id) => {
                let limit = self.config.max_outgoing_bytes;
                assert!(before == 0 || self.connection.queued_bytes() <= limit, "the queue has a limit");
                assert!(!self.draining, "it drains");
                model.0.push(noted);
                assert!(self.calls.insert(id, number).is_none(), "an id used twice");
                if streamed {
                    let (target, gives_up) = (len + chance.size(150_000), chance.one_in(6));
                    self.arguments.insert(id, Writer::new(number, Direction::Argument, target, gives_up));
                }
            }
            Err(InvokeError::Draining) => assert!(self.draining),
            Err(InvokeError::BodyTooLarge { size, limit }) => assert!(size == len && size > limit),
            Err(InvokeError::NeedsDialect2) => assert!(streamed || !noted.metadata.is_empty()),
            Err(InvokeError::QueueFull { .. }) => assert!(before > 0),
            Err(InvokeError::PeerDraining) => {}
            Err(InvokeError::Closed) => assert!(self.connection.is_closed()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn abandon(&mut self, which: usize, model: &mut Model) {
        let open: Vec<_> = self.calls.iter().map(|(id, number)| (*id, *number)).collect();
        if let Some((id, number)) = open.get(which % open.len().max(1)) {
            let is_only_leaving = self.is_only_leaving(*id, &model.0[*number]);
            assert_eq!(self.connection.abandon(*id), !is_only_leaving, "{number}: {:?}", model.0[*number]);
            if is_only_leaving {
                return;
            }
            assert!(!self.connection.abandon(*id));
            model.0[*number].end = Some(End::Abandoned);
            self.forget(*id, true);
        }
    }

    /// Whether all that is left of a call is a finished argument that has not left. Such a call is not abandoned.
    fn is_only_leaving(&self, id: CallId, call: &Call) -> bool {
        call.responded && !self.results.contains_key(&id) && call.argument.finished
    }

    fn forget(&mut self, id: CallId, unread: bool) {
        self.calls.remove(&id);
        self.arguments.remove(&id);
        if unread {
            self.results.remove(&id);
        }
    }

    /// A call has ended. If the other side `orders` answers, those with the same key end in order.
    ///
    /// # Panics
    /// If answers are out of order, or the call was not open.
    pub(super) fn ended(
        &mut self,
        id: CallId,
        outcome: &Outcome,
        metadata: &Metadata,
        orders: bool,
        model: &mut Model,
    ) {
        let number = *self.calls.get(&id).unwrap_or_else(|| panic!("{id:?} is not open: {outcome:?}"));
        let in_order = model.ended(number, outcome);
        if matches!(outcome, Outcome::Result(_)) && self.connection.dialect() == Some(Dialect::Two) {
            check_metadata(number, metadata);
        }
        self.forget(id, *outcome != Outcome::Complete);
        if in_order && orders {
            self.answered(number, model);
        }
    }

    /// # Panics
    /// If a later call with the same key was answered before this one.
    fn answered(&mut self, number: usize, model: &Model) {
        if model.0[number].key.is_given() {
            let last = self.answered.insert(model.0[number].key.clone(), number);
            let other = last.map(|last| &model.0[last]);
            assert!(last <= Some(number), "{number} was answered late: {:?}, {other:?}", model.0[number]);
        }
    }

    /// The connection has taken a request; returns whose it is.
    ///
    /// # Panics
    /// If it was taken before, or out of order.
    pub(super) fn arrived(&mut self, id: RequestId, key: &OrderingKey, model: &mut Model) -> usize {
        let of_this = |arriving: &(Option<RequestId>, usize)| arriving.0.is_none_or(|other| other == id);
        let number = loop {
            // Those before it were refused.
            let arriving = self.arriving.pop_front().expect("its request was received");
            if of_this(&arriving) {
                break arriving.1;
            }
        };
        let call = &mut model.0[number];
        assert_eq!(call.key, *key, "{number}");
        call.argument.reassembled = !setup::streams_argument(&self.config, number);
        assert!(!std::mem::replace(&mut call.reached, true), "{number} is requested again");
        // Calls with the same key keep their order, whatever their urgency.
        let urgency = if call.key.is_given() { Urgency::MOST } else { call.urgency };
        let last = self.newest.insert((call.key.clone(), urgency), number);
        assert!(last < Some(number), "{number} is requested after {last:?}");
        assert!(self.open.insert(id, number).is_none(), "{id} arrives twice");
        number
    }

    /// A streamed result has begun. If the other side `orders` answers, those with the same key begin in order.
    ///
    /// # Panics
    /// If it began before, or out of order.
    pub(super) fn responded(
        &mut self,
        id: CallId,
        metadata: &Metadata,
        (read_mode, orders): (ReadMode, bool),
        model: &mut Model,
    ) {
        let number = *self.calls.get(&id).expect("only of open calls");
        let call = &mut model.0[number];
        assert!(!std::mem::replace(&mut call.responded, true) && call.is_open(), "{number} begins again");
        check_metadata(number, metadata);
        self.results.insert(id, Reader::new(number, Direction::Result, read_mode));
        if orders {
            self.answered(number, model);
        }
    }

    /// Runs a step of each reader and writer; returns whether that changed anything.
    pub(super) fn work(
        &mut self,
        now: Instant,
        model: &mut Model,
        chance: &mut Chance<'_>,
        pace: Pace,
    ) -> bool {
        let mut worked = false;
        for (id, writer) in &mut self.arguments {
            if pace != Pace::Random || chance.one_in(2) {
                worked |= writer.step(&mut self.connection, (*id).into(), model, chance);
            }
        }
        for (id, reader) in &mut self.results {
            if pace != Pace::Random || chance.one_in(2) {
                worked |= reader.step(&mut self.connection, (*id).into(), now, model, pace);
            }
        }
        self.results.retain(|_, reader| !reader.done);
        self.arguments.retain(|_, writer| !writer.done);
        worked
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.connection.handle_timeout(now).expect("there is no byte stream");
    }

    /// # Panics
    /// If connection and model differ, or the connection holds more bytes than its limit.
    pub(super) fn check(&mut self, now: Instant) {
        internals::audit(&self.connection);
        let connection = &self.connection;
        assert_eq!(connection.open_calls(), self.calls.len());
        assert_eq!(connection.open_requests(), self.open.len());
        assert!(self.open.len() <= self.config.max_requests);
        let (held, window) = (connection.held_bytes(), self.config.connection_window);
        assert!(held <= window, "{held} bytes are held, of {window}");
        assert!(connection.poll_timeout().is_none_or(|at| at > now), "a timer would spin");
    }
}

/// The metadata of a result is the number of its call, or nothing.
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
