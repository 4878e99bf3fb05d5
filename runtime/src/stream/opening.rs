//! Opening a call whose argument or result is streamed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use callosum_proto::{Delivery, Metadata};
use serde::Serialize;

use super::call_streams::CallStreams;
use super::shared::Head;
use super::{BodyReader, BodyWriter};
use crate::call_options::call_options;
use crate::error::CallError;
use crate::layer::OutgoingCall;
use crate::sending::open;
use crate::{Codec, Peer};

/// A call that has not been opened: set its options, then send or stream its argument.
///
/// Streams need dialect 2. With a peer of dialect 1, such as Python's, a streamed argument and metadata fail with
/// [`InvokeError::NeedsDialect2`](crate::InvokeError::NeedsDialect2) before anything is sent. An argument and a result
/// that are bodies can be sent; if the handler streams its result, that fails, and the caller gets an ERROR named
/// `Unsupported`.
///
/// If a handler opens the call on its caller, its slot is lent to others until the call ends. The call ends when its
/// result has arrived completely and its argument has been sent completely, or when either is abandoned; the timeout
/// limits all of it.
#[must_use = "a call is made when its argument is sent or streamed"]
#[derive(Debug)]
pub struct Opening {
    new: OutgoingCall,
}

impl Peer {
    /// Opens a call whose argument or result is [streamed](crate::stream). Needs dialect 2.
    ///
    /// ```
    /// # use callosum_runtime::{BodyError, Peer};
    /// use futures_util::StreamExt;
    ///
    /// # async fn follow(peer: &Peer) -> Result<(), BodyError> {
    /// let mut lines = peer.open("log").send("container-1")?.await?.body.items::<String>();
    /// while let Some(line) = lines.next().await {
    ///     println!("{}", line?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(&self, method: &str) -> Opening {
        Opening::new(self, method)
    }
}

impl Opening {
    fn new(peer: &Peer, method: &str) -> Self {
        Self::of(OutgoingCall::new(peer, method, Bytes::new()))
    }

    /// A call whose options are set.
    pub(crate) fn of(mut new: OutgoingCall) -> Self {
        new.call.result = Delivery::Stream;
        Self { new }
    }

    call_options!();

    /// Makes the call with a typed argument, for a streamed result.
    ///
    /// # Errors
    /// If the call can't be made; see [`CallError`].
    pub fn send<A: Serialize + ?Sized>(self, argument: &A) -> Result<Answer, CallError> {
        let body = self.new.peer().codec().encode(argument).map_err(CallError::Encode)?;
        self.send_raw(body)
    }

    /// Makes the call with raw bytes, for a streamed result.
    ///
    /// # Errors
    /// If the call can't be made; see [`CallError`].
    pub fn send_raw(mut self, body: impl Into<Bytes>) -> Result<Answer, CallError> {
        self.new.call.body = body.into();
        let codec = self.new.peer().codec().clone();
        Ok(Answer { streams: Some(Arc::new(open(self.new)?)), codec })
    }

    /// Makes the call with an argument that is written to the [`BodyWriter`].
    ///
    /// # Errors
    /// If the call can't be made; see [`CallError`].
    pub fn stream(mut self) -> Result<(BodyWriter, Answer), CallError> {
        self.new.call.argument = Delivery::Stream;
        let codec = self.new.peer().codec().clone();
        let streams = Arc::new(open(self.new)?);
        Ok((BodyWriter::new(streams.clone(), codec.clone()), Answer { streams: Some(streams), codec }))
    }
}

/// The result of a call, once it begins.
///
/// # Cancel safety
/// Dropping it ends the call, also while its argument is being written.
///
/// # Panics
/// If it is polled after it was ready.
#[must_use = "dropping it ends the call"]
pub struct Answer {
    /// Until it has begun.
    streams: Option<Arc<CallStreams>>,
    codec: Codec,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

/// A streamed result.
#[derive(Debug)]
#[non_exhaustive]
pub struct Streamed {
    /// The metadata of the result.
    pub metadata: Metadata,
    /// The result.
    pub body: BodyReader,
}

impl Future for Answer {
    type Output = Result<Streamed, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let streams = this.streams.as_ref().expect("an answer is not polled after completion");
        let head = ready!(streams.poll_head(cx));
        let Some(streams) = this.streams.take() else { return Poll::Pending };
        let Head { metadata, size, whole } = head?;
        let max_item = streams.peer().core.config.connection.max_body;
        let body = match whole {
            Some(bytes) => BodyReader::whole(bytes, this.codec.clone(), max_item),
            None => BodyReader::live(streams, size, this.codec.clone(), max_item),
        };
        Poll::Ready(Ok(Streamed { metadata, body }))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(streams) = &self.streams {
            streams.stop();
        }
    }
}
