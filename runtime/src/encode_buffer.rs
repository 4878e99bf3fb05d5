//! The memory that values are serialized in.
//!
//! How long a value is shows only once it is written. The idea: it is written into a buffer that its thread uses again and again, and
//! copied into memory of its own size, so that a small body costs one allocation, however often a buffer of its own would have grown. A
//! large body keeps the buffer, and is not copied.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;

/// Longest body that is copied.
const COPY_MAX: usize = 4 * 1024;

/// Largest buffer that a thread keeps: one that bodies of [`COPY_MAX`] have grown, by doubling.
const KEPT_MAX: usize = 2 * COPY_MAX;

/// The capacity of a new buffer.
const INITIAL: usize = 256;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer to write a body into. It is a `Vec<u8>`, whose memory its thread uses again where bodies are small: each thread keeps up to
/// 8 KiB.
///
/// ```
/// use callosum_runtime::service::EncodeBuffer;
///
/// let mut buffer = EncodeBuffer::new();
/// buffer.extend_from_slice(b"seven");
/// assert_eq!(buffer.finish(), "seven");
/// ```
#[derive(Debug)]
pub struct EncodeBuffer(Vec<u8>);

impl EncodeBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        // There is none where another buffer of this thread is in use, or the thread ends.
        let bytes = SPARE.try_with(Cell::take).unwrap_or_default();
        match bytes.capacity() {
            0 => Self(Vec::with_capacity(INITIAL)),
            _ => Self(bytes),
        }
    }

    /// The written bytes.
    pub fn finish(mut self) -> Bytes {
        match self.0.len() <= COPY_MAX {
            true => Bytes::copy_from_slice(&self.0),
            false => std::mem::take(&mut self.0).into(),
        }
    }
}

impl Drop for EncodeBuffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        if (1..=KEPT_MAX).contains(&bytes.capacity()) {
            bytes.clear();
            // A thread that ends keeps nothing.
            let _ = SPARE.try_with(|spare| spare.set(bytes));
        }
    }
}

impl Default for EncodeBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for EncodeBuffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for EncodeBuffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spare() -> usize {
        let spare = SPARE.take();
        let capacity = spare.capacity();
        SPARE.set(spare);
        capacity
    }

    fn write(len: usize) -> Bytes {
        let mut buffer = EncodeBuffer::new();
        assert!(buffer.is_empty(), "what was written before is gone");
        buffer.resize(len, 7);
        buffer.finish()
    }

    #[test]
    fn what_is_written_is_the_body_whatever_its_length() {
        for len in [0, 1, INITIAL, INITIAL + 1, COPY_MAX, COPY_MAX + 1, 100_000, 5] {
            assert_eq!(write(len), vec![7; len]);
        }
    }

    #[test]
    fn a_thread_keeps_one_buffer_up_to_a_size() {
        write(1);
        assert_eq!(spare(), INITIAL);
        write(COPY_MAX);
        assert!((COPY_MAX..=KEPT_MAX).contains(&spare()));
        write(COPY_MAX + 1);
        assert_eq!(spare(), 0, "the body has taken it along");
        let mut buffer = EncodeBuffer::new();
        buffer.reserve_exact(KEPT_MAX + 1);
        drop(buffer);
        assert_eq!(spare(), 0, "it has grown too large");
    }

    #[test]
    fn a_buffer_in_use_leaves_another_its_own() {
        let mut outer = EncodeBuffer::new();
        outer.extend_from_slice(b"outer");
        assert_eq!(write(3), vec![7; 3]);
        assert_eq!(outer.finish(), "outer");
        assert_eq!(write(0), "");
    }
}
