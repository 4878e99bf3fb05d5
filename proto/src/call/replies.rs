//! Replies to requests of the peer: each becomes one message, or a stream that starts with a RESULT.
//!
//! If replies are ordered, a streamed reply makes later replies with its key wait at the
//! [gate](crate::ordering::ReplyGate) until it has been sent. The error of a reply that fails after it has
//! begun replaces its RESULT if that has not been sent, and follows it otherwise.

use super::reply::fit;
use super::table::{Beginning, OpenCall, Stage, State, StreamedResult, Writer};
use super::{Calls, Deadline, Fatal};
use crate::error::ReplyError;
use crate::event::CloseCause;
use crate::ids::{RequestId, StreamId};
use crate::reply::{Replied, Reply};
use crate::send::{Queued, QueuedReply, ReplyBody};
use crate::stream::SendHalf;
use crate::wire::{self, Failure, Number};
use crate::{ErrorInfo, Metadata, OrderingKey, Urgency};

impl Calls {
    /// Begins a streamed reply.
    pub(crate) fn begin_reply(
        &mut self,
        id: RequestId,
        compress: bool,
        metadata: Metadata,
        size: Option<u64>,
    ) -> Result<(), ReplyError> {
        let limit = self.stream_limit();
        let stream = StreamId::Request(id);
        let open = self.table.get_mut(stream).ok_or(ReplyError::NotOpen)?;
        let State::Request(state) = &mut open.state else { return Err(ReplyError::NotOpen) };
        match state.stage {
            Stage::Incomplete | Stage::Waiting | Stage::Withdrawn => return Err(ReplyError::NotOpen),
            Stage::Running => {}
            Stage::Streaming(_) => return Err(ReplyError::AlreadyBegun),
        }
        // dialect 1 has no streams.
        if wire::is_dialect_1(state.number) {
            return Err(ReplyError::NeedsDialect2);
        }
        // Of a cancelled result, only the end is sent, in its order.
        let writer = match state.cancelled {
            true => Writer::Stopped,
            false => Writer::Open(SendHalf::new(limit, compress).into()),
        };
        // `Left` is a placeholder: `release` sets where the RESULT is.
        state.stage = Stage::Streaming(StreamedResult { beginning: Beginning::Left, writer }.into());
        let (number, key, urgency) = (state.number, state.key.clone(), open.urgency);
        let body = ReplyBody::Stream { size, compress };
        let names = self.codec.name_size(number, &key);
        let reply = QueuedReply { number, key, names, body, metadata, unsolicited: false };
        self.release(reply, urgency, true);
        Ok(())
    }

    /// Answers a request whose handler has ended or never runs.
    pub(crate) fn reply(&mut self, id: RequestId, mut reply: Reply) -> Result<Replied, ReplyError> {
        let stream = StreamId::Request(id);
        let open = self.table.get_mut(stream).ok_or(ReplyError::NotOpen)?;
        let State::Request(state) = &mut open.state else { return Err(ReplyError::NotOpen) };
        let number = state.number;
        let begun = matches!(state.stage, Stage::Streaming(_));
        // Of a withdrawn request, the endpoint knows already that it does not run.
        let has_waited = matches!(state.stage, Stage::Incomplete | Stage::Waiting);
        // If the deadline has passed, a stream that has begun goes on: the caller may still be reading.
        let given_up = state.is_given_up() && (state.cancelled || !begun);
        self.deadlines.stop(open.deadline.take(), Deadline::Caller(id));
        self.deadlines.stop(state.execution_deadline.take(), Deadline::Execution(id));
        // C-8: the name of an answered call is free, even while the answer waits.
        self.codec.release_name(number);
        let mut replaced = None;
        if given_up && !is_short(&reply, number) {
            // A long reply would wait for credit that the caller no longer grants.
            replaced = Some(Replied::GivenUp);
            reply = Reply::Cancelled;
        }
        match reply {
            Reply::End if begun => {
                self.end_streamed(stream);
                return Ok(Replied::AsGiven);
            }
            Reply::End => reply = Reply::result(""),
            Reply::Result { .. } if begun => {
                replaced = Some(Replied::AlreadyBegun);
                reply = Reply::Error(ErrorInfo::new("Error", "a streamed result had already begun").into());
            }
            _ => {}
        }
        let replied = self.answer(id, reply)?;
        if has_waited {
            self.never_ran(id);
        }
        Ok(replaced.unwrap_or(replied))
    }

    /// The handler has written all of a streamed result.
    fn end_streamed(&mut self, stream: StreamId) {
        self.stop_reading(stream);
        let Some(open) = self.table.get_mut(stream) else { return };
        let State::Request(state) = &mut open.state else { return };
        let Stage::Streaming(result) = &mut state.stage else { return };
        let (number, key) = (state.number, state.key.clone());
        let Some(mut body) = result.writer.take().filter(|body| !body.fin_sent()) else {
            return self.drop_call(stream);
        };
        body.finish();
        // No running handler bounds the unsent rest any more, so it counts like a body.
        body.fixed_length = true;
        *self.bodies.of(stream) += body.body_left();
        let argument = state.argument.take();
        self.table.keep(stream, State::Replying { number, key, argument, body });
        self.schedule(stream);
    }

    /// Queues the first message of a reply, or the only one.
    fn answer(&mut self, id: RequestId, reply: Reply) -> Result<Replied, ReplyError> {
        let stream = StreamId::Request(id);
        let limit = self.sendable();
        let Some(open) = self.table.get(stream) else { return Err(ReplyError::NotOpen) };
        let State::Request(state) = &open.state else { return Err(ReplyError::NotOpen) };
        let (number, key, urgency) = (state.number, state.key.clone(), open.urgency);
        let given_up = state.is_given_up();
        let begun = match &state.stage {
            Stage::Streaming(result) => Some(result.beginning),
            Stage::Incomplete | Stage::Waiting | Stage::Withdrawn | Stage::Running => None,
        };
        let (mut body, mut metadata) = match reply {
            Reply::Result { body, compressed, metadata } => {
                (ReplyBody::Result { body, compress: compressed }, metadata)
            }
            Reply::Failure(info) => (ReplyBody::from(Failure::Failure(*info)), Metadata::new()),
            Reply::Error(info) => (ReplyBody::from(Failure::Error(*info)), Metadata::new()),
            Reply::Cancelled | Reply::End => (ReplyBody::from(Failure::Cancelled), Metadata::new()),
        };
        let mut replied = fit(number, &mut body, limit);
        // dialect 1 has no metadata.
        if wire::is_dialect_1(number) && !metadata.is_empty() {
            metadata = Metadata::new();
            if replied == Replied::AsGiven {
                replied = Replied::WithoutMetadata;
            }
        }
        let names = self.codec.name_size(number, &key);
        let reply = QueuedReply { number, key, names, body, metadata, unsolicited: false };
        let is_long =
            matches!(&reply.body, ReplyBody::Result { body, .. } if body.len() > wire::max_first(number));
        // F-5: DATA needs credit, so the call of a long body stays in the table until all of it is sent.
        if is_long {
            self.become_replying(stream, &reply);
            self.release(reply, urgency, true);
        } else {
            self.answer_at_once(reply, urgency, begun, given_up);
            self.drop_call(stream);
        }
        Ok(replied)
    }

    /// Turns a request into a reply whose body needs more than one message.
    fn become_replying(&mut self, stream: StreamId, reply: &QueuedReply) {
        self.stop_reading(stream);
        let limit = self.stream_limit();
        let ReplyBody::Result { compress, .. } = reply.body else { return };
        let Some(OpenCall { state: State::Request(state), .. }) = self.table.get_mut(stream) else { return };
        let mut body = Box::new(SendHalf::new(limit, compress));
        body.fixed_length = true;
        let (number, key, argument) = (state.number, state.key.clone(), state.argument.take());
        self.table.keep(stream, State::Replying { number, key, argument, body });
    }

    /// Queues a reply in one message, which ends the call. It replaces the RESULT of a streamed reply that
    /// has not been sent, and ends one that has.
    fn answer_at_once(
        &mut self,
        mut reply: QueuedReply,
        urgency: Urgency,
        begun: Option<Beginning>,
        given_up: bool,
    ) {
        if !self.count_if_backlogged(&mut reply) {
            return;
        }
        let Some(beginning) = begun else {
            return match given_up {
                // O-18: it has no place in the order, and must not wait for a stream that its caller may
                // never read.
                true => self.enqueue(reply, urgency),
                false => self.release(reply, urgency, false),
            };
        };
        let (number, key) = (reply.number, reply.key.clone());
        match beginning {
            Beginning::AtGate if given_up => {
                self.gate.remove(number);
                self.enqueue(reply, urgency);
            }
            Beginning::Queued(place) => {
                self.queue.change_reply(place, |queued| *queued = reply);
                self.leave_gate(&key, number);
            }
            Beginning::AtGate => {
                self.gate.replace(number, reply.size(), (reply, urgency));
            }
            Beginning::Left => {
                // This is the end of the stream, so the replies that wait for it follow.
                self.queue.push(Queued::Reply(reply), urgency);
                self.leave_gate(&key, number);
            }
        }
    }

    /// A peer can cause any number of ERRORs and CANCELLEDs without running a handler, by calls that exceed a
    /// limit or that it cancels. Once the connection is backlogged, they count as unsolicited, like refusals
    /// (K-4). Returns false if there is no room for one: the connection will be closed.
    fn count_if_backlogged(&mut self, reply: &mut QueuedReply) -> bool {
        let counts = match &reply.body {
            ReplyBody::Failure(failure) => matches!(**failure, Failure::Error(_) | Failure::Cancelled),
            ReplyBody::Result { .. } | ReplyBody::Stream { .. } => false,
        };
        if counts && self.is_backlogged() {
            if self.queue.count_unsolicited(reply.size()).is_err() {
                self.fatal = Some(Fatal(CloseCause::PeerNotReading));
                return false;
            }
            reply.unsolicited = true;
        }
        true
    }

    /// Passes a reply to the gate, which queues it now or after the streamed replies with its key.
    fn release(&mut self, reply: QueuedReply, urgency: Urgency, is_stream: bool) {
        if !self.config.ordered_replies || !reply.key.is_given() {
            return self.enqueue(reply, urgency);
        }
        let key = reply.key.clone();
        let (number, size) = (reply.number, reply.size());
        match self.gate.enter(&key, number, is_stream, size, (reply, urgency)) {
            Some((reply, urgency)) => self.enqueue(reply, urgency),
            None => self.set_beginning(number, Beginning::AtGate),
        }
    }

    fn enqueue(&mut self, reply: QueuedReply, urgency: Urgency) {
        let number = reply.number;
        let is_stream = matches!(reply.body, ReplyBody::Stream { .. });
        let queued_at = self.queue.push(Queued::Reply(reply), urgency);
        if is_stream {
            self.set_beginning(number, Beginning::Queued(queued_at));
        }
    }

    /// Sets where the RESULT of a streamed reply is. Ignored for any other reply.
    pub(super) fn set_beginning(&mut self, number: Number, now: Beginning) {
        let id = StreamId::Request(self.request(number));
        if let Some(OpenCall { state: State::Request(state), .. }) = self.table.get_mut(id)
            && let Stage::Streaming(result) = &mut state.stage
        {
            result.beginning = now;
        }
    }

    /// A streamed reply has been sent, or never will be: queues the replies that wait for it.
    pub(super) fn leave_gate(&mut self, key: &OrderingKey, number: Number) {
        if !key.is_given() {
            return;
        }
        for (reply, urgency) in self.gate.left(key, number) {
            self.enqueue(reply, urgency);
        }
    }

    /// The peer has cancelled a call whose reply may wait at the gate. Answers it at once (O-18): otherwise the
    /// replies of calls that are given up behind a stream that nobody reads would fill the send queue.
    pub(super) fn cancel_at_gate(&mut self, number: Number) {
        let Some((mut reply, urgency)) = self.gate.remove(number) else { return };
        // One that counts as unsolicited is short, and has been counted with its size.
        if !reply.unsolicited {
            (reply.body, reply.metadata) = (ReplyBody::from(Failure::Cancelled), Metadata::new());
            if !self.count_if_backlogged(&mut reply) {
                return;
            }
        }
        self.enqueue(reply, urgency);
    }
}

/// Whether a reply is one message, independent of credit.
fn is_short(reply: &Reply, number: Number) -> bool {
    match reply {
        // F-1: what is longer is sent in DATA. Dialect 1 has none.
        Reply::Result { body, .. } => body.len() <= wire::max_first(number),
        // dialect 1 has no streams, so none has begun, and this is an empty result.
        Reply::End => wire::is_dialect_1(number),
        Reply::Failure(_) | Reply::Error(_) | Reply::Cancelled => true,
    }
}
