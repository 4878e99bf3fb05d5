//! Calls that run long, and leave the rest of the server to others.

use std::future::IntoFuture;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use crate::common::gateway::Gateway;
use crate::common::scratch::{Scratch, assert_same};
use crate::common::transfer::MIB;
use crate::common::{Process, RUNTIMES, Server, command, limited, wait_until};
use bytes::Bytes;
use callosum_runtime::stream::Streamed;
use callosum_runtime::{CallError, Metadata, Peer, Refusal};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Does `work` with a number of connections to a server.
fn with_peers<const N: usize>(server: &Server, work: impl AsyncFnOnce([Peer; N])) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let connectors = [(); N].map(|()| {
            let (connector, driver) = callosum_tokio::builder().connect(server.endpoint.as_str()).unwrap();
            tokio::spawn(driver);
            connector
        });
        work(connectors.each_ref().map(|connector| connector.peer().clone())).await;
    });
}

#[track_caller]
fn assert_serves_files(server: &Server, scratch: &Scratch) {
    let (sent, got) = (scratch.file("sent", 100_000, 1), scratch.text("got"));
    server.file("put", &[&sent, "x"]).expect(0);
    server.file("get", &["x", &got]).expect(0);
    assert_same(sent, got);
    assert!(server.file("ls", &["x"]).expect(0).stdout[0].ends_with("  x"));
}

#[test]
fn delays_do_not_stop_the_file_server() {
    let scratch = Scratch::new();
    let server = Server::demo("tokio", "json", &["--files", &scratch.text("root")]);
    with_peers(&server, async |peers: [Peer; 2]| {
        let delay = |peer: &Peer| peer.invoke::<_, Value>("delay", &json!({ "seconds": 1e9 })).into_future();
        let mut delays: FuturesUnordered<_> =
            peers.iter().flat_map(|peer| (0..100).map(move |_| delay(peer))).collect();
        // As many as half of the slots may run.
        for _ in 0..150 {
            let error = delays.next().await.unwrap().unwrap_err();
            assert_eq!(error.refusal(), Some(Refusal::Busy), "{error}");
        }
        // A stream whose reader does not care has no slot, and there are as many as there may be.
        let count = || peers[0].open("count").send(&json!({ "to": 2, "every": 1e9 })).unwrap();
        let mut counts = Vec::new();
        for _ in 0..100 {
            counts.push(count().await.unwrap());
        }
        assert_eq!(count().await.unwrap_err().refusal(), Some(Refusal::Busy));
        tokio::task::block_in_place(|| assert_serves_files(&server, &scratch));
        drop((counts, delays));
    });
}

/// One slot is all there is.
#[test]
fn a_delay_takes_no_slot() {
    for runtime in RUNTIMES {
        let scratch = Scratch::new();
        let files = scratch.text("root");
        let server = Server::demo(runtime, "json", &["--files", &files, "--max-concurrency", "1"]);
        server.show_calls();
        let delay = server.start_call(&["delay", r#"{"seconds": 1e9}"#]);
        server.process.wait_for("delay called");
        server.call(&["whoami"]).expect(0);
        assert_serves_files(&server, &scratch);
        drop(delay);
    }
}

#[test]
fn transfers_that_nobody_reads_leave_room() {
    let scratch = Scratch::new();
    let server = Server::demo("tokio", "json", &["--files", &scratch.text("root")]);
    scratch.file("root/large", 4 * MIB, 1);
    with_peers(&server, async |[greedy, other, third]: [Peer; 3]| {
        let get = async |peer: &Peer| -> Result<Streamed, CallError> {
            let mut metadata = Metadata::new();
            metadata.insert("name", "large").unwrap();
            peer.open("get").metadata(metadata).send_raw(Bytes::new())?.await
        };
        let mut unread = Vec::new();
        for _ in 0..64 {
            unread.push(get(&greedy).await.unwrap());
        }
        // No more for this connection, and as many for the others together.
        assert!(matches!(get(&greedy).await, Err(CallError::Remote(info)) if &*info.name == "Busy"));
        for _ in 0..64 {
            unread.push(get(&other).await.unwrap());
        }
        assert_eq!(get(&third).await.unwrap_err().refusal(), Some(Refusal::Busy));
        let echo = third.invoke::<_, Value>("echo", &json!({ "sent": 1 })).await;
        assert_eq!(echo.unwrap(), json!({ "received": 1 }));
        // Once they have ended, there is room again.
        drop(unread);
        tokio::task::block_in_place(|| {
            let got = scratch.text("large");
            crate::common::wait_until("room", || server.file("get", &["large", &got]).code == Some(0));
            assert_serves_files(&server, &scratch);
        });
    });
}

#[test]
fn as_many_files_are_opened_as_the_system_allows() {
    let few = |command: Command| Process::spawn(limited("-S -n 64", &command));
    let gateway = Gateway::spawn("tokio", "", few);
    let tunnel = few(command(&gateway.tunnel(&["-D", "0"])));
    tunnel.line();
    for process in [&gateway.server.process, &tunnel] {
        let [may, could] = process.open_files();
        assert!(may == could && may > 64, "{may} of {could}");
    }
}

#[test]
fn connections_that_can_not_be_accepted_are_said() {
    let few = |command: Command| Process::spawn(limited("-n 48", &command));
    let rules = "[[listen]]\nname = \"x\"\nusers = [\"alice\"]\naddresses = [\"127.0.0.1\"]\nports = [0]\n";
    let gateway = Gateway::spawn("tokio", rules, few);
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let forward = format!("127.0.0.1:0:{}", target.local_addr().unwrap());
    let tunnel = Process::spawn(command(&gateway.tunnel(&["-R", &forward])));
    let line = tunnel.line();
    let listen = line.strip_prefix("forwarding ").unwrap().split_once(" → ").unwrap().0;
    let server = gateway.server.endpoint.strip_prefix("tcp://").unwrap();
    for (address, said) in [(listen, "can't accept"), (server, "can't accept on tcp://")] {
        let sockets: Vec<_> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
        gateway.server.process.wait_for(said);
        drop(sockets);
    }
}

/// Each call is a line, for which there is no room.
#[test]
fn a_stderr_that_nobody_reads_stops_no_calls() {
    for runtime in RUNTIMES {
        let mut stderr = None;
        let server = Server::spawn(runtime, "json", &["--demo", "--drain", "1h"], |mut command| {
            command.env("RUST_LOG", "info");
            let (started, unread) = Process::spawn_unheard(command);
            stderr = Some(unread);
            started
        });
        server.show_calls();
        let delay = server.start_call(&["--stream", "count", r#"{"to": 2, "every": 3600}"#]);
        delay.line();
        for _ in 0..3 {
            server.call(&["echo", r#"{"sent": 1}"#]).expect(0);
        }
        server.process.signal(Signal::TERM);
        wait_until("no more calls", || server.call(&["whoami"]).code != Some(0));
        server.process.signal(Signal::TERM);
        assert_eq!(server.process.end().code, Some(1));
        drop((delay, stderr));
    }
}
