//! Reassembles a large body: pieces in, one buffer out.
//!
//! A declared size is only a claim, so memory is allocated for what has arrived: pieces are kept until 1/16
//! of the declared size has arrived. Then the whole body is allocated, and every piece is copied into it
//! once. So a peer has to send 640 KiB of a 10 MiB body before it makes this side allocate 10 MiB. If there
//! is spare memory of an earlier body, it is used from the first piece on.

use bytes::{Bytes, BytesMut};

use super::{ReadError, Spares};

/// Pieces of at least this size are kept as they are; smaller ones are joined.
const KEPT_MIN: usize = 16 * 1024;

/// The whole body is allocated once 1/16 of it has arrived.
const BELIEVED_PART: usize = 16;

// A larger buffer would be copied once more each time it grows.
/// Small pieces are joined in buffers of up to this many bytes.
const JOINED_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Reassembler {
    state: State,
    len: usize,
    limit: usize,
    declared: Option<usize>,
}

#[derive(Debug)]
enum State {
    /// Too little has arrived to allocate the whole body. `tail` has the small pieces after `parts`.
    Parts { parts: Vec<Bytes>, tail: BytesMut },
    /// The buffer of the whole body, filled as far as it has arrived.
    Whole(BytesMut),
}

impl Reassembler {
    /// For a body of at most `limit` bytes; `declared` is its size, if the writer has declared it.
    pub(crate) fn new(limit: usize, declared: Option<usize>, spares: &mut Spares) -> Self {
        // Never allocate more than the limit, whatever the peer declares.
        let declared = declared.filter(|declared| *declared <= limit);
        let spare = match declared {
            Some(declared) => spares.take(declared),
            // How much memory it needs is not known, so what is unused may never be of use again.
            None => {
                spares.forget_unused();
                None
            }
        };
        let state = match spare {
            Some(body) => State::Whole(body),
            None => State::Parts { parts: Vec::new(), tail: BytesMut::new() },
        };
        Self { state, len: 0, limit, declared }
    }

    /// Adds the next bytes. `keep` returns the same bytes in a buffer that may be kept; it is only called if
    /// they are not copied here.
    pub(crate) fn push(&mut self, bytes: &[u8], keep: impl FnOnce() -> Bytes) -> Result<(), ReadError> {
        self.len += bytes.len();
        if self.len > self.limit {
            return Err(ReadError::TooLarge { size: self.len as u64, limit: self.limit });
        }
        let (parts, tail) = match &mut self.state {
            State::Whole(body) => {
                // It has the capacity: the stream has checked that no more arrives than was declared.
                body.extend_from_slice(bytes);
                return Ok(());
            }
            State::Parts { parts, tail } => (parts, tail),
        };
        let small = bytes.len() < KEPT_MIN;
        if !tail.is_empty() && (!small || tail.len() + bytes.len() > JOINED_MAX) {
            parts.push(std::mem::take(tail).freeze());
        }
        match small {
            true => tail.extend_from_slice(bytes),
            false => parts.push(keep()),
        }
        // A single part may be the whole body, which `into_body` returns without a copy.
        if let Some(declared) = self.declared
            && parts.len() + usize::from(!tail.is_empty()) > 1
            && self.len >= declared / BELIEVED_PART
        {
            self.state = State::Whole(join(parts, tail, declared));
        }
        Ok(())
    }

    pub(crate) fn into_body(self, spares: &mut Spares) -> Bytes {
        match self.state {
            State::Whole(body) => spares.lend(body),
            State::Parts { parts, tail } if parts.is_empty() => tail.freeze(),
            State::Parts { mut parts, tail } if parts.len() == 1 && tail.is_empty() => parts.remove(0),
            State::Parts { mut parts, tail } => spares.lend(join(&mut parts, &tail, self.len)),
        }
    }
}

/// Joins all that has arrived in a buffer of `capacity` bytes. Frees each part as soon as it is copied.
fn join(parts: &mut Vec<Bytes>, tail: &BytesMut, capacity: usize) -> BytesMut {
    let mut body = BytesMut::with_capacity(capacity);
    std::mem::take(parts).into_iter().for_each(|part| body.extend_from_slice(&part));
    body.extend_from_slice(tail);
    body
}
