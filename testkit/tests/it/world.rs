//! The async API on virtual time: what a world promises, and what Callosum does in one.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use callosum_runtime::rt::BoxSocket;
use callosum_runtime::{
    Binder, CallError, Connector, Context, DisconnectCause, Endpoint, HandlerResult, OrderingMode, Reconnect,
    SocketOptions,
};
use callosum_testkit::world::{Host, Link, World, check};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::FutureExt;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

async fn echo(text: String, _: Context) -> HandlerResult<String> {
    Ok(text)
}

async fn for_ever(_: (), _: Context) -> HandlerResult<()> {
    std::future::pending().await
}

async fn serve(host: &Host) -> Binder {
    let builder = host.builder().handle("echo", echo).handle("for-ever", for_ever);
    let (binder, driver) = builder.bind("tcp://0.0.0.0:7000").await.expect("the port is free");
    host.spawn(async { drop(driver.await) });
    binder
}

fn connect(host: &Host) -> Connector {
    let builder = host.builder().keepalive(SECOND, 2);
    let (connector, driver) = builder.connect("tcp://server:7000").expect("it is an endpoint");
    host.spawn(async { drop(driver.await) });
    connector
}

fn hosts(world: &World) -> [Host; 2] {
    [world.host("server"), world.host("client")]
}

async fn call(connector: &Connector, text: &str) -> Result<String, CallError> {
    connector.peer().invoke("echo", text).timeout(60 * SECOND).await
}

#[test]
fn a_call_takes_the_latency_of_its_link() {
    check(0..20, |world| async move {
        let [server, client] = hosts(&world);
        world.set_link(&server, &client, Link::default().latency(50 * MS));
        let _binder = serve(&server).await;
        let connector = connect(&client);
        assert_eq!(call(&connector, "one").await.unwrap(), "one");
        let before = world.elapsed();
        assert_eq!(call(&connector, "two").await.unwrap(), "two");
        assert_eq!(world.elapsed() - before, 100 * MS);
    });
}

#[test]
fn a_narrow_link_takes_its_time_for_a_large_call() {
    let world = World::new(1);
    let [server, client] = hosts(&world);
    world.set_default_link(Link::default().bandwidth(1 << 20));
    world.run(async {
        let _binder = serve(&server).await;
        let connector = connect(&client);
        call(&connector, "").await.unwrap();
        let (text, before) = ("x".repeat(4 << 20), world.elapsed());
        assert!(call(&connector, &text).await.unwrap() == text);
        let took = world.elapsed() - before;
        assert!(took > 4 * SECOND && took < 10 * SECOND, "{took:?} for 4 MiB there and back at 1 MiB/s");
    });
}

/// One run of many things at once: what it is fingerprinted as.
fn busy(seed: u64) -> (u64, Duration) {
    let world = World::new(seed);
    let [server, client] = hosts(&world);
    world.set_default_link(Link::default().jitter(5 * MS));
    world.run(async {
        let _binder = serve(&server).await;
        let connector = connect(&client);
        let calls = (0..50).map(|i| {
            let connector = &connector;
            async move { call(connector, &"x".repeat(i * 997)).await.map_or(0, |text| text.len()) }
        });
        let lengths = futures_util::future::join_all(calls).await;
        assert_eq!(lengths.iter().sum::<usize>(), 997 * 49 * 25);
    });
    (world.fingerprint(), world.elapsed())
}

#[test]
fn a_seed_gives_the_same_run_each_time_and_another_seed_another() {
    let runs: Vec<_> = (0..5).map(busy).collect();
    assert_eq!(runs, (0..5).map(busy).collect::<Vec<_>>());
    assert!(runs.windows(2).all(|two| two[0] != two[1]));
}

#[test]
fn a_partition_is_noticed_by_the_keepalive_and_healed_by_a_reconnect() {
    check(0..20, |world| async move {
        let [server, client] = hosts(&world);
        let _binder = serve(&server).await;
        let connector = connect(&client);
        call(&connector, "before").await.unwrap();
        world.partition(&server, &client);
        let lost = connector.peer().invoke::<_, ()>("for-ever", &()).await;
        assert!(matches!(lost, Err(CallError::Disconnected(DisconnectCause::Protocol(_)))), "{lost:?}");
        assert!(world.elapsed() >= 2 * SECOND);
        world.heal(&server, &client);
        assert_eq!(call(&connector, "after").await.unwrap(), "after");
    });
}

/// Whatever the byte after which the link goes: a call that has an outcome has one, and one that may not have run has not.
#[test]
fn a_link_that_is_reset_at_any_byte_loses_no_outcome() {
    for bytes in 0..400 {
        let world = World::new(bytes);
        let [server, client] = hosts(&world);
        let runs = Arc::new(AtomicU32::new(0));
        world.reset_after(&client, &server, bytes);
        world.run(async {
            let counted = runs.clone();
            let count = move |(): (), _: Context| {
                counted.fetch_add(1, Relaxed);
                async { HandlerResult::Ok(()) }
            };
            let (_binder, driver) = server
                .builder()
                .handle("count", count)
                .bind("tcp://server:7000")
                .await
                .expect("the port is free");
            server.spawn(async { drop(driver.await) });
            let connector = connect(&client);
            let outcome = connector.peer().invoke::<_, ()>("count", &()).await;
            let ran = runs.load(Relaxed);
            match outcome {
                Ok(()) => assert_eq!(ran, 1, "after {bytes} bytes"),
                Err(error) => {
                    assert!(ran == 0 || error.may_have_run() && ran == 1, "after {bytes} bytes: {error}")
                }
            }
        });
    }
}

#[test]
fn a_host_that_crashes_ends_its_calls_and_can_come_back() {
    check(0..20, |world| async move {
        let [server, client] = hosts(&world);
        let binder = serve(&server).await;
        let connector = connect(&client);
        call(&connector, "before").await.unwrap();
        let pending = connector.peer().invoke::<_, ()>("for-ever", &()).into_future();
        let (lost, ()) = futures_util::future::join(pending, async {
            world.sleep(SECOND).await;
            server.crash();
        })
        .await;
        assert!(matches!(lost, Err(CallError::Disconnected(_))), "{lost:?}");
        drop(binder);
        let _binder = serve(&server).await;
        assert_eq!(call(&connector, "after").await.unwrap(), "after");
    });
}

#[test]
fn one_direction_can_end_alone() {
    check(0..20, |world| async move {
        let [server, client] = hosts(&world);
        let _binder = serve(&server).await;
        let (connector, driver) =
            client.builder().reconnect(Reconnect::Never).connect("tcp://server:7000").unwrap();
        client.spawn(async { drop(driver.await) });
        call(&connector, "before").await.unwrap();
        world.close_one_way(&server, &client);
        let lost = call(&connector, "after").await;
        assert!(lost.is_err(), "the server can't answer");
    });
}

#[test]
fn nobody_listens_and_nobody_is_known() {
    let world = World::new(0);
    let client = world.host("client");
    world.run(async {
        for (endpoint, what) in [("tcp://client:1", "refused"), ("tcp://nobody:1", "no host is named nobody")]
        {
            let (_connector, driver) =
                client.builder().reconnect(Reconnect::Never).connect(endpoint).unwrap();
            let error = driver.await.unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    });
}

/// The two ends of a connection without Callosum: the server's, and the client's.
async fn streams(server: &Host, client: &Host) -> (BoxSocket, BoxSocket) {
    let endpoint: Endpoint = "tcp://server:7000".parse().expect("it is an endpoint");
    let (server, client) = (server.runtime(), client.runtime());
    let mut listener = server.bind(&endpoint, SocketOptions::default()).await.expect("the port is free");
    let connecting = client.connect(&endpoint, SocketOptions::default());
    let (accepted, connected) = futures_util::future::join(listener.accept(), connecting).await;
    (accepted.expect("somebody connects").0, connected.expect("somebody listens"))
}

async fn read(stream: &mut BoxSocket) -> io::Result<usize> {
    std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut [0; 8])).await
}

async fn write_all(stream: &mut BoxSocket, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, bytes)).await?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// When a read or write of one end returns, and how: the partition is healed after 10 s.
async fn after_a_heal<T>(world: &World, server: &Host, client: &Host, waits: impl Future<Output = T>) -> T {
    let heal = async {
        world.sleep(10 * SECOND).await;
        world.heal(server, client);
    };
    let waits = async {
        let begun = world.elapsed();
        let output = waits.await;
        assert_eq!(world.elapsed() - begun, 10 * SECOND + MS, "the heal, and the latency");
        output
    };
    futures_util::future::join(waits, heal).await.0
}

#[test]
fn a_close_during_a_partition_arrives_after_it() {
    check(0..5, |world| async move {
        let [server, client] = hosts(&world);
        let (there, mut here) = streams(&server, &client).await;
        world.partition(&server, &client);
        drop(there);
        let read = after_a_heal(&world, &server, &client, read(&mut here)).await;
        assert_eq!(read.unwrap(), 0);
    });
}

#[test]
fn who_writes_to_a_side_that_has_gone_during_a_partition_waits_and_learns_of_it_after_it() {
    check(0..5, |world| async move {
        let [server, client] = hosts(&world);
        let (there, mut here) = streams(&server, &client).await;
        world.partition(&server, &client);
        drop(there);
        let written = after_a_heal(&world, &server, &client, write_all(&mut here, &[0; 1 << 17])).await;
        assert_eq!(written.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_crash_during_a_partition_is_learnt_after_it() {
    check(0..5, |world| async move {
        let [server, client] = hosts(&world);
        let (_there, mut here) = streams(&server, &client).await;
        world.partition(&server, &client);
        server.crash();
        let read = after_a_heal(&world, &server, &client, read(&mut here)).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_partition_holds_up_what_a_crash_has_sent() {
    check(0..5, |world| async move {
        let [server, client] = hosts(&world);
        let (_there, mut here) = streams(&server, &client).await;
        server.crash();
        world.partition(&server, &client);
        let read = after_a_heal(&world, &server, &client, read(&mut here)).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_reset_during_a_partition_is_learnt_at_once() {
    check(0..5, |world| async move {
        let [server, client] = hosts(&world);
        let (_there, mut here) = streams(&server, &client).await;
        world.partition(&server, &client);
        let begun = world.elapsed();
        let reset = async {
            world.sleep(SECOND).await;
            world.reset(&server, &client);
        };
        let (read, ()) = futures_util::future::join(read(&mut here), reset).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(world.elapsed() - begun, SECOND);
    });
}

/// What a dropped end has written still arrives, and then the end; not so if it is to be reset.
#[test]
fn an_end_that_is_reset_when_it_is_dropped_is_no_end_of_the_stream() {
    check(0..5, |world| async move {
        let [server, client] = hosts(&world);
        let (mut there, mut here) = streams(&server, &client).await;
        write_all(&mut there, b"1").await.unwrap();
        there.reset_on_drop();
        drop(there);
        world.sleep(SECOND).await;
        assert_eq!(read(&mut here).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(write_all(&mut here, b"2").await.is_err());
    });
}

#[test]
fn connections_that_nobody_had_accepted_end_in_a_crash() {
    check(0..5, |world| async move {
        let [server, client] = hosts(&world);
        let endpoint: Endpoint = "tcp://server:7000".parse().unwrap();
        let options = SocketOptions::default();
        let mut listener = server.runtime().bind(&endpoint, options).await.unwrap();
        let mut here = client.runtime().connect(&endpoint, options).await.unwrap();
        drop(listener.accept().await.unwrap());
        assert_eq!(read(&mut here).await.unwrap(), 0);

        let mut here = client.runtime().connect(&endpoint, options).await.unwrap();
        server.crash();
        assert_eq!(read(&mut here).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(listener.accept().await.is_err());
    });
}

#[test]
fn who_accepts_on_a_host_that_crashes_is_told() {
    check(0..5, |world| async move {
        let [server, _] = hosts(&world);
        let endpoint: Endpoint = "tcp://server:7000".parse().unwrap();
        let mut listener = server.runtime().bind(&endpoint, SocketOptions::default()).await.unwrap();
        let crash = async {
            world.sleep(SECOND).await;
            server.crash();
        };
        assert!(futures_util::future::join(listener.accept(), crash).await.0.is_err());
    });
}

#[test]
fn a_chosen_port_is_one_on_which_nobody_listens() {
    let world = World::new(0);
    let host = world.host("server");
    world.run(async {
        let runtime = host.runtime();
        let bind = async |port: u16| {
            let endpoint = Endpoint::Tcp { host: "server".to_owned(), port };
            runtime.bind(&endpoint, SocketOptions::default()).await
        };
        let mut listeners = vec![bind(49_153).await.unwrap()];
        let free = u16::MAX - 49_152;
        for _ in 0..free {
            listeners.push(bind(0).await.unwrap());
        }
        assert_eq!(bind(0).await.err().unwrap().kind(), ErrorKind::AddrInUse, "there are no more");
        drop(listeners.swap_remove(0));
        let Endpoint::Tcp { port, .. } = bind(0).await.unwrap().endpoint().unwrap() else { unreachable!() };
        assert_eq!(port, 49_153, "it begins again");
    });
}

#[test]
fn a_time_that_can_not_be_told_never_comes() {
    let world = World::new(0);
    world.run(async {
        assert!(world.sleep(Duration::MAX).now_or_never().is_none());
    });
}

#[test]
fn the_fingerprint_is_one_of_what_is_written() {
    let run = |text: &str| {
        let world = World::new(0);
        let [server, client] = hosts(&world);
        world.run(async {
            let (_there, mut here) = streams(&server, &client).await;
            write_all(&mut here, text.as_bytes()).await.unwrap();
        });
        world.fingerprint()
    };
    assert_eq!(run("one"), run("one"));
    assert_ne!(run("one"), run("two"));
}

#[test]
fn what_a_task_owns_is_dropped_at_the_end() {
    let (owned, task) = (Arc::new(()), Arc::new(()));
    check(0..3, |world| {
        // Which keeps the world alive, besides.
        let (host, owns) = (world.host("h"), (world.clone(), owned.clone()));
        host.spawn(async move {
            std::future::pending::<()>().await;
            drop(owns);
        });
        async {}
    });
    assert_eq!(Arc::strong_count(&owned), 1);

    let world = World::new(0);
    let (host, time, owns) = (world.host("h"), world.time(), task.clone());
    host.spawn(async move {
        time.sleep(SECOND).await;
        drop(owns);
    });
    drop(world);
    assert_eq!(Arc::strong_count(&task), 1);
}

#[test]
fn keys_are_ordered_under_jitter() {
    check(0..20, |world| async move {
        let [server, client] = hosts(&world);
        world.set_default_link(Link::default().jitter(30 * MS).latency(MS));
        let log = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (logged, time) = (log.clone(), world.time());
        let append = move |n: u64, _: Context| {
            let (log, time) = (logged.clone(), time.clone());
            async move {
                time.sleep(MS * time.random_below(20) as u32).await;
                log.lock().unwrap().push(n);
                HandlerResult::Ok(())
            }
        };
        let builder = server.builder().ordering(OrderingMode::KeySerialized).handle("append", append);
        let (_binder, driver) = builder.bind("tcp://server:7000").await.expect("the port is free");
        server.spawn(async { drop(driver.await) });
        let connector = connect(&client);
        let peer = connector.peer();
        let calls =
            (0..20).map(|n| async move { peer.invoke::<_, ()>("append", &n).key("k").await.unwrap() });
        futures_util::future::join_all(calls).await;
        assert_eq!(*log.lock().unwrap(), (0..20).collect::<Vec<_>>());
    });
}

#[test]
#[should_panic(expected = "nothing can happen any more")]
fn a_test_that_waits_for_nothing_is_told() {
    World::new(0).run(std::future::pending::<()>());
}

#[test]
#[should_panic(expected = "of virtual time")]
fn a_test_that_never_ends_is_told() {
    let world = World::with_time(0, 60 * SECOND);
    world.run(async {
        loop {
            world.sleep(SECOND).await;
        }
    });
}

#[test]
#[should_panic(expected = "a task spins")]
fn a_task_that_spins_is_told() {
    World::new(0).run(std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        std::task::Poll::<()>::Pending
    }));
}

#[test]
#[should_panic(expected = "a task failed")]
fn a_task_that_panics_fails_the_test() {
    let world = World::new(0);
    world.host("h").spawn(async { panic!("a task failed") });
    world.run(world.sleep(SECOND));
}
