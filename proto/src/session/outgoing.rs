//! What this side sends: its calls, its replies, its probes.

use std::time::Instant;

use bytes::Bytes;

use super::calls::Call as OpenCall;
use super::outbox::{Control, Entry, OVERHEAD};
use super::{Event, IncomingId, InvokeError, Outcome, PingId, Refusal, ReplyError, Session, Timer};
use crate::message::{ErrorInfo, Message, Payload, RequestId};
use crate::wire::PING;
use crate::{CallId, Multipart, OrderingKey, Text};

/// Largest method name and key together, in bytes, so that the header stays well below its limit.
const MAX_NAME: usize = 32 * 1024;

/// No peer is sent a larger body, whatever it offers: lengths travel in 32 bits.
const MAX_SENDABLE: usize = 1 << 30;

/// With more bytes than this waiting, the names of replies get buffers of their own: those that they came in may be
/// larger than what is counted.
const DETACH_FROM: usize = 1024 * 1024;

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
    /// When the call ends as [`Outcome::TimedOut`], if it has not ended before. It does not travel.
    pub deadline: Option<Instant>,
}

/// The answer to a request of the peer. Its size has the limit of [`Call::body`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// The handler's result.
    Result {
        /// The result, as the application's serializer wrote it.
        body: Bytes,
        /// Compress the body with Snappy.
        compressed: bool,
    },
    /// The handler's error. Over the limit, it loses its traceback.
    Failure(ErrorInfo),
    /// Callosum's own error, such as a [`Refusal`].
    Error(ErrorInfo),
    /// The handler was stopped because of a cancellation, or never started.
    Cancelled,
}

impl Call {
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
        let names = call.names();
        let Call { method, key, body, compressed, deadline } = call;
        if deadline.is_some_and(|at| at <= now) {
            self.events.push_back(Event::Ended { call: id, outcome: Outcome::TimedOut { sent: false } });
            return Ok(id);
        }
        if let Some(at) = deadline {
            self.timers.set(Timer::Call(id), at);
        }
        let queued = Some(self.outbox.push(Entry::Call { call: id, names, body, compressed }));
        self.calls.insert(OpenCall { id, method, key, deadline, queued });
        Ok(id)
    }

    fn check(&self, call: &Call) -> Result<(), InvokeError> {
        if self.is_closed() {
            return Err(InvokeError::Closed);
        }
        if self.draining {
            return Err(InvokeError::Draining);
        }
        let names = call.names();
        if names > MAX_NAME {
            return Err(InvokeError::NameTooLong { size: names, limit: MAX_NAME });
        }
        let (size, limit) = (call.body.len(), self.sendable());
        if size > limit {
            return Err(InvokeError::BodyTooLarge { size, limit });
        }
        let (queued, limit) = (self.outbox.bytes(), self.config.max_outgoing_bytes);
        if queued > 0 && queued + OVERHEAD + names + size > limit {
            return Err(InvokeError::QueueFull { queued, limit });
        }
        Ok(())
    }

    /// Largest body that the peer takes; our own limit as long as it has not said.
    fn sendable(&self) -> usize {
        let limit = match &self.peer {
            Some(hello) => usize::try_from(hello.max_body).unwrap_or(usize::MAX),
            None => self.config.max_body,
        };
        limit.min(MAX_SENDABLE)
    }

    /// The caller has lost interest: the call ends now, without an event. If it had left, the peer is sent a CANCEL;
    /// its answer is not waited for. Returns whether the call was still open.
    pub fn abandon(&mut self, call: CallId) -> bool {
        self.retire(call).is_some()
    }

    pub(super) fn time_out(&mut self, call: CallId) {
        if let Some(sent) = self.retire(call) {
            self.events.push_back(Event::Ended { call, outcome: Outcome::TimedOut { sent } });
        }
    }

    /// Ends a call that has no outcome from the peer; returns whether it had been sent.
    fn retire(&mut self, id: CallId) -> Option<bool> {
        let call = self.calls.remove(id)?;
        self.timers.stop(Timer::Call(id), call.deadline);
        match call.queued {
            Some(place) => self.outbox.remove(place),
            None => self.outbox.push_control(Control::Cancel(call.request_id())),
        }
        Some(call.sent())
    }

    /// A handler starts to run for this request, and must have ended by `deadline`.
    ///
    /// [`Event::ExecutionTimedOut`] reports if it has not. Ignored for a request that is not open.
    pub fn started(&mut self, id: IncomingId, deadline: Instant) {
        if self.requests.start(id, deadline) {
            self.timers.set(Timer::Execution(id), deadline);
        }
    }

    /// Answers a request. Replies leave in the order in which they are given.
    ///
    /// While the session [is backlogged](Self::is_backlogged), errors and cancellations of 4 MiB in all may join the
    /// queue; past that the peer is cut off as one that does not read.
    ///
    /// # Errors
    /// See [`ReplyError`]. The request is answered all the same, unless it was not open.
    pub fn reply(&mut self, id: IncomingId, reply: Reply) -> Result<(), ReplyError> {
        let (name, deadline) = self.requests.remove(id).ok_or(ReplyError::NotOpen)?;
        self.timers.stop(Timer::Execution(id), deadline);
        let limit = self.sendable();
        let (payload, compressed) = match reply {
            Reply::Result { body, compressed } => (Payload::Result(body), compressed),
            Reply::Failure(info) => (Payload::Failure(info), false),
            Reply::Error(info) => (Payload::Error(info), false),
            Reply::Cancelled => (Payload::Cancelled, false),
        };
        let name = if self.outbox.bytes() > DETACH_FROM { name.detached() } else { name };
        let mut message = Message { id: name, payload, compressed };
        let fitted = fit(&mut message, limit);
        // A peer can cause any number of these without a handler having run: by calls that find no place to wait, or
        // that it cancels. Past the backlog they are bounded like what this session refuses by itself.
        if self.is_backlogged() && matches!(message.payload, Payload::Error(_) | Payload::Cancelled) {
            self.push_refusal(message);
        } else {
            self.outbox.push(Entry::Reply(message));
        }
        fitted
    }

    /// The peer has said now what it takes: what waits and is larger must not leave.
    pub(super) fn fit_outbox(&mut self) {
        let limit = self.sendable();
        for (place, entry) in self.outbox.take_larger_than(limit) {
            match entry {
                Entry::Call { call, body, .. } => {
                    if let Some(open) = self.calls.remove(call) {
                        self.timers.stop(Timer::Call(call), open.deadline);
                    }
                    let outcome = Outcome::TooLarge { size: body.len(), limit };
                    self.events.push_back(Event::Ended { call, outcome });
                }
                Entry::Reply(mut message) => {
                    // Whoever replied has been told that it was sent; it is the peer that learns of it.
                    fit(&mut message, limit).ok();
                    self.outbox.put_back(place, Entry::Reply(message));
                }
                Entry::Refusal(_) => self.outbox.put_back(place, entry),
            }
        }
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
        if let Some(control) = self.outbox.pop_control(self.is_established()) {
            return Some(self.encode_control(control, now));
        }
        if !self.is_established() {
            return None;
        }
        Some(match self.outbox.pop()? {
            Entry::Reply(message) | Entry::Refusal(message) => self.encoder.encode(&message),
            Entry::Call { call, body, compressed, .. } => {
                let open = self.calls.get_mut(call).expect("a call that ends takes its entry back");
                open.queued = None;
                let payload = Payload::Function(body);
                self.encoder.encode_parts(open.seq(), &open.method, &open.key, &payload, compressed)
            }
        })
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
        }
    }

    /// Refuses a request that no handler has seen.
    pub(super) fn refuse(&mut self, id: RequestId, refusal: Refusal, detail: &str) {
        let payload = Payload::Error(refusal.to_error(detail));
        self.push_refusal(Message { id: id.detached(), payload, compressed: false });
    }

    fn push_refusal(&mut self, message: Message) {
        if self.outbox.push_refusal(message).is_err() {
            self.close(super::CloseCause::PeerNotReading);
        }
    }
}

/// Makes a reply one that the peer takes: an error gives up its traceback, and what is still too large becomes an
/// ERROR that says so.
fn fit(message: &mut Message, limit: usize) -> Result<(), ReplyError> {
    if let Payload::Failure(info) | Payload::Error(info) = &mut message.payload
        && info.size() > limit
    {
        info.traceback = Text::default();
    }
    let size = message.payload.size();
    if size <= limit {
        return Ok(());
    }
    let error = ReplyError::TooLarge { size, limit };
    message.payload = Payload::Error(Refusal::ReplyTooLarge.to_error(&error.to_string()));
    message.compressed = false;
    Err(error)
}
