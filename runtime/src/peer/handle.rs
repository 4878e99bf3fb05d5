//! The handle of a peer that users hold, and the layers around its calls.
//!
//! Layers are in the handle and see the handle, so both are in this file. At the end of the list of layers the call is made, in
//! [`CallNext::run`] itself.

use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::{Call, CloseCause, Delivery, Metadata, OrderingKey, Urgency};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};

use super::info::PeerInfo;
use super::outcome::Answered;
use super::pending::{PendingReply, open};
use super::shared::PeerShared;
use crate::error::{CallError, DisconnectCause, NotSent};
use crate::loan::{Lender, Loan};
use crate::rt::Runtime;
use crate::stats::Stats;
use crate::stream::{Outcome, Shared};
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
    layers: CallLayers,
}

impl Peer {
    /// A handle whose calls pass the endpoint's layers.
    pub(crate) fn new(shared: Arc<PeerShared>, lender: Option<Lender>, layers: CallLayers) -> Self {
        Self { shared, lender, codec: None, layers }
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
        Self { layers: add_layer(&self.layers, layer), ..self.clone() }
    }

    /// A handle to the same peer, whose calls pass no [layers](crate::layer), also not those of the endpoint. For
    /// layers that make calls themselves.
    pub fn without_layers(&self) -> Self {
        Self { layers: None, ..self.clone() }
    }

    pub(crate) fn layers(&self) -> &CallLayers {
        &self.layers
    }

    /// Waits until the peer is connected.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// If the connection has ended and there will be no other, or if the other side rejected this one; a connector then
    /// tries again, and may be admitted later.
    pub async fn ready(&self) -> Result<(), DisconnectCause> {
        self.shared.ready().await
    }

    /// Sends a probe and waits for its answer; returns the time between the two.
    ///
    /// Cancel safe. There is no timeout: drop the future to give up.
    ///
    /// # Errors
    /// If 32 probes are unanswered already, or the connection ends first.
    pub async fn ping(&self) -> Result<Duration, CallError> {
        self.shared.probe(MAX_PINGS).await
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

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.shared.id.0).finish()
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Peer {}

/// A layer around calls. See the [module](crate::layer), [`Builder::call_layer`](crate::Builder::call_layer) and
/// [`Peer::with_layer`].
///
/// A closure `Fn(OutgoingCall, CallNext) -> impl Future<Output = Result<CallResult, CallError>>` is one.
pub trait CallLayer: Send + Sync + 'static {
    /// Carries a call out: with [`next`](CallNext::run), as a rule.
    ///
    /// The future is polled once, at once, when the call is sent, and not again before its result is awaited. So a call that
    /// is sent and never awaited is made if no layer awaits anything before it calls `next`.
    fn call(&self, call: OutgoingCall, next: CallNext) -> BoxFuture<'static, Result<CallResult, CallError>>;
}

impl<F, Fut> CallLayer for F
where
    F: Fn(OutgoingCall, CallNext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<CallResult, CallError>> + Send + 'static,
{
    fn call(&self, call: OutgoingCall, next: CallNext) -> BoxFuture<'static, Result<CallResult, CallError>> {
        self(call, next).boxed()
    }
}

/// From the outermost to the innermost; `None` if there are none.
pub(crate) type CallLayers = Option<Arc<[Arc<dyn CallLayer>]>>;

/// The same with one more, inside of the others.
pub(crate) fn add_layer(layers: &CallLayers, layer: impl CallLayer) -> CallLayers {
    let outer = layers.iter().flat_map(|layers| layers.iter().cloned());
    Some(outer.chain([Arc::new(layer) as Arc<dyn CallLayer>]).collect())
}

/// A call that is about to be made. A clone of it is the same call once more, for layers that try again.
#[derive(Clone, Debug)]
pub struct OutgoingCall {
    peer: Peer,
    pub(crate) call: Call,
    pub(crate) timeout: Option<Duration>,
    /// The streams of a call that goes through layers.
    pub(crate) streams: Option<Arc<Shared>>,
}

impl OutgoingCall {
    pub(crate) fn new(peer: &Peer, method: &str, body: Bytes) -> Self {
        let timeout = peer.shared.core.config.call_timeout;
        Self { peer: peer.clone(), call: Call::new(method, body), timeout, streams: None }
    }

    /// The called peer. A layer that makes calls of its own to the same peer uses [`Peer::without_layers`].
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.call.method
    }

    /// The ordering key; see [`OrderingKey::is_given`].
    pub fn key(&self) -> &OrderingKey {
        &self.call.key
    }

    /// Whether the application reads the result, and perhaps writes the argument, [as a stream](Peer::open). The future of such a call
    /// is ready when the call has ended, with an empty body.
    pub fn opens_stream(&self) -> bool {
        self.call.result == Delivery::Stream
    }

    /// The argument; empty if it is streamed.
    pub fn body(&self) -> &Bytes {
        &self.call.body
    }

    /// The urgency of its messages.
    pub fn urgency(&self) -> Urgency {
        self.call.urgency
    }

    /// The metadata that are sent with the call.
    pub fn metadata(&self) -> &Metadata {
        &self.call.metadata
    }

    /// The metadata, mutable. Calls with metadata to a peer of dialect 1 fail. [`Peer::info`] has the dialect while the peer
    /// [is connected](Peer::is_connected); it may come back with another one.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.call.metadata
    }

    /// Bytes of the argument, unless it is streamed.
    #[cfg(feature = "metrics")]
    pub(crate) fn argument_size(&self) -> Option<u64> {
        (self.call.argument == Delivery::Whole).then_some(self.call.body.len() as u64)
    }

    /// How long the call may take from when it is made.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Sets the timeout; `None` is no timeout.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Makes the call for a whole result, without layers.
    pub(crate) fn make(self) -> PendingReply {
        PendingReply::make(self.peer.shared, self.peer.lender, self.call, self.timeout)
    }

    /// Makes the call for a streamed result, without layers.
    pub(crate) fn make_streams(self, shared: &Arc<Shared>) -> Result<Option<Loan>, CallError> {
        open(&self.peer.shared, self.peer.lender, self.call, self.timeout, shared)
    }

    /// Makes the call inside of all layers.
    fn carry_out(mut self) -> BoxFuture<'static, Answered> {
        let Some(shared) = self.streams.take() else { return self.make().boxed() };
        if shared.id().is_some() {
            return ready(Err(NotSent::StreamMade.into())).boxed();
        }
        if shared.has_ended() {
            // Its reader and writer were dropped.
            return ready(Err(CallError::Cancelled)).boxed();
        }
        let peer = self.peer.shared.clone();
        match self.make_streams(&shared) {
            Ok(loan) => Outcome::new(peer, shared, loan).map_ok(|metadata| (Bytes::new(), metadata)).boxed(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallResult {
    /// The result; empty if it was [streamed](OutgoingCall::opens_stream).
    pub body: Bytes,
    /// The metadata of the result.
    pub metadata: Metadata,
}

impl CallResult {
    /// A result without metadata.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), metadata: Metadata::new() }
    }

    /// With this metadata.
    #[must_use]
    pub fn with_metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }
}

/// The layers inside of this one, and the call itself.
#[derive(Clone)]
pub struct CallNext {
    layers: Arc<[Arc<dyn CallLayer>]>,
    at: usize,
}

impl CallNext {
    pub(crate) fn new(layers: Arc<[Arc<dyn CallLayer>]>) -> Self {
        Self { layers, at: 0 }
    }

    /// Passes the call on. Without further layers, the call is made here, and not only when the future is polled; dropping the future
    /// cancels it.
    ///
    /// May be used again, with a [clone](OutgoingCall) of the call, to make it once more. A call that [opens a
    /// stream](OutgoingCall::opens_stream) can be made again only if it was [not sent](CallError::NotSent) because it was refused: once it
    /// is made, its parts are on their way. Else this fails with [`NotSent::StreamMade`](crate::NotSent::StreamMade).
    pub fn run(&self, call: OutgoingCall) -> BoxFuture<'static, Result<CallResult, CallError>> {
        match self.layers.get(self.at) {
            Some(layer) => layer.call(call, Self { layers: self.layers.clone(), at: self.at + 1 }),
            None => call.carry_out().map_ok(|(body, metadata)| CallResult { body, metadata }).boxed(),
        }
    }
}

impl fmt::Debug for CallNext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallNext").finish_non_exhaustive()
    }
}
