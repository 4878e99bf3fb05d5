//! Two connections whose hosts and endpoints take random steps. After every step, the tables are audited; in
//! the end, every call has ended once, and nothing is left.

use std::collections::{BTreeMap, BTreeSet};

use super::dialect2::two;
use super::*;
use crate::wire::{Failure, MAX_FIRST, Options, Piece, Record};

const SEEDS: u64 = 200;

/// Steps per schedule.
const STEPS: usize = 400;

/// A simple generator: it only chooses among a few alternatives.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % limit as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }

    fn size(&mut self) -> usize {
        let most = [10, 2_000, MAX_FIRST + 100, 100_000, 400_000][self.below(5)];
        self.below(most)
    }
}

/// A host with its connection, the calls that it has begun, and pending decisions of its endpoint.
struct Host {
    side: Side,
    /// Events of the endpoint that have not been passed on.
    decisions: Vec<ConnectionEvent>,
    /// Replies for withdrawn requests, which are sent unless a handler runs.
    withdrawn: BTreeMap<RequestId, (StopReason, Reply)>,
    /// Requests whose arguments are not complete.
    unready: BTreeSet<RequestId>,
    waits: BTreeSet<RequestId>,
    runs: BTreeSet<RequestId>,
    stopped: BTreeSet<RequestId>,
    /// Bodies that wait for memory.
    wants: BTreeSet<StreamId>,
    calls: BTreeSet<CallId>,
    ended: BTreeSet<CallId>,
    /// Calls whose results were stopped, so that they don't end by themselves.
    unwanted: BTreeSet<CallId>,
    in_flight: Vec<Multipart>,
}

impl Host {
    fn new(role: Role, config: ConnectionConfig) -> Self {
        let mut side = Side::connected(role, config);
        (side.endpoint.starts, side.endpoint.grants) = (false, false);
        Self {
            side,
            decisions: Vec::new(),
            withdrawn: BTreeMap::new(),
            unready: BTreeSet::new(),
            waits: BTreeSet::new(),
            runs: BTreeSet::new(),
            stopped: BTreeSet::new(),
            wants: BTreeSet::new(),
            calls: BTreeSet::new(),
            ended: BTreeSet::new(),
            unwanted: BTreeSet::new(),
            in_flight: Vec::new(),
        }
    }

    fn invoke(&mut self, random: &mut Random, dialect: Dialect) {
        let streams = dialect == Dialect::Two;
        let delivery = |random: &mut Random| match streams && random.one_in(2) {
            true => Delivery::Stream,
            false => Delivery::Whole,
        };
        let key =
            [OrderingKey::none(), OrderingKey::text("k"), OrderingKey::text("l")][random.below(3)].clone();
        let deadline = random.one_in(3).then(|| self.side.now + SECOND * random.below(60) as u32);
        let call = Call {
            key,
            argument: delivery(random),
            result: delivery(random),
            compressed: random.one_in(3),
            deadline,
            urgency: Urgency::new(random.below(8) as u8).unwrap(),
            ..Call::new(["whole", "stream"][random.below(2)], vec![7; random.size()])
        };
        if let Ok(call) = self.side.connection.invoke(self.side.now, call) {
            self.calls.insert(call);
        }
    }

    fn any_stream(&self, random: &mut Random) -> Option<StreamId> {
        let calls = self.calls.iter().map(|call| StreamId::Call(*call));
        let all: Vec<StreamId> =
            calls.chain(self.runs.iter().map(|request| StreamId::Request(*request))).collect();
        random.pick(&all)
    }

    fn any_running(&self, random: &mut Random) -> Option<RequestId> {
        random.pick(&self.runs.iter().copied().collect::<Vec<_>>())
    }

    fn any_reply(random: &mut Random) -> Reply {
        let info = ErrorInfo { traceback: "t".repeat(random.size()).into(), ..ErrorInfo::new("E", "e") };
        match random.below(5) {
            0 => Reply::Failure(info.into()),
            1 => Reply::Error(info.into()),
            2 => Reply::Cancelled,
            3 => Reply::End,
            _ => Reply::Result {
                body: vec![7; random.size()].into(),
                compressed: random.one_in(2),
                metadata: Metadata::new(),
            },
        }
    }

    fn reply(&mut self, random: &mut Random, request: RequestId) {
        let reply = Self::any_reply(random);
        self.runs.remove(&request);
        self.decisions.push(ConnectionEvent::Reply { request, reply });
    }

    /// Takes a random step of a host, correct or not.
    fn act(&mut self, random: &mut Random, dialect: Dialect) {
        let now = self.side.now;
        match random.below(13) {
            0 | 1 => self.invoke(random, dialect),
            2 => {
                if let Some(call) = random.pick(&self.calls.iter().copied().collect::<Vec<_>>())
                    && random.one_in(2)
                    && self.side.connection.abandon(call)
                {
                    assert!(self.ended.insert(call), "{call:?} ended before");
                }
            }
            3 => {
                if let Some(request) = self.any_running(random) {
                    self.reply(random, request);
                }
            }
            4 => {
                if let Some(request) = self.any_running(random) {
                    let size = random.one_in(3).then_some(1_000);
                    self.side.connection.begin_reply(request, random.one_in(2), Metadata::new(), size).ok();
                }
            }
            5 | 6 => {
                if let Some(id) = self.any_stream(random) {
                    self.side
                        .connection
                        .send_stream(id)
                        .write(vec![7; random.size()].into(), random.one_in(2))
                        .ok();
                }
            }
            7 => {
                if let Some(id) = self.any_stream(random) {
                    let mut stream = self.side.connection.send_stream(id);
                    match random.below(4) {
                        0 => stream.abort(),
                        1 => drop(stream.acknowledged()),
                        _ => drop(stream.finish()),
                    }
                }
            }
            8 | 9 => {
                if let Some(id) = self.any_stream(random) {
                    let mut stream = self.side.connection.recv_stream(id);
                    while let Ok(Poll::Ready(Some(_))) = stream.read(now) {}
                }
            }
            10 => {
                if let Some(id) = self.any_stream(random) {
                    let mut stream = self.side.connection.recv_stream(id);
                    match random.below(3) {
                        0 => {
                            stream.stop();
                            if let StreamId::Call(call) = id {
                                self.unwanted.insert(call);
                            }
                        }
                        _ => drop(stream.reassemble()),
                    }
                }
            }
            11 => {
                // Before it starts, or in that moment.
                let unstarted: Vec<_> = self.waits.union(&self.unready).copied().collect();
                if let Some(request) = random.pick(&unstarted) {
                    let is_ready = self.waits.contains(&request);
                    self.side.connection.reply(request, Self::any_reply(random)).expect("it is open");
                    if is_ready && random.one_in(2) {
                        self.decisions.push(ConnectionEvent::Start(request));
                    }
                }
            }
            _ => self.side.pass(SECOND * random.below(10) as u32),
        }
        self.listen(random);
        let gone = |request: &&RequestId| !self.side.connection.is_open(**request);
        assert_eq!(self.waits.iter().chain(&self.unready).find(gone), None, "the endpoint still counts it");
    }

    /// Handles all events, and makes decisions for the endpoint.
    fn listen(&mut self, random: &mut Random) {
        for event in self.side.told() {
            self.tell_endpoint(event, random);
        }
        for event in self.side.events() {
            self.take_event(event);
        }
        self.side.audit();
    }

    fn tell_endpoint(&mut self, event: EndpointEvent, random: &mut Random) {
        match event {
            EndpointEvent::Arrived(Arrival { request, ready, .. }) => {
                if random.one_in(20) {
                    self.decisions.push(ConnectionEvent::Refuse { request, reason: busy() });
                } else if ready {
                    self.waits.insert(request);
                } else {
                    self.unready.insert(request);
                }
            }
            EndpointEvent::Ready { request, .. } => {
                self.unready.remove(&request);
                assert!(self.waits.insert(request), "ready twice");
            }
            EndpointEvent::Withdrawn { request, reason, reply } => {
                // In addition, the caller may give up.
                if let Some((first, _)) = self.withdrawn.get(&request)
                    && reason.is_given_up()
                    && !first.is_given_up()
                {
                    return;
                }
                assert!(!self.withdrawn.contains_key(&request), "{request:?} is withdrawn twice");
                self.unready.remove(&request);
                // Sometimes the endpoint has already started it.
                let waits = self.waits.remove(&request);
                self.withdrawn.insert(request, (reason, reply.clone()));
                if waits && random.one_in(2) {
                    self.decisions.push(ConnectionEvent::Start(request));
                } else if !self.runs.contains(&request) {
                    self.decisions.push(ConnectionEvent::Reply { request, reply });
                }
            }
            EndpointEvent::NeverRan(request) => {
                self.unready.remove(&request);
                self.waits.remove(&request);
                if let Some((_, reply)) = self.withdrawn.get(&request).cloned() {
                    self.decisions.push(ConnectionEvent::Reply { request, reply });
                }
            }
            EndpointEvent::ReassemblyWanted { stream, .. } => {
                assert!(self.wants.insert(stream), "{stream:?} wants memory twice");
                self.decisions.push(ConnectionEvent::Reassemble(stream));
            }
            EndpointEvent::ReassemblyEnded { stream, .. } => {
                assert!(self.wants.remove(&stream), "{stream:?} had wanted no memory");
            }
            EndpointEvent::Closed(_) => self.wants.clear(),
            _ => {}
        }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Request(request) => assert!(self.runs.insert(request.id), "{request:?} runs twice"),
            Event::Stop { request, .. } => {
                assert!(self.stopped.insert(request), "{request:?} is stopped twice");
            }
            Event::Ended { call, .. } => assert!(self.ended.insert(call), "{call:?} ended twice"),
            Event::Response { call, .. } => assert!(!self.ended.contains(&call), "{call:?} has ended"),
            Event::Closed(cause) => panic!("{cause}"),
            _ => {}
        }
    }

    /// Passes on a decision of the endpoint, in order.
    fn decide(&mut self, random: &mut Random) {
        if self.decisions.is_empty() {
            if let Some(request) = self.waits.pop_first() {
                self.side.decide(ConnectionEvent::Start(request));
            }
        } else {
            let decision = self.decisions.remove(0);
            if let ConnectionEvent::Refuse { request, .. } = &decision {
                // Its argument may have become complete meanwhile.
                self.waits.remove(request);
            }
            self.side.decide(decision);
        }
        self.listen(random);
    }

    fn send(&mut self) {
        while let Some(message) = self.side.connection.poll_message(self.side.now) {
            self.in_flight.push(message);
        }
    }
}

fn streams_named_so() -> StreamArguments {
    StreamArguments::Of(std::sync::Arc::new(|method| method == "stream"))
}

fn hosts(dialect: Dialect, random: &mut Random) -> [Host; 2] {
    let config = ConnectionConfig {
        dialect,
        max_outgoing_bytes: [20_000, 64 << 20][random.below(2)],
        ordered_replies: !random.one_in(4),
        max_requests: 20,
        max_body: 300_000,
        first_window: 4_000,
        stream_window: 60_000,
        connection_window: 500_000,
        stream_buffer: 50_000,
        execution_timeout: Some(SECOND * 20),
        stream_arguments: streams_named_so(),
        ..two()
    };
    [Role::Connector, Role::Binder].map(|role| Host::new(role, config.clone()))
}

fn deliver(hosts: &mut [Host; 2], random: &mut Random, all: bool) {
    for from in 0..2 {
        hosts[from].send();
        let count =
            if all { hosts[from].in_flight.len() } else { random.below(hosts[from].in_flight.len() + 1) };
        for message in hosts[from].in_flight.drain(..count).collect::<Vec<_>>() {
            hosts[1 - from].side.hear(message);
            hosts[1 - from].listen(random);
        }
    }
}

/// Ends all open calls and requests of both hosts.
fn wind_up(hosts: &mut [Host; 2], random: &mut Random) {
    for _ in 0..200 {
        for host in hosts.iter_mut() {
            host.side.pass(SECOND);
            while !host.decisions.is_empty() || !host.waits.is_empty() {
                host.decide(random);
            }
            for request in std::mem::take(&mut host.runs) {
                host.reply(random, request);
            }
            for call in host.calls.clone() {
                if host.unwanted.contains(&call)
                    && !host.ended.contains(&call)
                    && host.side.connection.abandon(call)
                {
                    assert!(host.ended.insert(call));
                }
                if host.ended.contains(&call) {
                    host.side.connection.recv_stream(call).stop();
                    host.calls.remove(&call);
                    host.ended.remove(&call);
                }
                let now = host.side.now;
                host.side.connection.send_stream(call).finish().ok();
                while let Ok(Poll::Ready(Some(_))) = host.side.connection.recv_stream(call).read(now) {}
            }
        }
        deliver(hosts, random, true);
        hosts.iter_mut().for_each(|host| host.listen(random));
    }
}

fn run(seed: u64, dialect: Dialect) {
    let random = &mut Random(seed);
    let hosts = &mut hosts(dialect, random);
    deliver(hosts, random, true);
    deliver(hosts, random, true);
    for _ in 0..STEPS {
        let host = random.below(2);
        match random.below(4) {
            0 => deliver(hosts, random, false),
            1 => hosts[host].decide(random),
            _ => hosts[host].act(random, dialect),
        }
    }
    if random.one_in(4) {
        for host in hosts {
            host.side.connection.close(CloseCause::LinkLost);
            let events = host.side.events();
            assert_eq!(events.last(), Some(&Event::Closed(CloseCause::LinkLost)));
            events
                .into_iter()
                .filter(|event| !matches!(event, Event::Closed(_)))
                .for_each(|event| host.take_event(event));
            assert_eq!(host.ended, host.calls, "every call has ended");
            host.side.connection.audit();
        }
        return;
    }
    wind_up(hosts, random);
    for host in hosts {
        assert!(host.calls.is_empty(), "{:?} never ended: {:?}", host.calls, host.side.connection);
        assert!(host.side.connection.is_idle(), "{:?}", host.side.connection);
        host.side.connection.audit_idle();
        assert!(host.wants.is_empty(), "{:?} keep memory", host.wants);
    }
}

#[test]
fn anything_at_any_time_leaves_nothing_behind() {
    for seed in 0..SEEDS {
        for dialect in [Dialect::Two, Dialect::One] {
            let outcome = std::panic::catch_unwind(|| run(seed, dialect));
            assert!(outcome.is_ok(), "seed {seed} in {dialect:?}");
        }
    }
}

/// A random record, which is sometimes valid.
fn record(random: &mut Random, next: &mut u64) -> Record {
    let call = random.below(16) as u64;
    let piece = |random: &mut Random| Piece {
        bytes: vec![7; [0, 5, 2_000, 20_000][random.below(4)]].into(),
        fin: random.one_in(4),
        item: random.one_in(2),
        compressed: random.one_in(10),
    };
    let options = |random: &mut Random| Options {
        remaining: random.one_in(4).then(|| SECOND * random.below(5) as u32),
        size: random.one_in(4).then(|| random.below(50_000) as u64),
        unsupported: false,
        ..Options::default()
    };
    let theirs = call & !1;
    match random.below(10) {
        0..=2 => {
            let call = *next;
            *next += 2;
            let method = ["whole", "stream"][random.below(2)].into();
            let key = [OrderingKey::none(), OrderingKey::text("k")][random.below(2)].clone();
            let mut piece = piece(random);
            piece.bytes.truncate(MAX_FIRST);
            Record::Open { call, method, key, options: options(random), piece }
        }
        3 => {
            let mut piece = piece(random);
            piece.bytes.truncate(MAX_FIRST);
            Record::Result { call: call | 1, options: options(random), piece }
        }
        4 => Record::Fail { call: call | 1, failure: Failure::Cancelled, options: Options::default() },
        5 => Record::Cancel { call: theirs },
        6 => Record::Abort { call: theirs },
        7 => Record::Stop { call: call | 1 },
        8 => Record::Credit { call, consumed: 0, limit: random.below(100_000) as u64 },
        _ => Record::Data { call, offset: random.below(3) as u64 * 5, piece: piece(random) },
    }
}

#[test]
fn whatever_a_peer_sends_the_tables_agree() {
    for seed in 0..SEEDS {
        let random = &mut Random(seed);
        let config = ConnectionConfig { stream_arguments: streams_named_so(), max_requests: 30, ..two() };
        let mut host = Host::new(Role::Binder, config);
        host.side = super::dialect2::binder(host.side.connection.config.as_ref().clone());
        (host.side.endpoint.starts, host.side.endpoint.grants) = (false, false);
        (0..8).for_each(|_| host.invoke(random, Dialect::Two));
        host.side.sent();
        // Records name the numbers of these.
        let opened =
            [0, 2, 4, 6, 8, 10, 12, 14].map(|call| super::dialect2::open(call, super::dialect2::part("x")));
        host.side.hear_records(&opened);
        host.listen(random);
        let mut next = 16;
        for _ in 0..STEPS {
            match random.below(3) {
                0 => host.act(random, Dialect::Two),
                1 => host.decide(random),
                _ => {
                    let record = record(random, &mut next);
                    host.side.hear_records(&[record]);
                    if host.side.connection.is_closed() {
                        break;
                    }
                    host.listen(random);
                }
            }
            host.side.sent();
        }
        host.side.connection.close(CloseCause::Local);
        host.side
            .events()
            .into_iter()
            .filter(|event| !matches!(event, Event::Closed(_)))
            .for_each(|event| host.take_event(event));
        assert_eq!(host.ended, host.calls, "seed {seed}: every call has ended");
        host.side.connection.audit();
    }
}
