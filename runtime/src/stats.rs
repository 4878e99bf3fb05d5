//! Counters of one peer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a peer has done so far. The numbers are read one by one, so they may be a moment apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls of ours that have not ended.
    pub calls_in_flight: u64,
    /// Calls of ours that ended with a result.
    pub calls_done: u64,
    /// Calls of ours that ended otherwise.
    pub calls_failed: u64,
    /// Requests of the peer that wait for a handler to start.
    pub requests_queued: u64,
    /// Requests of the peer whose handler runs.
    pub requests_running: u64,
    /// Requests of the peer that were answered with a result.
    pub requests_done: u64,
    /// Requests of the peer that were answered otherwise, or lost their link, without those that were refused before the
    /// scheduler saw them: unreadable or too large ones, and those that came during a shutdown.
    pub requests_failed: u64,
    /// Links on which the peer spoke a lower dialect than was offered.
    pub downgrades: u64,
    /// Messages of the peer that were dropped because something was wrong with them.
    pub anomalies: u64,
    /// Bytes read from the link.
    pub bytes_received: u64,
    /// Bytes written to the link.
    pub bytes_sent: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Callers count here, the link in the others: they shall not share a cache line.
    pub(crate) calls_started: Apart,
    pub(crate) calls_done: AtomicU64,
    pub(crate) calls_failed: AtomicU64,
    pub(crate) requests_done: AtomicU64,
    pub(crate) requests_failed: AtomicU64,
    pub(crate) downgrades: AtomicU64,
    pub(crate) anomalies: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart(pub(crate) AtomicU64);

impl Counters {
    /// With the requests that wait and those that run.
    pub(crate) fn snapshot(&self, waiting: usize, running: usize) -> Stats {
        let calls_done = self.calls_done.load(Relaxed);
        let calls_failed = self.calls_failed.load(Relaxed);
        Stats {
            calls_in_flight: self.calls_started.0.load(Relaxed).saturating_sub(calls_done + calls_failed),
            calls_done,
            calls_failed,
            requests_queued: waiting as u64,
            requests_running: running as u64,
            requests_done: self.requests_done.load(Relaxed),
            requests_failed: self.requests_failed.load(Relaxed),
            downgrades: self.downgrades.load(Relaxed),
            anomalies: self.anomalies.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}
