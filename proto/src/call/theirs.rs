//! Requests of the peer: arrival, refusal, start, and withdrawal. Their replies are in `replies.rs`.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::reassembly::reassembly_size;
use super::table::{OpenCall, Opened, RequestState, Stage, State};
use super::{Calls, Deadline, Fatal};
use crate::error::Refusal;
use crate::event::{Anomaly, Body, CloseCause, EndpointEvent, Event, Request, StopReason};
use crate::ids::{RequestId, StreamId};
use crate::ordering::{Arrival, Busy};
use crate::reply::Reply;
use crate::send::{Control, Queued, QueuedReply, ReplyBody};
use crate::stream::{ReadError, RecvHalf, StreamFault};
use crate::wire::{self, DecodeError, Failure, MAX_FIRST, MAX_NAMES, Number, Options, Piece, Record};
use crate::{ErrorInfo, Metadata, OrderingKey, Urgency};

/// Grace after the caller's deadline: the caller's CANCEL normally arrives first.
const GRACE: Duration = Duration::from_secs(1);

impl Calls {
    /// The id of the request with this number.
    pub(super) fn request(&self, number: Number) -> RequestId {
        RequestId::new(self.connection, wire::ordinal(number))
    }

    /// A request has arrived, with a valid number: refuses it, or adds it to the table and tells the
    /// endpoint.
    pub(super) fn arrive(&mut self, now: Instant, opened: Opened) {
        let Opened { call, method, key, options, piece, frame } = opened;
        if let Some((refusal, why)) = self.refusal_of(&options) {
            return self.refuse(call, key, refusal.to_error(why));
        }
        let names = method.as_bytes().len() + key.as_bytes().len();
        // W-10, for dialect 2: an open request keeps its key, and then only the number of requests is limited.
        if names > MAX_NAMES && !wire::is_dialect_1(call) {
            let (size, limit) = (names, MAX_NAMES);
            let error = DecodeError::TooLarge { what: "the method and the key", size, limit };
            return self.refuse_unreadable(call, key, error);
        }
        let Piece { fin, item, .. } = piece;
        let first = match self.first_piece(call, piece) {
            Ok(first) => first,
            Err(error) => return self.refuse_unreadable(call, key, error),
        };
        if fin && options.size.is_some_and(|size| size != first.len() as u64) {
            self.refuse(call, key, Refusal::MalformedBody.to_error(&StreamFault::Size.to_string()));
            return self.report(Anomaly::Stream(StreamFault::Size));
        }
        let id = self.request(call);
        let metadata = options.metadata.keep(frame);
        let urgency = options.urgency.unwrap_or(Urgency::DEFAULT);
        let deadline = options.remaining.and_then(|left| now.checked_add(left));
        let stop = deadline.and_then(|at| at.checked_add(GRACE));
        if let Some(at) = stop {
            self.deadlines.set(at, Deadline::Caller(id));
        }
        let names = names + metadata.size();
        let (body, argument, held) = self.begin_argument(options.size, first, fin, item);
        let request = Request { id, method, key: key.clone(), body, metadata, deadline };
        let incomplete = argument.as_ref().filter(|_| !self.config.stream_arguments.has(&request.method));
        let incomplete = incomplete.map(|half| reassembly_size(half, self.config.max_body));
        let arrival = Arrival {
            request: id,
            key: key.clone(),
            // An incomplete argument counts once it is complete; until then, its window and its reassembly
            // are limited.
            bytes: if incomplete.is_some() { names } else { names.saturating_add(held) },
            ready: incomplete.is_none(),
        };
        self.codec.accept(call);
        // The request waits here: the endpoint only gets its key and its size.
        self.table.waiting.insert(id.number(), request);
        let stage = if incomplete.is_some() { Stage::Incomplete } else { Stage::Waiting };
        let (cancelled, withdrawn, execution_deadline) = (false, None, None);
        let state =
            RequestState { number: call, key, cancelled, withdrawn, execution_deadline, argument, stage };
        let state = State::Request(state);
        let open = OpenCall { urgency, deadline: stop, state };
        self.table.insert(StreamId::Request(id), open);
        self.endpoint_events.push_back(EndpointEvent::Arrived(arrival));
        if let Some(bytes) = incomplete {
            self.want_memory(StreamId::Request(id), bytes);
        }
    }

    /// The argument for the host; its receiving half, unless it is complete; and the most bytes of it that
    /// are held until the request starts.
    fn begin_argument(
        &mut self,
        size: Option<u64>,
        first: Bytes,
        fin: bool,
        item: bool,
    ) -> (Body, Option<Box<RecvHalf>>, usize) {
        if fin {
            let held = first.len();
            return (Body::Whole(first), None, held);
        }
        let window = self.config.first_window.saturating_add(MAX_FIRST as u64);
        let held = usize::try_from(window.min(size.unwrap_or(u64::MAX))).unwrap_or(usize::MAX);
        let mut half = Box::new(RecvHalf::new(self.config.first_window, size));
        if let Err(fault) = half.first(first, item) {
            self.report(Anomaly::Stream(fault));
            half.fail(ReadError::Fault(fault));
        }
        half.announce();
        (Body::Stream { size }, Some(half), held)
    }

    /// The uncompressed piece of an OPEN or a RESULT.
    pub(super) fn first_piece(&self, number: Number, piece: Piece) -> Result<Bytes, DecodeError> {
        let limit = match piece.fin {
            // F-1: dialect 1 has the whole body in one message.
            true => wire::max_first(number).min(self.config.max_body),
            // The beginning of a stream, whose size has no limit.
            false => MAX_FIRST,
        };
        piece.plain(limit)
    }

    /// Why a request must be refused, whatever its body is, if it must.
    pub(super) fn refusal_of(&self, options: &Options) -> Option<(Refusal, &'static str)> {
        if self.draining {
            return Some((Refusal::ShuttingDown, "this endpoint is shutting down"));
        }
        if self.table.requests() >= self.config.max_requests {
            return Some((Refusal::Busy, "too many requests of this peer are open"));
        }
        options.unsupported.then_some((Refusal::Unsupported, "the call has an unknown option"))
    }

    /// Refuses a request with a malformed or too large body.
    pub(super) fn refuse_unreadable(&mut self, call: Number, key: OrderingKey, error: DecodeError) {
        let refusal = match error {
            DecodeError::TooLarge { .. } => Refusal::BodyTooLarge,
            _ => Refusal::MalformedBody,
        };
        self.refuse(call, key, refusal.to_error(&error.to_string()));
        self.report(Anomaly::Body(error));
    }

    /// The endpoint has started a request: passes it to the host.
    pub(crate) fn start(&mut self, now: Instant, id: RequestId) {
        let limit = self.config.execution_timeout.and_then(|limit| now.checked_add(limit));
        let open = self.table.get_mut(StreamId::Request(id)).map(|open| &mut open.state);
        let state = match open {
            Some(State::Request(state)) if !matches!(state.stage, Stage::Withdrawn) => state,
            // The request was withdrawn or answered before this event arrived, or the connection has closed.
            _ => return self.never_ran(id),
        };
        match state.stage {
            Stage::Waiting => state.stage = Stage::Running,
            // It starts once.
            _ => return,
        }
        if let Some(at) = limit {
            state.execution_deadline = limit;
            self.deadlines.set(at, Deadline::Execution(id));
        }
        if let Some(mut request) = self.table.waiting.remove(id.number()) {
            // Without the grace: the handler should be done when the caller gives up.
            request.deadline = request.deadline.into_iter().chain(limit).min();
            self.events.push_back(Event::Request(request));
        }
    }

    /// The peer has cancelled a request.
    pub(super) fn cancel(&mut self, id: RequestId) {
        let stream = StreamId::Request(id);
        match self.table.get_mut(stream).map(|open| &mut open.state) {
            // D-1: dialect 1 has one CANCEL per call. In dialect 2, a second one is sent if the result is
            // dropped unread (F-8).
            Some(State::Request(state)) if state.cancelled && wire::is_dialect_1(state.number) => {
                self.report(Anomaly::UnknownCancel);
            }
            Some(State::Request(state)) if !state.cancelled => {
                state.cancelled = true;
                self.drop_waiting(id, ReadError::Aborted);
                self.stop_sending(stream);
                // The rest of the argument will not arrive, and what has arrived must not hold credit until
                // the reply.
                self.fail_incomplete(stream, ReadError::Aborted);
                self.withdraw(id, StopReason::Cancelled);
            }
            // The result waits or is being sent: drop the rest.
            Some(State::Replying { number, .. }) => {
                let number = *number;
                self.drop_call(stream);
                self.cancel_at_gate(number);
            }
            _ => {}
        }
    }

    /// Withdraws a request: it must not start, or its handler must stop.
    pub(super) fn withdraw(&mut self, request: RequestId, reason: StopReason) {
        self.withdraw_with(request, reason, reply_of(reason));
    }

    /// Withdraws a request that has not started, because its argument can't become complete.
    pub(super) fn withdraw_incomplete(&mut self, request: RequestId, error: ReadError) {
        let refusal = match error {
            ReadError::TooLarge { .. } => Refusal::BodyTooLarge,
            _ => Refusal::MalformedBody,
        };
        let reply = refusal.reply(&error.to_string());
        self.withdraw_with(request, StopReason::IncompleteArgument, reply);
    }

    fn withdraw_with(&mut self, request: RequestId, reason: StopReason, reply: Reply) {
        let stream = StreamId::Request(request);
        let Some(OpenCall { state: State::Request(state), .. }) = self.table.get_mut(stream) else { return };
        match state.withdrawn.replace(reason) {
            // Nobody sees this error: there is no handler to read the argument.
            None if state.waits() => self.drop_waiting(request, ReadError::TimedOut),
            None => self.events.push_back(Event::Stop { request, reason }),
            // The host knows already, or the handler never starts. But now the reply need not wait for its
            // order, so tell the endpoint.
            Some(first) if reason.is_given_up() && !first.is_given_up() => {}
            Some(first) => {
                state.withdrawn = Some(first);
                return;
            }
        }
        self.endpoint_events.push_back(EndpointEvent::Withdrawn { request, reason, reply });
    }

    /// Refuses a request that was not accepted, ahead of other replies with its key (O-14).
    pub(super) fn refuse(&mut self, number: Number, key: OrderingKey, error: ErrorInfo) {
        let names = self.codec.name_size(number, &key);
        let body = ReplyBody::from(Failure::Error(error));
        let reply = QueuedReply { number, key, names, body, metadata: Metadata::new(), unsolicited: true };
        if self.queue.count_unsolicited(reply.size()).is_err() {
            self.fatal = Some(Fatal(CloseCause::PeerNotReading));
            return;
        }
        self.queue.push(Queued::Reply(reply), Urgency::DEFAULT);
    }

    /// The request exceeds a limit of the endpoint.
    pub(crate) fn refuse_busy(&mut self, id: RequestId, reason: Busy) {
        let stream = StreamId::Request(id);
        let Some(OpenCall { state: State::Request(state), .. }) = self.table.get(stream) else { return };
        let (number, key) = (state.number, state.key.clone());
        self.codec.release_name(number);
        self.drop_call(stream);
        self.refuse(number, key, Refusal::Busy.to_error(&reason.to_string()));
    }

    /// Tells the peer which of its calls are not accepted. Dialect 1 has no such message (K-6).
    pub(super) fn say_goodbye(&mut self) {
        if self.has_streams() {
            let next = self.numbers.next_theirs();
            self.queue.push_control(Control::Record(Record::Goodbye { next }));
        }
    }
}

/// The reply to a withdrawn request, unless its handler gives one.
fn reply_of(reason: StopReason) -> Reply {
    match reason {
        StopReason::ExecutionTimedOut => {
            Refusal::ExecutionTimedOut.reply("the handler ran longer than this endpoint allows")
        }
        // a caller whose deadline has passed has given up, and its CANCEL may be on its way.
        StopReason::Cancelled
        | StopReason::DeadlinePassed
        | StopReason::IncompleteArgument
        | StopReason::Disconnected => Reply::Cancelled,
    }
}
