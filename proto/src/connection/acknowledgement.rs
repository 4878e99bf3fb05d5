//! Whether the peer has received what must not be lost when this side closes the connection (K-5): replies, and
//! the ends of streams.
//!
//! Messages arrive in order, so the answer to a PING, of Callosum or of ZMTP, acknowledges all messages that
//! were sent before that PING. For example, messages 1 to 9 are sent, of which the 7th is a reply, then a PING as
//! the 10th, and another reply as the 11th. The PONG acknowledges 9 messages, including the first reply; the
//! second reply needs another PING.

/// Counts messages from the first one of the transport.
#[derive(Debug, Default)]
pub(super) struct Acknowledgement {
    /// Messages that have been sent.
    sent: u64,
    /// Those up to the last one that needs an acknowledgement.
    needed: u64,
    /// Those that the peer is known to have received.
    received: u64,
}

impl Acknowledgement {
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// One more message is sent.
    pub(super) fn leaves(&mut self, needs_acknowledgement: bool) {
        self.sent += 1;
        if needs_acknowledgement {
            self.needed = self.sent;
        }
    }

    /// The peer has received the first `messages` messages.
    pub(super) fn received(&mut self, messages: u64) {
        // More than were sent would acknowledge later messages, too. Answers to PINGs of Callosum and of ZMTP may
        // arrive in any order, so the number never decreases.
        self.received = self.received.max(messages.min(self.sent));
    }

    pub(super) fn is_complete(&self) -> bool {
        self.received >= self.needed
    }
}
