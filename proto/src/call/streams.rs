//! The streams of calls: the handles with which the host reads and writes them, and the functions of
//! [`Calls`] that open, stop and drop their halves.

use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;

use super::reassembly::reassembly_size;
use super::table::{OpenCall, ResultState, State, Writer};
use super::{Calls, Deadline};
use crate::event::Event;
use crate::ids::StreamId;
use crate::send::Control;
use crate::stream::{Chunk, Flow, Next, ReadError, RecvHalf, SendHalf, WriteError};
use crate::wire::Record;

/// The half of a call's stream that this side reads, from
/// [`Connection::recv_stream`](crate::Connection::recv_stream).
#[derive(Debug)]
pub struct RecvStream<'a> {
    pub(super) calls: &'a mut Calls,
    pub(super) id: StreamId,
    pub(super) open: bool,
}

/// The half of a call's stream that this side writes, from
/// [`Connection::send_stream`](crate::Connection::send_stream).
#[derive(Debug)]
pub struct SendStream<'a> {
    pub(super) calls: &'a mut Calls,
    pub(super) id: StreamId,
}

impl RecvStream<'_> {
    /// Reads the next part, which grants the peer more credit. Ready with `None` at the end of the stream.
    /// Pending if there is nothing to read yet: [`Event::Readable`] reports when there is.
    ///
    /// # Errors
    /// [`ReadError::NotOpen`] if there is no such stream, or it is reassembled or stopped; any other error if
    /// the stream can't be read to its end. Unread bytes are lost then.
    pub fn read(&mut self, now: Instant) -> Result<Poll<Option<Chunk>>, ReadError> {
        let (calls, id) = (&mut *self.calls, self.id);
        let half = calls.readable(id)?;
        let next = half.next()?;
        calls.open_window(id);
        match next {
            Next::Chunk(chunk, cost) => {
                calls.flow.consume(cost);
                // Sent with the next message, so that several reads share one CREDIT.
                calls.credits.insert(id);
                Ok(Poll::Ready(Some(chunk)))
            }
            Next::End => {
                // Not through `credits`: the call may be gone when these are sent.
                if self.open
                    && let Some(credit) = calls.credit_of(id, now)
                {
                    calls.queue.push_control(Control::Record(credit));
                }
                calls.stream_read(id);
                Ok(Poll::Ready(None))
            }
            Next::Pending => Ok(Poll::Pending),
        }
    }

    /// Bytes that have arrived and can be read; 0 if there is no such stream, or it can't be read.
    pub fn unread(&mut self) -> u64 {
        self.calls.readable(self.id).map_or(0, |half| half.unread())
    }

    /// Reassembles the rest of the stream to one body of at most
    /// [`max_body`](crate::ConnectionConfig::max_body) bytes, which [`Event::Reassembled`] delivers. The body
    /// waits until the endpoint assigns memory. From then on, it must be complete within 30 s, plus 1 s for
    /// every 64 KiB. If that fails for a result, its call ends.
    ///
    /// # Errors
    /// [`ReadError::NotOpen`] if there is no such stream, or it is already reassembled, or stopped.
    pub fn reassemble(&mut self) -> Result<(), ReadError> {
        let limit = self.calls.config.max_body;
        let (calls, id) = (&mut *self.calls, self.id);
        let half = calls.readable(id)?;
        if half.is_reassembled() || half.failure() == Some(ReadError::NotOpen) {
            return Err(ReadError::NotOpen);
        }
        let bytes = reassembly_size(half, limit);
        if self.open {
            calls.want_memory(id, bytes);
        } else {
            // The connection has ended: all bytes are here, and the endpoint no longer counts them.
            calls.await_memory(id);
            calls.reassemble_now(id);
            calls.spares.clear();
        }
        Ok(())
    }

    /// Stops reading an argument: the writer gets a STOP. Ignored if there is no such stream. A result that
    /// has arrived completely counts as read: its call ends once the argument has been sent.
    ///
    /// If a result has not arrived completely, [abandon](crate::Connection::abandon) its call instead: `stop`
    /// drops its bytes, but does not end the call.
    pub fn stop(&mut self) {
        let (calls, id) = (&mut *self.calls, self.id);
        let Some(call) = calls.table.get(id).filter(|call| call.is_readable()) else { return };
        if let State::Unread { number, .. } = call.state {
            calls.drop_call(id);
            if self.open {
                // F-8: the handler may wait until its result has been read.
                calls.queue.push_control(Control::Record(Record::Cancel { call: number }));
            }
            return;
        }
        let is_complete =
            calls.table.get_mut(id).and_then(OpenCall::receiver).is_some_and(|half| half.is_complete());
        calls.stop_reading(id);
        if let (StreamId::Call(call), true) = (id, is_complete) {
            calls.stream_read(id);
            calls.end_if_complete(call);
        }
    }
}

impl SendStream<'_> {
    /// Bytes that fit into the buffer now. If 0, [`Event::Writable`] reports when there is room.
    ///
    /// # Errors
    /// [`WriteError::NotOpen`], [`WriteError::Finished`] or [`WriteError::Stopped`].
    pub fn room(&mut self) -> Result<usize, WriteError> {
        // With a buffer of 0, no write would ever be accepted.
        let buffer = self.calls.config.stream_buffer.max(1);
        let half = self.half()?;
        let room = buffer.saturating_sub(half.buffered());
        half.awaits_room |= room == 0;
        Ok(room)
    }

    /// Appends bytes to the stream; if `end_of_item`, an item ends with them. All bytes are accepted if there
    /// is any [room](Self::room).
    ///
    /// # Errors
    /// [`WriteError::Full`] if there is no room at all; otherwise as [`room`](Self::room). Nothing is
    /// written.
    pub fn write(&mut self, bytes: Bytes, end_of_item: bool) -> Result<(), WriteError> {
        if self.room()? == 0 {
            return Err(WriteError::Full);
        }
        self.half()?.push(bytes, end_of_item);
        self.calls.schedule(self.id);
        Ok(())
    }

    /// Completes the stream. The argument of a request can still be read after its result is finished: the
    /// request is answered only by [`Reply::End`](crate::Reply::End).
    ///
    /// # Errors
    /// As [`room`](Self::room).
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.half()?.finish();
        self.calls.schedule(self.id);
        Ok(())
    }

    /// Aborts the argument of a call of this side: its reader gets [`ReadError::Aborted`]. Ignored after
    /// [`finish`](Self::finish), and for a result, which fails with a [reply](crate::Reply::Failure) instead.
    pub fn abort(&mut self) {
        let StreamId::Call(call) = self.id else { return };
        let Some(open) = self.calls.table.get_mut(self.id) else { return };
        if open.sender().is_none_or(|half| half.is_finished()) {
            return;
        }
        let number = open.number();
        self.calls.drop_writer(self.id);
        if let Some(call) = number {
            self.calls.queue.push_control(Control::Record(Record::Abort { call }));
        }
        // if the result has arrived, only the argument has kept the call open.
        self.calls.end_if_complete(call);
    }

    /// Bytes written so far.
    ///
    /// # Errors
    /// [`WriteError::Stopped`] if the reader has stopped, [`WriteError::NotOpen`] if the call has ended.
    pub fn written(&mut self) -> Result<u64, WriteError> {
        Ok(self.any_half()?.written())
    }

    /// Bytes that the remote application has read. [`Event::Writable`] reports when it has read more.
    ///
    /// # Errors
    /// [`WriteError::Stopped`] if the reader has stopped, [`WriteError::NotOpen`] if the call has ended.
    pub fn acknowledged(&mut self) -> Result<u64, WriteError> {
        let half = self.any_half()?;
        let consumed = half.acknowledged();
        half.awaits_credit |= consumed < half.written();
        Ok(consumed)
    }

    fn half(&mut self) -> Result<&mut SendHalf, WriteError> {
        match self.any_half()? {
            half if half.is_finished() => Err(WriteError::Finished),
            half => Ok(half),
        }
    }

    fn any_half(&mut self) -> Result<&mut SendHalf, WriteError> {
        let call = self.calls.table.get_mut(self.id).ok_or(WriteError::NotOpen)?;
        match call.writer() {
            Some(Writer::Open(half)) => Ok(half),
            Some(Writer::Stopped) => Err(WriteError::Stopped),
            Some(Writer::Closed) | None => Err(WriteError::NotOpen),
        }
    }
}

impl Calls {
    /// The half of a stream that the host may read.
    fn readable(&mut self, id: StreamId) -> Result<&mut RecvHalf, ReadError> {
        let call = self.table.get_mut(id).filter(|call| call.is_readable());
        call.and_then(OpenCall::receiver).ok_or(ReadError::NotOpen)
    }

    /// Widens the window of a stream that is read (F-6).
    fn open_window(&mut self, id: StreamId) {
        let Some(half) = self.table.get_mut(id).and_then(OpenCall::receiver) else { return };
        if half.has_used_its_window() && half.open_window(self.config.stream_window, &mut self.flow) {
            self.credits.insert(id);
        }
    }

    pub(crate) fn recv_stream(&mut self, id: StreamId, open: bool) -> RecvStream<'_> {
        RecvStream { calls: self, id, open }
    }

    pub(crate) fn send_stream(&mut self, id: StreamId) -> SendStream<'_> {
        SendStream { calls: self, id }
    }

    /// Queues a stream to send, if it has something to send and credit for it.
    pub(super) fn schedule(&mut self, id: StreamId) {
        let Some(call) = self.table.get_mut(id) else { return };
        let urgency = call.urgency;
        if let Some(half) = call.sender() {
            self.streams.enqueue(id, urgency, half);
        }
    }

    /// Drops the sending half of a stream.
    fn drop_writer(&mut self, id: StreamId) {
        let Some(call) = self.table.get_mut(id) else { return };
        let urgency = call.urgency;
        if let Some(half) = call.writer().and_then(Writer::take) {
            self.release_sender(id, urgency, &half);
        }
    }

    pub(super) fn release_sender(&mut self, id: StreamId, urgency: crate::Urgency, half: &SendHalf) {
        self.streams.remove(urgency, half);
        *self.bodies.of(id) -= half.body_left();
    }

    /// Drops the unread bytes of a stream, and returns the credit and the allowance that it uses.
    pub(super) fn release_receiver(flow: &mut Flow, half: &mut RecvHalf, error: ReadError) {
        let freed = half.fail(error);
        flow.consume(freed);
        half.return_growth(flow);
    }

    /// Removes a call from the table, with its number and timers, and frees what its streams hold. Queues the
    /// replies that wait for its reply.
    pub(super) fn drop_call(&mut self, id: StreamId) {
        let Some(call) = self.table.get_mut(id) else { return };
        let (urgency, led) = (call.urgency, call.leads());
        // A stale timer would withdraw nothing, but would wake the host.
        match id {
            StreamId::Call(id) => {
                self.deadlines.stop(call.deadline, Deadline::Call(id));
                if let State::Sent { number, .. } = call.state {
                    self.numbers.end(number);
                }
            }
            StreamId::Request(id) => {
                self.deadlines.stop(call.deadline, Deadline::Caller(id));
                if let State::Request(state) = &call.state {
                    self.deadlines.stop(state.execution_deadline, Deadline::Execution(id));
                }
            }
        }
        // The common case: no stream is being read, so there is nothing to search.
        if !self.credits.is_empty() {
            self.credits.remove(&id);
        }
        let mut needed_memory = false;
        if let Some(half) = call.receiver() {
            self.deadlines.stop(half.deadline, Deadline::Reassembly(id));
            needed_memory = half.is_reassembled();
            Self::release_receiver(&mut self.flow, half, ReadError::NotOpen);
        }
        if let Some(half) = call.sender() {
            self.streams.remove(urgency, half);
            *self.bodies.of(id) -= half.body_left();
        }
        self.table.discard(id);
        if needed_memory {
            self.memory_freed(id);
        }
        if let Some((key, number)) = led {
            self.leave_gate(&key, number);
        }
    }

    /// The reader has stopped: drops the sending half, and tells the writer.
    pub(super) fn stop_sending(&mut self, id: StreamId) {
        let Some(call) = self.table.get_mut(id) else { return };
        let urgency = call.urgency;
        let Some(writer) = call.writer() else { return };
        let Writer::Open(half) = std::mem::replace(writer, Writer::Stopped) else { return };
        self.release_sender(id, urgency, &half);
        // A writer that waits for room or acknowledgements would otherwise wait for ever. A body has none.
        if !half.fixed_length {
            self.events.push_back(Event::Writable(id));
        }
        if let StreamId::Call(call) = id {
            self.end_if_complete(call);
        }
    }

    /// A stream has been read to its end.
    pub(super) fn stream_read(&mut self, id: StreamId) {
        let Some(call) = self.table.get_mut(id) else { return };
        match &mut call.state {
            State::Unread { .. } => self.drop_call(id),
            // The call goes on until its argument has been sent.
            State::Sent { result: ResultState::Begun(half), .. } => {
                if let Some(mut half) = half.take() {
                    Self::release_receiver(&mut self.flow, &mut half, ReadError::NotOpen);
                }
            }
            // The handler may go on for long, and other streams could use the allowance meanwhile.
            State::Request(state) => {
                if let Some(half) = &mut state.argument {
                    half.return_growth(&mut self.flow);
                }
            }
            _ => {}
        }
    }

    /// Stops reading a stream. Sends a STOP for an argument that has not arrived completely.
    pub(super) fn stop_reading(&mut self, id: StreamId) {
        let Some(call) = self.table.get_mut(id) else { return };
        let number = call.number();
        let Some(half) = call.receiver() else { return };
        self.deadlines.stop(half.deadline.take(), Deadline::Reassembly(id));
        // A writer that has aborted needs no STOP; one whose stream failed on this side does.
        let ended = matches!(half.failure(), Some(ReadError::Aborted | ReadError::NotOpen));
        let unread = !half.is_complete() && !ended;
        let was_reassembled = half.is_reassembled();
        let freed = half.stop();
        self.flow.consume(freed);
        half.return_growth(&mut self.flow);
        if was_reassembled {
            self.memory_freed(id);
        }
        // only a responder sends STOP. A requester cancels the call instead.
        if let (StreamId::Request(_), Some(call), true) = (id, number, unread) {
            self.queue.push_control(Control::Record(Record::Stop { call }));
        }
    }

    /// The CREDIT for a stream, if one is due.
    pub(super) fn credit_of(&mut self, id: StreamId, now: Instant) -> Option<Record> {
        let call = self.table.get_mut(id)?;
        let number = call.number()?;
        let (consumed, limit) = call.receiver()?.credit_due(now, &mut self.flow)?;
        Some(Record::Credit { call: number, consumed, limit })
    }

    /// The initial credit that the peer grants to each stream.
    pub(super) fn stream_limit(&self) -> u64 {
        self.peer.and_then(|peer| peer.credit).map_or(0, |credit| credit.stream)
    }
}
