//! What goes through boxes once the handshake is complete.

use bytes::Bytes;

use super::{Link, Phase};
use crate::Multipart;
use crate::zmtp::boxes::Opened;
use crate::zmtp::framing::Head;
use crate::zmtp::{LinkError, SendError, assembly};

impl Link {
    /// Takes what is in one box.
    pub(super) fn open(&mut self, head: &Head, payload: Bytes) -> Result<(), LinkError> {
        let replied = self.feed(head, payload)?;
        let message = self.codec.poll_message();
        let command = self.codec.poll_event().is_some() || replied > 0;
        let opened = match &message {
            Some(message) => Opened::Message { size: message.byte_len(), frames: message.len() },
            None if command => Opened::Command,
            None => Opened::Nothing,
        };
        if let Some(boxes) = &mut self.boxes {
            boxes.opened(head, opened)?;
            // A PONG, of which there is one for a PING.
            boxes.seal(usize::from(replied > 0)).ok_or(LinkError::Exhausted)?;
        }
        self.events.extend(message.map(|message| assembly::event(&message, message.len())));
        Ok(())
    }

    /// All of the message, or nothing, and then the link is over.
    pub(super) fn send_encrypted(&mut self, message: Multipart) -> Result<(), SendError> {
        let frames = message.into_frames();
        let sealed = self.boxes.as_mut().and_then(|boxes| boxes.seal(frames.len())).is_some() && {
            let message = omq_proto::Message::multipart(frames);
            self.codec.connection().and_then(|connection| connection.send_message(&message)).is_ok()
        };
        self.collect_output();
        if !sealed {
            self.phase = Phase::Closed;
            return Err(SendError::Exhausted);
        }
        Ok(())
    }
}

#[cfg(all(test, feature = "curve"))]
mod tests;
