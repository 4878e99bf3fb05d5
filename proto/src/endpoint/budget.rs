//! Memory for bodies under reassembly: which body gets memory now, and which waits.
//!
//! Responsible for two limits, one per connection and one for all of them; not for allocating the memory. The
//! idea: each connection has a queue of its bodies, and only the first of each queue waits for the total. So
//! a connection first waits for its own bodies, and delays others by one body at most.
//!
//! Example, with limits of 60 per connection and 100 in all: A reassembles 50, and wants 40 and then 10; B
//! wants 60. A's 40 waits for A's 50, and the 10 waits behind the 40. B's 60 waits for the total (50 + 60 >
//! 100). When the 50 is complete, B gets memory first, because its body was the first to wait for the total;
//! then A's 40, which makes 100; then A's 10 waits for the total.
//!
//! Every step is O(log n) amortized, independent of other connections; [`forget`](Budget::forget) is O(bodies
//! of the connection).

#[cfg(test)]
mod tests;

use rustc_hash::FxHashMap;

use crate::ids::{ConnectionId, StreamId};
use crate::queue::Queue;

// Hashed without a random seed: this side assigns the ids, so a peer can't choose any that collide.
#[derive(Debug)]
pub(super) struct Budget {
    limit_per_connection: usize,
    limit: usize,
    /// Bytes granted to all connections. At most the limit, unless there is only one body.
    granted: usize,
    connections: FxHashMap<ConnectionId, Share>,
    /// The connections whose first waiting body fits into their own limit, in the order in which they began
    /// to wait for the total.
    queue: Queue<ConnectionId>,
    /// Orders both this queue and the queues of the connections.
    next_place: u64,
}

#[derive(Debug, Default)]
struct Share {
    granted: usize,
    bodies: FxHashMap<StreamId, Body>,
    waiting: Queue<StreamId>,
    /// The place of the connection in [`Budget::queue`].
    place: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Waiting { bytes: usize, place: u64 },
    Granted { bytes: usize },
}

/// Whether a body fits into a limit. A single body may exceed it, because otherwise it would never be
/// reassembled.
fn fits(bytes: usize, granted: usize, limit: usize) -> bool {
    granted == 0 || bytes <= limit.saturating_sub(granted)
}

impl Budget {
    /// Both limits are in bytes.
    pub(super) fn new(limit_per_connection: usize, limit: usize) -> Self {
        Self {
            limit_per_connection,
            limit,
            granted: 0,
            connections: FxHashMap::default(),
            queue: Queue::default(),
            next_place: 0,
        }
    }

    /// A body of `bytes` bytes waits for memory. Ignored if the same stream already has a body.
    pub(super) fn want(&mut self, connection: ConnectionId, stream: StreamId, bytes: usize) {
        self.next_place += 1;
        let place = self.next_place;
        let share = self.connections.entry(connection).or_default();
        // Counted twice, the memory would be returned only once.
        if share.bodies.contains_key(&stream) {
            return;
        }
        share.bodies.insert(stream, Body::Waiting { bytes, place });
        share.waiting.push(place, stream);
        self.requeue(connection);
    }

    /// A body has ended: frees its memory, or its place in the queue. Ignored if it is unknown.
    pub(super) fn end(&mut self, connection: ConnectionId, stream: StreamId) {
        let Some(share) = self.connections.get_mut(&connection) else { return };
        match share.bodies.remove(&stream) {
            None => return,
            Some(Body::Granted { bytes }) => {
                share.granted -= bytes;
                self.granted -= bytes;
            }
            Some(Body::Waiting { place, .. }) => drop(share.waiting.remove(place)),
        }
        // No entry without bodies, so that the table does not grow with the connections that had some.
        if share.bodies.is_empty() {
            self.forget(connection);
        } else {
            self.requeue(connection);
        }
    }

    /// The connection has ended: drops all of its bodies.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        let Some(share) = self.connections.remove(&connection) else { return };
        self.granted -= share.granted;
        if let Some(place) = share.place {
            self.queue.remove(place);
        }
    }

    /// Grants memory to the next body for which there is some.
    #[inline]
    pub(super) fn poll(&mut self) -> Option<(ConnectionId, StreamId)> {
        let (_, &connection) = self.queue.front()?;
        let share = self.connections.get_mut(&connection)?;
        let (_, &stream) = share.waiting.front()?;
        let body = share.bodies.get_mut(&stream)?;
        // Always so: `waiting` only has bodies that wait.
        let &mut Body::Waiting { bytes, .. } = body else { return None };
        // Strictly first in, first out: smaller bodies that would fit must not starve this one.
        if !fits(bytes, self.granted, self.limit) {
            return None;
        }
        *body = Body::Granted { bytes };
        share.waiting.pop();
        share.granted += bytes;
        // The next body of this connection waits behind those of the others.
        share.place = None;
        self.granted += bytes;
        self.queue.pop();
        self.requeue(connection);
        Some((connection, stream))
    }

    /// Queues a connection for the total if its first waiting body fits into its own limit, and otherwise
    /// removes it. It keeps its place if that body ends and the next one fits, too.
    fn requeue(&mut self, connection: ConnectionId) {
        let Some(share) = self.connections.get_mut(&connection) else { return };
        let first = share.waiting.front().and_then(|(_, stream)| share.bodies.get(stream));
        let is_next = match first {
            Some(Body::Waiting { bytes, .. }) => fits(*bytes, share.granted, self.limit_per_connection),
            _ => false,
        };
        match (is_next, share.place) {
            (true, None) => {
                self.next_place += 1;
                share.place = Some(self.next_place);
                self.queue.push(self.next_place, connection);
            }
            // Its next body waits for the limit of the connection, which must not delay the others.
            (false, Some(place)) => {
                share.place = None;
                self.queue.remove(place);
            }
            _ => {}
        }
    }
}

#[cfg(any(test, feature = "internals"))]
impl Budget {
    /// # Panics
    /// If the tables contradict each other, or more than one body together exceed a limit.
    pub(super) fn audit(&self) {
        let mut all = (0, 0);
        for (connection, share) in &self.connections {
            assert!(!share.bodies.is_empty(), "{connection} is left behind");
            let (mut bytes, mut count, mut largest) = (0, 0, 0);
            for body in share.bodies.values() {
                if let Body::Granted { bytes: of } = body {
                    // A body without bytes fits beside one that exceeds the limit.
                    (bytes, count, largest) = (bytes + of, count + usize::from(*of > 0), largest.max(*of));
                }
            }
            assert_eq!(share.granted, bytes);
            assert!(bytes <= self.limit_per_connection || count == 1, "{connection} has {bytes}");
            let waiting = share.bodies.values().filter(|body| matches!(body, Body::Waiting { .. })).count();
            assert_eq!(share.waiting.len(), waiting);
            assert!(share.place.is_none() || waiting > 0);
            all = (all.0 + bytes, all.1 + count);
        }
        assert_eq!(self.granted, all.0);
        assert!(self.granted <= self.limit || all.1 == 1, "all have {}", self.granted);
        let placed = self.connections.values().filter(|share| share.place.is_some()).count();
        assert_eq!(self.queue.len(), placed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.granted == 0 && self.queue.is_empty()
    }
}
