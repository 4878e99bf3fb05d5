//! CURVE between Rust and Python Callosum, either of them the server.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use callosum_runtime::auth::{
    AuthenticationError, CurveClient, CurveKeyPair, KeySet, RefusalStatus, generate_keys,
};
use callosum_runtime::{CallError, Context, DisconnectCause, Event, Events, HandlerResult, NotSent};
use callosum_tests::interop::{Client, Server, World, farewell};
use callosum_tests::interop_tests;
use callosum_tests::python::PyProcess;
use futures_util::StreamExt;
use serde_json::{Value, json};

interop_tests! {
    python_server_admits: tcp ipc;
    python_server_refuses: tcp;
    python_server_with_another_key: tcp;
    python_server_without_curve: tcp;
    python_server_with_curve_only: tcp;
    python_client_is_admitted: tcp ipc;
    python_client_is_refused: tcp;
    python_client_expects_another_key: tcp;
    python_client_without_curve: tcp;
    pyzmq_client: tcp ipc;
    pyzmq_twins: tcp ipc;
    pyzmq_client_with_an_unknown_key: tcp;
    pyzmq_client_expects_another_key: tcp;
    pyzmq_client_without_curve: tcp;
}

/// Arguments for a script that has these keys. Z85 may begin with a hyphen, so each is one word.
fn curve(keys: &CurveKeyPair, more: &str) -> Vec<String> {
    let secret = keys.secret_z85();
    vec![format!("--curve-public={}", keys.public()), format!("--curve-secret={}", *secret), more.to_owned()]
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

struct Keys {
    server: CurveKeyPair,
    client: CurveKeyPair,
}

impl Keys {
    fn new() -> Self {
        Self { server: generate_keys(), client: generate_keys() }
    }

    fn python_server(&self, world: &World, allowed: &CurveKeyPair) -> (PyProcess, String) {
        let args = curve(&self.server, &format!("--allow={}", allowed.public()));
        world.python_server(&words(&args))
    }

    fn connect(&self, world: &World, endpoint: &str) -> Client {
        let authenticator = CurveClient::new(self.client.clone(), self.server.public());
        world.connect(world.builder().authenticator(authenticator), endpoint)
    }

    fn serve(&self, world: &World, allowed: &CurveKeyPair) -> (Server, Events) {
        let keys = KeySet::new(self.server.clone());
        keys.admit(allowed.public(), "python");
        let builder = world
            .builder()
            .handle(
                "echo",
                |args: Value, _| async move { HandlerResult::Ok(json!({"received": args["sent"]})) },
            )
            .handle("whoami", |_: Value, call: Context| async move {
                HandlerResult::Ok(call.identity().map(|identity| identity.user_id.clone()))
            })
            .handle("twice", |_: Value, _| async move { HandlerResult::Ok(()) });
        let server = world.serve(builder.authenticator(keys));
        let events = server.binder.events();
        (server, events)
    }

    fn python_client(&self, server_key: &CurveKeyPair) -> Vec<String> {
        curve(&self.client, &format!("--server-key={}", server_key.public()))
    }
}

/// A call that ends at once, because the server does not accept us.
fn turned_away(world: &World, client: &Client) -> AuthenticationError {
    let called: Result<Value, _> =
        world.block_on(async { client.peer().invoke("echo", &json!({"sent": 1})).await });
    match called.unwrap_err() {
        CallError::NotSent(NotSent::Disconnected(DisconnectCause::Authentication(error))) => error,
        error => panic!("{error:?}"),
    }
}

fn python_server_admits(world: &World) {
    let keys = Keys::new();
    let (server, endpoint) = keys.python_server(world, &keys.client);
    let client = keys.connect(world, &endpoint);
    world.block_on(async {
        for size in [1, 100_000, 3_000_000] {
            let sent = "ä".repeat(size);
            let received: Value =
                client.peer().invoke("echo", &json!({"sent": sent})).key("k").await.unwrap();
            assert_eq!(received["received"], sent);
        }
        let failed: Result<Value, _> = client.peer().invoke("error", &json!({})).await;
        assert!(matches!(failed, Err(CallError::Remote(_))), "{failed:?}");
        assert_eq!(client.peer().info().public_key, Some(keys.server.public()));
    });
    client.stop(world);
    farewell(server);
}

fn python_server_refuses(world: &World) {
    let keys = Keys::new();
    let (server, endpoint) = keys.python_server(world, &generate_keys());
    let client = keys.connect(world, &endpoint);
    let status = Some(RefusalStatus::Denied);
    assert_eq!(turned_away(world, &client), AuthenticationError::Refused { status });
    client.stop(world);
    farewell(server);
}

fn python_server_with_another_key(world: &World) {
    let keys = Keys::new();
    let (server, endpoint) =
        Keys { server: generate_keys(), client: generate_keys() }.python_server(world, &keys.client);
    let client = keys.connect(world, &endpoint);
    assert_eq!(turned_away(world, &client), AuthenticationError::BrokenOff { ours: "CURVE" });
    client.stop(world);
    farewell(server);
}

fn python_server_without_curve(world: &World) {
    let (server, endpoint) = world.python_server(&[]);
    let client = Keys::new().connect(world, &endpoint);
    // libzmq does not say what it speaks instead.
    assert_eq!(turned_away(world, &client), AuthenticationError::BrokenOff { ours: "CURVE" });
    client.stop(world);
    farewell(server);
}

fn python_server_with_curve_only(world: &World) {
    let keys = Keys::new();
    let (server, endpoint) = keys.python_server(world, &keys.client);
    let client = world.connect(world.builder(), &endpoint);
    assert_eq!(turned_away(world, &client), AuthenticationError::BrokenOff { ours: "NULL" });
    client.stop(world);
    farewell(server);
}

fn python_client_is_admitted(world: &World) {
    let keys = Keys::new();
    let (server, _) = keys.serve(world, &keys.client);
    let mut args = keys.python_client(&keys.server);
    args.push("--serve".to_owned());
    let mut client = world.python_client(&server, &words(&args));
    let call = |method: &str, body: Value| json!({"op": "call", "method": method, "body": body, "key": "k", "timeout": 30});
    assert_eq!(client.request(&call("echo", json!({"sent": "größe"}))), json!({"ok": {"received": "größe"}}));
    assert_eq!(client.request(&call("whoami", json!({}))), json!({"ok": "python"}));
    let large = json!({"op": "large", "bytes": 3_000_000, "timeout": 30});
    assert_eq!(client.request(&large)["ok"]["bytes"], 3_000_000);
    let peer = server.binder.peers().remove(0);
    let info = peer.info();
    assert_eq!(
        (info.public_key, info.identity.unwrap().user_id.as_str()),
        (Some(keys.client.public()), "python")
    );
    let sum: Value =
        world.block_on(async { peer.invoke("agent.add", &json!({"a": 1, "b": 2})).await }).unwrap();
    assert_eq!(sum["result"], 3);
    farewell(client);
    server.stop(world);
}

/// A Python client that does not get in gives up by itself, after its handshake's timeout; the binder knows why at once.
fn gives_up(world: &World, server: Server, events: Events, args: &[String]) -> DisconnectCause {
    let (cause, mut client) = refused(world, &server, events, args);
    let (status, stderr) = client.wait_exit();
    assert!(!status.success() && stderr.contains("AuthenticationError"), "{status}\n{stderr}");
    server.stop(world);
    cause
}

/// A Python client that the server refuses, for this reason.
fn refused(
    world: &World,
    server: &Server,
    mut events: Events,
    args: &[String],
) -> (DisconnectCause, PyProcess) {
    let endpoint = server.endpoint();
    let args = [&["--connect", &endpoint, "--handshake-timeout", "0.5"], &words(args)[..]].concat();
    let client = PyProcess::spawn("client.py", &args);
    let cause = world.block_on(async {
        loop {
            match events.next().await.unwrap() {
                Event::Refused { cause, .. } => break cause,
                Event::Connected(peer) => panic!("{:?}", peer.info()),
                _ => {}
            }
        }
    });
    (cause, client)
}

fn python_client_is_refused(world: &World) {
    let keys = Keys::new();
    let (server, events) = keys.serve(world, &generate_keys());
    let public_key = keys.client.public();
    let cause = gives_up(world, server, events, &keys.python_client(&keys.server));
    let DisconnectCause::Authentication(error) = cause else { panic!("{cause:?}") };
    assert_eq!(error, AuthenticationError::NotAdmitted { public_key });
}

fn python_client_expects_another_key(world: &World) {
    let keys = Keys::new();
    let (server, events) = keys.serve(world, &keys.client);
    let cause = gives_up(world, server, events, &keys.python_client(&generate_keys()));
    assert!(matches!(cause, DisconnectCause::Protocol(_)), "{cause:?}");
}

fn python_client_without_curve(world: &World) {
    let keys = Keys::new();
    let (server, events) = keys.serve(world, &keys.client);
    // Whether the client learns of it is up to libzmq, which gives up such a connection. If it does so before the client has sent
    // its PING, Python Callosum waits for ever for room to send it.
    let (cause, _client) = refused(world, &server, events, &[]);
    server.stop(world);
    // Whichever side is first to see that they don't match closes the connection; libzmq's does so without a word.
    assert!(matches!(&cause, DisconnectCause::PeerClosed | DisconnectCause::Authentication(_)), "{cause:?}");
}

/// Plain pyzmq under CURVE, with garbage between its good calls.
fn pyzmq_client(world: &World) {
    let keys = Keys::new();
    let (server, _) = keys.serve(world, &keys.client);
    let args = keys.python_client(&keys.server);
    let endpoint = server.endpoint();
    let mut attacker = PyProcess::spawn("raw.py", &[&["--connect", &endpoint], &words(&args)[..]].concat());
    let report = attacker.answer();
    assert_eq!(report["bad"], json!([]), "{report:#}");
    assert_eq!(report["good"], report["sent"]);
    assert!(attacker.wait_exit().0.success());
    server.stop(world);
}

/// Two clients with one routing id, whose calls have the same names: each gets its own replies, as the user that its key is.
fn pyzmq_twins(world: &World) {
    const ROUNDS: usize = 20;
    let keys = Keys::new();
    let twin = generate_keys();
    let allowed = KeySet::new(keys.server.clone());
    allowed.admit(keys.client.public(), "one");
    allowed.admit(twin.public(), "other");
    let server = world.serve(world.builder().authenticator(allowed).handle(
        "whoami",
        |_: Value, call: Context| async move {
            HandlerResult::Ok(call.identity().map(|identity| identity.user_id.clone()))
        },
    ));
    let mut args = keys.python_client(&keys.server);
    let secret = twin.secret_z85();
    args.extend([format!("--twin-public={}", twin.public()), format!("--twin-secret={}", *secret)]);
    let endpoint = server.endpoint();
    let mut twins = PyProcess::spawn("dealer.py", &[&["--connect", &endpoint], &words(&args)[..]].concat());
    assert_eq!(twins.answer(), json!([vec!["one"; ROUNDS], vec!["other"; ROUNDS]]));
    assert!(twins.wait_exit().0.success());
    server.stop(world);
}

/// A plain ZeroMQ client that does not get in: it is closed, has no answer, and the binder says why.
fn stranger(world: &World, keys: &Keys, allowed: &CurveKeyPair, args: &[String]) -> DisconnectCause {
    let (server, mut events) = keys.serve(world, allowed);
    let endpoint = server.endpoint();
    let mut stranger = PyProcess::spawn("dealer.py", &[&["--connect", &endpoint], &words(args)[..]].concat());
    assert_eq!(stranger.answer(), json!({"answered": false, "closed": true}));
    let cause = world.block_on(async {
        loop {
            match events.next().await.unwrap() {
                Event::Refused { cause, .. } => break cause,
                Event::Connected(peer) => panic!("{:?}", peer.info()),
                _ => {}
            }
        }
    });
    assert!(stranger.wait_exit().0.success());
    server.stop(world);
    cause
}

fn pyzmq_client_with_an_unknown_key(world: &World) {
    let keys = Keys::new();
    let cause = stranger(world, &keys, &generate_keys(), &keys.python_client(&keys.server));
    let DisconnectCause::Authentication(error) = cause else { panic!("{cause:?}") };
    assert_eq!(error, AuthenticationError::NotAdmitted { public_key: keys.client.public() });
}

fn pyzmq_client_expects_another_key(world: &World) {
    let keys = Keys::new();
    let cause = stranger(world, &keys, &keys.client, &keys.python_client(&generate_keys()));
    assert!(matches!(cause, DisconnectCause::Protocol(_)), "{cause:?}");
}

fn pyzmq_client_without_curve(world: &World) {
    let keys = Keys::new();
    let cause = stranger(world, &keys, &keys.client, &[]);
    // Whichever side is first to see that they don't match closes the connection; libzmq's does so without a word.
    assert!(matches!(&cause, DisconnectCause::PeerClosed | DisconnectCause::Authentication(_)), "{cause:?}");
}
