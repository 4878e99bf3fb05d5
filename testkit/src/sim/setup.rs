//! The parameters of one schedule: how many hosts there are, their limits, and the kinds of their connections.

use std::time::{Duration, Instant};

use super::chance::Chance;
use super::host::SessionId;
use super::transport::{Kind, Transport};
use callosum_proto::internals::wire::NONCE_LEN;
use callosum_proto::scheduler::{KeyScope, OrderingMode, SchedulerConfig};
use callosum_proto::session::{Dialect, Keepalive, Role, Session, SessionConfig};
use callosum_proto::{CallId, PeerId};

pub(super) struct Setup {
    schedulers: Vec<SchedulerConfig>,
    /// The binder's, then each connector's.
    sessions: Vec<SessionConfig>,
    kinds: Vec<Kind>,
    /// No connection breaks, and time advances only to the next arrival.
    stable: bool,
}

impl Setup {
    pub(super) fn new(chance: &mut Chance<'_>) -> Self {
        let connectors = 1 + chance.below(3);
        let stable = chance.one_in(6);
        let schedulers: Vec<_> = (0..=connectors).map(|_| scheduler(chance, stable)).collect();
        let sessions = schedulers.iter().map(|scheduler| session(chance, scheduler, stable)).collect();
        let kind = |chance: &mut Chance<'_>| match chance.below(12) {
            0..7 => Kind::Messages,
            7..11 => Kind::Zmtp,
            // CURVE takes most of a schedule's CPU time, hence a small share.
            _ => chance.pick(&[Kind::Zmtp, Kind::Zmtp, Kind::Curve]),
        };
        let kinds = (0..connectors).map(|_| kind(chance)).collect();
        Self { kinds, schedulers, sessions, stable }
    }

    pub(super) fn connectors(&self) -> usize {
        self.kinds.len()
    }

    /// Whether no connection breaks, so that a stream that nobody reads stays open until the end of the simulation.
    pub(super) fn is_stable(&self) -> bool {
        self.stable
    }

    pub(super) fn scheduler(&self, host: usize) -> SchedulerConfig {
        self.schedulers[host].clone()
    }

    pub(super) fn config(&self, link: usize, side: usize) -> SessionConfig {
        self.sessions[if side == 1 { 0 } else { 1 + link }].clone()
    }

    pub(super) fn session(&self, session_id: SessionId, first_call: CallId, now: Instant) -> Session {
        let role = if session_id.side == 0 { Role::Connector } else { Role::Binder };
        let PeerId(number) = session_id.peer;
        Session::new(role, self.config(session_id.link, session_id.side), nonce(number), first_call, now)
    }

    pub(super) fn transport(&self, link: usize, chance: &mut Chance<'_>, now: Instant) -> Transport {
        let delays = [(); 2].map(|()| delay(chance));
        Transport::new(self.kinds[link], 1 + chance.size(200_000), delays, now)
    }
}

/// A different nonce for each number.
pub(super) fn nonce(number: u64) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&number.to_be_bytes());
    nonce
}

/// The latency of one direction. Most are 0, since otherwise most steps would have to advance the time.
pub(super) fn delay(chance: &mut Chance<'_>) -> Duration {
    if chance.one_in(4) { Duration::from_millis(chance.size(300) as u64) } else { Duration::ZERO }
}

fn scheduler(chance: &mut Chance<'_>, stable: bool) -> SchedulerConfig {
    SchedulerConfig::default()
        .with_mode(chance.pick(&[
            OrderingMode::Unordered,
            OrderingMode::ExitOrdered,
            OrderingMode::KeySerialized,
        ]))
        .with_scope(chance.pick(&[KeyScope::Global, KeyScope::PerPeer]))
        .with_max_running(if stable { 100 } else { chance.pick(&[1, 3, 100]) })
        .with_max_waiting_per_peer(chance.pick(&[2, 100]))
}

fn session(chance: &mut Chance<'_>, scheduler: &SchedulerConfig, stable: bool) -> SessionConfig {
    let stream_window = chance.pick(&[1024, 5_000, 40_000, 256 * 1024]);
    let first_window = chance.pick(&[1024, 1024, 5_000, 16 * 1024]).min(stream_window);
    let streams: &[u64] = if stable { &[4, 8] } else { &[4, 20, 100] };
    let keepalive = Keepalive { idle: Duration::from_millis(500), misses: 2 };
    let mut config = SessionConfig::default();
    config.dialect = if chance.one_in(8) { Dialect::One } else { Dialect::Two };
    config.max_body = chance.pick(&[2_000, 20_000, 100_000, 10 << 20]);
    config.max_requests = chance.pick(&[3, 20, 1_100]);
    config.max_outgoing_bytes = chance.pick(&[10_000, 300_000, 64 << 20]);
    config.handshake_timeout = Duration::from_secs(2);
    config.write_timeout = Duration::from_secs(3);
    config.first_window = first_window;
    config.stream_window = stream_window;
    // Half of it holds the first windows of this many streams.
    config.link_window =
        (2 * chance.pick(streams) * first_window).max(stream_window) + chance.pick(&[0, 1_000, 1 << 20]);
    config.max_reassembly = chance.pick(&[1, 50_000, 64 << 20]);
    config.stream_buffer = chance.pick(&[1, 3_000, 256 * 1024]);
    config.ordered_replies = scheduler.mode != OrderingMode::Unordered;
    config.keepalive = chance.one_in(3).then_some(keepalive);
    config
}
