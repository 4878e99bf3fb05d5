//! A body that is put together. What comes is kept as it came until enough of it is there to believe how much it will be; then
//! the whole is allocated, and every piece copied once.

use bytes::{Bytes, BytesMut};

use super::ContentError;

/// Pieces of this size and more are kept as they are, smaller ones together.
const KEPT_MIN: usize = 16 * 1024;

/// The whole is allocated once this part of it has come: what is declared need not follow.
const BELIEVED_PART: usize = 16;

/// Bytes of small pieces that are kept together.
const TOGETHER_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Gather {
    parts: Vec<Bytes>,
    /// Small pieces that follow.
    tail: BytesMut,
    /// The whole, once it is allocated.
    body: Option<BytesMut>,
    len: usize,
    limit: usize,
    declared: Option<usize>,
}

impl Gather {
    /// Of at most `limit` bytes; it is `declared` to have so many.
    pub(super) fn new(limit: usize, declared: Option<usize>) -> Self {
        let declared = declared.filter(|declared| *declared <= limit);
        Self { parts: Vec::new(), tail: BytesMut::new(), body: None, len: 0, limit, declared }
    }

    pub(super) fn push(&mut self, bytes: Bytes) -> Result<(), ContentError> {
        self.len += bytes.len();
        if self.len > self.limit {
            return Err(ContentError::TooLarge { size: self.len as u64, limit: self.limit });
        }
        if let Some(body) = &mut self.body {
            body.extend_from_slice(&bytes);
            return Ok(());
        }
        let small = bytes.len() < KEPT_MIN;
        if !small || self.tail.len() + bytes.len() > TOGETHER_MAX {
            self.seal();
        }
        match small {
            true => self.tail.extend_from_slice(&bytes),
            false => self.parts.push(bytes),
        }
        if let Some(declared) = self.declared
            && self.parts.len() + usize::from(!self.tail.is_empty()) > 1
            && self.len >= declared / BELIEVED_PART
        {
            self.body = Some(self.join(declared));
        }
        Ok(())
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// All that has come, with room for so many bytes.
    fn join(&mut self, room: usize) -> BytesMut {
        self.seal();
        let mut body = BytesMut::with_capacity(room);
        // Each is given back as soon as it has been copied.
        std::mem::take(&mut self.parts).into_iter().for_each(|part| body.extend_from_slice(&part));
        body
    }

    pub(super) fn into_body(mut self) -> Bytes {
        self.seal();
        match (self.body.take(), &self.parts[..]) {
            (Some(body), _) => body.freeze(),
            (None, [part]) => part.clone(),
            (None, _) => self.join(self.len).freeze(),
        }
    }
}
