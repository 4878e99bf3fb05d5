//! Reassembles messages from frames, in the clear or decrypted.
//!
//! Limits are checked when a frame announces its length, before any of it is buffered.

use bytes::Bytes;

use super::{LinkError, LinkEvent};
use crate::{MAX_FRAMES, Multipart};

/// The most frames of a message; one more closes the link. Callosum's messages have at most [`MAX_FRAMES`],
/// so further frames are dropped as they arrive, and the link stays open (Z-13).
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

    /// Checks the limits for a further frame of `len` bytes, before it is buffered.
    pub(super) fn admit(&self, len: usize) -> Result<(), LinkError> {
        self.admit_size(len)?;
        if self.count >= MAX_FRAMES_READ {
            return Err(LinkError::TooManyFrames { max: MAX_FRAMES_READ });
        }
        Ok(())
    }

    /// Checks the limit on the size of the message for `len` more bytes.
    pub(super) fn admit_size(&self, len: usize) -> Result<(), LinkError> {
        // Saturating, because a peer can announce any 64-bit length, and a wrapped sum would pass the check.
        let size = (self.size as u64).saturating_add(len as u64);
        if size > self.max_size as u64 {
            return Err(LinkError::TooLarge { size, max: self.max_size });
        }
        Ok(())
    }

    /// Adds a frame that was admitted. Returns the message if this was its last frame.
    pub(super) fn push(&mut self, more: bool, payload: Bytes) -> Option<LinkEvent> {
        self.size += payload.len();
        // Z-13: further frames are only counted.
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
