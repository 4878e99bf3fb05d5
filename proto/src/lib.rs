//! Sans-I/O protocol core of Callosum.
#![forbid(unsafe_code)]

mod ids;
mod multipart;
pub mod scheduler;

pub use ids::{CallId, KeyKind, OrderingKey, PeerId, Ticket};
pub use multipart::{MAX_FRAMES, Multipart};
