//! What a round trip costs in the engine alone: allocations, and nanoseconds of CPU time.
//!
//! Two sides in one thread hand each other their bytes, without sockets, tasks or locks: each is a connection and its
//! endpoint, used as a host has to use them. Time is virtual, so that each run does the same work and callgrind can count its
//! instructions (`bench/engine.sh`).
//!
//! What is the host's is kept as small as a host can keep it: one copy of the bytes for each direction, in place of the
//! kernel's.

use std::alloc::System;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::{Bytes, BytesMut};
use callosum_proto::zmtp::{CurveKeyPair, Decision, LinkConfig, Mechanism};
use callosum_proto::{
    Body, Call, CallId, Connection, ConnectionConfig, Dialect, Endpoint, EndpointConfig, Event, Outcome,
    Reply, Role,
};
use clap::{Parser, ValueEnum};
use cpu_time::ThreadTime;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Most bytes that are read at once, as in `callosum-runtime`.
const MAX_READ: usize = 256 * 1024;

/// Virtual time that a turn of one side takes.
const TURN: Duration = Duration::from_micros(10);

/// Round trips of the engine alone. Without a case, all are measured.
#[derive(Debug, Parser)]
struct Args {
    /// What is spoken.
    #[arg(value_enum)]
    case: Option<Case>,
    /// Bytes of the argument, and of the result.
    #[arg(long, default_value_t = 64)]
    body: usize,
    /// Calls at the same time.
    #[arg(long, default_value_t = 128)]
    in_flight: usize,
    /// Round trips that are measured; a quarter as many go before.
    #[arg(long)]
    calls: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Case {
    #[value(name = "dialect-1")]
    One,
    #[value(name = "dialect-2")]
    Two,
    /// Dialect 2 under CURVE.
    Curve,
}

fn main() -> Result<()> {
    let Args { case, body, in_flight, calls } = Args::parse();
    println!("| case | body | in flight | allocations | allocated bytes | reallocations | CPU ns |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    if let Some(case) = case {
        return measure(case, body, in_flight, calls.unwrap_or(200_000));
    }
    for case in [Case::One, Case::Two, Case::Curve] {
        for in_flight in [128, 1] {
            measure(case, 64, in_flight, calls.unwrap_or(200_000))?;
        }
    }
    for case in [Case::One, Case::Two] {
        measure(case, 1 << 20, 32, calls.unwrap_or(2_000))?;
    }
    Ok(())
}

fn measure(case: Case, body: usize, in_flight: usize, calls: usize) -> Result<()> {
    let mut pair = Pair::new(case, body);
    pair.connect(case)?;
    pair.call(calls / 4 + 1, in_flight)?;
    let region = Region::new(ALLOCATOR);
    // Other programs on the machine don't count.
    let start = ThreadTime::now();
    pair.call(calls, in_flight)?;
    let (time, made) = (start.elapsed(), region.change());
    let each = |total: usize| total as f64 / calls as f64;
    println!(
        "| {case:?} | {body} | {in_flight} | {:.2} | {:.0} | {:.2} | {:.0} |",
        each(made.allocations),
        each(made.bytes_allocated),
        each(made.reallocations),
        time.as_nanos() as f64 / calls as f64,
    );
    Ok(())
}

/// A connection and its endpoint.
struct Side {
    connection: Connection,
    endpoint: Endpoint,
}

impl Side {
    fn new(role: Role, case: Case, now: Instant) -> Self {
        let server = CurveKeyPair::generate([1; 32]);
        let mechanism = match role {
            Role::Binder => Mechanism::CurveServer { keys: server },
            Role::Connector => {
                let (keys, server) = (CurveKeyPair::generate([2; 32]), server.public());
                Mechanism::CurveClient { keys, server }
            }
        };
        let mut link = LinkConfig::new(role);
        if case == Case::Curve {
            link.mechanism = mechanism;
        }
        let mut config = ConnectionConfig::default();
        config.dialect = if case == Case::One { Dialect::One } else { Dialect::Two };
        let seed = if role == Role::Binder { 1 } else { 2 };
        let mut limits = EndpointConfig::default();
        limits.ordering.max_running = 256;
        limits.ordering.max_share_per_connection = 100;
        let mut endpoint = Endpoint::new(limits);
        let mut connection = Connection::new(endpoint.open(), role, config, [seed; 16], CallId(0), now);
        connection.open(now, &link, [seed; 32]);
        Self { connection, endpoint }
    }

    /// Puts the next bytes to send into `buffer`; whether there are any.
    fn write(&mut self, now: Instant, buffer: &mut BytesMut) -> Result<bool> {
        buffer.clear();
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = self.connection.poll_transmit(now, &mut slices)?;
        for slice in &slices[..filled] {
            let room = MAX_READ - buffer.len();
            buffer.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        self.connection.transmitted(buffer.len());
        self.carry(now);
        Ok(!buffer.is_empty())
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

/// The side that serves. A handler ends as soon as it starts.
struct Server {
    side: Side,
    result: Bytes,
}

impl Server {
    fn handle_events(&mut self, now: Instant) -> Result<()> {
        let Side { connection, endpoint } = &mut self.side;
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Request(request) => {
                    let Body::Whole(body) = request.body else { anyhow::bail!("an argument in parts") };
                    ensure!(body.len() == self.result.len(), "an argument of another length");
                    endpoint.finish(request.id, Some(Reply::result(self.result.clone())));
                }
                Event::AuthenticationRequested { .. } => connection.authenticate(now, Decision::Admit)?,
                Event::Connected(_) | Event::Established { .. } | Event::Pong { .. } => {}
                other => anyhow::bail!("{other:?}"),
            }
        }
        self.side.carry(now);
        Ok(())
    }
}

/// The side that calls.
struct Client {
    side: Side,
    argument: Bytes,
    in_flight: usize,
    done: usize,
}

impl Client {
    fn handle_events(&mut self) -> Result<()> {
        while let Some(event) = self.side.connection.poll_event() {
            match event {
                Event::Ended { outcome: Outcome::Result(body), .. } => self.take(&body)?,
                Event::Connected(_) | Event::Established { .. } | Event::Pong { .. } => {}
                other => anyhow::bail!("{other:?}"),
            }
        }
        Ok(())
    }

    fn take(&mut self, body: &Bytes) -> Result<()> {
        ensure!(body.len() == self.argument.len(), "a result of another length");
        self.in_flight -= 1;
        self.done += 1;
        Ok(())
    }
}

struct Pair {
    client: Client,
    server: Server,
    buffer: BytesMut,
    now: Instant,
}

impl Pair {
    fn new(case: Case, body: usize) -> Self {
        let now = Instant::now();
        let body = Bytes::from(vec![7; body]);
        let server = Server { side: Side::new(Role::Binder, case, now), result: body.clone() };
        let side = Side::new(Role::Connector, case, now);
        let client = Client { side, argument: body, in_flight: 0, done: 0 };
        Self { client, server, buffer: BytesMut::with_capacity(MAX_READ), now }
    }

    fn connect(&mut self, case: Case) -> Result<()> {
        while self.turn()? {}
        let dialect = if case == Case::One { Dialect::One } else { Dialect::Two };
        ensure!(self.client.side.connection.dialect() == Some(dialect), "another dialect is spoken");
        ensure!(self.server.side.connection.dialect() == Some(dialect), "another dialect is spoken");
        Ok(())
    }

    /// Makes so many calls, and waits for their results.
    fn call(&mut self, calls: usize, in_flight: usize) -> Result<()> {
        self.client.done = 0;
        let mut left = calls;
        while self.client.done < calls {
            while left > 0 && self.client.in_flight < in_flight {
                let call = Call::new("echo", self.client.argument.clone());
                self.client.side.connection.invoke(self.now, call)?;
                self.client.in_flight += 1;
                left -= 1;
            }
            ensure!(self.turn()?, "nothing moves");
        }
        // What is left are acknowledgements.
        while self.turn()? {}
        Ok(())
    }

    /// Each side sends what it has, as much as the other reads at once; whether there was anything.
    fn turn(&mut self) -> Result<bool> {
        let Self { client, server, buffer, now } = self;
        *now += TURN;
        let went = client.side.write(*now, buffer)?;
        if went {
            server.side.connection.handle_input(*now, buffer)?;
            server.side.carry(*now);
            server.handle_events(*now)?;
        }
        *now += TURN;
        let came = server.side.write(*now, buffer)?;
        if came {
            client.side.connection.handle_input(*now, buffer)?;
            client.side.carry(*now);
            client.handle_events()?;
        }
        Ok(went || came)
    }
}
