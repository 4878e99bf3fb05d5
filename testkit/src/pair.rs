//! Two connections of dialect 1 with their endpoints on virtual time, the link between them, and a reference model of their
//! guarantees.

mod op;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use callosum_proto::internals::wire::{self, MessageType, NONCE_LEN, UPPER};
use callosum_proto::ordering::OrderingMode;
use callosum_proto::{
    Call, CallId, CloseCause, Connection, ConnectionConfig, ConnectionEvent, Dialect, Endpoint,
    EndpointConfig, EndpointEvent, ErrorInfo, Event, InvokeError, Keepalive, Metadata, Multipart,
    OrderingKey, Outcome, Refusal, Reply, RequestId, Role, StopReason, internals,
};

use crate::carry::{Carried, carry};
use crate::readable::assert_readable;

pub use op::Op;

/// Largest bodies that the connector and the binder accept.
const MAX_BODY: [usize; 2] = [600, 300];
const MAX_REQUESTS: usize = 6;
/// Most bytes of one side's send queue.
const MAX_OUTGOING: usize = 4_000;
/// Bytes that a queued message counts for besides its names and its body, and most bytes of the text of a refusal or error.
const MESSAGE: usize = 256;
const TEXT: usize = 256;

struct Side {
    connection: Connection,
    endpoint: Endpoint,
    /// Messages in flight to this side.
    inbox: VecDeque<Multipart>,
    /// The call whose request the connection has just been given.
    arriving: Option<usize>,
    /// Requests of the other side that have not started, with the call's index.
    waiting: BTreeMap<RequestId, usize>,
    /// Requests whose handlers run: the call's index, and whether the handler was asked to stop.
    requests: BTreeMap<RequestId, (usize, bool)>,
    /// The last call of the other side that arrived over this link.
    newest: Option<usize>,
    draining: bool,
}

#[derive(Debug)]
struct Tracked {
    by: usize,
    id: CallId,
    key: OrderingKey,
    deadline: Option<Instant>,
    /// The other connection has taken the request.
    reached: bool,
    started: bool,
    /// The outcome that the caller must get, according to the reply.
    answer: Option<Outcome>,
    end: Option<End>,
}

#[derive(Debug)]
enum End {
    Abandoned,
    Reported(Outcome),
}

/// Two connections and their link.
pub struct Pair {
    sides: [Side; 2],
    calls: Vec<Tracked>,
    now: Instant,
    linked: bool,
    links: u8,
}

fn connection(
    side: usize,
    endpoint: &mut Endpoint,
    link: u8,
    first_call: CallId,
    now: Instant,
) -> Connection {
    let mut config = ConnectionConfig::default();
    config.dialect = Dialect::One;
    config.max_body = MAX_BODY[side];
    config.max_requests = MAX_REQUESTS;
    config.max_outgoing_bytes = MAX_OUTGOING;
    config.handshake_timeout = Duration::from_millis(150);
    config.write_timeout = Duration::from_millis(150);
    config.execution_timeout = (side == 1).then_some(Duration::from_millis(100));
    config.keepalive = Some(Keepalive { idle: Duration::from_millis(100), misses: 2 });
    let role = if side == 0 { Role::Connector } else { Role::Binder };
    Connection::new(endpoint.open(), role, config, nonce(side, link), first_call, now)
}

/// The call whose request this is.
fn requested(message: &Multipart) -> Option<usize> {
    let [marker, header, _] = message.clone().into_three()?;
    let header = wire::decode_header(&header).ok().filter(|_| marker == UPPER)?;
    (header.kind == MessageType::Function).then(|| header.id.method.parse().expect("methods are numbers"))
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
        let sides = [CallId::FIRST, internals::call_id(u64::from(u32::MAX) - 1)];
        let mut side = 0;
        let sides = sides.map(|first_call| {
            // Replies leave as they are given, as the model expects.
            let mut config = EndpointConfig::default();
            config.ordering.mode = OrderingMode::Unordered;
            let mut endpoint = Endpoint::new(config);
            let connection = connection(side, &mut endpoint, 0, first_call, now);
            side += 1;
            Side {
                connection,
                endpoint,
                inbox: VecDeque::new(),
                arriving: None,
                waiting: BTreeMap::new(),
                requests: BTreeMap::new(),
                newest: None,
                draining: false,
            }
        });
        Self { sides, calls: Vec::new(), now, linked: false, links: 0 }
    }

    /// Runs a step and checks its effects.
    ///
    /// # Panics
    /// If a guarantee is broken.
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
            Op::Suspend { binder, which, resumed } => {
                let side = &mut self.sides[usize::from(binder)];
                let open = side.requests.len().max(1);
                if let Some((&id, _)) = side.requests.iter().nth(usize::from(which) % open) {
                    match resumed % 2 {
                        0 => side.endpoint.suspend(id),
                        _ => side.endpoint.resume(id),
                    }
                }
            }
            Op::Ping { binder } => drop(self.sides[usize::from(binder)].connection.ping()),
            Op::Transmit { binder, count } => self.transmit(usize::from(binder), count.into()),
            Op::Deliver { binder, count } => self.deliver(usize::from(binder), count.into()),
            Op::Write { binder, blocked: true } => {
                self.sides[usize::from(binder)].connection.handle_write_blocked(self.now);
            }
            Op::Write { binder, .. } => self.sides[usize::from(binder)].connection.handle_write_progress(),
            Op::Pass(time) => self.pass(Duration::from_millis(time.into())),
            Op::Drain { binder } => {
                self.sides[usize::from(binder)].connection.drain();
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
        let mut call = Call::new(self.calls.len().to_string(), vec![0; size]);
        (call.key, call.compressed, call.deadline) = (key.clone(), compressed, deadline);
        let counted = MESSAGE + call.method.as_bytes().len() + key.as_bytes().len() + size;
        let side = &mut self.sides[by];
        let before = side.connection.queued_bytes();
        let fits = before == 0 || before + counted <= MAX_OUTGOING;
        let invoked = side.connection.invoke(self.now, call);
        assert!(side.connection.queued_bytes() <= before + if invoked.is_ok() { counted } else { 0 });
        match invoked {
            Ok(id) => {
                assert!(!side.draining && fits && size <= MAX_BODY[by].max(MAX_BODY[1 - by]));
                let twice = self.calls.iter().any(|call| call.by == by && call.id == id);
                assert!(!twice, "an id used twice");
                let (reached, started, answer, end) = (false, false, None, None);
                self.calls.push(Tracked { by, id, key, deadline, reached, started, answer, end });
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
            assert!(self.sides[by].connection.abandon(self.calls[at].id), "it was open");
            assert!(!self.sides[by].connection.abandon(self.calls[at].id));
            self.calls[at].end = Some(End::Abandoned);
        }
    }

    fn reply(&mut self, side: usize, id: RequestId, kind: u8, size: usize) {
        let limit = MAX_BODY[1 - side];
        let body = Bytes::from(vec![kind; size]);
        let fitted = |info: ErrorInfo| if info.size() > limit { error_without(info) } else { info };
        let (reply, mut answer) = match kind % 5 {
            0 => (Reply::Failure(error("F", size).into()), Outcome::Failure(fitted(error("F", size)).into())),
            1 => (Reply::Error(error("E", size).into()), Outcome::Error(fitted(error("E", size)).into())),
            2 => (Reply::Cancelled, Outcome::Cancelled),
            _ => (
                Reply::Result { body: body.clone(), compressed: kind % 5 == 3, metadata: Metadata::new() },
                Outcome::Result(body),
            ),
        };
        if let Outcome::Result(_) = answer
            && size > limit
        {
            let detail = format!("the reply has {size} bytes; the peer takes at most {limit}");
            answer = Outcome::Error(Refusal::ReplyTooLarge.to_error(&detail).into());
        }
        let (call, _) = self.sides[side].requests.remove(&id).expect("chosen among them");
        self.calls[call].answer = Some(answer);
        let before = self.sides[side].connection.queued_bytes();
        self.sides[side].endpoint.finish(id, Some(reply));
        self.exchange(side);
        let after = self.sides[side].connection.queued_bytes();
        assert!(after <= before + MESSAGE + size.min(limit) + TEXT, "{before} bytes wait, and now {after}");
    }

    /// Carries events between a side's connection and endpoint.
    fn exchange(&mut self, at: usize) {
        let Self { sides, calls, now, .. } = self;
        let Side { connection, endpoint, arriving, waiting, newest, .. } = &mut sides[at];
        carry(connection, endpoint, *now, |carried| match carried {
            Carried::Report(EndpointEvent::Arrived(arrival)) => {
                let number = arriving.take().expect("a request was delivered");
                let call = &mut calls[number];
                assert!(call.by != at && !call.reached, "{call:?} arrives twice");
                assert_eq!(call.key, arrival.key);
                call.reached = true;
                let newest = newest.replace(number);
                assert!(newest < Some(number), "calls overtake each other");
                waiting.insert(arrival.request, number);
            }
            Carried::Report(EndpointEvent::Closed(_)) => waiting.clear(),
            Carried::Decision(ConnectionEvent::Refuse { request, .. }) => panic!("{request} is refused"),
            // The endpoint answers a request that has not started.
            Carried::Decision(ConnectionEvent::Reply { request, .. }) => {
                if let Some(number) = waiting.remove(request) {
                    let end = &calls[number].end;
                    assert!(is_given_up(end), "not given up: {end:?}");
                }
            }
            _ => {}
        });
    }

    fn transmit(&mut self, from: usize, count: usize) {
        for _ in 0..count {
            let Some(message) = self.sides[from].connection.poll_message(self.now) else { return };
            assert_readable(&message);
            self.sides[1 - from].inbox.push_back(message);
        }
    }

    fn deliver(&mut self, to: usize, count: usize) {
        for _ in 0..count {
            let side = &mut self.sides[to];
            let Some(message) = side.inbox.pop_front() else { return };
            let before = side.connection.queued_bytes();
            side.arriving = requested(&message);
            side.connection.handle_message(self.now, message);
            let after = side.connection.queued_bytes();
            assert!(after <= before + MESSAGE + TEXT, "{before} bytes wait, and now {after}");
            self.settle();
            self.sides[to].arriving = None;
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for side in &mut self.sides {
            side.connection.handle_timeout(self.now).expect("there is no byte stream");
            assert!(side.connection.poll_timeout().is_none_or(|at| at > self.now), "would spin");
        }
    }

    fn connect(&mut self) {
        if !self.linked {
            self.linked = true;
            self.sides.iter_mut().for_each(|side| side.connection.handle_connected(self.now));
        }
    }

    /// Closes the link, and the connections whose handshake is complete; new ones wait for the next link.
    fn close(&mut self, cause: CloseCause) {
        self.links = self.links.wrapping_add(1);
        self.linked = false;
        for at in 0..2 {
            let side = &mut self.sides[at];
            let established = side.connection.is_established();
            if side.connection.handle_disconnected(nonce(at, self.links)) {
                assert!(!established && side.requests.is_empty());
                let due = side.connection.poll_timeout();
                let open = self.calls.iter().filter(|call| call.by == at && call.end.is_none());
                let first = open.filter_map(|call| call.deadline).min();
                assert_eq!(due, first, "without a link only calls have time limits");
                side.inbox.clear();
                continue;
            }
            side.connection.close(cause);
            self.take_events(at);
            let side = &mut self.sides[at];
            assert!(side.connection.is_idle() && side.connection.poll_timeout().is_none());
            internals::audit_idle(&side.connection);
            assert!(side.endpoint.audit_empty(), "{:?}", side.endpoint);
            let first_call = side.connection.next_call();
            side.connection = connection(at, &mut side.endpoint, self.links, first_call, self.now);
            side.inbox.clear();
            side.newest = None;
            side.draining = false;
        }
    }

    /// Handles all events and compares the connections with the model.
    fn settle(&mut self) {
        for at in 0..2 {
            self.take_events(at);
        }
        if self.sides.iter().any(|side| side.connection.is_closed()) {
            self.close(CloseCause::LinkLost);
        }
        for at in 0..2 {
            let open = self.calls.iter().filter(|call| call.by == at && call.end.is_none()).count();
            assert_eq!(self.sides[at].connection.open_calls(), open);
            let requests = self.sides[at].waiting.len() + self.sides[at].requests.len();
            assert_eq!(self.sides[at].connection.open_requests(), requests);
            assert!(requests <= MAX_REQUESTS);
        }
    }

    fn take_events(&mut self, at: usize) {
        self.exchange(at);
        while let Some(event) = self.sides[at].connection.poll_event() {
            match event {
                Event::Ended { call, outcome, .. } => self.end(at, call, outcome),
                Event::Request(request) => {
                    let number: usize = request.method.parse().expect("methods are numbers");
                    assert_eq!(self.sides[at].waiting.remove(&request.id), Some(number));
                    let started = &mut self.calls[number].started;
                    assert!(!std::mem::replace(started, true), "{number} starts twice");
                    self.sides[at].requests.insert(request.id, (number, false));
                }
                Event::Stop { request, reason } => {
                    let (number, told) =
                        self.sides[at].requests.get_mut(&request).expect("only of running ones");
                    assert!(!std::mem::replace(told, true), "stopped twice");
                    let end = &self.calls[*number].end;
                    assert!(reason != StopReason::Cancelled || is_given_up(end), "not given up: {end:?}");
                }
                Event::Established { max_body, .. } => {
                    assert!(max_body.is_some() || at == 1, "both know hellos")
                }
                Event::Pong { .. } | Event::Anomaly(_) => {}
                Event::Closed(_) => {
                    let side = &mut self.sides[at];
                    let running = std::mem::take(&mut side.requests);
                    running.into_keys().for_each(|request| side.endpoint.finish(request, None));
                    assert_eq!(side.connection.poll_event(), None, "nothing follows the end");
                }
                other => panic!("{other:?} in dialect 1"),
            }
        }
        self.exchange(at);
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
            self.settle();
            if self.sides.iter().all(|side| side.inbox.is_empty()) {
                return;
            }
            (0..2).for_each(|at| self.deliver(at, usize::MAX));
        }
    }

    /// Once nothing is in flight, each side knows of every request that was abandoned or has timed out.
    fn check_cancellations(&self) {
        for side in &self.sides {
            let waiting = side.waiting.values().map(|number| (number, false));
            let running = side.requests.values().map(|(number, told)| (number, *told));
            for (number, told) in waiting.chain(running) {
                let call = &self.calls[*number];
                assert!(call.end.is_none() || told, "{call:?} was not cancelled");
            }
        }
    }

    /// Runs everything to its end, and checks that it ends.
    ///
    /// # Panics
    /// If a guarantee is broken.
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
            if self.linked && self.sides.iter().all(|side| side.connection.is_idle()) {
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
            let connection = &side.connection;
            assert_eq!(
                (connection.open_calls(), connection.open_requests(), connection.queued_bytes()),
                (0, 0, 0)
            );
            internals::audit_idle(connection);
            assert!(side.endpoint.audit_empty(), "{:?}", side.endpoint);
        }
    }
}

fn error_without(info: ErrorInfo) -> ErrorInfo {
    ErrorInfo { traceback: "".into(), ..info }
}

/// Whether the caller waits for the call no more, and had no answer.
fn is_given_up(end: &Option<End>) -> bool {
    matches!(end, Some(End::Abandoned | End::Reported(Outcome::TimedOut { .. })))
}
