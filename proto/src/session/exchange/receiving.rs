//! What the peer writes of a content: what was not taken yet, how much credit it has, what it got wrong.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::gather::Gather;
use super::{Chunk, ContentError, ContentFault};
use crate::wire::DecodeError;
use crate::wire::dialect2::{MAX_CHUNK, Piece, RECORD_COST};

/// Pieces up to this size are put together while they wait, so that many tiny ones take the memory of one.
const JOIN_MAX: usize = 1024;

/// Bytes of a piece of a body, at the least, from a writer that has all of it.
const PIECE_EXPECTED: u64 = 16 * 1024;

/// Credit is given again when this part of the window has been used.
const CREDIT_STEP: u64 = 4;

/// The reading half of an exchange.
#[derive(Debug)]
pub(in crate::session) struct Receiving {
    chunks: VecDeque<Waiting>,
    /// Bytes of content that came.
    received: u64,
    spent: u64,
    limit: u64,
    window: u64,
    initial_window: u64,
    /// Bytes of content that were taken, and what they had cost.
    consumed: u64,
    consumed_cost: u64,
    acknowledged_cost: u64,
    declared: Option<u64>,
    fin: bool,
    failed: Option<ContentError>,
    gather: Option<Gather>,
    /// Whether the owner knows that there is something to read.
    announced: bool,
    /// The end was read, and the writer has not been told, or has.
    end_due: bool,
    end_told: bool,
    /// Since when the window is watched, and what had been taken by then.
    watched: Option<(Instant, u64)>,
}

/// Pieces in one buffer.
#[derive(Debug)]
struct Waiting {
    bytes: Joined,
    /// What is read at a time. Not empty.
    parts: VecDeque<Part>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    len: u32,
    cost: u32,
    item: bool,
}

/// Bytes that may still grow.
#[derive(Debug)]
enum Joined {
    Whole(Bytes),
    Open(BytesMut),
}

impl Joined {
    fn into_bytes(self) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes,
            // What is left of a buffer that others have left may be much larger.
            Self::Open(bytes) if bytes.capacity() / 4 > bytes.len() => Bytes::copy_from_slice(&bytes),
            Self::Open(bytes) => bytes.freeze(),
        }
    }
}

impl Waiting {
    fn cost(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.cost)).sum()
    }

    /// Adds a piece, if there is room.
    fn join(&mut self, bytes: &[u8], added: Part) -> bool {
        let Joined::Open(open) = &mut self.bytes else { return false };
        if open.len() + bytes.len() > MAX_CHUNK || self.parts.len() > MAX_CHUNK / RECORD_COST as usize {
            return false;
        }
        open.extend_from_slice(bytes);
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

    /// The first part, which is not the last, in a buffer of its own: nobody knows for how long it is kept.
    fn split(&mut self) -> Option<(Bytes, Part)> {
        let part = self.parts.pop_front()?;
        let bytes = match &mut self.bytes {
            Joined::Open(open) => Bytes::copy_from_slice(&open.split_to(part.len as usize)),
            Joined::Whole(whole) => whole.split_to(part.len as usize),
        };
        Some((bytes, part))
    }
}

/// What a read yields.
#[derive(Debug)]
pub(in crate::session) enum Next {
    Chunk(Chunk, u64),
    End,
    Pending,
}

impl Receiving {
    pub(in crate::session) fn new(window: u64, declared: Option<u64>) -> Self {
        Self {
            chunks: VecDeque::new(),
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
            failed: None,
            gather: None,
            announced: false,
            end_due: false,
            end_told: false,
            watched: None,
        }
    }

    /// Takes the piece that came with OPEN or RESULT, which costs nothing.
    pub(in crate::session) fn first(&mut self, bytes: Bytes, item: bool) -> Result<(), ContentFault> {
        if self.declared.is_some_and(|size| bytes.len() as u64 > size) {
            return Err(ContentFault::Size);
        }
        self.received = bytes.len() as u64;
        if !bytes.is_empty() || item {
            self.push(bytes, 0, item);
        }
        Ok(())
    }

    /// Takes a DATA record. What it costs is the caller's to count; this returns it if it was dropped.
    pub(in crate::session) fn take(&mut self, offset: u64, piece: Piece) -> Result<Dropped, ContentFault> {
        let size = piece.declared(MAX_CHUNK).map_err(|error| match error {
            DecodeError::TooLarge { .. } => ContentFault::Oversize,
            _ => ContentFault::Snappy,
        })?;
        let cost = RECORD_COST + size as u64;
        if self.failed.is_some() {
            return Ok(Dropped(cost));
        }
        if self.fin {
            return Err(ContentFault::PastEnd);
        }
        match offset.cmp(&self.received) {
            std::cmp::Ordering::Less => return Err(ContentFault::Overlap),
            std::cmp::Ordering::Greater => return Err(ContentFault::Gap),
            std::cmp::Ordering::Equal => {}
        }
        if cost > self.limit.saturating_sub(self.spent) {
            return Err(ContentFault::Credit);
        }
        let received = self.received + size as u64;
        if self.declared.is_some_and(|all| received > all || (piece.fin && received != all)) {
            return Err(ContentFault::Size);
        }
        let (fin, item) = (piece.fin, piece.item);
        let bytes = piece.plain(MAX_CHUNK).map_err(|_| ContentFault::Snappy)?;
        self.received = received;
        self.spent += cost;
        self.fin = fin;
        if bytes.is_empty() && !item {
            // Nothing to be read, so nobody will give it back.
            self.consumed_cost += cost;
            return Ok(Dropped(cost));
        }
        self.push(bytes, cost, item);
        Ok(Dropped(0))
    }

    fn push(&mut self, bytes: Bytes, cost: u64, item: bool) {
        let part = Part { len: bytes.len() as u32, cost: cost as u32, item };
        let small = bytes.len() <= JOIN_MAX;
        if small && self.chunks.back_mut().is_some_and(|last| last.join(&bytes, part)) {
            return;
        }
        // Copied, for the packet that it came in may be much larger.
        let bytes = if small { Joined::Open(BytesMut::from(&bytes[..])) } else { Joined::Whole(bytes) };
        self.chunks.push_back(Waiting { bytes, parts: VecDeque::from([part]) });
    }

    /// The next chunk, with what it had cost.
    pub(in crate::session) fn next(&mut self) -> Result<Next, ContentError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let Some((bytes, Part { cost, item, .. })) = self.next_part() {
            let cost = u64::from(cost);
            self.consumed += bytes.len() as u64;
            self.consumed_cost += cost;
            return Ok(Next::Chunk(Chunk { bytes, end_of_item: item }, cost));
        }
        if self.fin {
            self.end_read();
            return Ok(Next::End);
        }
        self.announced = false;
        Ok(Next::Pending)
    }

    fn next_part(&mut self) -> Option<(Bytes, Part)> {
        let first = self.chunks.front_mut()?;
        if first.parts.len() > 1 {
            return first.split();
        }
        let Waiting { bytes, mut parts } = self.chunks.pop_front()?;
        Some((bytes.into_bytes(), parts.pop_front()?))
    }

    /// The writer is to be told once that all was taken.
    fn end_read(&mut self) {
        self.end_due = !std::mem::replace(&mut self.end_told, true);
    }

    /// Nothing of it is wanted any more; what is given back to the link.
    pub(in crate::session) fn fail(&mut self, error: ContentError) -> u64 {
        self.failed.get_or_insert(error);
        self.gather = None;
        self.chunks.drain(..).map(|chunk| chunk.cost()).sum()
    }

    /// Nobody will read it any more; what is given back to the link.
    pub(in crate::session) fn stop(&mut self) -> u64 {
        self.failed = Some(ContentError::NotOpen);
        self.fail(ContentError::NotOpen)
    }

    /// Whether the owner is to be told that there is something to read.
    pub(in crate::session) fn announce(&mut self) -> bool {
        !std::mem::replace(&mut self.announced, true)
    }

    pub(in crate::session) fn is_complete(&self) -> bool {
        self.fin
    }

    /// Whether all of it is here, to be read.
    pub(in crate::session) fn is_readable(&self) -> bool {
        self.fin && self.failed.is_none() && self.gather.is_none()
    }

    /// Credit of what has not been taken.
    pub(in crate::session) fn unread_cost(&self) -> u64 {
        self.spent - self.consumed_cost
    }

    pub(in crate::session) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    pub(in crate::session) fn failure(&self) -> Option<ContentError> {
        self.failed
    }

    /// Bytes that were not taken yet, as far as they are known.
    pub(in crate::session) fn remaining(&self) -> Option<u64> {
        let whole = self.declared.or_else(|| self.fin.then_some(self.received));
        whole.map(|whole| whole.saturating_sub(self.consumed))
    }

    /// Puts a body together from now on, of at most `limit` bytes.
    pub(in crate::session) fn gather(&mut self, limit: usize) {
        let declared = self.remaining().and_then(|size| usize::try_from(size).ok());
        self.gather = Some(Gather::new(limit, declared));
    }

    pub(in crate::session) fn is_gathering(&self) -> bool {
        self.gather.is_some()
    }

    /// Moves what waits to the body, and returns what that had cost; then the body, if it is complete.
    pub(in crate::session) fn advance_gathering(&mut self) -> (u64, Option<Result<Bytes, ContentError>>) {
        let Some(mut gather) = self.gather.take() else { return (0, None) };
        let mut freed = 0;
        while let Some(chunk) = self.chunks.pop_front() {
            let (cost, bytes) = (chunk.cost(), chunk.bytes.into_bytes());
            self.consumed += bytes.len() as u64;
            self.consumed_cost += cost;
            freed += cost;
            if let Err(error) = gather.push(bytes) {
                return (freed + self.fail(error), Some(Err(error)));
            }
        }
        if self.fin {
            self.end_read();
            return (freed, Some(Ok(gather.into_body())));
        }
        self.gather = Some(gather);
        (freed, None)
    }

    /// The acknowledged bytes and the limit to tell the writer, if it is time to. `grow` widens the window of a writer
    /// that it holds up.
    pub(in crate::session) fn credit_due(
        &mut self,
        now: Instant,
        round_trip: Option<Duration>,
        grow: impl FnOnce(u64) -> bool,
    ) -> Option<(u64, u64)> {
        if self.failed.is_some() {
            return None;
        }
        let step = self.window / CREDIT_STEP;
        if self.fin {
            return self.last_credit();
        }
        let target = self.consumed_cost.saturating_add(self.window);
        if target.saturating_sub(self.limit) < step.max(1) {
            return None;
        }
        self.fit_window(now, round_trip, grow);
        self.acknowledged_cost = self.consumed_cost;
        self.limit = self.consumed_cost.saturating_add(self.window);
        Some((self.consumed, self.limit))
    }

    /// What is due of a content that has come as a whole: only to acknowledge.
    pub(in crate::session) fn last_credit(&mut self) -> Option<(u64, u64)> {
        if self.failed.is_some() || !self.fin {
            return None;
        }
        let due = self.consumed_cost - self.acknowledged_cost >= self.window / CREDIT_STEP;
        if std::mem::take(&mut self.end_due) || due {
            self.acknowledged_cost = self.consumed_cost;
            return Some((self.consumed, self.limit));
        }
        None
    }

    /// Widens the window where all of it is taken in less than two of the shortest round trips. By less than all of it,
    /// one moment in which the reader catches up would be enough, and what waits here delays everything behind it.
    fn fit_window(&mut self, now: Instant, round_trip: Option<Duration>, grow: impl FnOnce(u64) -> bool) {
        let (since, from) = *self.watched.get_or_insert((now, self.consumed_cost));
        if self.consumed_cost - from < self.window {
            return;
        }
        if let Some(trip) = round_trip
            && now.saturating_duration_since(since) < trip * 2
            && grow(self.window)
        {
            self.window *= 2;
        }
        self.watched = Some((now, self.consumed_cost));
    }

    /// Credit of what waits.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(in crate::session) fn held_cost(&self) -> u64 {
        self.chunks.iter().map(Waiting::cost).sum()
    }

    #[cfg(test)]
    pub(in crate::session) fn buffers(&self) -> usize {
        self.chunks.len()
    }

    #[cfg(test)]
    pub(in crate::session) fn window(&self) -> u64 {
        self.window
    }

    /// Somebody reads it: the window becomes `window`, as far as there is `room` to widen it, if that is of any use.
    /// Returns whether it did.
    pub(in crate::session) fn open(&mut self, window: u64, room: &mut u64) -> bool {
        if self.window >= window || self.fin || self.failed.is_some() {
            return false;
        }
        let rest = self.declared.map(|all| all - self.received);
        if rest.is_some_and(|rest| rest.saturating_add(RECORD_COST) <= self.limit - self.spent) {
            return false;
        }
        let by = (window - self.window).min(*room);
        self.window += by;
        *room -= by;
        by > 0
    }

    /// It is put together, so that nothing of it waits here: all that is declared may come at once. False if nothing is.
    pub(in crate::session) fn open_wholly(&mut self) -> bool {
        let Some(rest) = self.declared.map(|all| all - self.received) else { return false };
        let records = rest / PIECE_EXPECTED + 2;
        let window = rest.saturating_add(records * RECORD_COST);
        let by = window.saturating_sub(self.window);
        // It takes no room that others need.
        self.window += by;
        self.initial_window += by;
        true
    }

    /// By how much the window has been widened.
    pub(in crate::session) fn growth(&self) -> u64 {
        self.window - self.initial_window
    }
}

/// Credit of a record that was not kept.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::session) struct Dropped(pub(in crate::session) u64);
