//! Keeps the replies of one key apart on one connection.
//!
//! The release queue decides when a reply may leave. A reply that is a stream then takes a while: until its last byte has left, later
//! replies with its key wait here, so that the caller gets one after the other (PROTOCOL.md, O-17). Example: replies A (a
//! stream), B and C (small) of one key are released in this order. A passes and leads; B and C wait; when A has left, both pass.

use std::collections::{BTreeMap, VecDeque};

use crate::OrderingKey;

/// Replies of type `T`, each named by the number of its call.
#[derive(Debug)]
pub(crate) struct ReplyGate<T> {
    /// The keys of which a stream is leaving. A tree, for peers choose the keys.
    keys: BTreeMap<OrderingKey, Line<T>>,
}

#[derive(Debug)]
struct Line<T> {
    leader: u64,
    waiting: VecDeque<Reply<T>>,
}

#[derive(Debug)]
struct Reply<T> {
    number: u64,
    is_stream: bool,
    item: T,
}

impl<T> Default for ReplyGate<T> {
    fn default() -> Self {
        Self { keys: BTreeMap::new() }
    }
}

impl<T> ReplyGate<T> {
    /// A reply is released. Gives it back if it may leave now; otherwise it waits.
    pub(crate) fn enter(&mut self, key: &OrderingKey, number: u64, is_stream: bool, item: T) -> Option<T> {
        if let Some(line) = self.keys.get_mut(key) {
            line.waiting.push_back(Reply { number, is_stream, item });
            return None;
        }
        if is_stream {
            self.keys.insert(key.clone(), Line { leader: number, waiting: VecDeque::new() });
        }
        Some(item)
    }

    /// The reply of this call has left, or will not. Gives back the replies that may leave now, in their order.
    pub(crate) fn left(&mut self, key: &OrderingKey, number: u64) -> Vec<T> {
        let mut passing = Vec::new();
        let Some(line) = self.keys.get_mut(key).filter(|line| line.leader == number) else { return passing };
        while let Some(Reply { number, is_stream, item }) = line.waiting.pop_front() {
            passing.push(item);
            if is_stream {
                line.leader = number;
                return passing;
            }
        }
        self.keys.remove(key);
        passing
    }

    /// The reply of this call, if it waits; `stays_stream` says whether it is one after the change.
    pub(crate) fn change(
        &mut self,
        key: &OrderingKey,
        number: u64,
        stays_stream: bool,
        change: impl FnOnce(&mut T),
    ) -> bool {
        let waiting = self.keys.get_mut(key).and_then(|line| {
            // The number of replies that wait is bounded by that of open requests, and changes are rare.
            line.waiting.iter_mut().find(|reply| reply.number == number)
        });
        let Some(reply) = waiting else { return false };
        reply.is_stream = stays_stream;
        change(&mut reply.item);
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
    }

    /// The calls that others wait for, with their keys.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn leaders(&self) -> impl Iterator<Item = (&OrderingKey, u64)> {
        self.keys.iter().map(|(key, line)| (key, line.leader))
    }

    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.keys.values().flat_map(|line| line.waiting.iter().map(|reply| &reply.item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> OrderingKey {
        OrderingKey::text("k")
    }

    #[test]
    fn replies_behind_a_stream_wait_for_its_end() {
        let mut gate = ReplyGate::default();
        assert_eq!(gate.enter(&key(), 1, false, 'a'), Some('a'), "nothing is before it");
        assert_eq!(gate.enter(&key(), 2, true, 'b'), Some('b'));
        assert_eq!(gate.enter(&key(), 3, false, 'c'), None);
        assert_eq!(gate.enter(&key(), 4, true, 'd'), None);
        assert_eq!(gate.enter(&key(), 5, false, 'e'), None);
        assert_eq!(gate.enter(&OrderingKey::text("other"), 6, false, 'f'), Some('f'));
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
        gate.enter(&key(), 2, true, 'b');
        gate.enter(&key(), 3, false, 'c');
        assert!(gate.change(&key(), 2, false, |item| *item = 'x'));
        assert!(!gate.change(&key(), 1, false, |_| unreachable!("it does not wait")));
        assert_eq!(gate.left(&key(), 1), ['x', 'c']);
        assert!(gate.is_empty());
    }
}
