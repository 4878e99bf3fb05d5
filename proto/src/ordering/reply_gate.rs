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
    keys: BTreeMap<OrderingKey, Line<T>>,
    next_place: u64,
}

#[derive(Debug)]
struct Line<T> {
    leader: u64,
    /// In the order of release. The caller keeps the [`GatePlace`] of a reply that it may replace or remove:
    /// a search would be O(n), and a peer can make many replies wait.
    waiting: Queue<Reply<T>>,
}

#[derive(Debug)]
struct Reply<T> {
    number: u64,
    is_stream: bool,
    item: T,
}

/// The place of a reply that waits at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GatePlace(u64);

/// Whether a released reply passes the gate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entered<T> {
    /// The reply may be sent now.
    Passes(T),
    Waits(GatePlace),
}

impl<T> Default for ReplyGate<T> {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), next_place: 0 }
    }
}

impl<T> ReplyGate<T> {
    /// A reply is released. It passes, or waits for the stream that is being sent.
    pub(crate) fn enter(&mut self, key: &OrderingKey, number: u64, is_stream: bool, item: T) -> Entered<T> {
        if let Some(line) = self.keys.get_mut(key) {
            self.next_place += 1;
            line.waiting.push(self.next_place, Reply { number, is_stream, item });
            return Entered::Waits(GatePlace(self.next_place));
        }
        // A reply in one message makes none wait: the send queue keeps the order of replies with one key.
        if is_stream {
            self.keys.insert(key.clone(), Line { leader: number, waiting: Queue::default() });
        }
        Entered::Passes(item)
    }

    /// All of the reply to this call has been sent, or never will be. Returns the replies that may be sent
    /// now, in order.
    pub(crate) fn left(&mut self, key: &OrderingKey, number: u64) -> Vec<T> {
        let mut passing = Vec::new();
        // Only the leader's end counts. A streamed reply that ends while it waits leads nobody.
        let Some(line) = self.keys.get_mut(key).filter(|line| line.leader == number) else { return passing };
        while let Some(Reply { number, is_stream, item }) = line.waiting.pop() {
            passing.push(item);
            // The next stream leads those behind it.
            if is_stream {
                line.leader = number;
                return passing;
            }
        }
        self.keys.remove(key);
        passing
    }

    /// Replaces a waiting stream by a reply in one message; returns the replaced one.
    pub(crate) fn replace(&mut self, key: &OrderingKey, place: GatePlace, item: T) -> Option<T> {
        let reply = self.keys.get_mut(key)?.waiting.get_mut(place.0)?;
        // Once it passes, those behind it need not wait for its end.
        reply.is_stream = false;
        Some(std::mem::replace(&mut reply.item, item))
    }

    /// Removes a waiting reply, because its caller has given up.
    pub(crate) fn remove(&mut self, key: &OrderingKey, place: GatePlace) -> Option<T> {
        Some(self.keys.get_mut(key)?.waiting.remove(place.0)?.item)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
    }

    /// The calls whose replies others wait for, with their keys.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn leaders(&self) -> impl Iterator<Item = (&OrderingKey, u64)> {
        self.keys.iter().map(|(key, line)| (key, line.leader))
    }

    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.keys.values().flat_map(|line| line.waiting.iter().map(|(_, reply)| &reply.item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> OrderingKey {
        OrderingKey::text("k")
    }

    fn passes(gate: &mut ReplyGate<char>, number: u64, is_stream: bool, item: char) -> bool {
        gate.enter(&key(), number, is_stream, item) == Entered::Passes(item)
    }

    #[test]
    fn replies_behind_a_stream_wait_for_its_end() {
        let mut gate = ReplyGate::default();
        assert!(passes(&mut gate, 1, false, 'a'), "nothing is before it");
        assert!(passes(&mut gate, 2, true, 'b'));
        assert!(!passes(&mut gate, 3, false, 'c'));
        assert!(!passes(&mut gate, 4, true, 'd'));
        assert!(!passes(&mut gate, 5, false, 'e'));
        assert_eq!(gate.enter(&OrderingKey::text("other"), 6, false, 'f'), Entered::Passes('f'));
        assert_eq!(gate.left(&key(), 3), [], "it does not lead");
        assert_eq!(gate.left(&key(), 2), ['c', 'd']);
        assert_eq!(gate.leaders().collect::<Vec<_>>(), [(&key(), 4)]);
        assert_eq!(gate.left(&key(), 4), ['e']);
        assert!(gate.is_empty());
    }

    #[test]
    fn a_stream_that_fails_while_it_waits_leads_nothing() {
        let mut gate = ReplyGate::default();
        gate.enter(&key(), 1, true, 'a');
        let Entered::Waits(place) = gate.enter(&key(), 2, true, 'b') else { panic!("it waits") };
        gate.enter(&key(), 3, false, 'c');
        assert_eq!(gate.replace(&key(), place, 'x'), Some('b'));
        assert_eq!(gate.left(&key(), 1), ['x', 'c']);
        assert_eq!(gate.replace(&key(), place, 'y'), None, "it has left");
        assert!(gate.is_empty());
    }

    #[test]
    fn a_reply_that_is_taken_out_holds_up_nobody() {
        let mut gate = ReplyGate::default();
        gate.enter(&key(), 1, true, 'a');
        let Entered::Waits(place) = gate.enter(&key(), 2, true, 'b') else { panic!("it waits") };
        gate.enter(&key(), 3, false, 'c');
        assert_eq!((gate.remove(&key(), place), gate.remove(&key(), place)), (Some('b'), None));
        assert_eq!(gate.left(&key(), 1), ['c']);
        assert!(gate.is_empty());
    }

    /// If each was found by a linear search, this would take 10^10 steps.
    #[test]
    fn any_number_of_streams_can_fail_while_they_wait() {
        let mut gate = ReplyGate::default();
        gate.enter(&key(), 0, true, 0);
        let places: Vec<_> = (1..=200_000)
            .map(|number| match gate.enter(&key(), number, true, number) {
                Entered::Waits(place) => place,
                Entered::Passes(_) => panic!("it waits"),
            })
            .collect();
        for (number, place) in (1..=200_000_u64).rev().zip(places.into_iter().rev()) {
            assert_eq!(gate.replace(&key(), place, 0), Some(number));
        }
        assert_eq!(gate.left(&key(), 0).len(), 200_000);
        assert!(gate.is_empty());
    }
}
