//! The output queue: bytes to be written to the peer.
//!
//! Small pieces are copied into runs, large ones are kept as they are. A message to be encrypted is written
//! into a run and encrypted there, so it is copied only once, into the queue.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Pieces up to this size are copied together, so that many small messages are one slice and one write.
pub(super) const COPY_MAX: usize = 8 << 10;
/// A run of copied pieces that has reached this size is not extended.
const RUN: usize = 64 << 10;

/// A run that was made for one large piece is kept for the next if it has no more bytes than this.
#[cfg(feature = "curve")]
const RUN_KEPT: usize = 256 << 10;

/// A byte queue that copies what is small and keeps what is large.
#[derive(Default)]
pub(super) struct OutputQueue {
    chunks: VecDeque<Bytes>,
    /// The run of small pieces after all chunks.
    run: BytesMut,
    pending: usize,
    /// Of the pending bytes, those that were queued until the last reply; and the replies among them.
    replies_end: usize,
    replies: usize,
}

impl OutputQueue {
    pub(super) fn copy(&mut self, piece: &[u8]) {
        if self.run.len() + piece.len() > RUN {
            self.begin_run(piece.len());
        }
        self.run.extend_from_slice(piece);
        self.pending += piece.len();
    }

    /// Queues a CURVE message: `len` bytes in one piece, which `fill` appends to the run that it is given.
    #[cfg(feature = "curve")]
    pub(super) fn write(&mut self, len: usize, fill: impl FnOnce(&mut BytesMut)) {
        if self.run.len() + len > RUN {
            self.begin_run(len);
        }
        self.run.reserve(len);
        let end = self.run.len() + len;
        fill(&mut self.run);
        debug_assert_eq!(self.run.len(), end, "as long as announced");
        self.pending += len;
        if len > RUN {
            self.seal();
            if len > RUN_KEPT {
                // Else the next run would begin in this allocation, and keep it as long as the link lives.
                self.run = BytesMut::new();
            }
        }
    }

    #[cold]
    fn begin_run(&mut self, len: usize) {
        self.seal();
        self.run.reserve(len.max(RUN));
    }

    /// Gives back the memory that is kept for pieces to come.
    pub(super) fn shrink(&mut self) {
        if self.pending == 0 {
            *self = Self::default();
        }
    }

    pub(super) fn push(&mut self, piece: &Bytes) {
        if piece.len() <= COPY_MAX {
            return self.copy(piece);
        }
        self.seal();
        self.pending += piece.len();
        self.chunks.push_back(piece.clone());
    }

    /// Marks the last `len` bytes queued as a reply that the peer caused.
    pub(super) fn mark_reply(&mut self, len: usize) {
        self.replies += len;
        self.replies_end = self.pending;
    }

    /// Bytes of replies; all count until the last one has been taken.
    pub(super) fn replies(&self) -> usize {
        self.replies
    }

    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Fills `slices` from the front; how many were filled.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let run = (!self.run.is_empty()).then_some(&self.run[..]);
        let pieces = self.chunks.iter().map(|chunk| &chunk[..]).chain(run);
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(pieces) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Takes `n` bytes, or all if there are fewer, from the front.
    pub(super) fn advance(&mut self, n: usize) {
        let mut left = n.min(self.pending);
        self.pending -= left;
        self.replies_end = self.replies_end.saturating_sub(left);
        if self.replies_end == 0 {
            self.replies = 0;
        }
        while let Some(front) = self.chunks.front_mut() {
            if left < front.len() {
                front.advance(left);
                return;
            }
            left -= front.len();
            self.chunks.pop_front();
        }
        self.run.advance(left);
        if self.run.is_empty() {
            // The next run begins where this one did, and need not be moved there once it has come to the end
            // of the memory.
            let _ = self.run.try_reclaim(self.run.capacity() + left);
        }
    }

    fn seal(&mut self) {
        if !self.run.is_empty() {
            self.chunks.push_back(self.run.split().freeze());
        }
    }
}
