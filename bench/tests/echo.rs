//! Each peer echoes, first within one process, then as the program runs it.

use std::{iter, net::SocketAddr, path::Path, time::Duration};

use anyhow::Result;
use callosum_bench::{
    cases::{self, Case, Order},
    executor::{AsyncStd, Executor, Tokio},
    idle::Idle,
    load::{Client, KeyedClient, Timing, body},
    neighbours::{Host, Neighbours, Trouble},
    peers::{
        Callosum, CallosumCurve, DialectOne, Kind, Layered, Orders, Peer, Protobuf, RawCopy, RawTcp, Stack,
        Tarpc, Thrift, Tonic, TonicWindows, Typed, TypedMsgPack, Zeromq,
    },
    process::Launcher,
    suite::{self, Measure, Outcome, Plan},
    tunnels::Tunnels,
    upload::{self, LARGEST_PIECE, Length},
};
use clap::ValueEnum as _;
use tokio::sync::oneshot;

const PROGRAM: &str = env!("CARGO_BIN_EXE_callosum-bench");

/// 48 calls in flight at once of each size: empty, small, around the limits of buffers, large.
fn echoes<E: Stack>() -> Result<()>
where
    E::Client: Client + Clone + Sync,
{
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

/// Calls with the same key arrive in the order in which they were made, where the server orders them.
fn echoes_with_keys<E: Orders>(order: Order) -> Result<()>
where
    E::Client: KeyedClient + Sync,
{
    let calls = async move {
        let (ready, address) = oneshot::channel::<SocketAddr>();
        let serve = E::serve_in(order, |address| ready.send(address).expect("the test waits for it"));
        drop(E::Runtime::spawn(serve));
        let client = E::connect(address.await?).await?;
        let calls = (0..200).map(|n| {
            let (client, key) = (client.clone(), format!("key-{}", n % 7));
            E::Runtime::spawn(async move {
                assert_eq!(client.echo_with_key(&key, body(n, 64)).await?, body(n, 64));
                Ok(())
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await?;
        }
        Ok(())
    };
    E::Runtime::block_on(calls)
}

#[test]
fn callosum_echoes_with_keys_in_any_order() -> Result<()> {
    for order in [Order::Unordered, Order::KeysExitOrdered, Order::KeysSerialized] {
        echoes_with_keys::<Callosum<Tokio>>(order)?;
        echoes_with_keys::<Callosum<AsyncStd, DialectOne>>(order)?;
    }
    Ok(())
}

/// Uploads of several lengths, one after the other on one connection.
fn takes_uploads<S: Stack>() -> Result<()>
where
    S::Client: upload::Client,
{
    let uploads = async {
        let (ready, address) = oneshot::channel::<SocketAddr>();
        drop(S::Runtime::spawn(S::serve(|address| ready.send(address).expect("the test waits for it"))));
        let client = S::connect(address.await?).await?;
        for bytes in [0, 1, 64 << 10, 1_000_003, 40 << 20] {
            assert_eq!(upload::Client::upload(&client, bytes).await?, bytes);
        }
        Ok(())
    };
    S::Runtime::block_on(uploads)
}

#[test]
fn raw_tcp_echoes() -> Result<()> {
    echoes::<RawTcp>()
}

#[test]
fn the_zeromq_crate_echoes() -> Result<()> {
    echoes::<Zeromq>()
}

#[test]
fn tarpc_echoes() -> Result<()> {
    echoes::<Tarpc>()
}

#[test]
fn tonic_echoes() -> Result<()> {
    echoes::<Tonic>()?;
    echoes::<TonicWindows>()
}

#[test]
fn typed_services_echo() -> Result<()> {
    echoes::<Layered<Typed>>()?;
    echoes::<Layered<TypedMsgPack>>()
}

#[test]
fn upper_layers_echo() -> Result<()> {
    echoes::<Layered<Thrift>>()?;
    echoes::<Layered<Protobuf>>()
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

#[test]
fn callosum_echoes_in_dialect_1_on_tokio() -> Result<()> {
    echoes::<Callosum<Tokio, DialectOne>>()
}

#[test]
fn callosum_echoes_in_dialect_1_on_async_std() -> Result<()> {
    echoes::<Callosum<AsyncStd, DialectOne>>()
}

#[test]
fn callosum_echoes_under_curve_in_dialect_1_on_tokio() -> Result<()> {
    echoes::<CallosumCurve<Tokio, DialectOne>>()
}

#[test]
fn callosum_echoes_under_curve_in_dialect_1_on_async_std() -> Result<()> {
    echoes::<CallosumCurve<AsyncStd, DialectOne>>()
}

#[test]
fn raw_tcp_takes_uploads() -> Result<()> {
    takes_uploads::<RawCopy<Tokio>>()?;
    takes_uploads::<RawCopy<AsyncStd>>()?;
    takes_uploads::<RawCopy<Tokio, LARGEST_PIECE>>()?;
    takes_uploads::<RawCopy<AsyncStd, LARGEST_PIECE>>()
}

#[test]
fn tonic_takes_uploads() -> Result<()> {
    takes_uploads::<Tonic>()?;
    takes_uploads::<TonicWindows>()
}

#[test]
fn callosum_takes_uploads() -> Result<()> {
    takes_uploads::<Callosum<Tokio>>()?;
    takes_uploads::<Callosum<AsyncStd>>()
}

#[test]
fn callosum_takes_uploads_under_curve() -> Result<()> {
    takes_uploads::<CallosumCurve<Tokio>>()?;
    takes_uploads::<CallosumCurve<AsyncStd>>()
}

/// Takes a package index the first time, for Python Callosum and pyzmq, whose libzmq the program in C uses. Both check
/// what comes back.
#[test]
fn python_callosum_and_libzmq_echo() -> Result<()> {
    let echoes = |id, connections, in_flight, window_ms, lengths: &[usize]| {
        let peer = Peer::find(id).expect("it is in the list");
        let launcher = Launcher::new(&peer, suite::WORKERS, Path::new(PROGRAM))?;
        let server = launcher.serve(None)?;
        for &body_bytes in lengths {
            for warm_up_ms in [0, 50] {
                let timing = Timing { warm_up_ms, window_ms };
                let case = Case { connections, ..Case::new(body_bytes, in_flight) };
                let sample = launcher.load(&server, case, timing)?;
                assert!(sample.calls() > 0 && sample.seconds >= window_ms as f64 / 1e3);
            }
        }
        server.end()
    };
    echoes("python-callosum/asyncio", 1, 1, 200, &[64])?;
    echoes("python-callosum/asyncio", 2, 4, 200, &[64])?;
    for id in ["libzmq/C", "libzmq-curve/C"] {
        echoes(id, 1, 48, 50, &[0, 1, 64, 4095, 70_000, 1 << 20])?;
        echoes(id, 3, 12, 50, &[64])?;
    }
    Ok(())
}

/// Windows are short: where no call ends in one, there is a longer one.
fn short_plan() -> Plan {
    let timing = Timing { warm_up_ms: 10, window_ms: 50 };
    let mib = |mib: u64| Length { upload_bytes: mib << 20 };
    let idle = Idle { connections: 20, used_connections: 4, idle: Duration::from_millis(50), rounds: 2 };
    let tunnels = Tunnels { idle: 5, rounds: 1 };
    let neighbours = Neighbours { leaving: 100, rounds: 1 };
    let uploads = [(mib(20), 2), (mib(24), 1)];
    Plan { rounds: 1, timing, beside: mib(8), uploads, idle, tunnels, neighbours }
}

fn all<R>(Outcome { rows, failures }: Outcome<R>) -> Vec<R> {
    assert!(failures.is_empty(), "{failures:?}");
    rows
}

fn callers(peers: &[Peer]) -> impl Iterator<Item = &Peer> {
    peers.iter().filter(|peer| peer.makes_calls())
}

#[test]
fn a_run_has_a_row_for_each_peer_and_case() -> Result<()> {
    let mut peers = suite::select(&[])?;
    // Those in Python and C have a test of their own: one at a time can make what they need.
    peers.retain(|peer| matches!(peer.kind, Kind::Rust(_)));
    let cases = [Case::new(64, 1), Case { connections: 3, ..Case::new(1000, 5) }];
    let plan = short_plan();
    let rows = all(suite::run(Path::new(PROGRAM), &peers, &cases, plan));
    let found: Vec<_> = rows.iter().map(|row| (row.stack, row.in_flight)).collect();
    let expected: Vec<_> =
        cases.iter().flat_map(|case| callers(&peers).map(|peer| (peer.name, case.in_flight))).collect();
    assert_eq!(found, expected);
    assert!(rows.iter().all(|row| row.calls_per_s > 0.0 && row.p50_us > 0.0 && row.p50_us <= row.p99_us));
    Ok(())
}

/// The heaviest loads, where a limit of a peer would show as a refused call.
#[test]
fn no_peer_refuses_the_most_calls_in_flight() -> Result<()> {
    let mut peers = suite::select(&[])?;
    // A peer has the same limits on either runtime.
    peers.retain(|peer| peer.runtime == "tokio" && peer.makes_calls());
    let timing = Timing { warm_up_ms: 0, window_ms: 100 };
    let rows = |name: &str, peers: &[Peer]| {
        let cases = cases::select(&[name.to_owned()], &[])?;
        Ok::<_, anyhow::Error>(all(suite::run(
            Path::new(PROGRAM),
            peers,
            &cases,
            Plan { timing, ..short_plan() },
        )))
    };
    assert_eq!(rows("64B x8192", &peers)?.len(), peers.len());
    // Without optimization, to encrypt 64 MiB takes longer than a test may.
    peers.retain(|peer| !peer.encrypted);
    assert_eq!(rows("8MiB x8", &peers)?.len(), peers.len());
    Ok(())
}

#[test]
fn rows_with_orders_have_the_peers_that_can_order_calls() -> Result<()> {
    let peers = suite::select(&["tarpc".to_owned(), "callosum".to_owned()])?;
    let cases = cases::select(&["unordered".to_owned(), "keys".to_owned()], &[])?;
    let rows = all(suite::run(Path::new(PROGRAM), &peers, &cases, short_plan()));
    let found: Vec<_> = rows.iter().map(|row| (row.peer.as_str(), row.runtime.as_str())).collect();
    let names = ["callosum-unordered", "callosum-keys-exit-ordered", "callosum-keys-serialized"];
    let expected: Vec<_> = names.iter().flat_map(|name| [(*name, "tokio"), (*name, "async-std")]).collect();
    assert_eq!(found, expected);
    Ok(())
}

#[test]
fn idle_connections_have_a_row_for_each_peer_that_holds_them() -> Result<()> {
    let plan = short_plan();
    let rows = all(suite::idle(Path::new(PROGRAM), &suite::select(&[])?, plan));
    let found: Vec<_> = rows.iter().map(|row| (row.peer.as_str(), row.runtime.as_str())).collect();
    let expected = [
        ("raw-tcp-idle", "tokio"),
        ("tarpc-idle", "tokio"),
        ("callosum-idle", "tokio"),
        ("callosum-idle", "async-std"),
        ("callosum-curve-idle", "tokio"),
        ("callosum-curve-idle", "async-std"),
    ];
    assert_eq!(found, expected);
    assert!(rows.iter().all(|row| row.handshake_cpu_us > 0.0 && row.calls == 2 * 4 * 3));
    assert!(rows.iter().all(|row| row.kib_per_connection < 1024.0), "{rows:?}");
    Ok(())
}

#[test]
fn calls_beside_an_upload_have_a_row_for_each_peer_that_makes_both() -> Result<()> {
    let rows = all(suite::beside(Path::new(PROGRAM), &suite::select(&[])?, short_plan()));
    let found: Vec<_> =
        rows.iter().map(|row| (row.peer.as_str(), row.runtime.as_str(), row.workers)).collect();
    let peers = [
        ("raw-tcp-pair-beside-upload", "tokio"),
        ("tonic-beside-upload", "tokio"),
        ("tonic-256k-beside-upload", "tokio"),
        ("callosum-beside-upload", "tokio"),
        ("callosum-beside-upload", "async-std"),
        ("callosum-curve-beside-upload", "tokio"),
        ("callosum-curve-beside-upload", "async-std"),
    ];
    let expected: Vec<_> =
        [1, 2].iter().flat_map(|workers| peers.map(|(peer, runtime)| (peer, runtime, *workers))).collect();
    assert_eq!(found, expected);
    assert!(rows.iter().all(|row| row.p50_us > 0.0 && row.p50_us <= row.p99_us && row.alone_p99_us > 0.0));
    assert!(rows.iter().all(|row| row.upload_mib_per_s > 0.0 && row.calls_per_s > 0.0));
    Ok(())
}

/// Two numbers, for one may be what a runtime has by itself on this machine.
#[test]
fn both_sides_have_as_many_workers_as_they_are_to_have() -> Result<()> {
    let Plan { timing, beside, .. } = short_plan();
    for id in ["callosum/tokio", "callosum/async-std", "tonic/tokio"] {
        let peer = Peer::find(id).expect("it is in the list");
        for workers in [1, 3] {
            let launcher = Launcher::new(&peer, workers, Path::new(PROGRAM))?;
            let server = launcher.serve(None)?;
            let client = launcher.beside(&server, 64, beside, timing)?.workers;
            assert_eq!([client, server.workers()?], [workers; 2], "{id}");
            server.end()?;
        }
    }
    Ok(())
}

#[test]
fn uploads_have_a_row_for_each_peer_and_length() -> Result<()> {
    let peers = suite::select(&["raw-tcp-copy".to_owned(), "tonic".to_owned(), "callosum".to_owned()])?;
    let rows = all(suite::uploads(Path::new(PROGRAM), &peers, short_plan()));
    let found: Vec<_> = rows.iter().map(|row| (row.peer.as_str(), row.body_bytes >> 20)).collect();
    let peers = ["raw-tcp-copy", "raw-tcp-copy", "tonic", "callosum", "callosum"]
        .map(|name| format!("{name}-upload"));
    let expected: Vec<_> =
        [20, 24].iter().flat_map(|mib| peers.iter().map(|peer| (peer.as_str(), *mib))).collect();
    assert_eq!(found, expected);
    assert!(rows.iter().all(|row| row.mib_per_s > 0.0));
    // A process takes a page at least, and more than that it would if it held what it sends.
    assert!(rows.iter().all(|row| row.client_peak_kib > 4 && row.server_peak_kib > 4));
    Ok(())
}

#[test]
fn layers_have_a_row_for_each_peer_and_case() -> Result<()> {
    let rows = all(suite::layers(Path::new(PROGRAM), &suite::select(&[])?, short_plan()));
    let found: Vec<_> = rows.iter().map(|row| (row.row.as_str(), row.peer.as_str())).collect();
    let peers = [
        "tarpc-layer",
        "tonic-layer",
        "callosum-layer",
        "callosum-typed-layer",
        "callosum-typed-msgpack-layer",
        "callosum-thrift-layer",
        "callosum-protobuf-layer",
    ];
    let expected: Vec<_> =
        ["64B x1", "64B x128"].iter().flat_map(|row| peers.map(|peer| (*row, peer))).collect();
    assert_eq!(found, expected);
    assert!(rows.iter().all(|row| row.calls_per_s > 0.0 && row.runtime == "tokio"));
    Ok(())
}

#[test]
fn each_trouble_that_neighbours_make_has_a_row() -> Result<()> {
    let rows = all(suite::neighbours(Path::new(PROGRAM), &suite::select(&[])?, short_plan()));
    let found: Vec<_> = rows.iter().map(|row| (row.host, row.trouble)).collect();
    let of_callosum = Trouble::value_variants().iter().map(|trouble| (Host::Callosum, *trouble));
    let expected: Vec<_> = iter::once((Host::RawTcp, Trouble::Leaving)).chain(of_callosum).collect();
    assert_eq!(found, expected);
    assert!(rows.iter().all(|row| row.calls > 0 && row.calls_per_s > 0.0 && row.p99_us > 0.0));
    Ok(())
}

/// rathole is in no package of Debian, and takes a minute to build: it is measured where it is installed.
#[test]
fn tunnels_have_a_row_each() -> Result<()> {
    let mut peers = suite::select(&[])?;
    peers.retain(|peer| Measure::Tunnels.fits(peer) && !peer.name.starts_with("rathole"));
    let plan = Plan { timing: Timing { warm_up_ms: 10, window_ms: 100 }, ..short_plan() };
    let rows = all(suite::tunnels(Path::new(PROGRAM), &peers, plan));
    let found: Vec<_> = rows.iter().map(|row| row.peer.as_str()).collect();
    assert_eq!(found, ["tcp-relay", "ssh", "callosum-tunnel", "callosum-tunnel-curve"]);
    for row in &rows {
        let rates = [row.up_1_mib_per_s, row.up_16_mib_per_s, row.down_1_mib_per_s, row.down_16_mib_per_s];
        assert!(rates.iter().all(|rate| *rate > 0.0), "{row:?}");
        assert!(row.connections_per_s > 0.0 && row.calls_per_s > 0.0, "{row:?}");
        assert!(row.p50_us <= row.p99_us && row.p99_us > 0.0 && row.beside_p99_us > 0.0, "{row:?}");
    }
    Ok(())
}

#[test]
fn when_one_peer_fails_the_others_go_on() -> Result<()> {
    let good = Peer::find("callosum/tokio").expect("it is in the list");
    // The program knows no peer of this name, and so its server ends at once.
    let bad = Peer { name: "smoke-signals", ..good };
    let (program, peers) = (Path::new(PROGRAM), [bad, good]);
    let case = Case::new(64, 1);
    let calls = suite::run(program, &peers, &[case], short_plan());
    assert_eq!((calls.rows.len(), calls.failures.len()), (1, 1), "{:?}", calls.failures);
    let beside = suite::beside(program, &peers, short_plan());
    assert_eq!((beside.rows.len(), beside.failures.len()), (2, 2), "{:?}", beside.failures);
    let uploads = suite::uploads(program, &peers, short_plan());
    assert_eq!((uploads.rows.len(), uploads.failures.len()), (2, 1), "{:?}", uploads.failures);
    assert!(format!("{:#}", uploads.failures[0]).contains("smoke-signals"));
    Ok(())
}

#[test]
fn a_server_ends_when_its_stdin_does() -> Result<()> {
    let peer = Peer::find("raw-tcp/tokio").expect("it is in the list");
    let server = Launcher::new(&peer, suite::WORKERS, Path::new(PROGRAM))?.serve(None)?;
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
