//! Probes (PROTOCOL.md, M-6): PINGs without an answer, when to probe a silent peer, and when to close its
//! connection.
//!
//! Not responsible for the heartbeats of ZMTP, which are in `zmtp/liveness.rs`: a transport has one or the
//! other.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use crate::Multipart;
use crate::config::Keepalive;
use crate::wire::PING;

/// Probes that may be unanswered at a time; for one more, the oldest is forgotten (PROTOCOL.md, M-7).
pub(super) const MAX_PROBES: usize = 64;

/// Probes after the handshake, one after the other, to measure the shortest round trip: the first takes
/// longer, because both ends are busy. Each is a message both ways, also on connections that never have a
/// stream: with eight, a new connection cost a server's CPU half as much again.
const FIRST_PROBES: u32 = 2;

#[derive(Debug)]
pub(super) struct Probes {
    /// Unanswered probes: when each was sent, by number; `None` if it still waits in the send queue.
    under_way: BTreeMap<u64, Option<Departure>>,
    next: u64,
    first_left: u32,
    keepalive: Option<Keepalive>,
    last_heard: Instant,
    unanswered: u32,
    due: Option<Instant>,
}

/// When a probe was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    pub(super) at: Instant,
    /// Messages that were sent before it.
    pub(super) after: u64,
}

/// What is due at a timeout.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Probe,
    /// The peer has left too many probes unanswered.
    Dead,
}

impl Probes {
    pub(super) fn new(keepalive: Option<Keepalive>, now: Instant) -> Self {
        Self {
            under_way: BTreeMap::new(),
            next: 0,
            first_left: FIRST_PROBES,
            keepalive: keepalive.map(Keepalive::without_spinning),
            last_heard: now,
            unanswered: 0,
            due: None,
        }
    }

    /// The handshake is complete: starts the keepalive timer.
    pub(super) fn start(&mut self, now: Instant) {
        // Silence counts from here on: a timeout of its own limits the handshake.
        self.heard(now);
        self.due = self.keepalive.and_then(|keepalive| now.checked_add(keepalive.idle));
    }

    /// A message has arrived; any message counts as an answer (K-2).
    pub(super) fn heard(&mut self, now: Instant) {
        (self.last_heard, self.unanswered) = (now, 0);
    }

    pub(super) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Due {
        let Some(Keepalive { idle, misses }) =
            self.keepalive.filter(|_| self.due.is_some_and(|due| due <= now))
        else {
            return Due::Nothing;
        };
        // `heard` is called for each message, and does not move the timer: do that here, once per `idle`.
        if now.saturating_duration_since(self.last_heard) < idle {
            self.due = self.last_heard.checked_add(idle);
            return Due::Nothing;
        }
        // K-1: the last probe was sent one `idle` ago.
        if self.unanswered >= misses {
            return Due::Dead;
        }
        self.unanswered += 1;
        self.due = now.checked_add(idle);
        Due::Probe
    }

    /// The number of a new probe; and the probe that is forgotten in exchange, if it is still in the send
    /// queue.
    pub(super) fn next(&mut self) -> (u64, Option<u64>) {
        let ping = self.next;
        self.next += 1;
        self.under_way.insert(ping, None);
        let mut forgotten = None;
        // The oldest is dropped in any case. If it was sent, there is nothing to remove from the send queue.
        if self.under_way.len() > MAX_PROBES
            && let Some((oldest, None)) = self.under_way.pop_first()
        {
            forgotten = Some(oldest);
        }
        (ping, forgotten)
    }

    /// Counts one of the [`FIRST_PROBES`]; false if all have been sent.
    pub(super) fn take_first(&mut self) -> bool {
        let left = self.first_left.checked_sub(1);
        self.first_left = left.unwrap_or(0);
        left.is_some()
    }

    /// The message of a probe, which is sent now.
    pub(super) fn sent(&mut self, number: u64, departure: Departure) -> Multipart {
        // Always there: a forgotten probe leaves the send queue, too.
        if let Some(sent) = self.under_way.get_mut(&number) {
            *sent = Some(departure);
        }
        Multipart::new(PING, Bytes::new(), Bytes::copy_from_slice(&number.to_be_bytes()))
    }

    /// The probe that a PONG answers, and when it was sent. `None` if the probe is unknown or has not been
    /// sent (M-6).
    pub(super) fn answered(&mut self, header: &[u8], body: &[u8]) -> Option<(u64, Departure)> {
        let number = <[u8; 8]>::try_from(body).map(u64::from_be_bytes).ok().filter(|_| header.is_empty())?;
        // M-6: `None` is a probe that has not been sent. Its number is easy to guess, so a PONG with it proves
        // nothing.
        let sent = self.under_way.get(&number).copied().flatten()?;
        self.under_way.remove(&number);
        if self.under_way.is_empty() {
            // An empty tree keeps a node. Probes are rare after the first ones, so free it.
            self.under_way.clear();
        }
        Some((number, sent))
    }

    /// Forgets a probe; returns whether it is still in the send queue.
    pub(super) fn forget(&mut self, ping: u64) -> bool {
        matches!(self.under_way.remove(&ping), Some(None))
    }

    pub(super) fn clear(&mut self) {
        self.under_way.clear();
    }

    pub(super) fn close(&mut self) {
        self.under_way.clear();
        self.due = None;
    }
}
