//! What a simulation is made of: how many there are, and their limits.

use std::time::{Duration, Instant};

use super::chance::Chance;
use super::host::Seat;
use super::wire::{Kind, Wire};
use crate::scheduler::{KeyScope, OrderingMode, SchedulerConfig};
use crate::session::{Dialect, Keepalive, Session, SessionConfig};
use crate::wire::NONCE_LEN;
use crate::{CallId, PeerId, Role};

pub(super) struct Setup {
    schedulers: Vec<SchedulerConfig>,
    /// Of the binder, then of each connector.
    sessions: Vec<SessionConfig>,
    kinds: Vec<Kind>,
    /// Nothing breaks, and only what is under way takes any time.
    lasting: bool,
}

impl Setup {
    pub(super) fn new(chance: &mut Chance<'_>) -> Self {
        let connectors = 1 + chance.below(3);
        let lasting = chance.one_in(6);
        let schedulers: Vec<_> = (0..=connectors).map(|_| scheduler(chance, lasting)).collect();
        let sessions = schedulers.iter().map(|scheduler| session(chance, scheduler, lasting)).collect();
        let kind = |chance: &mut Chance<'_>| match chance.below(12) {
            0..7 => Kind::Messages,
            7..11 => Kind::Zmtp,
            // It takes most of the time there is.
            _ => chance.pick(&[Kind::Zmtp, Kind::Zmtp, Kind::Curve]),
        };
        let kinds = (0..connectors).map(|_| kind(chance)).collect();
        Self { kinds, schedulers, sessions, lasting }
    }

    pub(super) fn connectors(&self) -> usize {
        self.kinds.len()
    }

    /// Whether connections last, and with them what nobody reads before the end of the simulation.
    pub(super) fn is_lasting(&self) -> bool {
        self.lasting
    }

    pub(super) fn scheduler(&self, host: usize) -> SchedulerConfig {
        self.schedulers[host].clone()
    }

    pub(super) fn config(&self, link: usize, side: usize) -> SessionConfig {
        self.sessions[if side == 1 { 0 } else { 1 + link }].clone()
    }

    pub(super) fn session(&self, seat: Seat, first_call: CallId, now: Instant) -> Session {
        let role = if seat.side == 0 { Role::Connector } else { Role::Binder };
        let PeerId(number) = seat.peer;
        Session::new(role, self.config(seat.link, seat.side), nonce(number), first_call, now)
    }

    pub(super) fn wire(&self, link: usize, chance: &mut Chance<'_>, now: Instant) -> Wire {
        let delays = [(); 2].map(|()| delay(chance));
        Wire::new(self.kinds[link], 1 + chance.size(200_000), delays, now)
    }
}

/// Another one for each number.
pub(super) fn nonce(number: u64) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce
}

/// Of what is sent in one direction. Most networks here are fast, or time would have to pass all the time.
pub(super) fn delay(chance: &mut Chance<'_>) -> Duration {
    if chance.one_in(4) { Duration::from_millis(chance.size(300) as u64) } else { Duration::ZERO }
}

fn scheduler(chance: &mut Chance<'_>, lasting: bool) -> SchedulerConfig {
    SchedulerConfig::default()
        .with_mode(chance.pick(&[
            OrderingMode::Unordered,
            OrderingMode::ExitOrdered,
            OrderingMode::KeySerialized,
        ]))
        .with_scope(chance.pick(&[KeyScope::Global, KeyScope::PerPeer]))
        .with_max_running(if lasting { 100 } else { chance.pick(&[1, 3, 100]) })
        .with_max_waiting_per_peer(chance.pick(&[2, 100]))
}

fn session(chance: &mut Chance<'_>, scheduler: &SchedulerConfig, lasting: bool) -> SessionConfig {
    let stream_window = chance.pick(&[1024, 5_000, 40_000, 256 * 1024]);
    let first_window = chance.pick(&[1024, 1024, 5_000, 16 * 1024]).min(stream_window);
    let contents: &[u64] = if lasting { &[4, 8] } else { &[4, 20, 100] };
    let keepalive = Keepalive { idle: Duration::from_millis(500), misses: 2 };
    SessionConfig {
        dialect: if chance.one_in(8) { Dialect::One } else { Dialect::Two },
        max_body: chance.pick(&[2_000, 20_000, 100_000, 10 << 20]),
        max_requests: chance.pick(&[3, 20, 1_100]),
        max_outgoing_bytes: chance.pick(&[10_000, 300_000, 64 << 20]),
        handshake_timeout: Duration::from_secs(2),
        write_timeout: Duration::from_secs(3),
        first_window,
        stream_window,
        // Half of it is enough for the first windows of so many contents.
        link_window: (2 * chance.pick(contents) * first_window).max(stream_window)
            + chance.pick(&[0, 1_000, 1 << 20]),
        max_reassembly: chance.pick(&[1, 50_000, 64 << 20]),
        stream_buffer: chance.pick(&[1, 3_000, 256 * 1024]),
        ordered_replies: scheduler.mode != OrderingMode::Unordered,
        keepalive: chance.one_in(3).then_some(keepalive),
    }
}
