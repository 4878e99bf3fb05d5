//! Calls of this side: from the checks when they are made to their end.

use std::time::Instant;

use bytes::Bytes;

use super::table::{OpenCall, ResultState, State, Writer};
use super::{Calls, Deadline, Delivery};
use crate::error::{InvokeError, Refusal};
use crate::event::{Event, Outcome};
use crate::ids::{CallId, StreamId};
use crate::send::{Control, MESSAGE_OVERHEAD, Queued, QueuedCall};
use crate::stream::SendHalf;
use crate::wire::{MAX_NAMES, Number, Record};
use crate::{Metadata, OrderingKey, Text, Urgency};

/// Largest body that is sent, in bytes, whatever the peer accepts: lengths have 32 bits on the wire.
const MAX_SENDABLE: usize = 1 << 30;

/// A call for [`Connection::invoke`](crate::Connection::invoke).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Call {
    /// The name of the method. It and the key may have 32 KiB together.
    pub method: Text,
    /// The ordering key, or [`OrderingKey::none`].
    pub key: OrderingKey,
    /// The serialized argument, or the beginning of it if it is a stream. It may have as many bytes as the
    /// peer accepts ([`Event::Established`]), or, if the peer has announced no limit, as this side accepts;
    /// at most 1 GiB.
    pub body: Bytes,
    /// Whether the argument is a stream of which more follows `body`: [write](crate::SendStream::write) it.
    /// In dialect 2 only.
    pub argument: Delivery,
    /// Whether the result is delivered as one body or as a stream.
    pub result: Delivery,
    /// Compress the argument with Snappy. A Python peer without python-snappy can't read such a call.
    pub compressed: bool,
    /// When the call ends as [`Outcome::TimedOut`], unless it has ended before. In dialect 2, the peer is
    /// told the remaining time.
    pub deadline: Option<Instant>,
    /// Metadata for the peer's handler, in dialect 2 only.
    pub metadata: Metadata,
    /// The priority class for sending the call and, in dialect 2, its result.
    pub urgency: Urgency,
}

impl Call {
    /// A call with a body, without key, deadline and metadata, of the default urgency.
    pub fn new(method: impl Into<Text>, body: impl Into<Bytes>) -> Self {
        Self {
            method: method.into(),
            key: OrderingKey::none(),
            body: body.into(),
            argument: Delivery::Whole,
            result: Delivery::Whole,
            compressed: false,
            deadline: None,
            metadata: Metadata::new(),
            urgency: Urgency::DEFAULT,
        }
    }
}

impl Calls {
    pub(crate) fn invoke(&mut self, now: Instant, call: Call) -> Result<CallId, InvokeError> {
        self.check(&call)?;
        let id = self.table.allocate();
        // D-7: accepted but not sent, so that callers have to handle only one kind of timeout.
        if call.deadline.is_some_and(|at| at <= now) {
            self.events.push_back(Event::ended(id, Outcome::TimedOut { sent: false }));
            return Ok(id);
        }
        if let Some(at) = call.deadline {
            self.deadlines.set(at, Deadline::Call(id));
        }
        let Call { method, key, body, argument, result, compressed, deadline, metadata, urgency } = call;
        let is_stream = argument == Delivery::Stream;
        let argument = match is_stream {
            // The credit is set when the call is sent: it may not be known before.
            true => Writer::Open(SendHalf::new(0, compressed).after(body.len()).into()),
            false => Writer::Closed,
        };
        let queued = QueuedCall { call: id, method, key, body, metadata, is_stream, compress: compressed };
        let place = self.queue.push(Queued::Call(queued), urgency);
        let state = State::Queued { place, argument, delivery: result };
        let open = OpenCall { urgency, deadline, state };
        self.table.insert(StreamId::Call(id), open);
        Ok(id)
    }

    fn check(&self, call: &Call) -> Result<(), InvokeError> {
        if self.draining {
            return Err(InvokeError::Draining);
        }
        if self.peer_draining {
            return Err(InvokeError::PeerDraining);
        }
        // dialect 1 has neither metadata nor streams.
        let needs_two = call.argument == Delivery::Stream || !call.metadata.is_empty();
        if needs_two && !self.may_have_streams() {
            return Err(InvokeError::NeedsDialect2);
        }
        let names = call.method.as_bytes().len() + call.key.as_bytes().len();
        if names > MAX_NAMES {
            return Err(InvokeError::NameTooLong { size: names, limit: MAX_NAMES });
        }
        let (size, limit) = (call.body.len(), self.sendable());
        if size > limit {
            return Err(InvokeError::BodyTooLarge { size, limit });
        }
        // L-3: a call may exceed the limit if nothing waits. Otherwise, a larger body could never be sent.
        let (queued, limit) = (self.queued_bytes(), self.config.max_outgoing_bytes);
        if queued > 0 && queued + MESSAGE_OVERHEAD + names + call.metadata.size() + size > limit {
            return Err(InvokeError::QueueFull { queued, limit });
        }
        Ok(())
    }

    /// Largest body that may be sent: the peer's limit, or our own if it has announced none (H-13).
    pub(super) fn sendable(&self) -> usize {
        let limit = match self.peer.and_then(|peer| peer.max_body) {
            Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
            None => self.config.max_body,
        };
        limit.min(MAX_SENDABLE)
    }

    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, next: CallId) {
        self.table.skip_to(next);
    }

    /// Cancels a call: it ends now, without an event. If it was sent, sends a CANCEL, whose answer is
    /// ignored. Returns whether the call was open.
    ///
    /// Exception: if the result has been read to its end and the argument is finished, the call goes on until
    /// the argument has been sent.
    pub(crate) fn abandon(&mut self, call: CallId) -> bool {
        if self.only_argument_is_left(call) {
            return false;
        }
        self.take_back(call)
    }

    fn only_argument_is_left(&self, call: CallId) -> bool {
        matches!(
            self.table.get(StreamId::Call(call)).map(|open| &open.state),
            Some(State::Sent { argument: Writer::Open(half), result: ResultState::Begun(None), .. })
                if half.is_finished()
        )
    }

    /// Ends a call that the peer has not answered, or not as it must, and reports the outcome. If it was sent,
    /// sends a CANCEL. Ignored if it had ended.
    pub(super) fn retire(&mut self, call: CallId, outcome: Outcome) {
        if self.take_back(call) {
            self.events.push_back(Event::ended(call, outcome));
        }
    }

    /// The same without a report. Returns whether the call was open.
    fn take_back(&mut self, call: CallId) -> bool {
        match self.table.get(StreamId::Call(call)).map(|open| &open.state) {
            // D-1: the peer has not seen the call, so there is nothing to cancel.
            Some(State::Queued { place, .. }) => drop(self.queue.remove(*place)),
            Some(State::Sent { number, .. }) => {
                let call = *number;
                // D-3: an answer that is already on its way no longer belongs to a call.
                self.codec.abandon(call);
                self.queue.push_control(Control::Record(Record::Cancel { call }));
            }
            _ => return false,
        }
        self.drop_call(StreamId::Call(call));
        true
    }

    /// Ends a call that the peer has answered, or will not take: drops its state and its streams, and reports
    /// the outcome.
    pub(super) fn end(&mut self, call: CallId, outcome: Outcome, metadata: Metadata) {
        self.drop_call(StreamId::Call(call));
        self.events.push_back(Event::Ended { call, outcome, metadata });
    }

    /// Ends a call of this side if its result has arrived completely, and its argument has been sent or never
    /// will be. The unread part of the result stays readable.
    pub(super) fn end_if_complete(&mut self, call: CallId) {
        let id = StreamId::Call(call);
        let Some(open) = self.table.get_mut(id) else { return };
        let State::Sent { number, argument, result } = &mut open.state else { return };
        let number = *number;
        let ResultState::Begun(half) = result else { return };
        // A reassembled result ends its call once its body is complete.
        if half.as_ref().is_some_and(|half| !half.is_complete() || half.is_reassembled()) {
            return;
        }
        if let Some(left) = argument.half().filter(|half| !half.fin_sent()) {
            if !left.fixed_length {
                return;
            }
            // F-8: the rest of the body is of no use, but the handler may still wait for it.
            self.queue.push_control(Control::Record(Record::Abort { call: number }));
        }
        match half.take() {
            Some(result) => {
                let mut argument = std::mem::replace(argument, Writer::Closed);
                let (urgency, deadline) = (open.urgency, open.deadline.take());
                if let Some(half) = argument.take() {
                    self.release_sender(id, urgency, &half);
                }
                self.deadlines.stop(deadline, Deadline::Call(call));
                self.numbers.end(number);
                self.table.keep(id, State::Unread { number, argument, result });
            }
            // The result has been read to its end, so nothing is left of the call.
            None => self.drop_call(id),
        }
        self.events.push_back(Event::ended(call, Outcome::Complete));
    }

    /// The peer's limits are known: ends queued calls, and replaces queued replies, that are too large for it
    /// or need dialect 2.
    pub(super) fn fit_queue(&mut self) {
        let limit = self.sendable();
        for place in self.queue.larger_than(limit) {
            match self.queue.get(place) {
                Some(Queued::Call(queued)) => {
                    let (call, size) = (queued.call, queued.body.len());
                    self.retire(call, Outcome::TooLarge { size, limit });
                }
                // E-5: refusals are short, and are sent whatever the limit is.
                Some(Queued::Reply(reply)) if !reply.unsolicited => {
                    // The host has been told that the reply was sent, so only the peer gets the error.
                    self.queue.change_reply(place, |reply| {
                        super::reply::fit(reply.number, &mut reply.body, limit);
                    });
                }
                _ => {}
            }
        }
        if !self.has_streams() {
            // these calls were accepted when the dialect was not known.
            for call in self.unsent(|queued| queued.is_stream || !queued.metadata.is_empty()) {
                self.retire(call, Outcome::NeedsDialect2);
            }
        }
    }

    /// Unsent calls for which `which` is true, in the order in which they were made.
    fn unsent(&self, which: impl Fn(&QueuedCall) -> bool) -> Vec<CallId> {
        let queued = self.queue.iter().filter_map(|(_, queued)| match queued {
            Queued::Call(call) => which(call).then_some(call.call),
            Queued::Reply(_) => None,
        });
        let mut calls: Vec<_> = queued.collect();
        calls.sort_unstable();
        calls
    }

    /// The peer drains: ends calls from number `next` on, and unsent ones, as refused.
    pub(super) fn handle_goodbye(&mut self, next: Number) {
        if std::mem::replace(&mut self.peer_draining, true) {
            // a second GOODBYE is ignored.
            return;
        }
        let refused = || Outcome::Error(Refusal::ShuttingDown.to_error("the peer is shutting down").into());
        for call in self.numbers.calls_from(next) {
            self.end(call, refused(), Metadata::new());
        }
        for call in self.unsent(|_| true) {
            self.retire(call, refused());
        }
        self.events.push_back(Event::Goodbye);
    }
}
