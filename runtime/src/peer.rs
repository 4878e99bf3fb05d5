//! A remote peer: its connection, and the calls that wait on it.

mod effects;
mod handle;
mod info;
mod outcome;
mod pending;
mod presence;
mod shared;
mod state;
mod streams;
#[cfg(test)]
mod tests;

pub(crate) use effects::Effect;
pub use handle::{CallLayer, CallNext, CallResult, OutgoingCall, Peer};
pub(crate) use handle::{CallLayers, add_layer};
pub use info::{PeerId, PeerInfo};
pub(crate) use outcome::Answered;
pub(crate) use pending::PendingReply;
pub(crate) use shared::{PeerShared, Unsettled};
