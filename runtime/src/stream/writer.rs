//! Writing a body.

use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use callosum_proto::WriteError;
use futures_io::AsyncWrite;
use futures_util::Sink;
use serde::Serialize;

use super::BodyError;
use super::call_streams::CallStreams;
use crate::Codec;

/// Bytes that one `poll_write` takes at the most.
const MAX_WRITE: usize = 64 * 1024;

/// Writes an argument or a result.
///
/// It is an [`AsyncWrite`], whose errors contain a [`BodyError`]; closing it finishes the body. At most
/// [`Limits::stream_buffer`](crate::Limits::stream_buffer) bytes and one piece wait here; past that, writing waits
/// until the other side grants credit.
///
/// # Cancel safety
/// [`write_bytes`](Self::write_bytes), [`write_item`](Self::write_item), [`write_raw_item`](Self::write_raw_item) and
/// [`end_item`](Self::end_item) can be dropped while they wait; they have then written nothing. If the writer of an
/// argument is dropped without [`finish`](Self::finish), the reader gets an error: the argument is incomplete.
///
/// A handler that has finished its result may read on; the call ends when the handler ends.
///
/// The writer of a result may be dropped at any time: the result consists of the bytes written until its handler ends.
/// If a handler ends without an error while another task still holds its unfinished writer, the call fails with the
/// name `UnfinishedResult`.
///
/// # Errors
/// After the call has failed, writing fails with [`BodyError::Call`] and the reason.
pub struct BodyWriter {
    streams: Arc<CallStreams>,
    finished: bool,
    codec: Codec,
}

impl std::fmt::Debug for BodyWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyWriter").field("finished", &self.finished).finish_non_exhaustive()
    }
}

impl BodyWriter {
    pub(crate) fn new(streams: Arc<CallStreams>, codec: Codec) -> Self {
        Self { streams, finished: false, codec }
    }

    fn poll_ready_to_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        match self.finished {
            true => Poll::Ready(Err(WriteError::Finished.into())),
            false => self.streams.poll_room(cx),
        }
    }

    /// Waits until there is room, and says for how many bytes. What is written next does not wait: for those that take what they
    /// write from somewhere only when it can go on.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// If the reader has stopped, or the call has ended.
    pub async fn room(&mut self) -> Result<usize, BodyError> {
        poll_fn(|cx| self.poll_ready_to_write(cx)).await
    }

    /// Writes bytes without copying them, once there is room.
    ///
    /// # Errors
    /// As [`room`](Self::room).
    pub async fn write_bytes(&mut self, bytes: Bytes) -> Result<(), BodyError> {
        self.room().await?;
        self.streams.write(bytes, false)
    }

    /// Writes an item of a typed stream, once there is room.
    ///
    /// # Errors
    /// As [`write_bytes`](Self::write_bytes), or if it can't be serialized, or with [`BodyError::ItemTooLarge`] if it is
    /// larger than the other side's [`Limits::max_body`](crate::Limits::max_body). None of it is written then, and
    /// other items can be. That limit is not known before there is a connection: an item over it fails its reader.
    pub async fn write_item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), BodyError> {
        let bytes = self.codec.encode(item)?;
        self.write_raw_item(bytes).await
    }

    /// Writes an item as bytes, for formats that are not `serde`'s, once there is room.
    ///
    /// # Errors
    /// As [`write_bytes`](Self::write_bytes), or with [`BodyError::ItemTooLarge`] as [`write_item`](Self::write_item).
    pub async fn write_raw_item(&mut self, item: Bytes) -> Result<(), BodyError> {
        self.room().await?;
        self.streams.write_item(item)
    }

    /// Ends an item of a stream that is written as bytes, once there is room. The item is what was written since the last one ended,
    /// which may be nothing.
    ///
    /// # Errors
    /// As [`write_bytes`](Self::write_bytes).
    pub async fn end_item(&mut self) -> Result<(), BodyError> {
        self.room().await?;
        self.streams.write(Bytes::new(), true)
    }

    /// Uses another codec for items.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// A sink of typed items, which fails as [`write_item`](Self::write_item) does. Closing it finishes the body.
    pub fn items<T: Serialize>(self) -> ItemSink<T> {
        ItemSink { writer: self, item: PhantomData }
    }

    /// Completes the body. The bytes that were written are still sent; [`acknowledged`](Self::acknowledged) waits until
    /// they are read.
    ///
    /// # Errors
    /// If the reader has stopped, or the call has ended.
    pub fn finish(&mut self) -> Result<(), BodyError> {
        if !self.finished {
            self.streams.finish()?;
            self.finished = true;
            self.streams.set_writing(false);
        }
        Ok(())
    }

    /// Aborts the body: the reader gets an error at once, and bytes that have not been sent are dropped. Does nothing
    /// after [`finish`](Self::finish), or if the call has ended.
    ///
    /// The reader of an argument gets a [`ReadError::Aborted`](callosum_proto::ReadError::Aborted). Aborting a result
    /// ends the call as a failure: its caller gets a [`CallError::Remote`](crate::CallError::Remote) named
    /// `AbortedResult`, the rest of the argument is not read, and the output of the handler is dropped. The handler
    /// goes on until it ends: only the end of its connection or of the endpoint stops it, not its caller or the
    /// execution timeout.
    pub fn abort(self) {
        if !self.finished {
            self.streams.abort();
        }
    }

    /// Cancels the call whose argument this is, as dropping its [`Answer`](super::Answer) does before the result begins: the
    /// handler is stopped, also if it reads nothing, or has finished its result. [`abort`](Self::abort) only fails the
    /// argument, which a handler notices when it reads. Does nothing if the call has ended, or if its result has arrived and
    /// its argument was [finished](Self::finish). Cancelling a result is the same as aborting it.
    ///
    /// On this side the call ends with [`CallError::Cancelled`](crate::CallError::Cancelled), which its answer or the reader of its
    /// result returns.
    pub fn cancel(self) {
        match self.streams.is_ours() {
            true => self.streams.stop(),
            false => self.abort(),
        }
    }

    /// Waits until the reader has stopped, the call was cancelled or has ended, or the connection has ended, and
    /// returns the reason. Writing fails from then on. Use it while there is nothing to write.
    ///
    /// Cancel safe. Finishing the body on this side does not end it.
    pub async fn closed(&mut self) -> BodyError {
        poll_fn(|cx| self.streams.poll_closed(cx)).await
    }

    /// Waits until the other side's application has read everything that was written; returns the number of bytes.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// If the reader stops, or the call ends before. A call has ended when its result has arrived and its argument has
    /// been sent: wait for this before the other side answers, or wait for the answer instead.
    pub async fn acknowledged(&mut self) -> Result<u64, BodyError> {
        poll_fn(|cx| self.streams.poll_acknowledged(cx)).await
    }

    /// Bytes that the other side's application has read so far. Never waits.
    ///
    /// # Errors
    /// If the reader has stopped, or the call has ended.
    pub fn consumed(&self) -> Result<u64, BodyError> {
        Ok(self.streams.acknowledged()?)
    }
}

impl AsyncWrite for BodyWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let room = ready!(this.poll_ready_to_write(cx))?;
        let n = buf.len().min(room).min(MAX_WRITE);
        this.streams.write(Bytes::copy_from_slice(&buf[..n]), false)?;
        Poll::Ready(Ok(n))
    }

    /// Everything that was written is on its way as soon as there is credit.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(self.get_mut().finish()?))
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        match self.streams.is_ours() && !self.finished {
            true => self.streams.abort(),
            false => self.streams.set_writing(false),
        }
    }
}

/// A sink of the items of a typed stream. See [`BodyWriter::items`].
#[derive(Debug)]
pub struct ItemSink<T> {
    writer: BodyWriter,
    item: PhantomData<fn(T)>,
}

impl<T> ItemSink<T> {
    /// The writer, to wait for [acknowledgement](BodyWriter::acknowledged).
    pub fn into_writer(self) -> BodyWriter {
        self.writer
    }
}

impl<T: Serialize> Sink<T> for ItemSink<T> {
    type Error = BodyError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.get_mut().writer.poll_ready_to_write(cx).map_ok(|_| ())
    }

    fn start_send(self: Pin<&mut Self>, item: T) -> Result<(), BodyError> {
        let writer = &self.get_mut().writer;
        writer.streams.write_item(writer.codec.encode(&item)?)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        Poll::Ready(self.get_mut().writer.finish())
    }
}
