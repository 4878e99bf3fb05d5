//! The properties of a tunnelled connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::Target;

/// The end of a tunnelled connection in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The accepting end, to which the client has connected.
    Accepting,
    /// The connecting end, which connects to the target.
    Connecting,
}

/// The properties of a tunnelled connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its number: unique in a [`Tunnel`](crate::Tunnel) or [`TunnelServer`](crate::TunnelServer), and never used again.
    pub id: u64,
    /// Which end of the connection this side has.
    pub side: Side,
    /// The user that the other side was admitted as; `None` on the side that requested the forward.
    pub user: Option<String>,
    /// The forward that it belongs to and is counted by: as it was requested, or the target or the address to listen
    /// on, as a peer names it.
    pub forward: Arc<str>,
    /// The target, if this side knows it.
    pub target: Option<Target>,
    /// The client's address, if it has one. On the connecting side, it comes from the other side, and is not verified.
    pub source: Option<SocketAddr>,
    /// When it began, on the clock of the runtime.
    pub since: Instant,
}

/// A tunnelled connection as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionState {
    /// Its description.
    pub info: Arc<ConnectionInfo>,
    /// Whether both ends are connected, and bytes travel.
    pub is_open: bool,
    /// Bytes that this side has moved towards the target.
    pub to_target: u64,
    /// Bytes that this side has moved from the target.
    pub from_target: u64,
}
