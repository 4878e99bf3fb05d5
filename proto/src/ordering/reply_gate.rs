//! Keeps the replies with one key apart on one connection, so that the caller gets one after the other.
//!
//! The release queue decides when a reply may be sent. Sending a streamed reply takes time: until its last
//! byte has been sent, later replies with its key wait here (PROTOCOL.md, O-17). Example: the replies A (a
//! stream), B and C (small) with one key are released in this order. A passes, and is the leader; B and C
//! wait; when all of A has been sent, both pass.

use std::collections::BTreeMap;

use crate::OrderingKey;
use crate::queue::Queue;

/// The gate. `T` is a reply; each is identified by the number of its call.
#[derive(Debug)]
pub(crate) struct ReplyGate<T> {
    /// The keys for which a stream is being sent. A tree, because peers choose the keys.
    keys: BTreeMap<OrderingKey, KeyQueue<T>>,
    /// The key of each reply that waits, and its place in the queue of the key: a search by the number of its
    /// call would be O(n), and a peer can make many replies wait. Most of their calls are no longer in the
    /// table of calls.
    places: BTreeMap<u64, (OrderingKey, u64)>,
    next_place: u64,
    /// The sum of the sizes of all that wait.
    bytes: usize,
}

/// The replies with one key.
#[derive(Debug)]
struct KeyQueue<T> {
    /// The reply that is being sent.
    leader: u64,
    /// In the order of release.
    waiting: Queue<Reply<T>>,
}

#[derive(Debug)]
struct Reply<T> {
    number: u64,
    is_stream: bool,
    size: usize,
    item: T,
}

impl<T> Default for ReplyGate<T> {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), places: BTreeMap::new(), next_place: 0, bytes: 0 }
    }
}

impl<T> ReplyGate<T> {
    /// A reply of `size` bytes is released. Returns it if it passes; otherwise, it waits for the stream that is
    /// being sent.
    pub(crate) fn enter(
        &mut self,
        key: &OrderingKey,
        number: u64,
        is_stream: bool,
        size: usize,
        item: T,
    ) -> Option<T> {
        if let Some(queue) = self.keys.get_mut(key) {
            self.next_place += 1;
            queue.waiting.push(self.next_place, Reply { number, is_stream, size, item });
            self.bytes += size;
            self.places.insert(number, (key.clone(), self.next_place));
            return None;
        }
        // A reply in one message makes none wait: the send queue keeps the order of replies with one key.
        if is_stream {
            self.keys.insert(key.clone(), KeyQueue { leader: number, waiting: Queue::default() });
        }
        Some(item)
    }

    /// All of the reply to this call has been sent, or never will be. Returns the replies that may be sent
    /// now, in order.
    pub(crate) fn left(&mut self, key: &OrderingKey, number: u64) -> Vec<T> {
        let mut passing = Vec::new();
        // Only the leader's end counts. A streamed reply that ends while it waits leads nobody.
        let Some(queue) = self.keys.get_mut(key).filter(|queue| queue.leader == number) else {
            return passing;
        };
        while let Some(Reply { number, is_stream, size, item }) = queue.waiting.pop() {
            self.places.remove(&number);
            self.bytes -= size;
            passing.push(item);
            // The next stream leads those behind it.
            if is_stream {
                queue.leader = number;
                return passing;
            }
        }
        self.keys.remove(key);
        passing
    }

    /// Replaces a waiting stream by a reply in one message; returns the replaced one.
    pub(crate) fn replace(&mut self, number: u64, size: usize, item: T) -> Option<T> {
        let (key, place) = self.places.get(&number)?;
        let reply = self.keys.get_mut(key)?.waiting.get_mut(*place)?;
        self.bytes = self.bytes - reply.size + size;
        reply.size = size;
        // Once it passes, those behind it need not wait for its end.
        reply.is_stream = false;
        Some(std::mem::replace(&mut reply.item, item))
    }

    /// Removes a waiting reply, because its caller has given up.
    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let (key, place) = self.places.remove(&number)?;
        let reply = self.keys.get_mut(&key)?.waiting.remove(place)?;
        self.bytes -= reply.size;
        Some(reply.item)
    }

    /// The sum of the sizes of the replies that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The calls whose replies others wait for, with their keys.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn leaders(&self) -> impl Iterator<Item = (&OrderingKey, u64)> {
        self.keys.iter().map(|(key, queue)| (key, queue.leader))
    }

    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.keys.values().flat_map(|queue| queue.waiting.iter().map(|(_, reply)| &reply.item))
    }

    /// # Panics
    /// If a waiting reply has no place, a place no reply, or the sum of the sizes is wrong. `size` computes the
    /// size of a reply anew.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn audit(&self, size: impl Fn(&T) -> usize) {
        let waiting = self.keys.iter().flat_map(|(key, queue)| {
            queue.waiting.iter().map(move |(place, reply)| (reply.number, (key.clone(), place)))
        });
        assert_eq!(waiting.collect::<BTreeMap<_, _>>(), self.places, "places at the gate");
        assert_eq!(self.bytes, self.waiting().map(size).sum::<usize>(), "bytes at the gate");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> OrderingKey {
        OrderingKey::text("k")
    }

    fn passes(gate: &mut ReplyGate<char>, number: u64, is_stream: bool, item: char) -> bool {
        gate.enter(&key(), number, is_stream, 10, item) == Some(item)
    }

    #[test]
    fn replies_behind_a_stream_wait_for_its_end() {
        let mut gate = ReplyGate::default();
        assert!(passes(&mut gate, 1, false, 'a'), "nothing is before it");
        assert!(passes(&mut gate, 2, true, 'b'));
        assert!(!passes(&mut gate, 3, false, 'c'));
        assert!(!passes(&mut gate, 4, true, 'd'));
        assert!(!passes(&mut gate, 5, false, 'e'));
        assert_eq!(gate.enter(&OrderingKey::text("other"), 6, false, 10, 'f'), Some('f'));
        gate.audit(|_| 10);
        assert_eq!(gate.left(&key(), 3), [], "it does not lead");
        assert_eq!(gate.left(&key(), 2), ['c', 'd']);
        assert_eq!(gate.leaders().collect::<Vec<_>>(), [(&key(), 4)]);
        assert_eq!(gate.left(&key(), 4), ['e']);
        assert!(gate.is_empty() && gate.places.is_empty() && gate.bytes() == 0);
    }

    #[test]
    fn a_stream_that_fails_while_it_waits_leads_nothing() {
        let mut gate = ReplyGate::default();
        gate.enter(&key(), 1, true, 10, 'a');
        assert_eq!(gate.enter(&key(), 2, true, 10, 'b'), None, "it waits");
        gate.enter(&key(), 3, false, 10, 'c');
        assert_eq!((gate.replace(2, 3, 'x'), gate.bytes()), (Some('b'), 3 + 10));
        assert_eq!(gate.left(&key(), 1), ['x', 'c']);
        assert_eq!(gate.replace(2, 3, 'y'), None, "it has left");
        assert!(gate.is_empty() && gate.places.is_empty() && gate.bytes() == 0);
    }

    #[test]
    fn a_reply_that_is_taken_out_holds_up_nobody() {
        let mut gate = ReplyGate::default();
        gate.enter(&key(), 1, true, 10, 'a');
        assert_eq!(gate.enter(&key(), 2, true, 10, 'b'), None, "it waits");
        gate.enter(&key(), 3, false, 10, 'c');
        assert_eq!((gate.remove(2), gate.remove(2)), (Some('b'), None));
        assert_eq!(gate.left(&key(), 1), ['c']);
        assert!(gate.is_empty() && gate.places.is_empty() && gate.bytes() == 0);
    }

    /// If each was found by a linear search, this would take 10^10 steps.
    #[test]
    fn any_number_of_streams_can_fail_while_they_wait() {
        let mut gate = ReplyGate::default();
        gate.enter(&key(), 0, true, 10, 0);
        (1..=200_000).for_each(|number| assert_eq!(gate.enter(&key(), number, true, 10, number), None));
        for number in (1..=200_000).rev() {
            assert_eq!(gate.replace(number, 3, 0), Some(number));
        }
        assert_eq!(gate.left(&key(), 0).len(), 200_000);
        assert!(gate.is_empty() && gate.places.is_empty() && gate.bytes() == 0);
    }
}
