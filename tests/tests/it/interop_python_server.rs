//! Rust connectors call a Python Callosum server.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::future::IntoFuture;
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::internals::wire::DecodeError;
use callosum_runtime::{CallError, Codec, Dialect, InvokeError, Limits, Metadata, NotSent, Peer};
use callosum_tests::interop::{World, farewell};
use callosum_tests::interop_tests;
use callosum_tests::rig::{had_left, longer_and_longer};
use futures_util::future::join_all;
use serde_json::{Value, json};

interop_tests! {
    json_results: tcp ipc;
    msgpack_results: tcp ipc;
    raw_results: tcp ipc;
    failure: tcp ipc;
    timeout: tcp ipc;
    cancellation: tcp ipc;
    compressed_bodies: tcp ipc;
    thousand_calls_at_once: tcp ipc;
    nine_mebibytes: tcp ipc;
    bodies_at_and_past_the_limit: tcp;
    peer_killed_amid_calls: tcp ipc;
    unknown_method_makes_python_deaf: tcp;
    streams_and_metadata_are_not_sent: tcp ipc;
}

/// A long time for a call that is not meant to end by itself, in seconds.
const LONG: u64 = 600;

async fn call(peer: &Peer, method: &str, argument: Value) -> Result<Value, CallError> {
    peer.invoke(method, &argument).await
}

async fn assert_echoes(peer: &Peer) {
    assert_eq!(call(peer, "echo", json!({"sent": "é"})).await.unwrap(), json!({"received": "é"}));
}

/// Waits until Python has begun with so many calls of a method.
async fn until_begun(peer: &Peer, method: &str, calls: u64) {
    while begun(peer, method).await < calls {}
}

/// How many calls of a method Python has begun with.
async fn begun(peer: &Peer, method: &str) -> u64 {
    call(peer, "count", json!({})).await.unwrap()[method].as_u64().unwrap_or(0)
}

async fn until_cancelled(peer: &Peer, calls: u64) {
    while call(peer, "cancelled", json!({})).await.unwrap().as_u64().unwrap() < calls {}
}

fn json_results(world: &World) {
    results(world, Codec::Json, "json");
}

fn msgpack_results(world: &World) {
    results(world, Codec::MsgPack, "msgpack");
}

fn results(world: &World, codec: Codec, name: &str) {
    let (server, endpoint) = world.python_server(&["--codec", name]);
    let client = world.connect(world.builder().codec(codec), &endpoint);
    let values = [
        json!(null),
        json!(false),
        json!(-1),
        json!(u32::MAX),
        json!(1.5),
        json!(""),
        json!("größe 日本 🚀 \0"),
        json!("x".repeat(100_000)),
        json!([1, [], {"ä": {"b": [null]}}]),
    ];
    world.block_on(async {
        for value in values {
            let argument = json!({"sent": value});
            let expected = json!({"received": value});
            let unkeyed: Value = client.peer().invoke("echo", &argument).await.unwrap();
            assert_eq!(unkeyed, expected);
            for key in ["", "k", "Schlüssel 🔑"] {
                let keyed: Value = client.peer().invoke("echo", &argument).key(key).await.unwrap();
                assert_eq!(keyed, expected, "with key {key:?}");
            }
        }
        let sum = call(client.peer(), "add", json!({"a": -3, "b": 45})).await.unwrap();
        assert_eq!(sum, json!({"result": 42}));
        assert!(client.peer().ping().await.is_ok());
    });
    assert_eq!(client.peer().stats().anomalies, 0);
    client.stop(world);
    farewell(server);
}

/// As a Thrift serializer would have it.
fn raw_results(world: &World) {
    let (server, endpoint) = world.python_server(&["--codec", "raw"]);
    let client = world.connect(world.builder(), &endpoint);
    world.block_on(async {
        for body in [Bytes::new(), (0..=255).collect(), Bytes::from(vec![0xc1; 70_000])] {
            assert_eq!(client.peer().invoke_raw("echo_raw", body.clone()).await.unwrap(), body);
            assert_eq!(client.peer().invoke_raw("echo_raw", body.clone()).key("k").await.unwrap(), body);
        }
    });
    client.stop(world);
    farewell(server);
}

fn failure(world: &World) {
    let (server, endpoint) = world.python_server(&[]);
    let client = world.connect(world.builder(), &endpoint);
    world.block_on(async {
        let Err(CallError::Remote(info)) = call(client.peer(), "error", json!({})).await else {
            panic!("the handler divides by zero");
        };
        assert_eq!(&*info.name, "ZeroDivisionError");
        assert!(info.repr.contains("division by zero"), "{}", info.repr);
        assert!(info.traceback.starts_with("Traceback"), "{}", info.traceback);
        assert!(info.traceback.contains("return 1 / 0"), "{}", info.traceback);
        assert_echoes(client.peer()).await;
    });
    client.stop(world);
    farewell(server);
}

/// Python's exit ordering does not heed CANCEL: the RESULT comes after all, and means nothing.
fn timeout(world: &World) {
    let (server, endpoint) = world.python_server(&["--ordering", "exit"]);
    let client = world.connect(world.builder(), &endpoint);
    let peer = client.peer();
    world.block_on(async {
        assert_echoes(peer).await;
        let late = json!({"seconds": 1});
        let short = Duration::from_millis(100);
        let calls: Vec<_> = ["a", "b", "c"]
            .map(|key| peer.invoke::<_, Value>("delay", &late).key(key).timeout(short).into_future())
            .into();
        let mut left = 0;
        for ended in join_all(calls).await {
            let Err(CallError::TimedOut { sent }) = ended else { panic!("{ended:?}") };
            left += u64::from(sent);
        }
        // Python's timers go off in their order: this one comes after the late results.
        let waited = call(peer, "delay", json!({"seconds": 1.1})).await.unwrap();
        assert_eq!(waited, json!({"waited": 1.1}));
        assert_echoes(peer).await;
        assert_eq!(peer.stats().anomalies, left, "the late results");
    });
    let stats = peer.stats();
    assert_eq!((stats.calls_failed, stats.calls_in_flight), (3, 0));
    client.stop(world);
    farewell(server);
}

fn cancellation(world: &World) {
    let (server, endpoint) = world.python_server(&["--ordering", "serialized"]);
    let client = world.connect(world.builder(), &endpoint);
    let peer = client.peer();
    let long = json!({"seconds": LONG});
    world.block_on(async {
        let dropped = peer.invoke::<_, Value>("delay", &long).key("dropped").into_future();
        until_begun(peer, "delay", 1).await;
        drop(dropped);
        until_cancelled(peer, 1).await;

        for limit in longer_and_longer().skip(4) {
            let timed = peer.invoke::<_, Value>("delay", &long).key("timed out").timeout(limit);
            let ended = timed.await;
            assert!(matches!(ended, Err(CallError::TimedOut { .. })), "{ended:?}");
            // Unless the time was over before Python had begun.
            if begun(peer, "delay").await >= 2 {
                break;
            }
        }
        until_cancelled(peer, 2).await;

        // The keys are free again.
        for key in ["dropped", "timed out"] {
            let at_once = json!({"seconds": 0});
            let waited: Value = peer.invoke("delay", &at_once).key(key).await.unwrap();
            assert_eq!(waited, json!({"waited": 0}));
        }
    });
    assert_eq!(peer.stats().calls_in_flight, 0);
    client.stop(world);
    farewell(server);
}

fn compressed_bodies(world: &World) {
    const SIZE: usize = 1 << 20;
    for arguments in [&[][..], &["--compress"]] {
        let (server, endpoint) = world.python_server(arguments);
        let client = world.connect(world.builder(), &endpoint);
        let text = "größe ".repeat(SIZE / 7);
        world.block_on(async {
            for sent in ["", "short", &text] {
                let argument = json!({"sent": sent});
                let answer: Value = client.peer().invoke("echo", &argument).compress(true).await.unwrap();
                assert_eq!(answer, json!({"received": sent}));
            }
            let failed = client.peer().invoke::<_, Value>("error", &json!({})).compress(true).await;
            assert!(matches!(failed, Err(CallError::Remote(_))), "{failed:?}");
        });
        let stats = client.peer().stats();
        assert!(stats.bytes_sent < SIZE as u64 / 4, "{} bytes sent", stats.bytes_sent);
        let small_answers = stats.bytes_received < SIZE as u64 / 4;
        assert_eq!(small_answers, !arguments.is_empty(), "{} bytes received", stats.bytes_received);
        client.stop(world);
        farewell(server);
    }
}

fn thousand_calls_at_once(world: &World) {
    let (server, endpoint) = world.python_server(&[]);
    let client = world.connect(world.builder(), &endpoint);
    world.block_on(async {
        let calls = (0..1_000).map(|number| {
            let peer = client.peer();
            async move {
                let argument = json!({"sent": number});
                let invocation = peer.invoke::<_, Value>("echo", &argument);
                let answer = match number % 3 {
                    0 => invocation.await,
                    key => invocation.key(format!("key {key}")).await,
                };
                assert_eq!(answer.unwrap(), json!({"received": number}));
            }
        });
        join_all(calls).await;
    });
    let stats = client.peer().stats();
    assert_eq!((stats.calls_done, stats.calls_failed, stats.calls_in_flight), (1_000, 0, 0));
    client.stop(world);
    farewell(server);
}

fn nine_mebibytes(world: &World) {
    let (server, endpoint) = world.python_server(&["--codec", "raw"]);
    let client = world.connect(world.builder(), &endpoint);
    let body: Bytes = (0..9 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    world.block_on(async {
        let small = Bytes::from_static(b"small");
        let answers = [&body, &small, &body]
            .map(|body| client.peer().invoke_raw("echo_raw", body.clone()).into_future());
        let answers = join_all(answers).await;
        for (answer, sent) in answers.into_iter().zip([&body, &small, &body]) {
            assert!(answer.unwrap() == *sent, "another body came back");
        }
    });
    client.stop(world);
    farewell(server);
}

fn bodies_at_and_past_the_limit(world: &World) {
    const LIMIT: usize = 64 * 1024;
    let (server, endpoint) = world.python_server(&["--codec", "raw"]);
    let limits = Limits::default().max_body(LIMIT);
    let client = world.connect(world.builder().limits(limits), &endpoint);
    let peer = client.peer();
    world.block_on(async {
        let largest = Bytes::from(vec![b'x'; LIMIT]);
        assert_eq!(peer.invoke_raw("echo_raw", largest.clone()).await.unwrap(), largest);

        let larger = Bytes::from(vec![b'x'; LIMIT + 1]);
        let refused = peer.invoke_raw("echo_raw", larger.clone()).await;
        let Err(CallError::NotSent(NotSent::Refused(error))) = refused else { panic!("{refused:?}") };
        assert_eq!(error, InvokeError::BodyTooLarge { size: LIMIT + 1, limit: LIMIT });

        // The answer is longer than the question: `received` stands where `sent` was.
        let padding = "x".repeat(LIMIT - r#"{"sent":""}"#.len());
        let question = Bytes::from(format!(r#"{{"sent":"{padding}"}}"#));
        assert_eq!(question.len(), LIMIT);
        for compressed in [false, true] {
            let answer = peer.invoke_raw("echo", question.clone()).compress(compressed).await;
            let Err(CallError::Malformed(DecodeError::TooLarge { size, limit, .. })) = answer else {
                panic!("{answer:?}");
            };
            assert!(size > LIMIT && limit == LIMIT, "{size} {limit}");
        }
        assert_eq!(peer.invoke_raw("echo_raw", largest.clone()).await.unwrap(), largest);
    });
    client.stop(world);
    farewell(server);
}

fn peer_killed_amid_calls(world: &World) {
    let (server, endpoint) = world.python_server(&[]);
    let client = world.connect(world.builder(), &endpoint);
    let peer = client.peer();
    let long = json!({"seconds": LONG});
    let calls: Vec<_> = (0..10)
        .map(|number| match number % 2 {
            0 => peer.invoke::<_, Value>("delay", &long).into_future(),
            _ => peer.invoke::<_, Value>("delay", &long).key(number.to_string()).into_future(),
        })
        .collect();
    world.block_on(until_begun(peer, "delay", 10));
    let before = peer.stats();

    // Killed, not told to end.
    drop(server);
    for ended in world.block_on(join_all(calls)) {
        assert!(matches!(ended, Err(CallError::Disconnected(_))), "{ended:?}");
    }
    let stats = peer.stats();
    assert_eq!(stats.calls_failed, before.calls_failed + 10);
    assert_eq!((stats.calls_done, stats.calls_in_flight), (before.calls_done, 0));

    let waiting = peer.invoke::<_, Value>("echo", &json!({"sent": 1})).into_future();
    let (server, _) = world.python_server_at(&endpoint, &[]);
    assert_eq!(world.block_on(waiting).unwrap(), json!({"received": 1}));
    world.block_on(async {
        assert_echoes(peer).await;
        let counts = call(peer, "count", json!({})).await.unwrap();
        assert_eq!(counts, json!({"echo": 2, "count": 1}), "nothing was sent again");
    });
    client.stop(world);
    farewell(server);
}

/// Python's receive loop ends with the first call of a method that it does not know. All of our calls end even so.
fn unknown_method_makes_python_deaf(world: &World) {
    let (server, endpoint) = world.python_server(&[]);
    let client = world.connect(world.builder(), &endpoint);
    let peer = client.peer();
    let pending = peer.invoke::<_, Value>("delay", &json!({"seconds": LONG})).no_timeout().into_future();
    world.block_on(async {
        assert_echoes(peer).await;
        until_begun(peer, "delay", 1).await;
        for method in ["no such method", "echo"] {
            for limit in longer_and_longer().skip(4) {
                let ended = peer.invoke::<_, Value>(method, &json!({"sent": 1})).timeout(limit).await;
                if had_left(&ended.unwrap_err()) {
                    break;
                }
            }
        }
        assert!(peer.is_connected());
    });
    drop(server);
    let ended = world.block_on(pending);
    assert!(matches!(ended, Err(CallError::Disconnected(_))), "{ended:?}");
    assert_eq!(peer.stats().calls_in_flight, 0);
    client.stop(world);
}

/// What needs dialect 2 fails before anything of it reaches Python, which would not survive it.
fn streams_and_metadata_are_not_sent(world: &World) {
    let (server, endpoint) = world.python_server(&["--codec", "json"]);
    // Before it is known who is there, and afterwards.
    let client = world.connect(world.builder(), &endpoint);
    world.block_on(async {
        let peer = client.peer();
        for _ in 0..2 {
            let mut metadata = Metadata::new();
            metadata.insert("trace", "42").unwrap();
            let argument = json!({"sent": "x"});
            let call = peer.invoke::<_, Value>("echo", &argument).metadata(metadata);
            let refused = InvokeError::NeedsDialect2;
            let not_sent =
                |error| matches!(error, CallError::NotSent(NotSent::Refused(error)) if error == refused);
            assert!(not_sent(call.await.unwrap_err()));
            let streamed = match peer.open("echo").stream() {
                Ok((_writer, answer)) => answer.await.unwrap_err(),
                Err(error) => error,
            };
            assert!(not_sent(streamed));
            assert_echoes(peer).await;
        }
        assert_eq!((peer.info().dialect, peer.stats().downgrades), (Some(Dialect::One), 1));
    });
    client.stop(world);
    farewell(server);
}
