//! Handlers: what answers the calls of remote peers.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_proto::{Metadata, OrderingKey, Refusal, Reply, ReplyError, RequestId, Text};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::Identity;
use crate::error::HandlerError;
use crate::method_limits::{MethodLimit, MethodLimits};
use crate::stream::{BodyReader, Responder, StreamHandler};
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
        &self.peer.shared.node.config.codec
    }

    /// Whether the caller may learn the type and the sources of an error.
    fn exposes_tracebacks(&self) -> bool {
        self.peer.shared.node.config.expose_tracebacks
    }

    /// What the caller sent along; empty from peers of dialect 1, such as Python's.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Sends this along with the result, in place of what was set before; a [`Responder`] has its own.
    ///
    /// # Errors
    /// [`ReplyError::NeedsDialect2`] if the caller speaks dialect 1, as Python's do ([`PeerInfo::dialect`](crate::PeerInfo::dialect)):
    /// its result travels without. [`ReplyError::NotOpen`] if the call has ended.
    pub fn set_reply_metadata(&self, metadata: Metadata) -> Result<(), ReplyError> {
        self.peer.shared.lock().set_reply_metadata(self.request, metadata)
    }

    /// Gives the handler's slot under the concurrency limit back, for good. For handlers that go on for long and mostly wait, such as
    /// one that streams events as they come: without a slot, any number of them leaves room for other calls, of this peer and
    /// of others.
    ///
    /// From now on the handler counts neither against [`Limits::max_concurrency`](crate::Limits::max_concurrency) nor against the share
    /// of its peer. What bounds such handlers is that a peer may have twice as many unfinished calls as `max_queue` and
    /// `max_concurrency` together, 2,200 by default, and [`MethodLimits`](crate::MethodLimits).
    ///
    /// The handler keeps its ordering key until it ends: with [`OrderingMode::KeySerialized`](crate::OrderingMode::KeySerialized) the
    /// next call with this key waits for its end, with [`ExitOrdered`](crate::OrderingMode::ExitOrdered) that call's reply does. So
    /// call what goes on for long without a key.
    ///
    /// Does nothing once the call has ended.
    pub fn release_slot(&self) {
        self.peer.shared.node.dispatcher.release_slot(self.request);
    }

    /// When this handler is stopped: the earlier of the endpoint's execution timeout and, in dialect 2, of the moment in which
    /// the caller gives up.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

/// Answers calls. Closures become handlers through [`Handlers`]; implement this for full control of the reply.
///
/// The future is dropped when the call is cancelled, times out, or loses its connection.
pub trait Handler: Send + Sync + 'static {
    /// Answers one call.
    fn call(&self, body: Bytes, context: Context) -> BoxFuture<'static, Reply>;
}

/// The methods of an endpoint. A cheap handle: add and remove while calls are running.
///
/// When the endpoint's driver has ended, all of them are dropped, so a handler may own handles to its own endpoint.
#[derive(Clone, Default)]
pub struct Handlers {
    table: Arc<RwLock<Table>>,
}

#[derive(Default)]
struct Table {
    methods: FxHashMap<Text, Arc<Method>>,
    limited: FxHashMap<Text, Arc<MethodLimit>>,
    fallback: Option<Arc<Method>>,
}

/// A handler that polls longer than this, once, is given a task of its own from its first poll on for a while, so that
/// it neither keeps its link from reading nor others from the second core.
const QUICK: Duration = Duration::from_micros(50);

/// For how many calls.
const SLOW_CALLS: u32 = 1_000;

/// How a handler takes its argument.
pub(crate) enum Kind {
    Whole(Box<dyn Handler>),
    Streamed(Box<dyn StreamHandler>),
}

/// A registered handler.
pub(crate) struct Method {
    pub(crate) kind: Kind,
    slow_calls: AtomicU32,
}

impl Method {
    fn new(handler: impl Handler) -> Arc<Self> {
        Self::of(Kind::Whole(Box::new(handler)))
    }

    fn of(kind: Kind) -> Arc<Self> {
        Arc::new(Self { kind, slow_calls: AtomicU32::new(0) })
    }

    /// Whether to poll the next call's handler on the spot.
    pub(crate) fn is_quick(&self) -> bool {
        let slow = self.slow_calls.load(Relaxed);
        if slow > 0 {
            self.slow_calls.store(slow - 1, Relaxed);
        }
        slow == 0
    }

    /// What polling on the spot took.
    pub(crate) fn took(&self, time: Duration) {
        if time > QUICK {
            self.slow_calls.store(SLOW_CALLS, Relaxed);
        }
    }
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.table.read().methods.keys()).finish()
    }
}

impl Handlers {
    /// Adds a typed handler, in place of an earlier one of this name. Arguments and results travel in the endpoint's
    /// codec.
    pub fn add<A, R, E, F, Fut>(&self, method: impl Into<String>, handler: F)
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Into<HandlerError> + Send + 'static,
        F: Fn(A, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.add_handler(method, typed(None, handler));
    }

    /// Like [`add`](Self::add), in a codec of its own.
    pub fn add_with_codec<A, R, E, F, Fut>(&self, codec: Codec, method: impl Into<String>, handler: F)
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Into<HandlerError> + Send + 'static,
        F: Fn(A, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.add_handler(method, typed(Some(codec), handler));
    }

    /// Adds a handler of raw bytes, in place of an earlier one of this name.
    pub fn add_raw<E, F, Fut>(&self, method: impl Into<String>, handler: F)
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(Bytes, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        self.add_handler(method, raw(handler));
    }

    /// Adds a [`Handler`], in place of an earlier one of this name.
    pub fn add_handler(&self, method: impl Into<String>, handler: impl Handler) {
        // Dropped without the lock, like every handler: what it owns may use the handlers itself.
        let replaced = self.table.write().methods.insert(Text::from(method.into()), Method::new(handler));
        drop(replaced);
    }

    /// Adds a handler that reads its argument and writes its result as streams, in place of an earlier one of this name. It
    /// may read while it writes.
    ///
    /// ```
    /// # use callosum_runtime::{BodyReader, Context, Handlers, HandlerResult, Responder};
    /// use futures_util::StreamExt;
    ///
    /// async fn echo(mut body: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
    ///     let mut result = responder.begin().await?;
    ///     while let Some(bytes) = body.next().await {
    ///         result.write_bytes(bytes?).await?;
    ///     }
    ///     Ok(())
    /// }
    /// # fn add(handlers: &Handlers) {
    /// handlers.add_stream("echo", echo);
    /// # }
    /// ```
    pub fn add_stream<E, F, Fut>(&self, method: impl Into<String>, handler: F)
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(BodyReader, Responder, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
    {
        self.add_stream_handler(
            method,
            FnStreamHandler(move |body, responder, context: Context| {
                let exposes = context.exposes_tracebacks();
                let running = handler(body, responder, context);
                async move {
                    match running.await {
                        Ok(()) => Reply::End,
                        Err(error) => failure(error, exposes),
                    }
                }
                .boxed()
            }),
        );
    }

    /// Adds a [`StreamHandler`], in place of an earlier handler of this name.
    pub fn add_stream_handler(&self, method: impl Into<String>, handler: impl StreamHandler) {
        let method = Text::from(method.into());
        let replaced =
            self.table.write().methods.insert(method, Method::of(Kind::Streamed(Box::new(handler))));
        drop(replaced);
    }

    /// Sets what answers calls of unknown methods, instead of an ERROR named `NoSuchMethod`.
    pub fn set_fallback<E, F, Fut>(&self, handler: F)
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(Bytes, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        let replaced = self.table.write().fallback.replace(Method::new(raw(handler)));
        drop(replaced);
    }

    /// Limits a method, whatever handles it now or later, and whether its handler is there yet or a fallback. Replaces what was set
    /// before; [`MethodLimits::default`] lifts the limits. Calls that run go on.
    pub fn set_limits(&self, method: impl Into<String>, limits: MethodLimits) {
        let method = Text::from(method.into());
        let mut table = self.table.write();
        match limits.concurrency() {
            Some(max) => table.limited.entry(method).or_default().set(max),
            None => drop(table.limited.remove(&method)),
        }
    }

    /// Removes a handler; calls that run go on. Returns whether there was one.
    pub fn remove(&self, method: &str) -> bool {
        let removed = self.table.write().methods.remove(method.as_bytes());
        removed.is_some()
    }

    /// Removes the fallback handler. Returns whether there was one.
    pub fn remove_fallback(&self) -> bool {
        let removed = self.table.write().fallback.take();
        removed.is_some()
    }

    /// The endpoint is over. What its handlers own may be what keeps it in memory.
    pub(crate) fn clear(&self) {
        let table = std::mem::take(&mut *self.table.write());
        drop(table);
    }

    /// Whether the handler of a method takes its argument as a stream. So does the refusal of an unknown method, which waits
    /// for no argument.
    pub(crate) fn streams(&self, method: &str) -> bool {
        let table = self.table.read();
        let method = table.methods.get(method.as_bytes()).or(table.fallback.as_ref());
        method.is_none_or(|method| matches!(method.kind, Kind::Streamed(_)))
    }

    pub(crate) fn find(&self, method: &Text) -> Option<(Arc<Method>, Option<Arc<MethodLimit>>)> {
        let table = self.table.read();
        let limit = match table.limited.is_empty() {
            true => None,
            false => table.limited.get(method.as_bytes()).cloned(),
        };
        let method = table.methods.get(method.as_bytes()).or(table.fallback.as_ref()).cloned()?;
        Some((method, limit))
    }
}

struct FnStreamHandler<F>(F);

impl<F> StreamHandler for FnStreamHandler<F>
where
    F: Fn(BodyReader, Responder, Context) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
{
    fn call(&self, body: BodyReader, responder: Responder, context: Context) -> BoxFuture<'static, Reply> {
        self.0(body, responder, context)
    }
}

struct FnHandler<F>(F);

impl<F> Handler for FnHandler<F>
where
    F: Fn(Bytes, Context) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
{
    fn call(&self, body: Bytes, context: Context) -> BoxFuture<'static, Reply> {
        self.0(body, context)
    }
}

fn failure(error: impl Into<HandlerError>, expose_traceback: bool) -> Reply {
    Reply::Failure(error.into().into_info(expose_traceback))
}

fn typed<A, R, E, F, Fut>(codec: Option<Codec>, handler: F) -> impl Handler
where
    A: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    E: Into<HandlerError> + Send + 'static,
    F: Fn(A, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
{
    FnHandler(move |body: Bytes, context: Context| {
        let codec = codec.as_ref().unwrap_or_else(|| context.codec()).clone();
        let argument = match codec.decode(&body) {
            Ok(argument) => argument,
            Err(error) => {
                let reply = Reply::Error(Refusal::InvalidArgument.to_error(&error.to_string()));
                return std::future::ready(reply).boxed();
            }
        };
        drop(body);
        let exposes = context.exposes_tracebacks();
        let running = handler(argument, context);
        async move {
            match running.await {
                Ok(result) => match codec.encode(&result) {
                    Ok(body) => Reply::result(body),
                    Err(error) => failure(error, exposes),
                },
                Err(error) => failure(error, exposes),
            }
        }
        .boxed()
    })
}

fn raw<E, F, Fut>(handler: F) -> impl Handler
where
    E: Into<HandlerError> + Send + 'static,
    F: Fn(Bytes, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
{
    FnHandler(move |body: Bytes, context: Context| {
        let exposes = context.exposes_tracebacks();
        let running = handler(body, context);
        async move {
            match running.await {
                Ok(body) => Reply::result(body),
                Err(error) => failure(error, exposes),
            }
        }
        .boxed()
    })
}
