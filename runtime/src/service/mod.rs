//! Typed services: a trait whose methods are called through a generated client, and served by whatever implements it.
//!
//! The macro [`service`](macro@crate::service) makes of a trait a client, whose methods return an [`Invocation`](crate::Invocation) or,
//! where something is streamed, a [`StreamInvocation`]; and a provided method `into_service`, which makes of an implementation a
//! [`Service`], to be given to [`Builder::serve`](crate::Builder::serve) or [`Handlers::serve`](crate::Handlers::serve). What a method
//! fails with is data: it comes back as [`ServiceError::Failed`].
//!
//! The idea: what is generated holds names and types, and calls generic functions of [`generated`], which hold the rules. How arguments,
//! results, items and errors travel is in `proto/PROTOCOL.md`, "Typed services".
//!
//! ```
//! use callosum_runtime::service::ServiceError;
//! use callosum_runtime::{Builder, Peer, service};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Serialize, Deserialize, thiserror::Error)]
//! enum AgentError {
//!     #[error("there is no image {image}")]
//!     NoSuchImage { image: String },
//! }
//!
//! #[service]
//! trait Agent {
//!     /// Starts a container; returns its number.
//!     #[method(key = container)]
//!     async fn start(&self, container: String, image: String) -> Result<u64, AgentError>;
//! }
//!
//! struct Docker;
//!
//! impl Agent for Docker {
//!     async fn start(&self, container: String, image: String) -> Result<u64, AgentError> {
//!         match &*image {
//!             "nginx" => Ok(7),
//!             _ => Err(AgentError::NoSuchImage { image }),
//!         }
//!     }
//! }
//!
//! fn serve(builder: Builder) -> Builder {
//!     builder.serve(Docker.into_service())
//! }
//!
//! async fn start(peer: &Peer) -> Result<u64, ServiceError<AgentError>> {
//!     AgentClient::new(peer.clone()).start("web".into(), "nginx".into()).await
//! }
//! ```
//!
//! Both sides may serve the trait, and both may call it: a handler calls its caller back with
//! `AgentClient::new(context.peer().clone())`.
//!
//! # What a trait may say
//! | in the trait | an implementation has | the client has |
//! | --- | --- | --- |
//! | `async fn f(&self, a: A) -> Result<T, E>` | the same | `f(&self, a: A) -> Invocation<T, ServiceError<E>>` |
//! | `-> HandlerResult<T>`, `-> Result<T, HandlerError>` | the same | `-> Invocation<T>`, whose errors are [`CallError`](crate::CallError)s |
//! | `-> T`, or nothing | the same | `-> Invocation<T>` |
//! | `-> Result<impl Stream<Item = T>, E>` | the same | `-> StreamInvocation<ResultStream<Items<T>, …>, …>` |
//! | `-> Result<impl Stream<Item = Bytes>, E>`, `Item = Result<Bytes, E>` | the same | `-> StreamInvocation<ResultStream<BodyReader, …>, …>` |
//! | an argument `x: impl Stream<Item = T>` | `x: Items<T>` | `x: impl Stream<Item = T> + Send + 'static` |
//! | an argument `context: &Context` | the same | no such argument |
//!
//! - Streams of `Bytes` are streams of bytes: an implementation reads one as a [`BodyReader`](crate::BodyReader), and a caller as a
//!   [`ResultStream`] of that, which is an `AsyncRead`. An implementation reads items as [`Items`](crate::stream::Items), each of which may be
//!   an error: a caller that goes away in the middle has sent no shorter stream.
//! - Items may be `Result`s, and then travel as such: after an error, the stream may go on. A `Result<Bytes, E>` has no place between
//!   bytes: its error fails the call, and what the caller has not read by then is lost to it.
//! - A stream that a method returns may borrow the implementation. To give the stream of an argument up, drop the call.
//! - Arguments, results and items are `Serialize`, `Deserialize`, `Send` and `'static`; [`MethodError`] says what an error is. Arguments
//!   are owned: `String`, not `&str`.
//! - The trait gets the supertraits `Send`, `Sync` and `'static`; its methods' futures are `Send`. An `Arc` of an implementation is one.
//! - Macros see names, not types: `Result`, `HandlerResult`, `HandlerError`, `Stream`, `Bytes` and `Context` are known by these names,
//!   with any path before them.
//!
//! # Attributes
//! | attribute | on | meaning |
//! | --- | --- | --- |
//! | `#[service(prefix = "agent/")]` | the trait | what the names of methods begin with; by default that of the trait and a dot, as in `Agent.start` |
//! | `#[service(codec = Codec::MsgPack)]` | the trait | the codec of arguments, results, items and errors, an expression; by default that of the endpoint |
//! | `#[service(args_kwargs)]` | the trait | arguments travel as `{"args": […], "kwargs": {…}}`: a caller sends all by name; both are read |
//! | `#[service(schema)]` | the trait | a [description](crate::Builder::describe_services) has JSON Schemas: arguments, items and results are `schemars::JsonSchema`. Feature `schemars` |
//! | `#[service(crate = path)]` | the trait | where this crate is; by default, this crate or an adapter is looked for among the dependencies. An adapter is every package `callosum-NAME` but Callosum's own others, such as `callosum-tunnel` |
//! | `#[method(name = "start_container")]` | a method | its name, after the prefix; by default that of the function |
//! | `#[method(key = container)]` | a method | the ordering key: an argument, or a field of one, which has `Display`. `key` and `ordering_key` of the call replace it. Callers without this client have to give the key themselves |
//! | `#[method(args_kwargs)]` | a method | as on the trait |
//! | `#[default]`, `#[default = 1]` | an argument | what a missing argument is: its type's default, or the value of an expression |
//! | `#[serde(…)]` | an argument | as on a field of a struct, as in `#[serde(rename = "type")]` |
//!
//! An endpoint whose builder says [`describe_services`](crate::Builder::describe_services) tells callers of its methods: names, types,
//! docs, and schemas where the service has them.
//!
//! Unknown arguments are ignored. A missing one without a default is refused with `InvalidArgument`, unless it is an `Option`. In a client,
//! all arguments are given. A method that has none takes nothing for an empty map.
//!
//! ```
//! use callosum_runtime::stream::Items;
//! use callosum_runtime::{BodyReader, Codec, Context, HandlerResult, service};
//! use futures_util::{Stream, StreamExt, TryStreamExt, stream};
//! # use bytes::Bytes;
//!
//! #[service(prefix = "log/", codec = Codec::MsgPack)]
//! pub trait Logs {
//!     /// The last lines of a log.
//!     async fn tail(&self, name: String, #[default = 10] lines: u32) -> HandlerResult<impl Stream<Item = String>>;
//!
//!     /// Appends lines, and says how many there were.
//!     #[method(name = "write", key = name)]
//!     async fn append(&self, context: &Context, name: String, lines: impl Stream<Item = String>) -> HandlerResult<usize>;
//!
//!     /// Replaces a log by a file.
//!     async fn load(&self, name: String, file: impl Stream<Item = Bytes>) -> HandlerResult<u64>;
//! }
//!
//! struct Empty;
//!
//! impl Logs for Empty {
//!     async fn tail(&self, _: String, lines: u32) -> HandlerResult<impl Stream<Item = String>> {
//!         Ok(stream::iter(0..lines).map(|n| format!("line {n}")))
//!     }
//!
//!     async fn append(&self, _: &Context, _: String, lines: Items<String>) -> HandlerResult<usize> {
//!         Ok(lines.try_collect::<Vec<_>>().await?.len())
//!     }
//!
//!     async fn load(&self, _: String, file: BodyReader) -> HandlerResult<u64> {
//!         Ok(file.try_fold(0, |sum, bytes| async move { Ok(sum + bytes.len() as u64) }).await?)
//!     }
//! }
//!
//! let names = Empty.into_service();
//! assert_eq!(names.names().collect::<Vec<_>>(), ["log/tail", "log/write", "log/load"]);
//! ```
//!
//! # Upper layers
//! A layer whose values are not `serde`'s, such as Protocol Buffers, makes its clients and its services of the same parts:
//! - a client's methods return [`Peer::invoke_encoded`](crate::Peer::invoke_encoded), or a [`StreamInvocation`] of
//!   [bytes](StreamInvocation::raw) or [items](StreamInvocation::raw_items), whose error is a [`CallFailure`];
//! - a service is a [`Service`] of [`Method`](crate::Method)s;
//! - a body whose length is not known before is written into an [`EncodeBuffer`];
//! - the data of an error travel in the text that [`binary_data_text`] makes.

mod arguments;
mod client;
mod describe;
mod error;
mod framing;
mod raw;
mod serve;
mod variant;

pub use client::{ResultStream, StreamInvocation};
pub use error::{CallFailure, MethodError, ServiceError, binary_data_text, data_of_error, failure_reply};
pub use raw::Outgoing;
pub use serve::Service;

pub use crate::description::{ArgumentDescription, DESCRIBE, MethodDescription};
pub use crate::encode_buffer::EncodeBuffer;

/// Functions for the macro's code. Not part of the API: they change together with the macro.
#[doc(hidden)]
pub mod generated {
    #[cfg(feature = "schemars")]
    pub use schemars;
    pub use serde;

    pub use super::arguments::{ArgsKwargs, Given, NoArguments, merge};
    pub use super::client::{invoke, open, upload};
    pub use super::describe::Description;
    #[cfg(feature = "schemars")]
    pub use super::describe::schema;
    pub use super::framing::{Framing, InItems, InPieces};
    pub use super::serve::{Argument, Methods, Replying};
}
