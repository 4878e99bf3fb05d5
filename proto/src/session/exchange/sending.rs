//! What this side writes of a content: what waits, how far credit reaches, what was acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

use super::table::Turn;
use crate::wire::dialect2::{MAX_CHUNK, Piece, RECORD_COST};

/// Compression is given up for a piece that it would not make shorter by this part of it.
const WORTH: usize = 8;

/// A DATA record, but for the call's number.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::session) struct Data {
    pub(in crate::session) offset: u64,
    pub(in crate::session) content: Piece,
    /// Credit that it takes.
    pub(in crate::session) cost: u64,
    /// Bytes taken from what waited.
    pub(in crate::session) taken: usize,
}

/// The writing half of an exchange.
#[derive(Debug)]
pub(in crate::session) struct Sending {
    pieces: VecDeque<(Bytes, bool)>,
    queued: usize,
    /// Bytes that come before the others, and wait elsewhere.
    ahead: usize,
    /// Bytes of content that have left.
    offset: u64,
    spent: u64,
    limit: u64,
    acknowledged: u64,
    finished: bool,
    fin_sent: bool,
    pub(in crate::session) compress: bool,
    /// The writer found no room, and is to be told when there is some.
    pub(in crate::session) awaits_room: bool,
    /// The writer is to be told when the reader has taken more.
    pub(in crate::session) awaits_credit: bool,
    /// Its turn, while it has something to send.
    pub(in crate::session) turn: Option<Turn>,
    /// What has left, in the time of its lane.
    pub(in crate::session) served: u64,
}

impl Sending {
    pub(in crate::session) fn new(limit: u64, compress: bool) -> Self {
        Self {
            pieces: VecDeque::new(),
            queued: 0,
            ahead: 0,
            offset: 0,
            spent: 0,
            limit,
            acknowledged: 0,
            finished: false,
            fin_sent: false,
            compress,
            awaits_room: false,
            awaits_credit: false,
            turn: None,
            served: 0,
        }
    }

    /// Follows `ahead` bytes that will be given to [`begin`](Self::begin).
    pub(in crate::session) fn after(self, ahead: usize) -> Self {
        Self { ahead, ..self }
    }

    pub(in crate::session) fn push(&mut self, bytes: Bytes, item: bool) {
        if !bytes.is_empty() || item {
            self.queued += bytes.len();
            self.pieces.push_back((bytes, item));
        }
    }

    /// What follows a first piece that has left, ahead of what was written since.
    pub(in crate::session) fn begin(&mut self, left: usize, rest: Bytes, item: bool) {
        self.offset = left as u64;
        self.ahead = 0;
        if !rest.is_empty() {
            self.queued += rest.len();
            self.pieces.push_front((rest, item));
        }
    }

    pub(in crate::session) fn finish(&mut self) {
        self.finished = true;
        // Nothing more is written, so that room is of no use.
        self.awaits_room = false;
    }

    pub(in crate::session) fn is_finished(&self) -> bool {
        self.finished
    }

    pub(in crate::session) fn fin_sent(&self) -> bool {
        self.fin_sent
    }

    pub(in crate::session) fn queued(&self) -> usize {
        self.queued
    }

    /// Bytes that were given to be sent.
    pub(in crate::session) fn written(&self) -> u64 {
        self.offset + (self.ahead + self.queued) as u64
    }

    pub(in crate::session) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The credit that the peer gives from the start, which may only be known later.
    pub(in crate::session) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Takes a CREDIT; false if it acknowledges what has not left.
    pub(in crate::session) fn credit(&mut self, consumed: u64, limit: u64) -> bool {
        if consumed > self.offset {
            return false;
        }
        self.acknowledged = self.acknowledged.max(consumed);
        self.limit = self.limit.max(limit);
        true
    }

    /// Whether there is something to send, and credit for it.
    pub(in crate::session) fn is_ready(&self) -> bool {
        let left = self.limit.saturating_sub(self.spent);
        match self.pieces.front() {
            Some((bytes, _)) => left > RECORD_COST || (bytes.is_empty() && left == RECORD_COST),
            None => self.finished && !self.fin_sent && left >= RECORD_COST,
        }
    }

    /// Bytes that the next record would have, had it all the credit and room that it wants.
    pub(in crate::session) fn next_len(&self) -> usize {
        self.pieces.front().map_or(0, |(bytes, _)| bytes.len().min(MAX_CHUNK))
    }

    /// Bytes of content that there is credit for, in one record.
    pub(in crate::session) fn credit_left(&self) -> u64 {
        self.limit.saturating_sub(self.spent).saturating_sub(RECORD_COST)
    }

    /// The next record, of at most `room` bytes of content and for at most `link` credit.
    pub(in crate::session) fn next(&mut self, room: usize, link: u64) -> Option<Data> {
        let credit = self.limit.saturating_sub(self.spent).min(link).checked_sub(RECORD_COST)?;
        let most = room.min(MAX_CHUNK).min(usize::try_from(credit).unwrap_or(usize::MAX));
        let (bytes, item) = match self.pieces.front_mut() {
            None if self.finished && !self.fin_sent => (Bytes::new(), false),
            None => return None,
            Some((bytes, _)) if bytes.len() > most => {
                if most == 0 {
                    return None;
                }
                (bytes.split_to(most), false)
            }
            Some(_) => self.pieces.pop_front()?,
        };
        let taken = bytes.len();
        self.queued -= taken;
        let offset = self.offset;
        self.offset += taken as u64;
        let cost = RECORD_COST + taken as u64;
        self.spent += cost;
        let fin = self.finished && self.pieces.is_empty();
        self.fin_sent = fin;
        let (bytes, compressed) = self.maybe_compress(bytes);
        Some(Data { offset, content: Piece { bytes, fin, item, compressed }, cost, taken })
    }

    pub(in crate::session) fn maybe_compress(&self, bytes: Bytes) -> (Bytes, bool) {
        if !self.compress { (bytes, false) } else { compress(bytes) }
    }
}

/// Compresses a piece, where that helps.
pub(in crate::session) fn compress(bytes: Bytes) -> (Bytes, bool) {
    let block = snap::raw::Encoder::new().compress_vec(&bytes);
    match block {
        Ok(mut block) if block.len() + bytes.len() / WORTH < bytes.len() => {
            // It has room for the worst case, which would wait for the peer uncounted.
            block.shrink_to_fit();
            (Bytes::from(block), true)
        }
        _ => (bytes, false),
    }
}
