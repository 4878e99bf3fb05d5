//! The grants of peers, and their check after a change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::stop::Stop;
use crate::{Authorizer, ListenAddress, Permission, Requester, Target};

/// All that has been given.
#[derive(Default)]
pub(super) struct Grants {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    given: BTreeMap<u64, Arc<Given>>,
}

/// A request of a peer.
pub(super) enum What {
    Connect(Target),
    Listen(ListenAddress),
}

/// Something that a peer has, or is about to be given.
pub(super) struct Given {
    requester: Requester,
    what: What,
    /// The address that it is connected to, once it is.
    address: Mutex<Option<IpAddr>>,
    pub(super) stop: Arc<Stop>,
}

/// Something that a peer has, until this is dropped.
pub(super) struct Grant {
    grants: Arc<Grants>,
    id: u64,
    pub(super) given: Arc<Given>,
}

impl Grants {
    /// Registers a grant before the authorizer is asked, so that no change from now on is missed.
    pub(super) fn begin(self: &Arc<Self>, requester: Requester, what: What) -> Grant {
        let given = Arc::new(Given { requester, what, address: Mutex::default(), stop: Arc::default() });
        let mut table = self.table.lock();
        let id = table.next;
        table.next += 1;
        table.given.insert(id, given.clone());
        drop(table);
        Grant { grants: self.clone(), id, given }
    }

    pub(super) fn all(&self) -> Vec<Arc<Given>> {
        self.table.lock().given.values().cloned().collect()
    }
}

impl Given {
    /// Asks the authorizer whether the peer may have it.
    pub(super) async fn ask(&self, authorizer: &dyn Authorizer) -> Option<Permission> {
        match &self.what {
            What::Connect(target) => authorizer.connect(&self.requester, target).await,
            What::Listen(address) => authorizer.listen(&self.requester, address).await,
        }
    }

    /// Sets the address that it is connected to.
    pub(super) fn is_at(&self, address: Option<IpAddr>) {
        *self.address.lock() = address;
    }

    /// Asks the authorizer whether the peer may have it, at the connected address if there is one.
    pub(super) async fn ask_again(&self, authorizer: &dyn Authorizer) -> Option<Permission> {
        let permission = self.ask(authorizer).await?;
        let address = *self.address.lock();
        address.map_or(Some(permission.clone()), |address| permission.at(address))
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let given = self.grants.table.lock().given.remove(&self.id);
        drop(given);
    }
}
