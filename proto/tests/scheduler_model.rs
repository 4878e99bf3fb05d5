//! The built-in scheduler against a model that keeps one list of calls and searches it for everything.

use std::collections::{BTreeMap, BTreeSet};

use callosum_proto::scheduler::{
    Action, Arrival, BuiltinScheduler, Busy, BusyReason, KeyScope, OrderingMode, Scheduler, SchedulerConfig,
    Withdrawn,
};
use callosum_proto::{OrderingKey, PeerId, Ticket};
use proptest::prelude::*;
use proptest::sample::Index;

const PEERS: u64 = 3;

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
    Waiting,
    Running,
    Suspended,
    Done,
}

/// Calls that share an order: `None` stands for all peers, or for no key.
type Group = (Option<PeerId>, Option<u8>);

#[derive(Clone, Debug)]
struct Call {
    ticket: Ticket,
    peer: PeerId,
    key: Option<u8>,
    bytes: usize,
    queued: bool,
    forgotten: bool,
    state: State,
}

#[derive(Debug)]
struct Model {
    config: SchedulerConfig,
    /// Accepted and not yet gone, in order of arrival.
    calls: Vec<Call>,
    paused: BTreeSet<PeerId>,
    step: usize,
    /// Since when a peer can start calls without having been served; the same for each of its lanes.
    peer_since: BTreeMap<PeerId, usize>,
    lane_since: BTreeMap<(PeerId, Group), usize>,
}

impl Model {
    fn new(config: SchedulerConfig) -> Self {
        let (peer_since, lane_since) = Default::default();
        Self { config, calls: Vec::new(), paused: BTreeSet::new(), step: 0, peer_since, lane_since }
    }

    fn serialized(&self, key: Option<u8>) -> bool {
        key.is_some() && self.config.mode == OrderingMode::KeySerialized
    }

    fn lane(&self, peer: PeerId, key: Option<u8>) -> Group {
        let shared = self.serialized(key) && self.config.scope == KeyScope::Global;
        ((!shared).then_some(peer), key)
    }

    fn line(&self, call: &Call) -> Option<Group> {
        let ordered = call.key.is_some() && self.config.mode != OrderingMode::Unordered;
        let shared = self.config.scope == KeyScope::Global;
        (ordered && !call.forgotten).then_some(((!shared).then_some(call.peer), call.key))
    }

    fn call(&mut self, ticket: Ticket) -> Option<&mut Call> {
        self.calls.iter_mut().find(|call| call.ticket == ticket)
    }

    fn count(&self, of: impl Fn(&Call) -> bool) -> usize {
        self.calls.iter().filter(|call| of(call)).count()
    }

    fn running(&self) -> usize {
        self.count(|call| matches!(call.state, State::Running | State::Suspended))
    }

    fn waiting(&self) -> usize {
        self.count(|call| call.state == State::Waiting)
    }

    fn slots(&self) -> usize {
        self.config.max_running.max(1).saturating_sub(self.count(|call| call.state == State::Running))
    }

    /// Per peer and lane, what could start but for slots and pauses, in its order.
    fn ready(&self) -> BTreeMap<(PeerId, Group), Vec<Ticket>> {
        let mut lanes: BTreeMap<Group, Vec<&Call>> = BTreeMap::new();
        for call in &self.calls {
            lanes.entry(self.lane(call.peer, call.key)).or_default().push(call);
        }
        let mut ready = BTreeMap::new();
        for (lane, calls) in lanes {
            let runs = calls.iter().any(|call| matches!(call.state, State::Running | State::Suspended));
            let mut waiting: Vec<_> = calls.iter().filter(|call| call.state == State::Waiting).collect();
            if self.serialized(lane.1) {
                waiting.truncate(usize::from(!runs));
            }
            if let Some(first) = waiting.first() {
                ready.insert((first.peer, lane), waiting.iter().map(|call| call.ticket).collect());
            }
        }
        ready
    }

    fn startable(&self) -> usize {
        self.ready().iter().filter(|((peer, _), _)| !self.paused.contains(peer)).map(|(_, t)| t.len()).sum()
    }

    /// Brings the waiting times up to date after each step.
    fn tick(&mut self) {
        self.step += 1;
        let ready: BTreeSet<_> = self.ready().into_keys().collect();
        let peers: BTreeSet<_> = ready.iter().map(|(p, _)| *p).filter(|p| !self.paused.contains(p)).collect();
        self.lane_since.retain(|lane, _| ready.contains(lane));
        self.peer_since.retain(|peer, _| peers.contains(peer));
        for lane in ready {
            self.lane_since.entry(lane).or_insert(self.step);
        }
        for peer in peers {
            self.peer_since.entry(peer).or_insert(self.step);
        }
    }

    fn arrive(&mut self, call: &Arrival<'_>, key: Option<u8>) -> Result<(), BusyReason> {
        let Arrival { ticket, peer, bytes, .. } = *call;
        if self.call(ticket).is_some() {
            return Err(BusyReason::DuplicateTicket);
        }
        let lane = self.lane(peer, key);
        let alone = !self.serialized(key)
            || self.count(|c| self.lane(c.peer, c.key) == lane && c.state != State::Done) == 0;
        let queued = self.paused.contains(&peer) || !alone || self.startable() >= self.slots();
        let of_peer = |call: &Call| call.peer == peer && !call.forgotten;
        let held: usize = self.calls.iter().filter(|c| of_peer(c) && c.queued).map(|c| c.bytes).sum();
        let (calls, waiting, size) = (
            self.config.max_calls_per_peer,
            self.config.max_waiting_per_peer,
            self.config.max_waiting_bytes_per_peer,
        );
        if self.count(of_peer) >= calls {
            return Err(BusyReason::Calls { limit: calls });
        }
        if queued && self.count(|c| of_peer(c) && c.queued) >= waiting {
            return Err(BusyReason::WaitingCalls { limit: waiting });
        }
        if queued && held + bytes > size {
            return Err(BusyReason::WaitingBytes { limit: size });
        }
        let (forgotten, state) = (false, State::Waiting);
        self.calls.push(Call { ticket, peer, key, bytes, queued, forgotten, state });
        Ok(())
    }

    fn withdraw(&mut self, ticket: Ticket) -> Withdrawn {
        match self.call(ticket) {
            None | Some(Call { state: State::Done, .. }) => Withdrawn::Unknown,
            Some(call) if call.state == State::Waiting => {
                (call.state, call.queued) = (State::Done, false);
                Withdrawn::Waiting
            }
            Some(_) => Withdrawn::Running,
        }
    }

    fn finish(&mut self, ticket: Ticket) {
        if self.withdraw(ticket) == Withdrawn::Running {
            self.calls.retain(|call| call.ticket != ticket || !call.forgotten);
            self.set(ticket, &[State::Running, State::Suspended], State::Done);
        }
    }

    fn set(&mut self, ticket: Ticket, from: &[State], to: State) {
        if let Some(call) = self.call(ticket).filter(|call| from.contains(&call.state)) {
            call.state = to;
        }
    }

    fn forget(&mut self, peer: PeerId) {
        self.paused.remove(&peer);
        self.calls
            .retain(|call| call.peer != peer || matches!(call.state, State::Running | State::Suspended));
        self.calls.iter_mut().filter(|call| call.peer == peer).for_each(|call| call.forgotten = true);
    }

    /// The replies that may be next to leave.
    fn due(&self) -> BTreeSet<Ticket> {
        let mut lines = BTreeSet::new();
        let mut due = BTreeSet::new();
        for call in &self.calls {
            let turn = self.line(call).is_none_or(|line| lines.insert(line));
            if turn && call.state == State::Done {
                due.insert(call.ticket);
            }
        }
        due
    }

    /// The calls that may be next to start: of the peer, and of its lane, that has waited longest.
    fn next_starts(&self) -> BTreeSet<Ticket> {
        if self.slots() == 0 {
            return BTreeSet::new();
        }
        let longest = self.peer_since.values().min();
        let ready = self.ready();
        let mut starts = BTreeSet::new();
        for (peer, _) in self.peer_since.iter().filter(|(_, since)| Some(*since) == longest) {
            let lanes = || self.lane_since.iter().filter(|((of, _), _)| of == peer);
            let longest = lanes().map(|(_, since)| since).min();
            starts.extend(lanes().filter(|(_, s)| Some(*s) == longest).map(|(lane, _)| ready[lane][0]));
        }
        starts
    }

    fn check_poll(&mut self, action: Option<Action>) -> Result<(), TestCaseError> {
        let (due, starts) = (self.due(), self.next_starts());
        match action {
            None => prop_assert!(due.is_empty() && starts.is_empty(), "held back: {due:?} {starts:?}"),
            Some(Action::Release(ticket)) => {
                prop_assert!(due.contains(&ticket), "released {ticket:?}, due were {due:?}");
                self.calls.retain(|call| call.ticket != ticket);
            }
            Some(Action::Start(ticket)) => {
                prop_assert!(due.is_empty(), "releases come first");
                prop_assert!(starts.contains(&ticket), "started {ticket:?}, not one of {starts:?}");
                let call = self.call(ticket).expect("the set holds known calls").clone();
                let lane = self.lane(call.peer, call.key);
                self.peer_since.remove(&call.peer);
                self.lane_since.remove(&(call.peer, lane));
                let call = self.call(ticket).expect("still known");
                (call.state, call.queued) = (State::Running, false);
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Op {
    Arrive { peer: u64, key: u8, bytes: usize },
    Duplicate { which: Index, peer: u64, key: u8 },
    Finish(Pick),
    Withdraw(Pick),
    Suspend(Pick),
    Resume(Pick),
    Forget(u64),
    Pause(u64),
    Unpause(u64),
    Poll,
    Drain,
}

/// A call that is still known, or any ticket up to one that was never used.
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
    let peer = || 0..PEERS;
    let op = prop_oneof![
        14 => (peer(), 0..4_u8, 0..40_usize).prop_map(|(peer, key, bytes)| Op::Arrive { peer, key, bytes }),
        1 => (any::<Index>(), peer(), 0..4_u8)
            .prop_map(|(which, peer, key)| Op::Duplicate { which, peer, key }),
        8 => pick().prop_map(Op::Finish),
        3 => pick().prop_map(Op::Withdraw),
        2 => pick().prop_map(Op::Suspend),
        2 => pick().prop_map(Op::Resume),
        1 => peer().prop_map(Op::Forget),
        1 => peer().prop_map(Op::Pause),
        2 => peer().prop_map(Op::Unpause),
        4 => Just(Op::Poll),
        4 => Just(Op::Drain),
    ];
    prop::collection::vec(op, 0..150)
}

fn configs() -> impl Strategy<Value = SchedulerConfig> {
    let mode = prop_oneof![
        Just(OrderingMode::Unordered),
        Just(OrderingMode::ExitOrdered),
        Just(OrderingMode::KeySerialized),
    ];
    let scope = prop_oneof![Just(KeyScope::Global), Just(KeyScope::PerPeer)];
    (mode, scope, 0..5_usize, 0..8_usize, 0..150_usize, 1..16_usize).prop_map(
        |(mode, scope, running, waiting, bytes, calls)| {
            SchedulerConfig::default()
                .with_mode(mode)
                .with_scope(scope)
                .with_max_running(running)
                .with_max_waiting_per_peer(waiting)
                .with_max_waiting_bytes_per_peer(bytes)
                .with_max_calls_per_peer(calls)
        },
    )
}

struct Pair {
    real: BuiltinScheduler,
    model: Model,
    tickets: u64,
    accepted: BTreeSet<Ticket>,
    forgotten: BTreeSet<Ticket>,
    started: BTreeSet<Ticket>,
    released: BTreeSet<Ticket>,
    withdrawn: BTreeSet<Ticket>,
}

impl Pair {
    fn new(config: SchedulerConfig) -> Self {
        Self {
            real: BuiltinScheduler::new(config.clone()),
            model: Model::new(config),
            tickets: 0,
            accepted: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            started: BTreeSet::new(),
            released: BTreeSet::new(),
            withdrawn: BTreeSet::new(),
        }
    }

    fn pick(&self, pick: &Pick) -> Ticket {
        match pick {
            Pick::Known(index) if !self.model.calls.is_empty() => index.get(&self.model.calls).ticket,
            Pick::Known(index) | Pick::Any(index) => Ticket(index.index(self.tickets as usize + 1) as u64),
        }
    }

    fn arrive(&mut self, ticket: Ticket, peer: u64, index: u8, bytes: usize) -> Result<(), TestCaseError> {
        let key = key(index);
        let call = Arrival { ticket, peer: PeerId(peer), key: &key, bytes };
        let expected = self.model.arrive(&call, (index > 0).then_some(index));
        prop_assert_eq!(self.real.arrive(call), expected.map_err(|reason| Busy { reason }));
        if expected.is_ok() {
            self.accepted.insert(ticket);
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<bool, TestCaseError> {
        let active = self.model.count(|call| call.state == State::Running);
        let action = self.real.poll();
        self.model.check_poll(action)?;
        self.model.tick();
        match action {
            None => return Ok(false),
            Some(Action::Start(ticket)) => {
                prop_assert!(self.started.insert(ticket), "{ticket:?} started twice");
                prop_assert!(!self.withdrawn.contains(&ticket) && !self.forgotten.contains(&ticket));
                prop_assert!(active < self.model.config.max_running.max(1));
            }
            Some(Action::Release(ticket)) => {
                prop_assert!(self.released.insert(ticket), "{ticket:?} released twice");
                prop_assert!(!self.forgotten.contains(&ticket));
            }
        }
        Ok(true)
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Arrive { peer, key, bytes } => {
                self.tickets += 1;
                self.arrive(Ticket(self.tickets - 1), *peer, *key, *bytes)?;
            }
            Op::Duplicate { which, peer, key } => {
                if !self.model.calls.is_empty() {
                    let ticket = which.get(&self.model.calls).ticket;
                    self.arrive(ticket, *peer, *key, 1)?;
                }
            }
            Op::Finish(pick) => {
                let ticket = self.pick(pick);
                if self.model.call(ticket).is_some_and(|call| call.state == State::Waiting) {
                    self.withdrawn.insert(ticket);
                }
                self.real.finish(ticket);
                self.model.finish(ticket);
            }
            Op::Withdraw(pick) => {
                let ticket = self.pick(pick);
                let withdrawn = self.real.withdraw(ticket);
                prop_assert_eq!(withdrawn, self.model.withdraw(ticket));
                if withdrawn == Withdrawn::Waiting {
                    self.withdrawn.insert(ticket);
                }
            }
            Op::Suspend(pick) => {
                let ticket = self.pick(pick);
                self.real.suspend(ticket);
                self.model.set(ticket, &[State::Running], State::Suspended);
            }
            Op::Resume(pick) => {
                let ticket = self.pick(pick);
                self.real.resume(ticket);
                self.model.set(ticket, &[State::Suspended], State::Running);
            }
            Op::Forget(peer) => {
                let gone = |call: &&Call| call.peer == PeerId(*peer);
                self.forgotten.extend(self.model.calls.iter().filter(gone).map(|call| call.ticket));
                self.real.forget_peer(PeerId(*peer));
                self.model.forget(PeerId(*peer));
            }
            Op::Pause(peer) => {
                self.real.pause(PeerId(*peer));
                self.model.paused.insert(PeerId(*peer));
            }
            Op::Unpause(peer) => {
                self.real.unpause(PeerId(*peer));
                self.model.paused.remove(&PeerId(*peer));
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
        prop_assert_eq!(self.real.running(), self.model.running());
        prop_assert_eq!(self.real.waiting(), self.model.waiting());
        prop_assert_eq!(self.real.is_idle(), self.model.calls.is_empty());
        Ok(())
    }

    /// Finishes whatever runs, again and again, until nothing starts any more.
    fn run_dry(&mut self) -> Result<(), TestCaseError> {
        loop {
            self.apply(&Op::Drain)?;
            let runs = |call: &&Call| matches!(call.state, State::Running | State::Suspended);
            let running: Vec<_> = self.model.calls.iter().filter(runs).map(|call| call.ticket).collect();
            if running.is_empty() {
                return Ok(());
            }
            for ticket in running {
                self.real.finish(ticket);
                self.model.finish(ticket);
                self.model.tick();
            }
        }
    }

    /// Nobody is left over but calls of paused peers, and those behind one in the order of a key.
    fn check_left_over(&self) -> Result<(), TestCaseError> {
        let model = &self.model;
        for (at, call) in model.calls.iter().enumerate() {
            let behind = model.calls[..at].iter().any(|earlier| {
                model.paused.contains(&earlier.peer)
                    && model.line(earlier).is_some()
                    && model.line(earlier) == model.line(call)
            });
            prop_assert!(model.paused.contains(&call.peer) || behind, "starved: {call:?}");
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
        for peer in 0..PEERS {
            pair.apply(&Op::Unpause(peer))?;
        }
        pair.run_dry()?;
        prop_assert!(pair.real.is_idle(), "left behind: {:?}", pair.real);
        let expected: BTreeSet<_> = pair.accepted.difference(&pair.forgotten).copied().collect();
        prop_assert_eq!(&pair.released, &expected, "one release for each call of a peer that stayed");
        let ended = |ticket| pair.started.contains(ticket) || pair.withdrawn.contains(ticket);
        prop_assert!(expected.iter().all(ended), "a call was released without having run");
    }
}
