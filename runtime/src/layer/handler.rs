//! Layers around handlers.
//!
//! The idea: a layer is a function of the call and of what is left to do for it, [`HandlerNext`]: an index into the list of layers,
//! at whose end is the handler.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use callosum_proto::{Body, Reply, RequestId};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::handler::Context;
#[cfg(feature = "metrics")]
use crate::method::Kind;
use crate::method::{Method, panicked};
use crate::stream::Shared;

/// A layer around the handlers of an endpoint. See the [module](crate::layer), and [`Builder::layer`](crate::Builder::layer).
///
/// A closure `Fn(IncomingCall, HandlerNext) -> impl Future<Output = Reply>` is one.
///
/// The first poll of the future runs on the task of the caller's link, as that of a handler does: a layer must not block its thread.
pub trait HandlerLayer: Send + Sync + 'static {
    /// Answers a call: with what [`next`](HandlerNext::run) answers, as a rule.
    ///
    /// [`Reply::Result`] answers a streamed call as well; [`Reply::End`] says that the result which the handler has begun is
    /// complete, and is an empty result if there is none.
    fn handle(&self, call: IncomingCall, next: HandlerNext) -> BoxFuture<'static, Reply>;
}

impl<F, Fut> HandlerLayer for F
where
    F: Fn(IncomingCall, HandlerNext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    fn handle(&self, call: IncomingCall, next: HandlerNext) -> BoxFuture<'static, Reply> {
        self(call, next).boxed()
    }
}

pub(crate) type HandlerLayers = Arc<[Box<dyn HandlerLayer>]>;

/// A call that a handler is about to answer.
#[derive(Debug)]
pub struct IncomingCall {
    pub(crate) request: RequestId,
    pub(crate) body: Body,
    pub(crate) context: Context,
    /// The fallback answers it.
    pub(crate) is_fallback: bool,
    /// The streams that its handler will read and write, if a layer counts their bytes.
    pub(crate) streams: Option<Arc<Shared>>,
}

impl IncomingCall {
    /// The context that the handler will get: method, key, caller, identity, metadata, deadline.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The argument, unless it comes as a stream.
    pub fn body(&self) -> Option<&Bytes> {
        match &self.body {
            Body::Whole(bytes) => Some(bytes),
            Body::Stream { .. } => None,
        }
    }

    /// Bytes of the argument; of a streamed one, if its caller has said.
    pub fn body_size(&self) -> Option<u64> {
        match &self.body {
            Body::Whole(bytes) => Some(bytes.len() as u64),
            Body::Stream { size } => *size,
        }
    }

    /// The method's name, or `"_OTHER"` if the [fallback](crate::Builder::fallback) answers it. Peers choose what they call, so the names
    /// that a fallback sees have no bound: use this wherever names are kept, as labels of metrics are.
    pub fn known_method(&self) -> &str {
        match self.is_fallback {
            true => "_OTHER",
            false => self.context.method(),
        }
    }
}

/// The layers inside of this one, and the handler.
pub struct HandlerNext {
    layers: HandlerLayers,
    at: usize,
    method: Arc<Method>,
}

impl HandlerNext {
    pub(crate) fn new(layers: HandlerLayers, method: Arc<Method>) -> Self {
        Self { layers, at: 0, method }
    }

    /// The streams that the handler of this call will read and write, if it does.
    #[cfg(feature = "metrics")]
    pub(super) fn streams(&self, call: &mut IncomingCall) -> Option<Arc<Shared>> {
        let is_whole = matches!((&call.body, &self.method.kind), (Body::Whole(_), Kind::Whole(_)));
        let streams = || Arc::new(Shared::of(call.request.into()));
        (!is_whole).then(|| call.streams.get_or_insert_with(streams).clone())
    }

    /// Passes the call on. The handler starts when the future is first polled.
    pub fn run(mut self, call: IncomingCall) -> BoxFuture<'static, Reply> {
        let layers = self.layers.clone();
        if let Some(layer) = layers.get(self.at) {
            self.at += 1;
            return layer.handle(call, self);
        }
        let name = call.context.method.clone();
        let exposes = call.context.exposes_tracebacks();
        let handling = async move {
            let IncomingCall { request, body, context, streams, .. } = call;
            self.method.begin(request, body, context, streams).await
        };
        let handling = AssertUnwindSafe(handling).catch_unwind();
        handling.map(move |end| end.unwrap_or_else(|panic| panicked(&name, &*panic, exposes))).boxed()
    }
}

impl std::fmt::Debug for HandlerNext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandlerNext").finish_non_exhaustive()
    }
}
