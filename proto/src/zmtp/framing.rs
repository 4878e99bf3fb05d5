//! Cuts the byte stream into ZMTP frames (RFC 23, section "Framing").

use bytes::{Buf, Bytes, BytesMut};

use super::Violation;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
const MAX_HEAD: usize = 9;
const MAX_SHORT: usize = 255;

/// Payloads up to this size are copied out of the read buffer, so that a small frame that lives long pins a
/// [`BLOCK`] and not the read buffer.
const COPY_MAX: usize = 2 << 10;
/// Copied payloads share allocations of this size.
const BLOCK: usize = 8 << 10;
/// What a payload that arrives in pieces allocates at first, however long it claims to be.
const FIRST_ALLOCATION: usize = 1 << 20;

/// A frame's flags and length, and how they were written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) more: bool,
    pub(super) command: bool,
    /// Bytes of payload that follow.
    pub(super) len: usize,
    raw: [u8; MAX_HEAD],
    raw_len: usize,
}

impl Head {
    pub(super) fn data(more: bool, len: usize) -> Self {
        Self::new(more, false, len)
    }

    pub(super) fn command(len: usize) -> Self {
        Self::new(false, true, len)
    }

    fn new(more: bool, command: bool, len: usize) -> Self {
        let mut raw = [0; MAX_HEAD];
        let flags = if more { MORE } else { 0 } | if command { COMMAND } else { 0 };
        let raw_len = if len > MAX_SHORT {
            raw[0] = flags | LONG;
            raw[1..].copy_from_slice(&(len as u64).to_be_bytes());
            MAX_HEAD
        } else {
            raw[0] = flags;
            raw[1] = len as u8;
            2
        };
        Self { more, command, len, raw, raw_len }
    }

    /// As on the wire.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.raw[..self.raw_len]
    }
}

/// Reads heads and payloads in turn. The caller decides between the two whether the payload may be held.
#[derive(Default)]
pub(super) struct Deframer {
    raw: [u8; MAX_HEAD],
    filled: usize,
    partial: Vec<u8>,
    block: BytesMut,
}

impl Deframer {
    /// The next head, once it is complete.
    pub(super) fn head(&mut self, data: &mut Bytes) -> Result<Option<Head>, Violation> {
        if !self.fill(data, 1) {
            return Ok(None);
        }
        let flags = self.raw[0];
        if flags & !(MORE | LONG | COMMAND) != 0 {
            return Err(Violation::ReservedFlags(flags));
        }
        if flags & MORE != 0 && flags & COMMAND != 0 {
            return Err(Violation::CommandWithMore);
        }
        let long = flags & LONG != 0;
        if !self.fill(data, if long { MAX_HEAD } else { 2 }) {
            return Ok(None);
        }
        let len = if long {
            let [_, len @ ..] = self.raw;
            let len = u64::from_be_bytes(len);
            usize::try_from(len).map_err(|_| Violation::FrameLength(len))?
        } else {
            usize::from(self.raw[1])
        };
        let raw_len = std::mem::take(&mut self.filled);
        Ok(Some(Head { more: flags & MORE != 0, command: flags & COMMAND != 0, len, raw: self.raw, raw_len }))
    }

    /// The payload of `len` bytes, once it is complete. `len` must be the same until then.
    pub(super) fn payload(&mut self, data: &mut Bytes, len: usize) -> Option<Bytes> {
        if self.partial.is_empty() && data.len() >= len {
            return Some(self.whole(data, len));
        }
        let take = data.len().min(len - self.partial.len());
        let needed = self.partial.len() + take;
        if needed > self.partial.capacity() {
            // Doubling, but never past the end: the allocation becomes the payload's.
            let target = needed.max(self.partial.capacity() * 2).max(FIRST_ALLOCATION).min(len);
            self.partial.reserve_exact(target - self.partial.len());
        }
        self.partial.extend_from_slice(&data[..take]);
        data.advance(take);
        (self.partial.len() == len).then(|| Bytes::from(std::mem::take(&mut self.partial)))
    }

    /// Bytes of an incomplete payload that are here.
    pub(super) fn partial(&self) -> usize {
        self.partial.len()
    }

    fn whole(&mut self, data: &mut Bytes, len: usize) -> Bytes {
        if len == 0 {
            return Bytes::new();
        }
        if len > COPY_MAX {
            return data.split_to(len);
        }
        if self.block.capacity() < len {
            self.block = BytesMut::with_capacity(BLOCK);
        }
        self.block.extend_from_slice(&data[..len]);
        data.advance(len);
        self.block.split().freeze()
    }

    fn fill(&mut self, data: &mut Bytes, upto: usize) -> bool {
        if self.filled < upto {
            let take = data.len().min(upto - self.filled);
            self.raw[self.filled..self.filled + take].copy_from_slice(&data[..take]);
            data.advance(take);
            self.filled += take;
        }
        self.filled >= upto
    }
}
