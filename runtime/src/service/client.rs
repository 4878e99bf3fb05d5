//! Calls of a service's methods: what the methods of a generated client return.
//!
//! Responsible for what a call sends and reads, streams included. The idea: a call whose argument is streamed has no task that writes it;
//! the task that polls the call, or its streamed result, writes.

use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{self, Poll, ready};

use bytes::Bytes;
use callosum_proto::Metadata;
use futures_io::AsyncRead;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{CallFailure, failure, unreadable};
use super::framing::{Framing, Piece};
use crate::codec::CodecError;
use crate::error::CallError;
use crate::invocation::Invocation;
use crate::new_call::{NewCall, call_options};
use crate::stream::{Answer, BodyError, BodyReader, BodyWriter, Opening, Streamed};
use crate::{Codec, Peer};

/// A call whose argument and result are whole.
pub fn invoke<A, R, E>(peer: &Peer, method: &str, argument: &A) -> Invocation<R, E>
where
    A: Serialize + ?Sized,
    R: DeserializeOwned,
    E: CallFailure,
{
    Invocation::reading(peer, method, argument, |body, codec| match body {
        Ok(body) => codec.decode(&body).map_err(|error| CallError::Decode(error).into()),
        Err(error) => Err(failure(error, codec)),
    })
}

/// A call whose result is a stream of this framing.
pub fn open<F, A, E>(
    peer: &Peer,
    method: &str,
    argument: &A,
) -> StreamInvocation<ResultStream<F::Reader, E>, E>
where
    F: Framing,
    A: Serialize + ?Sized,
    E: CallFailure,
{
    let argument = peer.codec().encode(argument);
    StreamInvocation {
        new: NewCall::new(peer, method, Bytes::new()),
        argument,
        items: None,
        read: stream::<F, E>,
    }
}

/// A call with a stream of this framing after the argument, and with a result that is whole.
pub fn upload<F, A, R, E>(
    peer: &Peer,
    method: &str,
    argument: &A,
    items: impl Stream<Item = F::Item> + Send + 'static,
) -> StreamInvocation<R, E>
where
    F: Framing,
    A: Serialize + ?Sized,
    R: DeserializeOwned,
    E: CallFailure,
{
    let argument = peer.codec().encode(argument);
    let new = NewCall::new(peer, method, Bytes::new());
    StreamInvocation { new, argument, items: None, read: whole::<R, E> }.with_items::<F>(items)
}

/// A call that is about to be made, whose argument or result is streamed: set its options, then await it.
///
/// It is made when it is awaited, or turned into a future. What the future resolves to is the result or, if that is a stream, a
/// [`ResultStream`], as soon as it begins. The items of a streamed argument are taken from their stream, and written, while the future or
/// the `ResultStream` is polled; no task does so.
///
/// A streamed argument or result needs dialect 2: towards a peer of dialect 1, such as Python's, the former fails with
/// [`InvokeError::NeedsDialect2`](crate::InvokeError::NeedsDialect2), the latter with an ERROR named `Unsupported`.
///
/// # Cancel safety
/// Dropping the future, or the `ResultStream` before its end, cancels the call on the other side.
#[must_use = "a call is made when it is awaited"]
pub struct StreamInvocation<R, E = CallError> {
    new: NewCall,
    /// Whether it could be serialized, which the awaited call reports.
    argument: Result<Bytes, CodecError>,
    /// What follows the argument, if that is streamed.
    items: Option<BoxStream<'static, Result<Piece, CodecError>>>,
    read: ReadFn<R, E>,
}

/// Makes of the beginning of a result what the caller asked for.
type ReadFn<R, E> = fn(Streamed, Uploading, Codec) -> BoxFuture<'static, Result<R, E>>;

impl<R, E> StreamInvocation<R, E> {
    call_options!();

    /// The same with a streamed argument.
    #[doc(hidden)]
    pub fn with_items<F: Framing>(self, items: impl Stream<Item = F::Item> + Send + 'static) -> Self {
        let codec = self.new.codec().clone();
        Self { items: Some(items.map(move |item| F::encode(item, &codec)).boxed()), ..self }
    }

    fn make(
        new: NewCall,
        argument: Result<Bytes, CodecError>,
        items: Option<BoxStream<'static, Result<Piece, CodecError>>>,
    ) -> Result<(Answer, Uploading), CallError> {
        let (argument, opening) = (argument.map_err(CallError::Encode)?, Opening::of(new));
        match items {
            None => Ok((opening.send_raw(argument)?, Uploading(None))),
            Some(items) => {
                let (writer, answer) = opening.stream()?;
                Ok((answer, Uploading(Some(write(writer, argument, items).boxed()))))
            }
        }
    }
}

impl<R, E> fmt::Debug for StreamInvocation<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamInvocation").field(&self.new).finish()
    }
}

impl<R: Send + 'static, E: CallFailure> IntoFuture for StreamInvocation<R, E> {
    type Output = Result<R, E>;
    type IntoFuture = BoxFuture<'static, Result<R, E>>;

    /// Makes the call; the future only waits for its result, and writes what is streamed.
    fn into_future(self) -> Self::IntoFuture {
        let Self { new, argument, items, read } = self;
        let codec = new.codec().clone();
        let made = Self::make(new, argument, items);
        async move {
            let (mut answer, mut uploading) = made?;
            let begun = poll_fn(|cx| {
                uploading.poll(cx)?;
                answer.poll_unpin(cx)
            });
            let begun = begun.await.map_err(|error| failure::<E>(error, &codec))?;
            read(begun, uploading, codec).await
        }
        .boxed()
    }
}

fn whole<R, E>(result: Streamed, uploading: Uploading, codec: Codec) -> BoxFuture<'static, Result<R, E>>
where
    R: DeserializeOwned,
    E: CallFailure,
{
    async move {
        // The handler has ended, or reads no more.
        drop(uploading);
        let body = result.body.collect().await.map_err(|error| unreadable::<E>(error, &codec))?;
        codec.decode(&body).map_err(|error| CallError::Decode(error).into())
    }
    .boxed()
}

fn stream<F: Framing, E: CallFailure>(
    result: Streamed,
    uploading: Uploading,
    codec: Codec,
) -> BoxFuture<'static, Result<ResultStream<F::Reader, E>, E>> {
    let Streamed { metadata, body } = result;
    // A result without items can come as one of no bytes, and no codec makes an item of none.
    let reader = (body.size() != Some(0)).then(|| F::read(body.codec(codec.clone())));
    std::future::ready(Ok(ResultStream { reader, metadata, uploading, codec, error: PhantomData })).boxed()
}

/// Writes the argument, and what follows it.
async fn write(
    mut writer: BodyWriter,
    argument: Bytes,
    mut items: BoxStream<'static, Result<Piece, CodecError>>,
) -> Result<(), CallError> {
    let mut written = writer.write_encoded(argument).await;
    loop {
        match written {
            Ok(()) => {}
            Err(error @ BodyError::ItemTooLarge { .. }) => {
                return Err(CallError::Encode(CodecError::Custom(error.into())));
            }
            // Nobody reads any more. The answer says why, or has come.
            Err(_) => return Ok(()),
        }
        match items.next().await {
            Some(item) => written = item.map_err(CallError::Encode)?.write(&mut writer).await,
            None => {
                // As above.
                let _ = writer.finish();
                return Ok(());
            }
        }
    }
}

/// A streamed argument, until it is written. Dropping it before tells the other side that it is incomplete.
struct Uploading(Option<BoxFuture<'static, Result<(), CallError>>>);

impl Uploading {
    /// Writes what can be written.
    ///
    /// # Errors
    /// If an item can't be serialized, or is too large. The argument is incomplete then, and with it the call.
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Result<(), CallError> {
        if let Some(writing) = &mut self.0
            && let Poll::Ready(written) = writing.poll_unpin(cx)
        {
            self.0 = None;
            written?;
        }
        Ok(())
    }
}

/// A result that comes as a stream: of items, if `R` is [`Items`](crate::stream::Items), or of bytes, if it is a [`BodyReader`]; the
/// latter is an [`AsyncRead`] too, whose errors hold a [`BodyError`].
///
/// After an error there are no more items. Reading it also writes the call's argument, if that is streamed.
///
/// # Cancel safety
/// Dropping it before its end cancels the call on the other side.
#[must_use = "dropping it cancels the call"]
pub struct ResultStream<R, E = CallError> {
    /// `None` if there is nothing to be read any more.
    reader: Option<R>,
    metadata: Metadata,
    uploading: Uploading,
    codec: Codec,
    error: PhantomData<fn() -> E>,
}

impl<R, E> ResultStream<R, E> {
    /// What the other side sent along.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl<R, E> fmt::Debug for ResultStream<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultStream").field("ended", &self.reader.is_none()).finish_non_exhaustive()
    }
}

impl<R, T, E> Stream for ResultStream<R, E>
where
    R: Stream<Item = Result<T, BodyError>> + Unpin,
    E: CallFailure,
{
    type Item = Result<T, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<T, E>>> {
        let this = self.get_mut();
        if let Err(error) = this.uploading.poll(cx) {
            this.reader = None;
            return Poll::Ready(Some(Err(error.into())));
        }
        let Some(reader) = &mut this.reader else { return Poll::Ready(None) };
        let next = ready!(reader.poll_next_unpin(cx));
        if !matches!(next, Some(Ok(_))) {
            this.reader = None;
        }
        Poll::Ready(next.map(|item| item.map_err(|error| unreadable(error, &this.codec))))
    }
}

impl<E> AsyncRead for ResultStream<BodyReader, E> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.uploading.poll(cx).map_err(BodyError::Call)?;
        match &mut this.reader {
            Some(reader) => Pin::new(reader).poll_read(cx, buf),
            None => Poll::Ready(Ok(0)),
        }
    }
}
