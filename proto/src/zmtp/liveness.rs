//! When to send a PING, and when to close the link (RFC 37).

use std::time::{Duration, Instant};

use super::Heartbeat;

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    Dead,
}

/// Counts the pings since the peer was last heard.
pub(super) struct Liveness {
    interval: Duration,
    misses: u32,
    unanswered: u32,
    due: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(heartbeat: Heartbeat, now: Instant) -> Self {
        // A shorter interval would be a timer that spins.
        let interval = heartbeat.interval.max(Duration::from_millis(1));
        let misses = heartbeat.misses.max(1);
        Self { interval, misses, unanswered: 0, due: now.checked_add(interval) }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.unanswered = 0;
        self.due = now.checked_add(self.interval);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Due {
        if self.due.is_none_or(|due| now < due) {
            return Due::Nothing;
        }
        if self.unanswered >= self.misses {
            return Due::Dead;
        }
        self.unanswered += 1;
        self.due = now.checked_add(self.interval);
        Due::Ping
    }
}
