//! The handle of a peer that users hold.

use std::sync::Arc;
use std::time::Duration;

use callosum_proto::{CloseCause, ConnectionId};
use futures_channel::oneshot;

use super::info::PeerInfo;
use super::shared::PeerShared;
use crate::error::{CallError, DisconnectCause, NotSent};
use crate::layer::{CallLayer, CallLayers, add_layer};
use crate::loan::Lender;
use crate::rt::Runtime;
use crate::stats::Stats;
use crate::{Codec, PeerId};

/// Half of the probes that a connection remembers, so that it never forgets one that is awaited.
const MAX_PINGS: usize = 32;

/// A handle to a remote peer. Cheap to clone; all clones are the same peer.
///
/// A binder's peer lives as long as its connection. A connector's peer outlives its connections: calls wait for the
/// next one.
#[derive(Clone)]
pub struct Peer {
    pub(crate) shared: Arc<PeerShared>,
    /// The running call whose handler holds this handle.
    pub(crate) lender: Option<Lender>,
    /// In place of the endpoint's.
    codec: Option<Codec>,
    /// In place of the endpoint's.
    layers: Option<CallLayers>,
}

impl PeerShared {
    pub(crate) fn handle(self: &Arc<Self>) -> Peer {
        Peer::new(self.clone(), None)
    }
}

impl Peer {
    pub(crate) fn new(shared: Arc<PeerShared>, lender: Option<Lender>) -> Self {
        Self { shared, lender, codec: None, layers: None }
    }

    /// The peer's id in this process: unique, never reused, and not chosen by the peer.
    pub fn id(&self) -> PeerId {
        self.shared.id
    }

    /// The executor of its endpoint.
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.shared.core.runtime
    }

    /// Address, dialect, identity and other properties of the peer.
    pub fn info(&self) -> PeerInfo {
        self.shared.lock().info.clone()
    }

    /// Whether it is connected at the moment.
    pub fn is_connected(&self) -> bool {
        let state = self.shared.lock();
        state.linked && state.connection.is_established()
    }

    /// A snapshot of its counters.
    pub fn stats(&self) -> Stats {
        let connection = self.shared.lock().connection.id();
        let (waiting, running) = self.shared.core.dispatcher.load(connection);
        self.shared.counters.snapshot(waiting, running)
    }

    /// A handle to the same peer, whose calls are serialized in this codec instead of the endpoint's.
    pub fn with_codec(&self, codec: Codec) -> Self {
        Self { codec: Some(codec), ..self.clone() }
    }

    pub(crate) fn codec(&self) -> &Codec {
        self.codec.as_ref().unwrap_or(&self.shared.core.config.codec)
    }

    /// A handle to the same peer, whose calls pass this [layer](crate::layer), inside the layers of the endpoint and of
    /// this handle.
    pub fn with_layer(&self, layer: impl CallLayer) -> Self {
        let layers = self.layers.as_ref().unwrap_or(&self.shared.core.config.call_layers);
        Self { layers: Some(add_layer(layers, layer)), ..self.clone() }
    }

    /// A handle to the same peer, whose calls pass no [layers](crate::layer), also not those of the endpoint. For
    /// layers that make calls themselves.
    pub fn without_layers(&self) -> Self {
        Self { layers: Some(CallLayers::default()), ..self.clone() }
    }

    /// `None` if there are none.
    pub(crate) fn layers(&self) -> Option<&CallLayers> {
        let layers = self.layers.as_ref().unwrap_or(&self.shared.core.config.call_layers);
        (!layers.is_empty()).then_some(layers)
    }

    /// Waits until the peer is connected.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// If the connection has ended and there will be no other, or if the other side rejected this one; a connector then
    /// tries again, and may be admitted later.
    pub async fn ready(&self) -> Result<(), DisconnectCause> {
        let established = {
            let mut state = self.shared.lock();
            if state.over {
                return Err(state.cause.clone().unwrap_or(DisconnectCause::Shutdown));
            }
            if state.linked && state.connection.is_established() {
                return Ok(());
            }
            if state.ready.len() == state.ready.capacity() {
                // Remove waiters that gave up: callers that repeat `ready` with a timeout would pile up while there is no link. Doubling
                // the capacity makes the cost per waiter constant.
                state.ready.retain(|waiter| !waiter.is_canceled());
                let left = state.ready.len();
                state.ready.reserve_exact(left.max(4));
            }
            let (sender, receiver) = oneshot::channel();
            state.ready.push(sender);
            receiver
        };
        established.await.map_err(|_| self.shared.lock().cause.clone().unwrap_or(DisconnectCause::Shutdown))
    }

    /// Sends a probe and waits for its answer; returns the time between the two.
    ///
    /// Cancel safe. There is no timeout: drop the future to give up.
    ///
    /// # Errors
    /// If 32 probes are unanswered already, or the connection ends first.
    pub async fn ping(&self) -> Result<Duration, CallError> {
        self.probe(MAX_PINGS).await
    }

    /// The same, if fewer than `most` probes are unanswered.
    pub(crate) async fn probe(&self, most: usize) -> Result<Duration, CallError> {
        let (mut probe, answer) = {
            let mut state = self.shared.lock();
            if state.pings.len() >= most {
                return Err(NotSent::TooManyProbes.into());
            }
            let ping = state.connection.ping().map_err(NotSent::Refused)?;
            let (sender, answer) = oneshot::channel();
            state.pings.insert(ping, sender);
            (Probe { peer: &self.shared, connection: state.connection.id(), ping: Some(ping) }, answer)
        };
        self.shared.wake();
        let answer = answer.await;
        probe.ping = None;
        answer.map_err(|_| {
            CallError::Disconnected(self.shared.lock().cause.clone().unwrap_or(DisconnectCause::Shutdown))
        })
    }

    /// Closes the connection now.
    ///
    /// Calls to the peer that have been sent end with [`CallError::Disconnected`], since their handlers may have run;
    /// the others end with [`CallError::NotSent`]. Handlers of the peer's calls are stopped, and the peer's calls end
    /// on its side in the same way. Bytes in the send queue are lost. A binder's peer is gone for good, and its byte
    /// stream or message link is dropped; a connector connects again, unless [`Reconnect`](crate::Reconnect) is
    /// `Never`.
    ///
    /// The cause is [`CloseCause::Local`], as [`DisconnectCause::Connection`].
    pub fn disconnect(&self) {
        self.shared.cut(DisconnectCause::Connection(CloseCause::Local));
    }
}

/// A pending probe. Dropping it forgets the probe.
struct Probe<'a> {
    peer: &'a PeerShared,
    connection: ConnectionId,
    ping: Option<u64>,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(ping) = self.ping {
            let mut state = self.peer.lock();
            // A later connection numbers its probes anew.
            if state.connection.id() == self.connection {
                let sender = state.pings.remove(&ping);
                // Otherwise dropped probes would push out probes that are still awaited.
                state.connection.forget_ping(ping);
                drop(state);
                // This wakes a waker, which must not happen under a lock.
                drop(sender);
            }
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Peer").field(&self.shared.id.0).finish()
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Peer {}
