//! The paths of the engine whose instructions are counted. Each makes [`CALLS`] calls, but for those of 1 MiB
//! and the handshakes.
//!
//! Without an argument, this program runs itself under valgrind's callgrind for each path, and prints the counts. With the name
//! of a path it runs that one. callgrind counts while [`measured`] runs: what a path needs is made before, and dropped after it has
//! returned.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use callosum_bench_engine::pair::{Pair, Speaks};
use callosum_proto::internals::wire::dialect2::{Options, PacketWriter, Piece, Record, records};
use callosum_proto::internals::wire::{CallName, Encoder, Message, Payload, decode_body, decode_header};
use callosum_proto::internals::{connection_id, request_id};
use callosum_proto::ordering::{Action, Arrival, KeyOrder, OrderingConfig, OrderingMode, Scheduler};
use callosum_proto::{Multipart, OrderingKey};

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

fn encode_dialect_1(messages: Vec<Message>) -> (Vec<Message>, Encoder) {
    let mut encoder = Encoder::default();
    for message in &messages {
        black_box(encoder.encode(message));
    }
    (messages, encoder)
}

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

fn decode_dialect_1(frames: Vec<[Bytes; 2]>) -> Vec<[Bytes; 2]> {
    for [header, body] in &frames {
        let header = decode_header(header).expect("it was encoded");
        black_box(decode_body(&header, body.clone(), SMALL)).expect("it was encoded");
    }
    frames
}

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

fn round_trip((mut pair, calls, in_flight): (Pair, u32, u32)) -> Pair {
    pair.call(calls as usize, in_flight as usize, &mut ());
    pair
}

fn handshake(mut pair: Pair) -> Pair {
    pair.connect();
    pair
}

/// Runs a path. callgrind knows this function by its name.
#[inline(never)]
fn measured<I, O>(path: fn(I) -> O, input: I) -> O {
    black_box(path(black_box(input)))
}

/// A path's name, and what makes its input and runs it.
type Named = (&'static str, fn());

const PATHS: [Named; 17] = [
    ("encode_dialect_1::call", || drop(measured(encode_dialect_1, messages()))),
    ("encode_dialect_2::call", || drop(measured(encode_dialect_2, opens()))),
    ("decode_dialect_1::call", || drop(measured(decode_dialect_1, frames()))),
    ("decode_dialect_2::call", || drop(measured(decode_dialect_2, packets()))),
    ("schedule::no_keys", || drop(measured(schedule, requests(OrderingMode::ExitOrdered, 0)))),
    ("schedule::exit_ordered", || drop(measured(schedule, requests(OrderingMode::ExitOrdered, KEYS)))),
    ("schedule::key_serialized", || drop(measured(schedule, requests(OrderingMode::KeySerialized, KEYS)))),
    ("round_trip::dialect_1_x1", || round_trips(Speaks::Dialect1, SMALL, CALLS, 1)),
    ("round_trip::dialect_1_x128", || round_trips(Speaks::Dialect1, SMALL, CALLS, 128)),
    ("round_trip::dialect_2_x1", || round_trips(Speaks::Dialect2, SMALL, CALLS, 1)),
    ("round_trip::dialect_2_x128", || round_trips(Speaks::Dialect2, SMALL, CALLS, 128)),
    ("round_trip::curve_x1", || round_trips(Speaks::Curve, SMALL, CALLS, 1)),
    ("round_trip::curve_x128", || round_trips(Speaks::Curve, SMALL, CALLS, 128)),
    ("round_trip::dialect_1_1mib_x4", || round_trips(Speaks::Dialect1, LARGE, 4, 4)),
    ("round_trip::dialect_2_1mib_x4", || round_trips(Speaks::Dialect2, LARGE, 4, 4)),
    ("handshake::null", || drop(measured(handshake, Pair::new(Speaks::Dialect2, SMALL)))),
    ("handshake::curve", || drop(measured(handshake, Pair::new(Speaks::Curve, SMALL)))),
];

fn round_trips(speaks: Speaks, body: usize, calls: u32, in_flight: u32) {
    drop(measured(round_trip, connected(speaks, body, calls, in_flight)));
}

/// The instructions of a path. callgrind's output stays in this folder, for callgrind_annotate.
fn count(path: &str, folder: &Path) -> Result<u64> {
    let output = folder.join(path.replace("::", "."));
    let mut valgrind = Command::new("valgrind");
    // What the environment holds moves the stack.
    valgrind.env_clear().args(["--tool=callgrind", "--cache-sim=no", "--toggle-collect=*paths::measured*"]);
    valgrind.arg(format!("--callgrind-out-file={}", output.display()));
    let ran = valgrind.arg(std::env::current_exe()?).arg(path).output().context("valgrind does not run")?;
    ensure!(ran.status.success(), "{path}: {}", String::from_utf8_lossy(&ran.stderr));
    let text = fs::read_to_string(&output)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let count = total.context("callgrind tells no total")?.trim().parse()?;
    ensure!(count > 0, "{path}: callgrind did not find the function that is measured");
    Ok(count)
}

fn main() -> Result<()> {
    // Cargo says what it runs a benchmark as.
    if let Some(name) = std::env::args().skip(1).find(|argument| argument != "--bench") {
        let Some((_, run)) = PATHS.iter().find(|(path, _)| *path == name) else {
            bail!("no path is named {name}")
        };
        run();
        return Ok(());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("callgrind");
    fs::create_dir_all(&folder)?;
    for (path, _) in PATHS {
        println!("{path} {}", count(path, &folder)?);
    }
    Ok(())
}
