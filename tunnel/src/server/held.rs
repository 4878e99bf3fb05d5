//! Who holds what is scarce: listeners' addresses, and shares of limits.
//!
//! So that a refusal finds the links that hold what it lacked, and no others. Each lookup costs as much as the requester's own links hold
//! of it, and is independent of what other users have.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use callosum_runtime::rt::Waiters;
use callosum_runtime::{Peer, PeerId};
use parking_lot::Mutex;

use crate::{ListenAddress, Requester};

/// What one can do without only by giving it up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scarce {
    /// A TCP port of an address of this host.
    Port(u16, IpAddr),
    Path(PathBuf),
    /// One of the listeners that there may be.
    Listener,
    /// One of the connections that there may be.
    Connection,
    /// One of the connections that there may be by this rule.
    ByRule(Arc<str>),
}

impl Scarce {
    /// The address, unless the system chooses the port: that is never in use.
    pub(super) fn address(address: &ListenAddress) -> Option<Self> {
        match address {
            ListenAddress::Tcp(address) if address.port() == 0 => None,
            ListenAddress::Tcp(address) => Some(Self::Port(address.port(), address.ip())),
            ListenAddress::Unix(path) => Some(Self::Path(path.clone())),
        }
    }

    /// The first in order of those that may exclude this one.
    fn first(&self) -> Self {
        match self {
            Self::Port(port, _) => Self::Port(*port, Ipv4Addr::UNSPECIFIED.into()),
            other => other.clone(),
        }
    }

    fn has_place_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Port(port, _), Self::Port(other, _)) => port == other,
            _ => self == other,
        }
    }

    /// Whether only one of both can be had. `0.0.0.0` and `[::]` are every address.
    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Port(_, ip), Self::Port(_, other)) => {
                SocketAddr::new(*ip, 0) == SocketAddr::new(*other, 0)
                    || ip.is_unspecified()
                    || other.is_unspecified()
            }
            _ => true,
        }
    }
}

/// What the links of users hold. Nothing is known of peers without an identity.
#[derive(Default)]
pub(super) struct Holdings(Mutex<BTreeMap<Arc<str>, OfUser>>);

#[derive(Default)]
struct OfUser {
    /// By what it is, and the number of the link's peer.
    held: BTreeMap<(Scarce, u64), Holder>,
    /// A link has given up the last of something.
    freed: Arc<Waiters>,
}

struct Holder {
    link: Peer,
    /// How many of it.
    count: u32,
}

/// Something that a link holds, until this is dropped.
pub(super) struct Held {
    holdings: Arc<Holdings>,
    user: Arc<str>,
    what: (Scarce, u64),
}

impl Holdings {
    /// Notes that the requester's link holds one of it.
    pub(super) fn hold(self: &Arc<Self>, requester: &Requester, what: Scarce) -> Option<Held> {
        let user = requester.user()?;
        let (what, mut users) = ((what, requester.peer.id().number()), self.0.lock());
        let user = match users.get_key_value(user) {
            Some((user, _)) => user.clone(),
            None => user.into(),
        };
        let held = &mut users.entry(user.clone()).or_default().held;
        let holder =
            held.entry(what.clone()).or_insert_with(|| Holder { link: requester.peer.clone(), count: 0 });
        holder.count = holder.count.saturating_add(1);
        drop(users);
        Some(Held { holdings: self.clone(), user, what })
    }

    /// The requester's other links that hold what excludes this, with the same key.
    pub(super) fn other_links(&self, requester: &Requester, what: &Scarce) -> BTreeMap<PeerId, Peer> {
        let Some(user) = requester.user() else { return BTreeMap::new() };
        let mut links = BTreeMap::new();
        let users = self.0.lock();
        let Some(of_user) = users.get(user) else { return links };
        for ((held, _), holder) in of_user.held.range((what.first(), 0)..) {
            if !held.has_place_of(what) {
                break;
            }
            let id = holder.link.id();
            if held.excludes(what) && id != requester.peer.id() {
                links.insert(id, holder.link.clone());
            }
        }
        drop(users);
        if !links.is_empty() {
            let key = requester.peer.info().public_key;
            links.retain(|_, link| link.info().public_key == key);
        }
        links
    }

    /// Waits until none of these links holds anything that excludes this.
    pub(super) async fn until_free(&self, requester: &Requester, what: &Scarce, links: &[Peer]) {
        loop {
            let freed = requester.user().and_then(|user| Some(self.0.lock().get(user)?.freed.clone()));
            let Some(freed) = freed else { return };
            let freed = freed.listen();
            let others = self.other_links(requester, what);
            if !links.iter().any(|link| others.contains_key(&link.id())) {
                return;
            }
            freed.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut users = self.holdings.0.lock();
        let Some(of_user) = users.get_mut(&self.user) else { return };
        let Some(holder) = of_user.held.get_mut(&self.what) else { return };
        holder.count -= 1;
        if holder.count > 0 {
            return;
        }
        let gone = of_user.held.remove(&self.what);
        let freed = of_user.freed.clone();
        if of_user.held.is_empty() {
            users.remove(&self.user);
        }
        drop(users);
        drop(gone);
        freed.wake_all();
    }
}
