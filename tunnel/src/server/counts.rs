//! How many connections there are by each rule.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Permission, Reason};

/// Connections by the name of their rule. A rule without any has no entry.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<BTreeMap<Arc<str>, u32>>);

/// A connection that is counted, until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    counts: Arc<Counts>,
    rule: Arc<str>,
}

impl Counts {
    /// Counts one more, unless its rule has as many as it allows.
    pub(super) fn take(self: &Arc<Self>, permission: &Permission) -> Result<Counted, Reason> {
        let rule = permission.rule();
        let mut counts = self.0.lock();
        let now = counts.get(rule).copied().unwrap_or(0);
        if permission.limit().is_some_and(|limit| now >= limit) {
            return Err(Reason::Busy);
        }
        counts.insert(rule.clone(), now.saturating_add(1));
        Ok(Counted { counts: self.clone(), rule: rule.clone() })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock();
        if let Some(count) = counts.get_mut(&self.rule) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.rule);
            }
        }
    }
}

#[cfg(test)]
mod tests;
