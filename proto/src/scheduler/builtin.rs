//! The scheduler that ships: three modes, limits, fairness.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::exits::{Exits, Seq};
use super::starts::Starts;
use super::{
    Action, Arrival, Busy, BusyReason, KeyScope, OrderingMode, Scheduler, SchedulerConfig, Withdrawn,
};
use crate::ids::{OrderingKey, PeerId, Ticket};

/// The built-in [`Scheduler`].
///
/// # Order
/// Where a mode orders replies, a call that failed, or was withdrawn before it started, takes its turn like
/// any other: its reply is released after those of all earlier calls of its key.
///
/// # Fairness
/// Free slots go round robin over the peers that have startable calls, and for each peer round robin over its
/// lanes: one per key, and one for its calls without a key. Within a lane the first to come is the first to
/// start. Newcomers join at the end, so when a call has become the first of its lane and startable, and `l`
/// lanes of its peer are startable before it, it starts after at most `(l + 1) * p` other starts, where `p` is
/// the highest number of peers with startable calls until then. A peer that is paused loses its place.
///
/// # Limits
/// A call that could start at once when it arrived is not subject to the limits of waiting calls: its peer is
/// not paused, its key not taken (where keys are serialized), and a slot is free that no other startable call
/// will take. The limits per peer are tested at arrival; `max_running` at each start, so only
/// [`resume`](Scheduler::resume) can exceed it.
///
/// The size of replies that wait for their turn is not known here; their owner has to bound it.
///
/// # Cost
/// Every method takes time logarithmic in the number of calls, amortized, but
/// [`forget_peer`](Scheduler::forget_peer): it takes as much for each call of that peer, and time linear in the
/// releases not yet polled. Memory is proportional to the calls retained.
#[derive(Debug)]
pub struct BuiltinScheduler {
    config: SchedulerConfig,
    calls: BTreeMap<Ticket, Call>,
    /// The peers with calls.
    peers: BTreeMap<PeerId, Peer>,
    starts: Starts,
    exits: Exits,
    arrivals: Seq,
    waiting: usize,
    running: usize,
    suspended: usize,
}

/// Calls that start, or leave, in the order of their arrival: those of one peer, of one key, or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    peer: Option<PeerId>,
    key: Option<OrderingKey>,
}

#[derive(Debug)]
struct Call {
    seq: Seq,
    peer: PeerId,
    /// `None` if none was given.
    key: Option<OrderingKey>,
    bytes: usize,
    /// Whether it counts against the limits of waiting calls.
    queued: bool,
    /// Its peer is forgotten.
    orphan: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Suspended,
    Done,
}

#[derive(Debug, Default)]
struct Peer {
    calls: BTreeSet<Ticket>,
    queued: usize,
    queued_bytes: usize,
}

impl BuiltinScheduler {
    /// A scheduler without calls.
    pub fn new(config: SchedulerConfig) -> Self {
        Self {
            config,
            calls: BTreeMap::new(),
            peers: BTreeMap::new(),
            starts: Starts::default(),
            exits: Exits::default(),
            arrivals: 0,
            waiting: 0,
            running: 0,
            suspended: 0,
        }
    }

    /// The mode and limits it was made with.
    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    fn free_slots(&self) -> usize {
        self.config.max_running.max(1).saturating_sub(self.running - self.suspended)
    }

    fn serializes(&self, key: Option<&OrderingKey>) -> bool {
        key.is_some() && self.config.mode == OrderingMode::KeySerialized
    }

    /// Where a call waits for its start.
    fn lane(&self, peer: PeerId, key: Option<&OrderingKey>) -> Lane {
        let shared = self.serializes(key) && self.config.scope == KeyScope::Global;
        Lane { peer: (!shared).then_some(peer), key: key.cloned() }
    }

    /// Where a call waits for the turn of its reply; `None` if it needs no turn.
    fn line(&self, peer: PeerId, key: Option<&OrderingKey>) -> Option<Lane> {
        let key = key.filter(|_| self.config.mode != OrderingMode::Unordered)?;
        let shared = self.config.scope == KeyScope::Global;
        Some(Lane { peer: (!shared).then_some(peer), key: Some(key.clone()) })
    }

    /// Whether the call would be `queued`.
    fn admit(&self, call: &Arrival<'_>, lane: &Lane, serialized: bool) -> Result<bool, BusyReason> {
        if self.calls.contains_key(&call.ticket) {
            return Err(BusyReason::DuplicateTicket);
        }
        let limits = &self.config;
        let peer = self.peers.get(&call.peer);
        if peer.map_or(0, |peer| peer.calls.len()) >= limits.max_calls_per_peer {
            return Err(BusyReason::Calls { limit: limits.max_calls_per_peer });
        }
        if self.starts.startable() < self.free_slots()
            && self.starts.would_be_startable(lane, serialized, call.peer)
        {
            return Ok(false);
        }
        let (calls, bytes) = peer.map_or((0, 0), |peer| (peer.queued, peer.queued_bytes));
        if calls >= limits.max_waiting_per_peer {
            return Err(BusyReason::WaitingCalls { limit: limits.max_waiting_per_peer });
        }
        if call.bytes > limits.max_waiting_bytes_per_peer.saturating_sub(bytes) {
            return Err(BusyReason::WaitingBytes { limit: limits.max_waiting_bytes_per_peer });
        }
        Ok(true)
    }

    /// The call waits no more, because it starts or never will.
    fn leave_queue(&mut self, ticket: Ticket) {
        let Some(call) = self.calls.get_mut(&ticket) else { return };
        self.waiting -= 1;
        if !std::mem::take(&mut call.queued) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&call.peer) {
            peer.queued -= 1;
            peer.queued_bytes -= call.bytes;
        }
    }

    /// The call will do nothing more, but its reply is still to be released.
    fn settle(&mut self, ticket: Ticket) {
        let Some(call) = self.calls.get_mut(&ticket) else { return };
        call.state = State::Done;
        let (seq, peer) = (call.seq, call.peer);
        let key = call.key.clone();
        match self.line(peer, key.as_ref()) {
            Some(line) => self.exits.done(&line, seq),
            None => self.exits.release(ticket, peer),
        }
    }

    /// Frees the slot and the key of a call that ran.
    fn stop(&mut self, ticket: Ticket) {
        let Some(call) = self.calls.get(&ticket) else { return };
        self.running -= 1;
        if call.state == State::Suspended {
            self.suspended -= 1;
        }
        if self.serializes(call.key.as_ref()) {
            let lane = self.lane(call.peer, call.key.as_ref());
            self.starts.free(lane);
        }
    }

    fn unqueue(&mut self, ticket: Ticket) {
        let Some(call) = self.calls.get(&ticket) else { return };
        let lane = self.lane(call.peer, call.key.as_ref());
        self.starts.remove(lane, call.seq);
        self.leave_queue(ticket);
    }

    fn start(&mut self) -> Option<Ticket> {
        if self.free_slots() == 0 {
            return None;
        }
        let ticket = self.starts.pop()?;
        self.leave_queue(ticket);
        self.calls.get_mut(&ticket)?.state = State::Running;
        self.running += 1;
        Some(ticket)
    }

    fn release(&mut self) -> Option<Ticket> {
        let ticket = self.exits.pop()?;
        let call = self.calls.remove(&ticket)?;
        if let Some(peer) = self.peers.get_mut(&call.peer) {
            peer.calls.remove(&ticket);
            if peer.calls.is_empty() {
                self.peers.remove(&call.peer);
            }
        }
        Some(ticket)
    }

    /// The peer of this call is gone, and no longer among the peers.
    fn orphan(&mut self, ticket: Ticket) {
        let Some(call) = self.calls.get_mut(&ticket) else { return };
        call.orphan = true;
        let (seq, peer, state, key) = (call.seq, call.peer, call.state, call.key.clone());
        if let Some(line) = self.line(peer, key.as_ref()) {
            self.exits.remove(&line, seq);
        }
        match state {
            State::Running | State::Suspended => return,
            State::Waiting => self.unqueue(ticket),
            State::Done => {}
        }
        self.calls.remove(&ticket);
    }
}

impl Scheduler for BuiltinScheduler {
    fn arrive(&mut self, call: Arrival<'_>) -> Result<(), Busy> {
        let Arrival { ticket, peer, key, bytes } = call;
        let key = key.is_given().then_some(key);
        let serialized = self.serializes(key);
        let lane = self.lane(peer, key);
        let queued = self.admit(&call, &lane, serialized).map_err(|reason| Busy { reason })?;
        let seq = self.arrivals;
        self.arrivals += 1;
        if let Some(line) = self.line(peer, key) {
            self.exits.line_up(line, seq, ticket, peer);
        }
        self.starts.push(lane, serialized, seq, ticket, peer);
        let account = self.peers.entry(peer).or_default();
        account.calls.insert(ticket);
        if queued {
            account.queued += 1;
            account.queued_bytes += bytes;
        }
        let key = key.cloned();
        let state = State::Waiting;
        self.calls.insert(ticket, Call { seq, peer, key, bytes, queued, orphan: false, state });
        self.waiting += 1;
        Ok(())
    }

    fn finish(&mut self, call: Ticket) {
        if self.withdraw(call) != Withdrawn::Running {
            return;
        }
        self.stop(call);
        if self.calls.get(&call).is_some_and(|call| call.orphan) {
            self.calls.remove(&call);
        } else {
            self.settle(call);
        }
    }

    fn withdraw(&mut self, call: Ticket) -> Withdrawn {
        match self.calls.get(&call).map(|call| call.state) {
            None | Some(State::Done) => Withdrawn::Unknown,
            Some(State::Running | State::Suspended) => Withdrawn::Running,
            Some(State::Waiting) => {
                self.unqueue(call);
                self.settle(call);
                Withdrawn::Waiting
            }
        }
    }

    fn forget_peer(&mut self, peer: PeerId) {
        if let Some(Peer { calls, .. }) = self.peers.remove(&peer) {
            for ticket in calls {
                self.orphan(ticket);
            }
            self.exits.forget(peer);
        }
        self.starts.unpause(peer);
    }

    fn suspend(&mut self, call: Ticket) {
        if let Some(call) = self.calls.get_mut(&call).filter(|call| call.state == State::Running) {
            call.state = State::Suspended;
            self.suspended += 1;
        }
    }

    fn resume(&mut self, call: Ticket) {
        if let Some(call) = self.calls.get_mut(&call).filter(|call| call.state == State::Suspended) {
            call.state = State::Running;
            self.suspended -= 1;
        }
    }

    fn pause(&mut self, peer: PeerId) {
        self.starts.pause(peer);
    }

    fn unpause(&mut self, peer: PeerId) {
        self.starts.unpause(peer);
    }

    fn may_leave(&self, call: Ticket) -> bool {
        let Some(open) = self.calls.get(&call) else { return true };
        self.line(open.peer, open.key.as_ref()).is_none_or(|line| self.exits.is_next(&line, call))
    }

    /// Releases come before starts: they free memory.
    fn poll(&mut self) -> Option<Action> {
        self.release().map(Action::Release).or_else(|| self.start().map(Action::Start))
    }

    fn running(&self) -> usize {
        self.running
    }

    fn waiting(&self) -> usize {
        self.waiting
    }

    fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.peers.is_empty() && self.starts.is_empty() && self.exits.is_empty()
    }
}
