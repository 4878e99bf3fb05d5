//! A service with its implementation, as methods of an endpoint.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use callosum_proto::{Refusal, Reply};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt, TryFutureExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::describe::Description;
use super::error::MethodError;
use super::framing::Framing;
use crate::error::{HandlerError, HandlerExists};
use crate::stream::{BodyReader, Responder, StreamHandler};
use crate::{Builder, Codec, Context, Handlers, Method};

/// The argument in front of a stream. No budget for reassembly holds it, so that all that a peer may have at a time stay below what that
/// budget allows it: by default, 80 handlers make 40 MiB.
const MAX_FIRST_ITEM: usize = 512 * 1024;

/// The methods of a service, with what implements them: what `into_service` of a [service's](macro@crate::service) trait makes.
#[must_use = "a service is to be served"]
pub struct Service {
    methods: Vec<(String, Method)>,
}

impl Service {
    /// A service of methods by their names, as an [upper layer](mod@crate::service#upper-layers) makes it.
    pub fn new(methods: impl IntoIterator<Item = (String, Method)>) -> Self {
        Self { methods: methods.into_iter().collect() }
    }

    /// The names of its methods, as callers use them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.methods.iter().map(|(name, _)| &**name)
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl<S> Builder<S> {
    /// Adds the methods of a [typed service](mod@crate::service).
    pub fn serve(self, service: Service) -> Self {
        service.methods.into_iter().fold(self, |builder, (name, method)| builder.handle_method(name, method))
    }
}

impl Handlers {
    /// Adds the methods of a [typed service](mod@crate::service): all, or none.
    ///
    /// # Errors
    /// If there is a handler of one of their names, or two of them have the same.
    pub fn serve(&self, service: Service) -> Result<(), HandlerExists> {
        self.add_all(service.methods)
    }
}

/// The methods of a service that is being built.
pub struct Methods<S> {
    implementation: Arc<S>,
    codec: Option<Codec>,
    methods: Vec<(String, Method)>,
}

impl<S: Send + Sync + 'static> Methods<S> {
    /// A service without methods, in this codec or in that of its endpoint.
    pub fn new(implementation: S, codec: Option<Codec>) -> Self {
        Self { implementation: Arc::new(implementation), codec, methods: Vec::new() }
    }

    /// Adds a method whose argument and result are whole.
    pub fn whole<A, R, E, F, Fut>(&mut self, name: &str, description: Description, handler: F)
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: MethodError,
        F: Fn(Arc<S>, A, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        let (implementation, own) = (self.implementation.clone(), self.codec.clone());
        let handler = move |argument: A, context: Context| {
            let codec = own.as_ref().unwrap_or_else(|| context.codec()).clone();
            let exposes = context.exposes_tracebacks();
            let failed = move |error: E| HandlerError::from(error.into_failure(&codec, exposes));
            handler(implementation.clone(), argument, context).map_err(failed)
        };
        let method = match self.codec.clone() {
            Some(codec) => Method::typed_with_codec(codec, handler),
            None => Method::typed(handler),
        };
        self.methods.push((name.into(), method.described(description.told())));
    }

    /// Adds a method whose argument, result, or both, are streamed: its handler is given what follows the argument, and what it answers
    /// with.
    pub fn streamed<A, F, Fut>(
        &mut self,
        name: &str,
        description: Description,
        argument: Argument,
        handler: F,
    ) where
        A: DeserializeOwned + Send + 'static,
        F: Fn(Arc<S>, A, BodyReader, Replying, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        let (implementation, codec) = (self.implementation.clone(), self.codec.clone());
        let handler =
            Streaming { implementation, codec, argument, handler: Arc::new(handler), of: PhantomData };
        let method = Method::new_stream(handler).described(description.told());
        self.methods.push((name.into(), method));
    }

    /// All of them.
    pub fn finish(self) -> Service {
        Service::new(self.methods)
    }
}

/// How a method's argument comes.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// As the body.
    Whole,
    /// As the first item of a stream.
    FirstItem,
}

struct Streaming<S, A, F> {
    implementation: Arc<S>,
    codec: Option<Codec>,
    argument: Argument,
    handler: Arc<F>,
    of: PhantomData<fn(A)>,
}

impl<S, A, F, Fut> StreamHandler for Streaming<S, A, F>
where
    S: Send + Sync + 'static,
    A: DeserializeOwned + Send + 'static,
    F: Fn(Arc<S>, A, BodyReader, Replying, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    fn call(&self, body: BodyReader, responder: Responder, context: Context) -> BoxFuture<'static, Reply> {
        let codec = self.codec.as_ref().unwrap_or_else(|| context.codec()).clone();
        let (implementation, handler, argument) =
            (self.implementation.clone(), self.handler.clone(), self.argument);
        async move {
            let mut body = body.codec(codec.clone());
            let bytes = match argument {
                Argument::Whole => body.take_all().await,
                // A stream without a first item counts as one with an empty first item.
                Argument::FirstItem => {
                    body.next_item(MAX_FIRST_ITEM).await.unwrap_or_else(|| Ok(Bytes::new()))
                }
            };
            let argument = match bytes.map(|bytes| codec.decode(&bytes)) {
                Ok(Ok(argument)) => argument,
                Ok(Err(error)) => {
                    return Refusal::InvalidArgument.reply(&error.to_string());
                }
                Err(error) => return error.refuse(),
            };
            let exposes = context.exposes_tracebacks();
            handler(implementation, argument, body, Replying { responder, codec, exposes }, context).await
        }
        .boxed()
    }
}

/// Answers a call of a method that streams.
#[derive(Debug)]
pub struct Replying {
    responder: Responder,
    codec: Codec,
    exposes: bool,
}

impl Replying {
    /// With a result that is whole.
    pub fn whole<R: Serialize, E: MethodError>(self, result: Result<R, E>) -> Reply {
        match result {
            Ok(result) => match self.codec.encode(&result) {
                Ok(body) => Reply::result(body),
                Err(error) => self.fail(HandlerError::from(error)),
            },
            Err(error) => self.fail(error),
        }
    }

    /// With a stream of this framing.
    pub async fn items<F: Framing, E: MethodError>(
        self,
        result: Result<impl Stream<Item = F::Item> + Send, E>,
    ) -> Reply {
        self.fallible_items::<F, E>(result.map(|items| items.map(Ok))).await
    }

    /// The same with items that may be an error, which fails the call: the caller loses the items that it has not read by then.
    pub async fn fallible_items<F: Framing, E: MethodError>(
        self,
        result: Result<impl Stream<Item = Result<F::Item, E>> + Send, E>,
    ) -> Reply {
        let mut items = match result {
            Ok(items) => pin!(items),
            Err(error) => return self.fail(error),
        };
        let Self { responder, codec, exposes } = self;
        let mut writer = match responder.begin().await {
            Ok(writer) => writer,
            Err(error) => return failed(HandlerError::from(error), &codec, exposes),
        };
        while let Some(item) = items.next().await {
            let piece = match item {
                Ok(item) => F::encode(item, &codec),
                Err(error) => return failed(error, &codec, exposes),
            };
            let written = match piece {
                Ok(piece) => piece.write(&mut writer).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = written {
                return failed(HandlerError::from(error), &codec, exposes);
            }
        }
        Reply::End
    }

    fn fail(self, error: impl MethodError) -> Reply {
        failed(error, &self.codec, self.exposes)
    }
}

fn failed(error: impl MethodError, codec: &Codec, exposes: bool) -> Reply {
    Reply::Failure(error.into_failure(codec, exposes).into())
}
