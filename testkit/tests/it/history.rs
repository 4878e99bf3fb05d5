//! Callosum's guarantees in worlds that are hard on it, checked by their histories.

use std::time::Duration;

use callosum_runtime::{Connector, Context, HandlerResult, OrderingMode};
use callosum_testkit::history::History;
use callosum_testkit::world::{Host, Link, World, check};
use futures_util::future::join_all;

const MS: Duration = Duration::from_millis(1);
const KEYS: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("c")];
const MODES: [OrderingMode; 3] =
    [OrderingMode::Unordered, OrderingMode::ExitOrdered, OrderingMode::KeySerialized];

async fn serve(
    world: &World,
    host: &Host,
    history: &History,
    mode: OrderingMode,
) -> callosum_runtime::Binder {
    let (time, history) = (world.time(), history.clone());
    let work = move |call: u64, _: Context| {
        let (time, history) = (time.clone(), history.clone());
        async move {
            let _run = history.run(call);
            time.sleep(MS * time.random_below(30) as u32).await;
            HandlerResult::Ok(())
        }
    };
    let (binder, driver) = host
        .builder()
        .ordering(mode)
        .handle("work", work)
        .bind("tcp://server:7000")
        .await
        .expect("the port is free");
    host.spawn(async { drop(driver.await) });
    binder
}

fn connect(host: &Host) -> Connector {
    let builder = host.builder().keepalive(100 * MS, 2);
    let (connector, driver) = builder.connect("tcp://server:7000").expect("it is an endpoint");
    host.spawn(async { drop(driver.await) });
    connector
}

/// Calls for as long as it takes, some of which are given up.
async fn make_calls(world: &World, history: &History, name: &str, connector: &Connector) {
    let calls = (0..30).map(|n| async move {
        world.sleep(MS * (10 * n + world.random_below(10)) as u32).await;
        let key = KEYS[world.random_below(4) as usize];
        let call = history.begin(name, key);
        let id = call.id();
        let mut invocation = connector.peer().invoke::<_, ()>("work", &id);
        if let Some(key) = key {
            invocation = invocation.key(key);
        }
        if world.random_below(4) == 0 {
            invocation = invocation.timeout(MS * world.random_below(60) as u32);
        }
        let outcome = invocation.await;
        call.end(&outcome);
    });
    join_all(calls).await;
}

async fn make_trouble(world: &World, server: &Host, clients: &[Host]) {
    for _ in 0..6 {
        world.sleep(MS * (20 + world.random_below(60) as u32)).await;
        let client = &clients[world.random_below(clients.len() as u64) as usize];
        match world.random_below(4) {
            0 => world.reset(server, client),
            1 => world.reset_after(client, server, world.random_below(2_000)),
            2 => world.close_one_way(client, server),
            _ => {
                world.partition(server, client);
                world.sleep(MS * world.random_below(600) as u32).await;
                world.heal(server, client);
            }
        }
    }
}

fn run(seed: u64, mode: OrderingMode, trouble: bool) -> (usize, u64) {
    let world = World::new(seed);
    let (server, clients) = (world.host("server"), [world.host("a"), world.host("b")]);
    world.set_default_link(Link::default().latency(2 * MS).jitter(10 * MS));
    let history = History::new(&world);
    world.run(async {
        let _binder = serve(&world, &server, &history, mode).await;
        let connectors = clients.each_ref().map(connect);
        let (a, b) = (&connectors[0], &connectors[1]);
        let trouble = async {
            if trouble {
                make_trouble(&world, &server, &clients).await;
            }
        };
        futures_util::future::join3(
            make_calls(&world, &history, "a", a),
            make_calls(&world, &history, "b", b),
            trouble,
        )
        .await;
        // Handlers of calls that were given up end too.
        world.sleep(Duration::from_secs(1)).await;
    });
    if let Err(violations) = history.check(mode) {
        panic!("seed {seed}, {mode:?}: {violations}");
    }
    (history.events().len(), world.fingerprint())
}

#[test]
fn calls_and_handlers_keep_their_promises_without_trouble() {
    for seed in 0..30 {
        run(seed, MODES[seed as usize % 3], false);
    }
}

#[test]
fn calls_and_handlers_keep_their_promises_whatever_happens_to_their_links() {
    for seed in 0..150 {
        run(seed, MODES[seed as usize % 3], true);
    }
}

#[test]
fn trouble_can_be_replayed() {
    for seed in 0..3 {
        assert_eq!(run(seed, MODES[2], true), run(seed, MODES[2], true));
    }
}

/// A crash of a host takes its tasks with it; its callers get an outcome all the same.
#[test]
fn callers_of_a_host_that_crashes_get_their_outcome() {
    check(0..50, |world| async move {
        let (server, client) = (world.host("server"), world.host("client"));
        let history = History::new(&world);
        let binder = serve(&world, &server, &history, OrderingMode::KeySerialized).await;
        let connector = connect(&client);
        let crash = async {
            world.sleep(MS * world.random_below(200) as u32).await;
            server.crash();
            drop(binder);
            world.sleep(MS * world.random_below(200) as u32).await;
            serve(&world, &server, &history, OrderingMode::KeySerialized).await
        };
        let (_binder, ()) =
            futures_util::future::join(crash, make_calls(&world, &history, "client", &connector)).await;
        world.sleep(Duration::from_secs(1)).await;
        history.check(OrderingMode::KeySerialized).unwrap();
    });
}
