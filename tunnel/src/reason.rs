//! Why a tunnelled connection could not be opened.

/// Why a tunnelled connection could not be opened, as reported by the side that should have connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// No rule allows it.
    #[error("the rules forbid it")]
    Forbidden,
    /// The target refused the connection.
    #[error("connection refused")]
    Refused,
    /// The network or host is unreachable.
    #[error("unreachable")]
    Unreachable,
    /// The target did not answer in time.
    #[error("timed out")]
    TimedOut,
    /// The name has no address.
    #[error("unknown host")]
    UnknownHost,
    /// The limit of a rule, or of the tunnel, on open connections is reached.
    #[error("too many connections")]
    Busy,
    /// The address to listen on is in use.
    #[error("the address is in use")]
    AddressInUse,
    /// The other side is shutting down.
    #[error("the other side is shutting down")]
    ShuttingDown,
    /// There is no Callosum connection.
    #[error("not connected")]
    NotConnected,
    /// The other side serves no tunnels, or this forward no more.
    #[error("the other side does not offer it")]
    NotOffered,
    /// Another reason.
    #[error("failed")]
    Failed,
}
