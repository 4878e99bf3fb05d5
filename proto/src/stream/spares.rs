//! Reuses the memory of large bodies.
//!
//! Newly allocated memory costs a page fault for each 4 KiB, which takes longer than copying a body there. So
//! this module keeps a reference to the memory of each body that was passed to the application, and reuses it
//! for another body once the application has dropped the first. It drops the references after a second, and those that
//! the application has dropped as soon as none of them has the right size. So it keeps no more than the bodies
//! that there were at one time within the last two seconds.
//!
//! Example: three bodies of 1 MiB arrive one after the other, and each is dropped before the next. The second
//! and the third are written to the memory of the first.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

/// Smaller bodies are not remembered: reuse would not pay.
const MIN: usize = 64 << 10;

/// Bodies that are remembered, and their bytes together. Past either limit, the oldest is forgotten.
const MAX: usize = 64;
const MAX_BYTES: usize = 64 << 20;

/// How long bodies are remembered.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Spares {
    /// Each body with the capacity of its memory, which may be larger than the body.
    bodies: VecDeque<(Bytes, usize)>,
    bytes: usize,
    /// Whether the owner has set a timer to clear this.
    timed: bool,
}

impl Spares {
    /// Freezes a body for the application, and remembers its memory.
    pub(super) fn lend(&mut self, body: BytesMut) -> Bytes {
        let memory = body.capacity();
        let body = body.freeze();
        // A larger one would only evict all others, and then itself.
        if (MIN..=MAX_BYTES).contains(&memory) {
            self.bytes += memory;
            self.bodies.push_back((body.clone(), memory));
            while self.bodies.len() > MAX || self.bytes > MAX_BYTES {
                self.bytes -= self.bodies.pop_front().map_or(0, |(_, memory)| memory);
            }
        }
        body
    }

    /// An empty buffer with a capacity of `bytes` to twice `bytes`, if the application has dropped one.
    pub(super) fn take(&mut self, bytes: usize) -> Option<BytesMut> {
        if bytes < MIN {
            return None;
        }
        // Not more: the application could keep a small body, and with it a large buffer.
        let fits = bytes..=bytes.saturating_mul(2);
        let Some(at) =
            self.bodies.iter().position(|(body, memory)| fits.contains(memory) && body.is_unique())
        else {
            self.forget_unused();
            return None;
        };
        let (body, memory) = self.bodies.remove(at)?;
        self.bytes -= memory;
        // It is unique, and was mutable before, so this does not fail.
        let mut buffer = body.try_into_mut().ok()?;
        buffer.clear();
        Some(buffer)
    }

    /// Frees the memory that the application has dropped: it has the wrong size for the bodies that arrive.
    /// Otherwise, a peer that sends ever larger ones would have all of them kept.
    pub(super) fn forget_unused(&mut self) {
        self.bodies.retain(|(body, _)| !body.is_unique());
        self.bytes = self.bodies.iter().map(|(_, memory)| memory).sum();
    }

    /// Whether the owner has to set a timer to [`clear`](Self::clear) this after [`KEPT_FOR`]; true once,
    /// until then.
    pub(crate) fn needs_timer(&mut self) -> bool {
        !self.bodies.is_empty() && !std::mem::replace(&mut self.timed, true)
    }

    /// Whether the owner was told to set a timer.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn is_timed(&self) -> bool {
        self.timed
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.bodies.len()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lend(spares: &mut Spares, len: usize) -> Bytes {
        spares.lend(BytesMut::from(&vec![7; len][..]))
    }

    #[test]
    fn memory_is_used_again_once_nobody_has_it() {
        let mut spares = Spares::default();
        let body = lend(&mut spares, 2 * MIN);
        let (at, slice) = (body.as_ptr(), body.slice(5..6));
        assert!(spares.take(2 * MIN).is_none());
        drop(body);
        assert!(spares.take(2 * MIN).is_none(), "a slice is left");
        drop(slice);
        assert!(spares.take(MIN - 1).is_none(), "it is too small to be remembered");
        let again = spares.take(MIN).expect("it fits");
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (at, 0, 2 * MIN));
        assert!(spares.take(MIN).is_none() && spares.bytes == 0);
    }

    /// Otherwise, a small body could keep a large buffer alive, of which only the body would count.
    #[test]
    fn memory_is_known_by_its_size_and_not_by_what_was_last_in_it() {
        let mut spares = Spares::default();
        drop(lend(&mut spares, 4 * MIN));
        let mut second = spares.take(2 * MIN).expect("it is half of it");
        second.extend_from_slice(&vec![8; 2 * MIN]);
        drop(spares.lend(second));
        assert_eq!((spares.bodies.len(), spares.bytes), (1, 4 * MIN));
        assert!(spares.take(MIN).is_none(), "it is a quarter");
    }

    #[test]
    fn memory_of_another_size_is_freed_once_nobody_has_it() {
        let mut spares = Spares::default();
        let held = lend(&mut spares, MIN);
        (1..10).for_each(|n| drop(lend(&mut spares, n * MIN)));
        assert!(spares.take(20 * MIN).is_none(), "it is larger than all");
        assert_eq!((spares.bodies.len(), spares.bytes), (1, MIN), "one body is in use");
        drop(held);
        assert!(spares.take(MIN).is_some() && spares.bytes == 0);
    }

    #[test]
    fn what_is_remembered_is_limited() {
        let mut spares = Spares::default();
        (0..=MAX).for_each(|_| drop(lend(&mut spares, MIN)));
        assert_eq!((spares.bodies.len(), spares.bytes), (MAX, MAX * MIN));
        (0..5).for_each(|_| drop(lend(&mut spares, MAX_BYTES / 4)));
        assert_eq!((spares.bodies.len(), spares.bytes), (4, MAX_BYTES));
        drop(lend(&mut spares, MAX_BYTES + 1));
        drop(lend(&mut spares, MIN - 1));
        assert_eq!(spares.bodies.len(), 4);
    }
}
