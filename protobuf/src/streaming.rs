//! Messages that come as a stream, on either side.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use callosum_runtime::service::ResultStream;
use callosum_runtime::stream::RawItems;
use callosum_runtime::{BodyReader, FormatError, Metadata};
use futures_util::{Stream, StreamExt};

use crate::framing::decode_item;
use crate::status::Side;
use crate::{Codec, Status};

/// Messages as they come: the argument that a handler reads, or the result that a caller does.
///
/// After an error there are no more. A message has at most
/// [`Limits::max_body`](callosum_runtime::Limits::max_body) bytes. Reading gives the other side credit to send more. A caller's also
/// writes the call's argument, if that is streamed.
///
/// # Cancel safety
/// Waiting for a message can be dropped; nothing is lost. Dropping the stream before its end tells the other side to send no more, and
/// cancels the call if it is the result of one.
#[must_use = "dropping it stops the other side"]
pub struct Streaming<T> {
    source: Source,
    decode: fn(Bytes) -> Result<T, FormatError>,
}

enum Source {
    Argument(RawItems),
    Result(ResultStream<RawItems, Status>),
    Ended,
}

impl<T> Streaming<T> {
    /// The argument of a call.
    pub(crate) fn argument<C: Codec<T>>(body: BodyReader) -> Self {
        let source = match body.size() {
            // A stream without items can come as a body of no bytes.
            Some(0) => Source::Ended,
            _ => Source::Argument(body.raw_items()),
        };
        Self { source, decode: decode_item::<C, T> }
    }

    /// The result of a call.
    pub(crate) fn result<C: Codec<T>>(items: ResultStream<RawItems, Status>) -> Self {
        Self { source: Source::Result(items), decode: decode_item::<C, T> }
    }

    /// The next message; `None` at the end.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// How the call has failed, or why the message can't be read.
    pub async fn message(&mut self) -> Result<Option<T>, Status> {
        self.next().await.transpose()
    }

    /// What the other side sent along with a result. That of an argument is the [`Request`](crate::Request)'s; here it is `None`, as it is
    /// once the stream has failed.
    pub fn metadata(&self) -> Option<&Metadata> {
        match &self.source {
            Source::Result(items) => Some(items.metadata()),
            Source::Argument(_) | Source::Ended => None,
        }
    }
}

impl<T> Stream for Streaming<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let (side, next) = match &mut this.source {
            Source::Argument(items) => {
                let next = ready!(items.poll_next_unpin(cx));
                (Side::Handler, next.map(|item| item.map_err(|error| Side::Handler.body_status(error))))
            }
            Source::Result(items) => (Side::Caller, ready!(items.poll_next_unpin(cx))),
            Source::Ended => return Poll::Ready(None),
        };
        let next = next.map(|item| (this.decode)(item?).map_err(|error| side.unreadable(&error)));
        if matches!(next, Some(Err(_))) {
            this.source = Source::Ended;
        }
        Poll::Ready(next)
    }
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").finish_non_exhaustive()
    }
}
