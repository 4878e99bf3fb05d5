//! How a tunnelled connection ended.

/// How a connection ended that was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// Both directions came to their end.
    #[error("closed")]
    Closed,
    /// The socket on this side was reset, or failed.
    #[error("reset")]
    ResetHere,
    /// The socket on the other side was reset, or the other side gave the connection up.
    #[error("reset by the other side")]
    ResetThere,
    /// The link between the sides ended.
    #[error("the link ended")]
    LinkLost,
    /// No byte went either way for as long as the rule allows.
    #[error("idle for too long")]
    Idle,
    /// The right to have it was taken away.
    #[error("the rules do not allow it any more")]
    Revoked,
    /// It was open longer than the endpoint lets handlers run.
    #[error("open for too long")]
    TimeLimit,
    /// A drain's deadline passed.
    #[error("shut down")]
    ShutDown,
    /// The future under which it ran was dropped.
    #[error("dropped")]
    Dropped,
}
