//! Heartbeats of ZMTP (RFC 37): when to send a PING, and when to end the link.

use std::time::Instant;

use crate::Keepalive;

/// What is due at a timeout.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    Dead,
}

/// Counts the PINGs since the last input from the peer.
pub(super) struct Liveness {
    keepalive: Keepalive,
    unanswered: u32,
    due: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(keepalive: Keepalive, now: Instant) -> Self {
        let keepalive = keepalive.without_spinning();
        // `None` if the time is too far away to be an `Instant`: then the timer never fires.
        Self { keepalive, unanswered: 0, due: now.checked_add(keepalive.idle) }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.unanswered = 0;
        self.due = now.checked_add(self.keepalive.idle);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Due {
        if self.due.is_none_or(|due| now < due) {
            return Due::Nothing;
        }
        // Not before one PING: a peer with nothing to send is silent, too.
        if self.unanswered >= self.keepalive.misses.max(1) {
            return Due::Dead;
        }
        // One PING, even if several intervals have passed: after a suspension of this machine, the peer still
        // gets a whole interval to answer.
        self.unanswered += 1;
        self.due = now.checked_add(self.keepalive.idle);
        Due::Ping
    }
}
