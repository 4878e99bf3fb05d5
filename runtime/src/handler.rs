//! Handlers, and the context of the calls that they answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_proto::{Metadata, OrderingKey, Reply, ReplyError, RequestId, Text};
use futures_util::future::BoxFuture;

use crate::auth::Identity;
use crate::cancel::{CancelReason, Cancellation};
use crate::{Codec, Peer};

/// The context of a handler: the call that it answers, and its caller.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) method: Text,
    pub(crate) key: OrderingKey,
    pub(crate) peer: Peer,
    pub(crate) deadline: Option<Instant>,
    pub(crate) metadata: Metadata,
    pub(crate) request: RequestId,
    pub(crate) cancellation: Arc<Cancellation>,
}

impl Context {
    /// The method's name, for fallback handlers.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The ordering key; see [`OrderingKey::is_given`].
    pub fn key(&self) -> &OrderingKey {
        &self.key
    }

    /// The caller, which can be called back.
    ///
    /// While a handler waits for a call that it made through this handle, its slot is lent to other handlers, so nested
    /// calls in both directions can't deadlock, even with one slot. The handler keeps its ordering key.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The identity that the caller was admitted as, by the endpoint's [`Authenticator`](crate::auth::Authenticator) or
    /// with [`Binder::accept_as`](crate::Binder::accept_as); `None` without either, or if the caller is the server that
    /// this side connected to.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.peer.shared.lock().info().identity.clone()
    }

    /// The endpoint's codec.
    pub fn codec(&self) -> &Codec {
        &self.peer.shared.core.config.codec
    }

    /// Whether the caller may learn the type and the sources of an error.
    pub(crate) fn exposes_tracebacks(&self) -> bool {
        self.peer.shared.core.config.expose_tracebacks
    }

    /// The caller's metadata; empty from peers of dialect 1, such as Python's.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Sets the metadata of the result, and replaces what was set before; for streamed results, use
    /// [`Responder::metadata`](crate::Responder::metadata).
    ///
    /// # Errors
    /// [`ReplyError::NeedsDialect2`] if the caller speaks dialect 1, as Python peers do
    /// ([`PeerInfo::dialect`](crate::PeerInfo::dialect)): the result is sent without metadata. [`ReplyError::NotOpen`]
    /// if the call has ended.
    pub fn set_reply_metadata(&self, mut metadata: Metadata) -> Result<(), ReplyError> {
        metadata.detach();
        self.peer.shared.lock().set_reply_metadata(self.request, metadata)
    }

    /// Releases the handler's slot for good. Use it in handlers that run for long and mostly wait, for example to
    /// stream events: they then leave all slots to other calls.
    ///
    /// From now on the handler counts neither against [`Limits::max_concurrency`](crate::Limits::max_concurrency) nor
    /// against the share of its peer. The number of such handlers is limited by [`MethodLimits`](crate::MethodLimits),
    /// and by the limit on a peer's unfinished calls: twice `max_queue` and `max_concurrency` together, 2,200 by
    /// default. Each may have [`Limits::stream_buffer`](crate::Limits::stream_buffer) bytes waiting to be sent, 256 KiB
    /// by default: for a peer that does not read, that is 550 MiB. So set a limit for methods that release their slot.
    ///
    /// The handler keeps its ordering key until it ends: with
    /// [`OrderingMode::KeySerialized`](crate::OrderingMode::KeySerialized) the next call with this key waits for its
    /// end, with [`ExitOrdered`](crate::OrderingMode::ExitOrdered) that call's reply does. So call long-running methods
    /// without a key.
    ///
    /// Does nothing once the call has ended.
    pub fn release_slot(&self) {
        self.peer.shared.core.dispatcher.release_slot(self.request);
    }

    /// When this handler is cancelled: the earlier of the endpoint's execution timeout and, in dialect 2, the caller's
    /// deadline.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Waits until this handler is cancelled, and returns the reason.
    ///
    /// A cancelled handler is dropped at its next await, so it can observe this itself only with a [grace
    /// period](Self::set_cancel_grace). Without one, use it in tasks that the handler has spawned: clone the context
    /// into them.
    ///
    /// Cancel safe. It never resolves if the handler ends in any other way: a task that waits for it must also wait for
    /// something else, such as a channel whose sender the handler owns, or it never ends.
    pub async fn cancelled(&self) -> CancelReason {
        self.cancellation.cancelled().await
    }

    /// Why this handler is cancelled; `None` if it is not. For the destructors of [layers](crate::layer), whose futures are dropped
    /// with that of the handler.
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.cancellation.reason()
    }

    /// Sets how long this handler may run after it is cancelled, to clean up, before it is dropped. Default: zero,
    /// none. A value over [`Builder::max_cancel_grace`](crate::Builder::max_cancel_grace), 10 s by default, counts as
    /// that. Call it before the first await at which the handler may be cancelled; it can't be changed once the grace
    /// period has begun.
    ///
    /// A handler in its grace period has not ended: it keeps its ordering key and, unless it has
    /// [released](Self::release_slot) it, its slot. Its caller gets the reply only when the handler has ended, and that
    /// reply is the cancellation, whatever the handler returns. The [driver](crate::Driver) resolves when all handlers
    /// have ended; dropping the driver drops them at once. Of handlers whose connection has ended, 1,000 may be in
    /// their grace period at a time; more are dropped at once.
    ///
    /// ```
    /// # use callosum_runtime::{Context, HandlerError, HandlerResult};
    /// # use futures_util::future::{Either, select};
    /// # use std::{pin::pin, time::Duration};
    /// # async fn pull(image: &str) -> HandlerResult<()> { Ok(()) }
    /// # async fn remove_layers(image: &str) {}
    /// async fn pull_image(image: String, context: Context) -> HandlerResult<()> {
    ///     context.set_cancel_grace(Duration::from_secs(5));
    ///     match select(pin!(pull(&image)), pin!(context.cancelled())).await {
    ///         Either::Left((pulled, _)) => pulled,
    ///         Either::Right((reason, _)) => {
    ///             println!("{image} is not pulled: {reason:?}");
    ///             remove_layers(&image).await;
    ///             Err(HandlerError::new("Cancelled", "this reply is discarded"))
    ///         }
    ///     }
    /// }
    /// ```
    pub fn set_cancel_grace(&self, grace: Duration) {
        let most = self.peer.shared.core.config.max_cancel_grace;
        self.cancellation.set_grace(grace.min(most));
    }
}

/// Answers calls. Functions and closures become handlers through [`Method`](crate::Method); implement this for full control of the reply.
///
/// The future is dropped when the call is cancelled, times out, or loses its connection, once its
/// [grace period](Context::set_cancel_grace) is over.
pub trait Handler: Send + Sync + 'static {
    /// Answers one call.
    fn call(&self, body: Bytes, context: Context) -> BoxFuture<'static, Reply>;
}
