//! One direction of a connection: what is under way, and what keeps it from arriving.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::Multipart;

/// From one side to the other, in order.
#[derive(Default)]
pub(super) struct Lane {
    messages: VecDeque<Multipart>,
    bytes: BytesMut,
    /// Nothing follows: what is sent now is lost.
    ended: bool,
    /// Nothing arrives, for now.
    stuck: bool,
}

impl Lane {
    /// One that is over.
    pub(super) fn ended() -> Self {
        Self { ended: true, ..Self::default() }
    }

    /// Messages, or bytes, that are under way.
    pub(super) fn len(&self) -> usize {
        self.messages.len() + self.bytes.len()
    }

    pub(super) fn push_message(&mut self, message: Multipart) {
        if !self.ended {
            self.messages.push_back(message);
        }
    }

    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        if !self.ended {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The next message that has arrived.
    pub(super) fn pop_message(&mut self) -> Option<Multipart> {
        if self.stuck { None } else { self.messages.pop_front() }
    }

    /// Bytes that have arrived.
    pub(super) fn arrived(&self) -> usize {
        if self.stuck { 0 } else { self.bytes.len() }
    }

    pub(super) fn take_bytes(&mut self, len: usize) -> Bytes {
        self.bytes.split_to(len).freeze()
    }

    /// Nothing follows what was sent.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The same, and more follows.
    pub(super) fn reopened(self) -> Self {
        Self { ended: false, ..self }
    }

    /// Whether all of it has arrived, and its end.
    pub(super) fn is_over(&self) -> bool {
        self.ended && !self.stuck && self.len() == 0
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Nothing arrives, or all does again.
    pub(super) fn stick(&mut self, stuck: bool) {
        self.stuck = stuck;
    }
}
