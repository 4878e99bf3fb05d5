//! The received and unread bytes of a stream.
//!
//! Pieces of up to 1 KiB are joined in one growing buffer, so that many tiny ones don't need a buffer each,
//! and don't keep the packets alive in which they arrived. Larger pieces are kept as they are.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::wire::{MAX_CHUNK, RECORD_COST};

/// Pieces of up to this size are joined.
const JOIN_MAX: usize = 1024;

/// A block that is filled to less than 1/4 is copied before the application gets it.
const MAX_SLACK_PART: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Buffer {
    segments: VecDeque<Segment>,
}

/// Consecutive pieces in one block of memory.
#[derive(Debug)]
struct Segment {
    bytes: Block,
    /// Bytes that were split off an open block. Its memory may still have them, its capacity does not.
    split: usize,
    /// The chunks that are read one at a time. Not empty.
    parts: VecDeque<Part>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    len: u32,
    pub(super) cost: u32,
    pub(super) item: bool,
}

#[derive(Debug)]
enum Block {
    Sealed(Bytes),
    /// It may still grow.
    Open(BytesMut),
}

impl Buffer {
    pub(super) fn push(&mut self, bytes: Bytes, cost: u64, item: bool) {
        // Both fit: a piece has at most `MAX_CHUNK` bytes, and so has a block of joined ones.
        let part = Part { len: bytes.len() as u32, cost: cost as u32, item };
        let small = bytes.len() <= JOIN_MAX;
        if small && self.segments.back_mut().is_some_and(|last| last.join(&bytes, part)) {
            return;
        }
        // Copy, because the packet may be much larger.
        let bytes = if small { Block::Open(BytesMut::from(&bytes[..])) } else { Block::Sealed(bytes) };
        self.segments.push_back(Segment { bytes, split: 0, parts: VecDeque::from([part]) });
    }

    pub(super) fn pop(&mut self) -> Option<(Bytes, Part)> {
        let first = self.segments.front_mut()?;
        if first.parts.len() > 1 {
            return first.split();
        }
        let mut last = self.segments.pop_front()?;
        let part = last.parts.pop_front()?;
        Some((last.into_bytes(), part))
    }

    /// All bytes with their cost, block by block.
    pub(super) fn into_parts(self) -> impl Iterator<Item = (Bytes, u64)> {
        self.segments.into_iter().map(|segment| {
            let cost = segment.cost();
            (segment.into_bytes(), cost)
        })
    }

    pub(super) fn cost(&self) -> u64 {
        self.segments.iter().map(Segment::cost).sum()
    }

    #[cfg(test)]
    pub(super) fn buffers(&self) -> usize {
        self.segments.len()
    }
}

impl Segment {
    fn into_bytes(self) -> Bytes {
        match self.bytes {
            Block::Sealed(bytes) => bytes,
            // Most of this block has been read: don't keep all of it alive for the rest.
            Block::Open(bytes) if (self.split + bytes.capacity()) / MAX_SLACK_PART > bytes.len() => {
                Bytes::copy_from_slice(&bytes)
            }
            Block::Open(bytes) => bytes.freeze(),
        }
    }

    fn cost(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.cost)).sum()
    }

    /// Appends a piece if there is room.
    fn join(&mut self, bytes: &[u8], added: Part) -> bool {
        let Block::Open(open) = &mut self.bytes else { return false };
        // The parts are limited, too: an item without bytes adds a part, and nothing to the block.
        if open.len() + bytes.len() > MAX_CHUNK || self.parts.len() > MAX_CHUNK / RECORD_COST as usize {
            return false;
        }
        open.extend_from_slice(bytes);
        // Pieces of one item are read as one chunk.
        match self.parts.back_mut().filter(|last| !last.item) {
            Some(last) => {
                last.len += added.len;
                last.cost += added.cost;
                last.item = added.item;
            }
            None => self.parts.push_back(added),
        }
        true
    }

    /// The first of several parts. It is copied out of an open block, because the application may keep it for
    /// long.
    fn split(&mut self) -> Option<(Bytes, Part)> {
        let part = self.parts.pop_front()?;
        let bytes = match &mut self.bytes {
            Block::Open(open) => {
                self.split += part.len as usize;
                Bytes::copy_from_slice(&open.split_to(part.len as usize))
            }
            // Never taken: a sealed block has one part.
            Block::Sealed(sealed) => sealed.split_to(part.len as usize),
        };
        Some((bytes, part))
    }
}
