#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/README.md\n")]
#![doc = include_str!("../README.md")]
//!
//! # Cancel safety
//! Futures can be dropped at any time. Dropping a call's future cancels the call, on the other side too; see
//! [`Invocation`]. A shutdown that has begun goes on. The docs of each `async fn` say what else dropping its future
//! does.
//!
//! A handler's future is dropped at its next await when its call is cancelled, runs into its execution timeout, or
//! loses its link, unless it has asked for time to clean up ([`Context::set_cancel_grace`]). [`Context::cancelled`]
//! tells why. Handlers are first polled on their connection's task: a handler that blocks its thread stops the
//! connection from being read.
//!
//! # Limits
//! All memory that a remote peer can make an endpoint hold is limited, except for the number of connections: see
//! [`Limits`], [`MethodLimits`], [`Builder::max_concurrency`], [`Builder::keepalive`] and [`Reconnect`]. Calls and
//! handlers have no timeout by default; see [`Builder::call_timeout`] and [`Builder::execution_timeout`].
#![forbid(unsafe_code)]
// Virtual time of unit tests starts somewhere.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod auth;
mod binder;
mod broadcast;
mod builder;
#[cfg(test)]
mod by_hand;
mod call_options;
mod cancel;
mod channel;
mod codec;
mod config;
mod connector;
mod core;
mod description;
mod dispatch;
mod driver;
mod encode_buffer;
mod endpoint;
mod error;
mod event;
mod handler;
mod handlers;
mod handshakes;
mod inproc;
mod invocation;
pub mod layer;
pub mod link;
mod loan;
mod lock;
mod method;
mod method_limits;
mod node;
mod os;
mod pace;
mod peer;
mod rate_limit;
pub mod rt;
mod sending;
mod serve;
pub mod service;
mod socket_options;
mod stats;
pub mod stream;
mod tasks;
#[cfg(feature = "tower")]
pub mod tower;
mod turns;
mod waiters;

/// Bodies of this repository's fuzz targets. No part of the API.
#[cfg(all(feature = "fuzzing", unix))]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::auth::fuzzing::authenticator;
}

/// The crate whose sockets [`Builder::connect_zeromq`] and [`Builder::bind_zeromq`] take.
#[cfg(feature = "zeromq")]
pub use ::zeromq;

pub use binder::Binder;
pub use builder::{Builder, State, Stateless};
/// Makes a [typed service](mod@crate::service) of a trait.
pub use callosum_macros::service;
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
pub use os::FileStamp;
pub use peer::{Peer, PeerId, PeerInfo};
pub use socket_options::SocketOptions;
pub use stats::Stats;
pub use stream::{BodyError, BodyReader, BodyWriter, Responder};
