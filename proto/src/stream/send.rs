//! The sending half of a stream: unsent bytes, the credit granted by the reader, and the bytes that it has
//! acknowledged.
//!
//! Not responsible for when to send: that is up to the [`StreamQueue`](crate::send::StreamQueue).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::wire::{MAX_CHUNK, RECORD_COST};

/// A write that is too large for one DATA is split into pieces of this many bytes. With the heads of its DATA
/// and frame, such a piece fits into one loopback segment of 65,483 bytes. Measured with 64 KiB: the rest
/// took a segment of its own, and both sides a sixth more CPU time.
pub(crate) const FULL_PIECE: usize = MAX_CHUNK - 128;

/// A place among the streams of a priority class: virtual finish time, then order of arrival.
pub(crate) type Order = (u64, u64);

/// The next DATA of a stream, without the number of the call. The codec compresses its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
    pub(crate) fin: bool,
    pub(crate) item: bool,
    /// Credit that it uses.
    pub(crate) cost: u64,
}

/// The sending half of a stream.
#[derive(Debug)]
pub(crate) struct SendHalf {
    pieces: VecDeque<(Bytes, bool)>,
    queued: usize,
    /// Bytes before `pieces` that still wait in the send queue, as the body of an OPEN.
    ahead: usize,
    /// Bytes that have been sent, in OPEN, RESULT and DATA.
    offset: u64,
    spent: u64,
    limit: u64,
    acknowledged: u64,
    end: End,
    /// OPEN or RESULT has been sent, so DATA may follow.
    started: bool,
    /// All bytes are known (a body): they count against `max_outgoing_bytes`, and are sent in long quanta.
    pub(crate) fixed_length: bool,
    pub(crate) compress: bool,
    /// The writer found no room: report when there is some.
    pub(crate) awaits_room: bool,
    /// The writer waits for acknowledgements: report when the reader has consumed more.
    pub(crate) awaits_credit: bool,
    /// Its place in the [`StreamQueue`](crate::send::StreamQueue), if it is queued.
    pub(crate) order: Option<Order>,
    /// Its virtual time: what its DATA has cost, or at least the virtual time of its class when it was last
    /// queued.
    pub(crate) served: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The application may write more.
    Open,
    /// The application has finished; FIN has not been sent.
    Finished,
    /// FIN has been sent.
    Sent,
}

impl SendHalf {
    /// `limit` is the initial credit granted by the reader.
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

    /// Makes this the continuation of `ahead` bytes in the send queue, until [`start`](Self::start).
    pub(crate) fn after(self, ahead: usize) -> Self {
        Self { ahead, ..self }
    }

    pub(crate) fn push(&mut self, bytes: Bytes, item: bool) {
        // Without bytes and without the end of an item, a DATA would only cost credit.
        if !bytes.is_empty() || item {
            self.queued += bytes.len();
            self.pieces.push_back((bytes, item));
        }
    }

    /// OPEN or RESULT has been sent with `left` bytes. `rest` is sent next, before what was written since.
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
            // No more writes, so the writer needs no room.
            self.awaits_room = false;
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.end != End::Open
    }

    pub(crate) fn fin_sent(&self) -> bool {
        self.end == End::Sent
    }

    /// Bytes that wait to be sent as DATA.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// What counts against the limits of this side: the bytes that wait, and at least [`RECORD_COST`] for each
    /// write, because writes without bytes take memory, too.
    pub(crate) fn buffered(&self) -> usize {
        self.queued.max(self.pieces.len() * RECORD_COST as usize)
    }

    /// [`buffered`](Self::buffered) of a body; 0 for any other stream.
    pub(crate) fn body_left(&self) -> usize {
        if self.fixed_length { self.buffered() } else { 0 }
    }

    /// Bytes that the application has written.
    pub(crate) fn written(&self) -> u64 {
        self.offset + (self.ahead + self.queued) as u64
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Sets the initial credit, if the reader announces it only after `new`.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Handles a CREDIT; false if it acknowledges bytes that have not been sent.
    pub(crate) fn credit(&mut self, consumed: u64, limit: u64) -> bool {
        if consumed > self.offset {
            return false;
        }
        // F-6: neither goes back.
        self.acknowledged = self.acknowledged.max(consumed);
        self.limit = self.limit.max(limit);
        true
    }

    /// Whether it has something to send, and credit for it.
    pub(crate) fn is_ready(&self) -> bool {
        let left = self.limit.saturating_sub(self.spent);
        // F-2: DATA before OPEN or RESULT is a fault.
        self.started
            && match self.pieces.front() {
                // A DATA without bytes, which ends an item, costs only its overhead; so does a FIN alone.
                Some((bytes, _)) => left > RECORD_COST || (bytes.is_empty() && left == RECORD_COST),
                None => self.end == End::Finished && left >= RECORD_COST,
            }
    }

    /// Bytes of the next DATA if neither credit nor room limits it.
    pub(crate) fn next_len(&self) -> usize {
        self.pieces.front().map_or(0, |(bytes, _)| bytes.len().min(MAX_CHUNK))
    }

    /// The most bytes that the stream's credit permits in one DATA.
    pub(crate) fn credit_left(&self) -> u64 {
        self.limit.saturating_sub(self.spent).saturating_sub(RECORD_COST)
    }

    /// Takes the next DATA, of at most `room` bytes, and at a cost of at most `credit`, the connection's.
    pub(crate) fn next(&mut self, room: usize, credit: u64) -> Option<Data> {
        let credit = self.limit.saturating_sub(self.spent).min(credit).checked_sub(RECORD_COST)?;
        let room = room.min(usize::try_from(credit).unwrap_or(usize::MAX));
        let (bytes, item) = match self.pieces.front_mut() {
            None if self.end == End::Finished => (Bytes::new(), false),
            None => return None,
            // Only a write that does not fit into one DATA is split.
            Some((bytes, _)) if bytes.len() > room.min(MAX_CHUNK) => {
                // A DATA without any of these bytes would make no progress.
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
        // FIN goes with the last bytes if the writer has finished by now, which saves a DATA.
        let fin = self.end == End::Finished && self.pieces.is_empty();
        if fin {
            self.end = End::Sent;
        }
        Some(Data { offset, bytes, fin, item, cost })
    }
}
