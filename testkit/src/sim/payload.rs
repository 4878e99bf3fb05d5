//! The bytes of arguments and results: a function of call, direction and offset, so that the reader can check them
//! without a copy of what was written.

use bytes::{Bytes, BytesMut};

/// Bytes of a block. Each block of a stream is a slice of the table that starts in its first half.
const BLOCK: usize = 16 * 1024;

/// Every other kilobyte can be compressed.
static TABLE: [u8; 2 * BLOCK] = table();

#[allow(long_running_const_eval, reason = "32 Ki steps")]
const fn table() -> [u8; 2 * BLOCK] {
    let mut bytes = [0; 2 * BLOCK];
    let (mut at, mut state) = (0, 1_u32);
    while at < bytes.len() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes[at] = if at / 1024 % 2 == 0 { (state >> 24) as u8 } else { (at / 1024) as u8 };
        at += 1;
    }
    bytes
}

/// Which of a call's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Argument,
    Result,
}

/// The bytes from `offset` to the end of its block, at most `len`.
fn piece(call: usize, direction: Direction, offset: u64, len: usize) -> &'static [u8] {
    let (block, within) = (offset / BLOCK as u64, (offset % BLOCK as u64) as usize);
    let mixed = (call as u64 * 2 + direction as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ block << 20;
    let start = (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as usize % BLOCK;
    &TABLE[start + within..start + within + len.min(BLOCK - within)]
}

pub(super) fn bytes(call: usize, direction: Direction, offset: u64, len: usize) -> Bytes {
    let mut all = BytesMut::with_capacity(len);
    while all.len() < len {
        all.extend_from_slice(piece(call, direction, offset + all.len() as u64, len - all.len()));
    }
    all.freeze()
}

/// # Panics
/// If the stream has other bytes at this offset.
pub(super) fn check(call: usize, direction: Direction, offset: u64, mut got: &[u8]) {
    let mut at = offset;
    while !got.is_empty() {
        let expected = piece(call, direction, at, got.len());
        let (head, rest) = got.split_at(expected.len());
        assert!(head == expected, "call {call}, {direction:?}: other bytes after {at} than were written");
        at += head.len() as u64;
        got = rest;
    }
}
