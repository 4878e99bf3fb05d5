//! Temporary.
mod reply_gate;
pub(crate) use reply_gate::ReplyGate;
/// The limit that a refused call met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("busy")]
pub struct BusyReason;
