//! Byte strings that are usually short: method names, keys, names of metadata.
//!
//! Up to [`INLINE`] bytes are stored in the value itself: they need no allocation, and keep no received frame
//! alive. Longer strings share the buffer in which they arrived, like [`Bytes`].

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

use crate::wire;

/// The most that fits without making the value larger than a [`Bytes`].
const INLINE: usize = 23;

#[derive(Clone)]
pub(crate) enum SmallBytes {
    Inline { len: u8, bytes: [u8; INLINE] },
    Shared(Bytes),
}

impl SmallBytes {
    pub(crate) const fn new() -> Self {
        Self::Inline { len: 0, bytes: [0; INLINE] }
    }

    pub(crate) const fn from_static(bytes: &'static [u8]) -> Self {
        Self::Shared(Bytes::from_static(bytes))
    }

    /// `None` if there are more than [`INLINE`] bytes.
    fn inline(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self::Inline { len: from.len() as u8, bytes })
    }

    pub(crate) fn copy_from_slice(bytes: &[u8]) -> Self {
        Self::inline(bytes).unwrap_or_else(|| Self::Shared(Bytes::copy_from_slice(bytes)))
    }

    /// `part`, which must be a slice of `frame`.
    pub(crate) fn slice_of(frame: &Bytes, part: &[u8]) -> Self {
        Self::inline(part).unwrap_or_else(|| Self::Shared(frame.slice_ref(part)))
    }

    /// The same bytes, copied if they would keep a much larger frame alive; see [`wire::keep`].
    #[inline]
    pub(crate) fn keep(self, frame: usize) -> Self {
        match self {
            Self::Inline { .. } => self,
            Self::Shared(bytes) => Self::Shared(wire::keep(&bytes, frame)),
        }
    }

    /// Whether the bytes are inline, or alone in a buffer that has no owner of the application.
    #[inline]
    pub(crate) fn is_detached(&self) -> bool {
        match self {
            Self::Inline { .. } => true,
            // False for shared buffers, statics, and buffers with an owner.
            Self::Shared(bytes) => bytes.is_unique(),
        }
    }

    /// Copies the bytes unless they are already [detached](Self::is_detached).
    #[inline]
    pub(crate) fn detach(&mut self) {
        if !self.is_detached() {
            *self = self.detached();
        }
    }

    /// A copy, inline or in its own buffer.
    pub(crate) fn detached(&self) -> Self {
        Self::copy_from_slice(self)
    }
}

impl Deref for SmallBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Shared(bytes) => bytes,
        }
    }
}

impl From<Bytes> for SmallBytes {
    fn from(bytes: Bytes) -> Self {
        Self::inline(&bytes).unwrap_or(Self::Shared(bytes))
    }
}

impl Default for SmallBytes {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for SmallBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SmallBytes {}

impl PartialOrd for SmallBytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SmallBytes {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(other)
    }
}

impl Hash for SmallBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// The same output as for [`Bytes`].
impl fmt::Debug for SmallBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_no_larger_than_a_slice_of_a_frame() {
        assert_eq!(size_of::<SmallBytes>(), size_of::<Bytes>());
    }

    #[test]
    fn few_bytes_are_in_place_and_one_more_is_shared() {
        let frame = Bytes::from(vec![7; 1_000]);
        for len in [0, 1, INLINE, INLINE + 1, 1_000] {
            let part = SmallBytes::slice_of(&frame, &frame[..len]);
            assert_eq!(&*part, &frame[..len]);
            assert_eq!(matches!(part, SmallBytes::Inline { .. }), len <= INLINE, "{len}");
            let shared = SmallBytes::Shared(frame.slice(..len));
            let copies = [part.detached(), part.clone().keep(1_000), frame.slice(..len).into(), shared];
            assert!(copies.iter().all(|copy| *copy == part && format!("{copy:?}") == format!("{part:?}")));
        }
    }

    #[test]
    fn the_order_is_that_of_the_bytes_wherever_they_are() {
        let texts: [&[u8]; 5] =
            [b"", b"a", b"a long text that is shared", b"b", b"b long text that is shared"];
        let values = texts.map(SmallBytes::copy_from_slice);
        assert!(values.is_sorted());
        assert_eq!(format!("{:?}", values[1]), format!("{:?}", Bytes::from_static(b"a")));
    }
}
