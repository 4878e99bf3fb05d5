//! The state that the handlers of a server share: its rights and its limits.
//!
//! Each connection and each listener takes its place here before it is opened, and gives it back as it is dropped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;

use super::counts::{Counted, Counts};
use super::grants::{Given, Grants};
use super::settings::ServerSettings;
use crate::hub::Hub;
use crate::time::within;
use crate::{Authorizer, End, Permission, Reason};

/// How long the authorizer may take for one check. A grant that is not confirmed by then is revoked.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// The state that the handlers of a server share.
pub(super) struct Shared {
    pub(super) hub: Arc<Hub>,
    pub(super) authorizer: Box<dyn Authorizer>,
    pub(super) settings: ServerSettings,
    pub(super) grants: Arc<Grants>,
    pub(super) counts: Arc<Counts>,
    /// Connections of each user.
    pub(super) connections: Arc<Counts>,
    /// Listeners of each user.
    pub(super) listeners: Arc<Counts>,
    /// The number of changes of the rules so far.
    pub(super) changes: AtomicU64,
    /// Users whose links are being probed because of a connection that was refused.
    pub(super) probing: Mutex<BTreeSet<String>>,
}

impl Shared {
    /// Authorizes a grant again, and stops it if it is refused or the decision times out.
    pub(super) async fn check_again(&self, given: &Given) -> Option<Permission> {
        let asked = within(&*self.hub.runtime, CHECK_TIMEOUT, given.ask_again(&*self.authorizer)).await;
        let permission = asked.flatten();
        if permission.is_none() {
            given.stop.stop(End::Revoked);
        }
        permission
    }

    /// Counts one more connection of a user.
    pub(super) fn count_connection(&self, user: Option<&str>) -> Result<Counted, Reason> {
        self.connections
            .take_of(user.unwrap_or_default().into(), Some(self.settings.max_connections_per_user))
    }

    /// Counts one more listener of a user.
    pub(super) fn count_listener(&self, user: Option<&str>) -> Result<Counted, Reason> {
        self.listeners.take_of(user.unwrap_or_default().into(), Some(self.settings.max_listeners_per_user))
    }
}
