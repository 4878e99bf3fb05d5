//! Decides what is sent next on one connection.
//!
//! There are three kinds of traffic:
//!
//! 1. **Control** ([`SendQueue`]): the handshake, PONG, PING, CANCEL, credit. First in, first out, and before
//!    everything else, since it is small and others wait for it.
//! 2. **Messages** ([`SendQueue`]): calls and replies, in 8 priority classes (RFC 9218), each first in, first
//!    out. Messages with the same ordering key keep their order, whatever their urgency. The priority is
//!    strict: a busy class starves less urgent messages.
//! 3. **Stream data** ([`StreamQueue`]): in the same priority classes, with fair shares inside a class
//!    (self-clocked fair queueing). One DATA in eight is for less urgent classes, so that none starves.
//!
//! [`Policy`] selects among the three for each packet: control, then messages, then stream data if no message
//! waits. So small messages overtake large bodies. Messages can't starve streams: after 64 KiB of messages, a
//! packet of stream data goes first.
//!
//! A packet of messages is closed at 1 KiB: a peer can't decode a packet before all of it has arrived, so
//! with 128 calls of 64 B in flight, small packets let both ends work at the same time instead of
//! alternately. Measured with client and server on the same two cores (`bench/`); the best size may differ on
//! other machines.
//!
//! Not responsible for encoding, nor for whether a message may be sent: `call/outbound.rs` calls this module,
//! and encodes.

mod queue;
mod streams;
#[cfg(test)]
mod tests;

pub(crate) use queue::{
    Control, MESSAGE_OVERHEAD, Place, Queued, QueuedCall, QueuedReply, ReplyBody, SendQueue,
};
pub(crate) use streams::StreamQueue;

use crate::stream::FULL_PIECE;

/// A packet is filled with control records up to this many bytes.
const CONTROL_TARGET: usize = 16 * 1024;

/// A packet is filled with messages up to this many bytes; the last may exceed it.
const MESSAGE_TARGET: usize = 1024;

/// A packet is filled with stream data up to this many bytes: one DATA with a full piece.
const DATA_TARGET: usize = FULL_PIECE;

/// After this many bytes of messages, a packet of stream data goes first.
const MESSAGE_SHARE: usize = 64 * 1024;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Control,
    Message,
    Data,
}

/// Selects the next kind of traffic for a packet, as the module describes.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    stage: Stage,
    /// Bytes of messages since the last packet of stream data that went first, or since no message waited.
    messages_sent: usize,
    /// Bytes of stream data that must go before further messages.
    data_due: usize,
}

/// What the current packet is being filled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Control,
    DueData,
    Messages,
    Data,
    Full,
}

impl Policy {
    /// Starts a new packet.
    pub(crate) fn begin(&mut self) {
        self.stage = Stage::Control;
    }

    /// The next kind for a packet of `len` bytes, where `waits` is whether a kind has something to send;
    /// `None` if the packet should be sent as it is.
    pub(crate) fn next(&mut self, len: usize, waits: impl Fn(Kind) -> bool) -> Option<Kind> {
        if self.stage == Stage::Control {
            if len < CONTROL_TARGET && waits(Kind::Control) {
                return Some(Kind::Control);
            }
            if self.messages_sent >= MESSAGE_SHARE {
                (self.messages_sent, self.data_due) = (0, DATA_TARGET);
            }
            // Control records that are queued from here on are for the next packet.
            self.stage = Stage::DueData;
        }
        if self.stage == Stage::DueData {
            if self.data_due > 0 {
                match waits(Kind::Data) {
                    true if len < DATA_TARGET => return Some(Kind::Data),
                    true => {}
                    // The share is not saved up: data that comes later has no claim to it.
                    false => self.data_due = 0,
                }
            }
            self.stage = Stage::Messages;
        }
        if self.stage == Stage::Messages {
            match waits(Kind::Message) {
                true if len < MESSAGE_TARGET => return Some(Kind::Message),
                // No data behind messages: it would delay those that still wait.
                true => self.stage = Stage::Full,
                // Data is next anyway, so messages owe it nothing.
                false => (self.stage, self.messages_sent) = (Stage::Data, 0),
            }
        }
        (self.stage == Stage::Data && len < DATA_TARGET && waits(Kind::Data)).then_some(Kind::Data)
    }

    /// Counts bytes of this kind that were added to the packet.
    pub(crate) fn sent(&mut self, kind: Kind, bytes: usize) {
        match kind {
            Kind::Control => {}
            Kind::Message => self.messages_sent += bytes,
            Kind::Data => self.data_due = self.data_due.saturating_sub(bytes),
        }
    }
}
