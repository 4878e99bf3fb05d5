//! Calls of this side: from their acceptance to their end.

use std::time::Instant;

use bytes::Bytes;

use super::table::{OpenCall, ResultState, State, Writer};
use super::{Calls, Deadline, Delivery};
use crate::error::{InvokeError, Refusal};
use crate::event::{Event, Outcome};
use crate::ids::{CallId, StreamId};
use crate::send::{Control, MESSAGE_OVERHEAD, Queued, QueuedCall};
use crate::stream::SendHalf;
use crate::wire::{self, Number, Record};
use crate::{Metadata, OrderingKey, Text, Urgency};

/// Largest method name and key together, in bytes, so that the header stays well below its limit.
const MAX_NAMES: usize = 32 * 1024;

/// No peer is sent a larger body, whatever it offers: lengths travel in 32 bits.
const MAX_SENDABLE: usize = 1 << 30;

/// A call to make.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Call {
    /// The method. Its name and the key may have 32 KiB together.
    pub method: Text,
    /// The ordering key, or [`OrderingKey::none`].
    pub key: OrderingKey,
    /// The argument, as the application's serializer wrote it, or the beginning of it if it is a stream. It may have as many bytes as
    /// the peer takes ([`Event::Established`]), or, if it has not said, as this side does; never over 1 GiB.
    pub body: Bytes,
    /// Whether more of the argument follows `body`: [write](crate::SendStream::write) it. In dialect 2 only.
    pub argument: Delivery,
    /// How the result is handed over.
    pub result: Delivery,
    /// Compress the body with Snappy. A Python peer without python-snappy can't read such a call.
    pub compressed: bool,
    /// When the call ends as [`Outcome::TimedOut`], if it has not ended before. What remains of it travels in dialect 2.
    pub deadline: Option<Instant>,
    /// What travels besides, in dialect 2 only.
    pub metadata: Metadata,
    /// What leaves first, here and, in dialect 2, of the result.
    pub urgency: Urgency,
}

impl Call {
    /// A call without a key, a deadline or anything else.
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

    /// Bytes of method and key.
    fn names(&self) -> usize {
        self.method.as_bytes().len() + self.key.as_bytes().len()
    }
}

impl Calls {
    pub(crate) fn invoke(&mut self, now: Instant, call: Call) -> Result<CallId, InvokeError> {
        self.check(&call)?;
        let id = self.allocate();
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
            // The credit is set when the call leaves: the peer may not have said.
            true => Writer::Open(SendHalf::new(0, compressed).after(body.len()).into()),
            false => Writer::Closed,
        };
        let queued = QueuedCall { call: id, method, key, body, metadata, is_stream, compress: compressed };
        let place = self.queue.push(Queued::Call(queued), urgency);
        let state = State::Queued { place, argument, delivery: result };
        let open = OpenCall { urgency, deadline, state };
        self.table.insert(StreamId::Call(id), open);
        self.open_calls += 1;
        Ok(id)
    }

    fn check(&self, call: &Call) -> Result<(), InvokeError> {
        if self.draining {
            return Err(InvokeError::Draining);
        }
        if self.peer_draining {
            return Err(InvokeError::PeerDraining);
        }
        // neither metadata nor streams travel in dialect 1.
        let needs_two = call.argument == Delivery::Stream || !call.metadata.is_empty();
        if needs_two && !self.may_have_streams() {
            return Err(InvokeError::NeedsDialect2);
        }
        let names = call.names();
        if names > MAX_NAMES {
            return Err(InvokeError::NameTooLong { size: names, limit: MAX_NAMES });
        }
        let (size, limit) = (call.body.len(), self.sendable());
        if size > limit {
            return Err(InvokeError::BodyTooLarge { size, limit });
        }
        let (queued, limit) = (self.queued_bytes(), self.config.max_outgoing_bytes);
        if queued > 0 && queued + MESSAGE_OVERHEAD + names + call.metadata.size() + size > limit {
            return Err(InvokeError::QueueFull { queued, limit });
        }
        Ok(())
    }

    /// Largest body that the peer takes; our own limit as long as it has not said (H-13).
    pub(super) fn sendable(&self) -> usize {
        let limit = match self.peer.and_then(|peer| peer.max_body) {
            Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
            None => self.config.max_body,
        };
        limit.min(MAX_SENDABLE)
    }

    /// Takes the next id whose low 32 bits, the `seq` of dialect 1, no call of ours has (C-1).
    fn allocate(&mut self) -> CallId {
        let mut id = self.next_call;
        while self.has_seq_of(id) {
            id.0 += 1;
        }
        self.next_call = CallId(id.0 + 1);
        id
    }

    /// Ids only grow, so another call with this `seq` is a multiple of 2^32 below.
    fn has_seq_of(&self, id: CallId) -> bool {
        let earlier = (1..=id.0 >> 32).map(|wraps| CallId(id.0 - (wraps << 32)));
        earlier.into_iter().any(|earlier| self.table.get(StreamId::Call(earlier)).is_some())
    }

    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, next: CallId) {
        self.next_call = next;
    }

    /// Its caller has lost interest: the call ends now, without an event. If it had left, the peer is sent a CANCEL; its answer is not
    /// waited for. Returns whether the call was still open.
    ///
    /// One whose result has been read to its end, and whose argument is finished, goes on until that has left.
    pub(crate) fn abandon(&mut self, call: CallId) -> bool {
        if self.only_argument_is_left(call) {
            return false;
        }
        self.retire(call).is_some()
    }

    fn only_argument_is_left(&self, call: CallId) -> bool {
        matches!(
            self.table.get(StreamId::Call(call)).map(|open| &open.state),
            Some(State::Sent { argument: Writer::Open(half), result: ResultState::Begun(None), .. })
                if half.is_finished()
        )
    }

    pub(super) fn time_out(&mut self, call: CallId) {
        if let Some(sent) = self.retire(call) {
            self.events.push_back(Event::ended(call, Outcome::TimedOut { sent }));
        }
    }

    /// Ends a call that has no outcome of the peer's, and tells the peer if it had left; returns whether it had.
    pub(super) fn retire(&mut self, call: CallId) -> Option<bool> {
        let open = self.table.get(StreamId::Call(call))?;
        let left = open.has_left()?;
        match &open.state {
            State::Queued { place, .. } => drop(self.queue.remove(*place)),
            State::Sent { number, .. } => {
                let call = *number;
                self.codec.abandon(call);
                self.queue.push_control(Control::Record(Record::Cancel { call }));
            }
            _ => {}
        }
        self.forget(call);
        Some(left)
    }

    /// Takes a call that has not ended out of the table, with its streams.
    fn forget(&mut self, call: CallId) {
        self.count_end(call);
        self.drop_call(StreamId::Call(call));
    }

    /// A call that has not ended is about to.
    fn count_end(&mut self, call: CallId) {
        let Some(open) = self.table.get_mut(StreamId::Call(call)) else { return };
        let deadline = open.deadline.take();
        if open.has_left().is_some() {
            self.open_calls -= 1;
        }
        if let Some(number) = open.number() {
            self.ours.remove(wire::ordinal(number));
        }
        self.deadlines.stop(deadline, Deadline::Call(call));
    }

    /// **The** end of a call of ours: its state and its streams go, and its caller is told.
    pub(super) fn end(&mut self, call: CallId, outcome: Outcome, metadata: Metadata) {
        self.forget(call);
        self.events.push_back(Event::Ended { call, outcome, metadata });
    }

    /// Ends a call that has not left.
    fn end_unsent(&mut self, call: CallId, outcome: Outcome) {
        if let Some(OpenCall { state: State::Queued { place, .. }, .. }) =
            self.table.get(StreamId::Call(call))
        {
            self.queue.remove(*place);
        }
        self.end(call, outcome, Metadata::new());
    }

    /// Ends a call of ours if all of its result has come, and all of its argument has left or never will. What has not been
    /// read of the result stays readable.
    pub(super) fn end_if_complete(&mut self, call: CallId) {
        let id = StreamId::Call(call);
        let Some(OpenCall { state: State::Sent { number, argument, result }, .. }) = self.table.get_mut(id)
        else {
            return;
        };
        let number = *number;
        let ResultState::Begun(half) = result else { return };
        // One that waits for memory ends once its body has been handed over.
        if half.as_ref().is_some_and(|half| !half.is_complete() || half.is_reassembled()) {
            return;
        }
        if let Some(left) = argument.half().filter(|half| !half.fin_sent()) {
            if !left.fixed_length {
                return;
            }
            // Nobody waits for it any more, but the handler may wait for the rest (F-8).
            self.queue.push_control(Control::Record(Record::Abort { call: number }));
        }
        let unread = half.take();
        self.count_end(call);
        self.drop_writer(id);
        match (unread, self.table.get_mut(id)) {
            (Some(result), Some(open)) => {
                // A writer that was stopped is told so as long as anything is left of the call.
                let argument = match open.writer() {
                    Some(Writer::Stopped) => Writer::Stopped,
                    _ => Writer::Closed,
                };
                open.state = State::Unread { number, argument, result };
            }
            _ => self.drop_call(id),
        }
        self.events.push_back(Event::ended(call, Outcome::Complete));
    }

    /// The peer has said what it takes: what waits and is larger must not leave, nor what needs dialect 2 if the peer does
    /// not speak it.
    pub(super) fn fit_queue(&mut self) {
        let limit = self.sendable();
        for place in self.queue.larger_than(limit) {
            match self.queue.get(place) {
                Some(Queued::Call(queued)) => {
                    let (call, size) = (queued.call, queued.body.len());
                    self.end_unsent(call, Outcome::TooLarge { size, limit });
                }
                Some(Queued::Reply(reply)) if !reply.unsolicited => {
                    let dialect_2 = !wire::is_dialect_1(reply.number);
                    // The host was told that it was sent; it is the peer that learns of it.
                    self.queue.change_reply(place, |reply| {
                        super::reply::fit(&mut reply.body, limit, dialect_2);
                    });
                }
                _ => {}
            }
        }
        if !self.has_streams() {
            for call in self.unsent(|queued| queued.is_stream || !queued.metadata.is_empty()) {
                self.end_unsent(call, Outcome::NeedsDialect2);
            }
        }
    }

    /// Calls that have not left and for which this is true, in the order in which they were made.
    fn unsent(&self, which: impl Fn(&QueuedCall) -> bool) -> Vec<CallId> {
        let queued = self.queue.iter().filter_map(|(_, queued)| match queued {
            Queued::Call(call) => which(call).then_some(call.call),
            Queued::Reply(_) => None,
        });
        let mut calls: Vec<_> = queued.collect();
        calls.sort_unstable();
        calls
    }

    /// The peer takes no new calls: those from number `next` on, and those that have not left, end as refused.
    pub(super) fn handle_goodbye(&mut self, next: Number) {
        if std::mem::replace(&mut self.peer_draining, true) {
            // What it took once it can't take back.
            return;
        }
        let refused = || Outcome::Error(Refusal::ShuttingDown.to_error("the peer is shutting down").into());
        let mut untaken: Vec<_> = self
            .ours
            .iter()
            .filter(|(number, _)| *number >= wire::ordinal(next))
            .map(|(number, call)| (number, *call))
            .collect();
        untaken.sort_unstable();
        for (_, call) in untaken {
            self.end(call, refused(), Metadata::new());
        }
        for call in self.unsent(|_| true) {
            self.end_unsent(call, refused());
        }
        self.events.push_back(Event::Goodbye);
    }
}
