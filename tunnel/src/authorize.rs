//! Authorization: the question to an authorizer, and its answer.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use callosum_runtime::auth::Identity;
use callosum_runtime::rt::Runtime;
use callosum_runtime::{Context, Peer};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::{Grant, ListenAddress, Target};

/// Decides which connections and listeners a [`TunnelServer`](crate::TunnelServer) opens for peers. What it does not
/// allow is denied.
///
/// [`RuleSet`](crate::RuleSet) decides by a rules file. Futures may be dropped at any time.
pub trait Authorizer: Send + Sync + 'static {
    /// Whether a peer may name this target. If so, the name is resolved, and the [`Permission`] says which of its addresses may be
    /// connected to.
    fn connect<'a>(
        &'a self,
        requester: &'a Requester,
        target: &'a Target,
    ) -> BoxFuture<'a, Option<Permission>>;

    /// Whether a peer may have this side listen on an address.
    fn listen<'a>(
        &'a self,
        requester: &'a Requester,
        address: &'a ListenAddress,
    ) -> BoxFuture<'a, Option<Permission>>;

    /// Yields after each change. The server then asks again about every connection and every listener, and closes those
    /// that are no longer allowed, or not decided within 10 s. The server's driver polls the stream, which may look for
    /// changes itself.
    ///
    /// Default: never yields.
    fn changes(&self, _: &Arc<dyn Runtime>) -> Option<BoxStream<'static, ()>> {
        None
    }
}

/// A peer that requests a connection or a listener.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Requester {
    /// The peer.
    pub peer: Peer,
    /// The identity that it was admitted as: by the key that it has proved to own, or by the transport. `None` if this
    /// endpoint has neither an authenticator nor another way to tell peers apart, or if the peer is the server that this side has
    /// connected to.
    pub identity: Option<Arc<Identity>>,
}

impl Requester {
    pub(crate) fn of(context: &Context) -> Self {
        Self { peer: context.peer().clone(), identity: context.identity() }
    }

    /// The user whom it was admitted as.
    pub fn user(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| identity.user_id.as_str())
    }
}

/// A permission to open connections, and its limits.
#[derive(Clone)]
pub struct Permission {
    admits: Admits,
    rule: Arc<str>,
    max_connections: Option<u32>,
    idle_timeout: Option<Duration>,
    /// `None`: as the rule of the grant says.
    proxy_protocol: Option<bool>,
}

#[derive(Clone)]
enum Admits {
    Every,
    Some(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>),
    /// As the rules say, whose limits depend on the address.
    By(Grant),
}

impl Permission {
    /// Permission to connect to whatever address the name has, loopback and link-local ones included; [`only`](Self::only) narrows it.
    /// Without limits. Connections are counted by `rule`.
    pub fn new(rule: impl Into<Arc<str>>) -> Self {
        Self {
            admits: Admits::Every,
            rule: rule.into(),
            max_connections: None,
            idle_timeout: None,
            proxy_protocol: None,
        }
    }

    /// Connects to those addresses only for which this says so. [`is_public`](crate::is_public) is a safe choice.
    pub fn only(mut self, admits: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        self.admits = Admits::Some(Arc::new(admits));
        self
    }

    /// Connections that there may be at a time by permissions with this rule's name, whichever peers they are of. One more is
    /// refused with [`Reason::Busy`](crate::Reason::Busy), and silent Callosum connections of the same user and key are closed, as for
    /// [`max_connections_per_user`](crate::ServerSettings::max_connections_per_user).
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// Closes a connection without traffic in either direction for this time.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Writes a PROXY protocol header, version 2, to the target before anything else, with the client's address. Default: no, or
    /// as the rule of the [`Grant`] says.
    pub fn proxy_protocol(mut self, write: bool) -> Self {
        self.proxy_protocol = Some(write);
        self
    }

    /// The grant for a connection to this address; `None` if it is forbidden.
    pub(crate) fn at(&self, address: IpAddr) -> Option<Self> {
        match &self.admits {
            Admits::Every => Some(self.clone()),
            Admits::Some(admits) => admits(address).then(|| self.clone()),
            Admits::By(grant) => {
                Some(Self { proxy_protocol: self.proxy_protocol, ..Self::from(grant.at(address)?) })
            }
        }
    }

    pub(crate) fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    pub(crate) fn limit(&self) -> Option<u32> {
        self.max_connections
    }

    pub(crate) fn idle(&self) -> Option<Duration> {
        self.idle_timeout
    }

    pub(crate) fn writes_proxy_header(&self) -> bool {
        let by_rule = || match &self.admits {
            Admits::By(grant) => grant.proxy_protocol(),
            Admits::Every | Admits::Some(_) => false,
        };
        self.proxy_protocol.unwrap_or_else(by_rule)
    }
}

impl From<Grant> for Permission {
    fn from(grant: Grant) -> Self {
        Self {
            rule: grant.rule().clone(),
            max_connections: grant.max_connections().map(|most| most.get()),
            idle_timeout: grant.idle_timeout(),
            proxy_protocol: None,
            admits: Admits::By(grant),
        }
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permission")
            .field("rule", &self.rule)
            .field("max_connections", &self.max_connections)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}
