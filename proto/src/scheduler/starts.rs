//! Which waiting call starts next: round robin over peers, and over the lanes of each peer.

use std::collections::{BTreeMap, BTreeSet};

use super::builtin::Lane;
use super::exits::Seq;
use crate::ids::{PeerId, Ticket};

/// A place in a round robin: the lowest is next, who was served goes to the end.
type Turn = u64;

/// Calls that have not started, and the keys that running ones hold.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// None is both free and empty.
    lanes: BTreeMap<Lane, Queue>,
    /// The peers with ready lanes, paused or not.
    ready: BTreeMap<PeerId, Ready>,
    /// Those of them that are not paused.
    ring: BTreeMap<Turn, PeerId>,
    paused: BTreeSet<PeerId>,
    startable: usize,
    next_turn: Turn,
    /// The only startable call, if it came last and needs no lane: it most often starts before the next one comes, and
    /// so never makes a lane.
    solo: Option<Solo>,
}

#[derive(Debug)]
struct Solo {
    lane: Lane,
    seq: Seq,
    ticket: Ticket,
    peer: PeerId,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<Seq, (Ticket, PeerId)>,
    serialized: bool,
    /// A running call of a serialized lane holds it.
    held: bool,
    /// Set while the lane is among the ready ones of the peer of its first call.
    offer: Option<Offer>,
}

#[derive(Clone, Copy, Debug)]
struct Offer {
    peer: PeerId,
    turn: Turn,
    startable: usize,
}

#[derive(Debug, Default)]
struct Ready {
    lanes: BTreeMap<Turn, Lane>,
    startable: usize,
    /// Its place in the ring.
    turn: Option<Turn>,
}

impl Queue {
    /// The peer that could start calls from here, and how many but for pause and slots.
    fn wanted(&self) -> Option<(PeerId, usize)> {
        let (_, &(_, peer)) = self.waiting.first_key_value()?;
        (!self.held).then_some((peer, if self.serialized { 1 } else { self.waiting.len() }))
    }
}

impl Starts {
    /// Calls that would start now if slots were free.
    pub(super) fn startable(&self) -> usize {
        self.startable + usize::from(self.solo.is_some())
    }

    /// Whether a call that arrived now would be startable.
    pub(super) fn would_be_startable(&self, lane: &Lane, serialized: bool, peer: PeerId) -> bool {
        !self.paused.contains(&peer) && (!serialized || !self.lanes.contains_key(lane))
    }

    /// Only calls of one peer may share a lane that is not serialized.
    pub(super) fn push(&mut self, lane: Lane, serialized: bool, seq: Seq, ticket: Ticket, peer: PeerId) {
        self.give_solo_a_lane();
        if self.startable == 0 && !serialized && !self.paused.contains(&peer) {
            self.solo = Some(Solo { lane, seq, ticket, peer });
        } else {
            self.line_up(lane, serialized, seq, ticket, peer);
        }
    }

    /// Before anything but its start happens.
    fn give_solo_a_lane(&mut self) {
        if let Some(Solo { lane, seq, ticket, peer }) = self.solo.take() {
            self.line_up(lane, false, seq, ticket, peer);
        }
    }

    fn line_up(&mut self, lane: Lane, serialized: bool, seq: Seq, ticket: Ticket, peer: PeerId) {
        let queue = self.lanes.entry(lane.clone()).or_default();
        queue.serialized = serialized;
        queue.waiting.insert(seq, (ticket, peer));
        self.refresh(lane);
    }

    pub(super) fn remove(&mut self, lane: Lane, seq: Seq) {
        self.give_solo_a_lane();
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.waiting.remove(&seq);
            self.refresh(lane);
        }
    }

    /// The running call of a serialized lane has ended.
    pub(super) fn free(&mut self, lane: Lane) {
        self.give_solo_a_lane();
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.held = false;
            self.refresh(lane);
        }
    }

    /// Takes the call whose turn it is; a serialized lane is held from then on.
    pub(super) fn pop(&mut self) -> Option<Ticket> {
        if let Some(solo) = self.solo.take() {
            return Some(solo.ticket);
        }
        let (_, peer) = self.ring.pop_first()?;
        let ready = self.ready.get_mut(&peer)?;
        ready.turn = None;
        let lane = ready.lanes.first_key_value()?.1.clone();
        self.retract(&lane);
        let queue = self.lanes.get_mut(&lane)?;
        let (_, (ticket, _)) = queue.waiting.pop_first()?;
        queue.held = queue.serialized;
        self.refresh(lane);
        self.seat(peer);
        Some(ticket)
    }

    pub(super) fn pause(&mut self, peer: PeerId) {
        self.give_solo_a_lane();
        if !self.paused.insert(peer) {
            return;
        }
        if let Some(ready) = self.ready.get_mut(&peer) {
            self.startable -= ready.startable;
            if let Some(turn) = ready.turn.take() {
                self.ring.remove(&turn);
            }
        }
    }

    pub(super) fn unpause(&mut self, peer: PeerId) {
        self.give_solo_a_lane();
        if !self.paused.remove(&peer) {
            return;
        }
        if let Some(ready) = self.ready.get(&peer) {
            self.startable += ready.startable;
            self.seat(peer);
        }
    }

    /// Whether no call waits and no key is held.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.ready.is_empty() && self.ring.is_empty() && self.startable() == 0
    }

    #[cfg(test)]
    pub(super) fn remembers_pauses(&self) -> bool {
        !self.paused.is_empty()
    }

    /// Brings a lane's offer in line with its queue. It keeps its turn as long as the peer is the same.
    fn refresh(&mut self, lane: Lane) {
        let Some(queue) = self.lanes.get_mut(&lane) else { return };
        let wanted = queue.wanted();
        match (&mut queue.offer, wanted) {
            (Some(offer), Some((peer, startable))) if offer.peer == peer => {
                let had = std::mem::replace(&mut offer.startable, startable);
                if let Some(ready) = self.ready.get_mut(&peer) {
                    ready.startable = ready.startable - had + startable;
                    if ready.turn.is_some() {
                        self.startable = self.startable - had + startable;
                    }
                }
            }
            (had, _) => {
                if had.is_some() {
                    self.retract(&lane);
                }
                match wanted {
                    Some((peer, startable)) => self.offer(lane, peer, startable),
                    None => self.drop_if_unused(&lane),
                }
            }
        }
    }

    fn offer(&mut self, lane: Lane, peer: PeerId, startable: usize) {
        let turn = self.take_turn();
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.offer = Some(Offer { peer, turn, startable });
        }
        let ready = self.ready.entry(peer).or_default();
        ready.lanes.insert(turn, lane);
        ready.startable += startable;
        if !self.paused.contains(&peer) {
            self.startable += startable;
        }
        self.seat(peer);
    }

    fn retract(&mut self, lane: &Lane) {
        let Some(offer) = self.lanes.get_mut(lane).and_then(|queue| queue.offer.take()) else { return };
        if !self.paused.contains(&offer.peer) {
            self.startable -= offer.startable;
        }
        let Some(ready) = self.ready.get_mut(&offer.peer) else { return };
        ready.lanes.remove(&offer.turn);
        ready.startable -= offer.startable;
        if ready.lanes.is_empty() {
            if let Some(turn) = ready.turn {
                self.ring.remove(&turn);
            }
            self.ready.remove(&offer.peer);
        }
    }

    /// Puts a peer at the end of the ring, if it belongs there and is not there yet.
    fn seat(&mut self, peer: PeerId) {
        if self.paused.contains(&peer) {
            return;
        }
        let turn = self.take_turn();
        if let Some(ready) = self.ready.get_mut(&peer).filter(|ready| ready.turn.is_none()) {
            ready.turn = Some(turn);
            self.ring.insert(turn, peer);
        }
    }

    fn drop_if_unused(&mut self, lane: &Lane) {
        if self.lanes.get(lane).is_some_and(|queue| queue.waiting.is_empty() && !queue.held) {
            self.lanes.remove(lane);
        }
    }

    fn take_turn(&mut self) -> Turn {
        self.next_turn += 1;
        self.next_turn
    }
}
