//! The two sides of a connection: connector and binder.

/// Which end of a connection this side is. Either end can call the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It opened the connection, and sends the first message of the handshake. A DEALER socket in ZMTP.
    Connector,
    /// It accepted the connection. A ROUTER socket in ZMTP.
    Binder,
}
