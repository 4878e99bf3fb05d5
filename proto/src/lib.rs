#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
// Tests start virtual time somewhere; proto/clippy.toml is about the core itself.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types))]

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod ids;
mod message;
mod metadata;
mod multipart;
mod role;
pub mod scheduler;
pub mod session;
mod text;
pub mod wire;
#[cfg(feature = "zmtp")]
pub mod zmtp;

pub use ids::{CallId, KeyKind, OrderingKey, PeerId, Ticket};
pub use message::{CallName, ErrorInfo, Message, Payload};
pub use metadata::{Metadata, MetadataTooLarge};
pub use multipart::{MAX_FRAMES, Multipart};
pub use role::Role;
pub use text::Text;
