//! Assigns a number to each ordering key that is in use.
//!
//! Peers choose keys, so keys are in a tree, whose search cost does not depend on the choice; a hash table
//! with a fixed hasher would degrade with colliding keys. All other tables of the scheduler are indexed by
//! the numbers assigned here. A key is dropped with the last request that uses it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::BuildHasher;

use rustc_hash::FxBuildHasher;

use crate::ids::{ConnectionId, OrderingKey};
use crate::numbered::Numbered;

/// A key in use; together with a connection if connections don't share keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyId(pub(super) u64);

/// A key, and the connection that it belongs to if connections don't share keys.
///
/// Hashes are compared first: nearly every step of a search then compares two numbers instead of two byte strings. Keys whose
/// hashes collide, which a peer can choose, are told apart by their bytes, in as many steps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Scoped {
    hash: u64,
    scope: Option<ConnectionId>,
    key: OrderingKey,
}

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
    /// The number of this key, for one more request.
    pub(super) fn acquire(&mut self, scope: Option<ConnectionId>, key: &OrderingKey) -> KeyId {
        // A long key is shared by its clones, not copied.
        let scoped = Scoped { hash: FxBuildHasher.hash_one(key), scope, key: key.clone() };
        match self.ids.entry(scoped) {
            Entry::Occupied(found) => {
                let id = *found.get();
                if let Some(used) = self.used.get_mut(id.0) {
                    used.requests += 1;
                }
                id
            }
            Entry::Vacant(place) => {
                let id = KeyId(self.next);
                self.next += 1;
                self.used.insert(id.0, Used { scoped: place.key().clone(), requests: 1 });
                *place.insert(id)
            }
        }
    }

    /// A request that used this key is gone. The last one drops the key.
    pub(super) fn release(&mut self, id: KeyId) {
        let Some(used) = self.used.get_mut(id.0) else { return };
        used.requests -= 1;
        // Peers can use ever new keys, so one that no request uses must not stay.
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
