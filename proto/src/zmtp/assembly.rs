//! Reassembles messages from data frames, whether they came in the clear or in CURVE messages.
//!
//! Limits are checked when a frame announces its length, before any of it is held.

use bytes::Bytes;

use super::{LinkError, LinkEvent};
use crate::{MAX_FRAMES, Multipart};

/// Frames of one message that are read before the link is closed. No message of ours has more than
/// [`MAX_FRAMES`], so only as many are held. One that has more is read to its end, which costs no memory, and
/// the link lives on; but an end there must be.
pub(super) const MAX_FRAMES_READ: usize = 1024;

/// The message that is being received.
pub(super) struct Assembly {
    frames: [Bytes; MAX_FRAMES],
    count: usize,
    size: usize,
    max_size: usize,
}

impl Assembly {
    pub(super) fn new(max_size: usize) -> Self {
        Self { frames: Default::default(), count: 0, size: 0, max_size }
    }

    /// Whether a frame of `len` bytes may follow. Comes before the frame is held.
    pub(super) fn admit(&self, len: usize) -> Result<(), LinkError> {
        self.admit_size(len)?;
        if self.count >= MAX_FRAMES_READ {
            return Err(LinkError::TooManyFrames { max: MAX_FRAMES_READ });
        }
        Ok(())
    }

    /// Whether the message may have `len` bytes more.
    pub(super) fn admit_size(&self, len: usize) -> Result<(), LinkError> {
        // Saturating: a peer may announce any 64-bit length, and a sum that wraps would let it through.
        let size = (self.size as u64).saturating_add(len as u64);
        if size > self.max_size as u64 {
            return Err(LinkError::TooLarge { size, max: self.max_size });
        }
        Ok(())
    }

    /// Takes a frame that was admitted; the message, if this was its last one.
    pub(super) fn push(&mut self, more: bool, payload: Bytes) -> Option<LinkEvent> {
        self.size += payload.len();
        if let Some(slot) = self.frames.get_mut(self.count) {
            *slot = payload;
        }
        self.count += 1;
        if more {
            return None;
        }
        self.size = 0;
        let frames = std::mem::take(&mut self.frames);
        let count = std::mem::take(&mut self.count);
        Some(match Multipart::from_array(frames, count) {
            Some(message) => LinkEvent::Message(message),
            None => LinkEvent::Ignored { frames: count },
        })
    }
}
