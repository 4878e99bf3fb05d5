//! The answer to a request, as the application gives it.

use bytes::Bytes;

use crate::{ErrorInfo, Metadata};

/// The answer to a request of the peer. Its size has the limit of [`Call::body`](crate::Call::body).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// The handler's result.
    Result {
        /// The result, as the application's serializer wrote it.
        body: Bytes,
        /// Compress the body with Snappy; in dialect 2, where that makes it shorter.
        compressed: bool,
        /// The metadata, in dialect 2 only.
        metadata: Metadata,
    },
    /// The result that [`begin_reply`](crate::Connection::begin_reply) began is complete with what was written.
    End,
    /// The handler's error. If it is over the limit, its traceback is removed.
    Failure(Box<ErrorInfo>),
    /// Callosum's own error, such as a [`Refusal`](crate::Refusal).
    Error(Box<ErrorInfo>),
    /// The handler was stopped because of a cancellation, or never started.
    Cancelled,
}

impl Reply {
    /// A result without metadata, not compressed.
    pub fn result(body: impl Into<Bytes>) -> Self {
        Self::Result { body: body.into(), compressed: false, metadata: Metadata::new() }
    }
}

/// The answer that is sent to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replied {
    /// The reply; an error without its traceback if that would make it too large.
    AsGiven,
    /// The result without its metadata, which dialect 1 does not have.
    WithoutMetadata,
    /// An ERROR [`ReplyTooLarge`](crate::Refusal::ReplyTooLarge): the reply is larger than the peer takes.
    TooLarge {
        /// Bytes of the reply.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// CANCELLED, or the ERROR that its time was over: the caller had given up, and the reply was a long one.
    GivenUp,
    /// An ERROR: a streamed result had begun, and this reply does not complete it.
    AlreadyBegun,
}
