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
mod tests {
    use super::*;

    #[test]
    fn rules_are_counted_apart_and_at_the_edge() {
        let counts = Arc::<Counts>::default();
        let (two, free) = (Permission::new("two").max_connections(2), Permission::new("free"));
        let first = counts.take(&two).unwrap();
        let _second = counts.take(&two).unwrap();
        assert_eq!(counts.take(&two).unwrap_err(), Reason::Busy);
        let _free: Vec<_> = (0..10).map(|_| counts.take(&free).unwrap()).collect();
        drop(first);
        let _third = counts.take(&two).unwrap();
        assert_eq!(counts.take(&two).unwrap_err(), Reason::Busy);
        assert_eq!(counts.0.lock().len(), 2);
        drop((_second, _third));
        assert_eq!(counts.0.lock().len(), 1);
    }
}
