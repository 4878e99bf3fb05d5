//! Reassembly of bodies: waiting for memory, completion, and timeouts.
//!
//! The endpoint assigns memory. Each body requests it once with `ReassemblyWanted`, gets it in
//! [`Calls::reassemble`], and returns it once with `ReassemblyEnded`, as soon as the body is complete or has
//! failed. Until it has memory, received bytes wait in the window of the stream. A complete argument that the
//! host gets as one body counts as waiting bytes from then on, like one that arrived in one message.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::table::{OpenCall, ResultState, Stage, State};
use super::{Calls, Deadline};
use crate::Metadata;
use crate::event::{Body, EndpointEvent, Event, Outcome};
use crate::ids::{CallId, RequestId, StreamId};
use crate::send::Control;
use crate::stream::{KEPT_FOR, ReadError, RecvHalf};
use crate::wire::{DecodeError, Record};

/// How long a body of any size may take to be complete, from when it has memory (PROTOCOL.md, F-7).
const REASSEMBLY_TIME: Duration = Duration::from_secs(30);

// A peer that stops halfway would otherwise hold the memory for which other bodies wait.
/// One second more for each 64 KiB: the lowest accepted rate, in bytes per second.
const SLOWEST: u64 = 64 * 1024;

impl Calls {
    /// Requests memory for a body of `bytes` bytes from the endpoint.
    pub(super) fn want_memory(&mut self, stream: StreamId, bytes: usize) {
        let connection = self.connection;
        // First: `await_memory` may fail the body, which queues the `ReassemblyEnded` for this event.
        self.endpoint_events.push_back(EndpointEvent::ReassemblyWanted { connection, stream, bytes });
        self.await_memory(stream);
    }

    /// Returns the memory of a body, or withdraws the request for it.
    pub(super) fn memory_freed(&mut self, stream: StreamId) {
        let connection = self.connection;
        self.endpoint_events.push_back(EndpointEvent::ReassemblyEnded { connection, stream });
    }

    /// Makes a stream wait for memory. A body that is too large or incomplete fails at once.
    pub(super) fn await_memory(&mut self, id: StreamId) {
        let limit = self.config.max_body;
        let Some(half) = self.table.get_mut(id).and_then(OpenCall::receiver) else { return };
        let too_large = half.remaining().filter(|size| *size > limit as u64);
        // The stream has failed before anybody wanted it as a body, by a fault or an ABORT.
        if let Some(error) = half.failure() {
            return self.fail_reassembly(id, error);
        }
        half.await_memory();
        if let Some(size) = too_large {
            self.fail_stream(id, ReadError::TooLarge { size, limit });
        }
    }

    /// The endpoint has assigned memory to a body.
    pub(crate) fn reassemble(&mut self, now: Instant, id: StreamId) {
        let Some(call) = self.table.get_mut(id) else { return };
        // Otherwise the event crossed the end of the body, which has returned the memory already.
        let Some(half) = call.receiver().filter(|half| half.awaits_memory()) else { return };
        let bytes = half.remaining().unwrap_or(self.config.max_body as u64);
        let time = REASSEMBLY_TIME + Duration::from_secs(bytes / SLOWEST);
        if let Some(at) = now.checked_add(time) {
            half.deadline = Some(at);
            self.deadlines.set(at, Deadline::Reassembly(id));
        }
        self.reassemble_now(id);
        self.time_spares(now);
    }

    /// Starts the timer that frees spare memory. Called after each step in which a body may have become
    /// complete.
    pub(super) fn time_spares(&mut self, now: Instant) {
        if self.spares.needs_timer()
            && let Some(at) = now.checked_add(KEPT_FOR)
        {
            self.deadlines.set(at, Deadline::Spares);
        }
    }

    #[cfg(test)]
    pub(crate) fn spares_len(&self) -> usize {
        self.spares.len()
    }

    pub(super) fn reassemble_now(&mut self, id: StreamId) {
        let Some(half) = self.table.get_mut(id).and_then(OpenCall::receiver) else { return };
        // With a declared size, the memory is reserved, so all of the rest may arrive at once.
        if !half.open_to_its_end() {
            half.open_window(self.config.stream_window, &mut self.flow);
        }
        let freed = half.reassemble(self.config.max_body, &mut self.spares);
        self.flow.consume(freed);
        self.credits.insert(id);
        self.end_reassembly_if_done(id);
    }

    /// The connection has ended: reassembles results that have arrived completely and wait for memory, which
    /// the endpoint no longer counts.
    pub(super) fn reassemble_all_that_is_complete(&mut self) {
        let waiting = self.table.ours_mut().filter_map(|(call, open)| {
            let half = open.receiver()?;
            (half.awaits_memory() && half.is_complete()).then_some(StreamId::Call(call))
        });
        let mut waiting: Vec<_> = waiting.collect();
        // Not in the order of the table, so that the events come in the order of the calls.
        waiting.sort_unstable();
        waiting.into_iter().for_each(|id| self.reassemble_now(id));
    }

    /// Delivers a complete body, or fails one that can't become complete.
    pub(super) fn end_reassembly_if_done(&mut self, id: StreamId) {
        let Some(half) = self.table.get_mut(id).and_then(OpenCall::receiver) else { return };
        match half.reassembled(&mut self.spares) {
            None => {}
            Some(Ok(body)) => {
                // Queue the last CREDIT now: the call may be gone when credits are sent next.
                if let Some(call) = self.table.get_mut(id)
                    && let (Some(number), Some(half)) = (call.number(), call.receiver())
                    // The last credit needs no `now`, because the window no longer grows.
                    && let Some((consumed, limit)) = half.last_credit()
                    && self.peer.is_some()
                {
                    let credit = Record::Credit { call: number, consumed, limit };
                    self.queue.push_control(Control::Record(credit));
                }
                self.stop_reassembly_timer(id);
                // Before `hand_over`: from `Ready` on, the argument counts as waiting bytes instead (F-7).
                self.memory_freed(id);
                self.hand_over(id, body);
            }
            Some(Err(error)) => self.fail_stream(id, error),
        }
    }

    fn hand_over(&mut self, id: StreamId, body: Bytes) {
        match (id, self.table.get_mut(id).map(|call| &mut call.state)) {
            (
                StreamId::Call(call),
                Some(State::Sent { result: ResultState::Reassembled { metadata, .. }, .. }),
            ) => {
                let metadata = std::mem::take(metadata);
                self.end_with_body(call, body, metadata);
            }
            (StreamId::Request(request), Some(State::Request(state)))
                if matches!(state.stage, Stage::Incomplete) =>
            {
                state.stage = Stage::Waiting;
                // A request that waits to start needs its body only. Further DATA is a fault.
                if let Some(mut half) = state.argument.take() {
                    Self::release_receiver(&mut self.flow, &mut half, ReadError::NotOpen);
                }
                self.endpoint_events.push_back(EndpointEvent::Ready { request, bytes: body.len() });
                if let Some(waiting) = self.table.waiting.get_mut(request.number()) {
                    waiting.body = Body::Whole(body);
                }
            }
            // The host had the stream, and has asked for the rest of it as a body.
            (_, Some(_)) => {
                self.events.push_back(Event::Reassembled { stream: id, body: Ok(body) });
                self.stream_read(id);
                if let StreamId::Call(call) = id {
                    self.end_if_complete(call);
                }
            }
            (_, None) => {}
        }
    }

    /// Ends a call with its reassembled result. The unsent rest of the argument is of no use to the peer.
    fn end_with_body(&mut self, call: CallId, body: Bytes, metadata: Metadata) {
        if let Some(open) = self.table.get_mut(StreamId::Call(call))
            && let Some(number) = open.number()
            && open.sender().is_some_and(|half| !half.fin_sent())
        {
            self.queue.push_control(Control::Record(Record::Abort { call: number }));
        }
        self.end(call, Outcome::Result(body), metadata);
    }

    fn stop_reassembly_timer(&mut self, id: StreamId) {
        if let Some(half) = self.table.get_mut(id).and_then(OpenCall::receiver) {
            self.deadlines.stop(half.deadline.take(), Deadline::Reassembly(id));
        }
    }

    /// Withdraws a request that has not started. Drops method, metadata and argument now, because its reply
    /// may wait for its order for long, and the endpoint no longer counts them. The rest of the argument is
    /// dropped when it arrives.
    pub(super) fn drop_waiting(&mut self, request: RequestId, error: ReadError) {
        let id = StreamId::Request(request);
        let Some(call) = self.table.get_mut(id).filter(|call| call.waits_to_start()) else { return };
        let mut needed_memory = false;
        if let Some(half) = call.receiver() {
            self.deadlines.stop(half.deadline.take(), Deadline::Reassembly(id));
            needed_memory = half.is_reassembled();
            Self::release_receiver(&mut self.flow, half, error);
        }
        if let State::Request(state) = &mut call.state {
            state.stage = Stage::Withdrawn;
        }
        self.table.waiting.discard(request.number());
        if needed_memory {
            self.memory_freed(id);
        }
    }

    /// Fails a stream unless it is complete.
    pub(super) fn fail_incomplete(&mut self, id: StreamId, error: ReadError) {
        let half = self.table.get_mut(id).and_then(OpenCall::receiver);
        if half.is_some_and(|half| !half.is_complete()) {
            self.fail_stream(id, error);
        }
    }

    /// A stream can't be read to its end: drops its bytes, and tells its reader.
    pub(super) fn fail_stream(&mut self, id: StreamId, error: ReadError) {
        let Some(call) = self.table.get_mut(id) else { return };
        let is_whole = call.is_owed_as_a_whole();
        let Some(half) = call.receiver() else { return };
        let was_reassembled = half.is_reassembled();
        // The reader knows, and the memory was returned then.
        if half.has_failed() {
            return;
        }
        Self::release_receiver(&mut self.flow, half, error);
        let announce = half.announce();
        if was_reassembled || is_whole {
            self.fail_reassembly(id, error);
        } else if announce {
            self.events.push_back(Event::Readable(id));
        }
    }

    fn fail_reassembly(&mut self, id: StreamId, error: ReadError) {
        self.stop_reassembly_timer(id);
        self.memory_freed(id);
        let is_whole = self.table.get(id).is_some_and(OpenCall::is_owed_as_a_whole);
        if !is_whole {
            // Of a request, the handler gets the error, and decides how it answers.
            self.events.push_back(Event::Reassembled { stream: id, body: Err(error) });
        }
        match id {
            StreamId::Call(call) => self.fail_result(call, error),
            // The host does not know of the request, so the peer gets the error.
            StreamId::Request(request) if is_whole => self.withdraw_incomplete(request, error),
            StreamId::Request(_) => {}
        }
    }

    /// The result of a call of this side can't be read to its end.
    fn fail_result(&mut self, call: CallId, error: ReadError) {
        let outcome = match error {
            ReadError::TooLarge { size, limit } => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                Outcome::Malformed(DecodeError::TooLarge { what: "a body", size, limit })
            }
            ReadError::Fault(fault) => Outcome::Fault(fault),
            // Only `TimedOut` is left: a result is not aborted, and `stop` does not end its call.
            _ => Outcome::TimedOut { sent: true },
        };
        self.retire(call, outcome);
        // If the call had ended, with a complete result, that is still there.
        self.drop_call(StreamId::Call(call));
    }

    pub(super) fn reassembly_timed_out(&mut self, id: StreamId) {
        let Some(half) = self.table.get_mut(id).and_then(OpenCall::receiver) else { return };
        // The timer has fired, so there is none to stop.
        half.deadline = None;
        self.fail_incomplete(id, ReadError::TimedOut);
    }
}

/// The memory to request for a body: its size, or `limit` if the size is unknown.
pub(super) fn reassembly_size(half: &RecvHalf, limit: usize) -> usize {
    // A larger body is refused at once, and never takes more than the limit.
    half.remaining().map_or(limit, |size| usize::try_from(size).unwrap_or(usize::MAX).min(limit))
}
