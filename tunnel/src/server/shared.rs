//! The state that the handlers of a server share: its rights and its limits.
//!
//! Each connection and each listener takes its place here before it is opened, and gives it back as it is dropped.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::counts::{Counted, Counts};
use super::grants::{Given, Grants};
use super::held::{Held, Holdings, Scarce};
use super::settings::ServerSettings;
use super::silent::SilentLinks;
use crate::hub::Hub;
use crate::time::within;
use crate::{Authorizer, End, Permission, Reason, Requester};

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
    /// Listeners of all, under one name.
    pub(super) all_listeners: Arc<Counts>,
    /// Requests of each user that wait for an address of another link of the same user.
    pub(super) waiting: Arc<Counts>,
    pub(super) holdings: Arc<Holdings>,
    /// The number of changes of the rules so far.
    pub(super) changes: AtomicU64,
    pub(super) silent_links: Arc<SilentLinks>,
}

/// A share of limits, until this is dropped.
pub(super) struct Share {
    _counted: [Option<Counted>; 2],
    _held: Option<Held>,
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

    /// Takes one more connection of the requester's user.
    pub(super) fn take_connection(self: &Arc<Self>, requester: &Requester) -> Result<Share, Reason> {
        self.take(requester, Scarce::Connection, || {
            let user = requester.user().unwrap_or_default().into();
            let counted = self.connections.take_of(user, Some(self.settings.max_connections_per_user))?;
            Ok([Some(counted), None])
        })
    }

    /// Takes one more connection of the permission's rule.
    pub(super) fn take_of_rule(
        self: &Arc<Self>,
        requester: &Requester,
        permission: &Permission,
    ) -> Result<Share, Reason> {
        let what = Scarce::ByRule(permission.rule().clone());
        self.take(requester, what, || Ok([Some(self.counts.take(permission)?), None]))
    }

    /// Takes one more listener of the requester's user, and of all.
    pub(super) fn take_listener(self: &Arc<Self>, requester: &Requester) -> Result<Share, Reason> {
        self.take(requester, Scarce::Listener, || {
            let user = requester.user().unwrap_or_default().into();
            let of_user = self.listeners.take_of(user, Some(self.settings.max_listeners_per_user))?;
            let most = u32::try_from(self.settings.max_listeners).unwrap_or(u32::MAX);
            Ok([Some(of_user), Some(self.all_listeners.take_of("".into(), Some(most))?)])
        })
    }

    /// Counts, and notes who holds it. At the limit, silent links of the requester are closed.
    fn take(
        self: &Arc<Self>,
        requester: &Requester,
        what: Scarce,
        count: impl FnOnce() -> Result<[Option<Counted>; 2], Reason>,
    ) -> Result<Share, Reason> {
        match count() {
            Ok(_counted) => Ok(Share { _counted, _held: self.holdings.hold(requester, what) }),
            Err(reason) => {
                self.silent_links.start_closing(requester, what);
                Err(reason)
            }
        }
    }

    /// Counts one more request that waits for an address.
    pub(super) fn wait_for_address(&self, requester: &Requester) -> Result<Counted, Reason> {
        let user = requester.user().unwrap_or_default().into();
        self.waiting.take_of(user, Some(self.settings.max_listeners_per_user))
    }
}
