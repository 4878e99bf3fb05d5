//! The streams of calls: the handles by which the host reads and writes them, and reassembly.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::table::{OpenCall, ResultState, Stage, State, Writer};
use super::{Calls, Deadline};
use crate::Metadata;
use crate::event::{Body, EndpointEvent, Event, Outcome};
use crate::ids::{CallId, RequestId, StreamId};
use crate::send::Control;
use crate::stream::{Acknowledged, Next, Read, ReadError, RecvHalf, SendHalf, WriteError};
use crate::wire::{DecodeError, Record};

/// How long a body may take to be complete, however small it is (PROTOCOL.md, F-7).
const REASSEMBLY_TIME: Duration = Duration::from_secs(30);

/// For each 64 KiB it may take a second more.
const SLOWEST: u64 = 64 * 1024;

/// The stream that this side reads of a call: see [`Connection::recv_stream`](crate::Connection::recv_stream).
#[derive(Debug)]
pub struct RecvStream<'a> {
    pub(super) calls: &'a mut Calls,
    pub(super) id: StreamId,
    pub(super) open: bool,
}

/// The stream that this side writes of a call: see [`Connection::send_stream`](crate::Connection::send_stream).
#[derive(Debug)]
pub struct SendStream<'a> {
    pub(super) calls: &'a mut Calls,
    pub(super) id: StreamId,
}

impl RecvStream<'_> {
    /// Takes the next part. That gives the peer credit for more.
    ///
    /// # Errors
    /// If there is no such stream, or it can't be read to its end. What was not read is lost.
    pub fn read(&mut self, now: Instant) -> Result<Read, ReadError> {
        let (calls, id) = (&mut *self.calls, self.id);
        let half = calls.readable(id)?;
        let next = half.next()?;
        calls.open_window(id);
        match next {
            Next::Chunk(chunk, cost) => {
                calls.flow.consume(cost);
                calls.credits.insert(id);
                Ok(Read::Chunk(chunk))
            }
            Next::End => {
                if self.open {
                    calls.acknowledge(id, now);
                }
                calls.result_read(id);
                Ok(Read::End)
            }
            Next::Pending => Ok(Read::Pending),
        }
    }

    /// Reassembles what is left of it to one body of at most [`max_body`](crate::ConnectionConfig::max_body) bytes;
    /// [`Event::Reassembled`] brings it. It waits for memory that the endpoint shares out, and then has 30 s to be complete, and a
    /// second more for every 64 KiB. If it fails and the call is one of ours, the call ends.
    ///
    /// # Errors
    /// [`ReadError::NotOpen`] if there is no such stream, it is reassembled already, or it was stopped.
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
            // All of it is here, and no endpoint counts it any more.
            calls.await_memory(id);
            calls.reassemble_now(id);
        }
        Ok(())
    }

    /// Nothing more of it is wanted: the writer is told. Ignored if there is no such stream.
    ///
    /// A result that has not come as a whole must be [abandoned](crate::Connection::abandon) with its call instead, which does not end
    /// otherwise.
    pub fn stop(&mut self) {
        let (calls, id) = (&mut *self.calls, self.id);
        let Some(call) = calls.table.get(&id).filter(|call| call.is_readable()) else { return };
        if let State::Unread { number, .. } = call.state {
            calls.drop_call(id);
            if self.open {
                // The writer may wait for it to be read (F-8).
                calls.queue.push_control(Control::Record(Record::Cancel { call: number }));
            }
            return;
        }
        calls.stop_reading(id);
    }
}

impl SendStream<'_> {
    /// Bytes that may be written now. 0 if there is no room; then [`Event::Writable`] tells when there is.
    ///
    /// # Errors
    /// If no more can be written.
    pub fn room(&mut self) -> Result<usize, WriteError> {
        let buffer = self.calls.config.stream_buffer.max(1);
        let half = self.half()?;
        let room = buffer.saturating_sub(half.queued());
        half.awaits_room |= room == 0;
        Ok(room)
    }

    /// Adds to the stream. An item ends with these bytes if `end_of_item`. Where there is any [room](Self::room), any number of
    /// bytes is taken.
    ///
    /// # Errors
    /// [`WriteError::Full`] if there is no room at all, or why no more can be written.
    pub fn write(&mut self, bytes: Bytes, end_of_item: bool) -> Result<(), WriteError> {
        if self.room()? == 0 {
            return Err(WriteError::Full);
        }
        self.half()?.push(bytes, end_of_item);
        self.calls.schedule(self.id);
        Ok(())
    }

    /// Nothing more will be written. The result of a request is complete with this, while its argument can still be read: the
    /// request is answered only by [`Reply::End`](crate::Reply::End).
    ///
    /// # Errors
    /// If no more can be written anyway.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.half()?.finish();
        self.calls.schedule(self.id);
        Ok(())
    }

    /// The argument of a call of ours can't be completed; its reader is told. Ignored for a result, which fails with its
    /// [reply](crate::Reply::Failure), and after [`finish`](Self::finish).
    pub fn abort(&mut self) {
        let StreamId::Call(call) = self.id else { return };
        let Some(open) = self.calls.table.get_mut(&self.id) else { return };
        if open.sender().is_none_or(|half| half.is_finished()) {
            return;
        }
        let number = open.number();
        self.calls.drop_writer(self.id);
        if let Some(call) = number {
            self.calls.queue.push_control(Control::Record(Record::Abort { call }));
        }
        self.calls.end_if_complete(call);
    }

    /// How far writer and reader have come. [`Event::Writable`] tells when the reader has come further.
    ///
    /// # Errors
    /// If the reader wants no more, or the call has ended.
    pub fn acknowledged(&mut self) -> Result<Acknowledged, WriteError> {
        let half = self.any_half()?;
        let (written, consumed) = (half.written(), half.acknowledged());
        half.awaits_credit |= consumed < written;
        Ok(Acknowledged { written, consumed })
    }

    fn half(&mut self) -> Result<&mut SendHalf, WriteError> {
        match self.any_half()? {
            half if half.is_finished() => Err(WriteError::Finished),
            half => Ok(half),
        }
    }

    fn any_half(&mut self) -> Result<&mut SendHalf, WriteError> {
        let call = self.calls.table.get_mut(&self.id).ok_or(WriteError::NotOpen)?;
        match call.writer() {
            Some(Writer::Open(half)) => Ok(half),
            Some(Writer::Stopped) => Err(WriteError::Stopped),
            Some(Writer::Closed) | None => Err(WriteError::NotOpen),
        }
    }
}

impl Calls {
    /// The stream that the host reads.
    fn readable(&mut self, id: StreamId) -> Result<&mut RecvHalf, ReadError> {
        let call = self.table.get_mut(&id).filter(|call| call.is_readable());
        call.and_then(OpenCall::receiver).ok_or(ReadError::NotOpen)
    }

    /// A stream is read, so that its window may be as wide as others.
    fn open_window(&mut self, id: StreamId) {
        let Some(half) = self.table.get_mut(&id).and_then(OpenCall::receiver) else { return };
        if half.open_window(self.config.stream_window, &mut self.flow) {
            self.credits.insert(id);
        }
    }

    pub(crate) fn recv_stream(&mut self, id: StreamId, open: bool) -> RecvStream<'_> {
        RecvStream { calls: self, id, open }
    }

    pub(crate) fn send_stream(&mut self, id: StreamId) -> SendStream<'_> {
        SendStream { calls: self, id }
    }

    /// Lets a stream send, if it has something to send and credit for it.
    pub(super) fn schedule(&mut self, id: StreamId) {
        let Some(call) = self.table.get_mut(&id) else { return };
        let urgency = call.urgency;
        if let Some(half) = call.sender() {
            self.streams.enqueue(id, urgency, half);
        }
    }

    /// Nothing more of a stream is sent.
    pub(super) fn drop_writer(&mut self, id: StreamId) {
        let Some(call) = self.table.get_mut(&id) else { return };
        let urgency = call.urgency;
        if let Some(half) = call.writer().and_then(|writer| writer.take(Writer::Closed)) {
            self.release_sender(urgency, &half);
        }
    }

    fn release_sender(&mut self, urgency: crate::Urgency, half: &SendHalf) {
        self.streams.remove(urgency, half);
        if half.fixed_length {
            self.body_bytes -= half.queued();
        }
    }

    pub(super) fn release_receiver(&mut self, mut half: RecvHalf) {
        let freed = half.fail(ReadError::NotOpen);
        self.flow.consume(freed);
        self.flow.growth_left += half.growth();
    }

    /// Takes a call out of the table, with all that its streams hold. Replies that wait for its reply may leave.
    pub(super) fn drop_call(&mut self, id: StreamId) {
        let Some(mut call) = self.table.remove(&id) else { return };
        let needed_memory = call.needs_memory();
        let (urgency, key, number) = (call.urgency, call.key().cloned(), call.number());
        self.deadlines.stop(call.deadline, deadline_of(id));
        self.deadlines.stop(call.reassembly_deadline, Deadline::Reassembly(id));
        self.requests -= usize::from(!super::table::is_ours(id));
        self.credits.remove(&id);
        let (sender, receiver) = call.into_streams();
        if let Some(half) = sender {
            self.release_sender(urgency, &half);
        }
        if let Some(half) = receiver {
            self.release_receiver(half);
        }
        if needed_memory {
            self.memory_freed(id);
        }
        if let (StreamId::Request(_), Some(key), Some(number)) = (id, key, number) {
            self.leave_gate(&key, number);
        }
    }

    /// The reader of a stream that this side writes wants no more of it.
    pub(super) fn stop_sending(&mut self, id: StreamId) {
        let Some(call) = self.table.get_mut(&id) else { return };
        let urgency = call.urgency;
        let Some(writer) = call.writer() else { return };
        let stopped = writer.take(Writer::Stopped);
        *writer = Writer::Stopped;
        let Some(half) = stopped else { return };
        self.release_sender(urgency, &half);
        self.events.push_back(Event::Writable(id));
        if let StreamId::Call(call) = id {
            self.end_if_complete(call);
        }
    }

    /// The result of a call of ours has been read to its end.
    fn result_read(&mut self, id: StreamId) {
        let Some(call) = self.table.get_mut(&id) else { return };
        match &mut call.state {
            State::Unread { .. } => self.drop_call(id),
            State::Sent { result: ResultState::Begun(half), .. } => {
                if let Some(half) = half.take() {
                    self.release_receiver(half);
                }
            }
            _ => {}
        }
    }

    /// Nothing more of what is read is wanted; the writer is told, unless it has sent all.
    pub(super) fn stop_reading(&mut self, id: StreamId) {
        let Some(call) = self.table.get_mut(&id) else { return };
        let number = call.number();
        self.deadlines.stop(call.reassembly_deadline.take(), Deadline::Reassembly(id));
        let Some(half) = call.receiver() else { return };
        // The writer of one that failed on this side does not know of it.
        let ended = matches!(half.failure(), Some(ReadError::Aborted | ReadError::NotOpen));
        let unread = !half.is_complete() && !ended;
        let was_reassembled = half.is_reassembled();
        let freed = half.stop();
        self.flow.consume(freed);
        if was_reassembled {
            self.memory_freed(id);
        }
        if let (StreamId::Request(_), Some(call), true) = (id, number, unread) {
            self.queue.push_control(Control::Record(Record::Stop { call }));
        }
    }

    /// Queues the CREDIT that acknowledges the end of a stream, unless it was sent.
    fn acknowledge(&mut self, id: StreamId, now: Instant) {
        if let Some(credit) = self.credit_of(id, now) {
            self.queue.push_control(Control::Record(credit));
        }
    }

    /// The CREDIT that is due for a stream.
    pub(super) fn credit_of(&mut self, id: StreamId, now: Instant) -> Option<Record> {
        let call = self.table.get_mut(&id)?;
        let number = call.number()?;
        let (consumed, limit) = call.receiver()?.credit_due(now, &mut self.flow)?;
        Some(Record::Credit { call: number, consumed, limit })
    }

    /// The credit that the peer gives each stream from the start.
    pub(super) fn stream_limit(&self) -> u64 {
        self.peer.and_then(|peer| peer.credit).map_or(0, |credit| credit.stream)
    }

    /// A body of `bytes` bytes waits for memory of the endpoint's.
    pub(super) fn want_memory(&mut self, stream: StreamId, bytes: usize) {
        let connection = self.connection;
        self.endpoint_events.push_back(EndpointEvent::ReassemblyWanted { connection, stream, bytes });
        self.await_memory(stream);
    }

    /// It needs no memory any more.
    pub(super) fn memory_freed(&mut self, stream: StreamId) {
        let connection = self.connection;
        self.endpoint_events.push_back(EndpointEvent::ReassemblyEnded { connection, stream });
    }

    /// A body waits for memory, to be reassembled then; one that can't be complete fails at once.
    fn await_memory(&mut self, id: StreamId) {
        let limit = self.config.max_body;
        let Some(half) = self.table.get_mut(&id).and_then(OpenCall::receiver) else { return };
        let too_large = half.remaining().filter(|size| *size > limit as u64);
        if let Some(error) = half.failure() {
            return self.fail_reassembly(id, error);
        }
        half.await_memory();
        if let Some(size) = too_large {
            self.fail_stream(id, ReadError::TooLarge { size, limit });
        }
    }

    /// The endpoint has memory for a body.
    pub(crate) fn reassemble(&mut self, now: Instant, id: StreamId) {
        let Some(call) = self.table.get_mut(&id) else { return };
        let Some(half) = call.receiver().filter(|half| half.awaits_memory()) else { return };
        let bytes = half.remaining().unwrap_or(self.config.max_body as u64);
        let time = REASSEMBLY_TIME + Duration::from_secs(bytes / SLOWEST);
        if let Some(at) = now.checked_add(time) {
            call.reassembly_deadline = Some(at);
            self.deadlines.set(at, Deadline::Reassembly(id));
        }
        self.reassemble_now(id);
    }

    fn reassemble_now(&mut self, id: StreamId) {
        let Some(half) = self.table.get_mut(&id).and_then(OpenCall::receiver) else { return };
        if !half.open_to_its_end() {
            half.open_window(self.config.stream_window, &mut self.flow);
        }
        let freed = half.reassemble(self.config.max_body);
        self.flow.consume(freed);
        self.credits.insert(id);
        self.end_reassembly_if_done(id);
    }

    /// The connection is over, and the endpoint counts nothing of it any more: results that have come as a whole and wait for memory
    /// are here already.
    pub(super) fn reassemble_all_that_is_complete(&mut self) {
        let waiting = self.table.iter_mut().filter_map(|(id, call)| {
            let half = call.receiver()?;
            (super::table::is_ours(*id) && half.awaits_memory() && half.is_complete()).then_some(*id)
        });
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_unstable();
        waiting.into_iter().for_each(|id| self.reassemble_now(id));
    }

    /// Hands over a body that is complete, or fails one that never will be.
    pub(super) fn end_reassembly_if_done(&mut self, id: StreamId) {
        let Some(half) = self.table.get_mut(&id).and_then(OpenCall::receiver) else { return };
        match half.reassembled() {
            None => {}
            Some(Ok(body)) => {
                // Queued at once, for the call may be gone when credit is next sent.
                if let Some(call) = self.table.get_mut(&id)
                    && let (Some(number), Some(half)) = (call.number(), call.receiver())
                    // The end needs no time: the window does not grow any more.
                    && let Some((consumed, limit)) = half.last_credit()
                    && self.peer.is_some()
                {
                    let credit = Record::Credit { call: number, consumed, limit };
                    self.queue.push_control(Control::Record(credit));
                }
                self.stop_reassembly_timer(id);
                // The body of a request that waits takes memory until it starts.
                if !self.table.get(&id).is_some_and(OpenCall::waits_to_start) {
                    self.memory_freed(id);
                }
                self.hand_over(id, body);
            }
            Some(Err(error)) => self.fail_stream(id, error),
        }
    }

    fn hand_over(&mut self, id: StreamId, body: Bytes) {
        match (id, self.table.get_mut(&id).map(|call| &mut call.state)) {
            (
                StreamId::Call(call),
                Some(State::Sent { result: ResultState::Reassembled { metadata, .. }, .. }),
            ) => {
                let metadata = std::mem::take(metadata);
                self.end_with_body(call, body, metadata);
            }
            (StreamId::Request(request), Some(State::Request(state)))
                if matches!(state.stage, Stage::Incomplete(_)) =>
            {
                if let Some(half) = state.argument.take() {
                    self.release_receiver(half);
                }
                self.argument_reassembled(request, body);
            }
            (_, Some(_)) => {
                self.events.push_back(Event::Reassembled { stream: id, body: Ok(body) });
                self.result_read(id);
                if let StreamId::Call(call) = id {
                    self.end_if_complete(call);
                }
            }
            (_, None) => {}
        }
    }

    /// A result that was asked for as a whole is there. An argument that has not left by now is of no use any more.
    fn end_with_body(&mut self, call: CallId, body: Bytes, metadata: Metadata) {
        if let Some(open) = self.table.get_mut(&StreamId::Call(call))
            && let Some(number) = open.number()
            && open.sender().is_some_and(|half| !half.fin_sent())
        {
            self.queue.push_control(Control::Record(Record::Abort { call: number }));
        }
        self.end(call, Outcome::Result(body), metadata);
    }

    fn stop_reassembly_timer(&mut self, id: StreamId) {
        if let Some(call) = self.table.get_mut(&id) {
            self.deadlines.stop(call.reassembly_deadline.take(), Deadline::Reassembly(id));
        }
    }

    fn is_owed_as_a_whole(&self, id: StreamId) -> bool {
        self.table.get(&id).is_some_and(OpenCall::is_owed_as_a_whole)
    }

    /// A request is withdrawn that has not started: of an argument that is reassembled nothing is kept, and what is still to come is
    /// dropped.
    pub(super) fn give_up_argument(&mut self, request: RequestId, error: ReadError) {
        let id = StreamId::Request(request);
        let Some(call) = self.table.get_mut(&id).filter(|call| call.waits_to_start()) else { return };
        if !call.needs_memory() {
            return;
        }
        if let Some(half) = call.receiver() {
            let freed = half.fail(error);
            self.flow.consume(freed);
        }
        if let State::Request(state) = &mut call.state
            && let Stage::Waiting { request, reassembled } = &mut state.stage
        {
            *reassembled = false;
            request.body = Body::Whole(Bytes::new());
        }
        self.stop_reassembly_timer(id);
        self.memory_freed(id);
    }

    /// A stream that is not complete never will be.
    pub(super) fn fail_incomplete(&mut self, id: StreamId, error: ReadError) {
        let half = self.table.get_mut(&id).and_then(OpenCall::receiver);
        if half.is_some_and(|half| !half.is_complete()) {
            self.fail_stream(id, error);
        }
    }

    /// A stream can't be read to its end: its reader is told.
    pub(super) fn fail_stream(&mut self, id: StreamId, error: ReadError) {
        let Some(half) = self.table.get_mut(&id).and_then(OpenCall::receiver) else { return };
        let was_reassembled = half.is_reassembled();
        if half.has_failed() {
            return;
        }
        let freed = half.fail(error);
        let announce = half.announce();
        self.flow.consume(freed);
        if was_reassembled || self.is_owed_as_a_whole(id) {
            self.fail_reassembly(id, error);
        } else if announce {
            self.events.push_back(Event::Readable(id));
        }
    }

    fn fail_reassembly(&mut self, id: StreamId, error: ReadError) {
        self.stop_reassembly_timer(id);
        self.memory_freed(id);
        match id {
            StreamId::Request(request) if self.is_owed_as_a_whole(id) => {
                self.withdraw_incomplete(request, error)
            }
            StreamId::Request(_) => {
                self.events.push_back(Event::Reassembled { stream: id, body: Err(error) });
            }
            StreamId::Call(call) => {
                let whole = self.is_owed_as_a_whole(id);
                if !whole {
                    self.events.push_back(Event::Reassembled { stream: id, body: Err(error) });
                }
                self.fail_result(call, error);
            }
        }
    }

    /// The result of a call of ours can't be read to its end.
    fn fail_result(&mut self, call: CallId, error: ReadError) {
        let outcome = match error {
            ReadError::TooLarge { size, limit } => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                Outcome::Malformed(DecodeError::TooLarge { what: "a body", size, limit })
            }
            ReadError::Fault(fault) => Outcome::Fault(fault),
            _ => Outcome::TimedOut { sent: true },
        };
        match self.retire(call) {
            Some(_) => self.events.push_back(Event::ended(call, outcome)),
            // It had ended, and its result was complete.
            None => self.drop_call(StreamId::Call(call)),
        }
    }

    pub(super) fn reassembly_timed_out(&mut self, id: StreamId) {
        let Some(call) = self.table.get_mut(&id) else { return };
        call.reassembly_deadline = None;
        self.fail_incomplete(id, ReadError::TimedOut);
    }
}

/// Memory that a body takes while it is reassembled: its size, or the `limit` if that is not known.
pub(super) fn reassembly_size(half: &RecvHalf, limit: usize) -> usize {
    half.remaining().map_or(limit, |size| usize::try_from(size).unwrap_or(usize::MAX).min(limit))
}

fn deadline_of(id: StreamId) -> Deadline {
    match id {
        StreamId::Call(call) => Deadline::Call(call),
        StreamId::Request(request) => Deadline::Execution(request),
    }
}
