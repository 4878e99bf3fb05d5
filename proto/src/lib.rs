#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/hosts.md\n")]
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
// proto/clippy.toml bans clocks and randomness in the engine; tests need a start for their virtual time.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types))]

mod call;
mod config;
mod connection;
mod endpoint;
mod error;
mod event;
mod ids;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod kept;
mod metadata;
mod multipart;
mod numbered;
pub mod ordering;
mod queue;
mod reply;
mod role;
mod send;
mod setters;
mod small;
mod stream;
mod text;
mod urgency;
// Only the feature `internals` exports the codecs, so without it their `pub` items are unreachable.
#[cfg_attr(not(feature = "internals"), allow(unreachable_pub))]
mod wire;
pub mod zmtp;

pub use call::{Call, Delivery, RecvStream, SendStream};
pub use config::{ConnectionConfig, Dialect, Keepalive, StreamArguments};
pub use connection::Connection;
pub use endpoint::{Endpoint, EndpointConfig};
pub use error::{ErrorInfo, InvokeError, Refusal, ReplyError};
pub use event::{
    Anomaly, Body, CloseCause, ConnectionEvent, EndpointEvent, Event, Outcome, Request, StopReason, Violation,
};
pub(crate) use ids::KeyKind;
pub use ids::{CallId, ConnectionId, OrderingKey, RequestId, StreamId};
pub use metadata::{Metadata, MetadataTooLarge};
pub(crate) use multipart::MAX_FRAMES;
pub use multipart::Multipart;
pub use reply::{Replied, Reply};
pub use role::Role;
pub use stream::{Chunk, ReadError, StreamFault, WriteError};
pub use text::Text;
pub use urgency::Urgency;
pub use wire::DecodeError;
