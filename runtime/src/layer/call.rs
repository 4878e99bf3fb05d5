//! Layers around calls.
//!
//! The idea: the same as [around handlers](super::handler); at the end of the list the call is made, in [`CallNext::run`] itself.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::{Delivery, Metadata, OrderingKey, Urgency};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};

use crate::Peer;
use crate::error::CallError;
use crate::new_call::NewCall;
#[cfg(feature = "metrics")]
use crate::stream::Shared;

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

/// From the outermost to the innermost.
pub(crate) type CallLayers = Arc<[Arc<dyn CallLayer>]>;

/// The same with one more, inside of the others.
pub(crate) fn add_layer(layers: &CallLayers, layer: impl CallLayer) -> CallLayers {
    layers.iter().cloned().chain([Arc::new(layer) as Arc<dyn CallLayer>]).collect()
}

/// A call that is about to be made. A clone of it is the same call once more, for layers that try again.
#[derive(Clone, Debug)]
pub struct OutgoingCall {
    new: NewCall,
}

impl OutgoingCall {
    pub(crate) fn new(new: NewCall) -> Self {
        Self { new }
    }

    /// The called peer. A layer that makes calls of its own to the same peer uses [`Peer::without_layers`].
    pub fn peer(&self) -> &Peer {
        self.new.peer()
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.new.call.method
    }

    /// The ordering key; see [`OrderingKey::is_given`].
    pub fn key(&self) -> &OrderingKey {
        &self.new.call.key
    }

    /// Whether the application reads the result, and perhaps writes the argument, [as a stream](Peer::open). The future of such a call
    /// is ready when the call has ended, with an empty body.
    pub fn opens_stream(&self) -> bool {
        self.new.call.result == Delivery::Stream
    }

    /// The argument; empty if it is streamed.
    pub fn body(&self) -> &Bytes {
        &self.new.call.body
    }

    /// The urgency of its messages.
    pub fn urgency(&self) -> Urgency {
        self.new.call.urgency
    }

    /// The metadata that are sent with the call.
    pub fn metadata(&self) -> &Metadata {
        &self.new.call.metadata
    }

    /// The metadata, mutable. Calls with metadata to a peer of dialect 1 fail. [`Peer::info`] has the dialect while the peer
    /// [is connected](Peer::is_connected); it may come back with another one.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.new.call.metadata
    }

    /// Bytes of the argument, unless it is streamed.
    #[cfg(feature = "metrics")]
    pub(super) fn argument_size(&self) -> Option<u64> {
        (self.new.call.argument == Delivery::Whole).then_some(self.new.call.body.len() as u64)
    }

    /// Its streams, if it [opens any](Self::opens_stream).
    #[cfg(feature = "metrics")]
    pub(super) fn streams(&self) -> Option<&Arc<Shared>> {
        self.new.streams.as_ref()
    }

    /// How long the call may take from when it is made.
    pub fn timeout(&self) -> Option<Duration> {
        self.new.timeout
    }

    /// Sets the timeout; `None` is no timeout.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.new.timeout = timeout;
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
    layers: CallLayers,
    at: usize,
}

impl CallNext {
    pub(crate) fn new(layers: CallLayers) -> Self {
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
            None => call.new.carry_out().map_ok(|(body, metadata)| CallResult { body, metadata }).boxed(),
        }
    }
}

impl fmt::Debug for CallNext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallNext").finish_non_exhaustive()
    }
}
