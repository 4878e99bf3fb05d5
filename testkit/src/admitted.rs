//! One link under CURVE, and a peer that is admitted with valid keys and then sends arbitrary frames in CURVE messages.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::curve_handshake::{Plan, shake_hands, written};
use crate::curve_peer::{CurvePeer, Half, MORE, SEALED_COMMAND, frame, next_frame};
use crate::fuzz::{byte, bytes};
use callosum_proto::zmtp::{CurveKeyPair, Link, LinkConfig, LinkError, LinkEvent, Mechanism};
use callosum_proto::{Keepalive, Multipart, Role};

/// Largest message that the link takes.
const MAX_MESSAGE: usize = 4 << 10;
/// Most frames of a message; the link closes at the next.
const MAX_FRAMES_READ: usize = 1024;
/// Bytes of queued PONGs: the link's limit, and the PONG that exceeds it.
const MAX_REPLIES: usize = (64 << 10) + 64;
/// The longest frame that the link waits for: a command and its CURVE overhead, in bytes.
const MAX_FRAME: usize = (8 << 10) + 33;
/// The longest context that a PING may have (RFC 37).
const MAX_CONTEXT: usize = 16;
/// Bounds the time of one input.
const MAX_OPS: usize = 200;
const MAX_SEALED: usize = 1_200;

/// The peer is a client that the link has admitted. The first byte says whether its handshake is honest.
///
/// # Panics
/// If a guarantee of the link is broken.
pub fn admitted_client(data: &[u8], start: Instant) {
    run(data, start, false);
}

/// The peer is the server whose key the link was given.
///
/// # Panics
/// If a guarantee of the link is broken.
pub fn admitted_server(data: &[u8], start: Instant) {
    run(data, start, true);
}

fn run(data: &[u8], now: Instant, server: bool) {
    let mut input = data;
    let Some(setup) = byte(&mut input) else { return };
    let plan = if setup & 1 == 0 { Some(Plan::honest(server)) } else { Plan::read(&mut input, server) };
    let Some(plan) = plan else { return };
    let (mut link, mut peer) = connect(server, now);
    let established = shake_hands(&mut link, &mut peer, &plan, now);
    assert!(setup & 1 != 0 || established == Ok(true), "an honest handshake");
    if established != Ok(true) {
        return;
    }
    let mut conversation = Conversation::new(link, peer, now);
    for _ in 0..MAX_OPS {
        let Some(op) = Op::read(&mut input) else { break };
        conversation.apply(op);
    }
    conversation.finish();
}

/// A link, and a peer that is a server or a client.
fn connect(server: bool, now: Instant) -> (Link, CurvePeer) {
    let [server_keys, client_keys] = [[11; 32], [22; 32]].map(CurveKeyPair::generate);
    let ephemeral = Half::of([5; 32]);
    let (role, mechanism, peer) = if server {
        let mechanism = Mechanism::CurveClient { keys: client_keys, server: server_keys.public() };
        (Role::Connector, mechanism, CurvePeer::server(&server_keys, ephemeral))
    } else {
        let peer = CurvePeer::client(&client_keys, server_keys.public(), ephemeral);
        (Role::Binder, Mechanism::CurveServer { keys: server_keys }, peer)
    };
    let mut config = LinkConfig::new(role);
    config.max_message_size = MAX_MESSAGE;
    config.mechanism = mechanism;
    config.keepalive = Some(Keepalive { idle: Duration::from_secs(1), misses: 2 });
    (Link::new(&config, [33; 32], now), peer)
}

/// One step. All but the last four are sent by the peer.
enum Op<'a> {
    /// A CURVE message of these flags and bytes.
    Seal { flags: u8, payload: &'a [u8] },
    /// The same, with a payload that isn't in the input.
    SealLong { flags: u8, len: usize },
    /// Many empty frames.
    SealMany { flags: u8, count: usize },
    /// A PING whose context has this many bytes.
    Ping { context: usize },
    /// A PONG, solicited or not.
    Pong,
    /// Moves the next nonce by this much.
    Skip(i8),
    /// A CURVE message that is changed after encryption.
    Changed { at: u8, by: u8 },
    /// A frame in the clear.
    Clear { flags: u8, payload: &'a [u8] },
    /// This many bytes arrive at the link.
    Deliver(usize),
    /// The peer reads the link's output.
    Read,
    /// The link's side sends.
    Send { frames: u8, len: usize },
    /// Time passes.
    Pass(u8),
}

impl<'a> Op<'a> {
    fn read(input: &mut &'a [u8]) -> Option<Self> {
        Some(match byte(input)? % 13 {
            0 | 1 => Self::Seal { flags: byte(input)?, payload: bytes(input)? },
            2 => Self::SealLong { flags: byte(input)?, len: usize::from(byte(input)?) * 40 },
            3 => Self::SealMany { flags: byte(input)?, count: usize::from(byte(input)?) * 5 },
            4 => Self::Ping { context: byte(input)?.into() },
            5 => Self::Pong,
            6 => Self::Skip(byte(input)?.cast_signed()),
            7 => Self::Changed { at: byte(input)?, by: byte(input)? },
            8 => Self::Clear { flags: byte(input)?, payload: bytes(input)? },
            9 => Self::Deliver(usize::from(byte(input)?) * 4),
            10 => Self::Read,
            11 => Self::Send { frames: byte(input)?, len: usize::from(byte(input)?) * 16 },
            _ => Self::Pass(byte(input)?),
        })
    }
}

struct Conversation {
    now: Instant,
    link: Link,
    over: bool,
    peer: CurvePeer,
    sealed_left: usize,
    /// Bytes that the peer has sent and the link has not read.
    wire: Vec<u8>,
    /// Nonce of the last CURVE message that the link must accept.
    last_nonce: u64,
    /// Frames of the message that the peer has begun.
    frames: Vec<Bytes>,
    /// Events that the link must report, in this order.
    due: VecDeque<LinkEvent>,
    /// Contexts of the PINGs that the link must answer.
    pongs: VecDeque<Vec<u8>>,
    /// Messages that the link has sent and the peer has not read; frames of the one that the peer reads.
    sent: VecDeque<Multipart>,
    reading: Vec<Bytes>,
    /// Bytes that the link may have queued besides its PONGs.
    allowance: usize,
    /// The peer has sent something at which the link must close, and not before it.
    must_close: bool,
    /// Something happened after which the link may close.
    may_close: bool,
}

impl Conversation {
    fn new(link: Link, peer: CurvePeer, now: Instant) -> Self {
        let last_nonce = peer.nonce;
        Self {
            now,
            link,
            over: false,
            peer,
            sealed_left: MAX_SEALED,
            wire: Vec::new(),
            last_nonce,
            frames: Vec::new(),
            due: VecDeque::new(),
            pongs: VecDeque::new(),
            sent: VecDeque::new(),
            reading: Vec::new(),
            allowance: 0,
            must_close: false,
            may_close: false,
        }
    }

    fn apply(&mut self, op: Op<'_>) {
        match op {
            Op::Seal { flags, payload } => self.seal(flags, payload),
            Op::SealLong { flags, len } => self.seal(flags, &vec![flags; len]),
            Op::SealMany { flags, count } => (0..count).for_each(|_| self.seal(flags, b"")),
            Op::Ping { context } => {
                self.seal(SEALED_COMMAND, &[&b"\x04PING\0\0"[..], &vec![7; context]].concat());
            }
            Op::Pong => self.seal(SEALED_COMMAND, b"\x04PONG"),
            Op::Skip(by) => self.peer.nonce = self.peer.nonce.wrapping_add_signed(by.into()),
            Op::Changed { at, by } => {
                let mut sealed = self.peer.seal(0, b"changed");
                let at = 2 + usize::from(at) % (sealed.len() - 2);
                sealed[at] ^= by;
                self.wire.extend(sealed);
                if by == 0 { self.predict(0, b"changed") } else { self.must_close = true }
            }
            Op::Clear { flags, payload } => {
                // Without the long flag, with which the link would wait for more bytes of the length.
                self.wire.extend(frame(flags & !2, &[payload]));
                self.must_close = true;
            }
            Op::Deliver(len) => self.deliver(len),
            Op::Read => self.read(),
            Op::Send { frames, len } => self.send(frames, len),
            Op::Pass(time) => {
                self.now += Duration::from_millis(20) * time.into();
                let result = self.link.handle_timeout(self.now);
                self.may_close |= result.is_err();
                // A PING.
                self.allowance += 64;
                self.settle(result);
            }
        }
    }

    fn seal(&mut self, flags: u8, payload: &[u8]) {
        let Some(left) = self.sealed_left.checked_sub(1) else { return };
        self.sealed_left = left;
        let sealed = self.peer.seal(flags, payload);
        self.wire.extend(sealed);
        self.predict(flags, payload);
    }

    /// Predicts what the last CURVE message of the peer causes.
    fn predict(&mut self, flags: u8, payload: &[u8]) {
        if self.must_close {
            return;
        }
        if self.last_nonce.checked_add(1) != Some(self.peer.nonce) {
            self.must_close = true;
            return;
        }
        self.last_nonce = self.peer.nonce;
        if flags & SEALED_COMMAND != 0 {
            match payload.strip_prefix(b"\x04PING").and_then(|ping| ping.get(2..)) {
                Some(context) if context.len() <= MAX_CONTEXT => self.pongs.push_back(context.to_vec()),
                _ => self.may_close = true,
            }
            return;
        }
        self.frames.push(Bytes::copy_from_slice(payload));
        let size: usize = self.frames.iter().map(Bytes::len).sum();
        let excessive = size > MAX_MESSAGE || self.frames.len() > MAX_FRAMES_READ;
        if flags & MORE != 0 {
            // The link may notice now, or when the message is complete.
            self.may_close |= excessive;
            return;
        }
        let frames = std::mem::take(&mut self.frames);
        let count = frames.len();
        if excessive {
            self.must_close = true;
        } else {
            let message = Multipart::from_frames(frames);
            self.due.push_back(message.map_or(LinkEvent::Ignored { frames: count }, LinkEvent::Message));
        }
    }

    fn send(&mut self, frames: u8, len: usize) {
        let frames = (0..=frames % 3).map(|at| Bytes::from(vec![at; len]));
        let message = Multipart::from_frames(frames).expect("one to three frames");
        let size = message.size();
        let sent = self.link.send(message.clone());
        assert_eq!(sent.is_ok(), !self.over);
        if sent.is_ok() {
            self.allowance += size + 3 * 64;
            self.sent.push_back(message);
        }
    }

    fn deliver(&mut self, most: usize) {
        if !self.link.accepts_input() && !self.over {
            self.read();
            assert!(self.link.accepts_input(), "the output is empty, and the link does not read");
        }
        let some: Vec<u8> = self.wire.drain(..most.min(self.wire.len())).collect();
        if !some.is_empty() {
            let result = self.link.handle_input(self.now, &some);
            assert_eq!(self.over, result == Err(LinkError::Closed), "nothing follows the end");
            self.settle(result);
        }
    }

    fn settle(&mut self, result: Result<(), LinkError>) {
        self.over |= result.is_err();
        while let Some(event) = self.link.poll_event() {
            assert_eq!(self.due.pop_front(), Some(event), "not the event that the peer caused");
        }
        assert!(self.link.missing_input() <= MAX_FRAME, "waits for {} bytes", self.link.missing_input());
        let waits = self.link.pending_output();
        assert!(
            waits <= self.allowance + MAX_REPLIES,
            "{waits} bytes are queued, {} of them without PONGs",
            self.allowance
        );
        assert_eq!(self.link.is_established(), !self.over);
        let timeout = self.link.poll_timeout();
        assert!(timeout.is_none_or(|at| at > self.now && !self.over), "would spin");
    }

    /// The peer reads the link's output, which must be CURVE messages in order.
    fn read(&mut self) {
        let output = written(&mut self.link);
        let mut rest = &output[..];
        while let Some((_, payload)) = next_frame(&mut rest) {
            let (flags, payload) = self.peer.open(&payload).expect("the next CURVE message");
            if flags & SEALED_COMMAND == 0 {
                self.reading.push(payload.into());
                if flags & MORE == 0 {
                    let message = Multipart::from_frames(std::mem::take(&mut self.reading));
                    assert_eq!(message, self.sent.pop_front(), "not what was sent");
                }
            } else if let Some(context) = payload.strip_prefix(b"\x04PONG") {
                assert_eq!(self.pongs.pop_front().as_deref(), Some(context), "not what it was asked");
            } else {
                assert!(payload.starts_with(b"\x04PING"), "{payload:?}");
            }
        }
        assert!(rest.is_empty(), "half a frame");
        self.allowance = 0;
    }

    /// Delivers everything, and checks the end.
    fn finish(mut self) {
        while !self.wire.is_empty() {
            // Read in between, or the PONGs would exceed their limit.
            self.deliver(4 << 10);
            self.read();
        }
        self.read();
        if !self.over || !self.may_close {
            assert_eq!(self.over, self.must_close, "the link must be closed if and only if it has a reason");
            assert!(
                self.due.is_empty() && self.pongs.is_empty() && self.sent.is_empty(),
                "something is lost"
            );
        }
    }
}
