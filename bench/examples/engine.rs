//! What a round trip costs in the engine alone: allocations, and nanoseconds of CPU time.
//!
//! Two sides in one thread hand each other their bytes, without sockets, tasks or locks: each is a ZMTP link and a session,
//! and the serving side has the scheduler, used as a host has to use it. Time is virtual, so that each run does the same work
//! and callgrind can count its instructions (`bench/engine.sh`).
//!
//! What is the host's is kept as small as a host can keep it: one copy of the bytes for each direction, in place of the
//! kernel's, and one map from tickets to requests.

use std::alloc::System;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use callosum_proto::scheduler::{Action, Arrival, BuiltinScheduler, Scheduler, SchedulerConfig};
use callosum_proto::session::{
    self, Body, Call, Dialect, Event, ExchangeId, IncomingId, Outcome, Reply, Request, Session, SessionConfig,
};
use callosum_proto::zmtp::{self, CurveKeyPair, Decision, Link, LinkConfig, LinkEvent, Mechanism};
use callosum_proto::{CallId, Multipart, PeerId, Ticket};
use clap::{Parser, ValueEnum};
use cpu_time::ThreadTime;
use rustc_hash::FxHashMap;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Most bytes that are read at once, as in `callosum-runtime`.
const MAX_READ: usize = 256 * 1024;

/// No more messages are taken from the session while so many bytes wait, as in `callosum-runtime`.
const WRITE_AHEAD: usize = 64 * 1024;

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

/// A link and its session.
struct Side {
    link: Link,
    session: Session,
}

impl Side {
    fn new(role: zmtp::Role, case: Case, now: Instant) -> Self {
        let server = CurveKeyPair::generate([1; 32]);
        let (session_role, mechanism) = match role {
            zmtp::Role::Binder => (session::Role::Binder, Mechanism::CurveServer { keys: server }),
            zmtp::Role::Connector => {
                let (keys, server) = (CurveKeyPair::generate([2; 32]), server.public());
                (session::Role::Connector, Mechanism::CurveClient { keys, server })
            }
        };
        let mut link = LinkConfig::new(role);
        if case == Case::Curve {
            link.mechanism = mechanism;
        }
        let mut config = SessionConfig::default();
        config.dialect = if case == Case::One { Dialect::One } else { Dialect::Two };
        let nonce = [if role == zmtp::Role::Binder { 1 } else { 2 }; 16];
        let session = Session::new(session_role, config, nonce, CallId(0), now);
        Self { link: Link::new(&link, now), session }
    }

    /// Puts the next bytes to send into `buffer`; whether there are any.
    fn write(&mut self, now: Instant, buffer: &mut BytesMut) -> Result<bool> {
        while self.link.pending_output() < WRITE_AHEAD {
            let Some(message) = self.session.poll_transmit(now) else { break };
            self.link.send(message)?;
        }
        buffer.clear();
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = self.link.output(&mut slices);
        for slice in &slices[..filled] {
            let room = MAX_READ - buffer.len();
            buffer.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        self.link.advance_output(buffer.len());
        if !buffer.is_empty() {
            self.session.handle_write_progress();
        }
        Ok(!buffer.is_empty())
    }

    fn read(&mut self, now: Instant, bytes: Bytes) -> Result<()> {
        self.link.handle_input(now, &bytes)?;
        while let Some(event) = self.link.poll_event() {
            match event {
                LinkEvent::Message(message) => self.session.handle_message(now, message),
                LinkEvent::Established(_) => self.session.handle_connected(now),
                LinkEvent::AuthenticationRequested { .. } => self.link.authenticate(now, Decision::Admit)?,
                _ => self.session.handle_message(now, Multipart::default()),
            }
        }
        Ok(())
    }
}

/// The side that serves: what a host keeps of requests.
struct Server {
    side: Side,
    scheduler: BuiltinScheduler,
    requests: FxHashMap<Ticket, Request>,
    /// Those whose argument is being put together.
    tickets: FxHashMap<IncomingId, Ticket>,
    next_ticket: u64,
    result: Bytes,
}

impl Server {
    fn handle_events(&mut self, now: Instant) -> Result<()> {
        while let Some(event) = self.side.session.poll_event() {
            match event {
                Event::Request(request) => {
                    let ticket = Ticket(self.next_ticket);
                    self.next_ticket += 1;
                    let (key, bytes) = (&request.key, request.size());
                    self.scheduler.arrive(Arrival { ticket, peer: PeerId(0), key, bytes })?;
                    self.requests.insert(ticket, request);
                    self.run(now)?;
                }
                Event::Collected { exchange: ExchangeId::Theirs(id), body } => {
                    let ticket = self.tickets.remove(&id).context("nobody collects it")?;
                    ensure!(body?.len() == self.result.len(), "an argument of another length");
                    self.scheduler.finish(ticket);
                    self.run(now)?;
                }
                Event::Established { .. } | Event::Readable(_) | Event::Writable(_) | Event::Pong { .. } => {}
                other => anyhow::bail!("{other:?}"),
            }
        }
        Ok(())
    }

    /// Does what the scheduler says. A handler ends as soon as it has its argument.
    fn run(&mut self, now: Instant) -> Result<()> {
        while let Some(action) = self.scheduler.poll() {
            match action {
                Action::Start(ticket) => match &self.requests[&ticket] {
                    Request { body: Body::Whole(body), .. } => {
                        ensure!(body.len() == self.result.len(), "an argument of another length");
                        self.scheduler.finish(ticket);
                    }
                    Request { id, .. } => {
                        self.tickets.insert(*id, ticket);
                        self.side.session.contents().collect(now, ExchangeId::Theirs(*id))?;
                    }
                },
                Action::Release(ticket) => {
                    let request = self.requests.remove(&ticket).context("released twice")?;
                    self.side.session.reply(request.id, Reply::result(self.result.clone()))?;
                }
            }
        }
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
    fn handle_events(&mut self, now: Instant) -> Result<()> {
        while let Some(event) = self.side.session.poll_event() {
            match event {
                Event::Ended { outcome: Outcome::Result(body), .. } => self.take(&body)?,
                Event::Response { call, .. } => {
                    self.side.session.contents().collect(now, ExchangeId::Ours(call))?;
                }
                Event::Collected { body, .. } => self.take(&body?)?,
                Event::Ended { outcome: Outcome::Complete, .. } => {}
                Event::Established { .. } | Event::Readable(_) | Event::Writable(_) | Event::Pong { .. } => {}
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
        let config = SchedulerConfig::default().with_max_running(256);
        let server = Server {
            side: Side::new(zmtp::Role::Binder, case, now),
            scheduler: BuiltinScheduler::new(config),
            requests: FxHashMap::default(),
            tickets: FxHashMap::default(),
            next_ticket: 0,
            result: body.clone(),
        };
        let side = Side::new(zmtp::Role::Connector, case, now);
        let client = Client { side, argument: body, in_flight: 0, done: 0 };
        Self { client, server, buffer: BytesMut::with_capacity(MAX_READ), now }
    }

    fn connect(&mut self, case: Case) -> Result<()> {
        while self.turn()? {}
        let dialect = if case == Case::One { Dialect::One } else { Dialect::Two };
        ensure!(self.client.side.session.dialect() == Some(dialect), "another dialect is spoken");
        ensure!(self.server.side.session.dialect() == Some(dialect), "another dialect is spoken");
        Ok(())
    }

    /// Makes so many calls, and waits for their results.
    fn call(&mut self, calls: usize, in_flight: usize) -> Result<()> {
        self.client.done = 0;
        let mut left = calls;
        while self.client.done < calls {
            while left > 0 && self.client.in_flight < in_flight {
                let call = Call::new("echo", self.client.argument.clone());
                self.client.side.session.invoke(self.now, call)?;
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
            lend(buffer, |bytes| server.side.read(*now, bytes))?;
            server.handle_events(*now)?;
        }
        *now += TURN;
        let came = server.side.write(*now, buffer)?;
        if came {
            lend(buffer, |bytes| client.side.read(*now, bytes))?;
            client.handle_events(*now)?;
        }
        Ok(went || came)
    }
}

/// Has what a buffer holds read, and takes it back, as `callosum-runtime` does.
fn lend(buffer: &mut BytesMut, read: impl FnOnce(Bytes) -> Result<()>) -> Result<()> {
    let bytes = std::mem::take(buffer).freeze();
    let result = read(bytes.clone());
    *buffer = bytes.try_into_mut().unwrap_or_else(|_| BytesMut::with_capacity(MAX_READ));
    result
}
