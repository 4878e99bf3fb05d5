//! Reuse of the memory of large bodies.
//!
//! New memory costs a page fault for each 4 KiB of a body, which takes longer than copying the body there. So
//! this module keeps a reference to the memory of each body that was passed to the application, and uses the
//! memory for another body once the application has dropped the first. The reference is dropped after a
//! second, so the memory held in addition to the application's is at most that of the bodies of the last two
//! seconds.
//!
//! Example: three bodies of 1 MiB come one after the other, and each is dropped before the next. The second
//! and the third are written where the first was.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

/// Smaller bodies are not worth it.
const MIN: usize = 64 << 10;

/// Bodies that are remembered, and their bytes in all. The oldest is forgotten first.
const MAX: usize = 64;
const MAX_BYTES: usize = 64 << 20;

/// After so long, all are forgotten.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Spares {
    /// With the memory that each takes, which may be more than the body has.
    bodies: VecDeque<(Bytes, usize)>,
    bytes: usize,
    /// Whether its owner knows when to clear it.
    timed: bool,
}

impl Spares {
    /// Makes a body of what was received, and remembers its memory.
    pub(super) fn lend(&mut self, body: BytesMut) -> Bytes {
        let memory = body.capacity();
        let body = body.freeze();
        if (MIN..=MAX_BYTES).contains(&memory) {
            self.bytes += memory;
            self.bodies.push_back((body.clone(), memory));
            while self.bodies.len() > MAX || self.bytes > MAX_BYTES {
                self.bytes -= self.bodies.pop_front().map_or(0, |(_, memory)| memory);
            }
        }
        body
    }

    /// An empty buffer for so many bytes, of which they take up half at least, if there is one that nobody
    /// has any more.
    pub(super) fn take(&mut self, bytes: usize) -> Option<BytesMut> {
        if bytes < MIN {
            return None;
        }
        let fits = bytes..=bytes.saturating_mul(2);
        let at = self.bodies.iter().position(|(body, memory)| fits.contains(memory) && body.is_unique())?;
        let (body, memory) = self.bodies.remove(at)?;
        self.bytes -= memory;
        let mut buffer = body.try_into_mut().ok()?;
        buffer.clear();
        Some(buffer)
    }

    /// Whether its owner has to clear it in [`KEPT_FOR`]; says so once.
    pub(crate) fn needs_timer(&mut self) -> bool {
        !self.bodies.is_empty() && !std::mem::replace(&mut self.timed, true)
    }

    /// Whether its owner was told to clear it.
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
        assert!(spares.take(2 * MIN + 1).is_none() && spares.take(MIN - 1).is_none(), "it does not fit");
        let again = spares.take(MIN).expect("it fits");
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (at, 0, 2 * MIN));
        assert!(spares.take(MIN).is_none() && spares.bytes == 0);
    }

    /// Else small bodies could be given large memory, of which only the body would be counted.
    #[test]
    fn memory_is_known_by_its_size_and_not_by_what_was_last_in_it() {
        let mut spares = Spares::default();
        drop(lend(&mut spares, 4 * MIN));
        let mut second = spares.take(2 * MIN).expect("it is half of it");
        second.extend_from_slice(&vec![8; 2 * MIN]);
        drop(spares.lend(second));
        assert!(spares.take(MIN).is_none(), "it is a quarter");
        assert_eq!((spares.bodies.len(), spares.bytes), (1, 4 * MIN));
        assert!(spares.take(3 * MIN).is_some());
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
