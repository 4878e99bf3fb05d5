//! A queue ordered by ascending keys, such as numbers, from which any value can be removed.
//!
//! A `VecDeque` to which only ascending keys are appended is sorted, so a value is found by binary search.
//! Removing a value leaves a gap. Gaps at both ends are dropped at once, the others when there are more gaps
//! than values: 1 2 3 4 5 without 2, 3 and 4 is kept as `1 _ _ _ 5`, and becomes `5` when 1 is taken. Every
//! step is O(log n) amortized, and none allocates while the queue stays short, unlike in a tree. A value that is added to
//! an empty queue has a place of its own, so that a queue of one value, such as that of a key, needs no memory besides.

use std::collections::VecDeque;

use crate::kept::{free_if_empty, kept_capacity, shrink_if_empty};

/// This many gaps are kept in any case: closing fewer does not pay.
pub(crate) const FEW_GAPS: usize = 16;

#[derive(Debug)]
pub(crate) struct Queue<T, K = u64> {
    /// The value that was added when the queue was empty.
    first: Option<(K, T)>,
    /// The values behind it with their keys, and gaps. Neither the first nor the last is a gap.
    rest: VecDeque<(K, Option<T>)>,
    /// Values in `rest`.
    others: usize,
}

impl<T, K> Default for Queue<T, K> {
    fn default() -> Self {
        Self { first: None, rest: VecDeque::new(), others: 0 }
    }
}

impl<T, K: Copy + Ord> Queue<T, K> {
    pub(crate) fn len(&self) -> usize {
        self.others + usize::from(self.first.is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others == 0
    }

    /// Adds a value at the end. The key must be larger than the [last](Self::last).
    pub(crate) fn push(&mut self, key: K, value: T) {
        debug_assert!(self.last().is_none_or(|last| last < key), "keys ascend");
        if self.is_empty() {
            self.first = Some((key, value));
        } else {
            self.rest.push_back((key, Some(value)));
            self.others += 1;
        }
    }

    pub(crate) fn front(&self) -> Option<(K, &T)> {
        if let Some((key, value)) = &self.first {
            return Some((*key, value));
        }
        // `tidy` leaves no gap at the front.
        let (key, value) = self.rest.front()?;
        Some((*key, value.as_ref()?))
    }

    /// The largest key.
    pub(crate) fn last(&self) -> Option<K> {
        self.rest.back().map(|(last, _)| *last).or_else(|| self.front().map(|(first, _)| first))
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        if let Some((_, value)) = self.first.take() {
            return Some(value);
        }
        let (_, value) = self.rest.pop_front()?;
        self.others -= 1;
        self.tidy();
        value
    }

    /// Moves the first value to the end, under a new key.
    pub(crate) fn rotate(&mut self, key: K) {
        if let Some(value) = self.pop() {
            self.push(key, value);
        }
    }

    pub(crate) fn get(&self, key: K) -> Option<&T> {
        if self.is_first(key) {
            return self.first.as_ref().map(|(_, value)| value);
        }
        self.rest.get(self.find(key)?)?.1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut T> {
        if self.is_first(key) {
            return self.first.as_mut().map(|(_, value)| value);
        }
        let at = self.find(key)?;
        self.rest.get_mut(at)?.1.as_mut()
    }

    #[inline]
    pub(crate) fn remove(&mut self, key: K) -> Option<T> {
        if self.is_first(key) {
            return self.first.take().map(|(_, value)| value);
        }
        let at = self.find(key)?;
        let value = self.rest.get_mut(at)?.1.take()?;
        self.others -= 1;
        while self.rest.back().is_some_and(|(_, value)| value.is_none()) {
            self.rest.pop_back();
        }
        self.tidy();
        Some(value)
    }

    /// Frees memory that is kept for future values.
    pub(crate) fn shrink(&mut self) {
        free_if_empty(&mut self.rest);
    }

    #[inline]
    fn is_first(&self, key: K) -> bool {
        self.first.as_ref().is_some_and(|(first, _)| *first == key)
    }

    /// The slot of a value of `rest`.
    #[inline]
    fn find(&self, key: K) -> Option<usize> {
        match self.rest.front() {
            // Most are removed about in the order in which they were added.
            Some((first, _)) if *first == key => Some(0),
            // Gaps keep their keys, so the slots stay sorted.
            _ => self.rest.binary_search_by_key(&key, |(key, _)| *key).ok(),
        }
    }

    fn tidy(&mut self) {
        if self.others == 0 {
            self.rest.clear();
            return shrink_if_empty(&mut self.rest);
        }
        while self.rest.front().is_some_and(|(_, value)| value.is_none()) {
            self.rest.pop_front();
        }
        // Amortized: at least half as many values as there are slots were removed since the last time.
        if self.rest.len() > 2 * self.others + FEW_GAPS {
            self.rest.retain(|(_, value)| value.is_some());
        }
        // Amortized: at least half of what had room was removed since.
        let (kept, capacity) = (kept_capacity::<(K, Option<T>)>(), self.rest.capacity());
        if capacity > 2 * kept && capacity > 4 * self.rest.len() {
            self.rest.shrink_to(kept.max(2 * self.rest.len()));
        }
    }

    /// Values of `rest` and gaps.
    #[cfg(test)]
    pub(crate) fn slots(&self) -> usize {
        self.rest.len()
    }

    /// The values, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        let rest = self.rest.iter().filter_map(|(key, value)| Some((*key, value.as_ref()?)));
        self.first.iter().map(|(key, value)| (*key, value)).chain(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_are_bounded_and_capacity_is_given_back() {
        let mut queue: Queue<u64> = Queue::default();
        queue.push(0, 0);
        for number in 1..100_000 {
            queue.push(number, number);
            assert_eq!(queue.remove(number), Some(number));
            assert!(queue.rest.len() <= 3 + FEW_GAPS);
        }
        (100_000..200_000).for_each(|number| queue.push(number, number));
        while queue.len() > 1 {
            queue.pop();
        }
        assert!(queue.rest.capacity() <= 2 * kept_capacity::<(u64, Option<u64>)>());
        while queue.pop().is_some() {}
        assert!(queue.rest.capacity() <= kept_capacity::<(u64, Option<u64>)>());
    }

    proptest! {
        #[test]
        fn does_what_a_tree_does(ops in prop::collection::vec((0..5_u8, any::<prop::sample::Index>()), 0..400)) {
            let (mut queue, mut tree) = (Queue::default(), BTreeMap::new());
            for (number, (op, index)) in (0_u64..).zip(ops) {
                let other = index.index(number as usize + 1) as u64;
                match op {
                    0 => prop_assert_eq!(queue.pop(), tree.pop_first().map(|(_, value)| value)),
                    1 => prop_assert_eq!(queue.remove(other), tree.remove(&other)),
                    2 => prop_assert_eq!(queue.get_mut(other), tree.get_mut(&other)),
                    3 => {
                        queue.rotate(number);
                        tree = tree.pop_first().into_iter().map(|(_, value)| (number, value)).chain(tree).collect();
                    }
                    _ => {
                        queue.push(number, number);
                        tree.insert(number, number);
                    }
                }
                prop_assert_eq!(queue.front(), tree.first_key_value().map(|(number, value)| (*number, value)));
                prop_assert_eq!((queue.len(), queue.is_empty()), (tree.len(), tree.is_empty()));
                prop_assert!(queue.iter().eq(tree.iter().map(|(number, value)| (*number, value))));
            }
        }
    }
}
