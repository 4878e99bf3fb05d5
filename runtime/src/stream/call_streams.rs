//! The two streams of one call, from either end, as its reader and its writer share them.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use callosum_proto::{
    Acknowledged, ErrorInfo, Read, ReadError, Refusal, Reply, SendStream, StreamId, WriteError,
};

use super::BodyError;
use super::shared::{Head, Shared};
use crate::error::CallError;
use crate::loan::Loan;
use crate::lock::guarded;
use crate::peer::PeerShared;
use crate::stats::add;

/// A call's streams. Dropping the last of its users ends the call, if it is one of ours and has not ended.
pub(crate) struct CallStreams {
    peer: Arc<PeerShared>,
    id: StreamId,
    shared: Arc<Shared>,
    /// The place of the handler that made the call, while others may have it.
    _loan: Option<Loan>,
}

impl CallStreams {
    pub(crate) fn new(peer: Arc<PeerShared>, id: StreamId, shared: Arc<Shared>, loan: Option<Loan>) -> Self {
        Self { peer, id, shared, _loan: loan }
    }

    pub(crate) fn peer(&self) -> &Arc<PeerShared> {
        &self.peer
    }

    pub(crate) fn id(&self) -> StreamId {
        self.id
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

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Result<Read, BodyError>> {
        self.shared.watch_reader(cx);
        let read = {
            let mut state = self.peer.lock();
            match state.knows(self.id) {
                true => state.connection.recv_stream(self.id).read(self.peer.core.now()),
                false => Err(ReadError::NotOpen),
            }
        };
        match read {
            Ok(Read::Pending) => Poll::Pending,
            Ok(read) => {
                // There may be credit to give.
                self.peer.wake();
                Poll::Ready(Ok(read))
            }
            Err(ReadError::NotOpen) => match self.shared.next_of_rest() {
                Some(read) => Poll::Ready(Ok(read)),
                None if self.is_ending() => Poll::Pending,
                None => Poll::Ready(Err(self.failure())),
            },
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    fn failure(&self) -> BodyError {
        self.shared.failure().map_or(BodyError::Read(ReadError::NotOpen), BodyError::Call)
    }

    /// A call of ours that the connection does not know any more has ended, but how has not been said yet.
    fn is_ending(&self) -> bool {
        matches!(self.id, StreamId::Call(_)) && !self.shared.has_ended()
    }

    /// What `error` really means: why the call has ended, if it has.
    fn explain(&self, error: WriteError) -> BodyError {
        match error {
            WriteError::NotOpen => self.shared.failure().map_or(error.into(), BodyError::Call),
            error => error.into(),
        }
    }

    /// Waits for room; how many bytes.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        self.shared.watch_writer(cx);
        let room = {
            let mut state = self.peer.lock();
            match state.knows(self.id) {
                true => state.connection.send_stream(self.id).room(),
                false => Err(WriteError::NotOpen),
            }
        };
        match room {
            Ok(0) => Poll::Pending,
            Err(WriteError::NotOpen) if self.is_ending() => Poll::Pending,
            room => Poll::Ready(room.map_err(|error| self.explain(error))),
        }
    }

    pub(crate) fn write(&self, bytes: Bytes, end_of_item: bool) -> Result<(), BodyError> {
        let bytes = guarded(bytes);
        self.change(|stream| stream.write(bytes, end_of_item)).map_err(|error| self.explain(error))
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
        self.change(|stream| stream.finish()).map_err(|error| self.explain(error))
    }

    fn change(
        &self,
        change: impl FnOnce(&mut SendStream<'_>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        {
            let mut state = self.peer.lock();
            if !state.knows(self.id) {
                return Err(WriteError::NotOpen);
            }
            change(&mut state.connection.send_stream(self.id))?;
        }
        self.peer.wake();
        Ok(())
    }

    /// Waits for the reader to have taken everything that was written.
    pub(crate) fn poll_acknowledged(&self, cx: &mut Context<'_>) -> Poll<Result<u64, BodyError>> {
        self.shared.watch_writer(cx);
        let acknowledged = {
            let mut state = self.peer.lock();
            match state.knows(self.id) {
                true => state.connection.send_stream(self.id).acknowledged(),
                false => Err(WriteError::NotOpen),
            }
        };
        match acknowledged {
            Ok(Acknowledged { written, consumed }) if written == consumed => Poll::Ready(Ok(consumed)),
            Ok(_) => Poll::Pending,
            Err(WriteError::NotOpen) if self.is_ending() => Poll::Pending,
            Err(error) => Poll::Ready(Err(self.explain(error))),
        }
    }

    /// Bytes that were written and that the reader has taken.
    pub(crate) fn acknowledged(&self) -> Result<Acknowledged, WriteError> {
        let mut state = self.peer.lock();
        match state.knows(self.id) {
            true => state.connection.send_stream(self.id).acknowledged(),
            false => Err(WriteError::NotOpen),
        }
    }

    /// Waits until nobody reads what is written, and says why.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<BodyError> {
        self.shared.watch_writer(cx);
        match self.acknowledged() {
            // A result whose handler has ended may still be leaving, and then nobody hears of its end.
            Ok(_) if self.shared.has_ended() => Poll::Ready(self.explain(WriteError::NotOpen)),
            Ok(_) => Poll::Pending,
            Err(WriteError::NotOpen) if self.is_ending() => Poll::Pending,
            Err(error) => Poll::Ready(self.explain(error)),
        }
    }

    /// What is written is incomplete and will stay so: the reader is told now.
    pub(crate) fn abort(&self) {
        match self.id {
            StreamId::Call(_) => self.peer.lock().connection.send_stream(self.id).abort(),
            StreamId::Request(request) => {
                let mut state = self.peer.lock();
                if !state.knows(self.id) {
                    return;
                }
                // It has begun, so its order has come. It may have been answered, and then nothing happens.
                let failure = ErrorInfo::new("AbortedResult", "the handler could not complete its result");
                let aborted = state.connection.reply(request, Reply::Failure(failure));
                drop(state);
                if aborted.is_ok() {
                    self.shared.end(Ok(())).wake();
                }
            }
        }
        self.peer.wake();
    }

    /// Nobody reads on.
    pub(crate) fn stop(&self) {
        match self.id {
            StreamId::Call(_) => self.abandon(),
            StreamId::Request(_) => {
                let mut state = self.peer.lock();
                if state.knows(self.id) {
                    state.connection.recv_stream(self.id).stop();
                }
            }
        }
        self.peer.wake();
    }

    /// Ends a call of ours that has not ended.
    fn abandon(&self) {
        let StreamId::Call(call) = self.id else { return };
        let abandoned = {
            let mut state = self.peer.lock();
            let abandoned = state.connection.abandon(call);
            state.connection.recv_stream(self.id).stop();
            abandoned
        };
        if abandoned {
            add(&self.peer.counters.calls_failed, 1);
            self.peer.wake();
        }
        if !self.shared.has_ended() {
            self.shared.end(Err(CallError::Cancelled)).wake();
        }
    }

    /// Has what is left of the stream reassembled.
    fn start_reassembly(&self) -> Result<(), BodyError> {
        let started = {
            let mut state = self.peer.lock();
            match state.knows(self.id) {
                true => state.connection.recv_stream(self.id).reassemble(),
                false => Err(ReadError::NotOpen),
            }
        };
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
            // Of a call of ours, what the call came to says more.
            return Poll::Ready(
                body.map_err(|error| self.shared.failure().map_or(error.into(), BodyError::Call)),
            );
        }
        if let Some(rest) = self.shared.all_of_rest() {
            return Poll::Ready(Ok(rest));
        }
        match self.shared.failure() {
            Some(error) => Poll::Ready(Err(error.into())),
            // Of a call of ours, which has been answered, what is reassembled still comes. What is left of the argument of a
            // request is dropped with the answer.
            None if self.shared.has_ended() && matches!(self.id, StreamId::Request(_)) => {
                Poll::Ready(Err(self.failure()))
            }
            None => Poll::Pending,
        }
    }

    pub(crate) fn set_writing(&self, writing: bool) {
        self.shared.set_writing(writing);
    }

    /// What is left of the stream, as one body.
    ///
    /// Cancel safe in that dropping the streams gives the memory back.
    pub(crate) async fn reassemble(&self) -> Result<Bytes, BodyError> {
        self.start_reassembly()?;
        poll_fn(|cx| self.poll_reassembled(cx)).await
    }
}

/// What the caller is told of an argument that could not be reassembled. No handler has seen it.
pub(crate) fn incomplete(error: &BodyError) -> Reply {
    let refusal = match error {
        BodyError::Read(ReadError::TooLarge { .. }) => Refusal::BodyTooLarge,
        _ => Refusal::MalformedBody,
    };
    Reply::Error(refusal.to_error(&error.to_string()))
}

impl Drop for CallStreams {
    fn drop(&mut self) {
        match self.id {
            StreamId::Call(_) => self.abandon(),
            // What is left of an argument holds credit that others need.
            StreamId::Request(_) => self.stop(),
        }
        self.peer.lock().forget_streams(self.id, &self.shared);
    }
}
