//! A peer as a `tower` service, a handler as one, and a `tower` service as a handler. Needs the feature `tower`.
//!
//! For the middleware of that ecosystem: retries, rate limits, load shedding, balancing. Layers that are to see every call of an
//! endpoint, typed ones included, are those of [`layer`](crate::layer).
//!
//! ```
//! # use callosum_runtime::layer::CallResult;
//! # use callosum_runtime::tower::{CallRequest, PeerService};
//! # use callosum_runtime::{CallError, Peer};
//! use tower_service::Service;
//!
//! async fn stop(peer: &Peer) -> Result<CallResult, CallError> {
//!     let mut service = PeerService::new(peer.clone());
//!     // A service of a peer is always ready.
//!     service.call(CallRequest::new("stop", "container-1").key("container-1")).await
//! }
//! ```
//!
//! Middleware around a handler that exists is a service between a [`HandlerService`] and a [`ServiceHandler`]:
//!
//! ```
//! # use callosum_runtime::Method;
//! # use callosum_runtime::tower::{HandlerRequest, HandlerService, ServiceHandler};
//! # use std::error::Error;
//! # use tower_service::Service;
//! # fn wrap<S>(method: Method, limit: impl FnOnce(HandlerService) -> S) -> Method
//! # where
//! #     S: Service<HandlerRequest, Response = callosum_runtime::Reply> + Clone + Send + Sync + 'static,
//! #     S::Error: Into<Box<dyn Error + Send + Sync>> + Send,
//! #     S::Future: Send,
//! # {
//! // `limit` is, for example, `tower::limit::ConcurrencyLimitLayer::new(8).layer(service)`.
//! Method::new(ServiceHandler::new(limit(HandlerService::new(method))))
//! # }
//! ```

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::{Body, Metadata, OrderingKey, Reply};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tower_service::Service;

use crate::error::{CallError, HandlerError};
use crate::handler::{Context, Handler};
use crate::invocation::ResponseWithMetadata;
use crate::layer::{CallResult, HandlerNext, IncomingCall};
use crate::method::Method;
use crate::peer::Peer;

/// A call of raw bytes, of whichever peer. Cheap to clone.
#[derive(Clone, Debug)]
#[must_use = "a call is made when a service is given it"]
pub struct CallRequest {
    method: String,
    body: Bytes,
    key: OrderingKey,
    metadata: Metadata,
    timeout: Option<Duration>,
}

impl CallRequest {
    /// A call of this method with this argument, and with the endpoint's timeout.
    pub fn new(method: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let (method, body) = (method.into(), body.into());
        Self { method, body, key: OrderingKey::none(), metadata: Metadata::new(), timeout: None }
    }

    /// As [`Invocation::key`](crate::Invocation::key).
    pub fn key(self, key: impl AsRef<str>) -> Self {
        self.ordering_key(OrderingKey::text(key))
    }

    /// As [`Invocation::ordering_key`](crate::Invocation::ordering_key).
    pub fn ordering_key(self, key: OrderingKey) -> Self {
        Self { key, ..self }
    }

    /// As [`Invocation::metadata`](crate::Invocation::metadata).
    pub fn metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// As [`Invocation::timeout`](crate::Invocation::timeout).
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }
}

/// A peer as a service: each request is a call, made when [`Service::call`] is called. Calls pass the peer's
/// [layers](crate::layer).
///
/// It is always ready: how many calls may be under way is up to the other side, which refuses those past its limits as
/// [`Busy`](crate::Refusal::Busy).
#[derive(Clone, Debug)]
pub struct PeerService {
    peer: Peer,
}

impl PeerService {
    /// Calls this peer.
    pub fn new(peer: Peer) -> Self {
        Self { peer }
    }
}

impl Service<CallRequest> for PeerService {
    type Response = CallResult;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: CallRequest) -> CallFuture {
        let CallRequest { method, body, key, metadata, timeout } = request;
        let call = self.peer.invoke_raw(&method, body).ordering_key(key).metadata(metadata);
        let call = match timeout {
            Some(timeout) => call.timeout(timeout),
            None => call,
        };
        CallFuture(call.send_with_metadata())
    }
}

/// The result of a call that a [`PeerService`] has made. Dropping it cancels the call.
#[must_use = "dropping it abandons the call"]
pub struct CallFuture(ResponseWithMetadata<Bytes>);

impl std::fmt::Debug for CallFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallFuture").finish_non_exhaustive()
    }
}

impl Future for CallFuture {
    type Output = Result<CallResult, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(result.map(|(body, metadata)| CallResult::new(body).with_metadata(metadata)))
    }
}

/// The request of a `tower` service that is a handler.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HandlerRequest {
    /// The argument.
    pub body: Bytes,
    /// The context of the call.
    pub context: Context,
}

impl HandlerRequest {
    /// A call with this argument and this context.
    pub fn new(body: impl Into<Bytes>, context: Context) -> Self {
        Self { body: body.into(), context }
    }
}

/// A handler as a service. It answers every request: the failure of a handler is a [`Reply`], as that of an HTTP server is a response.
/// Its panic is the failure named `Panic`.
///
/// It is always ready: how many calls are given to a handler is up to the endpoint. A method that [streams](Method::stream) is given its
/// argument as a whole; its result goes past the service, which answers [`Reply::End`] or a failure.
#[derive(Clone, Debug)]
pub struct HandlerService {
    method: Arc<Method>,
}

impl HandlerService {
    /// Answers with the handler of this method; [`Method::new`] makes one of a [`Handler`].
    pub fn new(method: Method) -> Self {
        Self { method: Arc::new(method) }
    }
}

impl Service<HandlerRequest> for HandlerService {
    type Response = Reply;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Reply, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, HandlerRequest { body, context }: HandlerRequest) -> Self::Future {
        let (request, body) = (context.request, Body::Whole(body));
        let call = IncomingCall { request, body, context, is_fallback: false, streams: None };
        // The handler itself, whose panics are caught there.
        HandlerNext::new(Arc::default(), self.method.clone()).run(call).map(Ok).boxed()
    }
}

/// A service as a handler of raw bytes, for [`Method::new`](crate::Method::new). Each call has a clone of the service, which is waited for
/// until it is ready. It answers with bytes, or with a whole [`Reply`].
#[derive(Clone, Debug)]
pub struct ServiceHandler<S> {
    service: S,
}

impl<S> ServiceHandler<S> {
    /// Answers with this service.
    pub fn new(service: S) -> Self {
        Self { service }
    }
}

impl<S> Handler for ServiceHandler<S>
where
    S: Service<HandlerRequest> + Clone + Send + Sync + 'static,
    S::Response: Into<Reply>,
    S::Error: Into<HandlerError> + Send,
    S::Future: Send,
{
    fn call(&self, body: Bytes, context: Context) -> BoxFuture<'static, Reply> {
        let mut service = self.service.clone();
        let exposes = context.exposes_tracebacks();
        async move {
            let answered = match poll_fn(|cx| service.poll_ready(cx)).await {
                Ok(()) => service.call(HandlerRequest { body, context }).await,
                Err(error) => Err(error),
            };
            match answered {
                Ok(reply) => reply.into(),
                Err(error) => Reply::Failure(error.into().into_info(exposes).into()),
            }
        }
        .boxed()
    }
}
