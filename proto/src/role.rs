//! The two sides of a connection: connector and binder.

/// Which end of a connection a side is. Calls go both ways all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It opened the connection, and speaks first. In ZMTP it is a DEALER socket.
    Connector,
    /// It accepted the connection. In ZMTP it is a ROUTER socket.
    Binder,
}
