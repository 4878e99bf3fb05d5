//! How a tunnelled connection ended.

/// How an open connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// Both directions came to their end.
    #[error("closed")]
    Closed,
    /// The socket on this side was reset, or failed.
    #[error("reset")]
    ResetHere,
    /// The socket on the other side was reset, or the other side ended the connection. On the connecting side this is also what
    /// became idle, was revoked or was shut down on the accepting side: a call that is cancelled does not say why.
    #[error("reset by the other side")]
    ResetThere,
    /// The Callosum connection ended.
    #[error("the connection that carries it ended")]
    LinkLost,
    /// No byte was transferred for the idle timeout of the rule.
    #[error("idle for too long")]
    Idle,
    /// The right to use it was withdrawn.
    #[error("the rules no longer allow it")]
    Revoked,
    /// It was open longer than the endpoint's execution timeout.
    #[error("open for too long")]
    TimeLimit,
    /// A drain's deadline passed.
    #[error("shut down")]
    ShutDown,
    /// The tunnel's driver was dropped.
    #[error("dropped")]
    Dropped,
}
