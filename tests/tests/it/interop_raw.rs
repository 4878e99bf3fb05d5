//! Garbage from plain ZeroMQ, between good calls, in both directions.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::future::IntoFuture;
use std::time::Duration;

use callosum_runtime::{Builder, CallError, HandlerResult, Peer};
use callosum_tests::interop::{World, farewell, until};
use callosum_tests::interop_tests;
use callosum_tests::python::PyProcess;
use callosum_tests::rig::{had_left, longer_and_longer};
use serde_json::{Value, json};

interop_tests! {
    garbage_for_a_binder: tcp ipc;
    garbage_for_a_connector: tcp ipc;
    broken_replies: tcp;
    peer_that_is_silent_and_then_gone: tcp ipc;
    reader_that_is_late: tcp ipc;
}

fn garbage_for_a_binder(world: &World) {
    let builder = world
        .builder()
        .handle("echo", |args: Value, _| async move { HandlerResult::Ok(json!({"received": args["sent"]})) });
    let builder = builder.handle("twice", |_: Value, _| async move { HandlerResult::Ok(()) });
    let server = world.serve(builder);
    let mut attacker = PyProcess::spawn("raw.py", &["--connect", &server.endpoint()]);
    let report = attacker.answer();
    assert_eq!(report["bad"], json!([]), "{report:#}");
    assert_eq!(report["good"], report["sent"]);
    assert_eq!(report["disconnects"], json!([]));
    assert_eq!(report["failures"], json!({}), "no handler was given garbage");
    assert!(attacker.wait_exit().0.success());
    server.stop(world);
}

/// Starts `raw_server.py`.
fn raw_server(world: &World) -> (PyProcess, String) {
    let mut server = PyProcess::spawn("raw_server.py", &["--bind", &world.endpoint()]);
    let endpoint = server.wait_line("listening on ");
    (server, endpoint)
}

async fn call(peer: &Peer, method: &str, argument: Value) -> Result<Value, CallError> {
    peer.invoke(method, &argument).await
}

fn garbage_for_a_connector(world: &World) {
    const CALLS: u64 = 3;
    let (server, endpoint) = raw_server(world);
    let client = world.connect(world.builder(), &endpoint);
    let peer = client.peer();
    let report = world.block_on(async {
        for number in 0..CALLS {
            let argument = json!({"sent": number});
            let invocation = peer.invoke::<_, Value>("echo", &argument);
            let answer = match number {
                0 => invocation.await,
                _ => invocation.key(format!("größe {number}")).await,
            };
            assert_eq!(answer.unwrap(), json!({"received": number}));
        }
        // The refusal of a call in the junk may leave after the answer behind it has been handed out.
        let mut reports = 0;
        loop {
            reports += 1;
            let report = call(peer, "report", json!({})).await.unwrap();
            if report["ERROR"] == CALLS || reports == 100 {
                break (reports, report);
            }
        }
    });
    let (reports, report) = report;
    assert_eq!(report["FUNCTION"], CALLS + reports);
    assert_eq!(report["PING"], 1, "there was only one connection");
    assert_eq!(report["ERROR"], CALLS, "the call in each pile of junk is refused");
    assert_eq!(report["PONG"], 16 * CALLS, "as many as there are PINGs in the junk");
    for none in ["RESULT", "FAILURE", "CANCEL", "CANCELLED", "OTHER"] {
        assert_eq!(report[none], Value::Null, "{none}");
    }
    client.stop(world);
    farewell(server);
}

/// A reply that can't be read ends its call at once, and nothing else.
fn broken_replies(world: &World) {
    let (server, endpoint) = raw_server(world);
    let client = world.connect(world.builder(), &endpoint);
    let peer = client.peer();
    world.block_on(async {
        let list = call(peer, "broken", json!({"how": null})).await.unwrap();
        for how in list.as_array().unwrap() {
            let ended = call(peer, "broken", json!({"how": how})).await;
            match how.as_str() {
                Some("not JSON") => assert!(matches!(ended, Err(CallError::Decode(_))), "{ended:?}"),
                _ => assert!(matches!(ended, Err(CallError::Malformed(_))), "{how}: {ended:?}"),
            }
            let report = call(peer, "report", json!({})).await.unwrap();
            assert_eq!(report["PING"], 1, "there was only one connection");
        }
    });
    assert_eq!(peer.stats().calls_in_flight, 0);
    client.stop(world);
    farewell(server);
}

fn peer_that_is_silent_and_then_gone(world: &World) {
    let (mut server, endpoint) = raw_server(world);
    let client = world.connect(world.builder(), &endpoint);
    let peer = client.peer();
    world.block_on(async {
        assert!(call(peer, "report", json!({})).await.is_ok());
        for limit in longer_and_longer() {
            let ended = peer.invoke::<_, Value>("silent", &json!({})).timeout(limit).await;
            if had_left(&ended.unwrap_err()) {
                break;
            }
        }
        drop(peer.invoke::<_, Value>("silent", &json!({})).into_future());
        let report = call(peer, "report", json!({})).await.unwrap();
        // A call that is dropped before it has left never leaves.
        let (calls, cancels) = (report["FUNCTION"].as_u64().unwrap(), report["CANCEL"].as_u64().unwrap());
        assert_eq!(calls, cancels + 2, "{report}");

        let pending = peer.invoke::<_, Value>("silent", &json!({})).into_future();
        let gone = peer.invoke::<_, Value>("gone", &json!({})).into_future();
        for ended in [pending.await, gone.await] {
            assert!(matches!(ended, Err(CallError::Disconnected(_))), "{ended:?}");
        }
    });
    assert_eq!(peer.stats().calls_in_flight, 0);
    let (status, stderr) = server.wait_exit();
    assert!(status.success(), "{stderr}");
    client.stop(world);
}

/// Heartbeats, many of them.
fn heartbeats(world: &World) -> Builder {
    world
        .builder()
        .keepalive(Duration::from_millis(10), 10_000)
        .handle("late", |_: Value, _| async { HandlerResult::Ok(()) })
}

/// libzmq answers heartbeats while nobody reads its socket, also while a shutdown waits. What it has acknowledged can be read when the
/// connection is gone, and the shutdown does not wait until somebody does.
fn reader_that_is_late(world: &World) {
    let reads = |mut reader: PyProcess| {
        reader.send(&json!("read"));
        reader.wait_line("UPPER 2");
        let (status, stderr) = reader.wait_exit();
        assert!(status.success(), "{stderr}");
    };
    let server = world.serve(heartbeats(world));
    let mut reader = PyProcess::spawn("late_reader.py", &["--connect", &server.endpoint()]);
    reader.wait_line("called");
    until(|| server.binder.stats().requests_done == 1);
    server.stop(world);
    reads(reader);

    let mut reader = PyProcess::spawn("late_reader.py", &["--bind", &world.endpoint()]);
    let client = world.connect(heartbeats(world), &reader.wait_line("listening on "));
    reader.wait_line("called");
    until(|| client.connector.stats().requests_done == 1);
    client.stop(world);
    reads(reader);
}
