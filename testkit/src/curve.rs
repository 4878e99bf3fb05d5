//! Two links under CURVE, and an attacker on the path who changes, drops, inserts, replays and reflects the bytes for one of
//! them.
//!
//! The seeds of both links are fixed, so an input does the same each time, to the byte.

use std::time::{Duration, Instant};

use crate::curve_side::{MAX_MESSAGE, Side};
use crate::fuzz::{byte, bytes};
use callosum_proto::zmtp::{CurveKeyPair, LinkConfig, Mechanism};
use callosum_proto::{Multipart, Role};

/// Bounds the time of one input.
const MAX_OPS: usize = 128;
/// Most round trips that a handshake, or the queued output of two links, can need.
const MAX_CARRIES: usize = 64;

/// Attacks the bytes for the server. The first byte of the input chooses the client's keys, and whether the handshake is
/// complete before the attack.
///
/// # Panics
/// If a guarantee of the link is broken.
pub fn curve_server(data: &[u8], start: Instant) {
    run(data, start, true);
}

/// Attacks the bytes for the client, as [`curve_server`] does for the server.
///
/// # Panics
/// If a guarantee of the link is broken.
pub fn curve_client(data: &[u8], start: Instant) {
    run(data, start, false);
}

fn run(data: &[u8], start: Instant, server: bool) {
    let Some((setup, mut input)) = data.split_first() else { return };
    let mut path = Path::new(*setup, server, start);
    if setup & 1 != 0 && path.may_meet {
        path.shake_hands();
    }
    for _ in 0..MAX_OPS {
        let Some(op) = Op::read(&mut input) else { break };
        path.apply(op);
    }
    path.finish();
}

/// One step. Lengths and offsets are taken modulo the bytes in flight.
enum Op<'a> {
    Carry(u8),
    CarryBack(u8),
    CarryAll,
    Change { at: u8, by: u8 },
    Drop { at: u8, len: u8 },
    Insert { at: u8, bytes: &'a [u8] },
    Replay(u8),
    Reflect(u8),
    Send { frames: u8, len: u8 },
    SendBack { frames: u8, len: u8 },
    Decide { admit: bool },
    Pass(u8),
}

impl<'a> Op<'a> {
    fn read(input: &mut &'a [u8]) -> Option<Self> {
        let kind = byte(input)? % 12;
        Some(match kind {
            0 => Self::Carry(byte(input)?),
            1 => Self::CarryBack(byte(input)?),
            2 => Self::CarryAll,
            3 => Self::Change { at: byte(input)?, by: byte(input)? },
            4 => Self::Drop { at: byte(input)?, len: byte(input)? },
            5 => Self::Insert { at: byte(input)?, bytes: bytes(input)? },
            6 => Self::Replay(byte(input)?),
            7 => Self::Reflect(byte(input)?),
            8 => Self::Send { frames: byte(input)?, len: byte(input)? },
            9 => Self::SendBack { frames: byte(input)?, len: byte(input)? },
            10 => Self::Decide { admit: byte(input)? & 1 != 0 },
            _ => Self::Pass(byte(input)?),
        })
    }
}

struct Path {
    now: Instant,
    /// The link whose input is attacked.
    target: Side,
    peer: Side,
    target_is_server: bool,
    /// Whether the two links have each other's keys.
    may_meet: bool,
    admitted: bool,
    /// Whether something was done after which messages may be lost.
    disturbed: bool,
    /// All bytes that the target has received, and all that it has sent.
    carried: Vec<u8>,
    carried_back: Vec<u8>,
    sent: u32,
}

impl Path {
    fn new(setup: u8, target_is_server: bool, now: Instant) -> Self {
        let (server, client, unknown) = (keys(1), keys(2), keys(3));
        let (at_server, at_client) =
            if setup & 2 == 0 { (Role::Binder, Role::Connector) } else { (Role::Connector, Role::Binder) };
        let (mut server_is, mut client_is) = (
            Mechanism::CurveServer { keys: server.clone() },
            Mechanism::CurveClient { keys: client.clone(), server: server.public() },
        );
        let honest = setup & 8 == 0;
        let other = match (setup & 4 == 0, target_is_server) {
            (true, _) => Mechanism::Null,
            (_, true) => Mechanism::CurveClient { keys: client.clone(), server: unknown.public() },
            (_, false) => Mechanism::CurveServer { keys: unknown },
        };
        if !honest {
            *(if target_is_server { &mut client_is } else { &mut server_is }) = other;
        }
        let server_side = Side::new(config(at_server, server_is), client.public(), now);
        let client_side = Side::new(config(at_client, client_is), server.public(), now);
        let (target, peer) =
            if target_is_server { (server_side, client_side) } else { (client_side, server_side) };
        Self {
            now,
            target,
            peer,
            target_is_server,
            may_meet: honest,
            admitted: false,
            disturbed: !honest,
            carried: Vec::new(),
            carried_back: Vec::new(),
            sent: 0,
        }
    }

    fn shake_hands(&mut self) {
        self.carry_all();
        self.decide(true);
        self.carry_all();
        assert!(self.target.is_established() && self.peer.is_established(), "our own handshake");
    }

    fn apply(&mut self, op: Op<'_>) {
        let there = self.peer.wire.len();
        match op {
            Op::Carry(len) => drop(self.carry(some(len))),
            Op::CarryBack(len) => drop(self.carry_back(some(len))),
            Op::CarryAll => self.carry_all(),
            Op::Change { at, by } => {
                let at = usize::from(at) % there.max(1);
                if let Some(byte) = self.peer.wire.get_mut(at) {
                    *byte ^= by;
                    self.disturbed |= by != 0;
                }
            }
            Op::Drop { at, len } => {
                let at = usize::from(at) % there.max(1);
                self.peer.wire.drain(at.min(there)..(at + usize::from(len)).min(there));
                self.disturbed = true;
            }
            Op::Insert { at, bytes } => {
                let at = usize::from(at) % (there + 1);
                self.insert(at, bytes);
            }
            Op::Replay(len) => self.insert(0, &last(&self.carried, len)),
            Op::Reflect(len) => self.insert(0, &last(&self.carried_back, len)),
            Op::Send { frames, len } => {
                let message = self.message(frames, len);
                self.disturbed |= self.peer.send(&mut self.target, message);
            }
            Op::SendBack { frames, len } => {
                let message = self.message(frames, len);
                self.disturbed |= self.target.send(&mut self.peer, message);
            }
            Op::Decide { admit } => self.decide(admit),
            Op::Pass(time) => self.pass(Duration::from_millis(50) * time.into()),
        }
    }

    fn insert(&mut self, at: usize, bytes: &[u8]) {
        self.peer.wire.splice(at..at, bytes.iter().copied());
        self.disturbed |= !bytes.is_empty();
    }

    /// A message that begins with its number, so that no two are equal.
    fn message(&mut self, frames: u8, len: u8) -> Multipart {
        self.sent += 1;
        let mut first = self.sent.to_be_bytes().to_vec();
        first.resize(first.len() + usize::from(len) * MAX_MESSAGE / 200, len);
        let frames = std::iter::once(first).chain((0..frames % 3).map(|frame| vec![frame; frame.into()]));
        Multipart::from_frames(frames.map(Into::into)).expect("one to three frames")
    }

    fn decide(&mut self, admit: bool) {
        let server = if self.target_is_server { &mut self.target } else { &mut self.peer };
        let asked = server.asked();
        assert!(!asked || self.may_meet, "a client with other keys was authenticated");
        self.admitted |= asked && admit;
        self.disturbed |= asked && !admit;
        server.decide(self.now, admit, self.admitted);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for side in [&mut self.target, &mut self.peer] {
            self.disturbed |= side.pass(self.now);
        }
    }

    fn carry(&mut self, most: usize) -> usize {
        let bytes: Vec<u8> = self.peer.wire.drain(..most.min(self.peer.wire.len())).collect();
        self.carried.extend_from_slice(&bytes);
        self.target.read(self.now, &bytes, self.admitted);
        bytes.len()
    }

    fn carry_back(&mut self, most: usize) -> usize {
        let bytes: Vec<u8> = self.target.wire.drain(..most.min(self.target.wire.len())).collect();
        self.carried_back.extend_from_slice(&bytes);
        self.peer.read(self.now, &bytes, self.admitted);
        bytes.len()
    }

    fn carry_all(&mut self) {
        let mut carries = 0;
        while self.carry(usize::MAX) + self.carry_back(usize::MAX) > 0 {
            carries += 1;
            assert!(carries < MAX_CARRIES, "the links never stop sending");
        }
    }

    /// Without a disturbance, every message arrives.
    fn finish(mut self) {
        self.carry_all();
        self.decide(true);
        self.carry_all();
        if !self.disturbed {
            assert!(self.target.is_established() && self.peer.is_established(), "no byte was changed");
            assert!(self.target.due.is_empty() && self.peer.due.is_empty(), "a message is lost");
        }
    }
}

/// The length; 255 stands for everything.
fn some(len: u8) -> usize {
    if len == u8::MAX { usize::MAX } else { len.into() }
}

fn last(bytes: &[u8], len: u8) -> Vec<u8> {
    bytes[bytes.len() - some(len).min(bytes.len())..].to_vec()
}

fn keys(seed: u8) -> CurveKeyPair {
    CurveKeyPair::generate([seed; 32])
}

fn config(role: Role, mechanism: Mechanism) -> LinkConfig {
    let mut config = LinkConfig::new(role);
    config.max_message_size = MAX_MESSAGE;
    config.mechanism = mechanism;
    config
}
