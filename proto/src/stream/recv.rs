//! The receiving half of a stream: unread bytes, the credit granted to the writer, and the checks for faults
//! of the peer.
//!
//! A stream starts with a small window, since the application may never read it, or it may carry little. Its
//! reassembly widens the window, and so does the application once it has read half of it. If the application
//! then consumes a whole window in less than two round trips, the window limits the writer, and is doubled (as
//! in the autotuning of QUIC implementations).

mod buffer;

use std::time::Instant;

use bytes::Bytes;

use self::buffer::{Buffer, Part};
use super::reassembly::Reassembler;
use super::{Chunk, Flow, ReadError, Spares, StreamFault};
use crate::wire::{DecodeError, MAX_CHUNK, Piece, RECORD_COST};

/// A writer that has all of a body sends at least this many bytes in each DATA. Estimates their overhead.
const PIECE_EXPECTED: u64 = 16 * 1024;

// With a larger step, the writer could stall at its limit before the CREDIT arrives; with a smaller one,
// more of the traffic is CREDITs.
/// CREDIT is sent once 1/4 of the window has been consumed.
const CREDIT_STEP: u64 = 4;

/// The receiving half of a stream.
#[derive(Debug)]
pub(crate) struct RecvHalf {
    mode: Mode,
    /// Bytes received, and what their DATA cost.
    received: u64,
    spent: u64,
    /// The most that all DATA of the stream may cost, as granted to the writer.
    limit: u64,
    window: u64,
    /// The part of `window` that does not use the connection's allowance.
    initial_window: u64,
    /// Bytes that were read; what they had cost; and the part of that cost that was acknowledged.
    consumed: u64,
    consumed_cost: u64,
    acknowledged_cost: u64,
    declared: Option<u64>,
    fin: bool,
    /// Whether the owner was told that there is something to read.
    announced: bool,
    end: End,
    /// When the current measurement of the window's use began, and what had been consumed by then.
    measured_from: Option<(Instant, u64)>,
    /// When its reassembly times out. Set by the owner.
    pub(crate) deadline: Option<Instant>,
}

/// What happens to received bytes.
#[derive(Debug)]
enum Mode {
    /// They are buffered until they are read.
    Read(Buffer),
    /// They are buffered until there is memory for reassembly.
    AwaitMemory(Buffer),
    Reassemble(Reassembler),
    /// They are dropped: reassembly has failed, and the owner has not been told yet.
    Broken(ReadError),
    /// They are dropped, and the owner knows.
    Failed(ReadError),
}

/// Whether the writer was told that the application has read everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Unread,
    Due,
    Acknowledged,
}

/// The result of a read.
#[derive(Debug)]
pub(crate) enum Next {
    /// The next chunk, and what it had cost.
    Chunk(Chunk, u64),
    End,
    Pending,
}

impl RecvHalf {
    /// `window` is in units of cost; `declared` is the size in bytes, if the writer has declared it.
    pub(crate) fn new(window: u64, declared: Option<u64>) -> Self {
        Self {
            mode: Mode::Read(Buffer::default()),
            received: 0,
            spent: 0,
            limit: window,
            window,
            initial_window: window,
            consumed: 0,
            consumed_cost: 0,
            acknowledged_cost: 0,
            declared,
            fin: false,
            announced: false,
            end: End::Unread,
            measured_from: None,
            deadline: None,
        }
    }

    /// Handles the piece of an OPEN or RESULT, which costs no credit.
    pub(crate) fn first(&mut self, bytes: Bytes, item: bool) -> Result<(), StreamFault> {
        if self.declared.is_some_and(|size| bytes.len() as u64 > size) {
            return Err(StreamFault::Size);
        }
        self.received = bytes.len() as u64;
        // An OPEN or RESULT without bytes has nothing to read.
        if let (true, Mode::Read(buffer)) = (!bytes.is_empty() || item, &mut self.mode) {
            buffer.push(bytes, 0, item);
        }
        Ok(())
    }

    /// Handles the piece of a DATA in a frame of `frame` bytes, whose cost the caller has counted for the
    /// connection. Returns the part of that cost that is consumed at once, because the piece was dropped or
    /// copied into a body.
    pub(crate) fn take(&mut self, offset: u64, piece: Piece, frame: usize) -> Result<u64, StreamFault> {
        let size = piece.declared(MAX_CHUNK).map_err(|error| match error {
            DecodeError::TooLarge { .. } => StreamFault::Oversize,
            _ => StreamFault::Snappy,
        })?;
        let cost = RECORD_COST + size as u64;
        // Without further checks: `received` has stopped counting, and the peer may not know of the failure.
        if matches!(self.mode, Mode::Broken(_) | Mode::Failed(_)) {
            return Ok(cost);
        }
        // Before anything is decompressed.
        self.check(offset, size, cost, piece.fin)?;
        let (fin, item) = (piece.fin, piece.item);
        let (compressed, bytes) =
            (piece.compressed, piece.plain(MAX_CHUNK).map_err(|_| StreamFault::Snappy)?);
        self.received += size as u64;
        self.spent += cost;
        self.fin = fin;
        if bytes.is_empty() && !item {
            // There is nothing to read, so no read would return this credit.
            self.consumed_cost += cost;
            return Ok(cost);
        }
        let keep = || if compressed { bytes.clone() } else { crate::wire::keep(&bytes, frame) };
        match &mut self.mode {
            Mode::Read(buffer) | Mode::AwaitMemory(buffer) => {
                buffer.push(keep(), cost, item);
                Ok(0)
            }
            Mode::Reassemble(reassembler) => {
                let pushed = reassembler.push(&bytes, keep);
                // The memory is assigned, so a body counts as read when it arrives.
                self.consumed += size as u64;
                self.consumed_cost += cost;
                if let Err(error) = pushed {
                    self.mode = Mode::Broken(error);
                }
                Ok(cost)
            }
            Mode::Broken(_) | Mode::Failed(_) => Ok(cost),
        }
    }

    fn check(&self, offset: u64, size: usize, cost: u64, fin: bool) -> Result<(), StreamFault> {
        // FIN first: nothing may follow it, not even a piece at the right offset.
        if self.fin {
            return Err(StreamFault::PastEnd);
        }
        match offset.cmp(&self.received) {
            std::cmp::Ordering::Less => return Err(StreamFault::Overlap),
            std::cmp::Ordering::Greater => return Err(StreamFault::Gap),
            std::cmp::Ordering::Equal => {}
        }
        if cost > self.limit.saturating_sub(self.spent) {
            return Err(StreamFault::Credit);
        }
        // F-2: checked for each piece, so that a reader never gets more than was declared.
        let received = self.received + size as u64;
        if self.declared.is_some_and(|all| received > all || (fin && received != all)) {
            return Err(StreamFault::Size);
        }
        Ok(())
    }

    /// Reads the next chunk.
    pub(crate) fn next(&mut self) -> Result<Next, ReadError> {
        let buffer = match &mut self.mode {
            Mode::Read(buffer) => buffer,
            Mode::AwaitMemory(_) | Mode::Reassemble(_) | Mode::Broken(_) => return Err(ReadError::NotOpen),
            Mode::Failed(error) => return Err(*error),
        };
        if let Some((bytes, Part { cost, item, .. })) = buffer.pop() {
            let cost = u64::from(cost);
            self.consumed += bytes.len() as u64;
            self.consumed_cost += cost;
            return Ok(Next::Chunk(Chunk { bytes, end_of_item: item }, cost));
        }
        if self.fin {
            self.end_read();
            return Ok(Next::End);
        }
        // Tell the owner again once more has arrived.
        self.announced = false;
        Ok(Next::Pending)
    }

    /// Makes the last CREDIT due, once.
    fn end_read(&mut self) {
        if self.end == End::Unread {
            self.end = End::Due;
        }
    }

    /// Drops unread bytes, and all that arrive from now on. Returns the cost that this frees for the
    /// connection.
    pub(crate) fn fail(&mut self, error: ReadError) -> u64 {
        match &mut self.mode {
            Mode::Failed(_) => 0,
            mode => match std::mem::replace(mode, Mode::Failed(error)) {
                Mode::Read(buffer) | Mode::AwaitMemory(buffer) => buffer.cost(),
                // Their DATA has been consumed already.
                Mode::Reassemble(_) | Mode::Broken(_) | Mode::Failed(_) => 0,
            },
        }
    }

    /// The application stops reading. Returns the cost that this frees for the connection.
    pub(crate) fn stop(&mut self) -> u64 {
        let freed = self.fail(ReadError::NotOpen);
        // Even if it had failed before: for the application, there is no such stream any more.
        self.mode = Mode::Failed(ReadError::NotOpen);
        freed
    }

    /// Whether to tell the owner that there is something to read; true once, until a read finds nothing more.
    pub(crate) fn announce(&mut self) -> bool {
        !std::mem::replace(&mut self.announced, true)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.fin
    }

    pub(crate) fn failure(&self) -> Option<ReadError> {
        match self.mode {
            Mode::Broken(error) | Mode::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the stream has failed, and the owner knows.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.mode, Mode::Failed(_))
    }

    /// Whether it can be read to its end without further input from the peer.
    pub(crate) fn is_readable_to_its_end(&self) -> bool {
        self.fin && matches!(self.mode, Mode::Read(_))
    }

    /// Whether the writer has declared the size.
    pub(crate) fn has_declared_size(&self) -> bool {
        self.declared.is_some()
    }

    /// Bytes that have arrived and can be read.
    pub(crate) fn unread(&self) -> u64 {
        match self.mode {
            Mode::Broken(_) | Mode::Failed(_) => 0,
            _ => self.received - self.consumed,
        }
    }

    /// Cost of the unread bytes.
    pub(crate) fn unread_cost(&self) -> u64 {
        self.spent - self.consumed_cost
    }

    /// Bytes from the reader's position to the end, if the size is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        let whole = self.declared.or_else(|| self.fin.then_some(self.received));
        whole.map(|whole| whole.saturating_sub(self.consumed))
    }

    /// From now on, the stream waits for memory for its reassembly.
    pub(crate) fn await_memory(&mut self) {
        if let Mode::Read(buffer) = &mut self.mode {
            self.mode = Mode::AwaitMemory(std::mem::take(buffer));
        }
    }

    pub(crate) fn awaits_memory(&self) -> bool {
        matches!(self.mode, Mode::AwaitMemory(_))
    }

    /// Whether it is being reassembled, or waits for memory.
    pub(crate) fn is_reassembled(&self) -> bool {
        matches!(self.mode, Mode::AwaitMemory(_) | Mode::Reassemble(_) | Mode::Broken(_))
    }

    /// Starts to reassemble the rest to a body of at most `limit` bytes. Returns the cost that this frees for
    /// the connection.
    pub(crate) fn reassemble(&mut self, limit: usize, spares: &mut Spares) -> u64 {
        let declared = self.remaining().and_then(|size| usize::try_from(size).ok());
        let Mode::AwaitMemory(buffer) = &mut self.mode else { return 0 };
        let mut reassembler = Reassembler::new(limit, declared, spares);
        let (mut freed, mut failure) = (0, None);
        // After a failure, too: the cost of what is dropped must come back.
        for (bytes, cost) in std::mem::take(buffer).into_parts() {
            freed += cost;
            self.consumed += bytes.len() as u64;
            self.consumed_cost += cost;
            if failure.is_none() {
                failure = reassembler.push(&bytes, || bytes.clone()).err();
            }
        }
        self.mode = failure.map_or(Mode::Reassemble(reassembler), Mode::Broken);
        freed
    }

    /// The body, once it is complete, or why there is none; `None` until then.
    pub(crate) fn reassembled(&mut self, spares: &mut Spares) -> Option<Result<Bytes, ReadError>> {
        if let Mode::Broken(error) = self.mode {
            return Some(Err(error));
        }
        if !self.fin {
            return None;
        }
        match std::mem::replace(&mut self.mode, Mode::Failed(ReadError::NotOpen)) {
            // The body counts as read, so further reads fail.
            Mode::Reassemble(reassembler) => {
                self.end_read();
                Some(Ok(reassembler.into_body(spares)))
            }
            other => {
                self.mode = other;
                None
            }
        }
    }

    /// `consumed` and `limit` of a CREDIT, if one is due.
    pub(crate) fn credit_due(&mut self, now: Instant, flow: &mut Flow) -> Option<(u64, u64)> {
        let step = self.window / CREDIT_STEP;
        if self.fin {
            // No DATA will follow, so only the acknowledgement matters.
            return self.last_credit();
        }
        // A failed stream is granted nothing more: at the latest, its writer stalls at the limit.
        if self.failure().is_some() {
            return None;
        }
        let target = self.consumed_cost.saturating_add(self.window);
        if target.saturating_sub(self.limit) < step.max(1) {
            return None;
        }
        self.fit_window(now, flow);
        self.acknowledged_cost = self.consumed_cost;
        self.limit = self.consumed_cost.saturating_add(self.window);
        Some((self.consumed, self.limit))
    }

    /// The same for a stream that has arrived completely. It needs no more credit, but the writer may wait
    /// for acknowledgements.
    pub(crate) fn last_credit(&mut self) -> Option<(u64, u64)> {
        let step = self.window / CREDIT_STEP;
        let due = self.consumed_cost - self.acknowledged_cost >= step && self.failure().is_none();
        if self.end == End::Due {
            self.end = End::Acknowledged;
        } else if !due {
            return None;
        }
        self.acknowledged_cost = self.consumed_cost;
        Some((self.consumed, self.limit))
    }

    /// Doubles the window if a whole window was consumed in less than two of the shortest round trips.
    /// Measuring less than a window would mistake a reader that catches up for a fast one, and a wide window
    /// means more buffered data, that is, more delay.
    fn fit_window(&mut self, now: Instant, flow: &mut Flow) {
        // The first CREDIT only starts the measurement.
        let (since, from) = *self.measured_from.get_or_insert((now, self.consumed_cost));
        if self.consumed_cost - from < self.window {
            return;
        }
        if let Some(trip) = flow.round_trip()
            && now.saturating_duration_since(since) < trip * 2
            && flow.grow(self.window)
        {
            self.window *= 2;
        }
        self.measured_from = Some((now, self.consumed_cost));
    }

    /// Whether the stream carries enough to be worth a wide window, which uses the connection's allowance until
    /// the stream ends. For example, a terminal's session does not.
    pub(crate) fn has_used_its_window(&self) -> bool {
        self.consumed_cost >= self.window / 2
    }

    /// Widens the window to `window`, as far as the connection's allowance permits. Does nothing if all the
    /// rest fits already. Returns whether the window changed.
    pub(crate) fn open_window(&mut self, window: u64, flow: &mut Flow) -> bool {
        if self.window >= window || self.fin || self.failure().is_some() {
            return false;
        }
        // A wider window is of no use if the granted credit covers the rest of the stream.
        let rest = self.declared.map(|all| all - self.received);
        if rest.is_some_and(|rest| rest.saturating_add(RECORD_COST) <= self.limit - self.spent) {
            return false;
        }
        // What is left of the allowance may be less. The next reads ask again.
        let by = (window - self.window).min(flow.growth_left);
        self.window += by;
        flow.growth_left -= by;
        by > 0
    }

    /// Widens the window to the rest of the declared size, without using the connection's allowance: a body
    /// that is reassembled is not buffered in the window. Returns false if no size is declared.
    pub(crate) fn open_to_its_end(&mut self) -> bool {
        let Some(rest) = self.declared.map(|all| all - self.received) else { return false };
        // One more for the remainder of the division, and one for a FIN of its own.
        let pieces = rest / PIECE_EXPECTED + 2;
        let window = rest.saturating_add(pieces.saturating_mul(RECORD_COST));
        let by = window.saturating_sub(self.window);
        self.window += by;
        // Both, so that `growth`, which is returned to the allowance, does not count this.
        self.initial_window += by;
        true
    }

    /// How much of the connection's allowance this window uses.
    pub(crate) fn growth(&self) -> u64 {
        self.window - self.initial_window
    }

    /// Returns the window's part of the connection's allowance: nothing more will be buffered.
    pub(crate) fn return_growth(&mut self, flow: &mut Flow) {
        flow.growth_left += self.growth();
        self.initial_window = self.window;
    }

    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn held_cost(&self) -> u64 {
        match &self.mode {
            Mode::Read(buffer) | Mode::AwaitMemory(buffer) => buffer.cost(),
            Mode::Reassemble(_) | Mode::Broken(_) | Mode::Failed(_) => 0,
        }
    }

    #[cfg(test)]
    pub(crate) fn buffers(&self) -> usize {
        match &self.mode {
            Mode::Read(buffer) | Mode::AwaitMemory(buffer) => buffer.buffers(),
            Mode::Reassemble(_) | Mode::Broken(_) | Mode::Failed(_) => 0,
        }
    }

    #[cfg(test)]
    pub(crate) fn window(&self) -> u64 {
        self.window
    }
}
