//! Settings of a server of tunnels.
//!
//! What a rule says for itself, such as its limit of connections, counts in addition.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use callosum_runtime::SocketOptions;

use crate::dial::keepalive;
use crate::resolve::{Resolver, SystemResolver};

/// Settings of a [`TunnelServer`](crate::TunnelServer).
#[derive(Clone)]
#[must_use = "settings hold for the server that they are given to"]
pub struct ServerSettings {
    pub(super) connect_timeout: Duration,
    pub(super) max_connections: usize,
    pub(super) max_connections_per_user: u32,
    pub(super) max_listeners: usize,
    pub(super) max_listeners_per_user: u32,
    pub(super) socket: SocketOptions,
    pub(super) resolver: Arc<dyn Resolver>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            max_connections: 10_000,
            max_connections_per_user: 5_000,
            max_listeners: 1_000,
            max_listeners_per_user: 100,
            socket: keepalive(),
            resolver: Arc::new(SystemResolver),
        }
    }
}

impl ServerSettings {
    /// How long resolving and connecting may take, for all addresses of a target together. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Connections at a time, of all peers together. One more is refused with [`Reason::Busy`](crate::Reason::Busy), and silent
    /// Callosum connections of the same user and key are closed, as for
    /// [`max_connections_per_user`](Self::max_connections_per_user). Default 10,000.
    ///
    /// One peer can request fewer: the limit on its unfinished calls is twice
    /// [`max_queue`](callosum_runtime::Limits::max_queue) and
    /// [`max_concurrency`](callosum_runtime::Limits::max_concurrency) together, 2,200 by default.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Connections at a time of one user, over all of its Callosum connections, including those that its listeners have
    /// accepted. One more is refused with [`Reason::Busy`](crate::Reason::Busy), and those other Callosum connections of the
    /// same user and key that hold a share are probed: one on which nothing is received for 5 s is closed, with all that it
    /// holds. Peers without an identity count as one user, and are not probed. Default 5,000.
    pub fn max_connections_per_user(mut self, connections: u32) -> Self {
        self.max_connections_per_user = connections;
        self
    }

    /// Listeners at a time of one user, and as many requests that wait for an address. One more is refused with
    /// [`Reason::Busy`](crate::Reason::Busy), and silent connections of the same user and key are closed, as for
    /// [`max_connections_per_user`](Self::max_connections_per_user). Default 100.
    pub fn max_listeners_per_user(mut self, listeners: u32) -> Self {
        self.max_listeners_per_user = listeners;
        self
    }

    /// Listeners at a time, of all peers together. One more is refused with [`Reason::Busy`](crate::Reason::Busy), and silent
    /// Callosum connections of the same user and key are closed, as for
    /// [`max_connections_per_user`](Self::max_connections_per_user). Default 1,000.
    pub fn max_listeners(mut self, listeners: usize) -> Self {
        self.max_listeners = listeners;
        self
    }

    /// Options of the connections to targets, and of those that listeners accept. Default: the system probes what was silent for 60 s,
    /// every 10 s.
    pub fn socket_options(mut self, options: SocketOptions) -> Self {
        self.socket = options;
        self
    }

    /// Resolves the names of targets. Default: [`SystemResolver`].
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }
}

impl fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSettings")
            .field("connect_timeout", &self.connect_timeout)
            .field("max_connections", &self.max_connections)
            .field("max_connections_per_user", &self.max_connections_per_user)
            .field("max_listeners", &self.max_listeners)
            .field("max_listeners_per_user", &self.max_listeners_per_user)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}
