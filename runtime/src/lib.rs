//! The async API of Callosum, written once for every executor.
#![forbid(unsafe_code)]

mod binder;
mod builder;
mod codec;
mod connector;
mod dispatch;
mod driver;
mod endpoint;
mod error;
mod event;
mod handler;
mod inproc;
mod invocation;
pub mod link;
mod node;
mod peer;
pub mod rt;
mod stats;
mod tasks;

/// The crate whose sockets [`Builder::connect_zeromq`] and [`Builder::bind_zeromq`] take.
#[cfg(feature = "zeromq")]
pub use ::zeromq;

pub use binder::Binder;
pub use builder::{Builder, Limits, Reconnect, WhileDisconnected};
pub use callosum_proto as proto;
pub use callosum_proto::scheduler::{KeyScope, OrderingMode};
pub use callosum_proto::session::{CloseCause, InvokeError, Refusal, Reply};
pub use callosum_proto::{ErrorInfo, OrderingKey, PeerId};
pub use codec::{Codec, CodecError};
pub use connector::Connector;
pub use driver::Driver;
pub use endpoint::{Endpoint, ParseEndpointError};
pub use error::{
    BindError, CallError, DisconnectCause, Drained, DriverError, HandlerError, HandlerResult, NotSent,
};
pub use event::{Event, Events};
pub use handler::{Context, Handler, Handlers};
pub use inproc::{Duplex, duplex};
pub use invocation::{Invocation, Response};
pub use peer::{Peer, PeerInfo};
pub use stats::Stats;
