//! Ordering keys in use, each under a number of its own.
//!
//! Peers choose keys, so they are found in a tree: what a search costs does not depend on which keys they
//! choose, as it would in a table with a fixed hasher. All other tables of this module are indexed by the
//! numbers assigned here.

use std::collections::BTreeMap;

use crate::ids::{ConnectionId, OrderingKey};
use crate::numbered::Numbered;

/// A key in use, or one key of one connection, where connections don't share keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyId(pub(super) u64);

/// A key, and the connection to which it is confined, if it is.
type Scoped = (Option<ConnectionId>, OrderingKey);

#[derive(Debug, Default)]
pub(super) struct Keys {
    ids: BTreeMap<Scoped, KeyId>,
    used: Numbered<Used>,
    next: u64,
}

#[derive(Debug)]
struct Used {
    scoped: Scoped,
    requests: usize,
}

impl Keys {
    /// One more request uses this key.
    pub(super) fn acquire(&mut self, scope: Option<ConnectionId>, key: &OrderingKey) -> KeyId {
        let scoped = (scope, key.clone());
        if let Some(id) = self.ids.get(&scoped) {
            if let Some(used) = self.used.get_mut(id.0) {
                used.requests += 1;
            }
            return *id;
        }
        let id = KeyId(self.next);
        self.next += 1;
        // A copy: a slice would pin the message of the first request for as long as any later one uses its
        // key.
        let scoped = (scope, key.detached());
        self.ids.insert(scoped.clone(), id);
        self.used.insert(id.0, Used { scoped, requests: 1 });
        id
    }

    /// One request less uses this key; the last one takes it out.
    pub(super) fn release(&mut self, id: KeyId) {
        let Some(used) = self.used.get_mut(id.0) else { return };
        used.requests -= 1;
        if used.requests == 0
            && let Some(used) = self.used.remove(id.0)
        {
            self.ids.remove(&used.scoped);
        }
    }

    #[cfg(any(test, feature = "internals"))]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.ids.len(), self.used.len());
        self.ids.len()
    }
}
