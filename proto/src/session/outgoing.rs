//! What this side sends: its calls, its probes, and what leaves next.

use std::time::Instant;

use bytes::Bytes;

use super::calls::Call as OpenCall;
use super::exchange::{Exchange, Sending};
use super::outbox::{Answer, Control, Entry, OVERHEAD};
use super::replies::fit;
use super::requests::Name;
use super::{Dialect, Event, ExchangeId, InvokeError, Outcome, PingId, Session, Timer};
use crate::message::{Message, Payload};
use crate::wire::PING;
use crate::wire::dialect2::Record;
use crate::{CallId, Metadata, Multipart, OrderingKey, Text, Urgency};

/// Largest method name and key together, in bytes, so that the header stays well below its limit.
const MAX_NAME: usize = 32 * 1024;

/// No peer is sent a larger body, whatever it offers: lengths travel in 32 bits.
const MAX_SENDABLE: usize = 1 << 30;

/// A call to make.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method. Its name and the key may have 32 KiB together.
    pub method: Text,
    /// The ordering key, or [`OrderingKey::none`].
    pub key: OrderingKey,
    /// The argument, as the application's serializer wrote it. It may have as many bytes as the peer takes
    /// ([`Hello::max_body`](crate::wire::Hello::max_body)), or, if it has not said, as this side does; never over 1 GiB.
    pub body: Bytes,
    /// Compress the body with Snappy. A Python peer without python-snappy can't read such a call.
    pub compressed: bool,
    /// When the call ends as [`Outcome::TimedOut`], if it has not ended before. What remains of it travels in dialect 2.
    pub deadline: Option<Instant>,
    /// What travels besides, in dialect 2 only.
    pub metadata: Metadata,
    /// What leaves first, here and, in dialect 2, of the result.
    pub urgency: Urgency,
    /// More of the argument follows `body`: [write](super::Contents::write) it. In dialect 2 only.
    pub streamed: bool,
}

impl Call {
    /// A call without a key, a deadline or anything else.
    pub fn new(method: impl Into<Text>, body: impl Into<Bytes>) -> Self {
        Self {
            method: method.into(),
            key: OrderingKey::none(),
            body: body.into(),
            compressed: false,
            deadline: None,
            metadata: Metadata::new(),
            urgency: Urgency::DEFAULT,
            streamed: false,
        }
    }

    /// Bytes of method and key.
    fn names(&self) -> usize {
        self.method.as_bytes().len() + self.key.as_bytes().len()
    }
}

impl Session {
    /// Calls a method of the peer. The call waits for the link if there is none yet.
    ///
    /// Calls leave in the order in which they were made. Each ends with exactly one [`Event::Ended`], or with
    /// [`abandon`](Self::abandon).
    ///
    /// # Errors
    /// See [`InvokeError`]; the call was not accepted and there will be no event.
    pub fn invoke(&mut self, now: Instant, call: Call) -> Result<CallId, InvokeError> {
        self.check(&call)?;
        let id = self.calls.allocate();
        let names = call.names() + call.metadata.size();
        let Call { method, key, body, compressed, deadline, metadata, urgency, streamed } = call;
        if deadline.is_some_and(|at| at <= now) {
            self.end(id, Outcome::TimedOut { sent: false });
            return Ok(id);
        }
        if let Some(at) = deadline {
            self.timers.set(Timer::Call(id), at);
        }
        let size = body.len();
        let entry = Entry::Call { call: id, names, body, compressed };
        let queued = Some(self.outbox.push(entry, &key, urgency));
        if streamed {
            let exchange = Exchange::new(None, urgency);
            let exchange = self.exchanges.insert(ExchangeId::Ours(id), exchange);
            exchange.send = Some(Sending::new(0, compressed).after(size));
        }
        let (wire, responded) = (None, false);
        self.calls.insert(OpenCall {
            id,
            method,
            key,
            deadline,
            queued,
            wire,
            urgency,
            metadata,
            streamed,
            responded,
        });
        Ok(id)
    }

    /// Says how a call has ended.
    pub(super) fn end(&mut self, call: CallId, outcome: Outcome) {
        self.events.push_back(Event::Ended { call, outcome, metadata: Metadata::new() });
    }

    fn check(&self, call: &Call) -> Result<(), InvokeError> {
        if self.is_closed() {
            return Err(InvokeError::Closed);
        }
        if self.draining {
            return Err(InvokeError::Draining);
        }
        if self.peer_draining {
            return Err(InvokeError::PeerDraining);
        }
        let needs_two = call.streamed || !call.metadata.is_empty();
        if needs_two && (self.config.dialect == Dialect::One || self.speaks(Dialect::One)) {
            return Err(InvokeError::NeedsDialect2);
        }
        let names = call.names();
        if names > MAX_NAME {
            return Err(InvokeError::NameTooLong { size: names, limit: MAX_NAME });
        }
        let (size, limit) = (call.body.len(), self.sendable());
        if size > limit {
            return Err(InvokeError::BodyTooLarge { size, limit });
        }
        let (queued, limit) = (self.queued_bytes(), self.config.max_outgoing_bytes);
        if queued > 0 && queued + OVERHEAD + names + call.metadata.size() + size > limit {
            return Err(InvokeError::QueueFull { queued, limit });
        }
        Ok(())
    }

    /// Largest body that the peer takes; our own limit as long as it has not said.
    pub(super) fn sendable(&self) -> usize {
        let limit = match &self.peer {
            Some(hello) => usize::try_from(hello.max_body).unwrap_or(usize::MAX),
            None => self.config.max_body,
        };
        limit.min(MAX_SENDABLE)
    }

    /// The caller has lost interest: the call ends now, without an event. If it had left, the peer is sent a CANCEL;
    /// its answer is not waited for. Returns whether the call was still open.
    ///
    /// One whose result has been read to its end, and whose argument is [finished](super::Contents::finish), goes on until
    /// the rest of that has left, and ends with an event.
    pub fn abandon(&mut self, call: CallId) -> bool {
        if self.is_only_leaving(call) {
            return false;
        }
        self.retire(call).is_some()
    }

    /// Whether all that is left of a call of ours is an argument on its way.
    fn is_only_leaving(&mut self, id: CallId) -> bool {
        self.calls.get_mut(id).is_some_and(|call| call.responded)
            && self.exchanges.get_mut(ExchangeId::Ours(id)).is_some_and(|open| {
                open.receive.is_none() && open.send.as_ref().is_some_and(Sending::is_finished)
            })
    }

    pub(super) fn time_out(&mut self, call: CallId) {
        if let Some(sent) = self.retire(call) {
            self.end(call, Outcome::TimedOut { sent });
        }
    }

    /// Ends a call that has no outcome from the peer; returns whether it had been sent.
    pub(super) fn retire(&mut self, id: CallId) -> Option<bool> {
        let call = self.calls.remove(id)?;
        self.timers.stop(Timer::Call(id), call.deadline);
        match (call.queued, call.wire) {
            (Some(place), _) => drop(self.outbox.remove(place)),
            (None, None) => self.outbox.push_control(Control::Cancel(call.name())),
            (None, Some(wire)) => {
                self.exchanges.ours.remove(&wire);
                self.outbox.push_control(Control::Record(Record::Cancel { call: wire }));
            }
        }
        self.drop_exchange(ExchangeId::Ours(id));
        Some(call.sent())
    }

    /// The peer has said now what it takes: what waits and is larger must not leave.
    pub(super) fn fit_outbox(&mut self) {
        let limit = self.sendable();
        let is_two = self.speaks(Dialect::Two);
        for (place, entry) in self.outbox.take_larger_than(limit) {
            match entry {
                Entry::Call { call, body, .. } => {
                    self.end_unsent(call, Outcome::TooLarge { size: body.len(), limit });
                }
                Entry::Reply(answer) if answer.refusal => {
                    let key = answer.name.key().clone();
                    self.outbox.put_back(place, Entry::Reply(answer), &key);
                }
                Entry::Reply(mut answer) => {
                    let key = answer.name.key().clone();
                    // Whoever replied has been told that it was sent; it is the peer that learns of it.
                    fit(&mut answer, limit, is_two).ok();
                    self.outbox.put_back(place, Entry::Reply(answer), &key);
                }
            }
        }
        if !is_two {
            for call in self.calls.queued() {
                if self.calls.get_mut(call).is_some_and(|call| call.needs_dialect_2()) {
                    self.end_unsent(call, Outcome::NeedsDialect2);
                }
            }
        }
    }

    /// Ends a call that has not left.
    pub(super) fn end_unsent(&mut self, call: CallId, outcome: Outcome) {
        if let Some(open) = self.calls.remove(call) {
            self.timers.stop(Timer::Call(call), open.deadline);
            if let Some(place) = open.queued {
                self.outbox.remove(place);
            }
        }
        self.drop_exchange(ExchangeId::Ours(call));
        self.end(call, outcome);
    }

    /// Probes the peer, once the handshake is complete; [`Event::Pong`] brings the answer, if any.
    ///
    /// At most 64 probes are under way; the oldest is forgotten first.
    ///
    /// # Errors
    /// [`InvokeError::Closed`] if the session is over.
    pub fn ping(&mut self) -> Result<PingId, InvokeError> {
        if self.is_closed() {
            return Err(InvokeError::Closed);
        }
        Ok(self.queue_ping())
    }

    /// Nobody waits for this probe any more: it makes room for others, and its answer is no event.
    pub fn forget_ping(&mut self, ping: PingId) {
        if let Some(None) = self.pings.remove(&ping.0) {
            self.outbox.remove_ping(ping.0);
        }
    }

    /// The next message to send, until `None`. Control messages come first. Before the
    /// handshake is complete, only what belongs to it leaves, and PONGs.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Multipart> {
        if !self.is_linked() {
            return None;
        }
        let message = self.next_message(now);
        // What has left may have made room for a body that waited.
        self.start_collect_timers(now);
        message
    }

    fn next_message(&mut self, now: Instant) -> Option<Multipart> {
        if !self.outbox.next_is_record()
            && let Some(control) = self.outbox.pop_control(self.is_established())
        {
            return Some(self.encode_control(control, now));
        }
        if !self.is_established() {
            return None;
        }
        match self.dialect {
            Dialect::One => self.poll_message(),
            Dialect::Two => self.poll_packet(now),
        }
    }

    fn poll_message(&mut self) -> Option<Multipart> {
        Some(match self.outbox.pop()?.1 {
            Entry::Reply(answer) => self.encode_answer(answer),
            Entry::Call { call, body, compressed, .. } => {
                let open = self.calls.get_mut(call).expect("a call that ends takes its entry back");
                open.queued = None;
                let payload = Payload::Function(body);
                self.encoder.encode_parts(open.seq(), &open.method, &open.key, &payload, compressed)
            }
        })
    }

    /// In dialect 1.
    pub(super) fn encode_answer(&mut self, answer: Answer) -> Multipart {
        let Answer { name, payload, compressed, .. } = answer;
        match name {
            Name::One(id) => self.encoder.encode(&Message { id, payload, compressed }),
            Name::Two(..) => unreachable!("only requests that came in dialect 2 have such names"),
        }
    }

    fn encode_control(&mut self, control: Control, now: Instant) -> Multipart {
        match control {
            Control::Ready(message) => message,
            Control::Ping(ping) => {
                if let Some(sent) = self.pings.get_mut(&ping) {
                    *sent = Some(now);
                }
                Multipart::new(PING, Bytes::new(), Bytes::copy_from_slice(&ping.to_be_bytes()))
            }
            Control::Cancel(id) => {
                self.encoder.encode(&Message { id, payload: Payload::Cancel, compressed: false })
            }
            Control::Record(record) => {
                self.packet.write(&record);
                self.packet.take()
            }
        }
    }
}
