//! Calls of a service's methods: what the methods of a generated client return.
//!
//! Responsible for what a call sends and reads, streams included. The idea: a call whose argument is streamed has no task that writes it;
//! the task that polls the call, or its streamed result, writes.

use std::fmt;
use std::future::{IntoFuture, poll_fn, ready};
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{self, Poll};

use bytes::Bytes;
use callosum_proto::Metadata;
use futures_io::AsyncRead;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, once};
use futures_util::{FutureExt, Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{CallFailure, failure, unreadable};
use super::framing::{Framing, Piece};
use crate::call_options::call_options;
use crate::codec::CodecError;
use crate::error::CallError;
use crate::invocation::Invocation;
use crate::layer::OutgoingCall;
use crate::stream::{Answer, BodyError, BodyReader, BodyWriter, Opening, Streamed};
use crate::{Codec, Peer};

/// A call whose argument and result are whole.
pub fn invoke<A, R, E>(peer: &Peer, method: &str, argument: &A) -> Invocation<R, E>
where
    A: Serialize + ?Sized,
    R: DeserializeOwned,
    E: CallFailure,
{
    peer.invoke_encoded(method, peer.codec().encode(argument), |body, codec| match body {
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
    let argument = Sends::Whole(peer.codec().encode(argument));
    StreamInvocation::reading(peer, method, argument, |result, uploading, codec| {
        stream(result, uploading, codec, F::read)
    })
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
    let argument = Sends::Whole(peer.codec().encode(argument));
    StreamInvocation::reading(peer, method, argument, |result, uploading, codec| {
        async move {
            let body = whole::<E>(result, uploading, &codec).await?;
            codec.decode(&body).map_err(|error| CallError::Decode(error).into())
        }
        .boxed()
    })
    .with_items::<F>(items)
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
    new: OutgoingCall,
    sends: Sends,
    read: ReadFn<R, E>,
}

/// The argument of a call. If it could not be serialized, the awaited call fails.
pub(super) enum Sends {
    Whole(Result<Bytes, CodecError>),
    Stream(BoxStream<'static, Result<Piece, CodecError>>),
}

/// Converts the beginning of a result to the type that the caller asked for.
type ReadFn<R, E> = Box<dyn FnOnce(Streamed, Uploading, Codec) -> BoxFuture<'static, Result<R, E>> + Send>;

impl<R, E> StreamInvocation<R, E> {
    call_options!();

    pub(super) fn reading(
        peer: &Peer,
        method: &str,
        sends: Sends,
        read: impl FnOnce(Streamed, Uploading, Codec) -> BoxFuture<'static, Result<R, E>> + Send + 'static,
    ) -> Self {
        Self { new: OutgoingCall::new(peer, method, Bytes::new()), sends, read: Box::new(read) }
    }

    /// The same with a streamed argument, after the one that it has.
    #[doc(hidden)]
    pub fn with_items<F: Framing>(self, items: impl Stream<Item = F::Item> + Send + 'static) -> Self {
        let codec = self.new.peer().codec().clone();
        let sends = match self.sends {
            Sends::Whole(Ok(argument)) => {
                let items = items.map(move |item| F::encode(item, &codec));
                Sends::Stream(once(ready(Ok(Piece::Item(argument)))).chain(items).boxed())
            }
            other => other,
        };
        Self { sends, ..self }
    }

    /// Makes the call; the future waits for its result and the result's metadata, and writes a streamed argument.
    pub fn send_with_metadata(self) -> BoxFuture<'static, Result<(R, Metadata), E>>
    where
        R: Send + 'static,
        E: CallFailure,
    {
        let Self { new, sends, read } = self;
        let read: ReadFn<(R, Metadata), E> = Box::new(move |result, uploading, codec| {
            let metadata = result.metadata.clone();
            let reading = read(result, uploading, codec);
            async move { Ok((reading.await?, metadata)) }.boxed()
        });
        StreamInvocation { new, sends, read }.into_future()
    }

    /// The same call, with its result converted by `then`, which may fail.
    pub fn and_then<T>(self, then: impl FnOnce(R) -> Result<T, E> + Send + 'static) -> StreamInvocation<T, E>
    where
        R: 'static,
        T: 'static,
        E: 'static,
    {
        let Self { new, sends, read } = self;
        let read: ReadFn<T, E> = Box::new(move |result, uploading, codec| {
            let reading = read(result, uploading, codec);
            async move { then(reading.await?) }.boxed()
        });
        StreamInvocation { new, sends, read }
    }

    fn make(new: OutgoingCall, sends: Sends) -> Result<(Answer, Uploading), CallError> {
        match sends {
            Sends::Whole(argument) => {
                let argument = argument.map_err(CallError::Encode)?;
                Ok((Opening::of(new).send_raw(argument)?, Uploading(None)))
            }
            Sends::Stream(items) => {
                let (writer, answer) = Opening::of(new).stream()?;
                Ok((answer, Uploading(Some(write(writer, items).boxed()))))
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

    /// Makes the call; the future waits for its result, and writes a streamed argument.
    fn into_future(self) -> Self::IntoFuture {
        let Self { new, sends, read } = self;
        let codec = new.peer().codec().clone();
        let made = Self::make(new, sends);
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

/// The bytes of a result that is whole.
pub(super) async fn whole<E: CallFailure>(
    result: Streamed,
    uploading: Uploading,
    codec: &Codec,
) -> Result<Bytes, E> {
    // The result has begun, so the handler has ended or reads no more.
    drop(uploading);
    result.body.collect().await.map_err(|error| unreadable::<E>(error, codec))
}

/// A result that is a stream, as `read` reads it.
pub(super) fn stream<R: Send + 'static, E: CallFailure>(
    result: Streamed,
    uploading: Uploading,
    codec: Codec,
    read: impl FnOnce(BodyReader) -> R,
) -> BoxFuture<'static, Result<ResultStream<R, E>, E>> {
    let Streamed { metadata, body } = result;
    // A result without items can come as one of no bytes, and no codec makes an item of none.
    let reading = match body.size() {
        Some(0) => Reading::Ended,
        _ => Reading::More(read(body.codec(codec.clone()))),
    };
    ready(Ok(ResultStream { reading, metadata, uploading, codec, error: PhantomData })).boxed()
}

/// Writes the argument, piece by piece.
async fn write(
    mut writer: BodyWriter,
    mut pieces: BoxStream<'static, Result<Piece, CodecError>>,
) -> Result<(), CallError> {
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| CallError::Argument(Box::new(error.into())))?;
        match piece.write(&mut writer).await {
            Ok(()) => {}
            Err(error @ BodyError::ItemTooLarge { .. }) => return Err(CallError::Argument(Box::new(error))),
            // The handler reads no more. The call's result says why, or was received already.
            Err(_) => return Ok(()),
        }
    }
    // As above.
    let _ = writer.finish();
    Ok(())
}

/// A streamed argument, until it is written. Dropping it before tells the other side that it is incomplete.
pub(super) struct Uploading(Option<BoxFuture<'static, Result<(), CallError>>>);

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
    reading: Reading<R>,
    metadata: Metadata,
    uploading: Uploading,
    codec: Codec,
    error: PhantomData<fn() -> E>,
}

/// How much of a result there is to read.
enum Reading<R> {
    More(R),
    Ended,
    /// The argument has failed, and with it the call: this is not the end of the result.
    Broken,
}

impl<R, E> ResultStream<R, E> {
    /// The metadata of the result.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl<R, E> fmt::Debug for ResultStream<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultStream")
            .field("ended", &!matches!(self.reading, Reading::More(_)))
            .finish_non_exhaustive()
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
            this.reading = Reading::Broken;
            return Poll::Ready(Some(Err(error.into())));
        }
        let Reading::More(reader) = &mut this.reading else { return Poll::Ready(None) };
        let next = task::ready!(reader.poll_next_unpin(cx));
        if !matches!(next, Some(Ok(_))) {
            // The call has ended, so the rest of the argument is not read.
            (this.reading, this.uploading) = (Reading::Ended, Uploading(None));
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
        if let Err(error) = this.uploading.poll(cx) {
            this.reading = Reading::Broken;
            return Poll::Ready(Err(BodyError::Call(error).into()));
        }
        match &mut this.reading {
            Reading::More(reader) => {
                let read = task::ready!(Pin::new(reader).poll_read(cx, buf));
                if !buf.is_empty() && !matches!(read, Ok(1..)) {
                    // As above. The reader itself remembers how the result ended.
                    this.uploading = Uploading(None);
                }
                Poll::Ready(read)
            }
            Reading::Ended => Poll::Ready(Ok(0)),
            Reading::Broken => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}
