//! A remote peer: its connection, and the calls that wait on it.

mod effects;
mod handle;
mod info;
mod pending;
mod shared;
mod state;
mod streams;
#[cfg(test)]
mod tests;

pub(crate) use effects::Effect;
pub use handle::Peer;
pub use info::{PeerId, PeerInfo};
pub(crate) use pending::{Answered, PendingCall, open};
pub(crate) use shared::{PeerShared, Unsettled};
