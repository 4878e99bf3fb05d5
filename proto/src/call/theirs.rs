//! Requests of the peer's: from their arrival to their answer.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::reply::fit;
use super::streams::reassembly_size;
use super::table::{OpenCall, RequestState, Stage, State, Writer};
use super::{Calls, Deadline, Fatal};
use crate::error::{Refusal, ReplyError};
use crate::event::EndpointEvent;
use crate::event::{Anomaly, Body, CloseCause, Event, Request, StopReason};
use crate::ids::{RequestId, StreamId};
use crate::ordering::{Arrival, BusyReason};
use crate::reply::Reply;
use crate::send::{Control, MESSAGE_OVERHEAD, Place, Queued, QueuedReply, ReplyContent};
use crate::stream::{ReadError, RecvHalf, SendHalf, StreamFault};
use crate::wire::{self, DecodeError, Failure, MAX_FIRST, Number, Options, Piece, Record};
use crate::{ErrorInfo, Metadata, OrderingKey, Text, Urgency};

/// With more bytes than this waiting, the names of replies are copied: the buffers that they came in may be larger than what is
/// counted.
const DETACH_FROM: usize = 1024 * 1024;

/// Grace after the caller's deadline: the caller's CANCEL normally arrives first.
const GRACE: Duration = Duration::from_secs(1);

/// A request as it was opened.
pub(super) struct Opened {
    pub(super) call: Number,
    pub(super) method: Text,
    pub(super) key: OrderingKey,
    pub(super) options: Options,
    pub(super) content: Piece,
    /// Bytes of the frame that all of this is a slice of; 0 if slices may be kept.
    pub(super) frame: usize,
}

impl Calls {
    pub(super) fn request(&self, number: Number) -> RequestId {
        RequestId::new(self.connection, number)
    }

    /// A request whose number is right has come.
    pub(super) fn arrive(&mut self, now: Instant, opened: Opened) {
        let Opened { call, method, key, options, content, frame } = opened;
        let key = OrderingKey::from_wire(key.kind(), wire::keep(&key.into_bytes(), frame));
        if let Some((refusal, why)) = self.refusal_of(&options) {
            return self.refuse(call, key, refusal.to_error(why));
        }
        let Piece { fin, item, .. } = content;
        let limit = match fin {
            true => wire::max_first(call).min(self.config.max_body),
            false => MAX_FIRST,
        };
        let compressed = content.compressed;
        let first = match content.plain(limit) {
            Ok(bytes) if compressed => bytes,
            Ok(bytes) => wire::keep(&bytes, frame),
            Err(error) => return self.refuse_unreadable(call, key, error),
        };
        if fin && options.size.is_some_and(|size| size != first.len() as u64) {
            self.refuse(call, key, Refusal::MalformedBody.to_error(&StreamFault::Size.to_string()));
            return self.report(Anomaly::Stream(StreamFault::Size));
        }
        let id = self.request(call);
        let method = Text::from_checked(wire::keep(&method.into_bytes(), frame));
        let metadata = if frame > 0 { options.metadata.detached() } else { options.metadata };
        let urgency = options.urgency.unwrap_or(Urgency::DEFAULT);
        let deadline = options.remaining.and_then(|left| now.checked_add(left));
        let stop = deadline.and_then(|at| at.checked_add(GRACE));
        if let Some(at) = stop {
            self.deadlines.set(at, Deadline::Execution(id));
        }
        let names = method.as_bytes().len() + key.as_bytes().len() + metadata.size();
        let mut request =
            Request { id, method, key: key.clone(), body: Body::Whole(Bytes::new()), metadata, deadline };
        let (argument, held) = match fin {
            true => {
                let held = first.len();
                request.body = Body::Whole(first);
                (None, held)
            }
            false => {
                request.body = Body::Stream { size: options.size };
                let window = self.config.first_window.saturating_add(MAX_FIRST as u64);
                let held =
                    usize::try_from(window.min(options.size.unwrap_or(u64::MAX))).unwrap_or(usize::MAX);
                (Some(self.open_argument(options.size, first, item)), held)
            }
        };
        let incomplete = argument.as_ref().filter(|_| !self.config.stream_arguments.has(&request.method));
        let incomplete = incomplete.map(|half| reassembly_size(half, self.config.max_body));
        let arrival = Arrival {
            request: id,
            key: key.clone(),
            bytes: names.saturating_add(held),
            ready: incomplete.is_none(),
        };
        self.codec.accept(call);
        let stage = match incomplete {
            Some(_) => Stage::Incomplete(request),
            None => Stage::Waiting { request, reassembled: false },
        };
        let state = RequestState { number: call, key, cancelled: false, withdrawn: None, argument, stage };
        let state = State::Request(Box::new(state));
        let open = OpenCall { urgency, deadline: stop, reassembly_deadline: None, state };
        self.table.insert(StreamId::Request(id), open);
        self.open_requests += 1;
        self.requests += 1;
        self.endpoint_events.push_back(EndpointEvent::Arrived(arrival));
        if let Some(bytes) = incomplete {
            self.want_memory(StreamId::Request(id), bytes);
        }
    }

    /// Why a request is not taken, if it is not.
    fn refusal_of(&self, options: &Options) -> Option<(Refusal, &'static str)> {
        if self.draining {
            return Some((Refusal::ShuttingDown, "this endpoint is shutting down"));
        }
        if self.requests >= self.config.max_requests {
            return Some((Refusal::Busy, "too many requests of this peer are open"));
        }
        options.unsupported.then_some((Refusal::Unsupported, "the call has an option that is not known here"))
    }

    fn open_argument(&mut self, size: Option<u64>, first: Bytes, item: bool) -> RecvHalf {
        let mut half = RecvHalf::new(self.config.first_window, size);
        if let Err(fault) = half.first(first, item) {
            self.report(Anomaly::Stream(fault));
            half.fail(ReadError::Fault(fault));
        }
        half.announce();
        half
    }

    /// A request whose body can't be read.
    pub(super) fn refuse_unreadable(&mut self, call: Number, key: OrderingKey, error: DecodeError) {
        let refusal = match error {
            DecodeError::TooLarge { .. } => Refusal::BodyTooLarge,
            _ => Refusal::MalformedBody,
        };
        self.refuse(call, key, refusal.to_error(&error.to_string()));
        self.report(Anomaly::Body(error));
    }

    /// The same for one that would be refused even if it could be read.
    pub(super) fn refuse_bad_request(&mut self, call: Number, key: OrderingKey, error: DecodeError) {
        match self.refusal_of(&Options::default()) {
            Some((refusal, why)) => self.refuse(call, key, refusal.to_error(why)),
            None => self.refuse_unreadable(call, key, error),
        }
    }

    /// The endpoint says that the request may start.
    pub(crate) fn start(&mut self, now: Instant, id: RequestId) {
        let limit = self.config.execution_timeout.and_then(|limit| now.checked_add(limit));
        let stream = StreamId::Request(id);
        let Some(open) = self.table.get_mut(&stream) else { return };
        let State::Request(state) = &mut open.state else { return };
        if !matches!(state.stage, Stage::Waiting { .. }) {
            return;
        }
        let Stage::Waiting { mut request, reassembled } = std::mem::replace(&mut state.stage, Stage::Running)
        else {
            return;
        };
        if state.withdrawn.is_some() {
            // It was withdrawn while the endpoint decided to start it.
            return self.never_ran(id);
        }
        if let Some(at) = limit.filter(|at| open.deadline.is_none_or(|earlier| *at < earlier)) {
            self.deadlines.stop(open.deadline.replace(at), Deadline::Execution(id));
            self.deadlines.set(at, Deadline::Execution(id));
        }
        request.deadline = request.deadline.into_iter().chain(limit).min();
        self.events.push_back(Event::Request(request));
        if reassembled {
            self.memory_freed(stream);
        }
    }

    /// A body has been reassembled: its request is ready to start.
    pub(super) fn argument_reassembled(&mut self, id: RequestId, body: Bytes) {
        let Some(OpenCall { state: State::Request(state), .. }) = self.table.get_mut(&StreamId::Request(id))
        else {
            return;
        };
        match std::mem::replace(&mut state.stage, Stage::Running) {
            Stage::Incomplete(request) => {
                let request = Request { body: Body::Whole(body), ..request };
                state.stage = Stage::Waiting { request, reassembled: true };
                self.endpoint_events.push_back(EndpointEvent::Ready(id));
            }
            other => state.stage = other,
        }
    }

    /// The peer cancels its request.
    pub(super) fn cancel(&mut self, id: RequestId) {
        let stream = StreamId::Request(id);
        match self.table.get_mut(&stream).map(|open| &mut open.state) {
            // Dialect 1 has one CANCEL for a call. In dialect 2 it may come again, when a result is dropped unread (F-8).
            Some(State::Request(state)) if state.cancelled && wire::is_dialect_1(state.number) => {
                self.report(Anomaly::UnknownCancel);
            }
            Some(State::Request(state)) if !state.cancelled => {
                state.cancelled = true;
                self.give_up_argument(id, ReadError::Aborted);
                self.stop_sending(stream);
                // The rest of its argument will not come, and what has come holds credit until it is answered.
                self.fail_incomplete(stream, ReadError::Aborted);
                self.withdraw(id, StopReason::Cancelled);
            }
            // Its result is leaving, and nobody wants it any more.
            Some(State::Replying { .. }) => self.drop_call(stream),
            _ => {}
        }
    }

    /// The request is not to start, or its handler is to be stopped.
    pub(super) fn withdraw(&mut self, request: RequestId, reason: StopReason) {
        let reply = match reason {
            StopReason::Cancelled => Reply::Cancelled,
            StopReason::TimedOut | StopReason::Disconnected => {
                let why = "the handler ran longer than this endpoint allows";
                Reply::Error(Refusal::ExecutionTimedOut.to_error(why))
            }
        };
        self.withdraw_with(request, reason, reply);
    }

    /// The argument of a request that has not started can't be completed.
    pub(super) fn withdraw_incomplete(&mut self, request: RequestId, error: ReadError) {
        let refusal = match error {
            ReadError::TooLarge { .. } => Refusal::BodyTooLarge,
            _ => Refusal::MalformedBody,
        };
        let reply = Reply::Error(refusal.to_error(&error.to_string()));
        if let Some(OpenCall { state: State::Request(state), .. }) =
            self.table.get_mut(&StreamId::Request(request))
        {
            // It never starts, so no handler is told of the reason.
            state.withdrawn.get_or_insert(StopReason::Cancelled);
        }
        self.endpoint_events.push_back(EndpointEvent::Withdrawn { request, reply });
    }

    fn withdraw_with(&mut self, request: RequestId, reason: StopReason, reply: Reply) {
        let stream = StreamId::Request(request);
        let Some(OpenCall { state: State::Request(state), .. }) = self.table.get_mut(&stream) else { return };
        // Its handler is told once.
        if state.withdrawn.is_some() {
            return;
        }
        state.withdrawn = Some(reason);
        match state.waits() {
            true => self.give_up_argument(request, ReadError::TimedOut),
            false => self.events.push_back(Event::Stop { request, reason }),
        }
        self.endpoint_events.push_back(EndpointEvent::Withdrawn { request, reply });
    }

    /// Begins a reply that is a stream.
    pub(crate) fn begin_reply(
        &mut self,
        id: RequestId,
        compress: bool,
        metadata: Metadata,
        size: Option<u64>,
    ) -> Result<(), ReplyError> {
        let limit = self.stream_limit();
        let stream = StreamId::Request(id);
        let open = self.table.get_mut(&stream).ok_or(ReplyError::NotOpen)?;
        let State::Request(state) = &mut open.state else { return Err(ReplyError::NotOpen) };
        match state.stage {
            Stage::Incomplete(_) | Stage::Waiting { .. } => return Err(ReplyError::NotOpen),
            Stage::Running => {}
            Stage::Streaming { .. } => return Err(ReplyError::AlreadyBegun),
        }
        // no streams in dialect 1.
        if wire::is_dialect_1(state.number) {
            let detail = "the result is streamed, and this connection speaks dialect 1";
            self.reply(id, Reply::Error(Refusal::Unsupported.to_error(detail)))?;
            return Err(ReplyError::NeedsDialect2);
        }
        // Nothing of a cancelled one is sent but its end, which leaves in its order.
        let result = match state.cancelled {
            true => Writer::Stopped,
            false => Writer::Open(SendHalf::new(limit, compress)),
        };
        state.stage = Stage::Streaming { place: None, result };
        let (number, key, urgency) = (state.number, state.key.clone(), open.urgency);
        let content = ReplyContent::Stream { size, compress };
        let names = self.codec.name_size(number, &key);
        let reply = QueuedReply { number, key, names, content, metadata, unsolicited: false };
        self.release(reply, urgency, true);
        Ok(())
    }

    /// Answers a request, whose handler has ended or never ran.
    pub(crate) fn reply(&mut self, id: RequestId, reply: Reply) -> Result<(), ReplyError> {
        let stream = StreamId::Request(id);
        let open = self.table.get_mut(&stream).ok_or(ReplyError::NotOpen)?;
        let State::Request(state) = &mut open.state else { return Err(ReplyError::NotOpen) };
        let number = state.number;
        let begun = matches!(state.stage, Stage::Streaming { .. });
        let deadline = open.deadline.take();
        let cancelled = state.cancelled;
        self.deadlines.stop(deadline, Deadline::Execution(id));
        self.codec.release_name(number);
        if self.queue.bytes() > DETACH_FROM {
            self.codec.detach_name(number);
        }
        let mut refused = Ok(());
        let reply = match reply {
            // Nobody gives credit for a long one any more.
            reply if cancelled && !is_short(&reply, number) => Reply::Cancelled,
            Reply::End if begun => {
                self.end_streamed(stream);
                return Ok(());
            }
            Reply::End => Reply::result(""),
            Reply::Result { .. } if begun => {
                refused = Err(ReplyError::AlreadyBegun);
                Reply::Error(ErrorInfo::new("Error", ReplyError::AlreadyBegun.to_string()))
            }
            other => other,
        };
        let answered = self.answer(id, reply);
        refused.and(answered)
    }

    /// All of a streamed result has been written.
    fn end_streamed(&mut self, stream: StreamId) {
        self.stop_reading(stream);
        self.open_requests -= 1;
        let Some(open) = self.table.get_mut(&stream) else { return };
        let State::Request(state) = &mut open.state else { return };
        let Stage::Streaming { result, .. } = &mut state.stage else { return };
        let (number, key) = (state.number, state.key.clone());
        let Some(mut body) = result.take(Writer::Closed).filter(|body| !body.fin_sent()) else {
            return self.drop_call(stream);
        };
        body.finish();
        // Without a handler, which is bounded itself, what is left counts like a body.
        body.fixed_length = true;
        self.body_bytes += body.queued();
        let argument = state.argument.take();
        open.state = State::Replying { number, key, argument, body };
        self.schedule(stream);
    }

    /// Queues the one message with which a reply begins, or which it is.
    fn answer(&mut self, id: RequestId, reply: Reply) -> Result<(), ReplyError> {
        let stream = StreamId::Request(id);
        let limit = self.sendable();
        let Some(open) = self.table.get(&stream) else { return Err(ReplyError::NotOpen) };
        let State::Request(state) = &open.state else { return Err(ReplyError::NotOpen) };
        let (number, key, urgency) = (state.number, state.key.clone(), open.urgency);
        let dialect_2 = !wire::is_dialect_1(number);
        let mut fitted = Ok(());
        let (mut content, mut metadata) = match reply {
            Reply::Result { body, compressed, metadata } => {
                (ReplyContent::Result { body, compress: compressed }, metadata)
            }
            Reply::Failure(info) => (ReplyContent::Failure(Failure::Failure(info)), Metadata::new()),
            Reply::Error(info) => (ReplyContent::Failure(Failure::Error(info)), Metadata::new()),
            Reply::Cancelled | Reply::End => (ReplyContent::Failure(Failure::Cancelled), Metadata::new()),
        };
        // metadata does not travel in dialect 1.
        if !dialect_2 && !metadata.is_empty() {
            metadata = Metadata::new();
            fitted = Err(ReplyError::NeedsDialect2);
        }
        fitted = fitted.and(fit(&mut content, limit, dialect_2));
        let names = self.codec.name_size(number, &key);
        let reply = QueuedReply { number, key, names, content, metadata, unsolicited: false };
        self.open_requests -= 1;
        let is_long = matches!(&reply.content, ReplyContent::Result { body, .. } if body.len() > wire::max_first(number));
        if is_long {
            self.become_replying(stream, &reply);
            self.release(reply, urgency, true);
        } else {
            self.answer_at_once(stream, reply, urgency);
        }
        Ok(()).and(fitted)
    }

    /// A body that needs more than one message leaves as a stream.
    fn become_replying(&mut self, stream: StreamId, reply: &QueuedReply) {
        self.stop_reading(stream);
        let limit = self.stream_limit();
        let ReplyContent::Result { compress, .. } = reply.content else { return };
        let Some(open) = self.table.get_mut(&stream) else { return };
        let State::Request(state) = &mut open.state else { return };
        let mut body = SendHalf::new(limit, compress);
        body.fixed_length = true;
        let argument = state.argument.take();
        open.state = State::Replying { number: reply.number, key: reply.key.clone(), argument, body };
    }

    /// A reply in one message ends the call. It takes the place of a streamed one that has not begun to leave, and ends one that has.
    fn answer_at_once(&mut self, stream: StreamId, reply: QueuedReply, urgency: Urgency) {
        let (number, key) = (reply.number, reply.key.clone());
        let begun = match self.table.get(&stream).map(|open| &open.state) {
            Some(State::Request(state)) => match state.stage {
                Stage::Streaming { place, .. } => Some(place),
                Stage::Incomplete(_) | Stage::Waiting { .. } | Stage::Running => None,
            },
            _ => None,
        };
        let reply = match self.count_if_backlogged(reply) {
            Some(reply) => reply,
            // The connection is about to be closed.
            None => return self.drop_call(stream),
        };
        match begun {
            None => self.release(reply, urgency, false),
            Some(Some(place)) => {
                self.queue.change_reply(place, |queued| *queued = reply);
                self.leave_gate(&key, number);
            }
            Some(None) => self.replace_begun(reply, urgency),
        }
        self.drop_call(stream);
    }

    /// The streamed reply that this one replaces waits at the gate, or its beginning has left.
    fn replace_begun(&mut self, reply: QueuedReply, urgency: Urgency) {
        let (number, key) = (reply.number, reply.key.clone());
        let size = MESSAGE_OVERHEAD + reply.size();
        let mut replaced = Some(reply);
        let mut before = 0;
        let waits = self.gate.change(&key, number, false, |(waiting, _)| {
            before = MESSAGE_OVERHEAD + waiting.size();
            if let Some(reply) = replaced.take() {
                *waiting = reply;
            }
        });
        match replaced {
            None => self.gate_bytes = self.gate_bytes - before + size,
            Some(reply) => {
                debug_assert!(!waits);
                // The end of what has begun to leave; whatever waits for that follows it.
                self.queue.push(Queued::Reply(reply), &key, urgency);
                self.leave_gate(&key, number);
            }
        }
    }

    /// A peer can cause any number of errors and cancellations without a handler having run: by calls that find no place to wait, or that it
    /// cancels. Past the backlog they are bounded like what is refused here (K-4).
    fn count_if_backlogged(&mut self, mut reply: QueuedReply) -> Option<QueuedReply> {
        let counts = matches!(reply.content, ReplyContent::Failure(Failure::Error(_) | Failure::Cancelled));
        if counts && self.is_backlogged() {
            if self.queue.count_unsolicited(MESSAGE_OVERHEAD + reply.size()).is_err() {
                self.fatal = Some(Fatal(CloseCause::PeerNotReading));
                return None;
            }
            reply.unsolicited = true;
        }
        Some(reply)
    }

    /// Passes a reply to the gate, which lets it leave at once or after the streamed replies of its key.
    fn release(&mut self, reply: QueuedReply, urgency: Urgency, is_stream: bool) {
        let key = reply.key.clone();
        if !self.config.ordered_replies || !key.is_given() {
            self.enqueue(reply, urgency);
            return;
        }
        let size = MESSAGE_OVERHEAD + reply.size();
        match self.gate.enter(&key, reply.number, is_stream, (reply, urgency)) {
            Some((reply, urgency)) => self.enqueue(reply, urgency),
            None => self.gate_bytes += size,
        }
    }

    fn enqueue(&mut self, reply: QueuedReply, urgency: Urgency) {
        let (number, key) = (reply.number, reply.key.clone());
        let is_stream = matches!(reply.content, ReplyContent::Stream { .. });
        let queued_at = self.queue.push(Queued::Reply(reply), &key, urgency);
        if is_stream {
            self.set_place(number, Some(queued_at));
        }
    }

    /// Remembers where the beginning of a streamed reply waits.
    pub(super) fn set_place(&mut self, number: Number, queued_at: Option<Place>) {
        let id = StreamId::Request(self.request(number));
        if let Some(OpenCall { state: State::Request(state), .. }) = self.table.get_mut(&id)
            && let Stage::Streaming { place, .. } = &mut state.stage
        {
            *place = queued_at;
        }
    }

    /// A streamed reply has left, or never will: those that wait for it may leave.
    pub(super) fn leave_gate(&mut self, key: &OrderingKey, number: Number) {
        if !key.is_given() {
            return;
        }
        for (reply, urgency) in self.gate.left(key, number) {
            self.gate_bytes -= MESSAGE_OVERHEAD + reply.size();
            self.enqueue(reply, urgency);
        }
    }

    /// Refuses a request that was not taken, ahead of other replies with its key (O-14).
    pub(super) fn refuse(&mut self, number: Number, key: OrderingKey, error: ErrorInfo) {
        self.codec.detach_name(number);
        let names = self.codec.name_size(number, &key);
        let content = ReplyContent::Failure(Failure::Error(error));
        let reply = QueuedReply {
            number,
            key: key.clone(),
            names,
            content,
            metadata: Metadata::new(),
            unsolicited: true,
        };
        if self.queue.count_unsolicited(MESSAGE_OVERHEAD + reply.size()).is_err() {
            self.fatal = Some(Fatal(CloseCause::PeerNotReading));
            return;
        }
        self.queue.push(Queued::Reply(reply), &key, Urgency::DEFAULT);
    }

    /// The endpoint has no place for a request.
    pub(crate) fn refuse_busy(&mut self, id: RequestId, reason: BusyReason) {
        let stream = StreamId::Request(id);
        let Some(OpenCall { state: State::Request(state), deadline, .. }) = self.table.get(&stream) else {
            return;
        };
        let (number, key, deadline) = (state.number, state.key.clone(), *deadline);
        self.deadlines.stop(deadline, Deadline::Execution(id));
        self.open_requests -= 1;
        self.codec.release_name(number);
        self.drop_call(stream);
        self.refuse(number, key, Refusal::Busy.to_error(&reason.to_string()));
    }

    /// Tells the peer which of its calls were not taken. Dialect 1 has no such message (K-6).
    pub(super) fn say_goodbye(&mut self) {
        if self.has_streams() {
            let next = self.next_theirs;
            self.queue.push_control(Control::Record(Record::Goodbye { next }));
        }
    }
}

/// Whether a reply is one message whatever the credit.
fn is_short(reply: &Reply, number: Number) -> bool {
    match reply {
        Reply::Result { body, .. } => body.len() <= wire::max_first(number),
        // Where there are no streams it is an empty result.
        Reply::End => wire::is_dialect_1(number),
        Reply::Failure(_) | Reply::Error(_) | Reply::Cancelled => true,
    }
}
