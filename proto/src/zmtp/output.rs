//! The output queue: bytes that wait to be written to the peer.
//!
//! Small pieces are copied together into runs, so that many small messages are one slice and one write; large
//! pieces are queued without a copy. A message to be encrypted is appended to a run and encrypted there, so
//! it is copied only once.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Pieces of up to this size are copied.
pub(super) const COPY_MAX: usize = 8 << 10;
/// Largest run of several pieces.
const RUN: usize = 64 << 10;

/// The allocation of a run for one large piece is kept for the next run if it has at most this many bytes.
#[cfg(feature = "curve")]
const RUN_KEPT: usize = 256 << 10;

/// A byte queue that copies small pieces and keeps references to large ones.
#[derive(Default)]
pub(super) struct OutputQueue {
    chunks: VecDeque<Bytes>,
    /// The run that is being filled, after all chunks.
    run: BytesMut,
    pending: usize,
    /// Pending bytes up to the end of the last PONG.
    replies_end: usize,
    /// Bytes of the PONGs among them.
    replies: usize,
}

impl OutputQueue {
    pub(super) fn copy(&mut self, piece: &[u8]) {
        // The first run grows as it is filled, so a quiet link holds little. A full run is not enlarged,
        // which would copy it, but followed by another.
        if self.run.len() + piece.len() > RUN {
            self.begin_run(piece.len());
        }
        self.run.extend_from_slice(piece);
        self.pending += piece.len();
    }

    /// Queues a CURVE message of `len` bytes, which `fill` must append to its argument.
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
                // Otherwise, the next run would use the rest of this allocation, and keep it as long as the
                // link exists.
                self.run = BytesMut::new();
            }
        }
    }

    #[cold]
    fn begin_run(&mut self, len: usize) {
        self.seal();
        self.run.reserve(len.max(RUN));
    }

    /// Frees memory that is kept for future pieces.
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
        // A second reference to the application's bytes. What was copied before must be written before.
        self.chunks.push_back(piece.clone());
    }

    /// Marks the last `len` queued bytes as a PONG.
    pub(super) fn mark_reply(&mut self, len: usize) {
        // Bytes, not positions of PONGs. So those already written keep counting until the last one is: input
        // is paused rather too long than too short.
        self.replies += len;
        self.replies_end = self.pending;
    }

    /// Bytes of unwritten PONGs. All count until the last one is written.
    pub(super) fn replies(&self) -> usize {
        self.replies
    }

    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Fills `slices` from the front; returns the number of filled ones.
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

    /// Removes `n` bytes from the front, or all if there are fewer.
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
            // Start the next run at the beginning of the allocation again, while it costs no copy.
            let _ = self.run.try_reclaim(self.run.capacity() + left);
        }
    }

    fn seal(&mut self) {
        if !self.run.is_empty() {
            self.chunks.push_back(self.run.split().freeze());
        }
    }
}
