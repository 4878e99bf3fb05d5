use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream, StreamExt};

use super::{Admission, Authenticator, Credential, CurvePublicKey, Identity, ServerIdentity};
use crate::lock::Mutex;
use crate::rt::Runtime;
use crate::waiters::Waiters;

/// Admits a set of keys, which can change while endpoints use it. All clones share the set.
#[derive(Clone)]
pub struct KeySet {
    identity: ServerIdentity,
    keys: Arc<Keys>,
}

/// Keys, and the tasks that wait for a change of them.
#[derive(Default)]
struct Keys {
    state: Mutex<State>,
    changed: Waiters,
}

#[derive(Default)]
struct State {
    users: BTreeMap<CurvePublicKey, Identity>,
    version: u64,
    /// The version that the tasks were told of.
    told: u64,
}

impl KeySet {
    /// An empty set, which admits no client.
    pub fn new(identity: impl Into<ServerIdentity>) -> Self {
        Self { identity: identity.into(), keys: Arc::default() }
    }

    /// Admits this key from now on, as this user. Replaces an earlier user of the key, also for clients that are
    /// connected.
    pub fn admit(&self, key: CurvePublicKey, user: impl Into<Identity>) {
        let user = user.into();
        self.keys.change(|users| {
            users.insert(key, user);
        });
    }

    /// Rejects this key from now on, and closes the connections of clients that use it. Returns whether it was in the
    /// set.
    pub fn revoke(&self, key: &CurvePublicKey) -> bool {
        self.keys.change(|users| users.remove(key).is_some())
    }

    /// Replaces all keys. Follow it with [`tell`](Self::tell) once no lock is held.
    pub(super) fn replace(&self, with: BTreeMap<CurvePublicKey, Identity>) {
        let mut state = self.keys.state.lock();
        if state.users != with {
            state.version += 1;
            state.users = with;
        }
    }

    /// Wakes those that wait for changes, if there were any.
    pub(super) fn tell(&self) {
        self.keys.tell();
    }

    pub(super) fn users(&self) -> BTreeMap<CurvePublicKey, Identity> {
        self.keys.state.lock().users.clone()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.state.lock().users.len()
    }

    /// Whether no client is admitted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Keys {
    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<CurvePublicKey, Identity>) -> T) -> T {
        let result = {
            let mut state = self.state.lock();
            state.version += 1;
            change(&mut state.users)
        };
        self.tell();
        result
    }

    fn tell(&self) {
        let is_new = {
            let State { version, told, .. } = &mut *self.state.lock();
            std::mem::replace(told, *version) != *version
        };
        if is_new {
            self.changed.wake_all();
        }
    }

    fn check(&self, key: &CurvePublicKey) -> Admission {
        match self.state.lock().users.get(key) {
            Some(identity) => Admission::Admit(identity.clone()),
            None => Admission::Refuse,
        }
    }

    /// Yields once for any number of changes since it last did.
    fn changes(self: &Arc<Self>) -> BoxStream<'static, ()> {
        let seen = self.state.lock().version;
        stream::unfold((self.clone(), seen), |(keys, seen)| async move {
            loop {
                let changed = keys.changed.listen();
                let version = keys.state.lock().version;
                if version != seen {
                    drop(changed);
                    return Some(((), (keys, version)));
                }
                changed.await;
            }
        })
        .boxed()
    }
}

impl Authenticator for KeySet {
    fn server_identity(&self) -> Option<ServerIdentity> {
        Some(self.identity.clone())
    }

    fn check_client(&self, credential: Credential) -> BoxFuture<'static, Admission> {
        ready(self.keys.check(&credential.public_key)).boxed()
    }

    fn changes(&self, _: &Arc<dyn Runtime>) -> Option<BoxStream<'static, ()>> {
        Some(self.keys.changes())
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("identity", &self.identity).field("len", &self.len()).finish()
    }
}
