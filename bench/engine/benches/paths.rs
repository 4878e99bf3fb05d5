//! The paths of the engine whose instructions are counted. Each makes [`CALLS`] calls, but for those of 1 MiB
//! and the handshakes.
//!
//! What a benchmark needs is made before, in its `setup`, and dropped after it has returned: neither counts.

#![allow(missing_docs, reason = "the macros make public items")]

use std::hint::black_box;

use bytes::Bytes;
use callosum_bench_engine::pair::{Pair, Speaks};
use callosum_proto::internals::wire::dialect2::{Options, PacketWriter, Piece, Record, records};
use callosum_proto::internals::wire::{CallName, Encoder, Message, Payload, decode_body, decode_header};
use callosum_proto::internals::{connection_id, request_id};
use callosum_proto::ordering::{Action, Arrival, KeyOrder, OrderingConfig, OrderingMode, Scheduler};
use callosum_proto::{Multipart, OrderingKey};
use gungraun::Callgrind;
use gungraun::prelude::*;

/// Calls of a benchmark. Enough for the buffers that many calls share to count as they should.
const CALLS: u32 = 1_000;

/// Bytes of a small argument, and of its result.
const SMALL: usize = 64;

/// Bytes of a large one.
const LARGE: usize = 1 << 20;

/// Keys that calls have in turn.
const KEYS: u32 = 100;

/// Calls at the scheduler at a time.
const IN_FLIGHT: u32 = 50;

fn message(seq: u32) -> Message {
    let id = CallName { seq, method: "echo".into(), key: OrderingKey::none() };
    Message { id, payload: Payload::Function(vec![7; SMALL].into()), compressed: false }
}

fn messages() -> Vec<Message> {
    (0..CALLS).map(message).collect()
}

fn open(call: u32) -> Record {
    let (method, key) = ("echo".into(), OrderingKey::none());
    let piece = Piece::whole(vec![7; SMALL].into());
    Record::Open { call: u64::from(call), method, key, options: Options::default(), piece }
}

fn opens() -> Vec<Record> {
    (0..CALLS).map(open).collect()
}

#[library_benchmark(setup = messages)]
#[bench::call()]
fn encode_dialect_1(messages: Vec<Message>) -> (Vec<Message>, Encoder) {
    let mut encoder = Encoder::default();
    for message in &messages {
        black_box(encoder.encode(message));
    }
    (messages, encoder)
}

#[library_benchmark(setup = opens)]
#[bench::call()]
fn encode_dialect_2(opens: Vec<Record>) -> (Vec<Record>, PacketWriter) {
    let mut writer = PacketWriter::default();
    for packet in opens.chunks(8) {
        packet.iter().for_each(|record| writer.write(record));
        black_box(writer.take());
    }
    (opens, writer)
}

/// Frames as they come in: the header's and the body's.
fn frames() -> Vec<[Bytes; 2]> {
    let mut encoder = Encoder::default();
    let frames = |message: Multipart| {
        let [_, header, body] = message.into_three().expect("a message of dialect 1");
        [header, body]
    };
    messages().iter().map(|message| frames(encoder.encode(message))).collect()
}

fn packets() -> Vec<Bytes> {
    let mut writer = PacketWriter::default();
    let packet = |records: &[Record]| {
        records.iter().for_each(|record| writer.write(record));
        writer.take().into_one().expect("a packet")
    };
    opens().chunks(8).map(packet).collect()
}

#[library_benchmark(setup = frames)]
#[bench::call()]
fn decode_dialect_1(frames: Vec<[Bytes; 2]>) -> Vec<[Bytes; 2]> {
    for [header, body] in &frames {
        let header = decode_header(header).expect("it was encoded");
        black_box(decode_body(&header, body.clone(), SMALL)).expect("it was encoded");
    }
    frames
}

#[library_benchmark(setup = packets)]
#[bench::call()]
fn decode_dialect_2(packets: Vec<Bytes>) -> Vec<Bytes> {
    for packet in &packets {
        for record in records(packet).expect("it was written") {
            black_box(record).expect("it was written");
        }
    }
    packets
}

/// A scheduler, and requests that have not arrived there, each with one of so many keys or with none.
fn requests(mode: OrderingMode, keys: u32) -> (KeyOrder, Vec<Arrival>) {
    let mut config = OrderingConfig::default();
    config.mode = mode;
    let arrival = |number: u32| {
        let request = request_id(connection_id(0), u64::from(number));
        let key = match keys {
            0 => OrderingKey::none(),
            keys => OrderingKey::text(format!("container-{}", number % keys)),
        };
        Arrival { request, key, bytes: SMALL, ready: true }
    };
    (KeyOrder::new(config), (0..CALLS).map(arrival).collect())
}

#[library_benchmark(setup = requests)]
#[bench::no_keys(OrderingMode::ExitOrdered, 0)]
#[bench::exit_ordered(OrderingMode::ExitOrdered, KEYS)]
#[bench::key_serialized(OrderingMode::KeySerialized, KEYS)]
fn schedule((mut order, arrivals): (KeyOrder, Vec<Arrival>)) -> (KeyOrder, Vec<Arrival>) {
    for several in arrivals.chunks(IN_FLIGHT as usize) {
        for arrival in several {
            order.arrive(arrival).expect("there is a place for it");
        }
        let mut released = 0;
        while let Some(action) = order.poll() {
            match action {
                Action::Start(request) => order.finish(request),
                action => released += usize::from(matches!(action, Action::Release(_))),
            }
        }
        assert_eq!(released, several.len());
    }
    (order, arrivals)
}

/// Two sides that have made some calls, so that what they keep has its size.
fn connected(speaks: Speaks, body: usize, calls: u32, in_flight: u32) -> (Pair, u32, u32) {
    let mut pair = Pair::new(speaks, body);
    pair.connect();
    pair.call(2 * in_flight as usize, in_flight as usize, &mut ());
    (pair, calls, in_flight)
}

#[library_benchmark(setup = connected)]
#[bench::dialect_1_x1(Speaks::Dialect1, SMALL, CALLS, 1)]
#[bench::dialect_1_x128(Speaks::Dialect1, SMALL, CALLS, 128)]
#[bench::dialect_2_x1(Speaks::Dialect2, SMALL, CALLS, 1)]
#[bench::dialect_2_x128(Speaks::Dialect2, SMALL, CALLS, 128)]
#[bench::curve_x1(Speaks::Curve, SMALL, CALLS, 1)]
#[bench::curve_x128(Speaks::Curve, SMALL, CALLS, 128)]
// Four calls.
#[bench::dialect_1_1mib_x4(Speaks::Dialect1, LARGE, 4, 4)]
#[bench::dialect_2_1mib_x4(Speaks::Dialect2, LARGE, 4, 4)]
fn round_trip((mut pair, calls, in_flight): (Pair, u32, u32)) -> Pair {
    pair.call(calls as usize, in_flight as usize, &mut ());
    pair
}

#[library_benchmark(setup = Pair::new)]
#[bench::null(Speaks::Dialect2, SMALL)]
#[bench::curve(Speaks::Curve, SMALL)]
fn handshake(mut pair: Pair) -> Pair {
    pair.connect();
    pair
}

library_benchmark_group!(
    name = paths,
    benchmarks = [
        encode_dialect_1,
        encode_dialect_2,
        decode_dialect_1,
        decode_dialect_2,
        schedule,
        round_trip,
        handshake
    ]
);

main!(
    // Only instructions are looked at.
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = paths
);
