//! Reading a body.

use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use callosum_proto::Chunk;
use futures_io::AsyncRead;
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;

use super::BodyError;
use super::call_streams::CallStreams;
use crate::Codec;

/// Reads an argument or a result as it arrives.
///
/// It is a [`Stream`] of pieces of bytes as they arrived, and an [`AsyncRead`], whose errors contain a [`BodyError`].
/// Reading grants the other side credit to send more; if you don't read, only this stream stalls. At most 32 KiB wait
/// here at first; at the latest once you have read 24 KiB, [`Limits::stream_window`](crate::Limits::stream_window), and
/// more if the round trip limits the rate.
///
/// # Cancel safety
/// Futures that read can be dropped while they wait, except where a function says otherwise; no bytes are lost. If the
/// reader is dropped before the end, the other side stops sending; if this side made the call, the call is cancelled.
pub struct BodyReader {
    source: Source,
    /// Read and not yet handed out.
    rest: Bytes,
    rest_ends_item: bool,
    ended: bool,
    /// Its [`AsyncRead`] has failed, and so goes on to: an end would say that it is complete.
    broken: bool,
    size: Option<u64>,
    codec: Codec,
    max_item: usize,
}

enum Source {
    /// It came in one piece.
    Whole(Option<Bytes>),
    Live(Arc<CallStreams>),
}

impl std::fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyReader")
            .field("size", &self.size)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl BodyReader {
    pub(crate) fn whole(bytes: Bytes, codec: Codec, max_item: usize) -> Self {
        let size = Some(bytes.len() as u64);
        Self::new(Source::Whole(Some(bytes)), size, codec, max_item)
    }

    pub(crate) fn live(streams: Arc<CallStreams>, size: Option<u64>, codec: Codec, max_item: usize) -> Self {
        Self::new(Source::Live(streams), size, codec, max_item)
    }

    fn new(source: Source, size: Option<u64>, codec: Codec, max_item: usize) -> Self {
        let (rest, rest_ends_item, ended, broken) = (Bytes::new(), false, false, false);
        Self { source, rest, rest_ends_item, ended, broken, size, codec, max_item }
    }

    /// The size of the whole body in bytes, if the other side has sent it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Reads the rest as one body of at most [`Limits::max_body`](crate::Limits::max_body) bytes.
    ///
    /// Cancel safety: if the future is dropped, the bytes read so far are lost.
    ///
    /// # Errors
    /// [`BodyError`], also if the rest is larger.
    pub async fn collect(mut self) -> Result<Bytes, BodyError> {
        self.take_all().await
    }

    /// The same; the reader is at its end afterwards.
    pub(crate) async fn take_all(&mut self) -> Result<Bytes, BodyError> {
        let mut body = BytesMut::from(&std::mem::take(&mut self.rest)[..]);
        if let (Source::Live(streams), false) = (&self.source, self.ended) {
            let rest = streams.reassemble().await?;
            self.ended = true;
            if body.is_empty() {
                return Ok(rest);
            }
            self.check_size(body.len() + rest.len())?;
            body.extend_from_slice(&rest);
            return Ok(body.freeze());
        }
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            self.check_size(body.len() + chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The bytes of the next item, of at most `limit`; `None` at the end. What follows it stays to be read.
    ///
    /// Cancel safety: what was read of the item is lost with the future.
    pub(crate) async fn next_item(&mut self, limit: usize) -> Option<Result<Bytes, BodyError>> {
        let (mut item, limit) = (BytesMut::new(), limit.min(self.max_item));
        loop {
            let chunk = match poll_fn(|cx| self.poll_chunk(cx)).await {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return Some(Err(error)),
                None if item.is_empty() => return None,
                None => return Some(Ok(item.freeze())),
            };
            let size = item.len() + chunk.bytes.len();
            if size > limit {
                return Some(Err(BodyError::ItemTooLarge { size, limit }));
            }
            if chunk.end_of_item && item.is_empty() {
                return Some(Ok(chunk.bytes));
            }
            item.extend_from_slice(&chunk.bytes);
            if chunk.end_of_item {
                return Some(Ok(item.freeze()));
            }
        }
    }

    fn check_size(&self, size: usize) -> Result<(), BodyError> {
        match self.max_item {
            limit if size > limit => Err(BodyError::ItemTooLarge { size, limit }),
            _ => Ok(()),
        }
    }

    /// The items of a typed stream, in the endpoint's codec.
    ///
    /// Bytes after the end of the last item are one more item.
    pub fn items<T: DeserializeOwned>(self) -> Items<T> {
        Items { raw: self.raw_items(), item: PhantomData }
    }

    /// The items of a stream as bytes, for formats that are not `serde`'s.
    ///
    /// Bytes after the end of the last item are one more item. A result or an argument that is a body is one item, also
    /// if it is empty.
    pub fn raw_items(self) -> RawItems {
        RawItems { reader: self, partial: BytesMut::new(), failed: false }
    }

    /// Uses another codec for [`items`](Self::items).
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The next piece as it arrived, and whether an item ends with it; `None` at the end. For streams whose items are
    /// not decoded or have another meaning: as a [`Stream`] of bytes and as [`AsyncRead`], the reader does not show
    /// where items end.
    ///
    /// An argument or a result that is a body is one item.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, BodyError>>> {
        if !self.rest.is_empty() {
            let (bytes, end_of_item) = (std::mem::take(&mut self.rest), self.rest_ends_item);
            return Poll::Ready(Some(Ok(Chunk { bytes, end_of_item })));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        match &mut self.source {
            Source::Whole(bytes) => {
                self.ended = true;
                let whole = bytes.take().map(|bytes| Ok(Chunk { bytes, end_of_item: true }));
                Poll::Ready(whole)
            }
            Source::Live(streams) => match ready!(streams.poll_read(cx)) {
                Ok(Some(chunk)) => Poll::Ready(Some(Ok(chunk))),
                Ok(None) => {
                    self.ended = true;
                    Poll::Ready(None)
                }
                Err(error) => {
                    self.ended = true;
                    Poll::Ready(Some(Err(error)))
                }
            },
        }
    }
}

impl Stream for BodyReader {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match ready!(this.poll_chunk(cx)) {
                // An empty item has no bytes.
                Some(Ok(chunk)) if chunk.bytes.is_empty() => {}
                other => return Poll::Ready(other.map(|chunk| chunk.map(|chunk| chunk.bytes))),
            }
        }
    }
}

impl AsyncRead for BodyReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        while this.rest.is_empty() {
            match ready!(this.poll_chunk(cx)) {
                Some(Ok(chunk)) => (this.rest, this.rest_ends_item) = (chunk.bytes, chunk.end_of_item),
                Some(Err(error)) => {
                    this.broken = true;
                    return Poll::Ready(Err(error.into()));
                }
                None if this.broken => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                None => return Poll::Ready(Ok(0)),
            }
            // A whole body ends with its only piece, of which there may be more to hand out.
            if this.ended && this.rest.is_empty() {
                return Poll::Ready(Ok(0));
            }
        }
        let n = buf.len().min(this.rest.len());
        this.rest.copy_to_slice(&mut buf[..n]);
        Poll::Ready(Ok(n))
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        if let (Source::Live(streams), false) = (&self.source, self.ended) {
            streams.stop();
        }
    }
}

/// The items of a stream as bytes. See [`BodyReader::raw_items`].
///
/// After an error there are no more. An item has at most [`Limits::max_body`](crate::Limits::max_body) bytes.
#[derive(Debug)]
pub struct RawItems {
    reader: BodyReader,
    partial: BytesMut,
    failed: bool,
}

impl RawItems {
    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.failed = true;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for RawItems {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.failed {
                return Poll::Ready(None);
            }
            match ready!(this.reader.poll_chunk(cx)) {
                Some(Ok(Chunk { bytes, end_of_item })) => {
                    if let Err(error) = this.reader.check_size(this.partial.len() + bytes.len()) {
                        return this.fail(error);
                    }
                    if end_of_item && this.partial.is_empty() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                    this.partial.extend_from_slice(&bytes);
                    if end_of_item {
                        return Poll::Ready(Some(Ok(std::mem::take(&mut this.partial).freeze())));
                    }
                }
                Some(Err(error)) => return this.fail(error),
                None if this.partial.is_empty() => return Poll::Ready(None),
                None => return Poll::Ready(Some(Ok(std::mem::take(&mut this.partial).freeze()))),
            }
        }
    }
}

/// The items of a typed stream. See [`BodyReader::items`].
///
/// After an error there are no more. An item has at most [`Limits::max_body`](crate::Limits::max_body) bytes.
#[derive(Debug)]
pub struct Items<T> {
    raw: RawItems,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Stream for Items<T> {
    type Item = Result<T, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let raw = &mut self.get_mut().raw;
        let next = ready!(raw.poll_next_unpin(cx));
        Poll::Ready(next.map(|bytes| {
            raw.reader.codec.decode(&bytes?).map_err(|error| {
                raw.failed = true;
                error.into()
            })
        }))
    }
}
