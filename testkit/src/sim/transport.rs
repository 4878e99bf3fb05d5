//! One connection of the simulated network: a message link, or two [`Link`]s that turn messages into bytes (ZMTP with NULL
//! or CURVE). Both directions split, merge, delay and stall what they carry.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use callosum_proto::zmtp::{CurveKeyPair, CurvePublicKey, Link, LinkConfig, LinkEvent, Mechanism};
use callosum_proto::{Multipart, Role};

use super::chance::Chance;
use super::pipe::Pipe;

/// Bytes that a [`Link`] may hold before its connection is asked for no more messages.
const HELD_MAX: usize = 32 * 1024;

/// One connection. Side 0 is the connector.
pub(super) struct Transport {
    pipes: [Pipe; 2],
    zmtp: Option<[Link; 2]>,
    /// With ZMTP: how many messages each side has received.
    received: [u64; 2],
    /// Under CURVE, each side's public key.
    public_keys: Option<[CurvePublicKey; 2]>,
    /// Without ZMTP: each side's message that its pipe has not accepted yet.
    unsent: [Option<Multipart>; 2],
    /// The capacity of a pipe, in messages or bytes.
    capacity: usize,
    /// The side whose direction has ended while the other direction goes on.
    half_closed: Option<usize>,
}

/// An arrival.
pub(super) enum Arrival {
    Connected,
    Message(Multipart),
    /// The other side's ZMTP has read so many messages.
    Acknowledged(u64),
    /// The connection is closed.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Messages,
    Zmtp,
    Curve,
}

impl Transport {
    /// `keys` makes the key pairs of both sides; only CURVE asks for them. `seed` is for its ephemeral keys.
    pub(super) fn new(
        seed: u8,
        kind: Kind,
        keys: impl Fn() -> [CurveKeyPair; 2],
        capacity: usize,
        delays: [Duration; 2],
        now: Instant,
    ) -> Self {
        let config = |role: Role, mechanism: Mechanism| {
            let mut config = LinkConfig::new(role);
            config.mechanism = mechanism;
            Link::new(&config, [seed + u8::from(role == Role::Binder); 32], now)
        };
        let mut transport = Self {
            pipes: delays.map(Pipe::new),
            zmtp: None,
            received: [0; 2],
            public_keys: None,
            unsent: [None, None],
            capacity,
            half_closed: None,
        };
        let (client, server) = match kind {
            Kind::Messages => {
                transport.capacity = 1 + capacity % 64;
                return transport;
            }
            Kind::Zmtp => (Mechanism::Null, Mechanism::Null),
            Kind::Curve => {
                let [keys, server] = keys();
                transport.public_keys = Some([keys.public(), server.public()]);
                let client = Mechanism::CurveClient { keys, server: server.public() };
                (client, Mechanism::CurveServer { keys: server })
            }
        };
        transport.zmtp = Some([config(Role::Connector, client), config(Role::Binder, server)]);
        transport
    }

    /// Whether connections can send at once, without a ZMTP handshake.
    pub(super) fn is_message_link(&self) -> bool {
        self.zmtp.is_none()
    }

    /// Whether a side's connection may be asked for one more message.
    pub(super) fn takes(&self, from: usize) -> bool {
        match &self.zmtp {
            Some(links) => links[from].is_established() && links[from].pending_output() < HELD_MAX,
            None => self.unsent[from].is_none(),
        }
    }

    pub(super) fn send(&mut self, from: usize, message: Multipart) {
        match &mut self.zmtp {
            // A link that has failed reports the failure at its next input.
            Some(links) => drop(links[from].send(message)),
            None => {
                let received = Multipart::from_frames(message.into_frames()).expect("a message has frames");
                self.unsent[from] = Some(received);
            }
        }
    }

    /// Moves a side's output into its pipe; returns how many bytes, or messages.
    pub(super) fn flush(&mut self, now: Instant, from: usize, most: usize) -> usize {
        let pipe = &mut self.pipes[from];
        let mut room = pipe.room(self.capacity).min(most);
        let Some(links) = &mut self.zmtp else {
            let taken = self.unsent[from].take_if(|_| room > 0);
            return taken.map(|message| pipe.push_message(now, message)).iter().len();
        };
        let link = &mut links[from];
        let mut moved = 0;
        while room > 0 && link.pending_output() > 0 {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = link.output(&mut slices);
            let mut taken = 0;
            for slice in &slices[..filled] {
                let len = slice.len().min(room);
                pipe.push_bytes(now, &slice[..len]);
                (room, taken) = (room - len, taken + len);
            }
            link.advance_output(taken);
            moved += taken;
        }
        moved
    }

    /// Whether output waits that the pipe doesn't accept.
    pub(super) fn is_blocked(&self, from: usize) -> bool {
        match &self.zmtp {
            Some(links) => links[from].pending_output() > 0 && self.pipes[from].room(self.capacity) == 0,
            None => self.unsent[from].is_some(),
        }
    }

    /// Blocks or unblocks what a side sends.
    pub(super) fn block(&mut self, from: usize, blocked: bool) {
        self.pipes[from].block(blocked);
    }

    /// Whether a side is blocked after its pipe has accepted something.
    pub(super) fn is_blocked_midway(&self, from: usize) -> bool {
        self.pipes[from].is_blocked_midway()
    }

    /// The next arrival at a side: one message, or some bytes and the events that they cause. `None` if there is none.
    pub(super) fn deliver(
        &mut self,
        now: Instant,
        to: usize,
        chance: &mut Chance<'_>,
    ) -> Option<Vec<Arrival>> {
        let pipe = &mut self.pipes[1 - to];
        let lost = pipe.is_over(now).then(|| vec![Arrival::Lost]);
        let Some(links) = &mut self.zmtp else {
            return pipe.pop_message(now).map(|message| vec![Arrival::Message(message)]).or(lost);
        };
        let arrived = pipe.arrived(now);
        if arrived == 0 {
            return lost;
        }
        if !links[to].accepts_input() {
            return None;
        }
        let len = match chance.below(3) {
            0 => arrived,
            _ => 1 + chance.size(arrived - 1),
        };
        let bytes = pipe.take_bytes(len.min(arrived));
        let mut result = links[to].handle_input(now, &bytes);
        let mut arrived = Vec::new();
        while let Some(event) = links[to].poll_event() {
            match event {
                LinkEvent::Established { public_key, .. } => {
                    let expected = self.public_keys.map(|keys| keys[1 - to]);
                    assert_eq!(public_key, expected, "the link has authenticated another peer");
                    arrived.push(Arrival::Connected);
                }
                LinkEvent::Message(message) => {
                    self.received[to] += 1;
                    arrived.push(Arrival::Message(message));
                }
                LinkEvent::Acknowledged { messages } => {
                    assert!(
                        messages <= self.received[1 - to],
                        "a message is acknowledged before it has arrived"
                    );
                    arrived.push(Arrival::Acknowledged(messages));
                }
                LinkEvent::AuthenticationRequested { public_key } => {
                    let expected = self.public_keys.map(|keys| keys[1 - to]);
                    assert_eq!(Some(public_key), expected, "another peer asks to be admitted");
                    links[to].admit(now);
                    result = result.and_then(|()| links[to].handle_input(now, &[]));
                }
                other => panic!("an honest peer causes {other:?}"),
            }
        }
        if let Err(error) = result {
            panic!("an honest peer's bytes are refused: {error}");
        }
        Some(arrived)
    }

    /// Fires a link's timers; returns whether the link has given up.
    pub(super) fn handle_timeout(&mut self, now: Instant, side: usize) -> bool {
        let Some(links) = &mut self.zmtp else { return false };
        let given_up = links[side].handle_timeout(now).is_err();
        assert!(links[side].poll_timeout().is_none_or(|at| at > now), "a link's timer would spin");
        given_up
    }

    /// A side closes the connection: what it has sent still arrives, and it receives nothing more.
    pub(super) fn end(&mut self, now: Instant, side: usize) {
        self.pipes[side].end(now);
        self.pipes[1 - side] = Pipe::ended(now);
        self.unsent[side] = None;
    }

    /// Resets the connection: nothing in flight arrives.
    pub(super) fn reset(&mut self, now: Instant) {
        self.pipes = [(); 2].map(|()| Pipe::ended(now));
    }

    /// Side 0 reconnects, and side 1 doesn't notice. `keeps` says whether what the former side 0 has sent still arrives.
    pub(super) fn take_over(&mut self, keeps: bool) {
        let pipes = self.pipes.each_ref().map(Pipe::anew);
        let [former, _] = std::mem::replace(&mut self.pipes, pipes);
        if keeps {
            self.pipes[0] = former.reopened();
        }
        self.half_closed = None;
    }

    /// Ends one direction; what is in flight arrives. The other direction goes on until that end of stream is read. Returns
    /// whether neither had ended before.
    pub(super) fn half_close(&mut self, now: Instant, from: usize) -> bool {
        let whole = !self.pipes.iter().any(Pipe::has_ended);
        if whole {
            self.pipes[from].end(now);
            self.half_closed = Some(from);
        }
        whole
    }

    /// Whether a side can only receive what the other has sent.
    pub(super) fn is_half_closed(&self, side: usize) -> bool {
        self.half_closed == Some(side)
    }

    /// When the next message or bytes arrive at a side.
    pub(super) fn next_arrival(&self, to: usize) -> Option<Instant> {
        self.pipes[1 - to].next_arrival()
    }

    /// When the timer of a side's link fires.
    pub(super) fn poll_timeout(&self, side: usize) -> Option<Instant> {
        self.zmtp.as_ref().and_then(|links| links[side].poll_timeout())
    }

    /// Lifts all limits, delays and stalls.
    pub(super) fn lift_limits(&mut self, now: Instant) {
        self.capacity = usize::MAX;
        self.pipes.iter_mut().for_each(|pipe| pipe.deliver_now(now));
    }

    /// Stalls or resumes the arrival of what a side has sent.
    pub(super) fn stall(&mut self, from: usize, stalled: bool) {
        self.pipes[from].stall(stalled);
    }

    /// Whether something is in flight, in either direction, and doesn't arrive.
    pub(super) fn is_stalled(&self) -> bool {
        self.pipes.iter().any(Pipe::is_stalled)
    }

    pub(super) fn delay(&mut self, from: usize, delay: Duration) {
        self.pipes[from].delay(delay);
    }

    pub(super) fn takes_time(&self, from: usize) -> bool {
        self.pipes[from].takes_time()
    }
}
