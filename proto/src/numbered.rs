//! A map from ascending numbers, such as the numbers of calls, to values.
//!
//! Values are in a ring buffer, at the slot of their number modulo its length, so a lookup costs as much as
//! in an array. The ring spans the numbers from its oldest value to its newest. A value that outlives most of
//! those after it moves to a tree, so that it does not make the ring long. Example: of 1 to 1,000, only 1,
//! 999 and 1,000 are left. Then 1 moves, and the ring begins with 999.
//!
//! Memory is proportional to the number of values, independent of the gaps between their numbers. Each step
//! takes amortized constant time in the ring, and logarithmic time in the tree.

use std::collections::BTreeMap;

use crate::kept::kept_capacity;

/// The ring may have this many empty slots in any case: closing fewer does not pay.
const FEW: u64 = 32;

/// The ring spans at most this many numbers per value, plus [`FEW`].
const SPARSE: u64 = 4;

// Growing leaves at most 2 slots per number, so a ring does not grow and shrink in turn.
/// A ring with more slots than this per spanned number is shrunk; without [`shrink`](Numbered::shrink), not
/// below [`kept_slots`].
const LOOSE: u64 = 8;

/// Slots that an empty ring keeps: the largest power of two within [`kept_capacity`], and at least 4.
const fn kept_slots<T>() -> usize {
    match kept_capacity::<Option<T>>() {
        0..4 => 4,
        capacity => 1 << capacity.ilog2(),
    }
}

#[derive(Debug)]
pub(crate) struct Numbered<T> {
    /// The oldest number in the ring, whose slot is never empty.
    first: u64,
    /// Numbers that the ring spans, from `first` on.
    span: u64,
    /// The slot of a value is given by the low bits of its number. The length is a power of two, or 0.
    slots: Vec<Option<T>>,
    /// Values in the ring.
    filled: usize,
    /// Values that were moved out of the ring, or were inserted too far in front of it.
    others: BTreeMap<u64, T>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { first: 0, span: 0, slots: Vec::new(), filled: 0, others: BTreeMap::new() }
    }
}

impl<T> Numbered<T> {
    pub(crate) fn len(&self) -> usize {
        self.filled + self.others.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        if self.distance(number) < self.span
            && let Some(Some(value)) = self.slots.get(self.slot(number))
        {
            return Some(value);
        }
        self.others.get(&number)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let slot = self.slot(number);
        if self.distance(number) < self.span
            && let Some(Some(value)) = self.slots.get_mut(slot)
        {
            return Some(value);
        }
        self.others.get_mut(&number)
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    /// Adds a value. There must not be one with this number.
    #[inline]
    pub(crate) fn insert(&mut self, number: u64, value: T) {
        debug_assert!(!self.contains(number), "{number} is in use");
        if self.distance(number) != self.span || self.span >= self.slots.len() as u64 {
            return self.insert_out_of_order(number, value);
        }
        // The common case: the number that follows the newest one.
        let slot = self.slot(number);
        self.slots[slot] = Some(value);
        self.span += 1;
        self.filled += 1;
    }

    /// [`insert`](Self::insert) if the number does not follow the newest one, or the ring is full.
    #[cold]
    fn insert_out_of_order(&mut self, number: u64, value: T) {
        if self.filled > 0 && number < self.first {
            return self.insert_before(number, value);
        }
        // A jump: the ring would be long, and mostly empty. It begins anew with this number.
        if self.distance(number) > self.span + FEW {
            self.retire(0);
        }
        if self.filled == 0 {
            self.first = number;
        }
        let span = self.distance(number) + 1;
        if span > self.slots.len() as u64 {
            self.resize(span);
        }
        let slot = self.slot(number);
        self.slots[slot] = Some(value);
        self.span = self.span.max(span);
        self.filled += 1;
        self.retire_outliving();
    }

    /// Adds a value in front of the ring, if it is near: connections, for example, don't make their first calls
    /// in the order of their numbers.
    fn insert_before(&mut self, number: u64, value: T) {
        let missing = self.first - number;
        // Few, because each is skipped again when the value is removed.
        if missing > FEW || self.span + missing > self.most() {
            self.others.insert(number, value);
            return;
        }
        let span = self.span + missing;
        if span > self.slots.len() as u64 {
            self.resize(span);
        }
        (self.first, self.span) = (number, span);
        let slot = self.slot(number);
        self.slots[slot] = Some(value);
        self.filled += 1;
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let slot = self.slot(number);
        if self.distance(number) < self.span {
            let value = self.slots.get_mut(slot).and_then(Option::take);
            if value.is_some() {
                self.removed();
                return value;
            }
        }
        self.others.remove(&number)
    }

    /// Drops a value in place: cheaper than [`remove`](Self::remove), which moves it.
    pub(crate) fn discard(&mut self, number: u64) {
        let slot = self.slot(number);
        if self.distance(number) < self.span && self.slots[slot].is_some() {
            self.slots[slot] = None;
            self.removed();
        } else {
            self.others.remove(&number);
        }
    }

    /// Updates the ring after a value was taken out of it.
    #[inline]
    fn removed(&mut self) {
        self.filled -= 1;
        self.trim();
        self.retire_outliving();
    }

    /// The value with this number, which is inserted first if there is none.
    #[inline]
    pub(crate) fn get_or_insert_with(&mut self, number: u64, make: impl FnOnce() -> T) -> &mut T {
        let slot = self.slot(number);
        if self.distance(number) < self.span && self.slots[slot].is_some() {
            return self.slots[slot].as_mut().expect("the slot is not empty");
        }
        if !self.others.contains_key(&number) {
            self.insert(number, make());
        }
        self.get_mut(number).expect("it is there, or has just been inserted")
    }

    /// Drops all values but those for which `keep` is true.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.others.retain(|_, value| keep(value));
        self.slots.iter_mut().for_each(|slot| drop(slot.take_if(|value| !keep(value))));
        self.filled = self.slots.iter().flatten().count();
        self.trim();
        self.retire_outliving();
    }

    /// The values, in an order that depends only on the history of the map.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let ring = (0..self.span).map(move |distance| self.first.wrapping_add(distance));
        let ring = ring.filter_map(move |number| Some((number, self.slots[self.slot(number)].as_ref()?)));
        self.others.iter().map(|(number, value)| (*number, value)).chain(ring)
    }

    /// The same values, in another such order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        let (first, mask) = (self.first, self.mask());
        // The only number in the span with these low bits.
        let number = move |slot: u64| first.wrapping_add(slot.wrapping_sub(first) & mask);
        let ring = (0..).zip(&mut self.slots);
        let ring = ring.filter_map(move |(slot, value)| Some((number(slot), value.as_mut()?)));
        self.others.iter_mut().map(|(number, value)| (*number, value)).chain(ring)
    }

    /// Frees memory that is kept for future values.
    pub(crate) fn shrink(&mut self) {
        if self.filled == 0 {
            (self.slots, self.span) = (Vec::new(), 0);
        } else if self.slots.len() as u64 > LOOSE * self.span {
            self.resize(self.span);
        }
    }

    /// Slots of the ring, empty ones included.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    #[inline]
    fn distance(&self, number: u64) -> u64 {
        number.wrapping_sub(self.first)
    }

    #[inline]
    fn mask(&self) -> u64 {
        (self.slots.len() as u64).wrapping_sub(1)
    }

    #[inline]
    fn slot(&self, number: u64) -> usize {
        (number & self.mask()) as usize
    }

    /// Moves the values to a new ring that can span `span` numbers.
    #[cold]
    fn resize(&mut self, span: u64) {
        let mut slots = Vec::new();
        // No overflow and no huge allocation: the span is limited by the number of values.
        slots.resize_with(span.next_power_of_two().max(4) as usize, || None);
        let mut old = std::mem::replace(&mut self.slots, slots);
        let mask = (old.len() as u64).wrapping_sub(1);
        for number in (0..self.span).map(|distance| self.first.wrapping_add(distance)) {
            let slot = self.slot(number);
            self.slots[slot] = old[(number & mask) as usize].take();
        }
    }

    /// Moves values that have outlived most of the later ones to the tree.
    #[inline]
    fn retire_outliving(&mut self) {
        // Moving a value lowers `filled`, and so the span that is allowed: hence a loop.
        while self.span > self.most() {
            self.retire_some(self.most());
        }
    }

    /// The most numbers that the ring may span.
    #[inline]
    fn most(&self) -> u64 {
        SPARSE * self.filled as u64 + FEW
    }

    /// Moves the oldest values to the tree until the ring spans at most `span` numbers. A value moves at most
    /// once.
    #[inline]
    fn retire(&mut self, span: u64) {
        if self.span > span {
            self.retire_some(span);
        }
    }

    #[cold]
    fn retire_some(&mut self, span: u64) {
        while self.span > span {
            let slot = self.slot(self.first);
            if let Some(value) = self.slots[slot].take() {
                self.others.insert(self.first, value);
                self.filled -= 1;
            }
            self.skip();
        }
        self.trim();
    }

    fn skip(&mut self) {
        self.first = self.first.wrapping_add(1);
        self.span -= 1;
    }

    /// Skips empty slots at the front of the ring, and frees the memory that a burst has left.
    #[inline]
    fn trim(&mut self) {
        if self.filled == 0 {
            // After the newest number, so that the one that follows takes the short way in `insert`.
            self.first = self.first.wrapping_add(self.span);
            self.span = 0;
        } else {
            while self.slots[self.slot(self.first)].is_none() {
                self.skip();
            }
        }
        // Amortized: the span has shrunk by a constant part of the slots since the ring was allocated.
        if self.slots.len() > kept_slots::<T>() && self.slots.len() as u64 > LOOSE * self.span {
            self.resize(self.span.max(kept_slots::<T>() as u64));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// So large that an empty ring keeps only 128 slots.
    #[derive(Debug, PartialEq)]
    struct Large(u64, [u64; 31]);

    fn large(number: u64) -> Large {
        Large(number, [number; 31])
    }

    #[test]
    fn a_ring_keeps_the_memory_of_few_large_values() {
        assert_eq!(
            (kept_slots::<Large>(), kept_slots::<u64>(), kept_slots::<[u64; 10_000]>()),
            (128, 4_096, 4)
        );
    }

    #[test]
    fn one_that_outlives_thousands_takes_no_room_in_the_ring() {
        let mut map: Numbered<u64> = Numbered::default();
        (0..2).for_each(|number| map.insert(number, number));
        for number in 2..100_000 {
            map.insert(number, number);
            assert_eq!(map.remove(number - 1), Some(number - 1));
            assert!(map.span <= SPARSE * 3 + FEW);
        }
        assert_eq!((map.get(0), map.len()), (Some(&0), 2));
        (100_000..200_000).for_each(|number| map.insert(number, number));
        (0..200_000).for_each(|number| _ = map.remove(number));
        assert!(map.is_empty() && map.slots.capacity() <= kept_capacity::<Option<u64>>());
    }

    #[test]
    fn few_that_are_left_of_many_pin_little() {
        const MANY: u64 = 100_000;
        for left in [[0, 1], [0, MANY - 1], [MANY - 2, MANY - 1], [MANY / 2, MANY / 3]] {
            let mut map: Numbered<u64> = Numbered::default();
            (0..MANY).for_each(|number| map.insert(number, number));
            (0..MANY).filter(|number| !left.contains(number)).for_each(|number| _ = map.remove(number));
            assert!(left.into_iter().all(|number| map.get(number) == Some(&number)) && map.len() == 2);
            assert!(map.slots.capacity() <= kept_slots::<u64>(), "{left:?}: {}", map.slots.capacity());
        }
    }

    #[test]
    fn one_that_moves_may_take_the_next_along() {
        let mut map: Numbered<u64> = Numbered::default();
        for number in [342, 343, 357, 390] {
            map.insert(number, number);
            assert!(map.span <= map.most(), "{number}");
        }
    }

    #[test]
    fn gaps_take_no_memory() {
        let mut map: Numbered<u64> = Numbered::default();
        let numbers = (0..1_000).map(|n| n * (FEW + 1) * (1 + n % 3 * (1 << 40)));
        let numbers: std::collections::BTreeSet<u64> = numbers.collect();
        for number in &numbers {
            map.insert(*number, *number);
            assert!(map.span <= SPARSE * map.len() as u64 + FEW);
        }
        assert!(numbers.iter().all(|number| map.remove(*number) == Some(*number)) && map.is_empty());
    }

    #[test]
    fn one_value_that_is_left_of_a_burst_does_not_keep_its_memory() {
        let mut map: Numbered<u64> = Numbered::default();
        (0..1_000).for_each(|number| map.insert(number, number));
        (0..999).for_each(|number| assert_eq!(map.remove(number), Some(number)));
        assert!(map.slots.len() > 500);
        map.shrink();
        assert!(map.slots.len() <= LOOSE as usize && map.get(999) == Some(&999));
    }

    #[test]
    fn a_ring_grows_in_front_too_if_little_is_missing() {
        let mut map: Numbered<u64> = Numbered::default();
        let far = 100 - FEW - 4;
        for number in [100, 101, 97, 99, far, 98] {
            map.insert(number, number);
        }
        assert_eq!((map.first, map.span, map.filled), (97, 5, 5));
        assert_eq!((map.get(far), map.others.len()), (Some(&far), 1));
        for number in [97, 98, far, 99, 101, 100] {
            assert_eq!(map.remove(number), Some(number));
        }
        assert!(map.is_empty());
    }

    #[test]
    fn numbers_may_be_anywhere() {
        let mut map: Numbered<u64> = Numbered::default();
        for number in [1 << 62, 3, u64::MAX, 0, (1 << 62) + 1, 4] {
            map.insert(number, number);
            assert_eq!(map.get(number), Some(&number));
        }
        assert_eq!(map.len(), 6);
        for number in [u64::MAX, 0, 3, 1 << 62, 4, (1 << 62) + 1] {
            assert_eq!((map.remove(number), map.remove(number)), (Some(number), None));
        }
        assert!(map.is_empty());
    }

    proptest! {
        #[test]
        fn does_what_a_tree_does(
            ops in prop::collection::vec((0..6_u8, 0..400_u64, any::<prop::sample::Index>()), 0..400)
        ) {
            let (mut map, mut tree, mut next) = (Numbered::default(), BTreeMap::new(), 0);
            for (op, far, index) in ops {
                let some = index.index(next as usize + 400) as u64;
                match op {
                    0 => prop_assert_eq!(map.remove(some), tree.remove(&some)),
                    1 => prop_assert_eq!(map.get_mut(some), tree.get_mut(&some)),
                    2 if !tree.contains_key(&some) => {
                        map.insert(some, large(some));
                        tree.insert(some, large(some));
                    }
                    3 => map.shrink(),
                    4 => {
                        map.retain(|value: &Large| value.0 % 7 != far % 7);
                        tree.retain(|_, value: &mut Large| value.0 % 7 != far % 7);
                    }
                    _ => {
                        next = next.max(tree.last_key_value().map_or(0, |(last, _)| last + 1)) + far / 300 * far;
                        map.insert(next, large(next));
                        tree.insert(next, large(next));
                    }
                }
                prop_assert_eq!(map.len(), tree.len());
                prop_assert!(map.span <= map.most());
                prop_assert!(map.slots.len() <= kept_slots::<Large>().max((LOOSE * map.span) as usize));
                let mut all: Vec<_> = map.iter().map(|(number, value)| (number, value.0)).collect();
                all.sort_unstable();
                let mut others: Vec<_> = map.iter_mut().map(|(number, value)| (number, value.0)).collect();
                others.sort_unstable();
                prop_assert_eq!(&all, &others);
                prop_assert_eq!(&all, &tree.iter().map(|(number, value)| (*number, value.0)).collect::<Vec<_>>());
            }
        }
    }
}
