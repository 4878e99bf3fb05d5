//! Counts of connections by rule, and of connections and listeners by user.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Permission, Reason};

/// Counts by name: connections by the name of their rule, connections and listeners by that of their user. A name without
/// any has no entry.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<BTreeMap<Arc<str>, u32>>);

/// A connection that is counted, until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    counts: Arc<Counts>,
    name: Arc<str>,
}

impl Counts {
    /// Counts one more, unless its rule has as many as it allows.
    pub(super) fn take(self: &Arc<Self>, permission: &Permission) -> Result<Counted, Reason> {
        self.take_of(permission.rule().clone(), permission.limit())
    }

    /// Counts one more of this name, unless there are as many as may be.
    pub(super) fn take_of(self: &Arc<Self>, name: Arc<str>, limit: Option<u32>) -> Result<Counted, Reason> {
        let mut counts = self.0.lock();
        let now = counts.get(&name).copied().unwrap_or(0);
        if limit.is_some_and(|limit| now >= limit) {
            return Err(Reason::Busy);
        }
        counts.insert(name.clone(), now.saturating_add(1));
        Ok(Counted { counts: self.clone(), name })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock();
        if let Some(count) = counts.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
