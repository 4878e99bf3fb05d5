//! Two sides in one thread that hand each other their bytes, without sockets, tasks or locks: what the engine costs by itself.
//!
//! Each side is a connection and its endpoint, used as a host has to use them. Time is virtual, so that each run does the same
//! work, to the instruction and the allocation. What is the host's is kept as small as a host can keep it: one copy of the bytes
//! for each direction, in place of the kernel's. `bench/engine` compiles this file too.

#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
#![allow(unreachable_pub, reason = "a part of one crate's API, and of another's tests")]

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use callosum_proto::zmtp::{CurveKeyPair, LinkConfig, Mechanism};
use callosum_proto::{
    Body, Call, CallId, Connection, ConnectionConfig, Dialect, Endpoint, EndpointConfig, Event, Outcome,
    Reply, Role,
};

/// Most bytes that are read at once, as in `callosum-runtime`.
const MAX_READ: usize = 256 * 1024;

/// Calls that may be in flight.
const MAX_CALLS: usize = 16_384;

/// Virtual time that a turn of one side takes.
const TURN: Duration = Duration::from_micros(10);

/// What the two sides speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Dialect 1 under NULL.
    Dialect1,
    /// Dialect 2 under NULL.
    Dialect2,
    /// Dialect 2 under CURVE.
    Curve,
}

impl Speaks {
    fn dialect(self) -> Dialect {
        if self == Self::Dialect1 { Dialect::One } else { Dialect::Two }
    }

    fn link(self, role: Role) -> LinkConfig {
        let mut link = LinkConfig::new(role);
        if self == Self::Curve {
            let (client, server) = (CurveKeyPair::generate([2; 32]), CurveKeyPair::generate([1; 32]));
            link.mechanism = match role {
                Role::Binder => Mechanism::CurveServer { keys: server },
                Role::Connector => Mechanism::CurveClient { keys: client, server: server.public() },
            };
        }
        link
    }
}

/// Tells the work of one side from that of the other. `()` makes no difference.
pub trait Meter {
    /// Does a piece of work of the binder, which serves, or of the connector, which calls.
    fn of<T>(&mut self, side: Role, work: impl FnOnce() -> T) -> T;
}

impl Meter for () {
    fn of<T>(&mut self, _: Role, work: impl FnOnce() -> T) -> T {
        work()
    }
}

/// A connection and its endpoint.
struct Side {
    connection: Connection,
    endpoint: Endpoint,
}

impl Side {
    fn new(role: Role, speaks: Speaks, now: Instant) -> Self {
        let mut config = ConnectionConfig::default();
        config.dialect = speaks.dialect();
        config.max_requests = MAX_CALLS;
        let mut limits = EndpointConfig::default();
        limits.ordering.max_running = MAX_CALLS;
        limits.ordering.max_requests_per_connection = MAX_CALLS;
        limits.ordering.max_share_per_connection = 100;
        let mut endpoint = Endpoint::new(limits);
        let seed = if role == Role::Binder { 1 } else { 2 };
        let mut connection = Connection::new(endpoint.open(), role, config, [seed; 16], CallId::FIRST, now);
        connection.open(now, &speaks.link(role), [seed; 32]);
        Self { connection, endpoint }
    }

    /// Puts the next bytes to send into `buffer`, as many as the other side reads at once.
    fn write(&mut self, now: Instant, buffer: &mut BytesMut) {
        buffer.clear();
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = self.connection.poll_transmit(now, &mut slices).expect("nothing is wrong with the link");
        for slice in &slices[..filled] {
            let room = MAX_READ - buffer.len();
            buffer.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        self.connection.transmitted(buffer.len());
        self.carry(now);
    }

    fn handle_timers(&mut self, now: Instant) {
        self.connection.handle_timeout(now).expect("nothing is late");
        self.carry(now);
    }

    fn read(&mut self, now: Instant, bytes: &[u8]) {
        self.connection.handle_input(now, bytes).expect("the other side keeps to the protocol");
        self.carry(now);
    }

    /// Carries events between the connection and its endpoint.
    fn carry(&mut self, now: Instant) {
        loop {
            while let Some(event) = self.connection.poll_endpoint_event() {
                self.endpoint.handle_event(event);
            }
            let Some((_, event)) = self.endpoint.poll_event() else { break };
            self.connection.handle_event(now, event);
        }
    }
}

/// A client and a server that answers each call with a body as long as its argument.
pub struct Pair {
    client: Side,
    server: Side,
    body: Bytes,
    /// How long a call may take; `None` for ever.
    pub timeout: Option<Duration>,
    /// Whether each side handles its timers before it writes, due or not, as simple hosts do.
    pub handles_timers: bool,
    in_flight: usize,
    buffer: BytesMut,
    now: Instant,
}

impl Pair {
    /// Two sides that have not spoken yet. Each argument and each result will have so many bytes.
    pub fn new(speaks: Speaks, body: usize) -> Self {
        let now = Instant::now();
        Self {
            client: Side::new(Role::Connector, speaks, now),
            server: Side::new(Role::Binder, speaks, now),
            body: vec![7; body].into(),
            timeout: None,
            handles_timers: false,
            in_flight: 0,
            buffer: BytesMut::with_capacity(MAX_READ),
            now,
        }
    }

    /// Shakes hands.
    pub fn connect(&mut self) {
        while self.turn(&mut ()) {}
        for side in [&self.client, &self.server] {
            assert!(side.connection.is_established(), "the handshake has come to its end");
        }
    }

    /// Makes so many calls, of which `in_flight` at a time, and waits for their results. The handler ends as soon as it starts.
    pub fn call(&mut self, calls: usize, in_flight: usize, meter: &mut impl Meter) {
        let mut left = calls;
        while left > 0 || self.in_flight > 0 {
            meter.of(Role::Connector, || {
                while left > 0 && self.in_flight < in_flight {
                    let mut call = Call::new("echo", self.body.clone());
                    call.deadline = self.timeout.map(|timeout| self.now + timeout);
                    self.client.connection.invoke(self.now, call).expect("there is room for it");
                    self.in_flight += 1;
                    left -= 1;
                }
            });
            assert!(self.turn(meter), "nothing moves");
        }
        // What is left are acknowledgements.
        while self.turn(meter) {}
    }

    /// Each side sends what it has, as much as the other reads at once; whether there was anything.
    fn turn(&mut self, meter: &mut impl Meter) -> bool {
        self.now += TURN;
        if self.handles_timers {
            meter.of(Role::Connector, || self.client.handle_timers(self.now));
            meter.of(Role::Binder, || self.server.handle_timers(self.now));
        }
        meter.of(Role::Connector, || self.client.write(self.now, &mut self.buffer));
        let went = !self.buffer.is_empty();
        if went {
            meter.of(Role::Binder, || self.serve());
        }
        self.now += TURN;
        meter.of(Role::Binder, || self.server.write(self.now, &mut self.buffer));
        let came = !self.buffer.is_empty();
        if came {
            meter.of(Role::Connector, || self.take());
        }
        went || came
    }

    /// The server reads, and answers.
    fn serve(&mut self) {
        self.server.read(self.now, &self.buffer);
        let Side { connection, endpoint } = &mut self.server;
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Request(request) => {
                    let Body::Whole(body) = request.body else { panic!("an argument in parts") };
                    assert_eq!(body.len(), self.body.len(), "an argument of another length");
                    endpoint.finish(request.id, Some(Reply::result(self.body.clone())));
                }
                Event::AuthenticationRequested { .. } => {
                    connection.admit(self.now);
                }
                Event::Connected { .. } | Event::Established { .. } | Event::Pong { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        self.server.carry(self.now);
    }

    /// The client reads, and takes the results.
    fn take(&mut self) {
        self.client.read(self.now, &self.buffer);
        while let Some(event) = self.client.connection.poll_event() {
            match event {
                Event::Ended { outcome: Outcome::Result(body), .. } => {
                    assert_eq!(body.len(), self.body.len(), "a result of another length");
                    self.in_flight -= 1;
                }
                Event::Connected { .. } | Event::Established { .. } | Event::Pong { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
