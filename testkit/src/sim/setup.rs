//! The parameters of one schedule: how many hosts there are, their limits and keys, which of them are connected, and how.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chance::Chance;
use super::link_side::LinkSide;
use super::transport::{Kind, Transport};
use callosum_proto::internals::wire::NONCE_LEN;
use callosum_proto::ordering::{KeyScope, OrderingMode};
use callosum_proto::zmtp::CurveKeyPair;
use callosum_proto::{
    CallId, Connection, ConnectionConfig, Dialect, EndpointConfig, Keepalive, Role, StreamArguments,
};

/// One schedule in so many has CURVE on all of its connections. CURVE takes many times the CPU time of the other kinds.
const CURVE_SHARE: usize = 12;

pub(super) struct Setup {
    /// Hosts below this index are binders, the others are connectors.
    binders: usize,
    /// One of each for each host.
    endpoints: Vec<EndpointConfig>,
    connections: Vec<ConnectionConfig>,
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
        let endpoints: Vec<_> = (0..hosts).map(|_| endpoint(chance, stable)).collect();
        let connections = endpoints.iter().map(|endpoint| connection(chance, endpoint, stable)).collect();
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
        Self { binders, endpoints, connections, links, stable }
    }

    pub(super) fn hosts(&self) -> usize {
        self.endpoints.len()
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

    /// Whether no connection breaks, so that an unread stream stays open until the end of the simulation.
    pub(super) fn is_stable(&self) -> bool {
        self.stable
    }

    pub(super) fn endpoint(&self, host: usize) -> EndpointConfig {
        self.endpoints[host].clone()
    }

    pub(super) fn config(&self, link: usize, side: usize) -> ConnectionConfig {
        self.connections[self.host(link, side)].clone()
    }

    /// `number` is another one for each connection.
    pub(super) fn connection(
        &self,
        at: LinkSide,
        number: u64,
        first_call: CallId,
        now: Instant,
    ) -> Connection {
        let role = if at.side == 0 { Role::Connector } else { Role::Binder };
        Connection::new(at.connection, role, self.config(at.link, at.side), nonce(number), first_call, now)
    }

    pub(super) fn transport(&self, link: usize, chance: &mut Chance<'_>, now: Instant) -> Transport {
        let delays = [(); 2].map(|()| delay(chance));
        let keys = || self.links[link].hosts.map(keys);
        Transport::new(2 * link as u8, self.links[link].kind, keys, 1 + chance.size(200_000), delays, now)
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

fn endpoint(chance: &mut Chance<'_>, stable: bool) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.ordering.mode =
        chance.pick(&[OrderingMode::Unordered, OrderingMode::ExitOrdered, OrderingMode::KeySerialized]);
    config.ordering.scope = chance.pick(&[KeyScope::Global, KeyScope::PerConnection]);
    config.ordering.max_running = if stable { 100 } else { chance.pick(&[1, 3, 100]) };
    // One connection may hold two of three slots.
    config.ordering.max_share_per_connection = if config.ordering.max_running == 3 { 34 } else { 80 };
    config.ordering.max_waiting_per_connection = chance.pick(&[2, 100]);
    config.max_held_reply_bytes = chance.pick(&[1, 100_000, 64 << 20]);
    config.max_reassembly = chance.pick(&[1, 50_000, 64 << 20, 64 << 20]);
    config.max_reassembly_total = chance.pick(&[1, 80_000, 1 << 30]);
    config
}

fn connection(chance: &mut Chance<'_>, endpoint: &EndpointConfig, stable: bool) -> ConnectionConfig {
    let stream_window = chance.pick(&[1024, 5_000, 40_000, 256 * 1024]);
    let first_window = chance.pick(&[1024, 1024, 5_000, 16 * 1024]).min(stream_window);
    let streams: &[u64] = if stable { &[4, 8] } else { &[4, 20, 100] };
    let keepalive = Keepalive { idle: Duration::from_millis(500), misses: 2 };
    let mut config = ConnectionConfig::default();
    config.dialect = if chance.one_in(8) { Dialect::One } else { Dialect::Two };
    config.max_body = chance.pick(&[2_000, 20_000, 100_000, 10 << 20]);
    config.max_requests = chance.pick(&[3, 20, 1_100]);
    config.max_outgoing_bytes = chance.pick(&[10_000, 300_000, 64 << 20]);
    config.handshake_timeout = Duration::from_secs(2);
    config.write_timeout = Duration::from_secs(3);
    config.first_window = first_window;
    config.stream_window = stream_window;
    // Half of it holds the first windows of this many streams.
    config.connection_window =
        (2 * chance.pick(streams) * first_window).max(stream_window) + chance.pick(&[0, 1_000, 1 << 20]);
    config.stream_buffer = chance.pick(&[1, 3_000, 256 * 1024]);
    config.ordered_replies = endpoint.ordering.mode != OrderingMode::Unordered;
    config.keepalive = chance.one_in(3).then_some(keepalive);
    config.stream_arguments = match chance.below(3) {
        0 => StreamArguments::None,
        1 => StreamArguments::All,
        _ => StreamArguments::Of(Arc::new(|method| takes_stream(method.parse().unwrap_or(0)))),
    };
    let time = chance.one_in(4).then(|| Duration::from_millis(1 + chance.below(2_000) as u64));
    config.execution_timeout = time.filter(|_| !stable);
    config
}

/// Whether a call's argument comes as a stream, where some do.
fn takes_stream(call: usize) -> bool {
    call.is_multiple_of(2)
}

/// Whether a host takes a call's argument as a stream.
pub(super) fn streams_argument(config: &ConnectionConfig, call: usize) -> bool {
    match &config.stream_arguments {
        StreamArguments::All => true,
        StreamArguments::Of(_) => takes_stream(call),
        _ => false,
    }
}
