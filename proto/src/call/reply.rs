//! The answer to a request, as the application gives it, and as the peer takes it.

use bytes::Bytes;

use crate::error::{Refusal, ReplyError};
use crate::send::ReplyContent;
use crate::wire::{Failure, MAX_TEXTS};
use crate::{ErrorInfo, Metadata, Text};

/// The answer to a request of the peer. Its size has the limit of [`Call::body`](crate::Call::body).
#[derive(Clone, Debug)]
pub enum Reply {
    /// The handler's result.
    Result {
        /// The result, as the application's serializer wrote it.
        body: Bytes,
        /// Compress the body with Snappy; in dialect 2, where that makes it shorter.
        compressed: bool,
        /// What travels besides, in dialect 2 only.
        metadata: Metadata,
    },
    /// The result that [`begin_reply`](crate::Connection::begin_reply) began is complete with what was written.
    End,
    /// The handler's error. Over the limit, it loses its traceback.
    Failure(ErrorInfo),
    /// Callosum's own error, such as a [`Refusal`].
    Error(ErrorInfo),
    /// The handler was stopped because of a cancellation, or never started.
    Cancelled,
}

impl Reply {
    /// A result without metadata, not compressed.
    pub fn result(body: impl Into<Bytes>) -> Self {
        Self::Result { body: body.into(), compressed: false, metadata: Metadata::new() }
    }
}

/// Makes a reply one that the peer takes: an error gives up its traceback, and what is still too large becomes an ERROR that
/// says so. The texts of an error have a limit of their own in dialect 2, where they travel in one record.
pub(super) fn fit(content: &mut ReplyContent, limit: usize, dialect_2: bool) -> Result<(), ReplyError> {
    let limit = match content {
        ReplyContent::Failure(_) if dialect_2 => limit.min(MAX_TEXTS),
        _ => limit,
    };
    if let ReplyContent::Failure(Failure::Failure(info) | Failure::Error(info)) = content
        && info.size() > limit
    {
        info.traceback = Text::default();
    }
    let size = content.size();
    if size <= limit {
        return Ok(());
    }
    let error = ReplyError::TooLarge { size, limit };
    *content = ReplyContent::Failure(Failure::Error(Refusal::ReplyTooLarge.to_error(&error.to_string())));
    Err(error)
}
