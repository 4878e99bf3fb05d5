//! The async API of Callosum, written once for every executor.
//!
//! Most programs depend on `callosum-tokio` or `callosum-async-std`, which re-export all of this and bring an executor.
//! To use another one, implement [`rt::Runtime`] and start with [`Builder::new`].
//!
//! - A [`Builder`] makes an endpoint: a [`Binder`], which many peers connect to, or a [`Connector`], which has one. Both
//!   serve and invoke.
//! - Each comes with a [`Driver`], a future that makes it go. No task outlives it.
//! - A [`Peer`] is the other side of a link: [`Peer::invoke`] calls it, and a handler finds its caller in
//!   [`Context::peer`].
//! - [Streams](stream) carry arguments and results of any size, in both directions at once.
//! - An [authenticator](auth) encrypts every link, and decides who may come in.
//! - [Layers](layer) around calls and handlers: traces, metrics, timeouts, and your own.
//! - [`Event`]s and [`Stats`], of a peer and in total, tell what goes on, and so do `tracing`'s spans and events.
//!
//! ```
//! use std::time::Duration;
//!
//! use callosum_runtime::{BindError, Binder, Builder, CallError, Context, Driver, HandlerResult, OrderingMode, Peer};
//!
//! async fn stop(container: String, context: Context) -> HandlerResult<()> {
//!     println!("{} stops {container}", context.peer().id());
//!     Ok(())
//! }
//!
//! async fn serve(builder: Builder) -> Result<(Binder, Driver), BindError> {
//!     builder
//!         .ordering(OrderingMode::KeySerialized)
//!         .execution_timeout(Duration::from_secs(60))
//!         .handle("stop", stop)
//!         .bind("tcp://127.0.0.1:0")
//!         .await
//! }
//!
//! async fn call(peer: &Peer, container: &str) -> Result<(), CallError> {
//!     peer.invoke("stop", container).key(container).timeout(Duration::from_secs(5)).await
//! }
//! ```
//!
//! # Cancel safety
//! Futures can be dropped at any time. Dropping a call's future cancels the call, on the other side too; see
//! [`Invocation`]. A shutdown that was begun goes on. Every `async fn` says what else its cancellation means.
//!
//! A handler's future is dropped at its next await when its call is cancelled, runs into its execution timeout, or loses
//! its link, unless it has asked for time to clean up ([`Context::set_cancel_grace`]). [`Context::cancelled`] tells why.
//! Handlers are first polled on their link's task: one that blocks its thread keeps the link from being read.
//!
//! # Limits
//! Everything that a remote peer can make grow has one: [`Limits`], [`MethodLimits`], [`Builder::max_concurrency`],
//! [`Builder::keepalive`], [`Reconnect`]. Calls and handlers have no timeout by default; see [`Builder::call_timeout`]
//! and [`Builder::execution_timeout`].
//!
//! # Feature flags
//! - `json`, `msgpack`: the codecs [`Codec::Json`] and [`Codec::MsgPack`]. On by default; a [`Format`] is a codec of your own.
//! - `zeromq`: sockets of the `zeromq` crate as message links. Turn it on through the adapter, which chooses that crate's
//!   runtime. Off by default.
//! - `metrics`: the layer [`layer::Metrics`](layer). Off by default.
//! - `tower`: a peer as a `tower` service, and a service as a handler. Off by default.
//! - `fuzzing`: for the tests of this repository only.
#![forbid(unsafe_code)]
// Virtual time of unit tests starts somewhere.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod auth;
mod binder;
mod builder;
#[cfg(test)]
mod by_hand;
mod cancel;
mod codec;
mod config;
mod connector;
mod core;
mod dispatch;
mod driver;
mod endpoint;
mod error;
mod event;
mod handler;
mod handlers;
mod inproc;
mod invocation;
pub mod layer;
pub mod link;
mod loan;
mod lock;
mod method;
mod method_limits;
mod new_call;
mod node;
mod peer;
pub mod rt;
mod sending;
mod serve;
mod socket_options;
mod stats;
pub mod stream;
mod tasks;
#[cfg(feature = "tower")]
pub mod tower;

/// Bodies of this repository's fuzz targets. No part of the API.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::auth::fuzzing::authenticator;
}

/// The crate whose sockets [`Builder::connect_zeromq`] and [`Builder::bind_zeromq`] take.
#[cfg(feature = "zeromq")]
pub use ::zeromq;

pub use binder::Binder;
pub use builder::{Builder, State, Stateless};
pub use callosum_proto as proto;
pub use callosum_proto::ordering::{KeyScope, OrderingMode};
pub use callosum_proto::{CloseCause, Dialect, InvokeError, Refusal, Reply, ReplyError};
pub use callosum_proto::{ErrorInfo, Metadata, MetadataTooLarge, OrderingKey, Urgency};
pub use cancel::CancelReason;
pub use codec::{Codec, CodecError, CustomCodec, Format, FormatError};
pub use config::{Limits, Reconnect, WhileDisconnected};
pub use connector::Connector;
pub use driver::Driver;
pub use endpoint::{Endpoint, ParseEndpointError};
pub use error::{
    BindError, CallError, ConnectError, DisconnectCause, Drained, DriverError, HandlerError, HandlerExists,
    HandlerResult, NotSent,
};
pub use event::{Event, Events};
pub use handler::{Context, Handler};
pub use handlers::Handlers;
pub use inproc::{Duplex, duplex};
pub use invocation::{Invocation, Response, ResponseWithMetadata};
pub use method::Method;
pub use method_limits::MethodLimits;
pub use peer::{Peer, PeerId, PeerInfo};
pub use socket_options::SocketOptions;
pub use stats::Stats;
pub use stream::{BodyError, BodyReader, BodyWriter, Responder};
