//! Puts data frames together to messages.

use bytes::Bytes;

use super::framing::Head;
use super::{LinkError, LinkEvent};
use crate::{MAX_FRAMES, Multipart};

/// Frames of one message that are read before the link is given up. No message of ours has more than [`MAX_FRAMES`], so only
/// as many are held; one that has more is read to its end all the same, for it costs nothing, and the link lives on. An
/// end there must be.
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

    /// Whether a frame like this one may follow. Comes before the frame is held.
    pub(super) fn admit(&self, head: &Head) -> Result<(), LinkError> {
        // Saturating: a peer may announce any 64-bit length, and a sum that wraps would let it through.
        let size = (self.size as u64).saturating_add(head.len as u64);
        if size > self.max_size as u64 {
            return Err(LinkError::TooLarge { size, max: self.max_size });
        }
        if self.count >= MAX_FRAMES_READ {
            return Err(LinkError::TooManyFrames { max: MAX_FRAMES_READ });
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
        Some(if count > MAX_FRAMES {
            LinkEvent::Ignored { frames: count }
        } else {
            event(frames.into_iter().take(count), count)
        })
    }
}

/// What a decoded message of `count` frames is to the user of the link.
pub(super) fn event(frames: impl IntoIterator<Item = Bytes>, count: usize) -> LinkEvent {
    Multipart::from_frames(frames).map_or(LinkEvent::Ignored { frames: count }, LinkEvent::Message)
}
