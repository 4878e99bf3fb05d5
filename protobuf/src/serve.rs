//! A service with its implementation, as methods of an endpoint.
//!
//! Responsible for what comes before and after the implementation's method: reading the argument, and making a reply of what the method
//! returns. What is generated calls [`Methods`] with a name and a closure for each method.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use callosum_runtime::service::{ArgumentDescription, MethodDescription, Service};
use callosum_runtime::stream::StreamHandler;
use callosum_runtime::{
    BodyError, BodyReader, BodyWriter, CodecError, Context, FormatError, Handler, Method, Refusal, Reply,
    ReplyError, Responder,
};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};

use crate::framing::{encode, encode_item};
use crate::status::Side;
use crate::{Codec, MessageTooLarge, Request, Response, Status, Streaming};

/// The description of a method in the `.proto` file.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Its comment.
    pub docs: &'static str,
    /// The full name of its argument's message.
    pub argument: &'static str,
    /// The full name of its result's message.
    pub result: &'static str,
}

impl Description {
    /// As an endpoint tells it.
    fn told(self, streams_argument: bool, streamed_result: bool) -> MethodDescription {
        let mut told = MethodDescription::default();
        (told.docs, told.result, told.streamed_result) =
            (self.docs.into(), self.result.into(), streamed_result);
        if streams_argument {
            told.streamed_argument = Some(self.argument.into());
        } else {
            let mut request = ArgumentDescription::default();
            (request.name, request.type_name, request.required) =
                ("request".into(), self.argument.into(), true);
            told.arguments = vec![request];
        }
        told.error = Some("google.rpc.Status".into());
        told
    }
}

/// The methods of a service, that is being built: `S` implements it, `C` writes and reads its messages.
pub struct Methods<S, C> {
    implementation: Arc<S>,
    methods: Vec<(String, Method)>,
    codec: PhantomData<fn() -> C>,
}

impl<S: Send + Sync + 'static, C: 'static> Methods<S, C> {
    /// A service without methods.
    pub fn new(implementation: S) -> Self {
        Self { implementation: Arc::new(implementation), methods: Vec::new(), codec: PhantomData }
    }

    /// Adds a method of one message for one message.
    pub fn unary<A, R, F, Fut>(&mut self, name: &str, description: Description, method: F)
    where
        C: Codec<A> + Codec<R>,
        A: Send + 'static,
        R: Send + 'static,
        F: Fn(Arc<S>, Request<A>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    {
        let (implementation, method) = (self.implementation.clone(), Arc::new(method));
        let handler = Whole(move |body: Bytes, context: Context| {
            let (implementation, method) = (implementation.clone(), method.clone());
            // Where it is polled: a slow method is polled in a task of its own, large messages and all.
            async move {
                match <C as Codec<A>>::decode(body) {
                    Ok(message) => {
                        whole::<C, R>(method(implementation, Request::new(message, context)).await)
                    }
                    Err(error) => unreadable(&error),
                }
            }
            .boxed()
        });
        self.methods.push((name.into(), Method::new(handler).described(description.told(false, false))));
    }

    /// Adds a method of a stream of messages for one message.
    pub fn client_streaming<A, R, F, Fut>(&mut self, name: &str, description: Description, method: F)
    where
        C: Codec<A> + Codec<R>,
        A: Send + 'static,
        R: Send + 'static,
        F: Fn(Arc<S>, Request<Streaming<A>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    {
        self.streamed(name, description.told(true, false), move |implementation, body, _, context| {
            let request = Request::new(Streaming::argument::<C>(body), context);
            method(implementation, request).map(whole::<C, R>).boxed()
        });
    }

    /// Adds a method of one message for a stream of messages, which its closure writes with what it is given.
    pub fn server_streaming<A, F, Fut>(&mut self, name: &str, description: Description, method: F)
    where
        C: Codec<A>,
        A: Send + 'static,
        F: Fn(Arc<S>, Request<A>, Replying<C>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        self.streamed(
            name,
            description.told(false, true),
            move |implementation, body, responder, context| {
                let method = method.clone();
                async move {
                    let bytes = match body.collect().await {
                        Ok(bytes) => bytes,
                        Err(error) => return error.refuse(),
                    };
                    match <C as Codec<A>>::decode(bytes) {
                        Ok(message) => {
                            method(implementation, Request::new(message, context), Replying::new(responder))
                                .await
                        }
                        Err(error) => unreadable(&error),
                    }
                }
                .boxed()
            },
        );
    }

    /// Adds a method of a stream of messages for a stream of messages, which its closure writes with what it is given.
    pub fn bidirectional<A, F, Fut>(&mut self, name: &str, description: Description, method: F)
    where
        C: Codec<A>,
        A: Send + 'static,
        F: Fn(Arc<S>, Request<Streaming<A>>, Replying<C>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        self.streamed(name, description.told(true, true), move |implementation, body, responder, context| {
            let request = Request::new(Streaming::argument::<C>(body), context);
            method(implementation, request, Replying::new(responder)).boxed()
        });
    }

    fn streamed(
        &mut self,
        name: &str,
        description: MethodDescription,
        method: impl Fn(Arc<S>, BodyReader, Responder, Context) -> BoxFuture<'static, Reply>
        + Send
        + Sync
        + 'static,
    ) {
        let implementation = self.implementation.clone();
        let handler = Streamed(move |body, responder, context| {
            method(implementation.clone(), body, responder, context)
        });
        self.methods.push((name.into(), Method::new_stream(handler).described(description)));
    }

    /// All of them.
    pub fn finish(self) -> Service {
        Service::new(self.methods)
    }
}

struct Whole<F>(F);

impl<F> Handler for Whole<F>
where
    F: Fn(Bytes, Context) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
{
    fn call(&self, body: Bytes, context: Context) -> BoxFuture<'static, Reply> {
        (self.0)(body, context)
    }
}

struct Streamed<F>(F);

impl<F> StreamHandler for Streamed<F>
where
    F: Fn(BodyReader, Responder, Context) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
{
    fn call(&self, body: BodyReader, responder: Responder, context: Context) -> BoxFuture<'static, Reply> {
        (self.0)(body, responder, context)
    }
}

/// Answers a call with a stream of messages.
#[derive(Debug)]
pub struct Replying<C> {
    responder: Responder,
    codec: PhantomData<fn() -> C>,
}

impl<C> Replying<C> {
    fn new(responder: Responder) -> Self {
        Self { responder, codec: PhantomData }
    }

    /// With the messages of this response. An error among them fails the call: what the caller has not read by then is lost to it.
    pub async fn items<R>(
        self,
        response: Result<Response<impl Stream<Item = Result<R, Status>> + Send>, Status>,
    ) -> Reply
    where
        C: Codec<R>,
    {
        let (messages, metadata) = match response {
            Ok(response) => response.into_parts(),
            Err(status) => return failed(status),
        };
        let written = match self.responder.metadata(metadata).begin().await {
            Ok(writer) => write::<C, R>(writer, messages).await,
            // The caller has this error already, or is gone.
            Err(ReplyError::NeedsDialect2) => {
                Err(Status::unimplemented(ReplyError::NeedsDialect2.to_string()))
            }
            Err(error) => Err(Status::cancelled(error.to_string())),
        };
        written.map_or_else(failed, |()| Reply::End)
    }
}

async fn write<C: Codec<R>, R>(
    mut writer: BodyWriter,
    messages: impl Stream<Item = Result<R, Status>> + Send,
) -> Result<(), Status> {
    let mut messages = pin!(messages);
    while let Some(message) = messages.next().await {
        let item = encode_item::<C, R>(&message?).map_err(|error| unwritable(&error))?;
        writer.write_raw_item(item).await.map_err(|error: BodyError| Side::Handler.body_status(error))?;
    }
    Ok(())
}

fn whole<C: Codec<R>, R>(response: Result<Response<R>, Status>) -> Reply {
    let (message, metadata) = match response {
        Ok(response) => response.into_parts(),
        Err(status) => return failed(status),
    };
    match encode::<C, R>(&message) {
        Ok(body) => Reply::Result { body, compressed: false, metadata },
        Err(error) => failed(unwritable(&error)),
    }
}

fn unwritable(error: &CodecError) -> Status {
    Status::internal(format!("the result can't be encoded: {error}"))
}

/// The argument is no such message, or too large. No method has run.
fn unreadable(error: &FormatError) -> Reply {
    let refusal =
        if error.is::<MessageTooLarge>() { Refusal::BodyTooLarge } else { Refusal::InvalidArgument };
    refusal.reply(&error.to_string())
}

fn failed(status: Status) -> Reply {
    Reply::Failure(status.into_info().into())
}
