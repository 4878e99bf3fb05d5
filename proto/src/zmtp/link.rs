use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::time::Instant;

use bytes::Bytes;
use omq_proto::proto::{Command, Event, MechanismName, PeerProperties, command};

#[cfg(feature = "curve")]
use super::CurvePublicKey;
use super::assembly::Assembly;
use super::boxes::{self, Boxes};
use super::codec::Codec;
use super::framing::{Deframer, Head};
use super::greeting::GreetingBuffer;
use super::liveness::{Due, Liveness};
use super::output::OutputQueue;
use super::{Heartbeat, LinkConfig, LinkError, MAX_COMMAND, Role, SendError, SocketType};
use crate::Multipart;

#[cfg(feature = "curve")]
mod admission;
mod sealing;
#[cfg(feature = "curve")]
pub use admission::Decision;

/// Unsent replies to the peer's PINGs from which on no more input is accepted.
const MAX_REPLIES: usize = 64 << 10;
/// Events for which room is kept while there are none.
const EVENTS_KEPT: usize = 256;

/// What a peer said of itself in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Routing id that the peer asks for; often empty. Nothing proves that it is the peer's own.
    pub identity: Bytes,
    /// The peer's socket type, which fits ours.
    pub socket_type: SocketType,
    /// 0 for ZMTP 3.0, 1 for 3.1 and later.
    pub zmtp_minor: u8,
    /// The key that the peer has proved to own; `None` without CURVE.
    #[cfg(feature = "curve")]
    pub public_key: Option<CurvePublicKey>,
}

/// What came of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// A client has proved to own this key and waits for [`Link::authenticate`], until the handshake's time is
    /// over. Comes once, before [`Established`](Self::Established), on a server under CURVE.
    #[cfg(feature = "curve")]
    AuthenticationRequested {
        /// The client's long-term key, which is who it is.
        public_key: CurvePublicKey,
    },
    /// The handshake is complete; comes once, before any message.
    Established(PeerInfo),
    /// A message of one to three frames, without a [`tail`](Multipart::tail).
    Message(Multipart),
    /// A message with a number of frames that Callosum has no use for was dropped.
    Ignored {
        /// How many frames it had.
        frames: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Handshake,
    Ready,
    Closed,
}

/// One end of one ZMTP connection, without I/O and without a clock.
///
/// The calling contract:
/// - Give it everything read with [`handle_input`](Self::handle_input), unless
///   [`accepts_input`](Self::accepts_input) is false; then write before reading on.
/// - After each `handle_input`, take events with [`poll_event`](Self::poll_event) until `None`.
/// - After each call that takes `&mut self`, write what [`output`](Self::output) holds and report it with
///   [`advance_output`](Self::advance_output).
/// - Under CURVE, a server answers `LinkEvent::AuthenticationRequested` with `authenticate`, at any later time.
/// - Call [`handle_timeout`](Self::handle_timeout) once [`poll_timeout`](Self::poll_timeout) has passed.
/// - After an error, write what is left, for it may tell the peer why, and close the connection.
///
/// # Memory
/// Before the handshake is complete it holds no more than
/// [`max_handshake_bytes`](LinkConfig::max_handshake_bytes) of the peer's, later one message of
/// [`max_message_size`](LinkConfig::max_message_size), and the events of one `handle_input`: about a
/// hundred bytes for each byte of input, if the input is one empty message after another. Limits are checked
/// when a frame announces its length, and a payload that arrives in pieces allocates as it comes.
///
/// Payloads are copied out of the input. Besides, up to four buffers of 128 KiB at most are kept for payloads to come,
/// until the next heartbeat. An encrypted payload is held twice while it is decrypted.
///
/// The codec below allocates 64 KiB, few of which are touched, with the peer's first command; under CURVE the
/// peer is not authenticated by then. Before that a link takes a kilobyte, and what the peer has sent.
pub struct Link {
    codec: Codec,
    phase: Phase,
    mechanism: MechanismName,
    mechanism_server: bool,
    /// Present if all frames are encrypted and so go through the codec.
    boxes: Option<Boxes>,
    handshake_nonce: u64,
    /// Present while the application decides whether the peer may go on: what came from it since.
    held: Option<Vec<u8>>,
    #[cfg(feature = "curve")]
    peer_key: Option<CurvePublicKey>,
    greeting: GreetingBuffer,
    deframer: Deframer,
    head: Option<Head>,
    assembly: Assembly,
    events: VecDeque<LinkEvent>,
    output: OutputQueue,
    handshake_deadline: Option<Instant>,
    handshake_bytes: usize,
    max_handshake_bytes: usize,
    max_message_size: usize,
    heartbeat: Option<Heartbeat>,
    liveness: Option<Liveness>,
    role: Role,
}

impl Link {
    /// Starts the handshake: the greeting is in the output.
    pub fn new(config: &LinkConfig, now: Instant) -> Self {
        let connection = config.connection();
        let mechanism = connection.mechanism_name();
        let mechanism_server = config.mechanism.is_server();
        let (codec, greeting) = Codec::new(connection, mechanism_server);
        let mut link = Self {
            codec,
            phase: Phase::Greeting,
            mechanism,
            mechanism_server,
            boxes: None,
            handshake_nonce: 0,
            held: None,
            #[cfg(feature = "curve")]
            peer_key: config.mechanism.server_key(),
            greeting: GreetingBuffer::default(),
            deframer: Deframer::default(),
            head: None,
            assembly: Assembly::new(config.max_message_size),
            events: VecDeque::new(),
            output: OutputQueue::default(),
            handshake_deadline: now.checked_add(config.handshake_timeout),
            handshake_bytes: 0,
            max_handshake_bytes: config.max_handshake_bytes,
            max_message_size: config.max_message_size,
            heartbeat: config.heartbeat,
            liveness: None,
            role: config.role,
        };
        link.output.copy(&greeting);
        link
    }

    /// Takes bytes from the peer, split in any way. The peer counts as alive, whatever they are.
    ///
    /// # Errors
    /// Any error is the end of the link: events from before it can still be taken, and output written.
    pub fn handle_input(&mut self, now: Instant, data: Bytes) -> Result<(), LinkError> {
        if self.phase == Phase::Closed {
            return Err(LinkError::Closed);
        }
        if data.is_empty() {
            return Ok(());
        }
        if let Some(liveness) = &mut self.liveness {
            liveness.heard(now);
        }
        let result = self.read(now, data);
        self.closing(result)
    }

    /// What came of the input so far.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > EVENTS_KEPT {
            self.events = VecDeque::new();
        }
        event
    }

    /// Queues a message. Pieces above 8 KiB, the [`tail`](Multipart::tail) among them, are not copied, unless
    /// the mechanism encrypts.
    ///
    /// The caller bounds what is queued, by [`pending_output`](Self::pending_output).
    ///
    /// # Errors
    /// If the link is not established, has failed, or the message has no frames.
    pub fn send(&mut self, message: Multipart) -> Result<(), SendError> {
        match self.phase {
            Phase::Ready if message.frames().is_empty() => Err(SendError::Empty),
            Phase::Ready if self.boxes.is_some() => self.send_encrypted(message),
            Phase::Ready => {
                self.send_plain(&message);
                Ok(())
            }
            Phase::Greeting | Phase::Handshake => Err(SendError::NotReady),
            Phase::Closed => Err(SendError::Closed),
        }
    }

    /// Fills `slices` with the bytes to write next, in order; how many slices were filled.
    pub fn output<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.slices(slices)
    }

    /// Takes `n` bytes that were written off the front of the output, or all if there are fewer.
    pub fn advance_output(&mut self, n: usize) {
        self.output.advance(n);
    }

    /// Bytes still to be written.
    pub fn pending_output(&self) -> usize {
        self.output.pending()
    }

    /// Bytes that the frame under way still lacks; 0 between frames. A hint for how much to read at once.
    pub fn missing_input(&self) -> usize {
        self.head.as_ref().map_or(0, |head| head.len - self.deframer.partial())
    }

    /// False while 64 KiB of replies to the peer's PINGs wait to be written: read on only after writing.
    pub fn accepts_input(&self) -> bool {
        self.phase != Phase::Closed && self.output.replies() < MAX_REPLIES
    }

    /// Acts on the time having come. Early and late calls are harmless.
    ///
    /// # Errors
    /// If the handshake took too long, or the peer left its PINGs unanswered. The link is over.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        if self.phase == Phase::Closed {
            return Ok(());
        }
        self.deframer.shrink();
        let Some(liveness) = &mut self.liveness else {
            let late = self.handshake_deadline.is_some_and(|deadline| deadline <= now);
            return self.closing(if late { Err(LinkError::HandshakeTimedOut) } else { Ok(()) });
        };
        let result = match liveness.handle_timeout(now) {
            Due::Nothing => Ok(()),
            Due::Ping => self.ping(),
            Due::Dead => Err(LinkError::HeartbeatTimedOut),
        };
        self.closing(result)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; later than its last `now`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Greeting | Phase::Handshake => self.handshake_deadline,
            Phase::Ready => self.liveness.as_ref().and_then(Liveness::poll_timeout),
            Phase::Closed => None,
        }
    }

    /// Whether messages can be sent.
    pub fn is_established(&self) -> bool {
        self.phase == Phase::Ready
    }

    fn closing(&mut self, result: Result<(), LinkError>) -> Result<(), LinkError> {
        if result.is_err() {
            self.phase = Phase::Closed;
        }
        result
    }

    fn read(&mut self, now: Instant, mut data: Bytes) -> Result<(), LinkError> {
        if self.phase == Phase::Greeting && !self.read_greeting(&mut data)? {
            return Ok(());
        }
        loop {
            if self.held.is_some() {
                return self.hold(&data);
            }
            let head = match self.head {
                Some(head) => head,
                None => {
                    let Some(head) = self.deframer.head(&mut data)? else {
                        return Ok(());
                    };
                    self.admit(&head)?;
                    *self.head.insert(head)
                }
            };
            let Some(payload) = self.deframer.payload(&mut data, head.len) else {
                return Ok(());
            };
            self.head = None;
            self.take_frame(now, &head, payload)?;
        }
    }

    /// Whether the greeting is complete.
    fn read_greeting(&mut self, data: &mut Bytes) -> Result<bool, LinkError> {
        let Some(greeting) = self.greeting.fill(data, self.mechanism, self.mechanism_server)? else {
            return Ok(false);
        };
        self.count_handshake_bytes(greeting.len())?;
        let answer = self.codec.greet(greeting).map_err(|error| self.codec_error(error))?;
        self.output.copy(&answer);
        self.collect_output();
        self.phase = Phase::Handshake;
        Ok(true)
    }

    fn hold(&mut self, data: &[u8]) -> Result<(), LinkError> {
        self.count_handshake_bytes(data.len())?;
        if let Some(held) = &mut self.held {
            held.extend_from_slice(data);
        }
        Ok(())
    }

    /// Refuses what is too large before any of it is held.
    fn admit(&mut self, head: &Head) -> Result<(), LinkError> {
        if self.phase == Phase::Handshake {
            return self.count_handshake_bytes(head.as_bytes().len().saturating_add(head.len));
        }
        match &self.boxes {
            Some(boxes) => boxes.admit(head),
            None if !head.command => self.assembly.admit(head),
            None if head.len > MAX_COMMAND => {
                Err(LinkError::TooLarge { size: head.len as u64, max: MAX_COMMAND })
            }
            None => Ok(()),
        }
    }

    fn count_handshake_bytes(&mut self, len: usize) -> Result<(), LinkError> {
        self.handshake_bytes = self.handshake_bytes.saturating_add(len);
        if self.handshake_bytes > self.max_handshake_bytes {
            return Err(LinkError::HandshakeTooLarge { max: self.max_handshake_bytes });
        }
        Ok(())
    }

    fn take_frame(&mut self, now: Instant, head: &Head, payload: Bytes) -> Result<(), LinkError> {
        if let Some(boxes) = &mut self.boxes {
            boxes.check(&payload)?;
            return self.open(head, payload);
        }
        if self.phase == Phase::Ready && !head.command {
            self.events.extend(self.assembly.push(head.more, payload));
            return Ok(());
        }
        let sent = payload.clone();
        self.handshake_nonce = boxes::handshake_nonce(&sent).unwrap_or(self.handshake_nonce);
        self.feed(head, payload).map_err(|error| refusal(head, sent).unwrap_or(error))?;
        self.take_handshake(now)
    }

    fn take_handshake(&mut self, now: Instant) -> Result<(), LinkError> {
        while let Some(event) = self.codec.poll_event() {
            // Commands other than these are for sockets that are neither ROUTER nor DEALER.
            if let Event::HandshakeSucceeded { peer_minor, peer_properties } = event {
                self.establish(now, peer_minor, &peer_properties)?;
            }
        }
        #[cfg(feature = "curve")]
        self.request_authentication()?;
        Ok(())
    }

    /// Gives the codec what it must see: the handshake, commands, and encrypted frames. How many bytes it
    /// replied.
    fn feed(&mut self, head: &Head, payload: Bytes) -> Result<usize, LinkError> {
        let result = self.codec.take_frame(head, payload);
        let replied = self.collect_output();
        if replied > 0 {
            self.output.mark_reply(replied);
        }
        result.map_err(|error| self.codec_error(error))?;
        Ok(replied)
    }

    fn codec_error(&self, error: omq_proto::Error) -> LinkError {
        LinkError::from_codec(error, self.role.socket_type())
    }

    fn establish(&mut self, now: Instant, minor: u8, peer: &PeerProperties) -> Result<(), LinkError> {
        let ours = self.role.socket_type();
        let theirs = peer.socket_type.and_then(SocketType::from_wire);
        let Some(socket_type) = theirs else {
            return Err(LinkError::IncompatibleSocket { ours, detail: format!("{:?}", peer.socket_type) });
        };
        self.phase = Phase::Ready;
        let encrypted = self.codec.awake().is_some_and(|connection| connection.has_frame_transform());
        self.boxes =
            encrypted.then(|| Boxes::new(self.max_message_size, self.handshake_nonce, self.mechanism_server));
        if minor > 0 {
            self.liveness = self.heartbeat.map(|heartbeat| Liveness::new(heartbeat, now));
        }
        // A copy, because this lives as long as the link and must not pin the input that it came in.
        let identity = peer.identity.as_deref().map_or_else(Bytes::new, Bytes::copy_from_slice);
        self.handshake_deadline = None;
        self.events.push_back(LinkEvent::Established(PeerInfo {
            identity,
            socket_type,
            zmtp_minor: minor,
            #[cfg(feature = "curve")]
            public_key: self.peer_key,
        }));
        Ok(())
    }

    fn ping(&mut self) -> Result<(), LinkError> {
        if let Some(boxes) = &mut self.boxes {
            boxes.seal(1).ok_or(LinkError::Exhausted)?;
            boxes.pinged();
        }
        // No TTL: it would let the peer cut a link on which we merely have nothing to say.
        let ping = Command::Ping { ttl_deciseconds: 0, context: Bytes::new() };
        let result = self.codec.connection().and_then(|connection| connection.send_command(&ping));
        self.collect_output();
        result.map_err(|error| self.codec_error(error))
    }

    fn send_plain(&mut self, message: &Multipart) {
        let mut frames = message.frames().iter().peekable();
        while let Some(frame) = frames.next() {
            let more = frames.peek().is_some();
            let tail = if more { None } else { Some(message.tail()).filter(|tail| !tail.is_empty()) };
            let len = frame.len() + tail.map_or(0, Bytes::len);
            self.output.copy(Head::data(more, len).as_bytes());
            self.output.push(frame);
            if let Some(tail) = tail {
                self.output.push(tail);
            }
        }
    }

    /// Moves what the codec has queued, always whole frames, behind our own output; how many bytes.
    fn collect_output(&mut self) -> usize {
        let Some(connection) = self.codec.awake() else { return 0 };
        let len = connection.pending_transmit_size();
        if len > 0 {
            for chunk in connection.clone_transmit_chunks() {
                self.output.push(&chunk);
            }
            connection.advance_transmit(len);
        }
        len
    }
}

/// The peer's ERROR, which the codec reports as such only during the handshake.
fn refusal(head: &Head, payload: Bytes) -> Option<LinkError> {
    match command::decode(payload) {
        Ok(Command::Error { reason }) if head.command => Some(LinkError::refused(reason)),
        _ => None,
    }
}

impl fmt::Debug for Link {
    /// Leaves out the codec, which may hold keys, and messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("role", &self.role)
            .field("phase", &self.phase)
            .field("pending_output", &self.pending_output())
            .finish_non_exhaustive()
    }
}
