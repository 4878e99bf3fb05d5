//! Totals per user and forward.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Pairs of a user and a forward that are counted apart. What users name has no bound of its own.
const MAX_PAIRS: usize = 10_000;

/// What further ones are counted as.
const OTHER: &str = "(other)";

/// What one user has moved through one forward, since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Whom the other side was admitted as; `None` on the side that has asked for the forward.
    pub user: Option<String>,
    /// The forward, as in [`ConnectionInfo::forward`](crate::ConnectionInfo::forward); `(other)` past 10,000 pairs of a user and a forward.
    pub forward: Arc<str>,
    /// Connections that were open, those that still are included.
    pub connections: u64,
    /// Connections that are open.
    pub open: u64,
    /// Connections that could not be opened.
    pub refused: u64,
    /// Bytes towards the target.
    pub to_target: u64,
    /// Bytes from the target.
    pub from_target: u64,
}

/// The counters of one pair.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connections: AtomicU64,
    ended: AtomicU64,
    refused: AtomicU64,
    pub(crate) to_target: AtomicU64,
    pub(crate) from_target: AtomicU64,
}

impl Counters {
    pub(crate) fn open(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.ended.fetch_add(1, Relaxed);
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }
}

type Pair = (Option<String>, Arc<str>);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<BTreeMap<Pair, Arc<Counters>>>);

impl Table {
    /// The counters of a pair, which stay.
    pub(crate) fn of(&self, user: Option<&str>, forward: &Arc<str>) -> Arc<Counters> {
        let mut table = self.0.lock();
        let mut pair = (user.map(str::to_owned), forward.clone());
        if table.len() >= MAX_PAIRS && !table.contains_key(&pair) {
            pair = (None, OTHER.into());
        }
        table.entry(pair).or_default().clone()
    }

    pub(crate) fn snapshot(&self) -> Vec<Totals> {
        let table = self.0.lock();
        let totals = table.iter().map(|((user, forward), counters)| {
            // The end of a connection is counted after its beginning.
            let ended = counters.ended.load(Relaxed);
            let connections = counters.connections.load(Relaxed);
            Totals {
                user: user.clone(),
                forward: forward.clone(),
                connections,
                open: connections.saturating_sub(ended),
                refused: counters.refused.load(Relaxed),
                to_target: counters.to_target.load(Relaxed),
                from_target: counters.from_target.load(Relaxed),
            }
        });
        totals.collect()
    }
}

#[cfg(test)]
mod tests;
