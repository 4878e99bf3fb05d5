//! The network between two sessions: of messages, or of bytes that ZMTP makes of them.

use std::io::IoSlice;
use std::time::Instant;

use crate::Multipart;
use crate::zmtp::{CurveKeyPair, Decision, Link, LinkConfig, LinkEvent, Mechanism, Role};

use super::chance::Chance;
use super::lane::Lane;

/// What a link between session and network holds before it takes no more.
const HELD_MAX: usize = 32 * 1024;

/// One connection. Side 0 opened it.
pub(super) struct Wire {
    lanes: [Lane; 2],
    zmtp: Option<[Link; 2]>,
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
    pub(super) fn new(kind: Kind, capacity: usize, now: Instant) -> Self {
        let config = |role: Role, mechanism: Mechanism| {
            let mut config = LinkConfig::new(role);
            config.mechanism = mechanism;
            Link::new(&config, now)
        };
        let lanes = Default::default();
        let (client, server) = match kind {
            Kind::Messages => {
                return Self { lanes, zmtp: None, capacity: 1 + capacity % 64, half_closed: None };
            }
            Kind::Zmtp => (Mechanism::Null, Mechanism::Null),
            Kind::Curve => {
                let (keys, server) = (CurveKeyPair::generate([1; 32]), CurveKeyPair::generate([2; 32]));
                let client = Mechanism::CurveClient { keys, server: server.public() };
                (client, Mechanism::CurveServer { keys: server })
            }
        };
        let links = [config(Role::Connector, client), config(Role::Binder, server)];
        Self { lanes, zmtp: Some(links), capacity, half_closed: None }
    }

    /// Whether sessions can speak at once.
    pub(super) fn is_message_link(&self) -> bool {
        self.zmtp.is_none()
    }

    /// Whether a side may be asked for one more message.
    pub(super) fn takes(&self, from: usize) -> bool {
        match &self.zmtp {
            Some(links) => links[from].is_established() && links[from].pending_output() < HELD_MAX,
            None => self.lanes[from].len() < self.capacity,
        }
    }

    pub(super) fn send(&mut self, from: usize, message: Multipart) {
        match &mut self.zmtp {
            // One that has failed says so when it is next given something.
            Some(links) => drop(links[from].send(message)),
            None => {
                let received = Multipart::from_frames(message.into_frames()).expect("a message has frames");
                self.lanes[from].push_message(received);
            }
        }
    }

    /// Moves what a link has to say onto the network; how many bytes.
    pub(super) fn flush(&mut self, from: usize, most: usize) -> usize {
        let Some(links) = &mut self.zmtp else { return 0 };
        let (link, lane) = (&mut links[from], &mut self.lanes[from]);
        let mut room = self.capacity.saturating_sub(lane.len()).min(most);
        let mut moved = 0;
        while room > 0 && link.pending_output() > 0 {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = link.output(&mut slices);
            let mut taken = 0;
            for slice in &slices[..filled] {
                let len = slice.len().min(room);
                lane.push_bytes(&slice[..len]);
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
            Some(links) => links[from].pending_output() > 0 && self.lanes[from].len() >= self.capacity,
            None => self.lanes[from].len() >= self.capacity,
        }
    }

    /// What arrives at a side next: one message, or some bytes and what comes of them. `None` if nothing does.
    pub(super) fn deliver(
        &mut self,
        now: Instant,
        to: usize,
        chance: &mut Chance<'_>,
    ) -> Option<Vec<Arrival>> {
        let lane = &mut self.lanes[1 - to];
        let lost = lane.is_over().then(|| vec![Arrival::Lost]);
        let Some(links) = &mut self.zmtp else {
            return lane.pop_message().map(|message| vec![Arrival::Message(message)]).or(lost);
        };
        let arrived = lane.arrived();
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
    pub(super) fn end(&mut self, side: usize) {
        self.lanes[side].end();
        self.lanes[1 - side] = Lane::ended();
    }

    /// Nothing of what was sent arrives any more either.
    pub(super) fn cut(&mut self) {
        self.lanes = [(); 2].map(|()| Lane::ended());
    }

    /// Side 0 comes again, and side 1 does not know; whether what the former side 0 had sent still arrives.
    pub(super) fn take_over(&mut self, keeps: bool) {
        let [former, _] = std::mem::take(&mut self.lanes);
        if keeps {
            self.lanes[0] = former.reopened();
        }
        self.half_closed = None;
    }

    /// One direction ends, and what was sent in it arrives. The other goes on, until that end is heard. Whether neither
    /// had ended before.
    pub(super) fn half_close(&mut self, from: usize) -> bool {
        let whole = !self.lanes.iter().any(Lane::has_ended);
        if whole {
            self.lanes[from].end();
            self.half_closed = Some(from);
        }
        whole
    }

    /// Whether all that a side can do is to hear what the other has sent.
    pub(super) fn is_half_closed(&self, side: usize) -> bool {
        self.half_closed == Some(side)
    }

    /// There are no obstacles any more.
    pub(super) fn widen(&mut self) {
        self.capacity = usize::MAX;
        self.lanes.iter_mut().for_each(|lane| lane.stick(false));
    }

    pub(super) fn stick(&mut self, from: usize, stuck: bool) {
        self.lanes[from].stick(stuck);
    }
}
