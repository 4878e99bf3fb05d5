//! Executors that poll a task, or drop it, while they wake it. If it were woken under a lock, it would wait for that lock for ever.

use std::future::{IntoFuture, pending};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::auth::{KeySet, generate_keys};
use callosum_runtime::link::memory;
use callosum_runtime::{Binder, CallError, Connector, Context, Event, HandlerResult};
use callosum_testkit::wake::{OnWake, Task};
use callosum_testkit::world::World;
use futures_util::StreamExt;

const SECOND: Duration = Duration::from_secs(1);

/// Runs a test with either executor.
fn check(run: impl Fn(&World, OnWake)) {
    OnWake::BOTH.into_iter().for_each(|on_wake| run(&World::new(0), on_wake));
}

fn connect(world: &World) -> Connector {
    let client = world.host("client");
    let (connector, driver) = client.builder().connect("tcp://server:1").expect("it is an endpoint");
    client.spawn(async { drop(driver.await) });
    connector
}

#[test]
fn of_a_task_that_waits_for_a_shutdown() {
    check(|world, on_wake| {
        world.run(async {
            let connector = connect(world);
            let _call = connector.peer().invoke_raw("waits for a connection", "").into_future();
            let waiting = connector.clone();
            let task = Task::start(on_wake, async move { _ = waiting.shutdown(5 * SECOND).await });
            connector.shutdown(SECOND).await;
            assert!(task.is_gone());
        });
    });
}

#[test]
fn of_a_task_that_waits_for_a_shutdown_as_the_driver_is_dropped() {
    check(|world, on_wake| {
        let client = world.host("client");
        let (connector, driver) = client.builder().connect("tcp://server:1").expect("it is an endpoint");
        let task = Task::start(on_wake, async move { _ = connector.shutdown(SECOND).await });
        drop(driver);
        assert!(task.is_gone());
    });
}

#[test]
fn of_a_task_that_waits_for_events() {
    check(|world, on_wake| {
        let server = world.host("server");
        world.run(async {
            let (binder, driver) = server.builder().bind("tcp://server:1").await.expect("the port is free");
            server.spawn(async { drop(driver.await) });
            let mut events = binder.events();
            let task = Task::start(on_wake, async move { while events.next().await.is_some() {} });
            let connector = connect(world);
            connector.peer().ready().await.expect("it is there");
            // Other links are told of too.
            let others = binder.events();
            connector.shutdown(SECOND).await;
            binder.shutdown(SECOND).await;
            assert!(task.is_gone());
            let told: Vec<_> = others.collect().await;
            assert!(matches!(told.last(), Some(Event::Disconnected { .. })), "{told:?}");
        });
    });
}

#[test]
fn of_a_task_that_waits_for_a_cancellation() {
    check(|world, on_wake| {
        let server = world.host("server");
        let tasks = Arc::new(Mutex::new(Vec::new()));
        world.run(async {
            let made = tasks.clone();
            let handler = move |_: Bytes, context: Context| {
                let task = Task::start(on_wake, async move {
                    context.cancelled().await;
                    context.cancelled().await;
                });
                made.lock().expect("nobody panics with it").push(task);
                pending::<HandlerResult<Bytes>>()
            };
            let builder = server.builder().handle_raw("hang", handler);
            let (_binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
            server.spawn(async { drop(driver.await) });
            let connector = connect(world);
            let outcome = connector.peer().invoke_raw("hang", "").timeout(SECOND).await;
            assert!(matches!(outcome, Err(CallError::TimedOut { sent: true })), "{outcome:?}");
            world.sleep(SECOND).await;
            let tasks = tasks.lock().expect("nobody panics with it");
            assert!(tasks.len() == 1 && tasks[0].is_gone());
        });
    });
}

/// Wakes a driver, which may be dropped then.
fn wake_a_driver(by: impl AsyncFn(&Binder, &KeySet)) {
    check(|world, on_wake| {
        let server = world.host("server");
        world.run(async {
            let keys = KeySet::new(generate_keys());
            let builder = server.builder().authenticator(keys.clone());
            let (binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
            let task = Task::start(on_wake, async move { drop(driver.await) });
            by(&binder, &keys).await;
            binder.shutdown(SECOND).await;
            assert!(task.is_gone());
        });
    });
}

#[test]
fn of_a_driver_that_waits_for_a_change_of_keys() {
    wake_a_driver(async |_, keys| keys.admit(generate_keys().public(), "client"));
}

/// The connector has connected, unless the binder's driver was dropped as it was woken, and both shut down.
async fn meet_and_end(world: &World, on_wake: OnWake, connector: &Connector, binder: &Binder) {
    match on_wake {
        OnWake::Poll => connector.peer().ready().await.expect("it is there"),
        OnWake::Drop => world.sleep(SECOND).await,
    }
    connector.shutdown(SECOND).await;
    binder.shutdown(SECOND).await;
}

#[test]
fn of_a_driver_that_waits_for_connections_within_the_process() {
    check(|world, on_wake| {
        let (server, client) = (world.host("server"), world.host("client"));
        world.run(async {
            let (binder, driver) = server.builder().bind("inproc://wakers").await.expect("the name is free");
            let task = Task::start(on_wake, async move { drop(driver.await) });
            let (connector, driver) = client.builder().connect("inproc://wakers").expect("it is an endpoint");
            client.spawn(async { drop(driver.await) });
            meet_and_end(world, on_wake, &connector, &binder).await;
            assert!(task.is_gone());
        });
    });
}

#[test]
fn of_a_driver_that_waits_for_peers_of_a_link_in_memory() {
    check(|world, on_wake| {
        let (server, client) = (world.host("server"), world.host("client"));
        world.run(async {
            let (hub, sender, receiver) = memory(1);
            let (binder, driver) = server.builder().bind_link(sender, receiver);
            let task = Task::start(on_wake, async move { drop(driver.await) });
            let (sender, receiver) = hub.connect("a peer");
            let (connector, driver) = client.builder().connect_link(sender, receiver);
            client.spawn(async { drop(driver.await) });
            meet_and_end(world, on_wake, &connector, &binder).await;
            assert!(task.is_gone());
        });
    });
}

#[test]
fn of_a_driver_that_waits_for_listeners() {
    // The driver may be gone before the listener is its own.
    wake_a_driver(async |binder, _| drop(binder.listen("tcp://server:2").await));
}
