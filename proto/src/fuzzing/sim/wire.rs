//! The network between two sessions: of messages, or of bytes that ZMTP makes of them.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use crate::zmtp::{CurveKeyPair, Decision, Link, LinkConfig, LinkEvent, Mechanism};
use crate::{Multipart, Role};

use super::chance::Chance;
use super::lane::Lane;

/// What a link between session and network holds before it takes no more.
const HELD_MAX: usize = 32 * 1024;

/// One connection. Side 0 opened it.
pub(super) struct Wire {
    lanes: [Lane; 2],
    zmtp: Option<[Link; 2]>,
    /// Without ZMTP: a message of each side that its lane has not taken yet.
    hands: [Option<Multipart>; 2],
    /// What a lane holds before it takes no more, in messages or bytes.
    capacity: usize,
    /// The side whose direction has ended while the other goes on.
    half_closed: Option<usize>,
}

/// What arrived.
pub(super) enum Arrival {
    Connected,
    Message(Multipart),
    /// The connection is gone.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Messages,
    Zmtp,
    Curve,
}

impl Wire {
    pub(super) fn new(kind: Kind, capacity: usize, delays: [Duration; 2], now: Instant) -> Self {
        let config = |role: Role, mechanism: Mechanism| {
            let mut config = LinkConfig::new(role);
            config.mechanism = mechanism;
            Link::new(&config, [role as u8; 32], now)
        };
        let (lanes, hands) = (delays.map(Lane::new), [None, None]);
        let (client, server) = match kind {
            Kind::Messages => {
                return Self { lanes, zmtp: None, hands, capacity: 1 + capacity % 64, half_closed: None };
            }
            Kind::Zmtp => (Mechanism::Null, Mechanism::Null),
            Kind::Curve => {
                let (keys, server) = (CurveKeyPair::generate([1; 32]), CurveKeyPair::generate([2; 32]));
                let client = Mechanism::CurveClient { keys, server: server.public() };
                (client, Mechanism::CurveServer { keys: server })
            }
        };
        let links = [config(Role::Connector, client), config(Role::Binder, server)];
        Self { lanes, zmtp: Some(links), hands, capacity, half_closed: None }
    }

    /// Whether sessions can speak at once.
    pub(super) fn is_message_link(&self) -> bool {
        self.zmtp.is_none()
    }

    /// Whether a side may be asked for one more message.
    pub(super) fn takes(&self, from: usize) -> bool {
        match &self.zmtp {
            Some(links) => links[from].is_established() && links[from].pending_output() < HELD_MAX,
            None => self.hands[from].is_none(),
        }
    }

    pub(super) fn send(&mut self, from: usize, message: Multipart) {
        match &mut self.zmtp {
            // One that has failed says so when it is next given something.
            Some(links) => drop(links[from].send(message)),
            None => {
                let received = Multipart::from_frames(message.into_frames()).expect("a message has frames");
                self.hands[from] = Some(received);
            }
        }
    }

    /// Moves what a side has to say onto the network; how many bytes, or messages.
    pub(super) fn flush(&mut self, now: Instant, from: usize, most: usize) -> usize {
        let lane = &mut self.lanes[from];
        let mut room = lane.room(self.capacity).min(most);
        let Some(links) = &mut self.zmtp else {
            let taken = self.hands[from].take_if(|_| room > 0);
            return taken.map(|message| lane.push_message(now, message)).iter().len();
        };
        let link = &mut links[from];
        let mut moved = 0;
        while room > 0 && link.pending_output() > 0 {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = link.output(&mut slices);
            let mut taken = 0;
            for slice in &slices[..filled] {
                let len = slice.len().min(room);
                lane.push_bytes(now, &slice[..len]);
                (room, taken) = (room - len, taken + len);
            }
            link.advance_output(taken);
            moved += taken;
        }
        moved
    }

    /// Whether something waits that the network does not take.
    pub(super) fn is_blocked(&self, from: usize) -> bool {
        match &self.zmtp {
            Some(links) => links[from].pending_output() > 0 && self.lanes[from].room(self.capacity) == 0,
            None => self.hands[from].is_some(),
        }
    }

    /// The network takes nothing more from a side, or does again.
    pub(super) fn stop(&mut self, from: usize, stopped: bool) {
        self.lanes[from].stop(stopped);
    }

    /// Whether it takes nothing more from a side, after it has taken something.
    pub(super) fn has_stopped(&self, from: usize) -> bool {
        self.lanes[from].has_stopped()
    }

    /// What arrives at a side next: one message, or some bytes and what comes of them. `None` if nothing does.
    pub(super) fn deliver(
        &mut self,
        now: Instant,
        to: usize,
        chance: &mut Chance<'_>,
    ) -> Option<Vec<Arrival>> {
        let lane = &mut self.lanes[1 - to];
        let lost = lane.is_over(now).then(|| vec![Arrival::Lost]);
        let Some(links) = &mut self.zmtp else {
            return lane.pop_message(now).map(|message| vec![Arrival::Message(message)]).or(lost);
        };
        let arrived = lane.arrived(now);
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
        let bytes = lane.take_bytes(len.min(arrived));
        let mut result = links[to].handle_input(now, bytes);
        let mut arrived = Vec::new();
        while let Some(event) = links[to].poll_event() {
            match event {
                LinkEvent::Established(_) => arrived.push(Arrival::Connected),
                LinkEvent::Message(message) => arrived.push(Arrival::Message(message)),
                LinkEvent::AuthenticationRequested { .. } => {
                    result = result.and(links[to].authenticate(now, Decision::Admit));
                }
                LinkEvent::Ignored { frames } => panic!("a message of {frames} frames"),
            }
        }
        if let Err(error) = result {
            panic!("an honest peer's bytes are refused: {error}");
        }
        Some(arrived)
    }

    /// Lets the links' time pass; whether one of them has given up.
    pub(super) fn handle_timeout(&mut self, now: Instant, side: usize) -> bool {
        let Some(links) = &mut self.zmtp else { return false };
        let given_up = links[side].handle_timeout(now).is_err();
        assert!(links[side].poll_timeout().is_none_or(|at| at > now), "a link's timer would spin");
        given_up
    }

    /// A side closes: what it had sent still arrives, and it hears no more.
    pub(super) fn end(&mut self, now: Instant, side: usize) {
        self.lanes[side].end(now);
        self.lanes[1 - side] = Lane::ended(now);
        self.hands[side] = None;
    }

    /// Nothing of what was sent arrives any more either.
    pub(super) fn cut(&mut self, now: Instant) {
        self.lanes = [(); 2].map(|()| Lane::ended(now));
    }

    /// Side 0 comes again, and side 1 does not know; whether what the former side 0 had sent still arrives.
    pub(super) fn take_over(&mut self, keeps: bool) {
        let lanes = self.lanes.each_ref().map(Lane::anew);
        let [former, _] = std::mem::replace(&mut self.lanes, lanes);
        if keeps {
            self.lanes[0] = former.reopened();
        }
        self.half_closed = None;
    }

    /// One direction ends, and what was sent in it arrives. The other goes on, until that end is heard. Whether neither
    /// had ended before.
    pub(super) fn half_close(&mut self, now: Instant, from: usize) -> bool {
        let whole = !self.lanes.iter().any(Lane::has_ended);
        if whole {
            self.lanes[from].end(now);
            self.half_closed = Some(from);
        }
        whole
    }

    /// Whether all that a side can do is to hear what the other has sent.
    pub(super) fn is_half_closed(&self, side: usize) -> bool {
        self.half_closed == Some(side)
    }

    /// When the next of what is under way to a side arrives.
    pub(super) fn next_arrival(&self, to: usize) -> Option<Instant> {
        self.lanes[1 - to].next_arrival()
    }

    /// When the timer of a side's link goes off.
    pub(super) fn poll_timeout(&self, side: usize) -> Option<Instant> {
        self.zmtp.as_ref().and_then(|links| links[side].poll_timeout())
    }

    /// There are no obstacles any more.
    pub(super) fn widen(&mut self, now: Instant) {
        self.capacity = usize::MAX;
        self.lanes.iter_mut().for_each(|lane| lane.hurry(now));
    }

    /// What is under way from a side does not arrive, or does again.
    pub(super) fn stick(&mut self, from: usize, stuck: bool) {
        self.lanes[from].stick(stuck);
    }

    /// Whether something is under way, in any direction, that does not arrive.
    pub(super) fn is_stuck(&self) -> bool {
        self.lanes.iter().any(Lane::is_stuck)
    }

    pub(super) fn delay(&mut self, from: usize, delay: Duration) {
        self.lanes[from].delay(delay);
    }

    pub(super) fn takes_time(&self, from: usize) -> bool {
        self.lanes[from].takes_time()
    }
}
