//! Totals per user and forward.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Pairs of a user and a forward that are counted apart. What users name has no bound of its own.
const MAX_PAIRS: usize = 10_000;

/// Forwards of one user that are counted apart, so that one who names many leaves others theirs.
const MAX_FORWARDS: usize = 1_000;

/// The label of all names beyond the limit.
const OTHER: &str = "(other)";

/// Counters of one user and one forward, since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// The user that the other side was admitted as; `None` on the side that requested the forward.
    pub user: Option<String>,
    /// The forward, as in [`ConnectionInfo::forward`](crate::ConnectionInfo::forward); `(other)` past 1,000 forwards of a user,
    /// or, without a user, past 10,000 pairs of a user and a forward.
    pub forward: Arc<str>,
    /// Connections that were opened, including those that are open.
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
#[derive(Debug)]
pub(crate) struct Counters {
    /// As in [`Totals::user`] and [`Totals::forward`].
    pub(crate) user: Option<String>,
    pub(crate) forward: Arc<str>,
    connections: AtomicU64,
    ended: AtomicU64,
    refused: AtomicU64,
    pub(crate) to_target: AtomicU64,
    pub(crate) from_target: AtomicU64,
}

impl Counters {
    fn new((user, forward): Pair) -> Self {
        let [connections, ended, refused, to_target, from_target] = Default::default();
        Self { user, forward, connections, ended, refused, to_target, from_target }
    }

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
pub(crate) struct Table(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pairs: BTreeMap<Pair, Arc<Counters>>,
    /// How many forwards each user has.
    forwards: BTreeMap<Option<String>, usize>,
}

impl Table {
    /// The counters of a pair, which stay.
    pub(crate) fn of(&self, user: Option<&str>, forward: &Arc<str>) -> Arc<Counters> {
        let state = &mut *self.0.lock();
        let user = user.map(str::to_owned);
        let pair = (user.clone(), forward.clone());
        if let Some(counters) = state.pairs.get(&pair) {
            return counters.clone();
        }
        let forwards = state.forwards.get(&user).copied().unwrap_or(0);
        let pair = if state.pairs.len() >= MAX_PAIRS {
            (None, OTHER.into())
        } else if forwards >= MAX_FORWARDS {
            (user, OTHER.into())
        } else {
            state.forwards.insert(user, forwards + 1);
            pair
        };
        state.pairs.entry(pair.clone()).or_insert_with(|| Arc::new(Counters::new(pair))).clone()
    }

    pub(crate) fn snapshot(&self) -> Vec<Totals> {
        let state = self.0.lock();
        let totals = state.pairs.values().map(|counters| {
            // The end of a connection is counted after its beginning.
            let ended = counters.ended.load(Relaxed);
            let connections = counters.connections.load(Relaxed);
            Totals {
                user: counters.user.clone(),
                forward: counters.forward.clone(),
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
