//! What peers can make the core hold, by a counting allocator.

#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
#![allow(clippy::disallowed_types, reason = "the tests of this file count one after another")]
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use callosum_proto::internals::wire::dialect2::{Options, PacketWriter, Piece, RECORD_COST, Record};
use callosum_proto::internals::wire::{
    CallName, Credit, Encoder, Hello, Message, MessageType, PING, Payload, UPPER, decode_body, decode_header,
};
use callosum_proto::internals::{audit_endpoint, audit_idle};
use callosum_proto::ordering::OrderingMode;
use callosum_proto::zmtp::{CurveKeyPair, Link, LinkConfig, LinkError, LinkEvent, Mechanism};
use callosum_proto::{
    CallId, CloseCause, Connection, ConnectionConfig, ConnectionEvent, ConnectionId, Dialect, Endpoint,
    EndpointConfig, Event, Multipart, OrderingKey, Reply, Role, StreamArguments,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Most bytes of a body in one record.
const MAX_PART: usize = 64 * KIB;

/// Keeps the tests of one process from counting each other's bytes.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most bytes that were live at a time besides those that were before, and those that still are.
fn measure<T>(work: impl FnOnce() -> T) -> (usize, usize, T) {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let result = work();
    let peak = HEAP.peak_usage().saturating_sub(before);
    (peak, HEAP.current_usage().saturating_sub(before), result)
}

/// The serving side of one connection, with handlers that run until they are told to stop.
struct Server {
    connections: BTreeMap<ConnectionId, Connection>,
    id: ConnectionId,
    endpoint: Endpoint,
    now: Instant,
    /// The peer's.
    writer: PacketWriter,
    /// Handlers that run.
    running: usize,
    /// Answers to calls that were cancelled.
    cancelled: u64,
}

impl Server {
    fn new(mode: OrderingMode) -> Self {
        Self::with(mode, ConnectionConfig::default())
    }

    fn with(mode: OrderingMode, config: ConnectionConfig) -> Self {
        Self::greeted(mode, config, Bytes::new())
    }

    /// One whose peer speaks dialect 2, and gives all the credit that there is.
    fn two(mode: OrderingMode, config: ConnectionConfig) -> Self {
        let credit = Some(Credit { stream: u64::MAX, link: u64::MAX });
        let hello = Hello { dialects: 0b11, nonce: [1; 16], max_body: 10 << 20, credit };
        let server = Self::greeted(mode, config, hello.encode());
        assert_eq!(server.connection().dialect(), Some(Dialect::Two));
        server
    }

    fn greeted(mode: OrderingMode, config: ConnectionConfig, hello: Bytes) -> Self {
        let now = Instant::now();
        let mut limits = EndpointConfig::default();
        (limits.ordering.mode, limits.ordering.max_running) = (mode, 4);
        let mut endpoint = Endpoint::new(limits);
        let id = endpoint.open();
        let mut connection = Connection::new(id, Role::Binder, config, [2; 16], CallId::FIRST, now);
        connection.handle_connected(now);
        connection.handle_message(now, Multipart::new(PING, hello, Bytes::new()));
        let (connections, writer) = (BTreeMap::from([(id, connection)]), PacketWriter::default());
        let mut server = Self { connections, id, endpoint, now, writer, running: 0, cancelled: 0 };
        server.settle();
        server
    }

    fn connection(&self) -> &Connection {
        &self.connections[&self.id]
    }

    fn connection_mut(&mut self) -> &mut Connection {
        self.connections.get_mut(&self.id).unwrap()
    }

    fn hear(&mut self, message: Multipart) {
        let now = self.now;
        self.connection_mut().handle_message(now, message);
    }

    /// Records of dialect 2, in one packet.
    fn hear_records(&mut self, records: &[Record]) {
        records.iter().for_each(|record| self.writer.write(record));
        let packet = self.writer.take();
        self.hear(packet);
    }

    /// Does what is to be done, and lets the peer read; how many anomalies there were.
    fn settle(&mut self) -> usize {
        let (mut anomalies, now) = (self.serve(), self.now);
        while self.connection_mut().poll_message(now).is_some() {
            anomalies += self.serve();
        }
        anomalies
    }

    fn serve(&mut self) -> usize {
        let mut anomalies = 0;
        self.carry();
        while let Some(event) = self.connection_mut().poll_event() {
            match event {
                Event::Request(_) => self.running += 1,
                Event::Stop { request, .. } => {
                    self.running -= 1;
                    self.endpoint.finish(request, None);
                }
                Event::Anomaly(_) => anomalies += 1,
                // Nobody reads what is streamed.
                Event::Readable(_) | Event::Goodbye | Event::Established { .. } | Event::Closed(_) => {}
                other => panic!("{other:?}"),
            }
            self.carry();
        }
        anomalies
    }

    /// As [`Endpoint::settle`] does, but for the counting.
    fn carry(&mut self) {
        let connection = self.connections.get_mut(&self.id).unwrap();
        loop {
            while let Some(event) = connection.poll_endpoint_event() {
                self.endpoint.handle_event(event);
            }
            let Some((_, event)) = self.endpoint.poll_event() else { return };
            self.cancelled +=
                u64::from(matches!(event, ConnectionEvent::Reply { reply: Reply::Cancelled, .. }));
            connection.handle_event(self.now, event);
        }
    }

    fn assert_idle(&self) {
        assert_eq!(self.running, 0);
        audit_idle(self.connection());
        audit_endpoint(&self.endpoint);
        assert!(self.endpoint.is_idle());
    }
}

fn message(encoder: &mut Encoder, seq: u32, key: &str, payload: Payload) -> Multipart {
    let key = if key.is_empty() { OrderingKey::none() } else { OrderingKey::text(key) };
    encoder.encode(&Message { id: CallName { seq, method: "m".into(), key }, payload, compressed: false })
}

fn call() -> Payload {
    Payload::Function(Bytes::from_static(b"1"))
}

/// A million calls in the default mode, and twenty thousand in each other, cancelled at once: nothing is left of them, and no more is held at any time than at the start.
#[test]
fn a_million_calls_and_cancels_are_flat() {
    let _alone = alone();
    for (mode, many) in [
        (OrderingMode::Unordered, 20_000),
        (OrderingMode::ExitOrdered, 1_000_000),
        (OrderingMode::KeySerialized, 20_000),
    ] {
        let mut server = Server::new(mode);
        let mut encoder = Encoder::default();
        // Two at a time, so that some are cancelled while they run and some while they wait.
        let mut flood = |from: u32, to: u32| {
            for seq in (from..to).step_by(2) {
                let key = ["", "k", "l"][seq as usize % 3];
                for (seq, payload) in
                    [(seq, call()), (seq + 1, call()), (seq + 1, Payload::Cancel), (seq, Payload::Cancel)]
                {
                    server.hear(message(&mut encoder, seq, key, payload));
                }
                server.settle();
            }
            server.cancelled
        };
        flood(0, 1_000);
        let (peak, left, cancelled) = measure(|| flood(1_000, many));
        assert_eq!(cancelled, u64::from(many));
        assert!(peak < 64 * KIB && left < 32 * KIB, "{mode:?}: {peak} at a time, {left} left");
        server.assert_idle();
    }
}

/// The same behind calls that hang and hold up all others: as many as the limits allow, and no more.
#[test]
fn calls_and_cancels_behind_ones_that_hang_are_bounded() {
    let _alone = alone();
    for mode in [OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let mut server = Server::new(mode);
        let mut encoder = Encoder::default();
        for seq in 0..4 {
            server.hear(message(&mut encoder, seq, ["k", "l", "m", "n"][seq as usize], call()));
        }
        server.settle();
        assert_eq!(server.running, 4);
        let (peak, _, ()) = measure(|| {
            for seq in 4..100_000 {
                for payload in [call(), Payload::Cancel] {
                    server.hear(message(&mut encoder, seq, ["k", "l", "m", "n"][seq as usize % 4], payload));
                }
                server.settle();
            }
        });
        assert_eq!(server.cancelled, 99_996, "they are answered at once, and forgotten (O-18)");
        assert_eq!(server.connection().open_requests(), 4, "{mode:?}");
        assert!(peak < 64 * KIB, "{mode:?}: {peak} at a time");
    }
}

/// Floods whose sender reads: unknown markers, unreadable headers, replies to calls that never were, cancellations of none,
/// names in use, and probes. Each is dropped and counted or answered, and nothing is held for any.
#[test]
fn floods_are_flat() {
    let _alone = alone();
    let mut encoder = Encoder::default();
    let mut one = |seq, payload| message(&mut encoder, seq, "k", payload);
    let floods = [
        ("markers", true, Multipart::new("NOISE".into(), Bytes::new(), Bytes::new())),
        ("headers", true, Multipart::new(UPPER, Bytes::from_static(b"\x81\xa4type\xff"), Bytes::new())),
        ("results", true, one(1, Payload::Result(Bytes::from_static(b"1")))),
        ("cancelled", true, one(2, Payload::Cancelled)),
        ("cancels", true, one(3, Payload::Cancel)),
        ("names in use", true, one(7, call())),
        ("probes", false, Multipart::new(PING, Bytes::new(), Bytes::from_static(b"probe"))),
    ];
    let mut server = Server::new(OrderingMode::KeySerialized);
    server.hear(one(7, call()));
    server.settle();
    for (name, dropped, message) in floods {
        let mut flood = |count: usize| {
            (0..count).fold(0, |anomalies, _| {
                server.hear(message.clone());
                anomalies + server.settle()
            })
        };
        flood(100);
        let (peak, left, anomalies) = measure(|| flood(200_000));
        assert_eq!(anomalies, if dropped { 200_000 } else { 0 }, "{name}");
        assert!(peak < 32 * KIB && left < 32 * KIB, "{name}: {peak} at a time, {left} left");
    }
    assert_eq!((server.connection().open_requests(), server.running), (1, 1));
}

fn part(bytes: &'static [u8]) -> Piece {
    Piece { bytes: Bytes::from_static(bytes), ..Piece::default() }
}

fn whole(bytes: &'static [u8]) -> Piece {
    Piece { fin: true, item: true, ..part(bytes) }
}

fn open(call: u64, key: &str, piece: Piece) -> Record {
    let key = if key.is_empty() { OrderingKey::none() } else { OrderingKey::text(key) };
    Record::Open { call, method: "m".into(), key, options: Options::default(), piece }
}

/// A hundred thousand calls of dialect 2 in the default mode, and twenty thousand in each other, cancelled at once: whole ones,
/// and ones in the middle of an argument, with data that comes too late.
#[test]
fn calls_that_are_reset_are_flat() {
    let _alone = alone();
    for (mode, many) in [
        (OrderingMode::Unordered, 20_000),
        (OrderingMode::ExitOrdered, 100_000),
        (OrderingMode::KeySerialized, 20_000),
    ] {
        let mut server = Server::two(mode, ConnectionConfig::default());
        let mut flood = |from: u64, to: u64| {
            for n in (from..to).step_by(2) {
                let (key, first, second) = (["", "k", "l"][n as usize % 3], 2 * n, 2 * n + 2);
                let late = Record::Data { call: second, offset: 1, piece: part(b"2") };
                server.hear_records(&[
                    open(first, key, whole(b"1")),
                    open(second, key, part(b"1")),
                    Record::Cancel { call: second },
                    Record::Cancel { call: first },
                    late,
                ]);
                server.settle();
            }
            server.cancelled
        };
        flood(0, 1_000);
        let (peak, left, cancelled) = measure(|| flood(1_000, many));
        assert_eq!(cancelled, many);
        // Both ends may have got a new buffer for packets, of 32 KiB.
        assert!(peak < 128 * KIB && left < 80 * KIB, "{mode:?}: {peak} at a time, {left} left");
        server.assert_idle();
        assert!(!server.connection().is_closed());
    }
}

/// Floods of dialect 2 whose sender reads: whatever has no effect, or is refused.
#[test]
fn floods_of_dialect_2_are_flat() {
    let _alone = alone();
    let mut server = Server::two(OrderingMode::KeySerialized, ConnectionConfig::default());
    server.hear_records(&[open(0, "k", part(b"1")), Record::Cancel { call: 0 }, open(2, "k", whole(b"1"))]);
    server.settle();
    let mut next = 2;
    let mut number = || {
        next += 2;
        next
    };
    let snappy = Piece { compressed: true, ..whole(b"no block") };
    let floods: [(&str, bool, &mut dyn FnMut() -> Record); 8] = [
        ("cancels", false, &mut || Record::Cancel { call: 0 }),
        ("cancels twice", false, &mut || Record::Cancel { call: 2 }),
        ("aborts", false, &mut || Record::Abort { call: 0 }),
        ("credit", false, &mut || Record::Credit { call: 0, consumed: 0, limit: u64::MAX }),
        ("credit of the link", false, &mut || Record::LinkCredit { limit: 0 }),
        ("goodbyes", false, &mut || Record::Goodbye { next: 1 }),
        ("late piece", false, &mut || Record::Data { call: 0, offset: 1, piece: part(b"2") }),
        ("calls that can't be read", true, &mut || open(number(), "k", snappy.clone())),
    ];
    for (name, anomalous, record) in floods {
        let mut flood = |count: usize| {
            (0..count).fold(0, |anomalies, _| {
                server.hear_records(&[record()]);
                anomalies + server.settle()
            })
        };
        flood(100);
        let (peak, left, anomalies) = measure(|| flood(200_000));
        assert_eq!(anomalies, if anomalous { 200_000 } else { 0 }, "{name}");
        assert!(peak < 96 * KIB && left < 64 * KIB, "{name}: {peak} at a time, {left} left");
    }
    assert!(!server.connection().is_closed());
    assert_eq!(server.connection().open_requests(), 0, "the only one was cancelled");
}

/// Streams that nobody reads, in pieces of one byte, each an item: they hold less memory than the credit that they use up,
/// and none once they are cancelled.
#[test]
fn pieces_hold_no_more_than_their_credit() {
    let _alone = alone();
    const FIRST: u64 = 64 << 10;
    const CONTENTS: u64 = 64;
    let mut config = ConnectionConfig::default();
    // As many as there is credit for.
    (config.first_window, config.connection_window, config.max_requests) = (FIRST, 2 * CONTENTS * FIRST, 100);
    config.stream_arguments = StreamArguments::All;
    let mut server = Server::two(OrderingMode::Unordered, config);
    let cost = RECORD_COST + 1;
    let spent = CONTENTS * (FIRST / cost) * cost;
    let (peak, left, ()) = measure(|| {
        for call in (0..CONTENTS).map(|n| 2 * n) {
            server.hear_records(&[open(call, "", part(b""))]);
            for offset in 0..FIRST / cost {
                let piece = Piece { item: true, ..part(b"x") };
                server.hear_records(&[Record::Data { call, offset, piece }]);
                assert_eq!(server.settle(), 0);
            }
        }
        assert_eq!(server.connection().held_bytes(), spent);
        let cancels: Vec<_> = (0..CONTENTS).map(|n| Record::Cancel { call: 2 * n }).collect();
        server.hear_records(&cancels);
        server.settle();
        // What is kept for another burst is given back once it is quiet.
        server.now += Duration::from_secs(1);
        let now = server.now;
        server.connection_mut().handle_timeout(now).unwrap();
        server.settle();
    });
    assert_eq!((server.connection().held_bytes(), server.cancelled), (0, CONTENTS));
    println!("{peak} bytes at a time for {spent} of credit, {left} left");
    assert!(peak < spent as usize && left < 64 * KIB, "{peak} at a time, {left} left");
}

/// Ever larger arguments, of a size that is declared or not, each dropped before the next: memory of those before is kept for
/// none of them.
#[test]
fn arguments_that_grow_keep_no_memory_of_those_before() {
    let _alone = alone();
    const LARGEST: usize = MIB;
    let bytes: &'static [u8] = vec![7; LARGEST].leak();
    for is_declared in [true, false] {
        let mut config = ConnectionConfig::default();
        (config.max_body, config.max_requests) = (LARGEST, 2);
        (config.first_window, config.stream_window) = (2 * LARGEST as u64, 2 * LARGEST as u64);
        let mut server = Server::two(OrderingMode::Unordered, config);
        let mut send = |size: usize, call: u64| {
            let options = Options { size: is_declared.then_some(size as u64), ..Options::default() };
            let (method, key, piece) = ("m".into(), OrderingKey::none(), part(b""));
            server.hear_records(&[Record::Open { call, method, key, options, piece }]);
            for offset in (0..size).step_by(MAX_PART) {
                let end = size.min(offset + MAX_PART);
                let piece = Piece { fin: end == size, item: end == size, ..part(&bytes[offset..end]) };
                server.hear_records(&[Record::Data { call, offset: offset as u64, piece }]);
                assert_eq!(server.settle(), 0);
            }
            assert_eq!(server.running, 1);
            server.hear_records(&[Record::Cancel { call }]);
            server.settle();
        };
        let (peak, left, ()) = measure(|| (0..64).for_each(|n| send(LARGEST * (65 + n) / 128, 2 * n as u64)));
        println!("{peak} at a time, {left} left");
        assert!((LARGEST..4 * LARGEST).contains(&peak), "{peak} at a time, {left} left");
    }
}

/// A transport of messages that holds packets with large pieces holds nothing of the same size besides them.
#[test]
fn heads_of_large_pieces_share_memory() {
    let _alone = alone();
    let bytes: &'static [u8] = vec![7; MAX_PART].leak();
    let mut writer = PacketWriter::default();
    let (peak, left, held) = measure(|| {
        let mut data = |n: u64| {
            writer.write(&Record::Data { call: 0, offset: n * MAX_PART as u64, piece: part(bytes) });
            writer.take()
        };
        (0..100).map(&mut data).collect::<Vec<_>>()
    });
    println!("{peak} at a time, {left} left");
    assert!(held.len() == 100 && peak < 64 * KIB, "{peak} at a time, {left} left");
}

/// A peer that has answers pile up and does not read them is cut off before those that no handler made take much more than 4
/// MiB, besides as many bytes as may wait for the peer.
#[test]
fn what_is_not_read_is_bounded() {
    let _alone = alone();
    let mut encoder = Encoder::default();
    let probe = Multipart::new(PING, Bytes::new(), Bytes::from_static(b"probe"));
    let large = Multipart::new(PING, Bytes::new(), Bytes::from(vec![0; 64 * KIB]));
    let mut refusals = |seq| message(&mut encoder, seq, "", call());
    let mut small = |_| probe.clone();
    let mut large = |_| large.clone();
    let floods: [(&str, &mut dyn FnMut(u32) -> Multipart); 3] =
        [("probes", &mut small), ("large probes", &mut large), ("refused calls", &mut refusals)];
    for (name, next) in floods {
        let mut config = ConnectionConfig::default();
        config.max_outgoing_bytes = 4 * MIB;
        let mut server = Server::with(OrderingMode::Unordered, config);
        let (peak, left, ()) = measure(|| {
            for seq in 0..200_000 {
                server.hear(next(seq));
                server.serve();
                if server.connection().is_closed() {
                    return;
                }
            }
            panic!("{name}: no end to it");
        });
        assert_eq!(server.connection().close_cause(), Some(CloseCause::PeerNotReading));
        println!("{name}: {peak} bytes at a time, {left} left");
        assert!(peak < 16 * MIB && left < 2 * MIB, "{name}: {peak} at a time, {left} left");
    }
}

/// Gigabytes that are declared, by ZMTP, MessagePack or Snappy, take no memory until they come.
#[test]
fn what_is_only_declared_takes_nothing() {
    let _alone = alone();
    let mut block = b"\xff\xff\xff\xff\x0f".to_vec();
    block.extend([0xfe; 1_000]);
    let mut encoder = Encoder::default();
    let id = CallName { seq: 1, method: "m".into(), key: OrderingKey::none() };
    let compressed = encoder.encode(&Message { id, payload: call(), compressed: true });
    let [_, header, _] = compressed.into_three().unwrap();
    let header = decode_header(&header).unwrap();
    assert!(header.compressed && header.kind == MessageType::Function);
    let huge: Vec<Bytes> = [0xdd, 0xdf, 0xdb, 0xc6, 0xc9]
        .into_iter()
        .flat_map(|marker| {
            let mut alone = vec![marker];
            alone.put_u32(u32::MAX);
            let field = [&b"\x81\xa4type"[..], &alone].concat();
            [alone, field]
        })
        .chain([vec![0x91; 60_000], vec![0x81; 60_000]])
        .map(Bytes::from)
        .collect();
    let (peak, left, ()) = measure(|| {
        decode_body(&header, block.into(), 10 * MIB).unwrap_err();
        for frame in &huge {
            decode_header(frame).unwrap_err();
            decode_body(&header, frame.clone(), 10 * MIB).unwrap_err();
        }
    });
    assert!(peak < 8 * KIB && left < 8 * KIB, "{peak} at a time, {left} left");

    let now = Instant::now();
    let mut link = Link::new(&LinkConfig::new(Role::Binder), [7; 32], now);
    link.handle_input(now, &opening()).unwrap();
    while link.poll_event().is_some() {}
    let (peak, left, ()) = measure(|| {
        for len in [11 << 20, 11 << 19] {
            let mut head = vec![2];
            head.put_u64(len);
            // As far as it may go, and a byte of it.
            let mut link = Link::new(&LinkConfig::new(Role::Binder), [7; 32], now);
            link.handle_input(now, &opening()).unwrap();
            link.handle_input(now, &head).unwrap();
            link.handle_input(now, b"x").unwrap();
        }
        for len in [(11 << 20) + 1, 1 << 32, u64::MAX] {
            let mut head = vec![2];
            head.put_u64(len);
            let mut link = Link::new(&LinkConfig::new(Role::Binder), [7; 32], now);
            link.handle_input(now, &opening()).unwrap();
            let error = link.handle_input(now, &head).unwrap_err();
            assert!(matches!(error, LinkError::TooLarge { .. }));
        }
    });
    assert!(peak < 1_200 * KIB && left < KIB, "{peak} at a time, {left} left");
}

/// A peer is at its limit, or not served any more: the arguments of its calls are not even decompressed.
#[test]
fn refused_calls_are_not_decompressed() {
    let _alone = alone();
    let mut encoder = Encoder::default();
    let mut compressed = |seq| {
        let id = CallName { seq, method: "m".into(), key: OrderingKey::none() };
        let payload = Payload::Function(Bytes::from(vec![0; 5 * MIB]));
        encoder.encode(&Message { id, payload, compressed: true })
    };
    for drains in [false, true] {
        let limits = ConnectionConfig::default().max_requests(1);
        let mut server = Server::with(OrderingMode::Unordered, limits);
        let (first, second) = (compressed(1), compressed(2));
        let (accepted, _, ()) = measure(|| server.hear(first));
        if drains {
            server.endpoint.drain();
            server.settle();
        }
        let (refused, left, ()) = measure(|| server.hear(second));
        assert!(accepted > 5 * MIB && refused < 64 * KIB && left < 16 * KIB, "{accepted}, {refused}, {left}");
    }
}

fn written(link: &mut Link) -> Bytes {
    let mut bytes = Vec::new();
    while link.pending_output() > 0 {
        let mut slices = [IoSlice::new(&[]); 4];
        let filled = link.output(&mut slices);
        let piece: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
        link.advance_output(piece.len());
        bytes.extend(piece);
    }
    bytes.into()
}

/// What a connector says under NULL.
fn opening() -> Bytes {
    let now = Instant::now();
    let mut client = Link::new(&LinkConfig::new(Role::Connector), [7; 32], now);
    let mut server = Link::new(&LinkConfig::new(Role::Binder), [7; 32], now);
    let greeting = written(&mut client);
    client.handle_input(now, &written(&mut server)).unwrap();
    [greeting, written(&mut client)].concat().into()
}

fn curve() -> (LinkConfig, LinkConfig) {
    let mut client = LinkConfig::new(Role::Connector);
    let mut server = LinkConfig::new(Role::Binder);
    let keys = CurveKeyPair::generate([11; 32]);
    client.mechanism =
        Mechanism::CurveClient { keys: CurveKeyPair::generate([22; 32]), server: keys.public() };
    server.mechanism = Mechanism::CurveServer { keys };
    (client, server)
}

/// Servers' links, each given what `talk` says to it; bytes for each.
fn half_open(config: &LinkConfig, count: usize, mut talk: impl FnMut(&mut Link)) -> usize {
    let now = Instant::now();
    let (peak, _, links) = measure(|| {
        let mut links = Vec::with_capacity(count);
        for _ in 0..count {
            let mut link = Link::new(config, [7; 32], now);
            talk(&mut link);
            links.push(link);
        }
        links
    });
    drop(links);
    peak / count
}

/// What an unfinished handshake costs in the worst case, which is what a binder may have 1,024 of by default.
#[test]
fn unfinished_handshakes_take_what_is_stated() {
    const COUNT: usize = 1_024;
    let _alone = alone();
    let now = Instant::now();
    let (client, server) = curve();
    let null = LinkConfig::new(Role::Binder);
    let feed = |link: &mut Link, bytes: &[u8]| {
        // As the runtime does: what was read is a buffer of its own.
        link.handle_input(now, bytes).unwrap();
        written(link)
    };
    let opening = opening();
    let nothing = half_open(&null, COUNT, |_| {});
    let greeted = half_open(&null, COUNT, |link| drop(feed(link, &opening[..64])));
    // A command that never ends, as large as it may be.
    let mut endless = vec![6];
    endless.put_u64(8 * KIB as u64 - 64 - 9);
    endless.resize(8 * KIB - 65, 0);
    let null_most = half_open(&null, COUNT, |link| {
        feed(link, &opening[..64]);
        feed(link, &endless);
    });

    // HELLO says nothing that binds it to a connection, so that one does for all.
    let mut model = Link::new(&client, [7; 32], now);
    let mut greeting = written(&mut model).to_vec();
    model.handle_input(now, &written(&mut Link::new(&server, [7; 32], now))).unwrap();
    greeting.extend(written(&mut model));
    let hello = half_open(&server, COUNT, |link| {
        assert!(feed(link, &greeting).len() > 100, "it is answered with WELCOME");
    });
    let with_more = half_open(&server, COUNT, |link| {
        feed(link, &greeting);
        let used = greeting.len() + 9;
        let mut endless = vec![6];
        endless.put_u64((8 * KIB - used) as u64);
        endless.resize(9 + 8 * KIB - used - 1, 0);
        feed(link, &endless);
    });
    // Those that wait for the application, and have sent more meanwhile, as much as they may.
    let waiting = half_open(&server, COUNT, |link| {
        let mut peer = Link::new(&client, [7; 32], now);
        let mut left = server.max_handshake_bytes;
        for _ in 0..4 {
            let said = written(&mut peer);
            left -= said.len();
            let answer = feed(link, &said);
            peer.handle_input(now, &answer).unwrap();
        }
        assert!(matches!(link.poll_event(), Some(LinkEvent::AuthenticationRequested { .. })));
        while left > 0 {
            let more = left.min(100);
            link.handle_input(now, &vec![0; more]).unwrap();
            left -= more;
        }
    });
    println!(
        "bytes for each: {nothing} at first, {greeted} after the greeting, {null_most} at most under NULL; \
         under CURVE {hello} after HELLO, {with_more} with a part of INITIATE, {waiting} while it waits to be admitted"
    );
    assert!(nothing < KIB && greeted < KIB, "{nothing}, {greeted}");
    assert!(hello < 2 * KIB, "{hello}");
    // What the peer has sent, and 2 KiB.
    for most in [null_most, with_more, waiting] {
        assert!(most < 10 * KIB, "{most}");
    }
}
