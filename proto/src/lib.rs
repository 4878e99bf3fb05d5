//! Sans-I/O protocol core of Callosum.
#![forbid(unsafe_code)]

mod ids;
mod multipart;
#[cfg(feature = "zmtp")]
pub mod zmtp;

pub use ids::{CallId, KeyKind, OrderingKey, PeerId, Ticket};
pub use multipart::{MAX_FRAMES, Multipart};
