//! Why a tunnelled connection could not be opened.

/// Why a tunnelled connection could not be opened, as the side that should have connected says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// No rule allows it.
    #[error("the rules forbid it")]
    Forbidden,
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// There is no way to that network or host.
    #[error("unreachable")]
    Unreachable,
    /// It did not answer in time.
    #[error("timed out")]
    TimedOut,
    /// The name has no address.
    #[error("unknown host")]
    UnknownHost,
    /// A rule's, or the tunnel's, limit of connections at a time is reached.
    #[error("too many connections")]
    Busy,
    /// Somebody listens there already; only where a listener is asked for.
    #[error("the address is in use")]
    AddressInUse,
    /// The other side is shutting down.
    #[error("the other side is shutting down")]
    ShuttingDown,
    /// The link is away.
    #[error("not connected")]
    NotConnected,
    /// Anything else.
    #[error("failed")]
    Failed,
}
