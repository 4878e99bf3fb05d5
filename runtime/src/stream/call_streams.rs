//! The two streams of one call, from either end, as its reader and its writer share them.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use callosum_proto::{Chunk, ErrorInfo, ReadError, RecvStream, Reply, SendStream, StreamId, WriteError};

use super::BodyError;
use super::shared::{Head, Shared};
use crate::error::CallError;
use crate::loan::Loan;
use crate::lock::guarded;
use crate::peer::PeerShared;

/// A call's streams. Dropping the last of its users ends the call, if it is one of ours and has not ended.
pub(crate) struct CallStreams {
    peer: Arc<PeerShared>,
    shared: Arc<Shared>,
    /// The place of the handler that made the call, while others may have it.
    _loan: Option<Loan>,
}

impl CallStreams {
    pub(crate) fn new(peer: Arc<PeerShared>, shared: Arc<Shared>, loan: Option<Loan>) -> Self {
        Self { peer, shared, _loan: loan }
    }

    pub(crate) fn peer(&self) -> &Arc<PeerShared> {
        &self.peer
    }

    /// Whether it is a call that this side made, or is about to make.
    pub(crate) fn is_ours(&self) -> bool {
        self.shared.id().is_none_or(|id| matches!(id, StreamId::Call(_)))
    }

    /// Does something to the stream that is read, unless the call is not made yet or its connection is gone.
    fn reading<T>(
        &self,
        read: impl FnOnce(&mut RecvStream<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let id = self.shared.id().ok_or(ReadError::NotOpen)?;
        let mut state = self.peer.lock();
        match state.knows(id) {
            true => read(&mut state.connection.recv_stream(id)),
            false => Err(ReadError::NotOpen),
        }
    }

    /// The same for the stream that is written.
    fn writing<T>(
        &self,
        write: impl FnOnce(&mut SendStream<'_>) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let id = self.shared.id().ok_or(WriteError::NotOpen)?;
        let mut state = self.peer.lock();
        match state.knows(id) {
            true => write(&mut state.connection.send_stream(id)),
            false => Err(WriteError::NotOpen),
        }
    }

    /// How the result begins, or why it does not.
    pub(crate) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Head, CallError>> {
        self.shared.watch_reader(cx);
        let head = self.shared.take_head();
        match (head, self.shared.failure()) {
            (Some(head), _) => Poll::Ready(Ok(head)),
            (None, Some(error)) => Poll::Ready(Err(error)),
            (None, None) => Poll::Pending,
        }
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        self.shared.watch_reader(cx);
        let read = self.reading(|stream| {
            let read = stream.read(self.peer.core.now())?;
            if let Poll::Ready(Some(chunk)) = &read {
                self.shared.count_read(&chunk.bytes);
            }
            Ok(read)
        });
        match read {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(chunk)) => {
                // There may be credit to give.
                self.peer.wake();
                Poll::Ready(Ok(chunk))
            }
            Err(ReadError::NotOpen) => match self.shared.next_of_rest() {
                Some(chunk) => Poll::Ready(Ok(chunk)),
                None if self.is_ending() => Poll::Pending,
                None => Poll::Ready(Err(self.failure())),
            },
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    fn failure(&self) -> BodyError {
        self.shared.failure().map_or(BodyError::Read(ReadError::NotOpen), BodyError::Call)
    }

    /// A call of ours that the connection does not know is not made yet, or has ended, but how has not been said.
    fn is_ending(&self) -> bool {
        self.is_ours() && !self.shared.has_ended()
    }

    /// The cause of `error`: why the call has ended, if it has.
    fn explain(&self, error: WriteError) -> BodyError {
        match error {
            WriteError::NotOpen => self.shared.failure().map_or(error.into(), BodyError::Call),
            error => error.into(),
        }
    }

    /// Waits for room; how many bytes.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        self.shared.watch_writer(cx);
        match self.writing(|stream| stream.room()) {
            Ok(0) => Poll::Pending,
            Err(WriteError::NotOpen) if self.is_ending() => Poll::Pending,
            room => Poll::Ready(room.map_err(|error| self.explain(error))),
        }
    }

    pub(crate) fn write(&self, bytes: Bytes, end_of_item: bool) -> Result<(), BodyError> {
        let (size, bytes) = (bytes.len(), guarded(bytes));
        let written = self.change(|stream| {
            stream.write(bytes, end_of_item)?;
            self.shared.count_written(size);
            Ok(())
        });
        written.map_err(|error| self.explain(error))
    }

    /// Writes an item, unless the peer has said that it reads none of that size.
    pub(crate) fn write_item(&self, bytes: Bytes) -> Result<(), BodyError> {
        let (size, limit) = (bytes.len(), self.peer.lock().largest_body());
        match limit {
            Some(limit) if size > limit => Err(BodyError::ItemTooLarge { size, limit }),
            _ => self.write(bytes, true),
        }
    }

    pub(crate) fn finish(&self) -> Result<(), BodyError> {
        if self.is_ending() && self.shared.finish_early() {
            return Ok(());
        }
        self.change(|stream| stream.finish()).map_err(|error| self.explain(error))
    }

    fn change(
        &self,
        change: impl FnOnce(&mut SendStream<'_>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        self.writing(change)?;
        self.peer.wake();
        Ok(())
    }

    /// Waits for the reader to have taken everything that was written.
    pub(crate) fn poll_acknowledged(&self, cx: &mut Context<'_>) -> Poll<Result<u64, BodyError>> {
        self.shared.watch_writer(cx);
        match self.writing(|stream| Ok((stream.written()?, stream.acknowledged()?))) {
            Ok((written, consumed)) if written == consumed => Poll::Ready(Ok(consumed)),
            Ok(_) => Poll::Pending,
            Err(WriteError::NotOpen) if self.is_ending() => Poll::Pending,
            Err(error) => Poll::Ready(Err(self.explain(error))),
        }
    }

    /// Bytes that were written and that the reader has taken.
    pub(crate) fn acknowledged(&self) -> Result<u64, WriteError> {
        match self.shared.id() {
            None if !self.shared.has_ended() => Ok(0),
            _ => self.writing(|stream| stream.acknowledged()),
        }
    }

    /// Ready with the reason once the reader has closed the stream.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<BodyError> {
        self.shared.watch_writer(cx);
        match self.acknowledged() {
            // A result whose handler has ended may still be being sent, and its end is not reported here.
            Ok(_) if self.shared.has_ended() => Poll::Ready(self.explain(WriteError::NotOpen)),
            Ok(_) => Poll::Pending,
            Err(WriteError::NotOpen) if self.is_ending() => Poll::Pending,
            Err(error) => Poll::Ready(self.explain(error)),
        }
    }

    /// Resets the stream: what was written stays incomplete, and the reader gets an error at once.
    pub(crate) fn abort(&self) {
        match self.shared.id() {
            // There is no reader.
            None => self.give_up(),
            Some(id @ StreamId::Call(_)) => self.peer.lock().connection.send_stream(id).abort(),
            Some(id @ StreamId::Request(request)) => {
                let mut state = self.peer.lock();
                if !state.knows(id) {
                    return;
                }
                // It has begun, so its order allows a reply. If the request was answered already, this does nothing.
                let failure = ErrorInfo::new("AbortedResult", "the handler could not complete its result");
                let aborted = state.connection.reply(request, Reply::Failure(failure.into()));
                drop(state);
                if aborted.is_ok() {
                    self.shared.end(Ok(())).wake();
                }
            }
        }
        self.peer.wake();
    }

    /// The reader was dropped.
    pub(crate) fn stop(&self) {
        if self.is_ours() {
            self.give_up();
        } else {
            // Its connection may be gone.
            let _ = self.reading(|stream| {
                stream.stop();
                Ok(())
            });
        }
        self.peer.wake();
    }

    /// Ends a call of ours that has not ended, or is not made yet.
    fn give_up(&self) {
        if let Some(StreamId::Call(call)) = self.shared.id() {
            let abandoned = self.peer.abandon(call);
            // If the call has ended already, layers get its outcome instead.
            if abandoned || !self.shared.is_layered() {
                self.shared.end(Err(CallError::Cancelled)).wake();
            }
            return;
        }
        self.shared.end(Err(CallError::Cancelled)).wake();
        // It may have been made meanwhile. Then this sees that, or `Outcome::new` sees this end.
        if let Some(StreamId::Call(call)) = self.shared.id() {
            self.peer.abandon(call);
        }
    }

    /// Starts to reassemble the rest of the stream.
    fn start_reassembly(&self) -> Result<(), BodyError> {
        let started = self.reading(|stream| stream.reassemble());
        self.peer.wake();
        match started {
            Err(ReadError::NotOpen) if self.shared.has_rest() || self.is_ending() => Ok(()),
            Err(ReadError::NotOpen) => Err(self.failure()),
            other => Ok(other?),
        }
    }

    fn poll_reassembled(&self, cx: &mut Context<'_>) -> Poll<Result<Bytes, BodyError>> {
        self.shared.watch_reader(cx);
        let reassembled = self.shared.take_reassembled();
        if let Some(body) = reassembled {
            // For a call of ours, the outcome of the call is more precise.
            return Poll::Ready(
                body.map_err(|error| self.shared.failure().map_or(error.into(), BodyError::Call)),
            );
        }
        if let Some(rest) = self.shared.all_of_rest() {
            return Poll::Ready(Ok(rest));
        }
        match self.shared.failure() {
            Some(error) => Poll::Ready(Err(error.into())),
            // For an answered call of ours, the reassembled result still arrives. For a request, the unread rest of the argument is
            // dropped with the answer.
            None if self.shared.has_ended() && !self.is_ours() => Poll::Ready(Err(self.failure())),
            None => Poll::Pending,
        }
    }

    pub(crate) fn set_writing(&self, writing: bool) {
        self.shared.set_writing(writing);
    }

    /// The rest of the stream, as one body.
    ///
    /// Cancel safe in that dropping the streams gives the memory back.
    pub(crate) async fn reassemble(&self) -> Result<Bytes, BodyError> {
        self.start_reassembly()?;
        poll_fn(|cx| self.poll_reassembled(cx)).await
    }
}

impl Drop for CallStreams {
    fn drop(&mut self) {
        // The unread rest of an argument holds credit that other streams need.
        self.stop();
        if let Some(id) = self.shared.id() {
            self.peer.lock().forget_streams(id, &self.shared);
        }
    }
}
