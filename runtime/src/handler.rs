//! A handler, and what it knows of the call that it answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_proto::{Metadata, OrderingKey, Reply, ReplyError, RequestId, Text};
use futures_util::future::BoxFuture;

use crate::auth::Identity;
use crate::cancel::{CancelReason, Cancellation};
use crate::{Codec, Peer};

/// What a handler knows of the call that it answers.
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
    /// The method's name, which matters to a fallback handler.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The ordering key; see [`OrderingKey::is_given`].
    pub fn key(&self) -> &OrderingKey {
        &self.key
    }

    /// The caller, which can be called back.
    ///
    /// While a handler waits for a call that it made through this handle, its place under the concurrency limit is
    /// lent to others, so that nested calls in both directions can't block each other, even at a limit of 1. Its
    /// ordering key stays taken.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the caller was admitted as, by the endpoint's [`Authenticator`](crate::auth::Authenticator) or with
    /// [`Binder::accept_as`](crate::Binder::accept_as); `None` without either, or if the caller is the server that this side connected
    /// to.
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

    /// What the caller sent along; empty from peers of dialect 1, such as Python's.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Sends this along with the result, in place of what was set before; a [`Responder`](crate::Responder) has its own.
    ///
    /// # Errors
    /// [`ReplyError::NeedsDialect2`] if the caller speaks dialect 1, as Python's do ([`PeerInfo::dialect`](crate::PeerInfo::dialect)):
    /// its result travels without. [`ReplyError::NotOpen`] if the call has ended.
    pub fn set_reply_metadata(&self, mut metadata: Metadata) -> Result<(), ReplyError> {
        metadata.detach();
        self.peer.shared.lock().set_reply_metadata(self.request, metadata)
    }

    /// Gives the handler's slot under the concurrency limit back, for good. For handlers that go on for long and mostly wait, such as
    /// one that streams events as they come: without a slot, any number of them leaves room for other calls, of this peer and
    /// of others.
    ///
    /// From now on the handler counts neither against [`Limits::max_concurrency`](crate::Limits::max_concurrency) nor against the share
    /// of its peer. What bounds such handlers is that a peer may have twice as many unfinished calls as `max_queue` and
    /// `max_concurrency` together, 2,200 by default, and [`MethodLimits`](crate::MethodLimits). Each may have
    /// [`Limits::stream_buffer`](crate::Limits::stream_buffer) bytes waiting to be sent, 256 KiB by default: for a peer that does not
    /// read, that makes 550 MiB. So give methods that release their slot a limit.
    ///
    /// The handler keeps its ordering key until it ends: with [`OrderingMode::KeySerialized`](crate::OrderingMode::KeySerialized) the
    /// next call with this key waits for its end, with [`ExitOrdered`](crate::OrderingMode::ExitOrdered) that call's reply does. So
    /// call what goes on for long without a key.
    ///
    /// Does nothing once the call has ended.
    pub fn release_slot(&self) {
        self.peer.shared.core.dispatcher.release_slot(self.request);
    }

    /// When this handler is cancelled: the earlier of the endpoint's execution timeout and, in dialect 2, of the moment in which
    /// the caller gives up.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Waits until this handler is cancelled, and says why.
    ///
    /// A handler that is cancelled is dropped at its next await, so it gets to see this itself only with a
    /// [grace period](Self::set_cancel_grace). Without one, it is for tasks that the handler has spawned: clone the context into them.
    ///
    /// Cancel safe. It never resolves if the handler ends in any other way: a task that waits for it must wait for something else as
    /// well, such as a channel whose sender the handler owns, or it stays for ever.
    pub async fn cancelled(&self) -> CancelReason {
        self.cancellation.cancelled().await
    }

    /// Lets this handler go on for so long after it is cancelled, so that it can clean up, and is dropped only then. Default: not at all.
    /// Call it before the first await that may be the one at which the handler is cancelled; once the grace period has begun, it stays as
    /// long as it is. Zero means none. More than [`Builder::max_cancel_grace`](crate::Builder::max_cancel_grace), 10 s by default, is
    /// that.
    ///
    /// A handler that cleans up has not ended: it keeps its ordering key and, if it has not [released](Self::release_slot) it, its slot
    /// under the concurrency limit. Its caller is told only when the handler has ended, and of the cancellation, whatever the handler
    /// returns. The [driver](crate::Driver) resolves when all handlers have ended; a driver that is dropped leaves them no time. Of
    /// handlers whose link has ended, 1,000 may clean up at a time; more are dropped at once.
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
