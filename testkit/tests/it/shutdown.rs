//! An endpoint that ends while calls go both ways and peers come, on virtual time, in plaintext and under CURVE.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::auth::{CurveClient, KeySet, generate_keys};
use callosum_runtime::layer::{CallNext, OutgoingCall};
use callosum_runtime::{
    Binder, Builder, CallError, CancelReason, Connector, Context, Dialect, DisconnectCause, Drained, Driver,
    Event, Events, HandlerResult, NotSent, Response,
};
use callosum_testkit::wake::{OnWake, Task};
use callosum_testkit::world::{Host, Link, World};
use futures_channel::oneshot;
use futures_util::StreamExt;
use futures_util::future::{FutureExt, join_all, select};
use futures_util::stream::FuturesUnordered;

use crate::changed_runtime::ChangedRuntime;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Handlers that call back, until they have done so often enough.
fn with_handlers(builder: Builder, world: &World) -> Builder {
    let time = world.time();
    builder.handle("work", move |depth: u32, context: Context| {
        let time = time.clone();
        async move {
            time.sleep(MS * time.random_below(20) as u32).await;
            if depth > 0 {
                // Of a peer that is gone in the meantime, this fails.
                let _ = context.peer().invoke::<_, ()>("work", &(depth - 1)).await;
            }
            HandlerResult::Ok(())
        }
    })
}

/// A driver that runs as a task, and can be dropped.
#[derive(Clone)]
struct Driving(Arc<Mutex<Option<Driver>>>);

impl Driving {
    fn spawn(host: &Host, driver: Driver) -> Self {
        let driving = Self(Arc::new(Mutex::new(Some(driver))));
        let task = driving.clone();
        host.spawn(std::future::poll_fn(move |cx| {
            let mut driver = task.take();
            let polled = driver.as_mut().map(|driver| driver.poll_unpin(cx));
            *task.0.lock().expect("nobody panics with it") = driver;
            polled.map_or(Poll::Ready(()), |polled| polled.map(drop))
        }));
        driving
    }

    fn take(&self) -> Option<Driver> {
        self.0.lock().expect("nobody panics with it").take()
    }
}

/// What an endpoint has said of each peer, and whether that made sense.
async fn check_events(mut events: Events) {
    let mut connected = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Connected(peer) => assert!(connected.insert(peer.id()), "{} connects twice", peer.id()),
            Event::Disconnected { peer, cause } => {
                assert!(connected.remove(&peer), "{peer} was not connected, and is disconnected: {cause}");
            }
            _ => {}
        }
    }
    assert!(connected.is_empty(), "nobody has said that these are gone: {connected:?}");
}

struct Party {
    binder: Binder,
    connectors: Vec<Connector>,
    /// Of the binder, and then of the connectors.
    driving: Vec<Driving>,
}

impl Party {
    async fn shutdown(&self, of: Option<usize>, grace: Duration) {
        match of {
            None => drop(self.binder.shutdown(grace).await),
            Some(number) => drop(self.connectors[number].shutdown(grace).await),
        }
    }

    /// Ends an endpoint in one of three ways. Returns as soon as a shutdown does.
    async fn end(&self, world: &World, of: Option<usize>) {
        let grace = || MS * world.random_below(100) as u32;
        let shutdown = self.shutdown(of, grace());
        match world.random_below(3) {
            0 => shutdown.await,
            1 => {
                select(pin!(shutdown), pin!(self.shutdown(of, grace()))).await;
            }
            _ => {
                drop(self.driving[of.map_or(0, |number| number + 1)].take());
                shutdown.await;
            }
        }
    }
}

async fn gather(world: &World, server: &Host, clients: &[Host], curve: bool) -> Party {
    let (server_keys, client_keys) = (generate_keys(), generate_keys());
    let mut builder = with_handlers(server.builder(), world);
    if curve {
        let keys = KeySet::new(server_keys.clone());
        keys.admit(client_keys.public(), "client");
        builder = builder.authenticator(keys);
    }
    let (binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
    server.spawn(check_events(binder.events()));
    let mut driving = vec![Driving::spawn(server, driver)];
    let mut connect = |host: &Host| {
        let mut builder = with_handlers(host.builder(), world);
        if curve {
            builder = builder.authenticator(CurveClient::new(client_keys.clone(), server_keys.public()));
        }
        let (connector, driver) = builder.connect("tcp://server:1").expect("it is an endpoint");
        host.spawn(check_events(connector.events()));
        driving.push(Driving::spawn(host, driver));
        connector
    };
    let connectors = clients.iter().map(&mut connect).collect();
    Party { binder, connectors, driving }
}

/// Calls of the binder, or of a connector, made and not awaited.
type Calls = Vec<(Option<usize>, Response<()>)>;

async fn make_calls(world: &World, party: &Party) -> Calls {
    let mut calls = Vec::new();
    for _ in 0..20 {
        let number = world.random_below(3) as usize;
        let back = party.binder.peers().into_iter().nth(number).filter(|_| world.random_below(2) == 0);
        let (owner, peer) = match back {
            Some(peer) => (None, peer),
            None => (Some(number), party.connectors[number].peer().clone()),
        };
        calls.push((owner, peer.invoke::<_, ()>("work", &3).into_future()));
        world.sleep(MS * world.random_below(4) as u32).await;
    }
    calls
}

/// The calls of an endpoint that has shut down have their outcome: none has to wait for it.
fn check_outcomes(calls: &mut Calls, of: Option<usize>) {
    for (_, call) in calls.extract_if(.., |(owner, _)| *owner == of) {
        assert!(call.now_or_never().is_some(), "a call has no outcome, and its endpoint has shut down");
    }
}

fn run(seed: u64, curve: bool) {
    let world = World::new(seed);
    let (server, clients) = (world.host("server"), ["a", "b", "c"].map(|name| world.host(name)));
    world.set_default_link(Link::default().jitter(5 * MS));
    world.run(async {
        let party = gather(&world, &server, &clients, curve).await;
        world.sleep(MS * world.random_below(20) as u32).await;
        let mut calls = make_calls(&world, &party).await;
        // In some order, each with some time.
        let mut left = vec![None, Some(0), Some(1), Some(2)];
        while !left.is_empty() {
            let of = left.swap_remove(world.random_below(left.len() as u64) as usize);
            party.end(&world, of).await;
            check_outcomes(&mut calls, of);
        }
        // All events of the links have been emitted by then.
        world.sleep(MS).await;
    });
}

#[test]
fn every_call_has_its_outcome_before_a_shutdown_returns() {
    (0..200).for_each(|seed| run(seed, false));
}

#[test]
fn every_call_has_its_outcome_before_a_shutdown_returns_under_curve() {
    (0..100).for_each(|seed| run(seed, true));
}

/// A body whose destructor looks at what has ended: a shutdown, and another call.
struct Witness {
    bytes: Vec<u8>,
    connector: Connector,
    other: Arc<Mutex<Option<Response<Bytes>>>>,
    seen: Arc<Mutex<Option<(bool, bool)>>>,
}

impl AsRef<[u8]> for Witness {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let is_over = self.connector.shutdown(Duration::ZERO).now_or_never().is_some();
        let mut other = self.other.lock().expect("nobody panics with it");
        let has_ended = other.as_mut().is_some_and(|call| call.now_or_never().is_some());
        *self.seen.lock().expect("nobody panics with it") = Some((is_over, has_ended));
    }
}

/// An executor may drop the task of a link while the endpoint is still ending.
#[test]
fn a_handler_whose_link_is_closed_by_a_shutdown_learns_of_the_shutdown() {
    let world = World::new(1);
    let (server, client) = (world.host("server"), world.host("client"));
    world.run(async {
        let tasks = Arc::<Mutex<Vec<Arc<Task>>>>::default();
        let kept = tasks.clone();
        let builder = ChangedRuntime::spawning(&server, move |task| {
            let task = Task::start(OnWake::Poll, task);
            kept.lock().expect("nobody panics with it").push(task);
            None
        });
        let (tell, told) = oneshot::channel();
        let tell = Mutex::new(Some(tell));
        let builder = builder.handle_raw("hang", move |_: Bytes, context: Context| {
            let tell = tell.lock().expect("nobody panics with it").take();
            async move {
                context.set_cancel_grace(SECOND);
                let reason = context.cancelled().await;
                tell.expect("it is called once").send(reason).expect("the test waits for it");
                HandlerResult::Ok(Bytes::new())
            }
        });
        let (binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
        server.spawn(async { drop(driver.await) });
        let (connector, driver) = client.builder().connect("tcp://server:1").expect("it is an endpoint");
        client.spawn(async { drop(driver.await) });
        connector.peer().ready().await.expect("it is there");
        let call = connector.peer().invoke_raw("hang", "").into_future();
        world.sleep(SECOND).await;
        assert_eq!(binder.shutdown(SECOND).await, Drained::DeadlinePassed);
        assert_eq!(told.await, Ok(CancelReason::Shutdown));
        assert!(matches!(call.await, Err(CallError::Disconnected(_))));
    });
}

#[test]
fn a_shutdown_that_is_polled_as_the_endpoint_ends_waits_for_every_call() {
    let world = World::new(0);
    let client = world.host("client");
    let (connector, driver) = client.builder().connect("tcp://server:1").expect("it is an endpoint");
    let (other, seen) = <(Arc<Mutex<_>>, Arc<Mutex<_>>)>::default();
    let bytes = vec![1; 5_000];
    let witness = Witness { bytes, connector: connector.clone(), other: other.clone(), seen: seen.clone() };
    let first = connector.peer().invoke_raw("first", Bytes::from_owner(witness)).into_future();
    let second = connector.peer().invoke_raw("second", "").into_future();
    *other.lock().expect("nobody panics with it") = Some(second);
    drop(driver);
    drop(first);
    // As soon as code of the application runs, all calls of a peer have their outcome; those of others may have none yet.
    assert_eq!(*seen.lock().expect("nobody panics with it"), Some((false, true)));
    assert!(connector.shutdown(Duration::ZERO).now_or_never().is_some());
}

#[test]
fn streams_whose_layers_still_wait_have_their_outcome_before_a_shutdown_returns() {
    for seed in 0..50 {
        let world = World::new(seed);
        let client = world.host("client");
        world.run(async {
            let waits = |call: OutgoingCall, next: CallNext| async move {
                std::future::pending::<()>().await;
                next.run(call).await
            };
            let builder = client.builder().call_layer(waits);
            let (connector, driver) = builder.connect("tcp://server:1").expect("it is an endpoint");
            let driving = Driving::spawn(&client, driver);
            let (_writer, answer) = connector.peer().open("stream").stream().expect("its layers wait");
            world.sleep(10 * MS).await;
            if seed % 2 == 0 {
                drop(driving.take());
            }
            connector.shutdown(1_000 * MS).await;
            let outcome = answer.now_or_never().expect("its endpoint has shut down");
            assert!(
                matches!(outcome, Err(CallError::NotSent(NotSent::Disconnected(DisconnectCause::Shutdown)))),
                "{outcome:?}"
            );
        });
    }
}

#[test]
fn a_call_whose_layer_waits_has_its_outcome_once_the_layer_has() {
    let world = World::new(0);
    let client = world.host("client");
    world.run(async {
        let time = world.time();
        let waits = move |call: OutgoingCall, next: CallNext| {
            let time = time.clone();
            async move {
                time.sleep(10_000 * MS).await;
                next.run(call).await
            }
        };
        let builder = client.builder().call_layer(waits);
        let (connector, driver) = builder.connect("tcp://server:1").expect("it is an endpoint");
        client.spawn(async { drop(driver.await) });
        let mut call = connector.peer().invoke::<_, ()>("work", &3).timeout(1_000 * MS).into_future();
        world.sleep(2_000 * MS).await;
        assert!((&mut call).now_or_never().is_none(), "the call is not made, so its timeout has not begun");
        connector.shutdown(1_000 * MS).await;
        assert!((&mut call).now_or_never().is_none(), "the layer is the application's");
        let outcome = call.await;
        assert!(
            matches!(outcome, Err(CallError::NotSent(NotSent::Disconnected(DisconnectCause::Shutdown)))),
            "{outcome:?}"
        );
    });
}

/// A binder shuts down while its peer is out of reach, with replies under way that fill no buffer: how it ends, how long that takes, and
/// how many of the calls have a result in the end. Before, the binder sends so many probes.
fn shut_down_during_a_partition(
    dialect: Dialect,
    partition: Duration,
    grace: Duration,
    probes: usize,
) -> (Drained, Duration, usize) {
    const CALLS: usize = 200;
    let world = World::new(0);
    let (server, client) = (world.host("server"), world.host("client"));
    world.set_default_link(Link::default().buffer(1 << 20));
    world.run(async {
        let time = world.time();
        let late = move |(): (), _: Context| {
            let time = time.clone();
            async move {
                time.sleep(20 * MS).await;
                HandlerResult::Ok("x".repeat(1_000))
            }
        };
        let builder = server.builder().dialect(dialect).max_concurrency(CALLS).handle("late", late);
        let (binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
        server.spawn(async { drop(driver.await) });
        let (connector, driver) = client.builder().connect("tcp://server:1").expect("it is an endpoint");
        client.spawn(async { drop(driver.await) });
        let peer = connector.peer().clone();
        peer.ready().await.expect("it is there");
        let calls = join_all((0..CALLS).map(|_| peer.invoke::<_, String>("late", &()).into_future()));
        let outcomes = async {
            let outcomes = calls.await;
            outcomes.iter().filter(|outcome| outcome.is_ok()).count()
        };
        let time = world.time();
        client.spawn(async move {
            // A side that has something to say finds out at once that the other side has closed.
            while peer.is_connected() {
                let (ping, pause) = (pin!(peer.ping()), pin!(time.sleep(MS)));
                select(ping, pause).await;
            }
        });
        let ends = async {
            world.sleep(10 * MS).await;
            world.partition(&server, &client);
            world.sleep(20 * MS).await;
            let probed = binder.peers().remove(0);
            let mut probes: FuturesUnordered<_> = (0..probes).map(|_| probed.ping()).collect();
            assert!(probes.next().now_or_never().flatten().is_none(), "nobody answers during a partition");
            let begun = world.elapsed();
            let shutdown = async { (binder.shutdown(grace).await, world.elapsed() - begun) };
            let heals = async {
                world.sleep(partition).await;
                world.heal(&server, &client);
            };
            futures_util::future::join(shutdown, heals).await.0
        };
        let ((drained, took), outcomes) = futures_util::future::join(ends, outcomes).await;
        (drained, took, outcomes)
    })
}

#[test]
fn a_shutdown_waits_until_a_peer_that_stalls_has_received_its_replies() {
    let second = 1_000 * MS;
    for dialect in [Dialect::One, Dialect::Two] {
        // Also if the application has as many probes open as it may.
        for probes in [0, 32] {
            let (drained, took, results) =
                shut_down_during_a_partition(dialect, 5 * second, 30 * second, probes);
            assert_eq!((drained, results), (Drained::Completely, 200), "{dialect:?}");
            assert!((5 * second..6 * second).contains(&took), "{dialect:?}: {took:?}");
        }
        let (drained, took, results) = shut_down_during_a_partition(dialect, 5 * second, 2 * second, 0);
        assert_eq!((drained, took), (Drained::DeadlinePassed, 2 * second), "{dialect:?}");
        assert!(results < 200, "what it says is needed: {dialect:?}");
    }
}

/// Ends an endpoint where a connection is logged: between its handshake and what the subscribers are told of it.
struct EndWhenConnected(Arc<Mutex<Option<Driving>>>);

struct Message(String);

impl tracing::field::Visit for Message {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl tracing::Subscriber for EndWhenConnected {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        if message.0 == "peer connected" {
            let driving = self.0.lock().expect("nobody panics with it").take();
            drop(driving.and_then(|driving| driving.take()));
        }
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn an_endpoint_that_ends_as_a_peer_connects_tells_of_both_in_their_order() {
    let world = World::new(0);
    let (server, client) = (world.host("server"), world.host("client"));
    let slot = Arc::new(Mutex::new(None::<Driving>));
    let told = tracing::subscriber::with_default(EndWhenConnected(slot.clone()), || {
        world.run(async {
            let (binder, driver) = server.builder().bind("tcp://server:1").await.expect("the port is free");
            let events = binder.events();
            *slot.lock().expect("nobody panics with it") = Some(Driving::spawn(&server, driver));
            let (_connector, driver) = client.builder().connect("tcp://server:1").expect("it is an endpoint");
            client.spawn(async { drop(driver.await) });
            events.map(|event| format!("{event:?}")).collect::<Vec<_>>().await
        })
    });
    assert!(
        told.len() == 2 && told[0].starts_with("Connected") && told[1].starts_with("Disconnected"),
        "{told:?}"
    );
}
