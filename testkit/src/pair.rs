//! Two sessions of dialect 1 on virtual time, the link between them, and a reference model of their guarantees.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;

use callosum_proto::internals::wire::NONCE_LEN;
use callosum_proto::session::{
    Call, CloseCause, Dialect, Event, IncomingId, InvokeError, Keepalive, Outcome, Refusal, Reply,
    ReplyError, Session, SessionConfig, Timer,
};
use callosum_proto::{CallId, ErrorInfo, Metadata, Multipart, OrderingKey};

/// Largest bodies that the connector and the binder accept.
const MAX_BODY: [usize; 2] = [600, 300];
const MAX_REQUESTS: usize = 6;
/// Most bytes of one side's send queue.
const MAX_OUTGOING: usize = 4_000;
/// Bytes that a queued message counts for besides its names and its body, and most bytes of the text of a refusal or error.
const MESSAGE: usize = 256;
const TEXT: usize = 256;

/// One step. Numbers choose among what is open; times are in milliseconds.
#[derive(Clone, Debug, Arbitrary)]
pub enum Op {
    /// One side calls the other.
    Invoke {
        /// The binder does it, not the connector.
        binder: bool,
        /// One of a few keys.
        key: u8,
        /// A quarter of the body's bytes.
        size: u8,
        /// Compressed with Snappy.
        compressed: bool,
        /// Time until the deadline.
        deadline: Option<u8>,
    },
    /// A side abandons a call.
    Abandon {
        /// The binder does it, not the connector.
        binder: bool,
        /// Which call.
        which: u8,
    },
    /// A side answers a request.
    Reply {
        /// The binder does it, not the connector.
        binder: bool,
        /// Which request.
        which: u8,
        /// The kind of reply.
        kind: u8,
        /// A quarter of the reply's bytes.
        size: u8,
    },
    /// A handler starts.
    Started {
        /// The binder's, not the connector's.
        binder: bool,
        /// Which request.
        which: u8,
        /// Time limit of the handler.
        time: u8,
    },
    /// A side sends a PING.
    Ping {
        /// The binder does it, not the connector.
        binder: bool,
    },
    /// A side puts messages on the link.
    Transmit {
        /// The binder does it, not the connector.
        binder: bool,
        /// At most this many.
        count: u8,
    },
    /// Messages arrive.
    Deliver {
        /// At the binder.
        binder: bool,
        /// At most this many.
        count: u8,
    },
    /// The link of one side stops accepting output, or accepts some.
    Write {
        /// The binder's, not the connector's.
        binder: bool,
        /// It accepts nothing.
        blocked: bool,
    },
    /// Time passes.
    Pass(u8),
    /// A side refuses new calls.
    Drain {
        /// The binder does it, not the connector.
        binder: bool,
    },
    /// The link is closed.
    Close,
    /// A new link is opened.
    Connect,
}

struct Side {
    session: Session,
    /// Messages in flight to this side.
    inbox: VecDeque<Multipart>,
    /// Open requests of the other side: the call's index, and whether it is cancelled.
    requests: BTreeMap<IncomingId, (usize, bool)>,
    /// The last call of the other side that arrived over this link.
    newest: Option<usize>,
    draining: bool,
}

#[derive(Debug)]
struct Tracked {
    by: usize,
    id: CallId,
    key: OrderingKey,
    /// The other session has reported the request.
    reached: bool,
    /// The outcome that the caller must get, according to the reply.
    answer: Option<Outcome>,
    end: Option<End>,
}

#[derive(Debug)]
enum End {
    Abandoned,
    Reported(Outcome),
}

/// Two sessions and their link.
pub struct Pair {
    sides: [Side; 2],
    calls: Vec<Tracked>,
    now: Instant,
    linked: bool,
    links: u8,
}

fn session(side: usize, link: u8, first_call: CallId, now: Instant) -> Session {
    let mut config = SessionConfig::default();
    config.dialect = Dialect::One;
    config.max_body = MAX_BODY[side];
    config.max_requests = MAX_REQUESTS;
    config.max_outgoing_bytes = MAX_OUTGOING;
    config.handshake_timeout = Duration::from_millis(150);
    config.write_timeout = Duration::from_millis(150);
    config.keepalive = Some(Keepalive { idle: Duration::from_millis(100), misses: 2 });
    let role = if side == 0 { Role::Connector } else { Role::Binder };
    Session::new(role, config, nonce(side, link), first_call, now)
}

fn nonce(side: usize, link: u8) -> [u8; NONCE_LEN] {
    let mut nonce = [link; NONCE_LEN];
    nonce[0] = side as u8;
    nonce
}

fn error(kind: &'static str, size: usize) -> ErrorInfo {
    ErrorInfo { traceback: "t".repeat(size).into(), ..ErrorInfo::new(kind, "repr") }
}

impl Pair {
    /// Two sides without a link. The call numbers of one are about to wrap.
    pub fn new(now: Instant) -> Self {
        let sides = [CallId(0), CallId(u64::from(u32::MAX) - 1)];
        let mut side = 0;
        let sides = sides.map(|first_call| {
            let session = session(side, 0, first_call, now);
            side += 1;
            Side { session, inbox: VecDeque::new(), requests: BTreeMap::new(), newest: None, draining: false }
        });
        Self { sides, calls: Vec::new(), now, linked: false, links: 0 }
    }

    /// Runs a step and checks its effects.
    ///
    /// # Panics
    /// If a guarantee of the session is broken.
    pub fn apply(&mut self, op: Op) {
        match op {
            Op::Invoke { binder, key, size, compressed, deadline } => {
                let deadline = deadline.map(|time| self.now + Duration::from_millis(time.into()));
                self.invoke(usize::from(binder), key, usize::from(size) * 4, compressed, deadline);
            }
            Op::Abandon { binder, which } => self.abandon(usize::from(binder), which),
            Op::Reply { binder, which, kind, size } => {
                let side = usize::from(binder);
                let open = self.sides[side].requests.len().max(1);
                if let Some((&id, _)) = self.sides[side].requests.iter().nth(usize::from(which) % open) {
                    self.reply(side, id, kind, usize::from(size) * 4);
                }
            }
            Op::Started { binder, which, time } => {
                let side = &mut self.sides[usize::from(binder)];
                let open = side.requests.len().max(1);
                if let Some((&id, _)) = side.requests.iter().nth(usize::from(which) % open) {
                    side.session.started(id, self.now + Duration::from_millis(time.into()));
                }
            }
            Op::Ping { binder } => drop(self.sides[usize::from(binder)].session.ping()),
            Op::Transmit { binder, count } => self.transmit(usize::from(binder), count.into()),
            Op::Deliver { binder, count } => self.deliver(usize::from(binder), count.into()),
            Op::Write { binder, blocked: true } => {
                self.sides[usize::from(binder)].session.handle_write_blocked(self.now);
            }
            Op::Write { binder, .. } => self.sides[usize::from(binder)].session.handle_write_progress(),
            Op::Pass(time) => self.pass(Duration::from_millis(time.into())),
            Op::Drain { binder } => {
                self.sides[usize::from(binder)].session.drain();
                self.sides[usize::from(binder)].draining = true;
            }
            Op::Close => self.close(CloseCause::LinkLost),
            Op::Connect => self.connect(),
        }
        self.settle();
    }

    fn invoke(&mut self, by: usize, key: u8, size: usize, compressed: bool, deadline: Option<Instant>) {
        let key = match key % 4 {
            0 => OrderingKey::none(),
            1 => OrderingKey::text(""),
            2 => OrderingKey::text("k"),
            _ => OrderingKey::binary(&b"k"[..]),
        };
        let call = Call {
            key: key.clone(),
            compressed,
            deadline,
            ..Call::new(self.calls.len().to_string(), vec![0; size])
        };
        let counted = MESSAGE + call.method.as_bytes().len() + key.as_bytes().len() + size;
        let side = &mut self.sides[by];
        let before = side.session.queued_bytes();
        let fits = before == 0 || before + counted <= MAX_OUTGOING;
        let invoked = side.session.invoke(self.now, call);
        assert!(side.session.queued_bytes() <= before + if invoked.is_ok() { counted } else { 0 });
        match invoked {
            Ok(id) => {
                assert!(!side.draining && fits && size <= MAX_BODY[by].max(MAX_BODY[1 - by]));
                let twice = self.calls.iter().any(|call| call.by == by && call.id == id);
                assert!(!twice, "an id used twice");
                self.calls.push(Tracked { by, id, key, reached: false, answer: None, end: None });
            }
            Err(InvokeError::Draining) => assert!(side.draining),
            Err(InvokeError::BodyTooLarge { .. }) => assert!(size > MAX_BODY[0].min(MAX_BODY[1])),
            Err(InvokeError::QueueFull { .. }) => assert!(!fits),
            Err(error) => panic!("{error}"),
        }
    }

    fn abandon(&mut self, by: usize, which: u8) {
        let open: Vec<_> = (0..self.calls.len())
            .filter(|at| self.calls[*at].by == by && self.calls[*at].end.is_none())
            .collect();
        if let Some(&at) = open.get(usize::from(which) % open.len().max(1)) {
            assert!(self.sides[by].session.abandon(self.calls[at].id), "it was open");
            assert!(!self.sides[by].session.abandon(self.calls[at].id));
            self.calls[at].end = Some(End::Abandoned);
        }
    }

    fn reply(&mut self, side: usize, id: IncomingId, kind: u8, size: usize) {
        let limit = MAX_BODY[1 - side];
        let body = Bytes::from(vec![kind; size]);
        let fitted = |info: ErrorInfo| if info.size() > limit { error_without(info) } else { info };
        let (reply, mut answer) = match kind % 5 {
            0 => (Reply::Failure(error("F", size)), Outcome::Failure(fitted(error("F", size)))),
            1 => (Reply::Error(error("E", size)), Outcome::Error(fitted(error("E", size)))),
            2 => (Reply::Cancelled, Outcome::Cancelled),
            _ => (
                Reply::Result { body: body.clone(), compressed: kind % 5 == 3, metadata: Metadata::new() },
                Outcome::Result(body),
            ),
        };
        let before = self.sides[side].session.queued_bytes();
        let replied = self.sides[side].session.reply(id, reply);
        let after = self.sides[side].session.queued_bytes();
        assert!(after <= before + MESSAGE + size.min(limit) + TEXT, "{before} bytes wait, and now {after}");
        match replied {
            Ok(()) => {}
            Err(error @ ReplyError::TooLarge { .. }) => {
                assert!(size > limit);
                answer = Outcome::Error(Refusal::ReplyTooLarge.to_error(&error.to_string()));
            }
            Err(error) => panic!("{error}"),
        }
        let (call, _) = self.sides[side].requests.remove(&id).expect("chosen among them");
        self.calls[call].answer = Some(answer);
    }

    fn transmit(&mut self, from: usize, count: usize) {
        for _ in 0..count {
            let Some(message) = self.sides[from].session.poll_transmit(self.now) else { return };
            assert_readable(&message);
            self.sides[1 - from].inbox.push_back(message);
        }
    }

    fn deliver(&mut self, to: usize, count: usize) {
        for _ in 0..count {
            let side = &mut self.sides[to];
            let Some(message) = side.inbox.pop_front() else { return };
            let before = side.session.queued_bytes();
            side.session.handle_message(self.now, message);
            let after = side.session.queued_bytes();
            assert!(after <= before + MESSAGE + TEXT, "{before} bytes wait, and now {after}");
            self.settle();
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for side in &mut self.sides {
            side.session.handle_timeout(self.now);
            assert!(side.session.poll_timeout().is_none_or(|(at, _)| at > self.now), "would spin");
        }
    }

    fn connect(&mut self) {
        if !self.linked {
            self.linked = true;
            self.sides.iter_mut().for_each(|side| side.session.handle_connected(self.now));
        }
    }

    /// Closes the link, and the sessions whose handshake is complete; new sessions wait for the next link.
    fn close(&mut self, cause: CloseCause) {
        self.links = self.links.wrapping_add(1);
        self.linked = false;
        for at in 0..2 {
            let side = &mut self.sides[at];
            let established = side.session.is_established();
            if side.session.handle_disconnected(nonce(at, self.links)) {
                assert!(!established && side.requests.is_empty());
                let timer = side.session.poll_timeout().map(|(_, timer)| timer);
                assert!(matches!(timer, None | Some(Timer::Call(_))), "{timer:?} without a link");
                side.inbox.clear();
                continue;
            }
            side.session.close(cause);
            self.take_events(at);
            let side = &mut self.sides[at];
            assert!(side.session.is_idle() && side.session.poll_timeout().is_none());
            side.session = session(at, self.links, side.session.next_call(), self.now);
            side.inbox.clear();
            side.newest = None;
            side.draining = false;
        }
    }

    /// Handles all events and compares the sessions with the model.
    fn settle(&mut self) {
        for at in 0..2 {
            self.take_events(at);
        }
        if self.sides.iter().any(|side| side.session.is_closed()) {
            self.close(CloseCause::LinkLost);
        }
        for at in 0..2 {
            let open = self.calls.iter().filter(|call| call.by == at && call.end.is_none()).count();
            assert_eq!(self.sides[at].session.open_calls(), open);
            assert_eq!(self.sides[at].session.open_requests(), self.sides[at].requests.len());
            assert!(self.sides[at].requests.len() <= MAX_REQUESTS);
        }
    }

    fn take_events(&mut self, at: usize) {
        while let Some(event) = self.sides[at].session.poll_event() {
            match event {
                Event::Ended { call, outcome, .. } => self.end(at, call, outcome),
                Event::Request(request) => {
                    let number: usize = request.method.parse().expect("methods are numbers");
                    let call = &mut self.calls[number];
                    assert!(call.by != at && !call.reached, "{call:?} arrives twice");
                    assert_eq!(call.key, request.key);
                    call.reached = true;
                    let newest = self.sides[at].newest.replace(number);
                    assert!(newest < Some(number), "calls overtake each other");
                    self.sides[at].requests.insert(request.id, (number, false));
                }
                Event::CancelRequested(id) => {
                    let (number, cancelled) =
                        self.sides[at].requests.get_mut(&id).expect("only of open requests");
                    assert!(!std::mem::replace(cancelled, true), "cancelled twice");
                    let end = &self.calls[*number].end;
                    let given_up =
                        matches!(end, Some(End::Abandoned | End::Reported(Outcome::TimedOut { .. })));
                    assert!(given_up, "not given up: {end:?}");
                }
                Event::ExecutionTimedOut(id) => assert!(self.sides[at].requests.contains_key(&id)),
                Event::Established { hello, .. } => assert!(hello.is_some() || at == 1, "both know hellos"),
                Event::Pong { .. } | Event::Anomaly(_) => {}
                Event::Closed(_) => {
                    self.sides[at].requests.clear();
                    assert_eq!(self.sides[at].session.poll_event(), None, "nothing follows the end");
                }
                other => panic!("{other:?} in dialect 1"),
            }
        }
    }

    fn end(&mut self, by: usize, id: CallId, outcome: Outcome) {
        let call = self.calls.iter_mut().find(|call| call.by == by && call.id == id).expect("a call of ours");
        assert!(call.end.is_none(), "{call:?} ends again: {outcome:?}");
        match &outcome {
            Outcome::TimedOut { sent } | Outcome::Disconnected { sent, .. } => {
                assert!(*sent || !call.reached, "not sent, and a request arrived");
            }
            Outcome::TooLarge { size, limit } => assert!(!call.reached && size > limit),
            Outcome::Error(info) if !call.reached => {
                let refusal = Refusal::of(info).expect("only a refusal comes before the request");
                assert!(matches!(refusal, Refusal::Busy | Refusal::ShuttingDown), "{refusal:?}");
            }
            _ => assert_eq!(Some(&outcome), call.answer.as_ref(), "not what was answered"),
        }
        call.end = Some(End::Reported(outcome));
    }

    /// Transmits and delivers until nothing is queued.
    fn run_network(&mut self) {
        loop {
            (0..2).for_each(|at| self.transmit(at, usize::MAX));
            if self.sides.iter().all(|side| side.inbox.is_empty()) {
                return;
            }
            (0..2).for_each(|at| self.deliver(at, usize::MAX));
        }
    }

    /// Once nothing is in flight, each side knows of every request that was abandoned or has timed out.
    fn check_cancellations(&self) {
        for (number, cancelled) in self.sides.iter().flat_map(|side| side.requests.values()) {
            let call = &self.calls[*number];
            assert!(call.end.is_none() || *cancelled, "{call:?} was not cancelled");
        }
    }

    /// Runs everything to its end, and checks that it ends.
    ///
    /// # Panics
    /// If a guarantee of the session is broken.
    pub fn finish(mut self) {
        for round in 0.. {
            assert!(round < 100, "it does not come to rest: {:?}", self.calls);
            // A link that closed meanwhile is replaced, and queued messages go over the new one.
            self.connect();
            self.run_network();
            self.check_cancellations();
            for at in 0..2 {
                let open: Vec<_> = self.sides[at].requests.keys().copied().collect();
                open.into_iter().for_each(|id| self.reply(at, id, 4, 1));
            }
            if self.linked && self.sides.iter().all(|side| side.session.is_idle()) {
                break;
            }
        }
        for call in &self.calls {
            let end = call.end.as_ref().expect("every call ends");
            if let End::Reported(
                Outcome::TimedOut { sent: false } | Outcome::Disconnected { sent: false, .. },
            ) = end
            {
                assert!(!call.reached, "not sent, and a request arrived later");
            }
        }
        for side in &self.sides {
            let session = &side.session;
            assert_eq!((session.open_calls(), session.open_requests(), session.queued_bytes()), (0, 0, 0));
            let timer = session.poll_timeout().map(|(_, timer)| timer);
            assert!(
                matches!(timer, None | Some(Timer::Keepalive | Timer::Write)),
                "{timer:?} is left behind"
            );
        }
    }
}

fn error_without(info: ErrorInfo) -> ErrorInfo {
    ErrorInfo { traceback: "".into(), ..info }
}
