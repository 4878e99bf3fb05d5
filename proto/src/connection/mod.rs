//! One connection to one remote peer: handshake, dialect, liveness, the end, and the calls of both sides.
//!
//! Responsible for the state of the connection and its dialect; calls are in [`Calls`](crate::call). The dialect is
//! chosen in the handshake; afterwards only the codec knows it.

mod acknowledgement;
mod byte_stream;
mod handshake;
mod probes;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::acknowledgement::Acknowledgement;
use self::probes::{Departure, Probes};
use crate::call::{Call, Calls, RecvStream, SendStream};
use crate::config::{ConnectionConfig, Dialect};
use crate::error::{InvokeError, ReplyError};
use crate::event::{Anomaly, CloseCause, ConnectionEvent, EndpointEvent, Event, Outcome};
use crate::ids::{CallId, ConnectionId, RequestId, StreamId};
use crate::reply::{Replied, Reply};
use crate::send::Control;
use crate::wire::{Hello, NONCE_LEN, PING, PONG, UPPER};
use crate::zmtp::{Link, LinkError};
use crate::{Metadata, Multipart, Role};

/// Least window of a stream, so that every record fits.
const MIN_WINDOW: u64 = 1024;

/// A connection that has heard nothing for so long gives back the memory that it keeps for what is to come. That may be more than it
/// takes without, above all after the handshake and the first probes, which fill each queue once.
const QUIET: Duration = Duration::from_secs(1);

/// One connection to one remote peer. See the [crate](crate) for the run loop.
///
/// `now` must not go backwards; if it does, timers are late, without other effects. The same calls in the same order
/// give the same outputs, to the byte. No input panics.
pub struct Connection {
    id: ConnectionId,
    role: Role,
    config: Arc<ConnectionConfig>,
    nonce: [u8; NONCE_LEN],
    phase: Phase,
    /// The byte stream to the peer, if that is the transport.
    link: Option<Box<Link>>,
    calls: Calls,
    probes: Probes,
    acknowledgement: Acknowledgement,
    /// When the handshake has taken too long, and when the peer has accepted no bytes for too long.
    handshake_deadline: Option<Instant>,
    write_deadline: Option<Instant>,
    /// When to look whether it has been quiet, if anything was heard since it was.
    quiet_check: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no transport yet. Calls wait.
    Unconnected,
    Handshaking,
    /// With what the peer said of itself, if it knows more than dialect 1.
    Established {
        hello: Option<Hello>,
        dialect: Dialect,
    },
    Closed(CloseCause),
}

impl Connection {
    /// A connection without a transport. `first_call` is [`CallId::FIRST`], or [`next_call`](Self::next_call) of the
    /// connection that this one replaces, so that ids are never reused. `nonce` must be random and new for each
    /// connection: a binder recognizes by it that its peer was restarted.
    pub fn new(
        id: ConnectionId,
        role: Role,
        config: impl Into<Arc<ConnectionConfig>>,
        nonce: [u8; NONCE_LEN],
        first_call: CallId,
        now: Instant,
    ) -> Self {
        let mut config = config.into();
        if config.stream_window < MIN_WINDOW
            || !(MIN_WINDOW..=config.stream_window).contains(&config.first_window)
            || config.connection_window < config.stream_window
        {
            let config = Arc::make_mut(&mut config);
            config.stream_window = config.stream_window.max(MIN_WINDOW);
            config.first_window = config.first_window.clamp(MIN_WINDOW, config.stream_window);
            config.connection_window = config.connection_window.max(config.stream_window);
        }
        Self {
            id,
            role,
            nonce,
            phase: Phase::Unconnected,
            link: None,
            calls: Calls::new(id, role == Role::Connector, config.clone(), first_call),
            probes: Probes::new(config.keepalive, now),
            acknowledgement: Acknowledgement::default(),
            config,
            handshake_deadline: None,
            write_deadline: None,
            quiet_check: None,
        }
    }

    /// Its id at the endpoint.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Handles a message of the transport. A faulty message is reported as an [`Event::Anomaly`] and, if it names a
    /// call, answered. Ignored while there is no transport.
    pub fn handle_message(&mut self, now: Instant, message: Multipart) {
        if !self.is_connected() {
            return;
        }
        self.probes.heard(now);
        if self.quiet_check.is_none() {
            self.quiet_check = now.checked_add(QUIET);
        }
        if self.dialect() == Some(Dialect::Two) && message.frames().len() == 1 {
            let Some(packet) = message.into_one() else { return self.report(Anomaly::NotAMessage) };
            match self.calls.handle_packet(now, &packet) {
                Ok(()) => self.look_for_progress(now),
                Err(fatal) => self.close(fatal.0),
            }
            return;
        }
        let Some([marker, header, body]) = message.into_three() else {
            return self.report(Anomaly::NotAMessage);
        };
        if marker == UPPER && self.dialect() != Some(Dialect::Two) {
            self.handle_upper(now, &header, body);
        } else if marker == PING {
            self.handle_ping(now, header, body);
        } else if marker == PONG {
            self.handle_pong(now, &header, &body);
        } else {
            self.report(Anomaly::NotAMessage);
        }
        self.look_for_progress(now);
        self.close_if_fatal();
    }

    /// Handles an event of the endpoint.
    pub fn handle_event(&mut self, now: Instant, event: ConnectionEvent) {
        if self.is_closed() {
            if let ConnectionEvent::Start(request) = event {
                self.calls.never_ran(request);
            }
            return;
        }
        match event {
            ConnectionEvent::Start(request) => self.calls.start(now, request),
            ConnectionEvent::Refuse { request, reason } => self.calls.refuse_busy(request, reason),
            // The peer is told what is wrong with a reply that can't be sent.
            ConnectionEvent::Reply { request, reply } => drop(self.calls.reply(request, reply)),
            ConnectionEvent::MayReply(request) => self.calls.events().push_back(Event::MayReply(request)),
            ConnectionEvent::Reassemble(stream) => self.calls.reassemble(now, stream),
            ConnectionEvent::Drain => self.drain(),
        }
        self.close_if_fatal();
    }

    /// The next event for the endpoint, until `None`.
    pub fn poll_endpoint_event(&mut self) -> Option<EndpointEvent> {
        self.calls.poll_endpoint_event()
    }

    /// Whether [`poll_event`](Self::poll_event) or [`poll_endpoint_event`](Self::poll_endpoint_event) has an event.
    pub fn has_events(&self) -> bool {
        self.calls.has_events()
    }

    /// The next event, until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.calls.poll_event()
    }

    /// The next message to send, until `None`. Before the handshake is complete, only messages of the handshake are
    /// sent.
    pub fn poll_message(&mut self, now: Instant) -> Option<Multipart> {
        let message = self.next_message(now)?;
        self.acknowledgement.leaves(self.calls.take_needs_acknowledgement());
        Some(message)
    }

    fn next_message(&mut self, now: Instant) -> Option<Multipart> {
        if !self.is_connected() {
            return None;
        }
        let established = self.is_established();
        let queue = self.calls.queue();
        if !queue.next_is_about_a_call()
            && let Some(control) = queue.pop_control(established)
        {
            return Some(match control {
                Control::Hello(message) | Control::Pong(message) => message,
                Control::Ping(number) => {
                    self.probes.sent(number, Departure { at: now, after: self.acknowledgement.sent() })
                }
                Control::Record(_) => unreachable!("it is about a call"),
            });
        }
        if !established {
            return None;
        }
        let message = self.calls.poll_message(now);
        self.close_if_fatal();
        message
    }

    /// The transport accepts no more bytes for now, though some wait. If that lasts for
    /// [`write_timeout`](ConnectionConfig::write_timeout), the connection is closed. Acknowledgements and answers of
    /// the peer restart that timeout, since a transport with large buffers accepts bytes rarely (K-3).
    pub fn handle_write_blocked(&mut self, now: Instant) {
        if self.is_connected() && self.write_deadline.is_none() {
            self.write_deadline = now.checked_add(self.config.write_timeout);
        }
    }

    /// The transport has accepted some bytes.
    pub fn handle_write_progress(&mut self) {
        self.write_deadline = None;
    }

    /// The peer may have shown that it reads.
    fn look_for_progress(&mut self, now: Instant) {
        if self.calls.take_peer_reads() {
            self.put_off_write_deadline(now);
        }
    }

    fn put_off_write_deadline(&mut self, now: Instant) {
        if self.write_deadline.is_some() {
            self.write_deadline = now.checked_add(self.config.write_timeout);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); after that was called with `now`, later than `now`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_deadline().into_iter().chain(self.quiet_check).min()
    }

    /// When something is due that a peer or a caller notices.
    fn next_deadline(&self) -> Option<Instant> {
        let probe = self.probes.next_timeout();
        [
            self.handshake_deadline,
            self.write_deadline,
            probe,
            self.calls.next_deadline(),
            self.next_link_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due at `now`. Early calls are harmless; late calls delay timeouts.
    ///
    /// # Errors
    /// As [`handle_input`](Self::handle_input). None if the transport delivers messages.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        if self.handshake_deadline.take_if(|at| *at <= now).is_some() {
            match self.role {
                // A binder's peer need not speak first: without a PING, it is one of dialect 1 (H-9).
                Role::Binder => self.establish(None, now),
                Role::Connector => self.close(CloseCause::HandshakeTimedOut),
            }
        }
        if self.write_deadline.take_if(|at| *at <= now).is_some() {
            self.close(CloseCause::PeerNotReading);
        }
        if self.quiet_check.take_if(|at| *at <= now).is_some() {
            // What is kept is given back at each timeout. This one is the last, unless something was heard since it was set.
            self.quiet_check = self.probes.last_heard().checked_add(QUIET).filter(|at| *at > now);
            if self.quiet_check.is_none() && !self.is_closed() {
                self.calls.quiet();
            }
        }
        match self.probes.handle_timeout(now) {
            probes::Due::Nothing => {}
            probes::Due::Probe => drop(self.queue_probe()),
            probes::Due::Dead => self.close(CloseCause::KeepaliveTimedOut),
        }
        if !self.is_closed() {
            self.calls.handle_timeout(now);
        }
        self.handle_link_timeout(now)
    }

    /// Calls a method of the peer. The call waits for the handshake if that is not complete.
    ///
    /// Calls are sent in the order in which they were made, more urgent ones first. Each ends with exactly one
    /// [`Event::Ended`], or with [`abandon`](Self::abandon).
    ///
    /// # Errors
    /// See [`InvokeError`]; the call was not accepted and there will be no event.
    pub fn invoke(&mut self, now: Instant, call: Call) -> Result<CallId, InvokeError> {
        if self.is_closed() {
            return Err(InvokeError::Closed);
        }
        self.calls.invoke(now, call)
    }

    /// Ends a call of this side now, without an event, because its caller has cancelled it. If it had been sent, the
    /// peer gets a CANCEL, whose answer is ignored. Returns whether the call was still open.
    ///
    /// A call whose result has been read to its end, and whose argument is [finished](SendStream::finish), goes on
    /// until the rest of the argument has been sent, and ends with an event.
    pub fn abandon(&mut self, call: CallId) -> bool {
        self.calls.abandon(call)
    }

    /// Begins the reply to a request as a stream, which is then [written](SendStream::write), and ends with
    /// [`Reply::End`] or, at any time, a failure. Call it after [`Event::MayReply`].
    ///
    /// `compressed` as in [`Reply::Result`]; `size` is the size of the whole stream in bytes, if it is known.
    ///
    /// # Errors
    /// See [`ReplyError`]; nothing is sent.
    pub fn begin_reply(
        &mut self,
        request: RequestId,
        compressed: bool,
        metadata: Metadata,
        size: Option<u64>,
    ) -> Result<(), ReplyError> {
        let begun = self.calls.begin_reply(request, compressed, metadata, size);
        self.close_if_fatal();
        begun
    }

    /// Answers a request; replies are sent in the order of these calls. The endpoint does this with
    /// [`ConnectionEvent::Reply`]. Returns what is sent to the peer, which differs from the reply if that can't be
    /// sent.
    ///
    /// # Errors
    /// [`ReplyError::NotOpen`]; nothing is sent.
    pub fn reply(&mut self, request: RequestId, reply: Reply) -> Result<Replied, ReplyError> {
        let replied = self.calls.reply(request, reply);
        self.close_if_fatal();
        replied
    }

    /// The stream of a call that this side reads: the argument of a request, or the result of a call of this side.
    pub fn recv_stream(&mut self, id: impl Into<StreamId>) -> RecvStream<'_> {
        let open = !self.is_closed();
        self.calls.recv_stream(id.into(), open)
    }

    /// The stream of a call that this side writes: the argument of a call of this side, or the result of a request.
    pub fn send_stream(&mut self, id: impl Into<StreamId>) -> SendStream<'_> {
        self.calls.send_stream(id.into())
    }

    /// Accepts no new calls from either side from now on: [`invoke`](Self::invoke) fails, and new requests of the peer
    /// are refused. Open calls go on. Draining can't be undone.
    ///
    /// Once it [is idle](Self::is_idle) and [is acknowledged](Self::is_acknowledged), the transport can be closed; if it is not
    /// acknowledged, [`ping`](Self::ping).
    pub fn drain(&mut self) {
        self.calls.drain();
    }

    /// Whether [`drain`](Self::drain) was called.
    pub fn is_draining(&self) -> bool {
        self.calls.is_draining()
    }

    /// The peer's ZMTP has read the first `messages` messages, as [`LinkEvent::Acknowledged`](crate::zmtp::LinkEvent) says. For hosts
    /// that drive a [`Link`] of their own, and send on it each message of [`poll_message`](Self::poll_message).
    pub fn handle_acknowledged(&mut self, messages: u64) {
        self.acknowledgement.received(messages);
    }

    /// Whether the peer has received all replies, and the ends of all streams, that have left: it has answered a later PING, of
    /// [`ping`](Self::ping) or of ZMTP's heartbeat (K-5). Closing the transport may lose what is not acknowledged.
    pub fn is_acknowledged(&self) -> bool {
        self.acknowledgement.is_complete()
    }

    /// Whether there is no call of this side, no request of the peer, and nothing to send.
    pub fn is_idle(&self) -> bool {
        self.calls.is_idle() || (self.phase == Phase::Unconnected && self.calls.open_calls() == 0)
    }

    /// The transport has ended. If the handshake was not complete, so that no call can have been sent, calls wait for
    /// the next transport, and the connection gets a new `nonce`. Otherwise returns false and changes nothing: open
    /// calls can only end, with [`close`](Self::close).
    pub fn handle_disconnected(&mut self, nonce: [u8; NONCE_LEN]) -> bool {
        match self.phase {
            Phase::Unconnected => {}
            Phase::Handshaking if self.calls.keep_for_another_transport() => {
                self.phase = Phase::Unconnected;
                self.clear_deadlines();
                self.probes.clear();
                self.acknowledgement = Acknowledgement::default();
            }
            _ => return false,
        }
        self.link = None;
        self.nonce = nonce;
        true
    }

    /// Closes the connection: every call of this side ends, every request of the peer is forgotten. Results that had
    /// arrived completely can still be [read](RecvStream::read). Idempotent.
    pub fn close(&mut self, cause: CloseCause) {
        if self.is_closed() {
            return;
        }
        self.phase = Phase::Closed(cause);
        self.calls.close(|sent| Outcome::Disconnected { cause, sent });
        self.probes.close();
        self.clear_deadlines();
        self.calls.events().push_back(Event::Closed(cause));
    }

    fn clear_deadlines(&mut self) {
        (self.handshake_deadline, self.write_deadline, self.quiet_check) = (None, None, None);
    }

    /// # Panics
    /// If the tables contradict each other, or keep anything of what is gone.
    #[cfg(any(test, feature = "internals"))]
    #[doc(hidden)]
    pub fn audit(&self) {
        self.calls.audit();
    }

    /// # Panics
    /// If anything is left though nothing is under way.
    #[cfg(any(test, feature = "internals"))]
    #[doc(hidden)]
    pub fn audit_idle(&self) {
        self.calls.audit_idle();
    }

    fn close_if_fatal(&mut self) {
        if let Some(fatal) = self.calls.take_fatal() {
            self.close(fatal.0);
        }
    }

    fn report(&mut self, anomaly: Anomaly) {
        self.calls.events().push_back(Event::Anomaly(anomaly));
    }

    /// Probes the peer, once the handshake is complete; [`Event::Pong`] reports the answer, if any. Returns the number of the probe,
    /// unique within the connection. At most 64 probes are unanswered; for one more, the oldest is forgotten.
    ///
    /// # Errors
    /// [`InvokeError::Closed`] if the connection has ended.
    pub fn ping(&mut self) -> Result<u64, InvokeError> {
        match self.is_closed() {
            true => Err(InvokeError::Closed),
            false => Ok(self.queue_probe()),
        }
    }

    /// Forgets a probe, which makes room for others: its answer is not reported.
    pub fn forget_ping(&mut self, ping: u64) {
        if self.probes.forget(ping) {
            self.calls.queue().remove_ping(ping);
        }
    }

    fn queue_probe(&mut self) -> u64 {
        let (ping, forgotten) = self.probes.next();
        let queue = self.calls.queue();
        if let Some(forgotten) = forgotten {
            queue.remove_ping(forgotten);
        }
        queue.push_control(Control::Ping(ping));
        ping
    }

    fn handle_upper(&mut self, now: Instant, header: &Bytes, body: Bytes) {
        let events = self.calls.events().len();
        let readable = self.calls.handle_upper(now, header, body);
        // H-8: the handshake of a binder is complete with it. The event comes before those of the message.
        if readable && self.phase == Phase::Handshaking && self.role == Role::Binder {
            let later = self.calls.events().split_off(events);
            self.establish(None, now);
            self.calls.events().extend(later);
        }
    }
}
