//! Counters of each peer, and their totals, which outlive the peers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::PeerId;
use crate::lock::Mutex;

/// Counters of a peer, or of all peers of an endpoint. They are read one by one, not as a consistent snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls of this side that have not ended.
    pub calls_in_flight: u64,
    /// Calls of this side that ended with a result.
    pub calls_done: u64,
    /// Calls of this side that ended without a result.
    pub calls_failed: u64,
    /// Requests of the peer that wait for a handler to start.
    pub requests_queued: u64,
    /// Requests of the peer whose handler runs.
    pub requests_running: u64,
    /// Requests of the peer that were answered with a result.
    pub requests_done: u64,
    /// Requests of the peer that were answered without a result, or lost their connection. Requests that were refused
    /// before they reached the scheduler don't count: unreadable or too large ones, and those during a shutdown.
    pub requests_failed: u64,
    /// Connections on which the peer spoke a lower dialect than this side offered.
    pub downgrades: u64,
    /// Invalid messages of the peer, which were dropped.
    pub anomalies: u64,
    /// Bytes read from the connection.
    pub bytes_received: u64,
    /// Bytes written to the connection.
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

    /// Adds what others have counted.
    fn absorb(&self, other: &Self) {
        let pairs = [
            (&self.calls_started.0, &other.calls_started.0),
            (&self.calls_done, &other.calls_done),
            (&self.calls_failed, &other.calls_failed),
            (&self.requests_done, &other.requests_done),
            (&self.requests_failed, &other.requests_failed),
            (&self.downgrades, &other.downgrades),
            (&self.anomalies, &other.anomalies),
            (&self.bytes_received, &other.bytes_received),
            (&self.bytes_sent, &other.bytes_sent),
        ];
        for (sum, n) in pairs {
            add(sum, n.load(Relaxed));
        }
    }
}

/// The counters of an endpoint. Those of a peer are among `living` as long as anybody has a handle of it, since what ends after its
/// link counts too, and in `past` afterwards: always in one of the two.
#[derive(Debug, Default)]
pub(crate) struct Totals(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    living: BTreeMap<PeerId, Arc<Counters>>,
    past: Counters,
}

impl Totals {
    pub(crate) fn begin(&self, peer: PeerId) -> Arc<Counters> {
        let counters = Arc::<Counters>::default();
        self.0.lock().living.insert(peer, counters.clone());
        counters
    }

    pub(crate) fn end(&self, peer: PeerId) {
        let mut tables = self.0.lock();
        if let Some(counters) = tables.living.remove(&peer) {
            tables.past.absorb(&counters);
        }
    }

    pub(crate) fn snapshot(&self, waiting: usize, running: usize) -> Stats {
        let sum = Counters::default();
        let tables = self.0.lock();
        sum.absorb(&tables.past);
        tables.living.values().for_each(|counters| sum.absorb(counters));
        drop(tables);
        sum.snapshot(waiting, running)
    }
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}
