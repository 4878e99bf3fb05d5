//! Each peer echoes, first within one process, then as the program runs it.

use std::{net::SocketAddr, path::Path};

use anyhow::Result;
use callosum_bench::{
    executor::{AsyncStd, Executor, Tokio},
    load::{Case, Client as _, Timing, body},
    peers::{Callosum, CallosumCurve, Echo, Kind, Peer, RawTcp, Tarpc, Tonic},
    process::Launcher,
    suite::{self, Plan},
};
use tokio::sync::oneshot;

const PROGRAM: &str = env!("CARGO_BIN_EXE_callosum-bench");

/// 48 calls in flight at once of each size: empty, small, around the limits of buffers, large.
fn echoes<E: Echo>() -> Result<()> {
    let calls = async {
        let (ready, address) = oneshot::channel::<SocketAddr>();
        drop(E::Runtime::spawn(E::serve(|address| ready.send(address).expect("the test waits for it"))));
        let client = E::connect(address.await?).await?;
        for len in [0, 1, 64, 4095, 4096, 70_000, 1 << 20] {
            let one = |n| {
                let client = client.clone();
                E::Runtime::spawn(async move {
                    assert_eq!(client.echo(body(n, len)).await?, body(n, len));
                    Ok(())
                })
            };
            let tasks: Vec<_> = (0..48).map(one).collect();
            for task in tasks {
                task.await?;
            }
        }
        Ok(())
    };
    E::Runtime::block_on(calls)
}

#[test]
fn raw_tcp_echoes() -> Result<()> {
    echoes::<RawTcp>()
}

#[test]
fn tarpc_echoes() -> Result<()> {
    echoes::<Tarpc>()
}

#[test]
fn tonic_echoes() -> Result<()> {
    echoes::<Tonic>()
}

#[test]
fn callosum_echoes_on_tokio() -> Result<()> {
    echoes::<Callosum<Tokio>>()
}

#[test]
fn callosum_echoes_on_async_std() -> Result<()> {
    echoes::<Callosum<AsyncStd>>()
}

#[test]
fn callosum_echoes_under_curve_on_tokio() -> Result<()> {
    echoes::<CallosumCurve<Tokio>>()
}

#[test]
fn callosum_echoes_under_curve_on_async_std() -> Result<()> {
    echoes::<CallosumCurve<AsyncStd>>()
}

/// Takes a package index the first time, for pyzmq, whose libzmq it is. The program in C checks what comes back.
#[test]
fn libzmq_echoes_under_curve() -> Result<()> {
    let peer = Peer::find("libzmq-curve/C").expect("it is in the list");
    let launcher = Launcher::new(&peer, Path::new(PROGRAM))?;
    let server = launcher.serve()?;
    for body_bytes in [0, 1, 64, 4095, 70_000, 1 << 20] {
        for warm_up_ms in [0, 300] {
            let timing = Timing { warm_up_ms, window_ms: 1000 };
            let sample = launcher.load(&server, Case { in_flight: 48, body_bytes }, timing)?;
            assert!(sample.calls() > 0 && sample.calls_per_s() == sample.calls() as f64);
        }
    }
    server.end()
}

#[test]
fn a_run_has_a_row_for_each_peer_and_case() -> Result<()> {
    let mut peers = suite::select(&[])?;
    // It needs a package index, which a test must not.
    peers.retain(|peer| matches!(peer.kind, Kind::Rust { .. }));
    let cases = [Case { in_flight: 1, body_bytes: 64 }, Case { in_flight: 5, body_bytes: 1000 }];
    let plan = Plan { rounds: 1, timing: Timing { warm_up_ms: 10, window_ms: 1000 } };
    let rows = suite::run(Path::new(PROGRAM), &peers, &cases, plan)?;
    let found: Vec<_> = rows.iter().map(|row| (row.peer.as_str(), row.in_flight)).collect();
    let expected: Vec<_> =
        cases.iter().flat_map(|case| peers.iter().map(|peer| (peer.name, case.in_flight))).collect();
    assert_eq!(found, expected);
    assert!(rows.iter().all(|row| row.calls_per_s > 0.0 && row.p50_us > 0.0 && row.p50_us <= row.p99_us));
    Ok(())
}

#[test]
fn a_server_ends_when_its_stdin_does() -> Result<()> {
    let peer = Peer::find("raw-tcp/tokio").expect("it is in the list");
    let server = Launcher::new(&peer, Path::new(PROGRAM))?.serve()?;
    assert_ne!(server.address().port(), 0);
    server.end()
}

#[test]
fn a_client_without_a_server_fails() -> Result<()> {
    let peer = Peer::find("raw-tcp/tokio").expect("it is in the list");
    let arguments = ["--in-flight=1", "--body-bytes=64", "--warm-up-ms=0", "--window-ms=1"];
    let output = std::process::Command::new(PROGRAM)
        .args(["load", &peer.id(), "127.0.0.1:0"])
        .args(arguments)
        .output()?;
    assert!(!output.status.success() && !output.stderr.is_empty());
    Ok(())
}
