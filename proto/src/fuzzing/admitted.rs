//! One link under CURVE, and a peer that has good keys, is let in with them, and then seals whatever it likes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::curve_handshake::{Plan, shake_hands, written};
use super::curve_peer::{CurvePeer, Half, MORE, SEALED_COMMAND, frame, next_frame};
use super::{byte, bytes};
use crate::zmtp::{CurveKeyPair, Heartbeat, Link, LinkConfig, LinkError, LinkEvent, Mechanism};
use crate::{Multipart, Role};

/// Largest message that the link takes.
const MAX_MESSAGE: usize = 4 << 10;
/// Frames of a message after which it gives the peer up.
const MAX_FRAMES_READ: usize = 1024;
/// Replies to PINGs that may wait, and the one with which they become too many.
const MAX_REPLIES: usize = (64 << 10) + 64;
/// The longest frame that it waits for: a command, and the box around it.
const MAX_FRAME: usize = (8 << 10) + 33;
/// The longest context that a PING may have (RFC 37).
const MAX_CONTEXT: usize = 16;
/// So that one input does not take seconds.
const MAX_OPS: usize = 200;
const MAX_BOXES: usize = 1_200;

/// A client that the link has let in. The first byte says whether its handshake is an honest one.
///
/// # Panics
/// If a promise of the link is broken.
pub fn admitted_client(data: &[u8], start: Instant) {
    run(data, start, false);
}

/// The server that the link was told to trust.
///
/// # Panics
/// If a promise of the link is broken.
pub fn admitted_server(data: &[u8], start: Instant) {
    run(data, start, true);
}

fn run(data: &[u8], now: Instant, server: bool) {
    let mut input = data;
    let Some(setup) = byte(&mut input) else { return };
    let plan = if setup & 1 == 0 { Some(Plan::honest(server)) } else { Plan::read(&mut input, server) };
    let Some(plan) = plan else { return };
    let (mut link, mut peer) = meet(server, now);
    let established = shake_hands(&mut link, &mut peer, &plan, now);
    assert!(setup & 1 != 0 || established == Ok(true), "an honest handshake");
    if established != Ok(true) {
        return;
    }
    let mut meeting = Meeting::new(link, peer, now);
    for _ in 0..MAX_OPS {
        let Some(op) = Op::read(&mut input) else { break };
        meeting.apply(op);
    }
    meeting.finish();
}

/// A link, and a peer that is a server or a client.
fn meet(server: bool, now: Instant) -> (Link, CurvePeer) {
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
    config.heartbeat = Some(Heartbeat { interval: Duration::from_secs(1), misses: 2 });
    (Link::new(&config, [33; 32], now), peer)
}

/// What happens. All but the last five is something that the peer says.
enum Op<'a> {
    /// These flags and bytes in a box.
    Seal { flags: u8, payload: &'a [u8] },
    /// The same, with bytes that need not be in the input.
    SealLong { flags: u8, len: usize },
    /// Many empty frames.
    SealMany { flags: u8, count: usize },
    /// A PING whose context has so many bytes.
    Ping { context: usize },
    /// An answer to a PING, asked for or not.
    Pong,
    /// The next box has a number that is so far from the next one.
    Skip(i8),
    /// A box that is changed once it is sealed.
    Changed { at: u8, by: u8 },
    /// A frame without a box.
    Clear { flags: u8, payload: &'a [u8] },
    /// So many bytes arrive.
    Deliver(usize),
    /// The peer reads what there is.
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

struct Meeting {
    now: Instant,
    link: Link,
    over: bool,
    peer: CurvePeer,
    boxes_left: usize,
    /// What the peer has said and the link has not read.
    wire: Vec<u8>,
    /// The number of the last box that the link must take.
    last_nonce: u64,
    /// The message that the peer is at.
    frames: Vec<Bytes>,
    /// What must come out of the link, in this order.
    due: VecDeque<LinkEvent>,
    /// Contexts of the PINGs that it must answer.
    pongs: VecDeque<Vec<u8>>,
    /// What it has sent and the peer has not read; the frames of the message that the peer reads.
    sent: VecDeque<Multipart>,
    reading: Vec<Bytes>,
    /// Bytes that it may have to write besides its replies.
    owed: usize,
    /// Something was said after which the link must be over, and before which it must not.
    doomed: bool,
    /// Something was said, or happened, after which it may be over.
    dubious: bool,
}

impl Meeting {
    fn new(link: Link, peer: CurvePeer, now: Instant) -> Self {
        let last_nonce = peer.nonce;
        Self {
            now,
            link,
            over: false,
            peer,
            boxes_left: MAX_BOXES,
            wire: Vec::new(),
            last_nonce,
            frames: Vec::new(),
            due: VecDeque::new(),
            pongs: VecDeque::new(),
            sent: VecDeque::new(),
            reading: Vec::new(),
            owed: 0,
            doomed: false,
            dubious: false,
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
                if by == 0 { self.predict(0, b"changed") } else { self.doomed = true }
            }
            Op::Clear { flags, payload } => {
                // Without the flag that would make the link wait for more of the length.
                self.wire.extend(frame(flags & !2, &[payload]));
                self.doomed = true;
            }
            Op::Deliver(len) => self.deliver(len),
            Op::Read => self.read(),
            Op::Send { frames, len } => self.send(frames, len),
            Op::Pass(time) => {
                self.now += Duration::from_millis(20) * time.into();
                let result = self.link.handle_timeout(self.now);
                self.dubious |= result.is_err();
                // A PING.
                self.owed += 64;
                self.settle(result);
            }
        }
    }

    fn seal(&mut self, flags: u8, payload: &[u8]) {
        let Some(left) = self.boxes_left.checked_sub(1) else { return };
        self.boxes_left = left;
        let sealed = self.peer.seal(flags, payload);
        self.wire.extend(sealed);
        self.predict(flags, payload);
    }

    /// What must come of the box that the peer has sealed last.
    fn predict(&mut self, flags: u8, payload: &[u8]) {
        if self.doomed {
            return;
        }
        if self.last_nonce.checked_add(1) != Some(self.peer.nonce) {
            self.doomed = true;
            return;
        }
        self.last_nonce = self.peer.nonce;
        if flags & SEALED_COMMAND != 0 {
            match payload.strip_prefix(b"\x04PING").and_then(|ping| ping.get(2..)) {
                Some(context) if context.len() <= MAX_CONTEXT => self.pongs.push_back(context.to_vec()),
                _ => self.dubious = true,
            }
            return;
        }
        self.frames.push(Bytes::copy_from_slice(payload));
        let size: usize = self.frames.iter().map(Bytes::len).sum();
        let excessive = size > MAX_MESSAGE || self.frames.len() > MAX_FRAMES_READ;
        if flags & MORE != 0 {
            // It may notice now, or when the message is complete.
            self.dubious |= excessive;
            return;
        }
        let frames = std::mem::take(&mut self.frames);
        let count = frames.len();
        if excessive {
            self.doomed = true;
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
            self.owed += size + 3 * 64;
            self.sent.push_back(message);
        }
    }

    fn deliver(&mut self, most: usize) {
        if !self.link.accepts_input() && !self.over {
            self.read();
            assert!(self.link.accepts_input(), "all was written, and it does not read");
        }
        let some: Vec<u8> = self.wire.drain(..most.min(self.wire.len())).collect();
        if !some.is_empty() {
            let result = self.link.handle_input(self.now, Bytes::from(some));
            assert_eq!(self.over, result == Err(LinkError::Closed), "the end is the end");
            self.settle(result);
        }
    }

    fn settle(&mut self, result: Result<(), LinkError>) {
        self.over |= result.is_err();
        while let Some(event) = self.link.poll_event() {
            assert_eq!(self.due.pop_front(), Some(event), "not what was said");
        }
        assert!(self.link.missing_input() <= MAX_FRAME, "waits for {} bytes", self.link.missing_input());
        let waits = self.link.pending_output();
        assert!(waits <= self.owed + MAX_REPLIES, "{waits} bytes wait, {} of them its own", self.owed);
        assert_eq!(self.link.is_established(), !self.over);
        let timeout = self.link.poll_timeout();
        assert!(timeout.is_none_or(|at| at > self.now && !self.over), "would spin");
    }

    /// The peer reads all that the link has to say, which is in order and in boxes.
    fn read(&mut self) {
        let said = written(&mut self.link);
        let mut rest = &said[..];
        while let Some((_, payload)) = next_frame(&mut rest) {
            let (flags, payload) = self.peer.open(&payload).expect("the next box");
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
        self.owed = 0;
    }

    /// Lets all arrive.
    fn finish(mut self) {
        while !self.wire.is_empty() {
            // So that replies don't pile up.
            self.deliver(4 << 10);
            self.read();
        }
        self.read();
        if !self.over || !self.dubious {
            assert_eq!(self.over, self.doomed, "over without a reason, or not over with one");
            assert!(
                self.due.is_empty() && self.pongs.is_empty() && self.sent.is_empty(),
                "something is lost"
            );
        }
    }
}
