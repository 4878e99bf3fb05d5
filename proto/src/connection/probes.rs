//! Probes: unanswered PINGs, when to probe a silent peer, and when to close its connection.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use crate::Multipart;
use crate::config::Keepalive;
use crate::wire::PING;

/// Probes that may be under way at once; past it the oldest is forgotten (PROTOCOL.md, M-7).
pub(super) const MAX_PROBES: usize = 64;

/// Probes at the beginning, one after the other, to learn the time of a round trip: the first answers take longer, for both ends
/// are busy.
const FIRST_PROBES: u32 = 8;

#[derive(Debug)]
pub(super) struct Probes {
    /// By number; `None` for one that has not left.
    under_way: BTreeMap<u64, Option<Departure>>,
    next: u64,
    first_left: u32,
    keepalive: Option<Keepalive>,
    last_heard: Instant,
    unanswered: u32,
    due: Option<Instant>,
}

/// How a probe has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    pub(super) at: Instant,
    /// Messages that had left before it.
    pub(super) after: u64,
}

/// What is due.
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

    /// The handshake is complete.
    pub(super) fn start(&mut self, now: Instant) {
        self.heard(now);
        self.due = self.keepalive.and_then(|keepalive| now.checked_add(keepalive.idle));
    }

    /// Any message is a sign of life (K-2).
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
        if now.saturating_duration_since(self.last_heard) < idle {
            self.due = self.last_heard.checked_add(idle);
            return Due::Nothing;
        }
        if self.unanswered >= misses {
            return Due::Dead;
        }
        self.unanswered += 1;
        self.due = now.checked_add(idle);
        Due::Probe
    }

    /// The number of a new probe, and the one that is forgotten for it, if that has not left.
    pub(super) fn next(&mut self) -> (u64, Option<u64>) {
        let ping = self.next;
        self.next += 1;
        self.under_way.insert(ping, None);
        let mut forgotten = None;
        if self.under_way.len() > MAX_PROBES
            && let Some((oldest, None)) = self.under_way.pop_first()
        {
            forgotten = Some(oldest);
        }
        (ping, forgotten)
    }

    /// Whether one more of the first probes is to be sent.
    pub(super) fn take_first(&mut self) -> bool {
        let left = self.first_left.checked_sub(1);
        self.first_left = left.unwrap_or(0);
        left.is_some()
    }

    /// The message of a probe, which leaves now.
    pub(super) fn sent(&mut self, number: u64, departure: Departure) -> Multipart {
        if let Some(sent) = self.under_way.get_mut(&number) {
            *sent = Some(departure);
        }
        Multipart::new(PING, Bytes::new(), Bytes::copy_from_slice(&number.to_be_bytes()))
    }

    /// The probe that a PONG answers. A PONG to a probe that has not left answers none (M-6).
    pub(super) fn answered(&mut self, header: &[u8], body: &[u8]) -> Option<(u64, Departure)> {
        let number = <[u8; 8]>::try_from(body).map(u64::from_be_bytes).ok().filter(|_| header.is_empty())?;
        let sent = self.under_way.get(&number).copied().flatten()?;
        self.under_way.remove(&number);
        if self.under_way.is_empty() {
            // A tree that is empty keeps a node. Probes are rare, but for the first ones.
            self.under_way.clear();
        }
        Some((number, sent))
    }

    /// Returns whether it has not left.
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
