//! One link to one remote peer: handshake, our calls, their calls, deadlines, liveness, the end.

#[cfg(feature = "fuzzing")]
mod audit;
mod calls;
mod config;
mod contents;
mod error;
mod event;
mod exchange;
mod incoming;
mod outbox;
mod outgoing;
mod packets_in;
mod packets_out;
mod replies;
mod requests;
#[cfg(test)]
mod tests;
mod timers;

pub use config::{Dialect, Keepalive, SessionConfig};
pub use contents::{Acknowledged, Contents, Read};
pub use error::{InvokeError, Refusal, ReplyError};
pub use event::{Anomaly, Body, CloseCause, Event, IncomingId, Outcome, PingId, Request, Violation};
pub use exchange::{Chunk, ContentError, ContentFault, ExchangeId, WriteError};
pub use outgoing::{Call, DEFAULT_URGENCY};
pub use replies::Reply;
pub use timers::Timer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::calls::Calls;
use self::exchange::Exchanges;
use self::outbox::{Control, Outbox};
use self::requests::Requests;
use self::timers::Timers;
use crate::wire::dialect2::{PacketWriter, Record};
use crate::wire::{Credit, Encoder, Hello, NONCE_LEN, PING};
use crate::{CallId, Multipart, OrderingKey, Role};

/// Probes that may be under way at once; an older one is forgotten.
const MAX_PINGS: usize = 64;

/// Probes at the beginning of a link, one after the other: the first answers take longer, for both ends are busy.
const FIRST_PINGS: u32 = 8;

/// Events for which room is kept while there are none: a peer can cause one with every two bytes.
const EVENTS_KEPT: usize = 256;

/// Least credit of a content, so that every record fits.
const MIN_WINDOW: u64 = 1024;

/// Shortest time between keepalive probes, so that no configuration can make the timer spin.
const MIN_IDLE: Duration = Duration::from_millis(1);

/// The protocol's state for one link, without any I/O, clock, task or randomness of its own.
///
/// # Calling contract
/// 1. Call [`handle_connected`](Self::handle_connected) when there is a link. Calls may be made before.
/// 2. Feed every message of the link to [`handle_message`](Self::handle_message), and call
///    [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) says so.
/// 3. After any of these, and after any command ([`invoke`](Self::invoke), [`reply`](Self::reply), …), take
///    [`poll_event`](Self::poll_event) until `None`; then [`poll_transmit`](Self::poll_transmit) until `None`, or
///    for as long as the link takes more; then ask [`poll_timeout`](Self::poll_timeout) again.
/// 4. Report what the link does with the bytes: [`handle_write_blocked`](Self::handle_write_blocked) and
///    [`handle_write_progress`](Self::handle_write_progress).
/// 5. When the link is gone, call [`close`](Self::close), or first
///    [`handle_disconnected`](Self::handle_disconnected) if there will be another link. After [`Event::Closed`] the session is over; a new link
///    gets a new session, which carries on with [`next_call`](Self::next_call).
///
/// `now` must not go backwards; if it does, timers are late but nothing else is wrong. The same calls in the same
/// order give the same outputs, to the byte. No input panics.
pub struct Session {
    role: Role,
    config: SessionConfig,
    nonce: [u8; NONCE_LEN],
    state: State,
    draining: bool,
    peer_draining: bool,
    /// Meaningful once the handshake is complete.
    dialect: Dialect,
    /// What the peer said of itself, if it knows more than dialect 1.
    peer: Option<Hello>,
    encoder: Encoder,
    packet: PacketWriter,
    /// Bytes of calls and replies that have left since it was the turn of contents.
    small_sent: usize,
    /// Bytes of contents whose turn it is, before any more calls and replies.
    contents_due: usize,
    exchanges: Exchanges,
    /// Keys of results under way in pieces.
    leaving: BTreeSet<OrderingKey>,
    calls: Calls,
    requests: Requests,
    outbox: Outbox,
    timers: Timers,
    events: VecDeque<Event>,
    liveness: Liveness,
    /// The time, as of the last input that came with it.
    clock: Instant,
    pings: BTreeMap<u64, Option<Instant>>,
    next_ping: u64,
    /// Of the first ones, those that have not been sent.
    first_pings: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unlinked,
    Handshaking,
    Established,
    Closed(CloseCause),
}

#[derive(Debug)]
struct Liveness {
    last_heard: Instant,
    unanswered: u32,
}

impl Session {
    /// A session that has no link yet.
    ///
    /// `nonce` must be random and new for each link: by it a binder knows that its peer has begun anew. `first_call` is `CallId(0)`, or
    /// [`next_call`](Self::next_call) of the session that this one replaces, so that ids are never reused.
    pub fn new(
        role: Role,
        mut config: SessionConfig,
        nonce: [u8; NONCE_LEN],
        first_call: CallId,
        now: Instant,
    ) -> Self {
        config.stream_window = config.stream_window.max(MIN_WINDOW);
        config.first_window = config.first_window.clamp(MIN_WINDOW, config.stream_window);
        config.link_window = config.link_window.max(config.stream_window);
        let exchanges = Exchanges::new(role == Role::Connector, config.link_window, config.max_reassembly);
        Self {
            role,
            config,
            nonce,
            state: State::Unlinked,
            draining: false,
            peer_draining: false,
            dialect: Dialect::One,
            peer: None,
            encoder: Encoder::default(),
            packet: PacketWriter::default(),
            small_sent: 0,
            contents_due: 0,
            exchanges,
            leaving: BTreeSet::new(),
            calls: Calls::new(first_call),
            requests: Requests::default(),
            outbox: Outbox::default(),
            timers: Timers::default(),
            events: VecDeque::new(),
            liveness: Liveness { last_heard: now, unanswered: 0 },
            clock: now,
            pings: BTreeMap::new(),
            next_ping: 0,
            first_pings: FIRST_PINGS,
        }
    }

    /// There is a link now: a connector says hello, a binder waits for the peer to speak. Ignored after the first
    /// time, and when the session is over.
    pub fn handle_connected(&mut self, now: Instant) {
        if self.state != State::Unlinked {
            return;
        }
        self.state = State::Handshaking;
        self.timers.set_after(Timer::Handshake, now, self.config.handshake_timeout);
        if self.role == Role::Connector {
            let (hello, nonce) = (self.hello().encode(), Bytes::copy_from_slice(&self.nonce));
            self.outbox.push_control(Control::Ready(Multipart::new(PING, hello, nonce)));
        }
    }

    fn hello(&self) -> Hello {
        let config = &self.config;
        let credit = Credit { stream: config.first_window, link: config.link_window };
        Hello {
            dialects: config.dialect.offered(),
            nonce: self.nonce,
            max_body: config.max_body as u64,
            credit: (config.dialect >= Dialect::Two).then_some(credit),
        }
    }

    fn establish(&mut self, hello: Option<Hello>, now: Instant) {
        self.state = State::Established;
        self.timers.stop(Timer::Handshake, None);
        self.peer = hello.clone();
        if let Some(Hello { dialects, credit: Some(credit), .. }) = hello {
            self.dialect = self.config.dialect.common(dialects);
            self.exchanges.link_limit = credit.link;
        }
        self.liveness = Liveness { last_heard: now, unanswered: 0 };
        if let Some(keepalive) = self.config.keepalive {
            self.timers.set_after(Timer::Keepalive, now, keepalive.idle.max(MIN_IDLE));
        }
        self.events.push_back(Event::Established { hello, dialect: self.dialect });
        self.fit_outbox();
        if self.speaks(Dialect::Two) {
            // How wide windows should be depends on the time of a round trip.
            self.queue_first_ping();
            if self.draining {
                self.say_goodbye();
            }
        }
    }

    /// Whether this is the dialect of the link.
    fn speaks(&self, dialect: Dialect) -> bool {
        self.is_established() && self.dialect == dialect
    }

    fn say_goodbye(&mut self) {
        let next = self.exchanges.next_theirs;
        self.outbox.push_control(Control::Record(Record::Goodbye { next }));
    }

    /// Does what is due at `now`. Early calls are harmless, late ones are late.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock = now;
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                // A binder's peer need not speak first: without a PING, it is one of dialect 1.
                Timer::Handshake if self.role == Role::Binder => self.establish(None, now),
                Timer::Handshake => self.close(CloseCause::HandshakeTimedOut),
                Timer::Keepalive => self.probe(now),
                Timer::Write => self.close(CloseCause::PeerNotReading),
                Timer::Call(call) => self.time_out(call),
                Timer::Execution(id) => self.events.push_back(Event::ExecutionTimedOut(id)),
                Timer::Collect(id) => self.collect_timed_out(id),
            }
        }
    }

    fn probe(&mut self, now: Instant) {
        let Some(keepalive) = self.config.keepalive else { return };
        let idle = keepalive.idle.max(MIN_IDLE);
        if now.saturating_duration_since(self.liveness.last_heard) < idle {
            self.timers.set_after(Timer::Keepalive, self.liveness.last_heard, idle);
        } else if self.liveness.unanswered >= keepalive.misses {
            self.close(CloseCause::KeepaliveTimedOut);
        } else {
            self.liveness.unanswered += 1;
            self.queue_ping();
            self.timers.set_after(Timer::Keepalive, now, idle);
        }
    }

    fn queue_first_ping(&mut self) {
        if let Some(left) = self.first_pings.checked_sub(1) {
            self.first_pings = left;
            self.queue_ping();
        }
    }

    fn queue_ping(&mut self) -> PingId {
        let ping = self.next_ping;
        self.next_ping += 1;
        self.pings.insert(ping, None);
        if self.pings.len() > MAX_PINGS
            && let Some((oldest, None)) = self.pings.pop_first()
        {
            self.outbox.remove_ping(oldest);
        }
        self.outbox.push_control(Control::Ping(ping));
        PingId(ping)
    }

    /// The link takes no more bytes for now, though some wait.
    pub fn handle_write_blocked(&mut self, now: Instant) {
        if self.is_linked() && !self.timers.watches_writes() {
            self.timers.set_after(Timer::Write, now, self.config.write_timeout);
        }
    }

    /// The link took some bytes.
    pub fn handle_write_progress(&mut self) {
        self.timers.stop(Timer::Write, None);
    }

    /// The next event, until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > EVENTS_KEPT {
            self.events = VecDeque::new();
        }
        event
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and why: after `handle_timeout(now)`, later than `now`.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.timers.next()
    }

    /// Takes no new calls from either side from now on: [`invoke`](Self::invoke) fails, and a request of the peer is
    /// refused with an ERROR named `ShuttingDown`. What is under way goes on. There is no way back.
    pub fn drain(&mut self) {
        if !std::mem::replace(&mut self.draining, true) && self.speaks(Dialect::Two) {
            self.say_goodbye();
        }
    }

    /// Whether it was told to [`drain`](Self::drain).
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Nothing is under way: no call of ours, no request of theirs, nothing to be sent.
    pub fn is_idle(&self) -> bool {
        self.calls.len() == 0
            && self.requests.len() == 0
            && self.exchanges.len() == 0
            && (self.outbox.is_empty() || self.state == State::Unlinked)
    }

    /// The link is gone. Where the handshake was not complete, so that nothing can have been sent, the session takes
    /// this as if there had never been a link: calls wait for the next one, whose `nonce` must be a new one. Otherwise
    /// returns false, and nothing has changed: what is under way can only end, with [`close`](Self::close).
    pub fn handle_disconnected(&mut self, nonce: [u8; NONCE_LEN]) -> bool {
        match self.state {
            State::Unlinked => {}
            State::Handshaking if self.requests.len() == 0 && self.outbox.retain_calls() => {
                self.state = State::Unlinked;
                self.timers.stop(Timer::Handshake, None);
                self.timers.stop(Timer::Write, None);
                self.pings.clear();
            }
            _ => return false,
        }
        self.nonce = nonce;
        true
    }

    /// Ends the session: every call of ours ends, every request of theirs is forgotten. Results that had come as a whole
    /// can still be [read](Contents::read). Idempotent.
    pub fn close(&mut self, cause: CloseCause) {
        if self.is_closed() {
            return;
        }
        self.state = State::Closed(cause);
        while let Some(call) = self.calls.pop_first() {
            self.end(call.id, Outcome::Disconnected { cause, sent: call.sent() });
        }
        self.requests.clear();
        self.exchanges.clear();
        self.leaving.clear();
        self.outbox.clear();
        self.timers.clear();
        self.pings.clear();
        self.events.push_back(Event::Closed(cause));
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.close_cause().is_some()
    }

    /// Why the session is over, if it is.
    pub fn close_cause(&self) -> Option<CloseCause> {
        match self.state {
            State::Closed(cause) => Some(cause),
            _ => None,
        }
    }

    /// Whether the handshake is complete.
    pub fn is_established(&self) -> bool {
        self.state == State::Established
    }

    fn is_linked(&self) -> bool {
        matches!(self.state, State::Handshaking | State::Established)
    }

    /// So much waits to be written that the owner should start no more handlers for this peer.
    pub fn is_backlogged(&self) -> bool {
        self.queued_bytes() > self.config.max_outgoing_bytes
    }

    /// Bytes of calls and replies that wait in this session to be written, without those of streams, which
    /// [`SessionConfig::stream_buffer`] bounds.
    pub fn queued_bytes(&self) -> usize {
        self.outbox.bytes() + self.exchanges.body_bytes
    }

    /// Bytes of contents of the peer that are held because nobody has taken them, and what they count for besides.
    pub fn held_bytes(&self) -> u64 {
        self.exchanges.held()
    }

    /// What is spoken, once the handshake is complete.
    pub fn dialect(&self) -> Option<Dialect> {
        self.is_established().then_some(self.dialect)
    }

    /// Calls of ours that have not ended.
    pub fn open_calls(&self) -> usize {
        self.calls.len()
    }

    /// Requests of the peer that have not been answered.
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }

    /// Whether a request of the peer has not been answered.
    pub fn is_open(&self, id: IncomingId) -> bool {
        self.requests.contains(id)
    }

    /// The `first_call` of a session that replaces this one.
    pub fn next_call(&self) -> CallId {
        self.calls.next_id()
    }
}

impl fmt::Debug for Session {
    /// Leaves out what is the application's: methods, keys and bodies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("role", &self.role)
            .field("state", &self.state)
            .field("draining", &self.draining)
            .field("dialect", &self.dialect())
            .field("open_calls", &self.open_calls())
            .field("open_requests", &self.open_requests())
            .field("queued_bytes", &self.queued_bytes())
            .finish_non_exhaustive()
    }
}
