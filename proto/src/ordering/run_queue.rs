//! Which waiting request starts next: round robin over connections, and over the queues of each connection.
//!
//! A queue holds the waiting requests of one connection with one key, or without a key; or, where keys are serialized, those
//! of one key from all connections, of which one runs at a time. A queue whose first request could start is *offered* to
//! the connection of that request; the connections with offers that are not paused, and hold less than their share of the slots,
//! form a ring. With queues `A: a1 a2`, `A/k: a3` and `B: b1`, the order is a1 b1 a3 a2: the connection that was served goes to the
//! end of the ring, and its queue to the end of its offers. With a share of one slot, only a1 and b1 start: A leaves the ring, and
//! joins it again at the end when a1 gives its slot back.
//!
//! All tables are hashed by ids that this side assigns, and none is iterated over. How many slots there are in all is counted
//! elsewhere.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::keys::KeyId;
use super::release_queue::Seq;
use crate::ids::{ConnectionId, RequestId};
use crate::kept::LITTLE;
use crate::numbered::Numbered;
use crate::queue::Queue;

/// Where a request waits for its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum QueueId {
    /// Requests of one connection with one key, or without: all may run at the same time.
    Parallel(ConnectionId, Option<KeyId>),
    /// Requests of one key: one runs at a time.
    Serial(KeyId),
}

#[derive(Debug)]
pub(super) struct RunQueue {
    /// Slots that the handlers of one connection may hold.
    share: usize,
    /// Those with a key. None is both free and empty.
    keyed: FxHashMap<QueueId, KeyQueue>,
    connections: Numbered<Offers>,
    /// The connections that have offers, are not paused, and hold less than their share.
    ring: Queue<ConnectionId>,
    /// Requests that would start now if slots were free.
    startable: usize,
    /// In the ring and among the offers of a connection: one that has been served goes to the end.
    next_place: u64,
}

#[derive(Debug, Default)]
struct KeyQueue {
    waiting: Waiting,
    offer: Option<Offer>,
}

#[derive(Debug)]
enum Waiting {
    /// Those that are ready. The tree holds the few that became ready after later ones had come.
    Parallel { ready: Queue<RequestId, LITTLE>, late: BTreeMap<Seq, RequestId> },
    /// All of them, and whether they are ready: one that is not holds up those behind it.
    Serial { all: Queue<(RequestId, bool), LITTLE>, taken: bool },
}

/// A queue among the offers of the connection of its first request.
#[derive(Clone, Copy, Debug)]
struct Offer {
    connection: ConnectionId,
    place: u64,
    startable: usize,
}

/// The offers of one connection.
#[derive(Debug, Default)]
struct Offers {
    /// Its requests without a key.
    unkeyed: KeyQueue,
    queues: Queue<QueueId, LITTLE>,
    /// Requests that could start from these, apart from pauses and slots.
    startable: usize,
    /// Slots that its handlers hold.
    held: usize,
    paused: bool,
    /// Its place in the ring.
    place: Option<u64>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self::Parallel { ready: Queue::default(), late: BTreeMap::new() }
    }
}

impl Offers {
    /// Slots that it may take, out of a share of so many.
    fn left(&self, share: usize) -> usize {
        if self.paused { 0 } else { share.saturating_sub(self.held) }
    }

    /// How many of its requests would start now if slots were free.
    fn startable_now(&self, share: usize) -> usize {
        self.startable.min(self.left(share))
    }
}

impl Waiting {
    fn new(id: QueueId) -> Self {
        match id {
            QueueId::Parallel(..) => Self::default(),
            QueueId::Serial(_) => Self::Serial { all: Queue::default(), taken: false },
        }
    }

    fn push(&mut self, seq: Seq, request: RequestId, is_ready: bool) {
        match self {
            Self::Parallel { ready, .. } if is_ready => ready.push(seq, request),
            // It holds up nobody, so it needs no place before it is ready.
            Self::Parallel { .. } => {}
            Self::Serial { all, .. } => all.push(seq, (request, is_ready)),
        }
    }

    /// A request that was not ready is.
    fn ready(&mut self, seq: Seq, request: RequestId) {
        match self {
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

    /// Takes the first, which may start. From then on a serial queue is taken.
    fn pop(&mut self) -> Option<RequestId> {
        match self {
            Self::Parallel { ready, late } => {
                let first_late = late.first_key_value().map(|(seq, _)| *seq);
                let is_late =
                    first_late.is_some_and(|late| ready.front().is_none_or(|(first, _)| late < first));
                if is_late { late.pop_first() } else { ready.pop() }.map(|(_, request)| request)
            }
            Self::Serial { all, taken } => {
                let (_, (request, _)) = all.pop()?;
                *taken = true;
                Some(request)
            }
        }
    }

    /// The connection that can start requests from here, and how many, apart from pauses and slots.
    fn startable(&self, id: QueueId) -> Option<(ConnectionId, usize)> {
        match (self, id) {
            (Self::Parallel { ready, late }, QueueId::Parallel(connection, _)) => {
                let startable = ready.len() + late.len();
                (startable > 0).then_some((connection, startable))
            }
            (Self::Serial { all, taken: false }, _) => {
                let (_, (request, is_ready)) = all.front()?;
                is_ready.then_some((request.connection(), 1))
            }
            _ => None,
        }
    }

    fn is_unused(&self) -> bool {
        match self {
            Self::Parallel { ready, late } => ready.is_empty() && late.is_empty(),
            Self::Serial { all, taken } => all.is_empty() && !taken,
        }
    }
}

impl RunQueue {
    /// `share` is how many slots one connection may hold.
    pub(super) fn new(share: usize) -> Self {
        Self {
            share,
            keyed: FxHashMap::default(),
            connections: Numbered::default(),
            ring: Queue::default(),
            startable: 0,
            next_place: 0,
        }
    }

    /// Requests that would start now if slots were free.
    pub(super) fn startable(&self) -> usize {
        self.startable
    }

    /// Whether a request that arrived now, and was ready, would be startable.
    pub(super) fn would_be_startable(&self, id: QueueId, connection: ConnectionId) -> bool {
        let is_free = matches!(id, QueueId::Parallel(..)) || !self.keyed.contains_key(&id);
        is_free && self.has_slot_left(connection)
    }

    /// Whether a request that was pushed unready would be startable if it was ready.
    pub(super) fn would_become_startable(&self, id: QueueId, seq: Seq, connection: ConnectionId) -> bool {
        let is_next = match self.keyed.get(&id).map(|queue| &queue.waiting) {
            Some(Waiting::Serial { all, taken }) => {
                !taken && all.front().is_some_and(|(first, _)| first == seq)
            }
            Some(Waiting::Parallel { .. }) | None => true,
        };
        is_next && self.has_slot_left(connection)
    }

    /// Whether the connection has a slot left in its share once all has started that it could start already.
    fn has_slot_left(&self, connection: ConnectionId) -> bool {
        let offers = self.connections.get(connection.0);
        offers.is_none_or(|offers| offers.startable < offers.left(self.share))
    }

    pub(super) fn push(&mut self, id: QueueId, seq: Seq, request: RequestId, is_ready: bool) {
        self.queue(id).waiting.push(seq, request, is_ready);
        self.refresh(id);
    }

    /// A request that was pushed unready is ready.
    pub(super) fn ready(&mut self, id: QueueId, seq: Seq, request: RequestId) {
        // Its queue may have been dropped meanwhile, if it is parallel.
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

    /// Takes the next request to start, which holds a slot from then on.
    pub(super) fn pop(&mut self) -> Option<RequestId> {
        let (_, connection) = self.ring.pop()?;
        let offers = self.connections.get_mut(connection.0)?;
        self.startable -= offers.startable_now(self.share);
        let (_, id) = offers.queues.pop()?;
        let queue = match id {
            QueueId::Parallel(_, None) => &mut offers.unkeyed,
            _ => self.keyed.get_mut(&id)?,
        };
        let request = queue.waiting.pop();
        let offered = queue.offer.take().map_or(0, |offer| offer.startable);
        let left = queue.waiting.startable(id).map_or(0, |(_, startable)| startable);
        (offers.held, offers.startable) = (offers.held + 1, offers.startable - offered + left);
        // The queue goes to the end, if more can start from it, and so does the connection.
        if left > 0 {
            self.next_place += 1;
            queue.offer = Some(Offer { connection, place: self.next_place, startable: left });
            offers.queues.push(self.next_place, id);
        }
        let startable = offers.startable_now(self.share);
        self.startable += startable;
        offers.place = (startable > 0).then(|| {
            self.next_place += 1;
            self.ring.push(self.next_place, connection);
            self.next_place
        });
        self.drop_if_unused(id);
        request
    }

    /// A handler of this connection holds one slot more, even past its share.
    pub(super) fn take_slot(&mut self, connection: ConnectionId) {
        self.change(connection, |offers| offers.held += 1);
    }

    /// A handler of this connection has given its slot back.
    pub(super) fn return_slot(&mut self, connection: ConnectionId) {
        self.change(connection, |offers| offers.held -= 1);
    }

    pub(super) fn pause(&mut self, connection: ConnectionId) {
        self.connections.get_or_insert_default(connection.0);
        self.change(connection, |offers| offers.paused = true);
    }

    pub(super) fn unpause(&mut self, connection: ConnectionId) {
        self.change(connection, |offers| offers.paused = false);
    }

    /// Drops what is kept of a connection none of whose requests waits any more. Those that run return no slot to it.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.connections.remove(connection.0);
    }

    /// The queue with this name, which is made if there is none.
    fn queue(&mut self, id: QueueId) -> &mut KeyQueue {
        match id {
            QueueId::Parallel(connection, None) => {
                &mut self.connections.get_or_insert_default(connection.0).unkeyed
            }
            _ => {
                let queue = || KeyQueue { waiting: Waiting::new(id), offer: None };
                self.keyed.entry(id).or_insert_with(queue)
            }
        }
    }

    fn get_mut(&mut self, id: QueueId) -> Option<&mut KeyQueue> {
        match id {
            QueueId::Parallel(connection, None) => Some(&mut self.connections.get_mut(connection.0)?.unkeyed),
            _ => self.keyed.get_mut(&id),
        }
    }

    /// Brings a queue's offer in line with what waits. It keeps its place as long as the connection is the same.
    fn refresh(&mut self, id: QueueId) {
        let Some(queue) = self.get_mut(id) else { return };
        match (&mut queue.offer, queue.waiting.startable(id)) {
            (Some(offer), Some((connection, startable))) if offer.connection == connection => {
                let before = std::mem::replace(&mut offer.startable, startable);
                self.change(connection, |offers| offers.startable = offers.startable - before + startable);
            }
            (_, wanted) => {
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
        self.connections.get_or_insert_default(connection.0).queues.push(place, id);
        self.change(connection, |offers| offers.startable += startable);
    }

    fn retract(&mut self, id: QueueId) {
        let Some(offer) = self.get_mut(id).and_then(|queue| queue.offer.take()) else { return };
        self.change(offer.connection, |offers| {
            offers.queues.remove(offer.place);
            offers.startable -= offer.startable;
        });
    }

    /// Changes what a connection could start, and brings the count of all and its place in the ring in line with that.
    fn change(&mut self, connection: ConnectionId, change: impl FnOnce(&mut Offers)) {
        let Some(offers) = self.connections.get_mut(connection.0) else { return };
        self.startable -= offers.startable_now(self.share);
        change(offers);
        let startable = offers.startable_now(self.share);
        self.startable += startable;
        match (startable > 0, offers.place) {
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

    /// A key is dropped with its last request.
    fn drop_if_unused(&mut self, id: QueueId) {
        if !matches!(id, QueueId::Parallel(_, None))
            && self.keyed.get(&id).is_some_and(|queue| queue.waiting.is_unused())
        {
            self.keyed.remove(&id);
        }
    }

    fn take_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }
}

#[cfg(any(test, feature = "internals"))]
impl RunQueue {
    /// Checks that all tables say the same; returns whether nothing waits and no key is taken.
    ///
    /// # Panics
    /// If they don't.
    pub(super) fn audit(&self) -> bool {
        let mut startable = 0;
        let (mut offered, mut offers_of_all) = (0, 0);
        for (connection, offers) in self.connections.iter() {
            let connection = ConnectionId(connection);
            let queues = offers.queues.iter().map(|(place, id)| match id {
                QueueId::Parallel(_, None) => (place, *id, &offers.unkeyed),
                _ => (place, *id, &self.keyed[id]),
            });
            offered += usize::from(offers.unkeyed.offer.is_some());
            offers_of_all += offers.queues.len();
            let mut sum = 0;
            for (place, id, queue) in queues {
                let offer = queue.offer.expect("an offer that its queue does not know");
                assert_eq!((offer.connection, offer.place), (connection, place));
                assert_eq!(queue.waiting.startable(id), Some((connection, offer.startable)));
                sum += offer.startable;
            }
            assert_eq!(offers.startable, sum);
            assert_eq!(offers.place.is_some(), offers.startable_now(self.share) > 0);
            startable += offers.startable_now(self.share);
        }
        assert_eq!(self.startable, startable);
        offered += self.keyed.values().filter(|queue| queue.offer.is_some()).count();
        assert_eq!(offered, offers_of_all);
        let placed = self.connections.iter().filter(|(_, offers)| offers.place.is_some()).count();
        assert_eq!(self.ring.len(), placed);
        for (id, queue) in &self.keyed {
            assert!(!queue.waiting.is_unused(), "{id:?} is left behind");
        }
        self.keyed.is_empty() && self.connections.iter().all(|(_, offers)| offers.unkeyed.waiting.is_unused())
    }

    /// Slots that the handlers of this connection hold.
    pub(super) fn held(&self, connection: ConnectionId) -> usize {
        self.connections.get(connection.0).map_or(0, |offers| offers.held)
    }

    /// What is kept of connections.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.connections.len() + self.keyed.len()
    }
}
