//! What leaves next on one connection.
//!
//! There are three kinds of traffic:
//!
//! 1. **Control** ([`SendQueue`]): the handshake, PONG, PING, CANCEL, credit. First in, first out, before everything else, since others
//!    wait for it and it is small.
//! 2. **Messages** ([`SendQueue`]): calls and replies, by urgency (8 classes, RFC 9218), first in, first out in each. Those with the same
//!    ordering key keep their order whatever their urgency. A strict priority: a busy class starves the less urgent ones of its kind.
//! 3. **Stream data** ([`StreamQueue`]), by urgency too, with fair shares inside a class (self-clocked fair queueing), and one DATA
//!    in eight for the less urgent classes, so that none starves.
//!
//! [`Policy`] decides among the three for each packet: control, then messages, then stream data if no message waits. Small things
//! so overtake large ones. Messages can't starve streams: after 64 KiB of messages a packet of stream data goes first.
//!
//! Packets are small where calls are small: a peer reads nothing of a packet before all of it is there, so with 128 calls of 64 B
//! in flight, packets of 1 KiB let both ends work at the same time instead of in turns. Measured on two cores that client and
//! server share (`bench/`); on other machines the trade may be another.

mod queue;
mod streams;
#[cfg(test)]
mod tests;

pub(crate) use queue::{
    Control, MESSAGE_OVERHEAD, Place, Queued, QueuedCall, QueuedReply, ReplyBody, SendQueue,
};
pub(crate) use streams::StreamQueue;

use crate::stream::FULL_PIECE;

/// A packet is filled with control up to this many bytes.
const CONTROL_TARGET: usize = 16 * 1024;

/// A packet is filled with messages up to this many bytes; the last may exceed it.
const MESSAGE_TARGET: usize = 1024;

/// A packet is filled with stream data up to this many bytes: one DATA with a full piece.
const DATA_TARGET: usize = FULL_PIECE;

/// After so many bytes of messages, a packet of stream data goes first.
const MESSAGE_SHARE: usize = 64 * 1024;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Control,
    Message,
    Data,
}

/// Decides which kind of traffic is next in a packet. See the module.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    stage: Stage,
    /// Bytes of messages since stream data last had its share.
    messages_sent: usize,
    /// Bytes of stream data that are due before more messages.
    data_due: usize,
}

/// How far the packet that is being filled has come.
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
    /// A new packet begins.
    pub(crate) fn begin(&mut self) {
        self.stage = Stage::Control;
    }

    /// The kind that is next in a packet of `len` bytes, if `waits` says which kinds have something to send; `None` if the packet
    /// should leave as it is.
    pub(crate) fn next(&mut self, len: usize, waits: impl Fn(Kind) -> bool) -> Option<Kind> {
        if self.stage == Stage::Control {
            if len < CONTROL_TARGET && waits(Kind::Control) {
                return Some(Kind::Control);
            }
            if self.messages_sent >= MESSAGE_SHARE {
                (self.messages_sent, self.data_due) = (0, DATA_TARGET);
            }
            self.stage = Stage::DueData;
        }
        if self.stage == Stage::DueData {
            if self.data_due > 0 {
                match waits(Kind::Data) {
                    true if len < DATA_TARGET => return Some(Kind::Data),
                    true => {}
                    false => self.data_due = 0,
                }
            }
            self.stage = Stage::Messages;
        }
        if self.stage == Stage::Messages {
            match waits(Kind::Message) {
                true if len < MESSAGE_TARGET => return Some(Kind::Message),
                true => self.stage = Stage::Full,
                false => (self.stage, self.messages_sent) = (Stage::Data, 0),
            }
        }
        (self.stage == Stage::Data && len < DATA_TARGET && waits(Kind::Data)).then_some(Kind::Data)
    }

    /// So many bytes of this kind were added to the packet.
    pub(crate) fn sent(&mut self, kind: Kind, bytes: usize) {
        match kind {
            Kind::Control => {}
            Kind::Message => self.messages_sent += bytes,
            Kind::Data => self.data_due = self.data_due.saturating_sub(bytes),
        }
    }
}
