//! Methods: the handler of a method's calls, and the conversion of functions to handlers.

use std::any::Any;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use callosum_proto::{Body, ErrorInfo, Refusal, Reply, RequestId, Text};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Codec;
use crate::description::MethodDescription;
use crate::error::HandlerError;
use crate::handler::{Context, Handler};
use crate::pace::Pace;
use crate::stream::{BodyReader, CallStreams, Responder, Shared, StreamHandler};

/// The handler of a method's calls: a function, or a handler of your own.
///
/// [`Handlers`](crate::Handlers) and [`Builder`](crate::Builder) keep methods by name, and have shorter functions to
/// add the usual kinds.
pub struct Method {
    pub(crate) kind: Kind,
    pub(crate) description: Option<MethodDescription>,
    pub(crate) pace: Pace,
}

/// How a handler takes its argument.
pub(crate) enum Kind {
    Whole(Box<dyn Handler>),
    Streamed(Box<dyn StreamHandler>),
}

impl Method {
    /// A function of a typed argument, with a typed result, both in the endpoint's codec.
    pub fn typed<A, R, E, F, Fut>(handler: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Into<HandlerError> + Send + 'static,
        F: Fn(A, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        Self::new(typed(None, handler))
    }

    /// Like [`typed`](Self::typed), in a codec of its own.
    pub fn typed_with_codec<A, R, E, F, Fut>(codec: Codec, handler: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Into<HandlerError> + Send + 'static,
        F: Fn(A, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        Self::new(typed(Some(codec), handler))
    }

    /// A function of raw bytes.
    pub fn raw<E, F, Fut>(handler: F) -> Self
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(Bytes, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        Self::new(FnHandler(move |body: Bytes, context: Context| {
            let exposes = context.exposes_tracebacks();
            let replied = move |result: Result<Bytes, E>| match result {
                Ok(body) => Reply::result(body),
                Err(error) => failure(error, exposes),
            };
            handler(body, context).map(replied).boxed()
        }))
    }

    /// A function that reads its argument and writes its result as streams. It may read while it writes.
    ///
    /// ```
    /// # use callosum_runtime::{BodyReader, Context, Handlers, HandlerExists, HandlerResult, Responder};
    /// use futures_util::StreamExt;
    ///
    /// async fn echo(mut body: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
    ///     let mut result = responder.begin().await?;
    ///     while let Some(bytes) = body.next().await {
    ///         result.write_bytes(bytes?).await?;
    ///     }
    ///     Ok(())
    /// }
    /// # fn add(handlers: &Handlers) -> Result<(), HandlerExists> {
    /// handlers.add_stream("echo", echo)
    /// # }
    /// ```
    pub fn stream<E, F, Fut>(handler: F) -> Self
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(BodyReader, Responder, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
    {
        Self::new_stream(FnStreamHandler(move |body, responder, context: Context| {
            let exposes = context.exposes_tracebacks();
            let running = handler(body, responder, context);
            async move {
                match running.await {
                    Ok(()) => Reply::End,
                    Err(error) => failure(error, exposes),
                }
            }
            .boxed()
        }))
    }

    /// A handler of your own, which controls its whole reply.
    pub fn new(handler: impl Handler) -> Self {
        Self::of(Kind::Whole(Box::new(handler)))
    }

    /// A handler of your own that streams.
    pub fn new_stream(handler: impl StreamHandler) -> Self {
        Self::of(Kind::Streamed(Box::new(handler)))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, description: None, pace: Pace::default() }
    }

    /// Adds a description, for endpoints that [describe their services](crate::Builder::describe_services). The name in
    /// the description is replaced by the name under which the method is added.
    ///
    /// ```
    /// use callosum_runtime::service::MethodDescription;
    /// # use callosum_runtime::{HandlerResult, Method};
    ///
    /// let mut description = MethodDescription::default();
    /// description.docs = "The bytes that come.".into();
    /// let echo = Method::raw(async |body, _| HandlerResult::Ok(body)).described(description);
    /// ```
    pub fn described(self, description: MethodDescription) -> Self {
        Self { description: Some(description), ..self }
    }

    /// Hands the argument to the handler, in the way in which it takes it. If there are layers, they may have made what is told of its
    /// streams.
    pub(crate) fn begin(
        self: &Arc<Self>,
        request: RequestId,
        body: Body,
        context: Context,
        told: Option<Arc<Shared>>,
    ) -> BoxFuture<'static, Reply> {
        let streams = || {
            let shared = context.peer.shared.clone();
            let told = shared.lock().follow_streams(request.into(), told);
            Arc::new(CallStreams::new(shared, told, None))
        };
        match (&self.kind, body) {
            (Kind::Whole(handler), Body::Whole(body)) => handler.call(body, context),
            // The handler of this method was replaced after the request had come.
            (Kind::Whole(_), Body::Stream { .. }) => {
                let (method, streams) = (self.clone(), streams());
                async move {
                    let body = streams.reassemble().await;
                    drop(streams);
                    match (&method.kind, body) {
                        (Kind::Whole(handler), Ok(body)) => handler.call(body, context).await,
                        (_, Err(error)) => error.refuse(),
                        (Kind::Streamed(_), Ok(_)) => unreachable!("the kind of a handler never changes"),
                    }
                }
                .boxed()
            }
            (Kind::Streamed(handler), body) => {
                let (codec, streams) = (context.codec().clone(), streams());
                let max_item = context.peer.shared.core.config.connection.max_body;
                let reader = match body {
                    Body::Whole(body) => BodyReader::whole(body, codec.clone(), max_item),
                    Body::Stream { size } => BodyReader::live(streams.clone(), size, codec.clone(), max_item),
                };
                handler.call(reader, Responder::new(streams, request, codec), context)
            }
        }
    }
}

impl std::fmt::Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Method").finish_non_exhaustive()
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

/// The failure that the caller of a panicked handler receives.
pub(crate) fn panicked(method: &Text, panic: &(dyn Any + Send), expose_traceback: bool) -> Reply {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(the panic has no message)");
    tracing::error!(%method, message, "handler panicked");
    let traceback = match expose_traceback {
        true => format!("the handler of `{method}` panicked: {message}\n"),
        false => String::new(),
    };
    Reply::Failure(ErrorInfo { traceback: traceback.into(), ..ErrorInfo::new("Panic", message) }.into())
}

fn failure(error: impl Into<HandlerError>, expose_traceback: bool) -> Reply {
    Reply::Failure(error.into().into_info(expose_traceback).into())
}

fn typed<A, R, E, F, Fut>(codec: Option<Codec>, handler: F) -> impl Handler
where
    A: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    E: Into<HandlerError> + Send + 'static,
    F: Fn(A, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
{
    let handler = Arc::new(handler);
    FnHandler(move |body: Bytes, context: Context| {
        let codec = codec.as_ref().unwrap_or_else(|| context.codec()).clone();
        let (handler, exposes) = (handler.clone(), context.exposes_tracebacks());
        // An argument is read where the handler is polled: if that has been slow, in a task of its own, and not in that of the connection.
        async move {
            let argument = match codec.decode(&body) {
                Ok(argument) => argument,
                Err(error) => {
                    return Refusal::InvalidArgument.reply(&error.to_string());
                }
            };
            drop(body);
            match handler(argument, context).await {
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
