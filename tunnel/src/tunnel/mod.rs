//! The side that requests forwards.
//!
//! Responsible for forwards and what they have in common; [`local`], [`dynamic`], [`remote`] and [`pipe`] are the four kinds. The idea: a
//! forward is a future that accepts, and the driver polls all of them; each connection is a task of its own, which the hub can stop.

mod dynamic;
mod local;
mod pipe;
mod remote;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use callosum_runtime::rt::Listener;
use callosum_runtime::{Drained, Handlers, Peer, SocketOptions};
use futures_channel::mpsc;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, select};
use futures_util::stream::FuturesUnordered;

use crate::accepting::Opener;
use crate::connection::{ConnectionState, Side};
use crate::dial::keepalive;
use crate::driver::TunnelDriver;
use crate::events::{TunnelEvent, TunnelEvents};
use crate::hub::{Guard, Hub, Wanted};
use crate::resolve::{Resolver, SystemResolver};
use crate::stop::Stop;
use crate::totals::Totals;
use crate::{End, ListenAddress, Reason, Target};

/// Settings of a [`Tunnel`].
#[derive(Clone)]
#[must_use = "settings hold for the tunnel that they are given to"]
pub struct TunnelSettings {
    wait_for_link: Duration,
    open_timeout: Duration,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    max_connections: usize,
    socket: SocketOptions,
    resolver: Arc<dyn Resolver>,
    proxy_protocol: bool,
}

impl Default for TunnelSettings {
    fn default() -> Self {
        Self {
            wait_for_link: Duration::from_secs(10),
            open_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            max_connections: 10_000,
            socket: keepalive(),
            resolver: Arc::new(SystemResolver),
            proxy_protocol: false,
        }
    }
}

impl TunnelSettings {
    /// How long a new connection waits while there is no Callosum connection; then it is refused with
    /// [`Reason::NotConnected`]. Zero refuses at once. Default 10 s.
    pub fn wait_for_link(mut self, wait: Duration) -> Self {
        self.wait_for_link = wait;
        self
    }

    /// How long the other side may take to connect to a target; then the connection is refused with [`Reason::TimedOut`]. Default 30 s.
    pub fn open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = timeout;
        self
    }

    /// How long this side may take to connect to the target of a remote forward, resolving included. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long the handshake of a SOCKS5 or HTTP CONNECT client may take, and the client until it closes once it is refused; then
    /// its connection is closed. Default 10 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Connections at a time. One more is refused with [`Reason::Busy`]. Default 10,000.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Options of the connections that are accepted here, and of those to the targets of remote forwards. Default: the system probes what
    /// was silent for 60 s, every 10 s.
    pub fn socket_options(mut self, options: SocketOptions) -> Self {
        self.socket = options;
        self
    }

    /// Resolves the names of the targets of remote forwards. Default: [`SystemResolver`].
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Writes a PROXY protocol header, version 2, to the targets of remote forwards, so that they learn who has connected to the other
    /// side. Default: no.
    pub fn proxy_protocol(mut self, write: bool) -> Self {
        self.proxy_protocol = write;
        self
    }
}

impl fmt::Debug for TunnelSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelSettings")
            .field("wait_for_link", &self.wait_for_link)
            .field("open_timeout", &self.open_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

/// Forwards over the connection to one peer, which serves tunnels ([`TunnelServer`](crate::TunnelServer)). Cheap to clone; all clones are
/// the same.
///
/// Any number of forwards share the Callosum connection, with each other and with ordinary calls. When it is lost, open
/// forwarded connections are reset, and listeners stay: a new connection [waits](TunnelSettings::wait_for_link).
#[derive(Clone)]
pub struct Tunnel {
    shared: Arc<Shared>,
}

/// The state that the forwards of a tunnel share.
struct Shared {
    hub: Arc<Hub>,
    peer: Peer,
    /// Where the handlers of remote forwards go.
    handlers: Handlers,
    settings: TunnelSettings,
    /// New forwards, which the driver has to poll.
    running: mpsc::UnboundedSender<BoxFuture<'static, ()>>,
}

/// A forward. It lasts until it is [closed](Self::close), or the tunnel ends; dropping this handle does not end it.
#[derive(Clone, Debug)]
pub struct Forward {
    name: Arc<str>,
    address: ListenAddress,
    stop: Arc<Stop>,
}

impl Forward {
    /// Its name in events and totals: `127.0.0.1:5432 → db.internal:5432`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The address on which connections are accepted, here or on the other side, with the port that the system chose. A
    /// remote forward with port 0 may get another port after each reconnect, which [`TunnelEvent::Listening`] reports.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Accepts no more connections. Open ones go on.
    pub fn close(&self) {
        self.stop.stop(End::ShutDown);
    }
}

/// Why a forward could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The system does not let this side listen.
    #[error("can't listen on {address}: {error}")]
    Listen {
        /// Where.
        address: ListenAddress,
        /// What the system said.
        error: io::Error,
    },
    /// The other side does not listen.
    #[error("the other side does not listen on {address}: {reason}")]
    Remote {
        /// Where.
        address: ListenAddress,
        /// Why.
        reason: Reason,
    },
    /// The tunnel is drained, or its driver has been dropped.
    #[error("the tunnel is shut down")]
    ShutDown,
}

impl Tunnel {
    /// A tunnel to a peer, and its driver. `handlers` are those of the endpoint that the peer belongs to
    /// ([`Connector::handlers`](callosum_runtime::Connector::handlers),
    /// [`Binder::handlers`](callosum_runtime::Binder::handlers)): through them the peer hands over what its listeners
    /// have accepted.
    pub fn new(peer: &Peer, handlers: &Handlers, settings: TunnelSettings) -> (Self, TunnelDriver) {
        let hub = Hub::new(peer.runtime().clone());
        let (running, receiver) = mpsc::unbounded();
        let shared =
            Shared { hub: hub.clone(), peer: peer.clone(), handlers: handlers.clone(), settings, running };
        let driver = TunnelDriver::new(hub.clone(), run(hub, receiver));
        (Self { shared: Arc::new(shared) }, driver)
    }

    /// The events from now on.
    pub fn events(&self) -> TunnelEvents {
        self.shared.hub.subscribe()
    }

    /// The current connections, in the order in which they began.
    pub fn connections(&self) -> Vec<ConnectionState> {
        self.shared.hub.states()
    }

    /// Counters of each forward, since the start.
    pub fn totals(&self) -> Vec<Totals> {
        self.shared.hub.totals.snapshot()
    }

    /// Closes the listeners, and waits until all connections have ended. The connections that are open when the
    /// deadline has passed are reset. Then the driver resolves.
    ///
    /// Cancel safe: if the future is dropped, no more connections are accepted, but none is reset.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.shared.hub.drain(deadline).await
    }
}

impl Shared {
    fn opener(&self) -> Opener {
        let TunnelSettings { wait_for_link: wait, open_timeout: open, .. } = self.settings;
        Opener { peer: self.peer.clone(), wait, open }
    }

    /// Registers a connection.
    ///
    /// # Errors
    /// If there are too many, or the tunnel is draining.
    fn begin(self: &Arc<Self>, wanted: Wanted) -> Result<Guard, Reason> {
        self.hub.begin(wanted, Arc::default())?.unless_full(self.settings.max_connections)
    }

    async fn bind(
        &self,
        address: &ListenAddress,
    ) -> Result<(Box<dyn Listener>, ListenAddress), ForwardError> {
        let failed = |error| ForwardError::Listen { address: address.clone(), error };
        if self.hub.is_draining() {
            return Err(ForwardError::ShutDown);
        }
        let options = self.settings.socket.owner_only();
        let listener = self.hub.runtime.bind(&address.endpoint(), options).await.map_err(failed)?;
        let bound = address.bound(&listener.endpoint().map_err(failed)?);
        Ok((listener, bound))
    }

    /// Passes a forward to the driver, which runs it until it is closed.
    fn run(
        &self,
        name: Arc<str>,
        address: ListenAddress,
        forward: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Forward, ForwardError> {
        let stop = Arc::<Stop>::default();
        let (stopped, forwarding) = (stop.clone(), Box::pin(forward));
        let running = async move {
            // Until it is closed, or ends by itself.
            let _ = stopped.or(forwarding).await;
        };
        self.running.unbounded_send(Box::pin(running)).map_err(|_| ForwardError::ShutDown)?;
        self.hub.events.send(TunnelEvent::Listening { forward: name.clone(), address: address.clone() });
        tracing::info!(forward = %name, "forwarding");
        Ok(Forward { name, address, stop })
    }
}

/// The name of a forward.
fn name(address: &ListenAddress, target: &Target) -> Arc<str> {
    format!("{address} → {target}").into()
}

/// The description of a connection through a forward of this side.
fn accepted(forward: &Arc<str>, target: Option<Target>, source: Option<std::net::SocketAddr>) -> Wanted {
    Wanted { side: Side::Accepting, user: None, forward: forward.clone(), target, source }
}

/// Forwards that the driver has not polled yet. They own what sends them; dropping this drops them, so they keep nothing alive.
type Queue = mpsc::UnboundedReceiver<BoxFuture<'static, ()>>;

/// Polls the forwards until the tunnel is drained.
async fn run(hub: Arc<Hub>, mut queue: Queue) {
    let mut running = FuturesUnordered::new();
    let forwarding = poll_fn(|cx| {
        while let Poll::Ready(Some(forward)) = queue.poll_next_unpin(cx) {
            running.push(forward);
        }
        while let Poll::Ready(Some(())) = running.poll_next_unpin(cx) {}
        Poll::<()>::Pending
    });
    select(forwarding, pin!(hub.until_draining())).await;
    // Closes all listeners.
    drop((running, queue));
    hub.until_over().await;
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("peer", &self.shared.peer)
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}
