//! An endpoint against a model that keeps lists and searches them for everything.
//!
//! The model does not say which of several requests starts first, which `ordering_model` tests. It says which may, what every
//! reply is, and when nothing may be held back any more.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use callosum_proto::internals::{call_id, request_id};
use callosum_proto::ordering::{Arrival, Busy, KeyScope, OrderingMode};
use callosum_proto::{ConnectionEvent, Endpoint, EndpointConfig, EndpointEvent};
use callosum_proto::{ConnectionId, OrderingKey, RequestId, StreamId};
use callosum_proto::{Refusal, Reply, StopReason};
use proptest::prelude::*;
use proptest::sample::Index;

const OVERHEAD: usize = 256;

type Checked = Result<(), TestCaseError>;

/// What a reply says.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Result(usize),
    Cancelled,
    TimedOut,
    TooLarge,
}

impl Said {
    fn of(reply: &Reply) -> Self {
        match reply {
            Reply::Result { body, .. } => Self::Result(body.len()),
            Reply::Error(info) if Refusal::of(info) == Some(Refusal::ReplyTooLarge) => Self::TooLarge,
            Reply::Error(_) => Self::TimedOut,
            _ => Self::Cancelled,
        }
    }

    fn reply(&self) -> Reply {
        match self {
            Self::Result(bytes) => Reply::result(Bytes::from(vec![0; *bytes])),
            Self::Cancelled => Reply::Cancelled,
            Self::TimedOut => Refusal::ExecutionTimedOut.reply(""),
            Self::TooLarge => Refusal::ReplyTooLarge.reply(""),
        }
    }

    /// What it counts while it is held, if it does.
    fn size(&self) -> Option<usize> {
        match self.reply() {
            Reply::Result { body, .. } => Some(OVERHEAD + body.len()),
            Reply::Error(info) => Some(OVERHEAD + info.size()),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Unready,
    Waiting,
    Running {
        nested: usize,
        withdrawn: Option<Said>,
        given_up: bool,
    },
    /// It has ended, or will never start. So many bytes of it are held; unknown until the next poll has been done.
    Done {
        said: Said,
        held: Option<usize>,
    },
}

impl State {
    fn is_waiting(&self) -> bool {
        matches!(self, Self::Unready | Self::Waiting)
    }

    fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stream {
    No,
    Wants,
    Begun,
}

#[derive(Clone, Debug)]
struct Request {
    id: RequestId,
    key: u8,
    stream: Stream,
    /// Its handler has given its slot back for good.
    slot_released: bool,
    /// Its connection is closed.
    abandoned: bool,
    state: State,
}

impl Request {
    fn takes_slot(&self) -> bool {
        let lends = self.slot_released || self.stream == Stream::Wants;
        matches!(self.state, State::Running { nested: 0, .. }) && !lends
    }
}

#[derive(Clone, Debug)]
struct Body {
    connection: ConnectionId,
    stream: StreamId,
    bytes: usize,
    granted: bool,
}

#[derive(Debug)]
struct Model {
    config: EndpointConfig,
    open: BTreeSet<ConnectionId>,
    paused: BTreeSet<ConnectionId>,
    /// Accepted and not yet gone, in order of arrival.
    requests: Vec<Request>,
    /// In the order in which they ended, since the last poll.
    ended: Vec<RequestId>,
    /// The replies to requests that their callers have given up, which wait for no order.
    at_once: BTreeMap<RequestId, Said>,
    /// In the order in which they are wanted.
    bodies: Vec<Body>,
    line: Vec<ConnectionId>,
    /// Whom to tell to drain.
    to_drain: BTreeSet<ConnectionId>,
}

impl Model {
    fn request(&mut self, id: RequestId) -> Option<&mut Request> {
        self.requests.iter_mut().find(|request| request.id == id)
    }

    fn count(&self, of: impl Fn(&Request) -> bool) -> usize {
        self.requests.iter().filter(|request| of(request)).count()
    }

    fn slots(&self) -> usize {
        self.config.ordering.max_running.max(1).saturating_sub(self.count(Request::takes_slot))
    }

    /// Whether a connection may take one more slot, as far as its share goes.
    fn has_share_left(&self, connection: ConnectionId) -> bool {
        let ordering = &self.config.ordering;
        let percent = usize::from(ordering.max_share_per_connection.min(100));
        let share = (ordering.max_running.max(1) * percent).div_ceil(100).max(1);
        self.count(|one| one.id.connection() == connection && !one.abandoned && one.takes_slot()) < share
    }

    /// Whether two requests share a key.
    fn shares_key(&self, one: &Request, other: &Request) -> bool {
        let is_global = self.config.ordering.scope == KeyScope::Global;
        one.key > 0 && one.key == other.key && (is_global || one.id.connection() == other.id.connection())
    }

    /// Whether no earlier request of its key is left to be replied to.
    fn order_has_come(&self, at: usize) -> bool {
        let request = &self.requests[at];
        self.config.ordering.mode == OrderingMode::Unordered
            || !self.requests[..at]
                .iter()
                .any(|earlier| !earlier.abandoned && self.shares_key(earlier, request))
    }

    /// Whether the request at this place may start, but for slots.
    fn may_start(&self, at: usize) -> bool {
        let request = &self.requests[at];
        let is_free = self.config.ordering.mode != OrderingMode::KeySerialized
            || !self.requests.iter().enumerate().any(|(place, other)| {
                place != at
                    && self.shares_key(other, request)
                    && (other.state.is_running() || (place < at && other.state.is_waiting()))
            });
        let connection = request.id.connection();
        let is_held_back = self.paused.contains(&connection) || !self.has_share_left(connection);
        request.state == State::Waiting && !is_held_back && is_free
    }

    /// Of a connection with a key, or without one, the first to come is the first to start.
    fn is_first(&self, at: usize) -> bool {
        let request = &self.requests[at];
        !self.requests[..at].iter().any(|earlier| {
            earlier.id.connection() == request.id.connection()
                && earlier.key == request.key
                && earlier.state == State::Waiting
        })
    }

    fn held(&self, connection: ConnectionId) -> usize {
        let own = self.requests.iter().filter(|request| request.id.connection() == connection);
        own.map(|request| if let State::Done { held: Some(bytes), .. } = request.state { bytes } else { 0 })
            .sum()
    }

    /// All that was due has left: what is left of what has ended is held, or too large.
    fn hold(&mut self) {
        for id in std::mem::take(&mut self.ended) {
            let (before, limit) = (self.held(id.connection()), self.config.max_held_reply_bytes);
            let Some(request) = self.request(id) else { continue };
            let State::Done { said, held: held @ None } = &mut request.state else { continue };
            *held = Some(match said.size() {
                None => 0,
                Some(size) if before == 0 || before + size <= limit => size,
                Some(_) => {
                    *said = Said::TooLarge;
                    0
                }
            });
        }
    }

    fn withdraw(&mut self, id: RequestId, reason: StopReason, said: Said) {
        let Some(request) = self.request(id).filter(|request| !request.abandoned) else { return };
        match &mut request.state {
            State::Running { withdrawn, given_up, .. } => {
                withdrawn.get_or_insert(said);
                *given_up |= reason.is_given_up();
            }
            _ if reason.is_given_up() => self.reply_at_once(id, said),
            // Its handler had ended in time.
            State::Done { .. } => {}
            state => *state = State::Done { said, held: Some(0) },
        }
    }

    /// Nothing is left of a request that its caller has given up, but its reply.
    fn reply_at_once(&mut self, id: RequestId, said: Said) {
        self.requests.retain(|request| request.id != id);
        self.at_once.insert(id, said);
    }

    /// Its connection does not pass it to the host. If it waits, it was answered.
    fn never_ran(&mut self, id: RequestId) {
        self.requests.retain(|request| request.id != id || !request.state.is_waiting());
        self.finish(id, None);
    }

    fn finish(&mut self, id: RequestId, said: Option<Said>) {
        let Some(request) = self.request(id) else { return };
        let State::Running { withdrawn, given_up, .. } = &request.state else { return };
        if request.abandoned {
            self.requests.retain(|request| request.id != id);
            return;
        }
        let said = said.or(withdrawn.clone()).unwrap_or(Said::Cancelled);
        if *given_up {
            return self.reply_at_once(id, said);
        }
        request.state = State::Done { said, held: None };
        self.ended.push(id);
    }

    fn close(&mut self, connection: ConnectionId) {
        self.open.remove(&connection);
        self.paused.remove(&connection);
        self.to_drain.remove(&connection);
        self.at_once.retain(|id, _| id.connection() != connection);
        self.bodies.retain(|body| body.connection != connection);
        self.line.retain(|of| *of != connection);
        self.requests.retain(|request| request.id.connection() != connection || request.state.is_running());
        for request in self.requests.iter_mut().filter(|request| request.id.connection() == connection) {
            (request.abandoned, request.stream) = (true, Stream::No);
        }
    }

    fn granted(&self, of: impl Fn(&Body) -> bool) -> usize {
        self.bodies.iter().filter(|body| body.granted && of(body)).map(|body| body.bytes).sum()
    }

    /// Brings the place of a connection in the line in step with its first waiting body.
    fn line_up(&mut self, connection: ConnectionId) {
        let first = self.bodies.iter().find(|body| body.connection == connection && !body.granted);
        let granted = self.granted(|body| body.connection == connection);
        let is_next = first.is_some_and(|body| {
            granted == 0 || body.bytes <= self.config.max_reassembly.saturating_sub(granted)
        });
        let place = self.line.iter().position(|of| *of == connection);
        match (is_next, place) {
            (true, None) => self.line.push(connection),
            (false, Some(place)) => drop(self.line.remove(place)),
            _ => {}
        }
    }

    /// The next body for which there is memory.
    fn next_body(&self) -> Option<usize> {
        let connection = self.line.first()?;
        let at = self.bodies.iter().position(|body| body.connection == *connection && !body.granted)?;
        let granted = self.granted(|_| true);
        let fits =
            granted == 0 || self.bodies[at].bytes <= self.config.max_reassembly_total.saturating_sub(granted);
        fits.then_some(at)
    }

    fn grant(&mut self, at: usize) {
        self.bodies[at].granted = true;
        let connection = self.line.remove(0);
        self.line_up(connection);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Open,
    Close(Index),
    Arrive { connection: Index, key: u8, bytes: usize, ready: bool },
    Again(Index),
    Ready(Pick, usize),
    Withdraw(Pick, usize),
    NeverRan(Pick),
    Finish(Pick, Option<usize>),
    BeginReply(Pick),
    Suspend(Pick),
    Resume(Pick),
    ReleaseSlot(Pick),
    Want { connection: Index, bytes: usize },
    End(Index),
    Pause(Index),
    Unpause(Index),
    Drain,
    Poll,
    PollAll,
}

/// A request that is still known, or any up to one that has never arrived.
#[derive(Clone, Debug)]
enum Pick {
    Known(Index),
    Any(Index),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let pick = || {
        prop_oneof![
            6 => any::<Index>().prop_map(Pick::Known),
            1 => any::<Index>().prop_map(Pick::Any),
        ]
    };
    let index = any::<Index>;
    let arrive = (index(), 0..3_u8, 0..300_usize, prop::bool::weighted(0.8))
        .prop_map(|(connection, key, bytes, ready)| Op::Arrive { connection, key, bytes, ready });
    let want = (index(), 0..70_usize).prop_map(|(connection, bytes)| Op::Want { connection, bytes });
    let op = prop_oneof![
        2 => Just(Op::Open),
        1 => index().prop_map(Op::Close),
        14 => arrive,
        1 => index().prop_map(Op::Again),
        4 => (pick(), 0..300_usize).prop_map(|(pick, bytes)| Op::Ready(pick, bytes)),
        4 => (pick(), 0..4_usize).prop_map(|(pick, reason)| Op::Withdraw(pick, reason)),
        1 => pick().prop_map(Op::NeverRan),
        9 => (pick(), prop::option::weighted(0.9, 0..900_usize))
            .prop_map(|(pick, bytes)| Op::Finish(pick, bytes)),
        4 => pick().prop_map(Op::BeginReply),
        3 => pick().prop_map(Op::Suspend),
        3 => pick().prop_map(Op::Resume),
        1 => pick().prop_map(Op::ReleaseSlot),
        5 => want,
        4 => index().prop_map(Op::End),
        1 => index().prop_map(Op::Pause),
        2 => index().prop_map(Op::Unpause),
        6 => Just(Op::Poll),
        6 => Just(Op::PollAll),
    ];
    // Seldom, and then for good.
    let op = prop_oneof![200 => op, 1 => Just(Op::Drain)];
    prop::collection::vec(op, 0..200)
}

fn configs() -> impl Strategy<Value = EndpointConfig> {
    let mode = prop_oneof![
        Just(OrderingMode::Unordered),
        Just(OrderingMode::ExitOrdered),
        Just(OrderingMode::KeySerialized),
    ];
    let scope = prop_oneof![Just(KeyScope::Global), Just(KeyScope::PerConnection)];
    let share = prop_oneof![1 => Just(80), 2 => 0..=101_u8];
    let limits = ((0..8_usize, share), 0..8_usize, 0..2_000_usize, 1..16_usize);
    (mode, scope, limits, 0..3_000_usize, 0..100_usize, 0..150_usize).prop_map(
        |(mode, scope, ((running, share), waiting, bytes, requests), held, reassembly, total)| {
            let mut config = EndpointConfig::default();
            config.ordering.mode = mode;
            config.ordering.scope = scope;
            config.ordering.max_running = running;
            config.ordering.max_share_per_connection = share;
            config.ordering.max_waiting_per_connection = waiting;
            config.ordering.max_waiting_bytes_per_connection = bytes;
            config.ordering.max_requests_per_connection = requests;
            config.max_held_reply_bytes = held;
            config.max_reassembly = reassembly;
            config.max_reassembly_total = total;
            config
        },
    )
}

struct Pair {
    real: Endpoint,
    model: Model,
    /// Every connection that there has been.
    connections: Vec<ConnectionId>,
    /// Every request that has arrived.
    ids: Vec<RequestId>,
    /// Those that have arrived since the last poll, and may still be refused.
    arriving: BTreeMap<RequestId, usize>,
    started: BTreeSet<RequestId>,
    replied: BTreeSet<RequestId>,
    next: u64,
    is_draining: bool,
}

impl Pair {
    fn new(config: EndpointConfig) -> Self {
        let model = Model {
            config: config.clone(),
            open: BTreeSet::new(),
            paused: BTreeSet::new(),
            requests: Vec::new(),
            ended: Vec::new(),
            at_once: BTreeMap::new(),
            bodies: Vec::new(),
            line: Vec::new(),
            to_drain: BTreeSet::new(),
        };
        let mut pair = Self {
            real: Endpoint::new(config),
            model,
            connections: Vec::new(),
            ids: Vec::new(),
            arriving: BTreeMap::new(),
            started: BTreeSet::new(),
            replied: BTreeSet::new(),
            next: 0,
            is_draining: false,
        };
        pair.open();
        pair
    }

    fn open(&mut self) {
        let connection = self.real.open();
        assert!(!self.connections.contains(&connection), "{connection} is used again");
        self.connections.push(connection);
        self.model.open.insert(connection);
        if self.is_draining {
            self.model.to_drain.insert(connection);
        }
    }

    fn connection(&self, index: &Index) -> ConnectionId {
        *index.get(&self.connections)
    }

    fn pick(&self, pick: &Pick) -> RequestId {
        match pick {
            Pick::Known(index) if !self.model.requests.is_empty() => index.get(&self.model.requests).id,
            Pick::Known(index) | Pick::Any(index) => {
                let unknown = request_id(self.connections[0], self.next + 1);
                self.ids.get(index.index(self.ids.len() + 1)).copied().unwrap_or(unknown)
            }
        }
    }

    /// Whether it was accepted is seen by what the endpoint counts.
    fn arrive(&mut self, id: RequestId, key: u8, bytes: usize, ready: bool) -> Checked {
        let (waiting, open) = (self.real.waiting(), self.model.open.contains(&id.connection()));
        let known = self.model.request(id).is_some();
        let ordering = if key == 0 { OrderingKey::none() } else { OrderingKey::text(key.to_string()) };
        let arrival = Arrival { request: id, key: ordering, bytes, ready };
        self.real.handle_event(EndpointEvent::Arrived(arrival));
        let accepted = self.real.waiting() > waiting;
        prop_assert!(!accepted || (open && !known));
        if accepted {
            let state = if ready { State::Waiting } else { State::Unready };
            self.model.requests.push(Request {
                id,
                key,
                stream: Stream::No,
                slot_released: false,
                abandoned: false,
                state,
            });
            let own = |request: &Request| request.id.connection() == id.connection() && !request.abandoned;
            let limit = self.model.config.ordering.max_requests_per_connection;
            prop_assert!(self.model.count(own) <= limit);
        } else if open && !known {
            self.arriving.insert(id, bytes);
        }
        Ok(())
    }

    fn check_refusal(&mut self, id: RequestId, reason: Busy) -> Checked {
        prop_assert!(self.arriving.remove(&id).is_some(), "{id} is refused again, or was accepted");
        let limits = &self.model.config.ordering;
        let expected = match reason {
            Busy::WaitingRequests { limit } => limit == limits.max_waiting_per_connection,
            Busy::WaitingBytes { limit } => limit == limits.max_waiting_bytes_per_connection,
            Busy::Requests { limit } => limit == limits.max_requests_per_connection,
            _ => false,
        };
        prop_assert!(expected, "{reason}");
        Ok(())
    }

    fn check_start(&mut self, id: RequestId) -> Checked {
        self.check_nothing_due()?;
        self.model.hold();
        let at = self.model.requests.iter().position(|request| request.id == id);
        let at = at.ok_or_else(|| TestCaseError::fail(format!("{id} is unknown")))?;
        prop_assert!(self.model.may_start(at) && self.model.is_first(at), "{:?}", self.model.requests);
        prop_assert!(self.model.slots() > 0 && self.started.insert(id), "{id}");
        self.model.requests[at].state = State::Running { nested: 0, withdrawn: None, given_up: false };
        Ok(())
    }

    fn check_reply(&mut self, id: RequestId, reply: &Reply) -> Checked {
        if let Some(said) = self.model.at_once.remove(&id) {
            prop_assert_eq!(said, Said::of(reply));
            prop_assert!(self.replied.insert(id), "{id} is replied to twice");
            return Ok(());
        }
        let at = self.model.requests.iter().position(|request| request.id == id);
        let at = at.ok_or_else(|| TestCaseError::fail(format!("{id} is unknown")))?;
        prop_assert!(self.model.order_has_come(at), "{id} out of order");
        let State::Done { said, .. } = &self.model.requests[at].state else {
            return Err(TestCaseError::fail(format!("{id} has not ended")));
        };
        prop_assert_eq!(said, &Said::of(reply));
        prop_assert!(self.replied.insert(id), "{id} is replied to twice");
        self.model.requests.remove(at);
        Ok(())
    }

    fn check_may_reply(&mut self, id: RequestId) -> Checked {
        let at = self.model.requests.iter().position(|request| request.id == id);
        let at = at.ok_or_else(|| TestCaseError::fail(format!("{id} is unknown")))?;
        let request = &self.model.requests[at];
        prop_assert!(request.stream == Stream::Wants && request.state.is_running(), "{request:?}");
        prop_assert!(self.model.order_has_come(at));
        self.model.requests[at].stream = Stream::Begun;
        Ok(())
    }

    /// Before anything starts, all that is due leaves.
    fn check_nothing_due(&self) -> Checked {
        for (at, request) in self.model.requests.iter().enumerate() {
            let is_due = match request.state {
                State::Done { .. } => true,
                State::Running { .. } => request.stream == Stream::Wants && !request.abandoned,
                _ => false,
            };
            prop_assert!(!is_due || !self.model.order_has_come(at), "held back: {request:?}");
        }
        prop_assert!(self.arriving.is_empty() && self.model.to_drain.is_empty());
        prop_assert!(self.model.at_once.is_empty(), "held back: {:?}", self.model.at_once);
        prop_assert!(self.model.next_body().is_none(), "there is memory: {:?}", self.model.bodies);
        Ok(())
    }

    fn poll(&mut self) -> Result<bool, TestCaseError> {
        let Some((connection, event)) = self.real.poll_event() else {
            self.check_nothing_due()?;
            self.model.hold();
            for at in 0..self.model.requests.len() {
                let idle = self.model.slots() > 0 && self.model.may_start(at);
                prop_assert!(!idle, "held back: {:?}", self.model.requests[at]);
            }
            return Ok(false);
        };
        prop_assert!(self.model.open.contains(&connection), "{connection} is closed: {event:?}");
        let of = match event {
            ConnectionEvent::Start(id) => {
                self.check_start(id)?;
                id.connection()
            }
            ConnectionEvent::Refuse { request, reason } => {
                self.check_refusal(request, reason)?;
                request.connection()
            }
            ConnectionEvent::Reply { request, reply } => {
                self.check_reply(request, &reply)?;
                request.connection()
            }
            ConnectionEvent::MayReply(id) => {
                self.check_may_reply(id)?;
                id.connection()
            }
            ConnectionEvent::Reassemble(stream) => {
                let expected = self.model.next_body();
                let at = expected.ok_or_else(|| TestCaseError::fail(format!("no memory for {stream:?}")))?;
                let body = &self.model.bodies[at];
                prop_assert_eq!((body.connection, body.stream), (connection, stream));
                self.model.grant(at);
                connection
            }
            ConnectionEvent::Drain => {
                prop_assert!(self.model.to_drain.remove(&connection), "{connection} is told twice");
                connection
            }
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert_eq!(of, connection);
        Ok(true)
    }

    fn apply(&mut self, op: &Op) -> Checked {
        match op {
            Op::Open => self.open(),
            Op::Close(index) => {
                let connection = self.connection(index);
                self.real.handle_event(EndpointEvent::Closed(connection));
                self.arriving.retain(|id, _| id.connection() != connection);
                self.model.close(connection);
            }
            Op::Arrive { connection, key, bytes, ready } => {
                let id = request_id(self.connection(connection), self.next);
                self.next += 1;
                self.ids.push(id);
                self.arrive(id, *key, *bytes, *ready)?;
            }
            Op::Again(index) => {
                if !self.model.requests.is_empty() {
                    let id = index.get(&self.model.requests).id;
                    self.arrive(id, 0, 0, true)?;
                }
            }
            Op::Ready(pick, bytes) => self.ready(self.pick(pick), *bytes),
            Op::Withdraw(pick, reason) => {
                let request = self.pick(pick);
                let (said, reason) = [
                    (Said::Cancelled, StopReason::Cancelled),
                    (Said::TimedOut, StopReason::DeadlinePassed),
                    (Said::TimedOut, StopReason::ExecutionTimedOut),
                    (Said::TooLarge, StopReason::IncompleteArgument),
                ][*reason]
                    .clone();
                self.real.handle_event(EndpointEvent::Withdrawn { request, reason, reply: said.reply() });
                self.model.withdraw(request, reason, said);
            }
            Op::NeverRan(pick) => {
                let id = self.pick(pick);
                self.real.handle_event(EndpointEvent::NeverRan(id));
                self.model.never_ran(id);
            }
            Op::Finish(pick, bytes) => self.finish(self.pick(pick), bytes.map(Said::Result)),
            Op::BeginReply(pick) => {
                let id = self.pick(pick);
                self.real.begin_reply(id);
                if let Some(request) = self.model.request(id)
                    && request.state.is_running()
                    && !request.abandoned
                    && request.stream == Stream::No
                {
                    request.stream = Stream::Wants;
                }
            }
            Op::Suspend(pick) => {
                let id = self.pick(pick);
                self.real.suspend(id);
                if let Some(Request { state: State::Running { nested, .. }, .. }) = self.model.request(id) {
                    *nested += 1;
                }
            }
            Op::Resume(pick) => {
                let id = self.pick(pick);
                self.real.resume(id);
                if let Some(Request { state: State::Running { nested, .. }, .. }) = self.model.request(id) {
                    *nested = nested.saturating_sub(1);
                }
            }
            Op::ReleaseSlot(pick) => {
                let id = self.pick(pick);
                self.real.release_slot(id);
                if let Some(request) = self.model.request(id)
                    && request.state.is_running()
                {
                    request.slot_released = true;
                }
            }
            Op::Want { connection, bytes } => self.want(self.connection(connection), *bytes),
            Op::End(index) => {
                if !self.model.bodies.is_empty() {
                    let Body { connection, stream, .. } = index.get(&self.model.bodies).clone();
                    self.end(connection, stream);
                }
            }
            Op::Pause(index) => {
                let connection = self.connection(index);
                self.real.handle_event(EndpointEvent::Paused(connection));
                if self.model.open.contains(&connection) {
                    self.model.paused.insert(connection);
                }
            }
            Op::Unpause(index) => {
                let connection = self.connection(index);
                self.real.handle_event(EndpointEvent::Resumed(connection));
                self.model.paused.remove(&connection);
            }
            Op::Drain => {
                self.real.drain();
                if !std::mem::replace(&mut self.is_draining, true) {
                    self.model.to_drain = self.model.open.clone();
                }
            }
            Op::Poll => {
                self.poll()?;
            }
            Op::PollAll => while self.poll()? {},
        }
        self.check()
    }

    /// Whether there is a place for its argument is seen by what the endpoint counts.
    fn ready(&mut self, id: RequestId, bytes: usize) {
        let waiting = self.real.waiting();
        self.real.handle_event(EndpointEvent::Ready { request: id, bytes });
        let unready = self.model.request(id).filter(|request| request.state == State::Unready);
        let Some(request) = unready else { return };
        request.state = State::Waiting;
        if self.real.waiting() < waiting {
            self.model.requests.retain(|request| request.id != id);
            self.arriving.insert(id, bytes);
        }
    }

    fn finish(&mut self, id: RequestId, said: Option<Said>) {
        self.real.finish(id, said.as_ref().map(Said::reply));
        self.model.finish(id, said);
    }

    fn want(&mut self, connection: ConnectionId, bytes: usize) {
        let stream = match self.next % 2 {
            0 => StreamId::from(call_id(self.next)),
            _ => request_id(connection, self.next).into(),
        };
        self.next += 1;
        self.real.handle_event(EndpointEvent::ReassemblyWanted { connection, stream, bytes });
        if self.model.open.contains(&connection) {
            self.model.bodies.push(Body { connection, stream, bytes, granted: false });
            self.model.line_up(connection);
        }
    }

    fn end(&mut self, connection: ConnectionId, stream: StreamId) {
        self.real.handle_event(EndpointEvent::ReassemblyEnded { connection, stream });
        self.model.bodies.retain(|body| body.connection != connection || body.stream != stream);
        self.model.line_up(connection);
    }

    fn check(&self) -> Checked {
        #[cfg(feature = "internals")]
        self.real.audit();
        let model = &self.model;
        prop_assert_eq!(self.real.running(), model.count(|request| request.state.is_running()));
        prop_assert_eq!(self.real.waiting(), model.count(|request| request.state.is_waiting()));
        prop_assert_eq!(self.real.is_idle(), model.requests.is_empty());
        prop_assert_eq!(self.real.connections(), model.open.len());
        let granted = || model.bodies.iter().filter(|body| body.granted && body.bytes > 0);
        let total = model.granted(|_| true);
        prop_assert!(total <= model.config.max_reassembly_total || granted().count() == 1);
        for connection in &model.open {
            let (limit, held) = (model.config.max_held_reply_bytes, model.held(*connection));
            let holds = |request: &&Request| {
                request.id.connection() == *connection
                    && matches!(request.state, State::Done { held: Some(1..), .. })
            };
            prop_assert!(held <= limit || model.requests.iter().filter(holds).count() == 1);
            let own = model.granted(|body| body.connection == *connection);
            let count = granted().filter(|body| body.connection == *connection).count();
            prop_assert!(own <= model.config.max_reassembly || count == 1);
        }
        Ok(())
    }

    /// Lets everything come to its end.
    fn run_dry(&mut self) -> Checked {
        for connection in self.model.paused.clone() {
            self.real.handle_event(EndpointEvent::Resumed(connection));
            self.model.paused.remove(&connection);
        }
        let known: Vec<_> = self.model.requests.iter().map(|request| request.id).collect();
        known.into_iter().for_each(|id| self.ready(id, 0));
        loop {
            self.apply(&Op::PollAll)?;
            let running = self.model.requests.iter().filter(|request| request.state.is_running());
            let running: Vec<_> = running.map(|request| request.id).collect();
            let granted = self.model.bodies.iter().filter(|body| body.granted);
            let granted: Vec<_> = granted.map(|body| (body.connection, body.stream)).collect();
            if running.is_empty() && granted.is_empty() {
                return Ok(());
            }
            running.into_iter().for_each(|id| self.finish(id, Some(Said::Result(1))));
            granted.into_iter().for_each(|(connection, stream)| self.end(connection, stream));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn does_what_the_model_does(config in configs(), ops in ops()) {
        let mut pair = Pair::new(config);
        for op in &ops {
            pair.apply(op)?;
        }
        pair.run_dry()?;
        prop_assert!(pair.real.is_idle() && pair.model.requests.is_empty(), "left: {:?}", pair.model.requests);
        prop_assert!(pair.model.bodies.is_empty(), "left: {:?}", pair.model.bodies);
        prop_assert_eq!(pair.real.poll_event().map(|(connection, _)| connection), None);
        #[cfg(feature = "internals")]
        prop_assert!(pair.real.audit_empty(), "{:?}", pair.real);
    }
}
