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
//! Every step is O(log n) amortized, whatever others have waiting; [`forget`](Budget::forget) is O(own bodies).

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
    /// The connections whose first waiting body fits into their own limit, in the order in which it began to.
    line: Queue<ConnectionId>,
    /// For the line, and for the bodies of each connection.
    next_place: u64,
}

#[derive(Debug, Default)]
struct Share {
    granted: usize,
    bodies: FxHashMap<StreamId, Body>,
    waiting: Queue<StreamId>,
    /// Its place in the line.
    place: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Waiting { bytes: usize, place: u64 },
    Granted { bytes: usize },
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
            line: Queue::default(),
            next_place: 0,
        }
    }

    /// A body of so many bytes waits from now on. Ignored if the same stream has one already.
    pub(super) fn want(&mut self, connection: ConnectionId, stream: StreamId, bytes: usize) {
        let place = self.take_place();
        let share = self.connections.entry(connection).or_default();
        if share.bodies.contains_key(&stream) {
            return;
        }
        share.bodies.insert(stream, Body::Waiting { bytes, place });
        share.waiting.push(place, stream);
        self.line_up(connection);
    }

    /// A body needs no memory any more, or does not wait for any.
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
        if share.bodies.is_empty() {
            self.forget(connection);
        } else {
            self.line_up(connection);
        }
    }

    /// All bodies of a connection have ended.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        let Some(share) = self.connections.remove(&connection) else { return };
        self.granted -= share.granted;
        if let Some(place) = share.place {
            self.line.remove(place);
        }
    }

    /// The next body for which there is memory.
    pub(super) fn poll(&mut self) -> Option<(ConnectionId, StreamId)> {
        let (_, &connection) = self.line.front()?;
        let share = self.connections.get_mut(&connection)?;
        let (_, &stream) = share.waiting.front()?;
        let body = share.bodies.get_mut(&stream)?;
        let &mut Body::Waiting { bytes, .. } = body else { return None };
        if !fits(bytes, self.granted, self.limit) {
            return None;
        }
        *body = Body::Granted { bytes };
        share.waiting.pop();
        share.granted += bytes;
        share.place = None;
        self.granted += bytes;
        self.line.pop();
        self.line_up(connection);
        Some((connection, stream))
    }

    /// Brings a connection's place in the line in step with its first waiting body. It keeps the place if that gives up and
    /// the next one fits too.
    fn line_up(&mut self, connection: ConnectionId) {
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
                self.line.push(self.next_place, connection);
            }
            (false, Some(place)) => {
                share.place = None;
                self.line.remove(place);
            }
            _ => {}
        }
    }

    fn take_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
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
            let (mut bytes, mut count, mut largest) = (0, 0, 0);
            for body in share.bodies.values() {
                if let Body::Granted { bytes: of } = body {
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
        assert_eq!(self.line.len(), placed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.granted == 0 && self.line.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CallId;

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);
    const C: ConnectionId = ConnectionId(3);

    fn stream(number: u64) -> StreamId {
        CallId(number).into()
    }

    struct Tested(Budget);

    impl Tested {
        fn new(limit_per_connection: usize, limit: usize) -> Self {
            Self(Budget::new(limit_per_connection, limit))
        }

        fn want(&mut self, connection: ConnectionId, number: u64, bytes: usize) -> Vec<u64> {
            self.0.want(connection, stream(number), bytes);
            self.granted()
        }

        fn end(&mut self, connection: ConnectionId, number: u64) -> Vec<u64> {
            self.0.end(connection, stream(number));
            self.granted()
        }

        fn granted(&mut self) -> Vec<u64> {
            self.0.audit();
            let granted = std::iter::from_fn(|| self.0.poll());
            let numbers = granted
                .map(|(_, stream)| match stream {
                    StreamId::Call(CallId(number)) => number,
                    StreamId::Request(_) => unreachable!("there are none"),
                })
                .collect();
            self.0.audit();
            numbers
        }
    }

    #[test]
    fn the_example_of_the_header() {
        let mut budget = Tested::new(60, 100);
        assert_eq!(budget.want(A, 50, 50), [50]);
        assert_eq!(
            [budget.want(A, 40, 40), budget.want(A, 10, 10), budget.want(B, 60, 60)].concat(),
            [0_u64; 0]
        );
        assert_eq!(budget.end(A, 50), [60, 40]);
        assert_eq!(budget.end(B, 60), [10]);
        assert_eq!([budget.end(A, 40), budget.end(A, 10)].concat(), [0_u64; 0]);
        assert!(budget.0.is_empty());
    }

    #[test]
    fn memory_goes_round_in_order_and_comes_back() {
        let mut budget = Tested::new(100, 100);
        assert_eq!(budget.want(A, 1, 60), [1]);
        assert_eq!(budget.want(B, 2, 50), [0_u64; 0]);
        assert_eq!(budget.want(C, 3, 10), [0_u64; 0], "it does not overtake");
        assert_eq!(budget.end(A, 1), [2, 3]);
        assert_eq!(budget.want(A, 4, 40), [4], "to the byte");
        assert_eq!(budget.want(A, 5, 1), [0_u64; 0]);
    }

    #[test]
    fn a_body_that_gives_up_holds_up_nobody() {
        let mut budget = Tested::new(100, 100);
        assert_eq!(budget.want(A, 1, 60), [1]);
        assert_eq!(
            [budget.want(B, 2, 50), budget.want(B, 3, 30), budget.want(C, 4, 10)].concat(),
            [0_u64; 0]
        );
        assert_eq!(budget.end(B, 2), [3, 4], "the next of its connection has its place");
        assert_eq!(budget.want(B, 5, 70), [0_u64; 0]);
        assert_eq!(budget.want(C, 6, 1), [0_u64; 0], "it waits behind B");
        assert_eq!(budget.end(A, 1), [0_u64; 0]);
        assert_eq!([budget.end(C, 4), budget.end(B, 3)].concat(), [5, 6]);
    }

    #[test]
    fn a_body_that_waits_for_its_own_connection_holds_up_no_other() {
        let mut budget = Tested::new(50, 100);
        assert_eq!(budget.want(A, 1, 50), [1]);
        assert_eq!([budget.want(A, 2, 50), budget.want(A, 3, 1)].concat(), [0_u64; 0], "in its order");
        assert_eq!(budget.want(B, 4, 50), [4]);
        assert_eq!(budget.end(A, 1), [2]);
        assert_eq!(budget.end(A, 2), [3]);
    }

    #[test]
    fn one_alone_may_be_larger_than_a_limit() {
        let mut budget = Tested::new(50, 100);
        assert_eq!(budget.want(A, 1, usize::MAX), [1]);
        assert_eq!([budget.want(A, 2, 1), budget.want(B, 3, 1)].concat(), [0_u64; 0]);
        assert_eq!(budget.end(A, 1), [3, 2], "A's second began to wait for the total last");
        assert_eq!(budget.want(B, 4, 60), [0_u64; 0], "not while it has another");
        assert_eq!(budget.end(B, 3), [4]);
        assert_eq!(budget.want(C, 5, 1_000), [0_u64; 0]);
        assert_eq!([budget.end(A, 2), budget.end(B, 4)].concat(), [5]);
    }

    #[test]
    fn bodies_of_a_connection_that_is_gone_hold_up_nobody() {
        let mut budget = Tested::new(100, 100);
        assert_eq!(budget.want(A, 1, 70), [1]);
        assert_eq!([budget.want(A, 2, 30), budget.want(A, 3, 30)].concat(), [2]);
        assert_eq!(budget.want(B, 4, 100), [0_u64; 0]);
        budget.0.forget(A);
        assert_eq!(budget.granted(), [4]);
        assert_eq!(budget.end(A, 1), [0_u64; 0]);
        budget.0.forget(B);
        assert!(budget.0.is_empty());
    }

    #[test]
    fn a_stream_has_one_body_and_unknown_ones_are_ignored() {
        let mut budget = Tested::new(100, 100);
        budget.0.end(A, stream(1));
        budget.0.forget(A);
        assert_eq!(budget.want(A, 1, 60), [1]);
        assert_eq!(budget.want(A, 1, 10), [0_u64; 0], "it has one");
        assert_eq!(budget.want(A, 2, 50), [0_u64; 0]);
        assert_eq!(budget.want(A, 2, 1), [0_u64; 0], "it waits already");
        assert_eq!(budget.end(A, 1), [2]);
    }

    #[test]
    fn a_connection_with_many_bodies_shares_with_others() {
        let mut budget = Tested::new(100, 10);
        assert_eq!(budget.want(A, 0, 10), [0]);
        (1..100).for_each(|number| assert_eq!(budget.want(A, number, 10), [0_u64; 0]));
        assert_eq!(budget.want(B, 100, 10), [0_u64; 0]);
        assert_eq!(budget.end(A, 0), [1]);
        assert_eq!(budget.end(A, 1), [100], "one of A's at a time is before it");
    }
}
