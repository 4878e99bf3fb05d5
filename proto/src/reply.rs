//! The answer to a request: what the application gives, and what is sent.

use bytes::Bytes;

use crate::{ErrorInfo, Metadata, Refusal};

/// The answer to a request of the peer. The limit on its size is that of [`Call::body`](crate::Call::body).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reply {
    /// The handler's result.
    Result {
        /// The serialized result.
        body: Bytes,
        /// Compress the body with Snappy; in dialect 2, only where that makes it shorter.
        compressed: bool,
        /// The metadata, in dialect 2 only.
        metadata: Metadata,
    },
    /// Completes the result that [`begin_reply`](crate::Connection::begin_reply) began, after everything that
    /// was written.
    End,
    /// The handler's error. If it is over the limit, its traceback is removed.
    Failure(Box<ErrorInfo>),
    /// An error of Callosum, such as a [`Refusal`].
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

/// As [`Reply::result`].
impl<B: Into<Bytes>> From<B> for Reply {
    fn from(body: B) -> Self {
        Self::result(body)
    }
}

impl Refusal {
    /// The ERROR as the answer to a request, with `detail` as its text.
    pub fn reply(self, detail: &str) -> Reply {
        Reply::Error(self.to_error(detail).into())
    }
}

/// What is sent to the peer for a [`Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Replied {
    /// The reply; an error without its traceback if that would exceed the limit.
    AsGiven,
    /// The result without its metadata, which dialect 1 does not have.
    WithoutMetadata,
    /// An ERROR [`ReplyTooLarge`](Refusal::ReplyTooLarge): the reply is larger than the peer accepts.
    TooLarge {
        /// Bytes of the reply.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// CANCELLED: the caller had given up, and the reply needed more than one message.
    GivenUp,
    /// An ERROR: a streamed result had begun, and this reply does not complete it.
    AlreadyBegun,
}
