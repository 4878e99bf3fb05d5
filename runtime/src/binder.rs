//! The side that accepts: many peers, on any number of listeners.

use std::convert::Infallible;
use std::future::pending;
use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::Role;
use callosum_proto::zmtp::Mechanism;
use futures_channel::mpsc;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::auth::{Identity, watch_changes};
use crate::connector::{deadline_passed, shutdown};
use crate::endpoint::ParseEndpointError;
use crate::error::{BindError, DisconnectCause, Drained, DriverError};
use crate::event::Events;
use crate::handlers::Handlers;
use crate::handshakes::HandshakeSlot;
use crate::link::pump::Pump;
use crate::link::stream::StreamLink;
use crate::link::{LinkPeer, MessageReceiver, MessageSender, PeersOfLink, drive_accepted};
use crate::lock::{Mutex, drop_caught};
use crate::node::Node;
use crate::peer::PeerShared;
use crate::rt::{BoxStream, ByteStream, Listener, sleep_until};
use crate::stats::Stats;
use crate::turns::Turn;
use crate::{Driver, Endpoint, Peer, PeerId, inproc};

/// How long a listener waits after the system refused to accept, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that a listener accepts before it yields to other tasks.
const ACCEPTED_AT_ONCE: u64 = 32;

/// A listener and where it really listens.
type Listening = (Endpoint, Box<dyn Listener>);

/// Listeners that the driver has not taken over yet. Dropping it closes them, also while handles exist, and lets no more be
/// handed over.
type NewListeners = mpsc::UnboundedReceiver<Listening>;

/// The side that accepts connections. It serves and calls, like a [`Connector`](crate::Connector).
#[derive(Clone)]
pub struct Binder {
    node: Arc<Node>,
    endpoints: Arc<Mutex<Vec<Endpoint>>>,
    listeners: mpsc::UnboundedSender<Listening>,
}

impl Binder {
    pub(crate) fn new(node: Arc<Node>) -> (Self, Driver) {
        let (listeners, new_listeners) = mpsc::unbounded();
        let driver = Driver::new(node.clone(), run(node.clone(), new_listeners, watch_changes(&node)));
        (Self { node, endpoints: Arc::default(), listeners }, driver)
    }

    pub(crate) fn over_link(
        node: Arc<Node>,
        sender: Box<dyn MessageSender>,
        mut receiver: Box<dyn MessageReceiver>,
    ) -> (Self, Driver) {
        let (listeners, new_listeners) = mpsc::unbounded();
        let of = node.clone();
        let run = async move {
            if !of.core.config.security.is_plaintext() {
                return Err(DriverError::LinkWithoutAuthentication);
            }
            let peers = PeersOfLink::new(of.clone(), sender);
            let receiving = pin!(peers.run(&mut *receiver));
            match select(receiving, Box::pin(run(of.clone(), new_listeners, pending().boxed()))).await {
                // Messages that the link has lost don't keep the rest from draining.
                Either::Left((_, running)) if of.core.is_draining() => running.await,
                Either::Left((cause, _)) => Err(DriverError::Disconnected(cause)),
                Either::Right((result, _)) => result,
            }
        };
        let driver = Driver::new(node.clone(), run);
        (Self { node, endpoints: Arc::default(), listeners }, driver)
    }

    /// Listens on one more endpoint. Returns the bound endpoint, with the port that the system chose.
    ///
    /// # Errors
    /// As [`Builder::bind`](crate::Builder::bind), except for handlers with the same name. [`BindError::Shutdown`] if
    /// the binder is shut down or drains, also if that begins meanwhile.
    ///
    /// # Cancel safety
    /// Dropping the future closes the listener.
    pub async fn listen<E>(&self, endpoint: E) -> Result<Endpoint, BindError>
    where
        E: TryInto<Endpoint>,
        E::Error: Into<ParseEndpointError>,
    {
        let endpoint = endpoint.try_into().map_err(|error| BindError::Endpoint(error.into()))?;
        if self.node.core.is_draining() {
            return Err(BindError::Shutdown);
        }
        self.check_security(&endpoint, endpoint.is_local().unwrap_or(true))?;
        let bound = match &endpoint {
            Endpoint::Inproc(name) => inproc::bind(name),
            other => self.node.core.runtime.bind(other, self.node.core.config.socket).await,
        };
        let bound = bound.and_then(|listener| Ok((listener.endpoint()?, listener)));
        let (real, listener) = bound.map_err(|error| BindError::Io { endpoint, error })?;
        self.check_security(&real, real.is_local() == Some(true))?;
        if self.node.core.config.security.is_plaintext() && real.is_local() != Some(true) {
            tracing::warn!(endpoint = %real, "other machines can reach this endpoint, which is not encrypted");
        }
        // Binding may have taken a while.
        if self.node.core.is_draining() {
            return Err(BindError::Shutdown);
        }
        self.listeners.unbounded_send((real.clone(), listener)).map_err(|_| BindError::Shutdown)?;
        // If a drain began meanwhile, on another thread, the driver closes the listener and accepts no connection.
        if self.node.core.is_draining() {
            return Err(BindError::Shutdown);
        }
        self.endpoints.lock().push(real.clone());
        Ok(real)
    }

    fn check_security(&self, endpoint: &Endpoint, is_local: bool) -> Result<(), BindError> {
        let security = &self.node.core.config.security;
        security.mechanism(Role::Binder)?;
        if !security.is_plaintext() || is_local || security.allow_plaintext {
            return Ok(());
        }
        Err(BindError::Plaintext { endpoint: endpoint.clone() })
    }

    /// Accepts a peer over a byte stream that is already open. `address` is shown to people, and is the source by which
    /// [`Limits::max_handshakes`](crate::Limits::max_handshakes) counts handshakes: the IPv4 address or IPv6 network of
    /// `tcp://IP:port`, or any other text as it is.
    ///
    /// # Errors
    /// If the binder is shut down, may have no more connections in their handshake (see
    /// [`Limits::max_handshakes`](crate::Limits::max_handshakes)), or has an authenticator without a server identity.
    pub fn accept(&self, stream: impl ByteStream, address: impl Into<String>) -> Result<(), DisconnectCause> {
        take_in(&self.node, Box::new(stream), address.into(), None)
    }

    /// Accepts a peer over a byte stream whose peer the application has already authenticated, for example by the
    /// certificate of mutual TLS or the credentials of a Unix domain socket.
    /// [`Context::identity`](crate::Context::identity) and [`PeerInfo::identity`](crate::PeerInfo::identity) return
    /// `identity`; the peer can't change it.
    ///
    /// The connection uses the mechanism NULL, even if the endpoint has an
    /// [authenticator](crate::Builder::authenticator), which neither checks, encrypts nor revokes it. Whether the
    /// stream is encrypted and trustworthy is the application's responsibility.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn accept_as(
        &self,
        stream: impl ByteStream,
        address: impl Into<String>,
        identity: impl Into<Identity>,
    ) -> Result<(), DisconnectCause> {
        take_in(&self.node, Box::new(stream), address.into(), Some(identity.into()))
    }

    /// Accepts a peer over a [message link](crate::link) with this peer only, such as a WebSocket that a server has
    /// accepted. The peer sends the first message. Address and identity are as for [`accept_as`](Self::accept_as).
    ///
    /// Both halves are dropped when the connection has ended: because the link failed, the peer left or did not answer probes
    /// ([`Builder::keepalive`](crate::Builder::keepalive)), or this side closed it ([`Peer::disconnect`], a shutdown).
    ///
    /// # Errors
    /// If the binder is shut down, or may have no more connections in their handshake (see
    /// [`Limits::max_handshakes`](crate::Limits::max_handshakes)).
    pub fn accept_link(
        &self,
        sender: impl MessageSender,
        mut receiver: impl MessageReceiver,
        address: impl Into<String>,
        identity: impl Into<Identity>,
    ) -> Result<(), DisconnectCause> {
        // Converted without a lock: that is code of the application.
        let (node, address, identity) = (&self.node, address.into(), identity.into());
        let peer = PeerShared::over_messages(&node.core, Role::Binder);
        peer.lock().set_identity(identity);
        let slot = take_slot(node, &peer, &address)?;
        if !node.admit(&peer) {
            return Err(DisconnectCause::Shutdown);
        }
        let accepted = Accepted::new(node, &peer);
        let of = node.clone();
        node.core.tasks.spawn(&*node.core.runtime, None, async move {
            let link = LinkPeer::new(peer.clone(), Bytes::new(), &address);
            let mut pump = Pump::new(of.clone(), peer.clone());
            let driving = AssertUnwindSafe(drive_accepted(&link, &mut pump, &sender, &mut receiver, slot));
            let cause = driving.catch_unwind().await.unwrap_or(DisconnectCause::Panicked);
            let was_established = pump.was_established();
            let _turn = turn_to_end(&of, &peer).await;
            drop_caught("a transport", (pump, sender, receiver));
            accepted.conclude(cause, was_established, address);
        });
        Ok(())
    }

    /// The bound endpoints, in the order in which they were added.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.endpoints.lock().clone()
    }

    /// The peers that are connected.
    pub fn peers(&self) -> Vec<Peer> {
        self.node.peers().iter().map(|peer| self.node.handle(peer, None)).collect()
    }

    /// The peer of this id, if it is connected.
    pub fn peer(&self, id: PeerId) -> Option<Peer> {
        self.node.peer(id).map(|peer| self.node.handle(&peer, None))
    }

    /// The handlers that answer the peers' calls.
    pub fn handlers(&self) -> &Handlers {
        &self.node.handlers
    }

    /// Totals of the counters of all peers, including those that have disconnected: all counters except those of calls
    /// and requests in progress only grow.
    pub fn stats(&self) -> Stats {
        self.node.core.stats()
    }

    /// The events of the connections from now on.
    pub fn events(&self) -> Events {
        self.node.events()
    }

    /// Accepts no more connections and no new calls, gives the calls in progress up to `grace_period` to finish, writes
    /// their replies to the sockets and waits until the peers have received them, then ends the driver. After the grace
    /// period, the remaining calls of this side end with an error, and the remaining handlers are stopped.
    ///
    /// A peer that stalls is waited for up to the grace period if it has not acknowledged all replies and streams, with its
    /// answer to a heartbeat, to [`Peer::ping`] or to a probe of the shutdown. Otherwise closing its connection takes 1 s at
    /// most, or [`Limits::write_timeout`](crate::Limits::write_timeout) if it takes no bytes.
    ///
    /// When this returns, every call of this side has its outcome: its future is ready, unless a [layer](crate::layer) of the
    /// application still waits for something else.
    ///
    /// Needs the driver to run. Cancel safe: once polled, the shutdown goes on. A handler that awaits it waits for
    /// itself until the grace period is over: poll it once there, or spawn it.
    pub async fn shutdown(&self, grace_period: Duration) -> Drained {
        shutdown(&self.node, grace_period).await
    }
}

impl std::fmt::Debug for Binder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binder").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}

/// Accepts until the endpoint is shut down, then waits for the links to drain.
async fn run(
    node: Arc<Node>,
    mut new_listeners: NewListeners,
    watching: BoxFuture<'static, ()>,
) -> Result<(), DriverError> {
    let node = &node;
    let accepting = async move {
        // A future that never ends, so that the set is never empty.
        let mut loops = FuturesUnordered::from_iter([pending().boxed()]);
        loop {
            match select(new_listeners.next(), loops.next()).await {
                Either::Left((Some(listening), _)) => loops.push(accept_loop(node, listening).boxed()),
                // No handle is left to add a listener; an accept loop does not end.
                Either::Left((None, _)) | Either::Right(_) => loops.select_next_some().await,
            }
        }
    };
    let serving = async {
        let draining = pin!(node.wait_until_draining());
        let _: Either<(Infallible, _), _> = select(pin!(accepting), draining).await;
        // Dropped with all listeners, so no connection is accepted any more. Connected clients can still lose their admission.
        let drained = pin!(node.core.tasks.wait_until_none());
        select(drained, pin!(deadline_passed(node))).await;
    };
    select(pin!(serving), watching).await;
    Ok(())
}

async fn accept_loop(node: &Arc<Node>, (endpoint, mut listener): Listening) {
    let mut accepted = 0_u64;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                if let Err(cause) = take_in(node, stream, address.clone(), None) {
                    node.report_refusal(address, cause);
                }
                accepted += 1;
                if accepted.is_multiple_of(ACCEPTED_AT_ONCE) {
                    // Yield, or a fast series of connections would starve other tasks, and those of evicted or ended connections.
                    drop(node.turns.take().await);
                }
            }
            Err(error) => {
                let kind = error.kind();
                node.report_accept_failure(endpoint.clone(), error);
                // A connection that was reset before it was accepted says nothing about the next one.
                if !matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
                    sleep_until(&*node.core.runtime, node.core.now() + ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// With an identity that the transport has established, there is nothing to authenticate.
fn take_in(
    node: &Arc<Node>,
    stream: BoxStream,
    address: String,
    identity: Option<Identity>,
) -> Result<(), DisconnectCause> {
    let peer = PeerShared::new(&node.core, Role::Binder);
    let mechanism = match identity {
        None => node.core.config.security.mechanism(Role::Binder)?,
        Some(identity) => {
            peer.lock().set_identity(identity);
            Mechanism::Null
        }
    };
    let slot = take_slot(node, &peer, &address)?;
    if !node.admit(&peer) {
        return Err(DisconnectCause::Shutdown);
    }
    let accepted = Accepted::new(node, &peer);
    let of = node.clone();
    node.core.tasks.spawn(&*node.core.runtime, None, async move {
        // Boxed: otherwise the future would keep room for the link and for the parts that it was made of.
        let mut link = Box::new(StreamLink::new(
            of.clone(),
            peer.clone(),
            mechanism,
            stream,
            address.clone(),
            Some(slot),
        ));
        // Its calls must end all the same, and it must not stay among the peers.
        let ended = AssertUnwindSafe(&mut link).catch_unwind().await;
        let cause = ended.unwrap_or(DisconnectCause::Panicked);
        let was_established = link.was_established();
        let _turn = turn_to_end(&of, &peer).await;
        drop_caught("a transport", link);
        accepted.conclude(cause, was_established, address);
    });
    Ok(())
}

fn take_slot(node: &Node, peer: &PeerShared, address: &str) -> Result<HandshakeSlot, DisconnectCause> {
    let inbox = peer.inbox.clone();
    let slot = node.handshakes.begin(address, move || inbox.wake());
    slot.ok_or(DisconnectCause::TooManyHandshakes)
}

/// Waits for the turn of a link that has ended.
async fn turn_to_end(node: &Node, peer: &PeerShared) -> Turn {
    peer.start_no_more();
    node.turns.take().await
}

/// A peer that was accepted. When its link has ended, its calls end, and it is no longer among the peers: also if the runtime drops the
/// task of the link.
struct Accepted {
    node: Arc<Node>,
    peer: Arc<PeerShared>,
    /// Why the link has ended.
    cause: DisconnectCause,
}

impl Accepted {
    fn new(node: &Arc<Node>, peer: &Arc<PeerShared>) -> Self {
        Self { node: node.clone(), peer: peer.clone(), cause: DisconnectCause::Shutdown }
    }

    /// The link has ended.
    fn conclude(mut self, cause: DisconnectCause, was_established: bool, address: String) {
        self.cause = cause.clone();
        let node = self.node.clone();
        drop(self);
        if !was_established {
            node.report_refusal(address, cause);
        }
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.peer.detach(&self.cause, false);
        self.node.expel(self.peer.id, self.cause.clone());
    }
}
