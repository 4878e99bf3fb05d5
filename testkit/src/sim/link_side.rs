//! Where a connection of the simulation is.

use callosum_proto::ConnectionId;

/// A side of a link, and the connection that it has: a link that breaks gets new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkSide {
    pub(super) link: usize,
    pub(super) side: usize,
    /// Unique within its host.
    pub(super) connection: ConnectionId,
}
