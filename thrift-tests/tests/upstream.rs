//! The programs of Python Callosum's own demonstration, unmodified, against Rust, and Rust's against them.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::future::IntoFuture;
use std::time::Duration;

use callosum_runtime::auth::{CurveClient, CurveKeyPair, KeySet, generate_keys};
use callosum_runtime::{Builder, CallError};
use callosum_tests::interop::World;
use callosum_tests::interop_tests;
use callosum_tests::python::{PyProcess, upstream_examples};
use callosum_thrift::{ThriftError, register};
use callosum_thrift_tests::Simple;
use callosum_thrift_tests::simple::{SimpleServiceClient, SimpleServiceServer};

interop_tests! {
    upstreams_client_calls_rust: tcp ipc;
    upstreams_client_calls_rust_under_curve: tcp;
    rust_calls_upstreams_server: tcp;
    rust_calls_upstreams_server_under_curve: tcp;
}

const ALIAS: &str = "simple";

/// Starts a program of upstream's with another endpoint than its own.
fn upstream(program: &str, endpoint: &str, more: &[String]) -> PyProcess {
    let path = upstream_examples().join(program).display().to_string();
    let args: Vec<_> = [path.as_str(), endpoint].into_iter().chain(more.iter().map(String::as_str)).collect();
    PyProcess::spawn("redirected.py", &args)
}

/// Arguments for a script that has these keys. Z85 may begin with a hyphen, so each is one word.
fn curve(keys: &CurveKeyPair, other: String) -> Vec<String> {
    let secret = keys.secret_z85();
    vec![format!("--curve-public={}", keys.public()), format!("--curve-secret={}", *secret), other]
}

/// What upstream's client has to say, in order, as far as it is the same each time.
fn upstreams_client(world: &World, builder: Builder, more: &[String]) {
    let server = world.serve(register(builder, ALIAS, SimpleServiceServer::new(Simple)));
    let mut client = upstream("simple-client-thrift.py", &server.endpoint(), more);
    assert_eq!(client.wait_line("echoed ").len(), 32);
    assert_eq!(client.wait_line("echoed ").len(), 32);
    let sum: i64 = client.wait_line("").rsplit_once(" = ").unwrap().1.parse().unwrap();
    assert!((11..=30).contains(&sum));
    client.wait_line("catched remote error as expected:");
    client.wait_line("long_delay(): timeout occurred as expected (with per-call timeout)");
    client.wait_line("long_delay(): timeout occurred as expected (with default timeout)");
    let (status, stderr) = client.wait_exit();
    assert!(status.success(), "{status}\n{stderr}");
    server.stop(world);
}

fn upstreams_client_calls_rust(world: &World) {
    upstreams_client(world, world.builder(), &[]);
}

fn upstreams_client_calls_rust_under_curve(world: &World) {
    let (server, client) = (generate_keys(), generate_keys());
    let keys = KeySet::new(server.clone());
    keys.admit(client.public(), "python");
    let more = curve(&client, format!("--server-key={}", server.public()));
    upstreams_client(world, world.builder().authenticator(keys), &more);
}

/// The methods of upstream's server, one after the other.
fn upstreams_server(world: &World, builder: Builder, more: &[String]) {
    let mut server = upstream("simple-server-thrift.py", &world.endpoint(), more);
    let endpoint = server.wait_line("listening on ");
    let client = world.connect(builder, &endpoint);
    let simple = SimpleServiceClient::new(client.peer().clone(), ALIAS);
    let echoed = world.block_on(simple.echo("größe").into_future()).unwrap();
    assert_eq!(echoed, "größe");
    assert_eq!(world.block_on(simple.add(1, 2).key("sums").into_future()).unwrap(), 3);
    let oops = world.block_on(simple.oops().into_future()).unwrap_err();
    let ThriftError::Call(CallError::Remote(info)) = oops else { panic!("{oops:?}") };
    assert_eq!(&*info.name, "ZeroDivisionError");
    let late =
        world.block_on(simple.long_delay().timeout(Duration::from_millis(50)).into_future()).unwrap_err();
    assert!(matches!(late, ThriftError::Call(CallError::TimedOut { .. })), "{late:?}");
    client.stop(world);
}

fn rust_calls_upstreams_server(world: &World) {
    upstreams_server(world, world.builder(), &[]);
}

fn rust_calls_upstreams_server_under_curve(world: &World) {
    let (server, client) = (generate_keys(), generate_keys());
    let authenticator = CurveClient::new(client.clone(), server.public());
    let more = curve(&server, format!("--allow={}", client.public()));
    upstreams_server(world, world.builder().authenticator(authenticator), &more);
}
