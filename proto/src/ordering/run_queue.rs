//! Decides which waiting request starts next: round robin over connections, and over the queues of each
//! connection.
//!
//! A queue holds the waiting requests of one connection with one key, or without a key. If keys are
//! serialized, it holds those with one key from all connections, of which one runs at a time. A queue whose
//! first request could start is *offered* to the connection of that request. The connections that have
//! offers, are not paused, and hold less than their share of the slots form a ring.
//!
//! Example: with the queues `A: a1 a2`, `A/k: a3` and `B: b1`, the order is a1 b1 a3 a2, because a connection
//! that was served goes to the end of the ring, and its queue to the end of its offers. With a share of one
//! slot, only a1 and b1 start: A leaves the ring, and joins it at the end when a1 returns its slot.
//!
//! Not responsible for the number of slots in all: [`KeyOrder`](super::KeyOrder) counts them. All tables are
//! indexed by numbers that this side assigns, and no step iterates over one.

#[cfg(any(test, feature = "internals"))]
mod audit;

use std::collections::BTreeMap;

use super::keys::KeyId;
use super::release_queue::Seq;
use crate::ids::{ConnectionId, RequestId};
use crate::numbered::Numbered;
use crate::queue::Queue;

/// The queue in which a request waits to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum QueueId {
    /// Requests of one connection with one key, or without a key: all may run at the same time.
    Parallel(ConnectionId, Option<KeyId>),
    /// Requests with one key: one runs at a time.
    Serial(KeyId),
}

#[derive(Debug)]
pub(super) struct RunQueue {
    /// Slots that the handlers of one connection may hold.
    share: usize,
    /// The serial queues. A queue that is empty is taken.
    serial: Numbered<KeyQueue>,
    connections: Numbered<Offers>,
    /// The connections with offers that are not paused and hold less than their share.
    ring: Queue<ConnectionId>,
    /// Requests that would start now if enough slots were free.
    startable: usize,
    /// The next place in the ring or among the offers of a connection; ascending, so that it is at the end.
    next_place: u64,
}

#[derive(Debug, Default)]
struct KeyQueue {
    waiting: Waiting,
    offer: Option<Offer>,
}

#[derive(Debug)]
enum Waiting {
    /// Only ready requests. `late` holds the few that became ready after they arrived, and so perhaps after
    /// later ones.
    Parallel { ready: Queue<RequestId>, late: BTreeMap<Seq, RequestId> },
    /// All requests, and whether they are ready: an unready one delays those behind it. `taken` while one
    /// runs.
    Serial { all: Queue<(RequestId, bool)>, taken: bool },
}

/// The entry of a queue among the offers of the connection of its first request.
#[derive(Clone, Copy, Debug)]
struct Offer {
    connection: ConnectionId,
    place: u64,
    startable: usize,
}

/// A connection: the queues from which its requests can start, and its slots.
#[derive(Debug, Default)]
struct Offers {
    /// Its requests without a key.
    unkeyed: KeyQueue,
    /// Its requests with a key, unless keys are serialized. None of these queues is empty.
    keyed: Numbered<KeyQueue>,
    queues: Queue<QueueId>,
    /// Requests that could start from `queues`, disregarding pauses and slots.
    startable: usize,
    /// Slots held by its handlers.
    held: usize,
    paused: bool,
    /// Its place in the ring, if it is there.
    place: Option<u64>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self::Parallel { ready: Queue::default(), late: BTreeMap::new() }
    }
}

impl Offers {
    /// Slots that it may still take out of its share.
    fn left(&self, share: usize) -> usize {
        if self.paused { 0 } else { share.saturating_sub(self.held) }
    }

    /// Its requests that would start now if enough slots were free.
    fn startable_now(&self, share: usize) -> usize {
        self.startable.min(self.left(share))
    }
}

impl Waiting {
    fn push(&mut self, seq: Seq, request: RequestId, is_ready: bool) {
        match self {
            Self::Parallel { ready, .. } if is_ready => ready.push(seq, request),
            // It delays no other request, so it needs no place before it is ready.
            Self::Parallel { .. } => {}
            Self::Serial { all, .. } => all.push(seq, (request, is_ready)),
        }
    }

    /// An unready request has become ready.
    fn ready(&mut self, seq: Seq, request: RequestId) {
        match self {
            // A `Queue` takes ascending numbers only, and later requests may be in `ready`.
            Self::Parallel { late, .. } => drop(late.insert(seq, request)),
            Self::Serial { all, .. } => {
                if let Some((_, is_ready)) = all.get_mut(seq) {
                    *is_ready = true;
                }
            }
        }
    }

    fn remove(&mut self, seq: Seq) {
        match self {
            Self::Parallel { ready, late } => {
                if ready.remove(seq).is_none() {
                    late.remove(&seq);
                }
            }
            Self::Serial { all, .. } => drop(all.remove(seq)),
        }
    }

    /// Takes the first request, to start it. A serial queue is taken from then on.
    fn pop(&mut self) -> Option<RequestId> {
        match self {
            Self::Parallel { ready, late } => {
                let first_late = late.first_key_value().map(|(seq, _)| *seq);
                // O-8: in the order of arrival, whichever of the two it is in.
                let is_late =
                    first_late.is_some_and(|late| ready.front().is_none_or(|(first, _)| late < first));
                match is_late {
                    true => late.pop_first().map(|(_, request)| request),
                    false => ready.pop(),
                }
            }
            Self::Serial { all, taken } => {
                let (request, _) = all.pop()?;
                *taken = true;
                Some(request)
            }
        }
    }

    /// The connection that can start requests from this queue, and how many, disregarding pauses and slots.
    fn startable(&self, id: QueueId) -> Option<(ConnectionId, usize)> {
        match (self, id) {
            (Self::Parallel { ready, late }, QueueId::Parallel(connection, _)) => {
                let startable = ready.len() + late.len();
                (startable > 0).then_some((connection, startable))
            }
            // Only the front, and only if it is ready: an unready request delays those behind it.
            (Self::Serial { all, taken: false }, _) => {
                let (_, (request, is_ready)) = all.front()?;
                is_ready.then_some((request.connection(), 1))
            }
            // O-4: one request of a serial queue runs, so no other starts.
            _ => None,
        }
    }

    fn is_unused(&self) -> bool {
        match self {
            Self::Parallel { ready, late } => ready.is_empty() && late.is_empty(),
            // While a request runs, the queue shows that its key is taken, even if it is empty.
            Self::Serial { all, taken } => all.is_empty() && !taken,
        }
    }
}

impl RunQueue {
    /// `share` is the number of slots that one connection may hold.
    pub(super) fn new(share: usize) -> Self {
        Self {
            share,
            serial: Numbered::default(),
            connections: Numbered::default(),
            ring: Queue::default(),
            startable: 0,
            next_place: 0,
        }
    }

    /// Requests that would start now if enough slots were free.
    pub(super) fn startable(&self) -> usize {
        self.startable
    }

    /// Whether a ready request could start at once if it arrived now and enough slots were free.
    pub(super) fn would_be_startable(&self, id: QueueId, connection: ConnectionId) -> bool {
        let is_free = match id {
            QueueId::Parallel(..) => true,
            // A serial queue only exists while its key is taken or requests wait for it.
            QueueId::Serial(key) => !self.serial.contains(key.0),
        };
        is_free && self.has_slot_left(connection)
    }

    /// The same for a waiting request that was pushed unready, if it became ready now.
    pub(super) fn would_become_startable(&self, id: QueueId, seq: Seq, connection: ConnectionId) -> bool {
        let is_next = match self.get(id).map(|queue| &queue.waiting) {
            Some(Waiting::Serial { all, taken }) => {
                !taken && all.front().is_some_and(|(first, _)| first == seq)
            }
            // A parallel queue has no place for an unready request, and may not exist.
            Some(Waiting::Parallel { .. }) | None => true,
        };
        is_next && self.has_slot_left(connection)
    }

    /// Whether the connection would have a slot left in its share after starting all its startable requests.
    fn has_slot_left(&self, connection: ConnectionId) -> bool {
        let offers = self.connections.get(connection.0);
        offers.is_none_or(|offers| offers.startable < offers.left(self.share))
    }

    pub(super) fn push(&mut self, id: QueueId, seq: Seq, request: RequestId, is_ready: bool) {
        self.queue(id).waiting.push(seq, request, is_ready);
        self.refresh(id);
    }

    /// A request that was pushed unready has become ready.
    pub(super) fn ready(&mut self, id: QueueId, seq: Seq, request: RequestId) {
        // Creates the queue if it was dropped: an unready request has no place in a parallel queue.
        self.queue(id).waiting.ready(seq, request);
        self.refresh(id);
    }

    pub(super) fn remove(&mut self, id: QueueId, seq: Seq) {
        if let Some(queue) = self.get_mut(id) {
            queue.waiting.remove(seq);
            self.refresh(id);
        }
    }

    /// The running request of a serial queue has ended.
    pub(super) fn free(&mut self, id: QueueId) {
        if let Some(KeyQueue { waiting: Waiting::Serial { taken, .. }, .. }) = self.get_mut(id) {
            *taken = false;
            self.refresh(id);
        }
    }

    /// Takes the next request to start. It holds a slot of its connection from then on.
    pub(super) fn pop(&mut self) -> Option<RequestId> {
        // A connection in the ring has an offer, and an offered queue a request: only the ring can be empty.
        let (_, &connection) = self.ring.front()?;
        let offers = self.connections.get_mut(connection.0)?;
        self.startable -= offers.startable_now(self.share);
        let (_, &id) = offers.queues.front()?;
        let queue = match id {
            QueueId::Parallel(_, None) => &mut offers.unkeyed,
            QueueId::Parallel(_, Some(key)) => offers.keyed.get_mut(key.0)?,
            QueueId::Serial(key) => self.serial.get_mut(key.0)?,
        };
        let request = queue.waiting.pop();
        let offered = queue.offer.take().map_or(0, |offer| offer.startable);
        // Nothing for a serial queue: it is taken from now on.
        let left = queue.waiting.startable(id).map_or(0, |(_, startable)| startable);
        (offers.held, offers.startable) = (offers.held + 1, offers.startable - offered + left);
        // Round robin: if more can start, the queue and the connection go to the end.
        self.next_place += 1;
        if left > 0 {
            queue.offer = Some(Offer { connection, place: self.next_place, startable: left });
            offers.queues.rotate(self.next_place);
        } else {
            offers.queues.pop();
        }
        let startable = offers.startable_now(self.share);
        self.startable += startable;
        if startable > 0 {
            offers.place = Some(self.next_place);
            self.ring.rotate(self.next_place);
        } else {
            offers.place = None;
            self.ring.pop();
        }
        self.drop_if_unused(id);
        request
    }

    /// A handler of this connection takes its slot back, even past the share.
    pub(super) fn take_slot(&mut self, connection: ConnectionId) {
        self.change(connection, |offers| offers.held += 1);
    }

    /// A handler of this connection has ended, or lends its slot.
    pub(super) fn return_slot(&mut self, connection: ConnectionId) {
        self.change(connection, |offers| offers.held -= 1);
    }

    pub(super) fn pause(&mut self, connection: ConnectionId) {
        // Even before its first request, which must not start, either.
        self.connections.get_or_insert_with(connection.0, Offers::default);
        self.change(connection, |offers| offers.paused = true);
    }

    pub(super) fn unpause(&mut self, connection: ConnectionId) {
        self.change(connection, |offers| offers.paused = false);
    }

    /// Frees memory that is kept for future requests of this connection.
    pub(super) fn shrink(&mut self, connection: ConnectionId) {
        if let Some(offers) = self.connections.get_mut(connection.0) {
            offers.queues.shrink();
            offers.keyed.shrink();
            if let Waiting::Parallel { ready, .. } = &mut offers.unkeyed.waiting {
                ready.shrink();
            }
        }
    }

    /// Drops a connection that has no waiting requests. Its running handlers must not return slots any more.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.connections.remove(connection.0);
    }

    /// The queue with this id, which is created if there is none.
    fn queue(&mut self, id: QueueId) -> &mut KeyQueue {
        match id {
            QueueId::Parallel(connection, key) => {
                let offers = self.connections.get_or_insert_with(connection.0, Offers::default);
                match key {
                    None => &mut offers.unkeyed,
                    Some(key) => offers.keyed.get_or_insert_with(key.0, KeyQueue::default),
                }
            }
            QueueId::Serial(key) => self.serial.get_or_insert_with(key.0, || {
                let waiting = Waiting::Serial { all: Queue::default(), taken: false };
                KeyQueue { waiting, offer: None }
            }),
        }
    }

    fn get(&self, id: QueueId) -> Option<&KeyQueue> {
        match id {
            QueueId::Parallel(connection, None) => Some(&self.connections.get(connection.0)?.unkeyed),
            QueueId::Parallel(connection, Some(key)) => self.connections.get(connection.0)?.keyed.get(key.0),
            QueueId::Serial(key) => self.serial.get(key.0),
        }
    }

    fn get_mut(&mut self, id: QueueId) -> Option<&mut KeyQueue> {
        match id {
            QueueId::Parallel(connection, None) => Some(&mut self.connections.get_mut(connection.0)?.unkeyed),
            QueueId::Parallel(connection, Some(key)) => {
                self.connections.get_mut(connection.0)?.keyed.get_mut(key.0)
            }
            QueueId::Serial(key) => self.serial.get_mut(key.0),
        }
    }

    /// Updates the offer of a queue after a change. It keeps its place unless another connection is at the
    /// front.
    fn refresh(&mut self, id: QueueId) {
        let Some(queue) = self.get_mut(id) else { return };
        match (&mut queue.offer, queue.waiting.startable(id)) {
            (Some(offer), Some((connection, startable))) if offer.connection == connection => {
                // It keeps its place: otherwise, steady arrivals could delay it for ever.
                let before = std::mem::replace(&mut offer.startable, startable);
                self.change(connection, |offers| offers.startable = offers.startable - before + startable);
            }
            (_, wanted) => {
                // The front is now of another connection, or there is none, so the offer loses its place.
                self.retract(id);
                match wanted {
                    Some((connection, startable)) => self.offer(id, connection, startable),
                    None => self.drop_if_unused(id),
                }
            }
        }
    }

    fn offer(&mut self, id: QueueId, connection: ConnectionId, startable: usize) {
        let place = self.take_place();
        if let Some(queue) = self.get_mut(id) {
            queue.offer = Some(Offer { connection, place, startable });
        }
        self.connections.get_or_insert_with(connection.0, Offers::default).queues.push(place, id);
        self.change(connection, |offers| offers.startable += startable);
    }

    fn retract(&mut self, id: QueueId) {
        let Some(offer) = self.get_mut(id).and_then(|queue| queue.offer.take()) else { return };
        self.change(offer.connection, |offers| {
            offers.queues.remove(offer.place);
            offers.startable -= offer.startable;
        });
    }

    /// Changes a connection, and updates the count of startable requests and its place in the ring.
    fn change(&mut self, connection: ConnectionId, change: impl FnOnce(&mut Offers)) {
        let Some(offers) = self.connections.get_mut(connection.0) else { return };
        // Subtracted before and added after: a pause or a slot changes how many of its requests count.
        self.startable -= offers.startable_now(self.share);
        change(offers);
        let startable = offers.startable_now(self.share);
        self.startable += startable;
        match (startable > 0, offers.place) {
            // At the end, so that it gains nothing by leaving the ring and joining it again.
            (true, None) => {
                self.next_place += 1;
                offers.place = Some(self.next_place);
                self.ring.push(self.next_place, connection);
            }
            (false, Some(place)) => {
                offers.place = None;
                self.ring.remove(place);
            }
            _ => {}
        }
    }

    /// Drops the queue of a key that has no requests any more.
    fn drop_if_unused(&mut self, id: QueueId) {
        let unused = |queue: &KeyQueue| queue.waiting.is_unused();
        match id {
            // A field of its connection.
            QueueId::Parallel(_, None) => {}
            _ if !self.get(id).is_some_and(unused) => {}
            QueueId::Parallel(connection, Some(key)) => {
                let offers = self.connections.get_mut(connection.0);
                offers.into_iter().for_each(|offers| offers.keyed.discard(key.0));
            }
            QueueId::Serial(key) => self.serial.discard(key.0),
        }
    }

    fn take_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }
}
