//! What strangers and peers can make an endpoint hold, through sockets and by a counting allocator.

use std::io::IoSlice;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_hosts::Host;
use callosum_proto::OrderingKey;
use callosum_proto::Role;
use callosum_proto::internals::wire::Payload;
use callosum_proto::internals::wire::dialect2::Record;
use callosum_proto::zmtp::{CurveKeyPair, Link, LinkConfig, Mechanism};
use callosum_runtime::auth::{Admission, FnAuthenticator, generate_keys};
use callosum_runtime::rt::BoxStream;
use callosum_runtime::{HandlerResult, Limits};
use callosum_tests::raw::{RawPeer, open, part, whole};
use callosum_tests::rig::{Rig, Transport, on};
use futures_util::future::join_all;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use peak_alloc::PeakAlloc;
use serde_json::Value;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Handshakes that a binder allows by default.
const HANDSHAKES: usize = 1_024;

/// Runs both bodies one after another, so that they don't count each other's bytes.
fn alone(test: impl FnOnce()) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    test();
}

fn written(link: &mut Link) -> Vec<u8> {
    let mut bytes = Vec::new();
    while link.pending_output() > 0 {
        let mut slices = [IoSlice::new(&[]); 4];
        let filled = link.output(&mut slices);
        let piece: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
        link.advance_output(piece.len());
        bytes.extend(piece);
    }
    bytes
}

/// A client's greeting and HELLO, which is the same for any connection, and what follows of a command that does not end,
/// as far as it may go.
fn greeting_and_hello(keys: &CurveKeyPair) -> Vec<u8> {
    let now = Instant::now();
    let (mut client, mut server) = (LinkConfig::new(Role::Connector), LinkConfig::new(Role::Binder));
    client.mechanism = Mechanism::CurveClient { keys: generate_keys(), server: keys.public() };
    server.mechanism = Mechanism::CurveServer { keys: keys.clone() };
    let (mut client, mut server) = (Link::new(&client, [1; 32], now), Link::new(&server, [2; 32], now));
    let mut said = written(&mut client);
    client.handle_input(now, &written(&mut server)).expect("it is a greeting");
    said.extend(written(&mut client));
    let rest = 8 * KIB - said.len() - 9;
    said.push(6);
    said.extend((rest as u64).to_be_bytes());
    said.resize(said.len() + rest - 1, 0);
    said
}

/// Opens this many connections, each of which says so much and nothing more.
async fn half_open(rig: &Rig, binder: &callosum_runtime::Binder, say: &[u8], count: usize) -> Vec<BoxStream> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = rig.open(&binder.endpoints()[0]).await;
        stream.write_all(say).await.expect("the binder reads");
        streams.push(stream);
    }
    // The binder has read everything once it has answered: the greeting, and WELCOME where it has had HELLO.
    let answer = if say.len() > 64 { 64 + 170 } else { 64 };
    for stream in &mut streams {
        let mut answered = vec![0; answer];
        stream.read_exact(&mut answered).await.expect("the binder answers");
    }
    streams
}

/// As many unfinished handshakes as there may be, and as many again that push them out.
async fn handshakes(rig: Rig) {
    let keys = generate_keys();
    let said = greeting_and_hello(&keys);
    let check = FnAuthenticator::new(keys, |_| async { Admission::Refuse });
    let (binder, driver) = rig.serve(rig.builder().authenticator(check)).await;
    drop(half_open(&rig, &binder, &said, 10).await);
    for (name, say, most) in
        [("a greeting", &said[..64], 12 * MIB), ("HELLO and a part of INITIATE", &said[..], 24 * MIB)]
    {
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        let mut streams = half_open(&rig, &binder, say, HANDSHAKES).await;
        let held = HEAP.peak_usage() - before;
        println!("{HANDSHAKES} that have sent {name}: {held} bytes");
        assert!(held < most, "{name}: {held}");
        // A new connection takes the place of another.
        for _ in 0..4 {
            streams.extend(half_open(&rig, &binder, say, HANDSHAKES / 4).await);
            streams.drain(..HANDSHAKES / 4);
        }
        let held = HEAP.peak_usage() - before;
        println!("with as many again: {held} bytes");
        assert!(held < most + most / 2, "{name}, twice: {held}");
    }
    driver.cut().await;
}

/// Calls that are cancelled at once, by the hundred thousand: no more is held at the end than after the first thousands.
async fn cancels(rig: Rig) {
    const BATCH: u32 = 250;
    let limits = Limits::default().max_concurrency(4);
    let builder = rig.builder().limits(limits);
    let (binder, driver) =
        rig.serve(builder.handle("hold", |_: Value, _| std::future::pending::<HandlerResult<()>>())).await;
    let mut attacker = RawPeer::connect(rig.open(&binder.endpoints()[0]).await).await;
    let mut flood = async |from: u32, to: u32| {
        for first in (from..to).step_by(BATCH as usize) {
            for seq in first..first + BATCH {
                for payload in [Payload::Function(Bytes::from_static(b"1")), Payload::Cancel] {
                    let message = attacker.message(seq, ("hold", OrderingKey::none()), payload, false);
                    attacker.queue(message);
                }
            }
            attacker.flush().await;
            for _ in 0..BATCH {
                assert_eq!(attacker.hear().await.1, Payload::Cancelled);
            }
        }
    };
    flood(0, 5_000).await;
    HEAP.reset_peak_usage();
    flood(5_000, 10_000).await;
    let at_first = HEAP.peak_usage();
    HEAP.reset_peak_usage();
    flood(10_000, 100_000).await;
    let peak = HEAP.peak_usage();
    println!("{at_first} bytes at most in the first calls, {peak} in the others");
    assert!(peak < at_first + 512 * KIB, "{at_first}, then {peak}");
    drop(attacker);
    driver.cut().await;
}

/// The same in dialect 2, half of them in the middle of an argument, with data for calls that have ended.
async fn resets(rig: Rig) {
    const BATCH: u64 = 250;
    let limits = Limits::default().max_concurrency(4);
    let builder = rig.builder().limits(limits);
    let (binder, driver) =
        rig.serve(builder.handle("hold", |_: Value, _| std::future::pending::<HandlerResult<()>>())).await;
    let plenty = (1 << 40, 1 << 40);
    let mut attacker = RawPeer::connect_2(rig.open(&binder.endpoints()[0]).await, plenty).await;
    let mut flood = async |from: u64, to: u64| {
        for first in (from..to).step_by(BATCH as usize) {
            let mut records = Vec::new();
            for n in first..first + BATCH {
                let call = 2 * n;
                let argument = if n % 2 == 0 { whole("1") } else { part("1") };
                let late = Record::Data { call, offset: 1, piece: part("1") };
                records.extend([open(call, "hold", argument), Record::Cancel { call }, late]);
            }
            attacker.say_records(&records).await;
            for _ in 0..BATCH {
                let (_, answer) = attacker.hear_answer().await;
                assert!(matches!(answer, Record::Fail { .. }), "{answer:?}");
            }
        }
    };
    flood(0, 5_000).await;
    HEAP.reset_peak_usage();
    flood(5_000, 10_000).await;
    let at_first = HEAP.peak_usage();
    HEAP.reset_peak_usage();
    flood(10_000, 50_000).await;
    let peak = HEAP.peak_usage();
    println!("{at_first} bytes at most in the first calls, {peak} in the others");
    assert!(peak < at_first + 512 * KIB, "{at_first}, then {peak}");
    drop(attacker);
    driver.cut().await;
}

/// Waits at most so long until connections hold at most so many bytes each.
async fn expect_at_most(most: usize, within: Duration, rig: &Rig, name: &str, held: impl Fn() -> usize) {
    let at_first = held();
    for _ in 0..10 * within.as_secs() {
        if held() <= most {
            break;
        }
        rig.pause(Duration::from_millis(100)).await;
    }
    println!("{name}: {at_first} bytes a connection at first, {} once it is quiet", held());
    assert!(held() <= most, "{name}: {} bytes a connection", held());
}

/// What a connection holds that has been quiet for a second, with both ends of its socket.
async fn idle(rig: Rig) {
    const CONNECTIONS: usize = 512;
    const MOST: usize = 8 * KIB;
    let (server, client) = (generate_keys(), generate_keys());
    let check = FnAuthenticator::new(server.clone(), |_| async { Admission::Admit("client".into()) });
    for (name, builder) in [("NULL", rig.builder()), ("CURVE", rig.builder().authenticator(check))] {
        let (binder, driver) = rig.serve(builder).await;
        let mut streams = Vec::new();
        let mut open = async |count: usize| {
            for _ in 0..count {
                let stream = rig.open(&binder.endpoints()[0]).await;
                let peer = match name {
                    "NULL" => RawPeer::connect(stream).await,
                    _ => RawPeer::connect_curve(stream, client.clone(), server.public()).await,
                };
                streams.push(peer.into_stream());
            }
        };
        // What is held by all together grows in steps.
        open(CONNECTIONS).await;
        // They are quiet too, or else what they give back later would hide what the others keep.
        rig.pause(Duration::from_secs(2)).await;
        let before = HEAP.current_usage();
        open(CONNECTIONS).await;
        let held = || HEAP.current_usage().saturating_sub(before) / CONNECTIONS;
        expect_at_most(MOST, Duration::from_secs(10), &rig, name, held).await;
        driver.cut().await;
    }
}

/// What a connection holds, with both of its ends, that has carried large calls and has been quiet since. What the allocator keeps of
/// the rest is not counted.
async fn used(rig: Rig) {
    const CONNECTIONS: usize = 64;
    const CALLS: usize = 3;
    const BODY: usize = 256 * KIB;
    const MOST: usize = 32 * KIB;
    let builder = rig.builder().handle_raw("echo", async |body: Bytes, _| HandlerResult::Ok(body));
    let (binder, driver) = rig.serve(builder).await;
    let use_one = async |tag: usize| {
        let (connector, driver) = rig.connect(rig.builder(), &binder.endpoints()[0]);
        for _ in 0..CALLS {
            let body = Bytes::from(vec![tag as u8; BODY]);
            let echoed = connector.peer().invoke_raw("echo", body.clone()).await.expect("it is echoed");
            assert!(echoed == body);
        }
        (connector, driver)
    };
    // What all have together, such as the buffers of threads.
    let first = use_one(0).await;
    rig.pause(Duration::from_secs(2)).await;
    let before = HEAP.current_usage();
    let others = join_all((1..=CONNECTIONS).map(use_one)).await;
    let held = || HEAP.current_usage().saturating_sub(before) / CONNECTIONS;
    expect_at_most(MOST, Duration::from_secs(30), &rig, "used", held).await;
    for (_, driver) in others.into_iter().chain([first]) {
        driver.cut().await;
    }
    driver.cut().await;
}

#[test]
fn used_connections_on_tokio() {
    alone(|| on(Host::Tokio, "used on tokio", Transport::Tcp, used));
}

#[test]
fn used_connections_on_async_std() {
    alone(|| on(Host::AsyncStd, "used on async-std", Transport::Tcp, used));
}

#[test]
fn idle_connections_on_tokio() {
    alone(|| on(Host::Tokio, "idle on tokio", Transport::Tcp, idle));
}

#[test]
fn idle_connections_on_async_std() {
    alone(|| on(Host::AsyncStd, "idle on async-std", Transport::Tcp, idle));
}

#[test]
fn unfinished_handshakes_on_tokio() {
    alone(|| on(Host::Tokio, "handshakes on tokio", Transport::Tcp, handshakes));
}

#[test]
fn unfinished_handshakes_on_async_std() {
    alone(|| on(Host::AsyncStd, "handshakes on async-std", Transport::Tcp, handshakes));
}

#[test]
fn cancelled_calls_on_tokio() {
    alone(|| on(Host::Tokio, "cancels on tokio", Transport::Tcp, cancels));
}

#[test]
fn cancelled_calls_on_async_std() {
    alone(|| on(Host::AsyncStd, "cancels on async-std", Transport::Tcp, cancels));
}

#[test]
fn calls_reset_in_dialect_2_on_tokio() {
    alone(|| on(Host::Tokio, "resets on tokio", Transport::Tcp, resets));
}

#[test]
fn calls_reset_in_dialect_2_on_async_std() {
    alone(|| on(Host::AsyncStd, "resets on async-std", Transport::Tcp, resets));
}
