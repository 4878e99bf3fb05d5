//! Memory for the bodies that are reassembled: who may go on, and who waits.
//!
//! Responsible for two limits, one of each connection and one of all together; not for the memory itself. The idea: the bodies of
//! a connection wait in a queue of their own, and only the first of each waits for the others' memory. So a peer waits for itself
//! first, and holds up others with one body at most.
//!
//! Example, with limits of 60 per connection and 100 in all: A reassembles 50, and wants 40 and 10 besides; B wants 60. A's 40 waits
//! for A's 50, and the 10 behind it. B's 60 waits for the total (50 + 60 > 100). When the 50 ends, B goes first, because its
//! body began to wait for the total first; then A's 40, which makes 100; then the 10 waits for the total.
//!
//! The argument of a request that has not started stays in memory when it is complete: it is *parked* until the start, which may wait
//! for a handler that itself waits for a body. So what is parked holds up only later arguments of its own connection, and takes
//! nothing of the total: a connection has up to its limit parked, and as much under reassembly. Nothing waits for itself then.
//! What is under reassembly ends in time whatever others do; an argument waits besides for starts of earlier requests only, and those
//! wait for handlers and earlier requests.
//!
//! Every step is O(log n) amortized, whatever others have waiting; [`forget`](Budget::forget) is O(own bodies).

#[cfg(test)]
mod tests;

use rustc_hash::FxHashMap;

use crate::ids::{ConnectionId, StreamId};
use crate::queue::Queue;

#[derive(Debug)]
pub(super) struct Budget {
    limit_per_connection: usize,
    limit: usize,
    /// Bytes that all connections have been granted. At most the limit, or what one alone has.
    granted: usize,
    connections: FxHashMap<ConnectionId, Share>,
    /// The connections whose first waiting body of a kind fits into their own limit, in the order in which it began to.
    queue: Queue<(ConnectionId, Kind)>,
    /// In that queue, and among the waiting bodies of a connection.
    next_place: u64,
}

/// What a body is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request that has not started, and is to start with all of it.
    Argument,
    /// A request that runs, or a call.
    Other,
}

const KINDS: [Kind; 2] = [Kind::Argument, Kind::Other];

#[derive(Debug, Default)]
struct Share {
    granted: usize,
    parked: usize,
    bodies: FxHashMap<StreamId, Body>,
    /// For each kind.
    queues: [Waiting; 2],
}

#[derive(Debug, Default)]
struct Waiting {
    bodies: Queue<StreamId>,
    /// The connection's place among those that wait for the total.
    place: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Body {
    kind: Kind,
    bytes: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting { place: u64 },
    Granted,
    Parked,
}

impl Share {
    /// What its own limit has to hold besides the next body of this kind.
    fn counted(&self, kind: Kind) -> usize {
        match kind {
            Kind::Argument => self.granted + self.parked,
            Kind::Other => self.granted,
        }
    }
}

/// One alone may be larger than the limit, or it would never be reassembled.
fn fits(bytes: usize, granted: usize, limit: usize) -> bool {
    granted == 0 || bytes <= limit.saturating_sub(granted)
}

impl Budget {
    /// Limits in bytes.
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

    /// A body of so many bytes waits from now on. Ignored if the same stream has one already.
    pub(super) fn want(&mut self, connection: ConnectionId, stream: StreamId, bytes: usize, kind: Kind) {
        self.next_place += 1;
        let place = self.next_place;
        let share = self.connections.entry(connection).or_default();
        if share.bodies.contains_key(&stream) {
            return;
        }
        share.bodies.insert(stream, Body { kind, bytes, state: State::Waiting { place } });
        share.queues[kind as usize].bodies.push(place, stream);
        self.requeue(connection);
    }

    /// An argument is complete, and its request waits to start.
    pub(super) fn park(&mut self, connection: ConnectionId, stream: StreamId) {
        let Some(share) = self.connections.get_mut(&connection) else { return };
        let Some(body) = share.bodies.get_mut(&stream) else { return };
        if (body.kind, body.state) != (Kind::Argument, State::Granted) {
            return;
        }
        body.state = State::Parked;
        share.granted -= body.bytes;
        share.parked += body.bytes;
        self.granted -= body.bytes;
        self.requeue(connection);
    }

    /// A body needs no memory any more, or does not wait for any.
    pub(super) fn end(&mut self, connection: ConnectionId, stream: StreamId) {
        let Some(share) = self.connections.get_mut(&connection) else { return };
        let Some(Body { kind, bytes, state }) = share.bodies.remove(&stream) else { return };
        match state {
            State::Granted => {
                share.granted -= bytes;
                self.granted -= bytes;
            }
            State::Parked => share.parked -= bytes,
            State::Waiting { place } => drop(share.queues[kind as usize].bodies.remove(place)),
        }
        if share.bodies.is_empty() {
            self.forget(connection);
        } else {
            self.requeue(connection);
        }
    }

    /// All bodies of a connection have ended.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        let Some(share) = self.connections.remove(&connection) else { return };
        self.granted -= share.granted;
        for place in share.queues.iter().filter_map(|waiting| waiting.place) {
            self.queue.remove(place);
        }
    }

    /// The next body for which there is memory.
    pub(super) fn poll(&mut self) -> Option<(ConnectionId, StreamId)> {
        let (_, &(connection, kind)) = self.queue.front()?;
        let share = self.connections.get_mut(&connection)?;
        let waiting = &mut share.queues[kind as usize];
        let (_, &stream) = waiting.bodies.front()?;
        let body = share.bodies.get_mut(&stream)?;
        if !fits(body.bytes, self.granted, self.limit) {
            return None;
        }
        body.state = State::Granted;
        waiting.bodies.pop();
        waiting.place = None;
        share.granted += body.bytes;
        self.granted += body.bytes;
        self.queue.pop();
        self.requeue(connection);
        Some((connection, stream))
    }

    /// Gives a connection places among those that wait for the total, or takes them away, as its first waiting bodies have it.
    /// The connection keeps a place if that body ends and the next one fits too.
    fn requeue(&mut self, connection: ConnectionId) {
        let Some(share) = self.connections.get_mut(&connection) else { return };
        for kind in KINDS {
            let counted = share.counted(kind);
            let waiting = &mut share.queues[kind as usize];
            let first = waiting.bodies.front().and_then(|(_, stream)| share.bodies.get(stream));
            let is_next = first.is_some_and(|body| fits(body.bytes, counted, self.limit_per_connection));
            match (is_next, waiting.place) {
                (true, None) => {
                    self.next_place += 1;
                    waiting.place = Some(self.next_place);
                    self.queue.push(self.next_place, (connection, kind));
                }
                (false, Some(place)) => {
                    waiting.place = None;
                    self.queue.remove(place);
                }
                _ => {}
            }
        }
    }
}

#[cfg(any(test, feature = "internals"))]
impl Budget {
    /// # Panics
    /// If the tables contradict each other, or a limit is exceeded by more than one alone.
    pub(super) fn audit(&self) {
        let mut all = (0, 0);
        for (connection, share) in &self.connections {
            assert!(!share.bodies.is_empty(), "{connection} is left behind");
            let of = |state: State| {
                let bodies = share.bodies.values().filter(move |body| body.state == state && body.bytes > 0);
                bodies.fold((0, 0), |(bytes, count), body| (bytes + body.bytes, count + 1))
            };
            let ((granted, count), (parked, parked_count)) = (of(State::Granted), of(State::Parked));
            assert_eq!((share.granted, share.parked), (granted, parked));
            let limit = self.limit_per_connection;
            assert!(granted <= limit || count == 1, "{connection} has {granted}");
            assert!(parked <= limit || parked_count == 1, "{connection} has {parked} parked");
            for kind in KINDS {
                let waits = |body: &&Body| body.kind == kind && matches!(body.state, State::Waiting { .. });
                let queue = &share.queues[kind as usize];
                assert_eq!(queue.bodies.len(), share.bodies.values().filter(waits).count());
                assert!(queue.place.is_none() || queue.bodies.len() > 0);
            }
            all = (all.0 + granted, all.1 + count);
        }
        assert_eq!(self.granted, all.0);
        assert!(self.granted <= self.limit || all.1 == 1, "all have {}", self.granted);
        let queues = self.connections.values().flat_map(|share| &share.queues);
        assert_eq!(self.queue.len(), queues.filter(|waiting| waiting.place.is_some()).count());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.granted == 0 && self.queue.is_empty()
    }
}
