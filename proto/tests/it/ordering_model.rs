//! The built-in scheduler against a model that keeps one list of requests and searches it for everything.

use std::collections::{BTreeMap, BTreeSet};

use callosum_proto::internals::{connection_id, request_id};
use callosum_proto::ordering::{
    Action, Arrival, Busy, KeyOrder, KeyScope, OrderingConfig, OrderingMode, Scheduler,
};
use callosum_proto::{ConnectionId, OrderingKey, RequestId};
use proptest::prelude::*;
use proptest::sample::Index;

const CONNECTIONS: u64 = 3;

/// "No key" first; the others differ in type or bytes, and an empty text is a key.
fn key(index: u8) -> OrderingKey {
    match index {
        0 => OrderingKey::none(),
        1 => OrderingKey::text("a"),
        2 => OrderingKey::binary(&b"a"[..]),
        _ => OrderingKey::text(""),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Unready,
    Waiting,
    Running,
    Suspended,
    Done,
}

impl State {
    fn is_waiting(self) -> bool {
        matches!(self, Self::Unready | Self::Waiting)
    }

    fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Suspended)
    }
}

/// Requests that share an order: `None` stands for all connections, or for no key.
type Group = (Option<ConnectionId>, Option<u8>);

#[derive(Clone, Debug)]
struct Request {
    id: RequestId,
    key: Option<u8>,
    bytes: usize,
    queued: bool,
    forgotten: bool,
    /// It wants to begin its reply, and has not been told that it may.
    wants: bool,
    /// It has wanted to.
    asked: bool,
    state: State,
}

impl Request {
    fn connection(&self) -> ConnectionId {
        self.id.connection()
    }
}

#[derive(Debug)]
struct Model {
    config: OrderingConfig,
    /// Accepted and not yet gone, in order of arrival.
    requests: Vec<Request>,
    paused: BTreeSet<ConnectionId>,
    step: usize,
    /// Since when a connection can start requests without having been served; the same for each of its queues.
    connection_since: BTreeMap<ConnectionId, usize>,
    queue_since: BTreeMap<(ConnectionId, Group), usize>,
}

impl Model {
    fn new(config: OrderingConfig) -> Self {
        let (connection_since, queue_since) = Default::default();
        Self { config, requests: Vec::new(), paused: BTreeSet::new(), step: 0, connection_since, queue_since }
    }

    fn serialized(&self, key: Option<u8>) -> bool {
        key.is_some() && self.config.mode == OrderingMode::KeySerialized
    }

    /// Where a request waits for its start.
    fn queue(&self, connection: ConnectionId, key: Option<u8>) -> Group {
        let shared = self.serialized(key) && self.config.scope == KeyScope::Global;
        ((!shared).then_some(connection), key)
    }

    /// In whose order its reply leaves.
    fn order(&self, request: &Request) -> Option<Group> {
        let ordered = request.key.is_some() && self.config.mode != OrderingMode::Unordered;
        let shared = self.config.scope == KeyScope::Global;
        (ordered && !request.forgotten).then_some(((!shared).then_some(request.connection()), request.key))
    }

    fn request(&mut self, id: RequestId) -> Option<&mut Request> {
        self.requests.iter_mut().find(|request| request.id == id)
    }

    fn count(&self, of: impl Fn(&Request) -> bool) -> usize {
        self.requests.iter().filter(|request| of(request)).count()
    }

    fn running(&self) -> usize {
        self.count(|request| request.state.is_running())
    }

    fn waiting(&self) -> usize {
        self.count(|request| request.state.is_waiting())
    }

    fn slots(&self) -> usize {
        let running = self.count(|request| request.state == State::Running);
        self.config.max_running.max(1).saturating_sub(running)
    }

    /// Slots that a connection may take without exceeding its share.
    fn left_of(&self, connection: ConnectionId) -> usize {
        let holds =
            |one: &Request| one.connection() == connection && one.state == State::Running && !one.forgotten;
        // The share in percent, rounded up to whole slots.
        let (slots, percent) =
            (self.config.max_running.max(1), self.config.max_share_per_connection.min(100));
        let share = (slots * usize::from(percent)).div_ceil(100).max(1);
        if self.paused.contains(&connection) { 0 } else { share.saturating_sub(self.count(holds)) }
    }

    /// Whether a slot is left for one more request of a connection once all have started that could start already.
    fn has_slot_for(&self, connection: ConnectionId) -> bool {
        let own = self.startable().into_iter().filter(|((of, _), _)| *of == connection);
        let own: usize = own.map(|(_, ids)| ids.len()).sum();
        self.count_startable() < self.slots() && own < self.left_of(connection)
    }

    /// Per connection and queue, what could start but for slots and pauses, in its order.
    fn startable(&self) -> BTreeMap<(ConnectionId, Group), Vec<RequestId>> {
        let mut queues: BTreeMap<Group, Vec<&Request>> = BTreeMap::new();
        for request in &self.requests {
            queues.entry(self.queue(request.connection(), request.key)).or_default().push(request);
        }
        let mut startable = BTreeMap::new();
        for (queue, requests) in queues {
            let runs = requests.iter().any(|request| request.state.is_running());
            let mut waiting: Vec<_> = requests.iter().filter(|request| request.state.is_waiting()).collect();
            if self.serialized(queue.1) {
                waiting.truncate(usize::from(!runs));
            }
            waiting.retain(|request| request.state == State::Waiting);
            if let Some(first) = waiting.first() {
                let ids = waiting.iter().map(|request| request.id).collect();
                startable.insert((first.connection(), queue), ids);
            }
        }
        startable
    }

    fn count_startable(&self) -> usize {
        let mut of_connections: BTreeMap<ConnectionId, usize> = BTreeMap::new();
        for ((of, _), ids) in self.startable() {
            *of_connections.entry(of).or_default() += ids.len();
        }
        of_connections.into_iter().map(|(of, startable)| startable.min(self.left_of(of))).sum()
    }

    /// Brings the waiting times up to date after each step.
    fn tick(&mut self) {
        self.step += 1;
        let queues: BTreeSet<_> = self.startable().into_keys().collect();
        let connections: BTreeSet<_> =
            queues.iter().map(|(of, _)| *of).filter(|of| self.left_of(*of) > 0).collect();
        self.queue_since.retain(|queue, _| queues.contains(queue));
        self.connection_since.retain(|connection, _| connections.contains(connection));
        for queue in queues {
            self.queue_since.entry(queue).or_insert(self.step);
        }
        for connection in connections {
            self.connection_since.entry(connection).or_insert(self.step);
        }
    }

    fn arrive(&mut self, arrival: &Arrival, key: Option<u8>) -> Result<(), Busy> {
        let Arrival { request: id, bytes, ready, .. } = *arrival;
        if self.request(id).is_some() {
            return Err(Busy::DuplicateRequest);
        }
        let queue = self.queue(id.connection(), key);
        let alone = !self.serialized(key)
            || self.count(|other| {
                self.queue(other.connection(), other.key) == queue && other.state != State::Done
            }) == 0;
        let queued = !ready || !alone || !self.has_slot_for(id.connection());
        let own = |request: &Request| request.connection() == id.connection() && !request.forgotten;
        let waiting = self.requests.iter().filter(|request| own(request) && request.queued);
        let (waiting, held): (usize, usize) = waiting.fold((0, 0), |(n, sum), one| (n + 1, sum + one.bytes));
        let limit = self.config.max_requests_per_connection;
        if self.count(own) >= limit {
            return Err(Busy::Requests { limit });
        }
        let limit = self.config.max_waiting_per_connection;
        if queued && waiting >= limit {
            return Err(Busy::WaitingRequests { limit });
        }
        let limit = self.config.max_waiting_bytes_per_connection;
        if queued && held + bytes > limit {
            return Err(Busy::WaitingBytes { limit });
        }
        let state = if ready { State::Waiting } else { State::Unready };
        let (forgotten, wants, asked) = (false, false, false);
        self.requests.push(Request { id, key, bytes, queued, forgotten, wants, asked, state });
        Ok(())
    }

    fn ready(&mut self, id: RequestId, bytes: usize) -> Result<(), Busy> {
        let at = self.requests.iter().position(|one| one.id == id && one.state == State::Unready);
        let Some(at) = at else { return Ok(()) };
        let (connection, key) = (id.connection(), self.requests[at].key);
        let queue = self.queue(connection, key);
        let is_before = |place: usize, other: &Request| {
            self.queue(other.connection(), other.key) == queue
                && (other.state.is_running() || (place < at && other.state.is_waiting()))
        };
        let next = !self.serialized(key)
            || !self.requests.iter().enumerate().any(|(place, other)| is_before(place, other));
        let at_once = next && self.has_slot_for(connection);
        let added = if at_once { 0 } else { bytes };
        let own = |request: &&Request| request.connection() == connection && request.queued;
        let held: usize = self.requests.iter().filter(own).map(|request| request.bytes).sum();
        let limit = self.config.max_waiting_bytes_per_connection;
        if held + added > limit {
            return Err(Busy::WaitingBytes { limit });
        }
        self.requests[at].bytes += added;
        self.requests[at].state = State::Waiting;
        Ok(())
    }

    /// Returns whether the request is forgotten.
    fn withdraw(&mut self, id: RequestId) -> bool {
        let forgotten = self.request(id).is_some_and(|request| !request.state.is_running());
        self.requests.retain(|request| request.id != id || !forgotten);
        forgotten
    }

    fn finish(&mut self, id: RequestId) {
        let Some(request) = self.request(id) else { return };
        (request.state, request.queued) = (State::Done, false);
        self.requests.retain(|request| request.id != id || !request.forgotten);
    }

    fn set(&mut self, id: RequestId, from: &[State], to: State) {
        if let Some(request) = self.request(id).filter(|request| from.contains(&request.state)) {
            request.state = to;
        }
    }

    fn want_to_reply(&mut self, id: RequestId) {
        if let Some(request) = self.request(id)
            && request.state.is_running()
            && !request.forgotten
            && !request.asked
        {
            (request.wants, request.asked) = (true, true);
        }
    }

    fn forget(&mut self, connection: ConnectionId) {
        self.paused.remove(&connection);
        self.requests.retain(|request| request.connection() != connection || request.state.is_running());
        let own = self.requests.iter_mut().filter(|request| request.connection() == connection);
        own.for_each(|request| (request.forgotten, request.wants) = (true, false));
    }

    /// What may be said next of replies: that they leave, or begin.
    fn due(&self) -> BTreeSet<Action> {
        let mut orders = BTreeSet::new();
        let mut due = BTreeSet::new();
        for request in &self.requests {
            if !self.order(request).is_none_or(|order| orders.insert(order)) {
                continue;
            }
            match request.state {
                State::Done => drop(due.insert(Action::Release(request.id))),
                State::Running | State::Suspended if request.wants => {
                    due.insert(Action::MayReply(request.id));
                }
                _ => {}
            }
        }
        due
    }

    /// The requests that may be next to start: of the connection, and of its queue, that has waited longest.
    fn next_starts(&self) -> BTreeSet<RequestId> {
        if self.slots() == 0 {
            return BTreeSet::new();
        }
        let longest = self.connection_since.values().min();
        let startable = self.startable();
        let mut starts = BTreeSet::new();
        for (connection, _) in self.connection_since.iter().filter(|(_, since)| Some(*since) == longest) {
            let queues = || self.queue_since.iter().filter(|((of, _), _)| of == connection);
            let longest = queues().map(|(_, since)| since).min();
            let first = queues().filter(|(_, since)| Some(*since) == longest);
            starts.extend(first.map(|(queue, _)| startable[queue][0]));
        }
        starts
    }

    fn check_poll(&mut self, action: Option<Action>) -> Result<(), TestCaseError> {
        let (due, starts) = (self.due(), self.next_starts());
        match action {
            None => prop_assert!(due.is_empty() && starts.is_empty(), "held back: {due:?} {starts:?}"),
            Some(action @ Action::Release(id)) => {
                prop_assert!(due.contains(&action), "{action:?}, due were {due:?}");
                self.requests.retain(|request| request.id != id);
            }
            Some(action @ Action::MayReply(id)) => {
                prop_assert!(due.contains(&action), "{action:?}, due were {due:?}");
                self.request(id).expect("the set holds known requests").wants = false;
            }
            Some(Action::Start(id)) => {
                prop_assert!(due.is_empty(), "releases come first");
                prop_assert!(starts.contains(&id), "started {id}, not one of {starts:?}");
                let request = self.request(id).expect("the set holds known requests").clone();
                let queue = self.queue(request.connection(), request.key);
                self.connection_since.remove(&request.connection());
                self.queue_since.remove(&(request.connection(), queue));
                let request = self.request(id).expect("still known");
                (request.state, request.queued) = (State::Running, false);
            }
            Some(other) => prop_assert!(false, "{other:?}"),
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Op {
    Arrive { connection: u64, key: u8, bytes: usize, ready: bool },
    Duplicate { which: Index, key: u8 },
    Ready(Pick, usize),
    Finish(Pick),
    Withdraw(Pick),
    Suspend(Pick),
    Resume(Pick),
    WantToReply(Pick),
    Forget(u64),
    Pause(u64),
    Unpause(u64),
    Poll,
    Drain,
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
            5 => any::<Index>().prop_map(Pick::Known),
            1 => any::<Index>().prop_map(Pick::Any),
        ]
    };
    let connection = || 0..CONNECTIONS;
    let arrive = (connection(), 0..4_u8, 0..40_usize, prop::bool::weighted(0.8))
        .prop_map(|(connection, key, bytes, ready)| Op::Arrive { connection, key, bytes, ready });
    let op = prop_oneof![
        14 => arrive,
        1 => (any::<Index>(), 0..4_u8).prop_map(|(which, key)| Op::Duplicate { which, key }),
        4 => (pick(), 0..40_usize).prop_map(|(pick, bytes)| Op::Ready(pick, bytes)),
        8 => pick().prop_map(Op::Finish),
        3 => pick().prop_map(Op::Withdraw),
        2 => pick().prop_map(Op::Suspend),
        2 => pick().prop_map(Op::Resume),
        4 => pick().prop_map(Op::WantToReply),
        1 => connection().prop_map(Op::Forget),
        1 => connection().prop_map(Op::Pause),
        2 => connection().prop_map(Op::Unpause),
        4 => Just(Op::Poll),
        4 => Just(Op::Drain),
    ];
    prop::collection::vec(op, 0..150)
}

fn configs() -> impl Strategy<Value = OrderingConfig> {
    let mode = prop_oneof![
        Just(OrderingMode::Unordered),
        Just(OrderingMode::ExitOrdered),
        Just(OrderingMode::KeySerialized),
    ];
    let scope = prop_oneof![Just(KeyScope::Global), Just(KeyScope::PerConnection)];
    let share = prop_oneof![1 => Just(80), 2 => 0..=101_u8];
    (mode, scope, (0..8_usize, share), 0..8_usize, 0..150_usize, 1..16_usize).prop_map(
        |(mode, scope, (running, share), waiting, bytes, requests)| {
            let mut config = OrderingConfig::default();
            config.mode = mode;
            config.scope = scope;
            config.max_running = running;
            config.max_share_per_connection = share;
            config.max_waiting_per_connection = waiting;
            config.max_waiting_bytes_per_connection = bytes;
            config.max_requests_per_connection = requests;
            config
        },
    )
}

struct Pair {
    real: KeyOrder,
    model: Model,
    /// All that have ever arrived.
    ids: Vec<RequestId>,
    accepted: BTreeSet<RequestId>,
    forgotten: BTreeSet<RequestId>,
    started: BTreeSet<RequestId>,
    released: BTreeSet<RequestId>,
    withdrawn: BTreeSet<RequestId>,
    /// Finished before they started.
    failed: BTreeSet<RequestId>,
}

impl Pair {
    fn new(config: OrderingConfig) -> Self {
        Self {
            real: KeyOrder::new(config.clone()),
            model: Model::new(config),
            ids: Vec::new(),
            accepted: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            started: BTreeSet::new(),
            released: BTreeSet::new(),
            withdrawn: BTreeSet::new(),
            failed: BTreeSet::new(),
        }
    }

    fn pick(&self, pick: &Pick) -> RequestId {
        match pick {
            Pick::Known(index) if !self.model.requests.is_empty() => index.get(&self.model.requests).id,
            Pick::Known(index) | Pick::Any(index) => {
                let unknown = request_id(connection_id(0), self.ids.len() as u64);
                self.ids.get(index.index(self.ids.len() + 1)).copied().unwrap_or(unknown)
            }
        }
    }

    fn arrive(&mut self, id: RequestId, index: u8, bytes: usize, ready: bool) -> Result<(), TestCaseError> {
        let arrival = Arrival { request: id, key: key(index), bytes, ready };
        let expected = self.model.arrive(&arrival, (index > 0).then_some(index));
        prop_assert_eq!(self.real.arrive(&arrival), expected);
        if expected.is_ok() {
            self.accepted.insert(id);
        }
        Ok(())
    }

    /// One that finds no place is withdrawn, as the caller has to.
    fn ready(&mut self, id: RequestId, bytes: usize) -> Result<(), TestCaseError> {
        let expected = self.model.ready(id, bytes);
        prop_assert_eq!(self.real.ready(id, bytes), expected);
        if expected.is_err() {
            self.real.withdraw(id);
            prop_assert!(self.model.withdraw(id));
            self.withdrawn.insert(id);
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<bool, TestCaseError> {
        let active = self.model.count(|request| request.state == State::Running);
        let action = self.real.poll();
        self.model.check_poll(action)?;
        self.model.tick();
        match action {
            None => return Ok(false),
            Some(Action::Start(id)) => {
                prop_assert!(self.started.insert(id), "{id} started twice");
                prop_assert!(!self.withdrawn.contains(&id) && !self.forgotten.contains(&id));
                prop_assert!(!self.failed.contains(&id));
                prop_assert!(active < self.model.config.max_running.max(1));
                let own = |one: &Request| {
                    one.connection() == id.connection() && one.state == State::Running && !one.forgotten
                };
                let share = self.model.config.max_running_per_connection();
                prop_assert!(self.model.count(own) <= share, "{id} exceeds the share of its connection");
            }
            Some(Action::Release(id)) => {
                prop_assert!(self.released.insert(id), "{id} released twice");
                prop_assert!(!self.forgotten.contains(&id) && !self.withdrawn.contains(&id));
            }
            Some(_) => {}
        }
        Ok(true)
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Arrive { connection, key, bytes, ready } => {
                let id = request_id(connection_id(*connection), self.ids.len() as u64);
                self.ids.push(id);
                self.arrive(id, *key, *bytes, *ready)?;
            }
            Op::Duplicate { which, key } => {
                if !self.model.requests.is_empty() {
                    let id = which.get(&self.model.requests).id;
                    self.arrive(id, *key, 1, true)?;
                }
            }
            Op::Ready(pick, bytes) => self.ready(self.pick(pick), *bytes)?,
            Op::Finish(pick) => {
                let id = self.pick(pick);
                if self.model.request(id).is_some_and(|request| request.state.is_waiting()) {
                    self.failed.insert(id);
                }
                self.real.finish(id);
                self.model.finish(id);
            }
            Op::Withdraw(pick) => {
                let id = self.pick(pick);
                self.real.withdraw(id);
                if self.model.withdraw(id) {
                    self.withdrawn.insert(id);
                }
            }
            Op::Suspend(pick) => {
                let id = self.pick(pick);
                self.real.suspend(id);
                self.model.set(id, &[State::Running], State::Suspended);
            }
            Op::Resume(pick) => {
                let id = self.pick(pick);
                self.real.resume(id);
                self.model.set(id, &[State::Suspended], State::Running);
            }
            Op::WantToReply(pick) => {
                let id = self.pick(pick);
                prop_assert!(!self.real.want_to_reply(id), "the answer is an action");
                self.model.want_to_reply(id);
            }
            Op::Forget(connection) => {
                let connection = connection_id(*connection);
                self.real.forget_connection(connection);
                let own = self.model.requests.iter().filter(|request| request.connection() == connection);
                self.forgotten.extend(own.map(|request| request.id));
                self.model.forget(connection);
            }
            Op::Pause(connection) => {
                self.real.pause(connection_id(*connection));
                self.model.paused.insert(connection_id(*connection));
            }
            Op::Unpause(connection) => {
                self.real.unpause(connection_id(*connection));
                self.model.paused.remove(&connection_id(*connection));
            }
            Op::Poll => {
                self.poll()?;
            }
            Op::Drain => while self.poll()? {},
        }
        self.model.tick();
        self.check()
    }

    fn check(&self) -> Result<(), TestCaseError> {
        #[cfg(feature = "internals")]
        self.real.audit();
        prop_assert_eq!(self.real.running(), self.model.running());
        prop_assert_eq!(self.real.waiting(), self.model.waiting());
        prop_assert_eq!(self.real.is_idle(), self.model.requests.is_empty());
        Ok(())
    }

    /// Makes ready and finishes whatever there is, again and again, until nothing starts any more.
    fn run_dry(&mut self) -> Result<(), TestCaseError> {
        let unready = self.model.requests.iter().filter(|request| request.state == State::Unready);
        for id in unready.map(|request| request.id).collect::<Vec<_>>() {
            self.ready(id, 0)?;
            self.model.tick();
        }
        loop {
            self.apply(&Op::Drain)?;
            let running = self.model.requests.iter().filter(|request| request.state.is_running());
            let running: Vec<_> = running.map(|request| request.id).collect();
            if running.is_empty() {
                return Ok(());
            }
            for id in running {
                self.real.finish(id);
                self.model.finish(id);
                self.model.tick();
            }
        }
    }

    /// None is left over but requests of paused connections, and those behind one in the order of a key.
    fn check_left_over(&self) -> Result<(), TestCaseError> {
        let model = &self.model;
        for (at, request) in model.requests.iter().enumerate() {
            let behind = model.requests[..at].iter().any(|earlier| {
                model.paused.contains(&earlier.connection())
                    && model.order(earlier).is_some()
                    && model.order(earlier) == model.order(request)
            });
            prop_assert!(model.paused.contains(&request.connection()) || behind, "starved: {request:?}");
        }
        Ok(())
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
        pair.check_left_over()?;
        for connection in 0..CONNECTIONS {
            pair.apply(&Op::Unpause(connection))?;
        }
        pair.run_dry()?;
        prop_assert!(pair.real.is_idle(), "left behind: {:?}", pair.real);
        let mut expected: BTreeSet<_> = pair.accepted.difference(&pair.forgotten).copied().collect();
        expected.retain(|id| !pair.withdrawn.contains(id));
        prop_assert_eq!(&pair.released, &expected, "one release for each that stayed, and was not withdrawn");
        let ended = |id| pair.started.contains(id) || pair.failed.contains(id);
        prop_assert!(expected.iter().all(ended), "a request was released without having run");
    }
}
