//! The sending half of a stream: unsent bytes, the reader's credit, and the bytes that it has acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::wire::{MAX_CHUNK, RECORD_COST};

/// Bytes of each piece of a write that is too large for one DATA. With the heads of its DATA and frame it
/// fits a segment of loopback, which has 65,483 bytes; with 64 KiB, the rest took a segment of its own, and a
/// sixth more CPU time on both sides.
pub(crate) const FULL_PIECE: usize = MAX_CHUNK - 128;

/// A place among the streams of a priority class: virtual finish time, then first come, first served.
pub(crate) type Order = (u64, u64);

/// The next DATA of a stream, but for the call's number. The codec compresses its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
    pub(crate) fin: bool,
    pub(crate) item: bool,
    /// Credit that it takes.
    pub(crate) cost: u64,
}

/// The sending half of a stream.
#[derive(Debug)]
pub(crate) struct SendHalf {
    pieces: VecDeque<(Bytes, bool)>,
    queued: usize,
    /// Bytes that come before these and wait in the send queue, with OPEN.
    ahead: usize,
    /// Bytes that have left.
    offset: u64,
    spent: u64,
    limit: u64,
    acknowledged: u64,
    end: End,
    /// OPEN or RESULT has left, so that DATA may follow.
    started: bool,
    /// All of it was given at once (a body): it counts for the limit of what may wait, and leaves in long
    /// quanta.
    pub(crate) fixed_length: bool,
    pub(crate) compress: bool,
    /// The writer found no room, and is to be told when there is some.
    pub(crate) awaits_room: bool,
    /// The writer is to be told when the reader has consumed more.
    pub(crate) awaits_credit: bool,
    /// Its place among the streams that can send, and the bytes it has sent in the virtual time of its
    /// priority class.
    pub(crate) order: Option<Order>,
    pub(crate) served: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// More may be written.
    Open,
    /// Nothing more will be written; the end has not left.
    Finished,
    /// The end has left.
    Sent,
}

impl SendHalf {
    /// `limit` is the credit that the reader gives from the start.
    pub(crate) fn new(limit: u64, compress: bool) -> Self {
        Self {
            pieces: VecDeque::new(),
            queued: 0,
            ahead: 0,
            offset: 0,
            spent: 0,
            limit,
            acknowledged: 0,
            end: End::Open,
            started: false,
            fixed_length: false,
            compress,
            awaits_room: false,
            awaits_credit: false,
            order: None,
            served: 0,
        }
    }

    /// Follows `ahead` bytes that wait elsewhere and are given to [`start`](Self::start).
    pub(crate) fn after(self, ahead: usize) -> Self {
        Self { ahead, ..self }
    }

    pub(crate) fn push(&mut self, bytes: Bytes, item: bool) {
        if !bytes.is_empty() || item {
            self.queued += bytes.len();
            self.pieces.push_back((bytes, item));
        }
    }

    /// OPEN or RESULT has left with `left` bytes; `rest` follows, ahead of what was written since.
    pub(crate) fn start(&mut self, left: usize, rest: Bytes, item: bool) {
        self.started = true;
        self.offset = left as u64;
        self.ahead = 0;
        if !rest.is_empty() {
            self.queued += rest.len();
            self.pieces.push_front((rest, item));
        }
    }

    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn has_started(&self) -> bool {
        self.started
    }

    pub(crate) fn finish(&mut self) {
        if self.end == End::Open {
            self.end = End::Finished;
            // Nothing more is written, so room is of no use.
            self.awaits_room = false;
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.end != End::Open
    }

    pub(crate) fn fin_sent(&self) -> bool {
        self.end == End::Sent
    }

    /// Bytes that wait here.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Bytes of a body that have not left; 0 of any other stream.
    pub(crate) fn body_left(&self) -> usize {
        if self.fixed_length { self.queued } else { 0 }
    }

    /// Bytes that were written.
    pub(crate) fn written(&self) -> u64 {
        self.offset + (self.ahead + self.queued) as u64
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The credit that the reader gives from the start, which may only be known later.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Takes a CREDIT; false if it acknowledges what has not left.
    pub(crate) fn credit(&mut self, consumed: u64, limit: u64) -> bool {
        if consumed > self.offset {
            return false;
        }
        self.acknowledged = self.acknowledged.max(consumed);
        self.limit = self.limit.max(limit);
        true
    }

    /// Whether it has something to send, and credit for it.
    pub(crate) fn is_ready(&self) -> bool {
        let left = self.limit.saturating_sub(self.spent);
        self.started
            && match self.pieces.front() {
                Some((bytes, _)) => left > RECORD_COST || (bytes.is_empty() && left == RECORD_COST),
                None => self.end == End::Finished && left >= RECORD_COST,
            }
    }

    /// Bytes that the next DATA would have with all the credit and room that it wants.
    pub(crate) fn next_len(&self) -> usize {
        self.pieces.front().map_or(0, |(bytes, _)| bytes.len().min(MAX_CHUNK))
    }

    /// Bytes that there is credit for, in one DATA.
    pub(crate) fn credit_left(&self) -> u64 {
        self.limit.saturating_sub(self.spent).saturating_sub(RECORD_COST)
    }

    /// The next DATA, of at most `room` bytes and for at most `credit` of the connection.
    pub(crate) fn next(&mut self, room: usize, credit: u64) -> Option<Data> {
        let credit = self.limit.saturating_sub(self.spent).min(credit).checked_sub(RECORD_COST)?;
        let room = room.min(usize::try_from(credit).unwrap_or(usize::MAX));
        let (bytes, item) = match self.pieces.front_mut() {
            None if self.end == End::Finished => (Bytes::new(), false),
            None => return None,
            Some((bytes, _)) if bytes.len() > room.min(MAX_CHUNK) => {
                if room == 0 {
                    return None;
                }
                (bytes.split_to(room.min(FULL_PIECE)), false)
            }
            Some(_) => self.pieces.pop_front()?,
        };
        self.queued -= bytes.len();
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        let cost = RECORD_COST + bytes.len() as u64;
        self.spent += cost;
        let fin = self.end == End::Finished && self.pieces.is_empty();
        if fin {
            self.end = End::Sent;
        }
        Some(Data { offset, bytes, fin, item, cost })
    }
}
