//! Splits the byte stream into ZMTP frames (RFC 23, section "Framing").
//!
//! A payload is copied once, out of the buffer that was read into. A small one goes into a block that it
//! shares with its neighbours, a large one into a buffer of its own that becomes the message's frame. Until
//! [`Deframer::freeze`] nobody else has it, so an encrypted payload is decrypted in place.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use bytes::{Buf, Bytes, BytesMut};

use super::ZmtpViolation;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
const MAX_HEAD: usize = 9;
const MAX_SHORT: usize = 255;

/// Payloads up to this size share a [`BLOCK`].
const SHARE_MAX: usize = 2 << 10;
/// What small payloads share. One that lives long pins no more than this. The first block is a small one, for
/// it is all that the handshake takes, and each is twice as large as the one before.
const BLOCK: usize = 8 << 10;
const FIRST_BLOCK: usize = 512;
/// Larger payloads up to this size, of which many may follow one another, leave their buffer to the next.
const REUSE_MAX: usize = 128 << 10;
/// Buffers that are kept for that.
const SPARE: usize = 4;
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

/// A complete payload that nobody else has yet.
pub(super) enum Payload {
    /// The end of a block whose start belongs to earlier payloads.
    Shared(BytesMut),
    Own(Vec<u8>),
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

impl DerefMut for Payload {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

/// Makes room for `more` bytes, in allocations that double from `first` on and end at `most` bytes.
pub(super) fn grow(buffer: &mut Vec<u8>, more: usize, first: usize, most: usize) {
    let needed = buffer.len() + more;
    if needed > buffer.capacity() {
        let target = needed.max(buffer.capacity() * 2).max(first).min(most.max(needed));
        buffer.reserve_exact(target - buffer.len());
    }
}

/// Reads heads and payloads in turn. The caller decides between the two whether the payload may be held.
#[derive(Default)]
pub(super) struct Deframer {
    raw: [u8; MAX_HEAD],
    filled: usize,
    partial: Vec<u8>,
    block: BytesMut,
    /// Bytes that the block had when it was new.
    block_size: usize,
    /// Payloads whose buffers can be used again once nobody else has them, oldest first.
    spare: VecDeque<Bytes>,
}

impl Deframer {
    /// The next head, once it is complete.
    pub(super) fn head(&mut self, data: &mut &[u8]) -> Result<Option<Head>, ZmtpViolation> {
        if !self.fill(data, 1) {
            return Ok(None);
        }
        let flags = self.raw[0];
        if flags & !(MORE | LONG | COMMAND) != 0 {
            return Err(ZmtpViolation::ReservedFlags(flags));
        }
        if flags & MORE != 0 && flags & COMMAND != 0 {
            return Err(ZmtpViolation::CommandWithMore);
        }
        let long = flags & LONG != 0;
        if !self.fill(data, if long { MAX_HEAD } else { 2 }) {
            return Ok(None);
        }
        let len = if long {
            let [_, len @ ..] = self.raw;
            let len = u64::from_be_bytes(len);
            usize::try_from(len).map_err(|_| ZmtpViolation::FrameLength(len))?
        } else {
            usize::from(self.raw[1])
        };
        let raw_len = std::mem::take(&mut self.filled);
        Ok(Some(Head { more: flags & MORE != 0, command: flags & COMMAND != 0, len, raw: self.raw, raw_len }))
    }

    /// The payload of `len` bytes, once it is complete. `len` must be the same until then. Never shares
    /// `data`'s buffer.
    pub(super) fn payload(&mut self, data: &mut &[u8], len: usize) -> Option<Payload> {
        if len <= SHARE_MAX && self.partial.is_empty() && data.len() >= len {
            return Some(Payload::Shared(self.small(data, len)));
        }
        if self.partial.is_empty() {
            self.partial = self.reuse(len);
        }
        self.collect(data, len, FIRST_ALLOCATION).map(Payload::Own)
    }

    /// Like [`payload`](Self::payload), for a peer that may be anybody: takes no more memory than twice what
    /// has come.
    pub(super) fn early_payload(&mut self, data: &mut &[u8], len: usize) -> Option<Vec<u8>> {
        self.collect(data, len, 0)
    }

    /// What is left of a payload behind its first `skip` bytes, as part of a message.
    pub(super) fn freeze(&mut self, payload: Payload, skip: usize) -> Bytes {
        let mut whole = match payload {
            Payload::Shared(whole) => whole.freeze(),
            Payload::Own(whole) => self.large(whole),
        };
        whole.advance(skip);
        whole
    }

    fn collect(&mut self, data: &mut &[u8], len: usize, first: usize) -> Option<Vec<u8>> {
        let take = data.len().min(len - self.partial.len());
        // The allocation becomes the payload's, so it never goes past the end.
        grow(&mut self.partial, take, first, len);
        self.partial.extend_from_slice(&data[..take]);
        data.advance(take);
        (self.partial.len() == len).then(|| std::mem::take(&mut self.partial))
    }

    /// Bytes of an incomplete payload that are here.
    pub(super) fn partial(&self) -> usize {
        self.partial.len()
    }

    fn small(&mut self, data: &mut &[u8], len: usize) -> BytesMut {
        if len == 0 {
            return BytesMut::new();
        }
        // The same memory again, if none of the payloads that it was used up by is left.
        if self.block.capacity() < len && !self.block.try_reclaim(self.block_size.max(len)) {
            self.block_size = (2 * self.block_size).clamp(FIRST_BLOCK, BLOCK);
            self.block = BytesMut::with_capacity(self.block_size.max(len));
        }
        self.block.extend_from_slice(&data[..len]);
        data.advance(len);
        self.block.split()
    }

    fn large(&mut self, payload: Vec<u8>) -> Bytes {
        let payload = Bytes::from(payload);
        if (SHARE_MAX..=REUSE_MAX).contains(&payload.len()) {
            if self.spare.len() == SPARE {
                self.spare.pop_front();
            }
            self.spare.push_back(payload.clone());
        }
        payload
    }

    /// An empty buffer for a payload of so many bytes, of which it takes up four fifths at least; or one
    /// without room.
    fn reuse(&mut self, len: usize) -> Vec<u8> {
        if !self.spare.front().is_some_and(Bytes::is_unique) {
            return Vec::new();
        }
        let Some(oldest) = self.spare.pop_front() else { return Vec::new() };
        let Ok(mut buffer) = oldest.try_into_mut() else { return Vec::new() };
        buffer.clear();
        match (len..=len.saturating_add(len / 4)).contains(&buffer.capacity()) {
            true => Vec::from(buffer),
            false => Vec::new(),
        }
    }

    /// Gives back the memory that is kept for payloads to come.
    pub(super) fn shrink(&mut self) {
        (self.spare, self.block, self.block_size) = Default::default();
    }

    fn fill(&mut self, data: &mut &[u8], upto: usize) -> bool {
        if self.filled < upto {
            let take = data.len().min(upto - self.filled);
            self.raw[self.filled..self.filled + take].copy_from_slice(&data[..take]);
            data.advance(take);
            self.filled += take;
        }
        self.filled >= upto
    }
}
