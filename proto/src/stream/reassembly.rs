//! Reassembles a large body: pieces come in, one buffer comes out.
//!
//! A declared size is only a claim, so memory follows what has arrived: pieces are kept as they are until
//! 1/16 of the declared size is here; then the whole is allocated and every later piece is copied into it
//! once. A 10 MiB body thus costs a peer 640 KiB before it makes this side allocate 10 MiB. Where an earlier
//! body has left memory, that is used from the first piece on.

use bytes::{Bytes, BytesMut};

use super::{ReadError, Spares};

/// Pieces of this size and more are kept as they are; smaller ones are joined.
const KEPT_MIN: usize = 16 * 1024;

/// The whole is allocated once 1/16 of it has come.
const BELIEVED_PART: usize = 16;

/// Bytes of small pieces that are joined in one buffer.
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
    /// Too little has come to allocate the whole. Small pieces that follow `parts` are in `tail`.
    Parts { parts: Vec<Bytes>, tail: BytesMut },
    /// The whole, as far as it has come.
    Whole(BytesMut),
}

impl Reassembler {
    /// For a body of at most `limit` bytes, which is `declared` to have so many.
    pub(crate) fn new(limit: usize, declared: Option<usize>, spares: &mut Spares) -> Self {
        let declared = declared.filter(|declared| *declared <= limit);
        let state = match declared.and_then(|declared| spares.take(declared)) {
            Some(body) => State::Whole(body),
            None => State::Parts { parts: Vec::new(), tail: BytesMut::new() },
        };
        Self { state, len: 0, limit, declared }
    }

    /// Adds the next bytes. `keep` makes them bytes that may be kept as they are; it is not called if they
    /// are copied.
    pub(crate) fn push(&mut self, bytes: &[u8], keep: impl FnOnce() -> Bytes) -> Result<(), ReadError> {
        self.len += bytes.len();
        if self.len > self.limit {
            return Err(ReadError::TooLarge { size: self.len as u64, limit: self.limit });
        }
        let (parts, tail) = match &mut self.state {
            State::Whole(body) => {
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

/// All that has come, with room for `capacity` bytes. Each part is freed as soon as it has been copied.
fn join(parts: &mut Vec<Bytes>, tail: &BytesMut, capacity: usize) -> BytesMut {
    let mut body = BytesMut::with_capacity(capacity);
    std::mem::take(parts).into_iter().for_each(|part| body.extend_from_slice(&part));
    body.extend_from_slice(tail);
    body
}
