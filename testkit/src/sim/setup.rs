//! The parameters of one schedule: how many hosts there are, their limits and keys, which of them are connected, and how.

use std::time::{Duration, Instant};

use super::chance::Chance;
use super::host::SessionId;
use super::transport::{Kind, Transport};
use callosum_proto::internals::wire::NONCE_LEN;
use callosum_proto::scheduler::{KeyScope, OrderingMode, SchedulerConfig};
use callosum_proto::session::{Dialect, Keepalive, Role, Session, SessionConfig};
use callosum_proto::zmtp::CurveKeyPair;
use callosum_proto::{CallId, PeerId};

/// One schedule in so many has CURVE on all of its connections. CURVE takes many times the CPU time of the other kinds.
const CURVE_SHARE: usize = 12;

pub(super) struct Setup {
    /// Hosts below this index are binders, the others are connectors.
    binders: usize,
    schedulers: Vec<SchedulerConfig>,
    /// One for each host.
    sessions: Vec<SessionConfig>,
    links: Vec<LinkSetup>,
    /// No connection breaks, and time advances only to the next arrival.
    stable: bool,
}

struct LinkSetup {
    /// The connector's host, then the binder's.
    hosts: [usize; 2],
    kind: Kind,
}

impl Setup {
    pub(super) fn new(chance: &mut Chance<'_>) -> Self {
        let (binders, connectors) = (chance.pick(&[1, 1, 2, 3]), 1 + chance.below(3));
        let stable = chance.one_in(6);
        let hosts = binders + connectors;
        let schedulers: Vec<_> = (0..hosts).map(|_| scheduler(chance, stable)).collect();
        let sessions = schedulers.iter().map(|scheduler| session(chance, scheduler, stable)).collect();
        let curve = chance.one_in(CURVE_SHARE);
        let mut links = Vec::new();
        for connector in binders..hosts {
            let first = chance.below(binders);
            for binder in 0..binders {
                // Each connector has at least one binder.
                if binder == first || chance.one_in(2) {
                    links.push(LinkSetup { hosts: [connector, binder], kind: kind(chance, curve) });
                }
            }
        }
        Self { binders, schedulers, sessions, links, stable }
    }

    pub(super) fn hosts(&self) -> usize {
        self.schedulers.len()
    }

    pub(super) fn binders(&self) -> usize {
        self.binders
    }

    /// Whether a connector is connected to several binders.
    pub(super) fn has_shared_connector(&self) -> bool {
        self.links.windows(2).any(|pair| pair[0].hosts[0] == pair[1].hosts[0])
    }

    pub(super) fn links(&self) -> usize {
        self.links.len()
    }

    /// The host of one side of a link.
    pub(super) fn host(&self, link: usize, side: usize) -> usize {
        self.links[link].hosts[side]
    }

    pub(super) fn is_curve(&self, link: usize) -> bool {
        self.links[link].kind == Kind::Curve
    }

    /// Whether no connection breaks, so that a stream that nobody reads stays open until the end of the simulation.
    pub(super) fn is_stable(&self) -> bool {
        self.stable
    }

    pub(super) fn scheduler(&self, host: usize) -> SchedulerConfig {
        self.schedulers[host].clone()
    }

    pub(super) fn config(&self, link: usize, side: usize) -> SessionConfig {
        self.sessions[self.host(link, side)].clone()
    }

    pub(super) fn session(&self, session_id: SessionId, first_call: CallId, now: Instant) -> Session {
        let role = if session_id.side == 0 { Role::Connector } else { Role::Binder };
        let PeerId(number) = session_id.peer;
        Session::new(role, self.config(session_id.link, session_id.side), nonce(number), first_call, now)
    }

    pub(super) fn transport(&self, link: usize, chance: &mut Chance<'_>, now: Instant) -> Transport {
        let delays = [(); 2].map(|()| delay(chance));
        let keys = || self.links[link].hosts.map(keys);
        Transport::new(self.links[link].kind, keys, 1 + chance.size(200_000), delays, now)
    }
}

/// Each host has a long-term key of its own, on all of its connections.
fn keys(host: usize) -> CurveKeyPair {
    CurveKeyPair::generate([1 + host as u8; 32])
}

fn kind(chance: &mut Chance<'_>, curve: bool) -> Kind {
    match chance.below(12) {
        _ if curve => Kind::Curve,
        0..7 => Kind::Messages,
        7..11 => Kind::Zmtp,
        _ => chance.pick(&[Kind::Zmtp, Kind::Zmtp, Kind::Curve]),
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
