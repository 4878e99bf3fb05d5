//! One connection to one remote peer: input and output, handshake, liveness, and the end.
//!
//! Responsible for the [`Phase`] of the connection and its timers. Not for calls, which are in
//! [`Calls`](crate::call), nor for which request may run, which the [`Endpoint`](crate::Endpoint) decides.
//! The handshake selects the dialect; afterwards only the codec and a few rules depend on it.

mod acknowledgement;
mod byte_stream;
mod handshake;
mod probes;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use self::acknowledgement::Acknowledgement;
use self::probes::{Departure, Probes};
use crate::call::{Call, Calls, RecvStream, SendStream};
use crate::config::{ConnectionConfig, Dialect};
use crate::error::{InvokeError, ReplyError};
use crate::event::{Anomaly, CloseCause, ConnectionEvent, EndpointEvent, Event, Outcome};
use crate::ids::{CallId, ConnectionId, RequestId, StreamId};
use crate::kept::QUIET;
use crate::reply::{Replied, Reply};
use crate::send::Control;
use crate::wire::{Hello, NONCE_LEN, PING, PONG, UPPER};
use crate::zmtp::{Link, LinkError};
use crate::{Metadata, Multipart, Role};

/// Smallest window of a stream, so that a DATA with some bytes always fits.
const MIN_WINDOW: u64 = 1024;

/// One connection to one remote peer. The [crate](crate#the-run-loop) docs explain the run loop.
///
/// `now` must not go backwards; if it does, timers fire late, without other effects. The same calls in the
/// same order give the same output, byte for byte. No input panics.
pub struct Connection {
    id: ConnectionId,
    role: Role,
    config: Arc<ConnectionConfig>,
    nonce: [u8; NONCE_LEN],
    phase: Phase,
    /// The ZMTP layer, if the transport is a byte stream.
    link: Option<Box<Link>>,
    calls: Calls,
    probes: Probes,
    acknowledgement: Acknowledgement,
    /// When the handshake times out.
    handshake_deadline: Option<Instant>,
    /// When the peer will have accepted no bytes for too long.
    write_deadline: Option<Instant>,
    /// When to check whether the connection is quiet; `None` while it is, until the next message.
    quiet_check: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no transport. Calls wait.
    Unconnected,
    Handshaking,
    /// `hello` is `None` for a peer that speaks only dialect 1.
    Established {
        hello: Option<Hello>,
        dialect: Dialect,
    },
    Closed(CloseCause),
}

impl Connection {
    /// A connection without a transport, for the `id` that [`Endpoint::open`](crate::Endpoint::open) has
    /// assigned. `first_call` is [`CallId::FIRST`], or [`next_call`](Self::next_call) of the connection that
    /// this one replaces, so that ids are never reused. `nonce` must be random and new for each connection:
    /// by a new nonce, a binder recognizes that its peer was restarted.
    ///
    /// Windows of `config` that contradict each other are adjusted, see [`ConnectionConfig`].
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
            // Copied only if it must be adjusted: usually, all connections share one.
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

    /// The id that the endpoint has assigned.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Handles a message from a transport that delivers messages. A faulty message is reported as an
    /// [`Event::Anomaly`], and answered with an ERROR if it is a request that can be identified. A malformed
    /// packet of dialect 2 closes the connection. Ignored while there is no transport.
    pub fn handle_message(&mut self, now: Instant, message: Multipart) {
        if !self.is_connected() {
            return;
        }
        // K-2: any message shows that the peer lives, a faulty one included.
        self.probes.heard(now);
        // Set once, not for each message: when the timer fires, it is set again from the time of the last
        // one.
        if self.quiet_check.is_none() {
            self.quiet_check = now.checked_add(QUIET);
        }
        // M-1: in dialect 2, a message of one frame is a packet.
        if self.dialect() == Some(Dialect::Two) && message.frames().len() == 1 {
            // Never `None`: the number of frames was checked.
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
        // dialect 2 has no UPPER, so it is dropped there. H-11: a connector accepts one before its
        // handshake is complete.
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

    /// Handles an event from the endpoint. Afterwards, poll for events and messages. An event about a request of
    /// another connection has no effect; only [`Start`](ConnectionEvent::Start) is answered, with
    /// [`EndpointEvent::NeverRan`].
    pub fn handle_event(&mut self, now: Instant, event: ConnectionEvent) {
        // The endpoint counts a request as running until it learns that it never ran, also of a closed
        // connection.
        if self.is_closed() && !matches!(event, ConnectionEvent::Start(_)) {
            return;
        }
        match event {
            ConnectionEvent::Start(request) => self.calls.start(now, request),
            ConnectionEvent::Refuse { request, reason } => self.calls.refuse_busy(request, reason),
            // If the reply can't be sent, `reply` sends an ERROR in its place.
            ConnectionEvent::Reply { request, reply } => drop(self.calls.reply(request, reply)),
            ConnectionEvent::MayReply(request) if self.calls.is_open(request) => {
                self.calls.events().push_back(Event::MayReply(request));
            }
            ConnectionEvent::MayReply(_) => {}
            ConnectionEvent::Reassemble(stream) => self.calls.reassemble(now, stream),
            ConnectionEvent::Drain => self.drain(),
        }
        self.close_if_fatal();
    }

    /// The next event for [`Endpoint::handle_event`](crate::Endpoint::handle_event). Call it until it returns
    /// `None`.
    pub fn poll_endpoint_event(&mut self) -> Option<EndpointEvent> {
        self.calls.poll_endpoint_event()
    }

    /// Whether [`poll_event`](Self::poll_event) or [`poll_endpoint_event`](Self::poll_endpoint_event) has an
    /// event.
    pub fn has_events(&self) -> bool {
        self.calls.has_events()
    }

    /// The next event for the host. Call it until it returns `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.calls.poll_event()
    }

    /// The next message to send, for a transport that delivers messages. Call it until it returns `None`.
    /// Before the handshake is complete, there are only messages of the handshake (H-10).
    pub fn poll_message(&mut self, now: Instant) -> Option<Multipart> {
        let message = self.next_message(now)?;
        // Every message counts, a PONG as well as a packet: ZMTP acknowledges a number of messages, whatever
        // they are.
        self.acknowledgement.leaves(self.calls.take_needs_acknowledgement());
        Some(message)
    }

    fn next_message(&mut self, now: Instant) -> Option<Multipart> {
        if !self.is_connected() {
            return None;
        }
        let established = self.is_established();
        let queue = self.calls.queue();
        // Hello, PING and PONG are messages of their own; records share a packet.
        if !queue.next_is_about_a_call()
            && let Some(control) = queue.pop_control(established)
        {
            return Some(match control {
                Control::Hello(message) | Control::Pong(message) => message,
                Control::Ping(number) => {
                    // `poll_message` counts the PING itself afterwards: its answer only acknowledges the
                    // messages before it.
                    self.probes.sent(number, Departure { at: now, after: self.acknowledgement.sent() })
                }
                Control::Record(_) => unreachable!("it is about a call"),
            });
        }
        // H-10: calls and replies wait until the handshake is complete.
        if !established {
            return None;
        }
        // Only the numbers for calls can run out here. What was encoded before that is still sent.
        let message = self.calls.poll_message(now);
        self.close_if_fatal();
        message
    }

    /// The transport accepts no more bytes for now, though some wait. If that lasts for
    /// [`write_timeout`](ConnectionConfig::write_timeout), the connection is closed. Acknowledgements and
    /// answers from the peer restart that timeout, since a transport with large buffers rarely accepts bytes
    /// (K-3).
    pub fn handle_write_blocked(&mut self, now: Instant) {
        // The first report counts: a host may repeat it while the transport stays blocked.
        if self.is_connected() && self.write_deadline.is_none() {
            self.write_deadline = now.checked_add(self.config.write_timeout);
        }
    }

    /// The transport has accepted some bytes, so it is not blocked.
    pub fn handle_write_progress(&mut self) {
        self.write_deadline = None;
    }

    /// Restarts the write timeout if the last message showed that the peer reads.
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

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` if no timer is set. After a call with
    /// `now`, it is later than `now`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_deadline().into_iter().chain(self.quiet_check).min()
    }

    /// The next timer that has an effect other than freeing memory.
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

    /// Handles the timers that are due at `now`. Early calls are harmless; late calls delay timeouts.
    ///
    /// # Errors
    /// As [`handle_input`](Self::handle_input). Never fails if the transport delivers messages.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        if self.handshake_deadline.take_if(|at| *at <= now).is_some() {
            match self.role {
                // H-9: a peer of dialect 1 need not send a PING.
                Role::Binder => self.establish(None, now),
                Role::Connector => self.close(CloseCause::HandshakeTimedOut),
            }
        }
        // K-3: probes don't detect such a peer, because everything that it sends counts as an answer.
        if self.write_deadline.take_if(|at| *at <= now).is_some() {
            self.close(CloseCause::PeerNotReading);
        }
        if self.quiet_check.take_if(|at| *at <= now).is_some() {
            self.calls.shrink();
            // If a message has arrived since, check again later.
            self.quiet_check = self.probes.last_heard().checked_add(QUIET).filter(|at| *at > now);
            if self.quiet_check.is_none() && !self.is_closed() {
                self.calls.quiet();
            }
        }
        match self.probes.handle_timeout(now) {
            probes::Due::Nothing => {}
            // The number is not needed: any message of the peer is the answer (K-2).
            probes::Due::Probe => drop(self.queue_probe()),
            probes::Due::Dead => self.close(CloseCause::KeepaliveTimedOut),
        }
        if !self.is_closed() {
            self.calls.handle_timeout(now);
        }
        self.handle_link_timeout(now)
    }

    /// Calls a method of the peer. The call waits until the handshake is complete.
    ///
    /// Calls are sent in the order in which they were made, except that more urgent ones overtake calls with
    /// other keys. Each call ends with exactly one [`Event::Ended`], or with [`abandon`](Self::abandon).
    ///
    /// # Errors
    /// See [`InvokeError`]. The call is not accepted, and there is no event for it.
    pub fn invoke(&mut self, now: Instant, call: Call) -> Result<CallId, InvokeError> {
        if self.is_closed() {
            return Err(InvokeError::Closed);
        }
        self.calls.invoke(now, call)
    }

    /// Cancels a call of this side. It ends now, without an event. If it was sent, the peer gets a CANCEL;
    /// the answer to that is ignored. Returns whether the call was open.
    ///
    /// Exception: if the result has been read to its end, and the argument is [finished](SendStream::finish),
    /// the call goes on until the rest of the argument has been sent, ends with an event, and this returns
    /// false.
    pub fn abandon(&mut self, call: CallId) -> bool {
        self.calls.abandon(call)
    }

    /// Begins the reply to a request as a stream. [Write](SendStream::write) it, and end it with
    /// [`Reply::End`] or, at any time, a failure. Call this after [`Event::MayReply`].
    ///
    /// `compressed` is as in [`Reply::Result`]; `size` is the size of the whole stream in bytes, if known.
    ///
    /// # Errors
    /// See [`ReplyError`]. Nothing is sent.
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

    /// Answers a request. Replies are sent in the order of these calls. Usually
    /// [`handle_event`](Self::handle_event) does this, for [`ConnectionEvent::Reply`]. Returns what is sent:
    /// if the reply itself can't be sent, an ERROR takes its place.
    ///
    /// A request that has not started never starts then, and the endpoint forgets it with the connection's
    /// next event ([`EndpointEvent::NeverRan`]).
    ///
    /// # Errors
    /// [`ReplyError::NotOpen`] if the request was answered or is one of another connection, or the connection has
    /// ended. Nothing is sent.
    pub fn reply(&mut self, request: RequestId, reply: Reply) -> Result<Replied, ReplyError> {
        let replied = self.calls.reply(request, reply);
        self.close_if_fatal();
        replied
    }

    /// The half of a call's stream that this side reads: the argument of a request, or the result of a call
    /// of this side.
    pub fn recv_stream(&mut self, id: impl Into<StreamId>) -> RecvStream<'_> {
        let open = !self.is_closed();
        self.calls.recv_stream(id.into(), open)
    }

    /// The half of a call's stream that this side writes: the argument of a call of this side, or the result
    /// of a request.
    pub fn send_stream(&mut self, id: impl Into<StreamId>) -> SendStream<'_> {
        self.calls.send_stream(id.into())
    }

    /// Stops accepting calls from both sides: [`invoke`](Self::invoke) fails, and new requests of the peer
    /// are refused. Open calls go on. Draining can't be undone.
    ///
    /// Once the connection [is idle](Self::is_idle) and [is acknowledged](Self::is_acknowledged), the transport can
    /// be closed. If it is not acknowledged, send a [`ping`](Self::ping) and wait for the answer.
    pub fn drain(&mut self) {
        self.calls.drain();
    }

    /// The peer's ZMTP has read the first `messages` messages, as
    /// [`LinkEvent::Acknowledged`](crate::zmtp::LinkEvent) says. For hosts that drive their own
    /// [`Link`](crate::zmtp::Link), and send each message of [`poll_message`](Self::poll_message) on it.
    pub fn handle_acknowledged(&mut self, messages: u64) {
        self.acknowledgement.received(messages);
    }

    /// The transport was disconnected. If the handshake was not complete, no call was sent: calls wait for
    /// the next transport, for which the connection uses the new `nonce`. Otherwise, or if the peer has made
    /// requests meanwhile, returns false and changes nothing: [`close`](Self::close) the connection, which ends
    /// its calls.
    pub fn handle_disconnected(&mut self, nonce: [u8; NONCE_LEN]) -> bool {
        match self.phase {
            Phase::Unconnected => {}
            // H-10: only the hello and PONGs were sent, so no call was, and all of them can wait for another
            // transport.
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

    /// Closes the connection: ends every call of this side, and forgets every request of the peer, whose
    /// handlers get [`Event::Stop`]. Results that have arrived completely can still be
    /// [read](RecvStream::read), and output of ZMTP [transmitted](Self::poll_transmit): no timer is set any
    /// more, so how long that may take is up to the host. Idempotent.
    pub fn close(&mut self, cause: CloseCause) {
        if self.is_closed() {
            return;
        }
        self.phase = Phase::Closed(cause);
        self.calls.close(|sent| Outcome::Disconnected { cause, sent });
        self.probes.close();
        self.clear_deadlines();
        // Behind the ends of all calls: none ends after this event.
        self.calls.events().push_back(Event::Closed(cause));
    }

    fn clear_deadlines(&mut self) {
        (self.handshake_deadline, self.write_deadline, self.quiet_check) = (None, None, None);
    }

    /// # Panics
    /// If the tables contradict each other, or retain anything of ended calls.
    #[cfg(any(test, feature = "internals"))]
    #[doc(hidden)]
    pub fn audit(&self) {
        self.calls.audit();
    }

    /// # Panics
    /// If anything is left in the tables of an idle connection.
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

    fn handle_upper(&mut self, now: Instant, header: &Bytes, body: Bytes) {
        let events = self.calls.events().len();
        let readable = self.calls.handle_upper(now, header, body);
        // H-8: a readable UPPER completes the handshake of a binder. Its event precedes those of the message.
        if readable && self.phase == Phase::Handshaking && self.role == Role::Binder {
            let later = self.calls.events().split_off(events);
            self.establish(None, now);
            self.calls.events().extend(later);
        }
    }
}
