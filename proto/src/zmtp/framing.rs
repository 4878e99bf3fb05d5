//! Splits the byte stream into ZMTP frames (RFC 23, section "Framing").
//!
//! A payload is copied once, out of the buffer that was read into, also if it arrives in parts: a small one
//! to a block that it shares with its neighbours, a large one to its own buffer, which becomes the frame of
//! the message. Until [`Deframer::freeze`], it is not shared with the application, so an encrypted payload is
//! decrypted in place.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use bytes::{Buf, Bytes, BytesMut};

use super::ZmtpViolation;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
const MAX_HEAD: usize = 9;
const MAX_SHORT: usize = 255;

/// Payloads of up to this size share a [`BLOCK`].
const SHARE_MAX: usize = 2 << 10;
/// Blocks for small payloads. A payload that lives long keeps no more than this alive. The first block is
/// small, enough for the handshake; each further one doubles in size.
const BLOCK: usize = 8 << 10;
const FIRST_BLOCK: usize = 512;
/// The buffers of larger payloads of up to this size are reused for the next ones, since there may be many in
/// a row.
const REUSE_MAX: usize = 128 << 10;
/// The most buffers that are kept for reuse.
const SPARE: usize = 4;
/// The first allocation for a payload that arrives in parts, whatever length it announces.
const FIRST_ALLOCATION: usize = 1 << 20;

/// The flags and the length of a frame, and their encoding.
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

    /// The encoding.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.raw[..self.raw_len]
    }
}

/// A complete payload that is not shared yet.
pub(super) enum Payload {
    /// The end of a block; earlier payloads have its start.
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

/// Makes room for `more` bytes. The capacity starts at `first`, doubles, and stops at `most` bytes.
pub(super) fn grow(buffer: &mut Vec<u8>, more: usize, first: usize, most: usize) {
    let needed = buffer.len() + more;
    if needed > buffer.capacity() {
        // Doubling copies each byte a constant number of times, however many parts arrive. `reserve` would
        // double, too, but past `most`.
        let target = needed.max(buffer.capacity() * 2).max(first).min(most.max(needed));
        buffer.reserve_exact(target - buffer.len());
    }
}

/// Reads heads and payloads alternately. Between the two, the caller checks the limits.
#[derive(Default)]
pub(super) struct Deframer {
    raw: [u8; MAX_HEAD],
    filled: usize,
    /// Received bytes of an incomplete payload that is larger than [`SHARE_MAX`].
    partial: Vec<u8>,
    /// Where small payloads are collected; holds the received bytes of an incomplete one.
    block: BytesMut,
    /// The capacity of the current block when it was allocated.
    block_size: usize,
    /// Payloads whose buffers can be reused once all other references are dropped, oldest first.
    spare: VecDeque<Bytes>,
}

impl Deframer {
    /// Reads the next head; `None` until it is complete.
    pub(super) fn head(&mut self, data: &mut &[u8]) -> Result<Option<Head>, ZmtpViolation> {
        if !self.fill(data, 1) {
            return Ok(None);
        }
        // The flags alone decide whether the frame is valid (Z-9), so refuse it before its length has
        // arrived.
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
            // Fails only if `usize` has 32 bits. Otherwise, the caller's limit refuses such a length.
            let len = u64::from_be_bytes(len);
            usize::try_from(len).map_err(|_| ZmtpViolation::FrameLength(len))?
        } else {
            usize::from(self.raw[1])
        };
        // 0: the next byte begins another head. The raw bytes stay in this one, because the handshake counts
        // them.
        let raw_len = std::mem::take(&mut self.filled);
        Ok(Some(Head { more: flags & MORE != 0, command: flags & COMMAND != 0, len, raw: self.raw, raw_len }))
    }

    /// Reads a payload of `len` bytes; `None` until it is complete. `len` must not change until then. Never
    /// shares the buffer of `data`.
    pub(super) fn payload(&mut self, data: &mut &[u8], len: usize) -> Option<Payload> {
        if len <= SHARE_MAX {
            return self.small(data, len).map(Payload::Shared);
        }
        if self.partial.is_empty() {
            // The first part. `reuse` allocates nothing, so an announced length alone costs no memory (Z-12).
            self.partial = self.reuse(len);
        }
        self.collect(data, len, FIRST_ALLOCATION).map(Payload::Own)
    }

    /// Like [`payload`](Self::payload), for a peer that is not authenticated: allocates at most twice the
    /// bytes received.
    pub(super) fn early_payload(&mut self, data: &mut &[u8], len: usize) -> Option<Vec<u8>> {
        self.collect(data, len, 0)
    }

    /// A payload without its first `skip` bytes, as the frame of a message.
    pub(super) fn freeze(&mut self, payload: Payload, skip: usize) -> Bytes {
        let mut whole = match payload {
            Payload::Shared(whole) => whole.freeze(),
            Payload::Own(whole) => self.large(whole),
        };
        // Cheaper than moving the payload: what is skipped, at most the 33 bytes around a CURVE message,
        // stays allocated in front of the frame.
        whole.advance(skip);
        whole
    }

    fn collect(&mut self, data: &mut &[u8], len: usize, first: usize) -> Option<Vec<u8>> {
        let take = data.len().min(len - self.partial.len());
        // The buffer becomes the payload's, so it never grows beyond its length.
        grow(&mut self.partial, take, first, len);
        self.partial.extend_from_slice(&data[..take]);
        data.advance(take);
        (self.partial.len() == len).then(|| std::mem::take(&mut self.partial))
    }

    /// Received bytes of an incomplete payload.
    pub(super) fn partial(&self) -> usize {
        self.partial.len() + self.block.len()
    }

    /// Also one that arrives in parts: `block` then holds those that have arrived.
    fn small(&mut self, data: &mut &[u8], len: usize) -> Option<BytesMut> {
        if len == 0 {
            return Some(BytesMut::new());
        }
        let take = data.len().min(len - self.block.len());
        if take == 0 {
            // An announced length alone costs no memory (Z-12).
            return None;
        }
        // Reclaim the block if all payloads in it were dropped; otherwise allocate a new one. Never between
        // two parts, for which there is room since the first.
        if self.block.capacity() < len && !self.block.try_reclaim(self.block_size.max(len)) {
            self.block_size = (2 * self.block_size).clamp(FIRST_BLOCK, BLOCK);
            self.block = BytesMut::with_capacity(self.block_size.max(len));
        }
        self.block.extend_from_slice(&data[..take]);
        data.advance(take);
        (self.block.len() == len).then(|| self.block.split())
    }

    fn large(&mut self, payload: Vec<u8>) -> Bytes {
        let payload = Bytes::from(payload);
        if (SHARE_MAX..=REUSE_MAX).contains(&payload.len()) {
            if self.spare.len() == SPARE {
                // Forget the oldest. The application frees it when it drops its message.
                self.spare.pop_front();
            }
            // A second reference, not a copy: it is the only one left once the application has dropped the
            // message.
            self.spare.push_back(payload.clone());
        }
        payload
    }

    /// An empty buffer for a payload of `len` bytes: a spare one, if it is at most a quarter larger, or an
    /// unallocated one.
    fn reuse(&mut self, len: usize) -> Vec<u8> {
        if !self.spare.front().is_some_and(Bytes::is_unique) {
            return Vec::new();
        }
        // Look at the oldest only: messages are usually dropped in the order of their arrival. A buffer of
        // another size is dropped here, too, because usually the sizes of payloads have changed.
        let Some(oldest) = self.spare.pop_front() else { return Vec::new() };
        let Ok(mut buffer) = oldest.try_into_mut() else { return Vec::new() };
        buffer.clear();
        // No limit counts the unused rest while the application keeps the message, so it must be small.
        match (len..=len.saturating_add(len / 4)).contains(&buffer.capacity()) {
            true => Vec::from(buffer),
            false => Vec::new(),
        }
    }

    /// Frees memory that is kept for future payloads.
    pub(super) fn shrink(&mut self) {
        self.spare = VecDeque::new();
        if self.block.is_empty() {
            (self.block, self.block_size) = Default::default();
        }
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
