//! Byte strings that are usually short: method names, keys, names of metadata, texts of errors.
//!
//! Up to [`INLINE`] bytes are stored in the value itself and need no allocation. Longer strings are copied
//! once, and shared by their clones. Unlike [`Bytes`](bytes::Bytes), they therefore never keep a received frame
//! alive, and dropping them runs no code of an application.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// The most that fits without making the value larger than three words.
const INLINE: usize = 22;

#[derive(Clone)]
pub(crate) enum SmallBytes {
    Inline { len: u8, bytes: [u8; INLINE] },
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
}

impl SmallBytes {
    pub(crate) const fn new() -> Self {
        Self::Inline { len: 0, bytes: [0; INLINE] }
    }

    pub(crate) const fn from_static(bytes: &'static [u8]) -> Self {
        Self::Static(bytes)
    }

    pub(crate) fn copy_from_slice(from: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        // `None` if the bytes do not fit.
        match bytes.get_mut(..from.len()) {
            Some(place) => {
                place.copy_from_slice(from);
                Self::Inline { len: from.len() as u8, bytes }
            }
            None => Self::Shared(from.into()),
        }
    }
}

impl Deref for SmallBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Static(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Default for SmallBytes {
    fn default() -> Self {
        Self::new()
    }
}

// Not derived, nor are order and hash: the same bytes can be in different variants.
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

/// The same output as for [`Bytes`](bytes::Bytes).
impl fmt::Debug for SmallBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_three_words() {
        assert_eq!(size_of::<SmallBytes>(), 24);
    }

    #[test]
    fn few_bytes_are_in_place_and_one_more_is_shared() {
        for len in [0, 1, INLINE, INLINE + 1, 1_000] {
            let bytes = SmallBytes::copy_from_slice(&vec![7; len]);
            assert_eq!(*bytes, *vec![7; len]);
            assert_eq!(matches!(bytes, SmallBytes::Inline { .. }), len <= INLINE, "{len}");
            let copies = [bytes.clone(), SmallBytes::from_static(vec![7; len].leak())];
            assert!(copies.iter().all(|copy| *copy == bytes && format!("{copy:?}") == format!("{bytes:?}")));
        }
    }

    #[test]
    fn the_order_is_that_of_the_bytes_wherever_they_are() {
        let texts: [&[u8]; 5] =
            [b"", b"a", b"a long text that is shared", b"b", b"b long text that is shared"];
        let values = texts.map(SmallBytes::copy_from_slice);
        assert!(values.is_sorted());
        assert_eq!(format!("{:?}", values[1]), format!("{:?}", bytes::Bytes::from_static(b"a")));
    }
}
