//! Runtimes that drop tasks, and code of the application that panics: that costs the call, the link or the endpoint which it belongs to
//! one outcome, and nothing else.

use std::future::{Future, IntoFuture, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::layer::{CallNext, OutgoingCall};
use callosum_runtime::link::{HubSender, LinkFailure, MessageSender, memory};
use callosum_runtime::proto::Multipart;
use callosum_runtime::{
    BodyReader, Builder, CallError, Context, Driver, Event, HandlerResult, Peer, Responder, duplex,
};
use callosum_testkit::world::World;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, BoxFuture, FutureExt, abortable};

use crate::changed_runtime::ChangedRuntime;

const SECOND: Duration = Duration::from_secs(1);

fn with_echo(builder: Builder) -> Builder {
    builder.handle_raw("echo", |body: Bytes, _: Context| async { HandlerResult::Ok(body) }).handle_stream(
        "stream",
        |mut body: BodyReader, responder: Responder, _: Context| async move {
            let mut writer = responder.begin().await?;
            while let Some(bytes) = body.next().await {
                writer.write_bytes(bytes?).await?;
            }
            HandlerResult::Ok(())
        },
    )
}

async fn check_echo(peer: &Peer) {
    let echoed = peer.invoke_raw("echo", "x").timeout(SECOND).await;
    assert_eq!(echoed.expect("other calls go on"), "x");
}

#[test]
fn a_handler_that_the_runtime_drops_unpolled_is_the_only_one_that_ends() {
    let world = World::new(0);
    let (server, client) = (world.host("server"), world.host("client"));
    world.run(async {
        let drops_next = Arc::new(AtomicBool::new(false));
        let drops = drops_next.clone();
        let builder =
            ChangedRuntime::spawning(&server, move |task| (!drops.swap(false, Relaxed)).then_some(task));
        let time = world.time();
        let builder = with_echo(builder).handle_raw("late", move |body: Bytes, _: Context| {
            let time = time.clone();
            async move {
                time.sleep(SECOND).await;
                HandlerResult::Ok(body)
            }
        });
        let (binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
        server.spawn(async { drop(driver.await) });
        let (connector, driver) = client.builder().connect("tcp://server:1").expect("it is an endpoint");
        client.spawn(async { drop(driver.await) });
        let peer = connector.peer();
        peer.ready().await.expect("it is there");
        let earlier = peer.invoke_raw("late", "earlier").timeout(20 * SECOND).into_future();
        world.sleep(SECOND / 2).await;
        drops_next.store(true, Relaxed);
        let dropped = peer.invoke_raw("late", "dropped").timeout(20 * SECOND).await;
        assert!(matches!(dropped, Err(CallError::Cancelled)), "{dropped:?}");
        assert_eq!(earlier.await.expect("it runs"), "earlier");
        let later = peer.invoke_raw("late", "later").timeout(20 * SECOND).await;
        assert_eq!(later.expect("it runs"), "later");
        check_echo(peer).await;
        let (another, driver) = client.builder().connect("tcp://server:1").expect("it is an endpoint");
        client.spawn(async { drop(driver.await) });
        check_echo(another.peer()).await;
        assert_eq!(binder.stats().requests_running, 0);
    });
}

/// How the links of a binder are made.
#[derive(Clone, Copy, Debug)]
enum Links {
    Sockets,
    Accepted,
    OneForAll,
}

/// A link to the only peer of a hub.
struct ToClient(HubSender);

impl MessageSender for ToClient {
    fn send<'a>(&'a self, _: &'a Bytes, message: Multipart) -> BoxFuture<'a, Result<(), LinkFailure>> {
        async { self.0.send(&Bytes::from_static(b"client"), message).await }.boxed()
    }
}

#[test]
fn the_calls_of_a_link_end_if_the_runtime_drops_its_task() {
    for links in [Links::Sockets, Links::Accepted, Links::OneForAll] {
        let world = World::new(0);
        let (server, client) = (world.host("server"), world.host("client"));
        world.run(async {
            let tasks = Arc::<Mutex<Vec<AbortHandle>>>::default();
            let spawned = tasks.clone();
            let builder = with_echo(ChangedRuntime::spawning(&server, move |task| {
                let (task, handle) = abortable(task);
                spawned.lock().expect("nobody panics with it").push(handle);
                Some(async { _ = task.await }.boxed())
            }));
            let never = |_: Bytes, _: Context| pending::<HandlerResult<Bytes>>();
            let calling = client.builder().handle_raw("never", never);
            let (binder, driver, (connector, calling)) = match links {
                Links::Sockets => {
                    let (binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
                    (binder, driver, calling.connect("tcp://server:1").expect("it is an endpoint"))
                }
                Links::Accepted => {
                    let (hub, sender, receiver) = memory(16);
                    let (to, from) = hub.connect("client");
                    let (binder, driver) = builder.binder();
                    binder.accept_link(ToClient(sender), receiver, "client", "client").expect("it runs");
                    (binder, driver, calling.connect_link(to, from))
                }
                Links::OneForAll => {
                    let (hub, sender, receiver) = memory(16);
                    let (to, from) = hub.connect("client");
                    let (binder, driver) = builder.bind_link(sender, receiver);
                    (binder, driver, calling.connect_link(to, from))
                }
            };
            let mut events = binder.events();
            server.spawn(async { drop(driver.await) });
            client.spawn(async { drop(calling.await) });
            connector.peer().ready().await.expect("it is there");
            check_echo(connector.peer()).await;
            let back = binder.peers().pop().expect("it is connected");
            let call = back.invoke_raw("never", "").into_future();
            world.sleep(SECOND).await;
            tasks.lock().expect("nobody panics with it").drain(..).for_each(|task| task.abort());
            world.sleep(SECOND).await;
            let outcome = call.now_or_never().expect("its link is gone");
            assert!(matches!(outcome, Err(CallError::Disconnected(_))), "{links:?}: {outcome:?}");
            assert!(!back.is_connected(), "{links:?}");
            let mut told = Vec::new();
            while let Some(Some(event)) = events.next().now_or_never() {
                told.push(event);
            }
            let is_told = told.iter().any(|event| matches!(event, Event::Disconnected { .. }));
            assert!(is_told, "{links:?}: {told:?}");
        });
    }
}

#[test]
fn a_layer_that_panics_ends_its_streamed_call_only() {
    let world = World::new(0);
    let (server, client) = (world.host("server"), world.host("client"));
    world.run(async {
        let builder = with_echo(server.builder());
        let (_binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
        server.spawn(async { drop(driver.await) });
        let time = world.time();
        let layer = move |call: OutgoingCall, next: CallNext| {
            let time = time.clone();
            async move {
                if call.opens_stream() {
                    time.sleep(SECOND).await;
                    panic!("a layer panics");
                }
                next.run(call).await
            }
        };
        // A panic in a task of the world is one of the test.
        let (connector, driver) =
            client.builder().call_layer(layer).connect("tcp://server:1").expect("it is an endpoint");
        client.spawn(async { drop(driver.await) });
        connector.peer().ready().await.expect("it is there");
        let answer = connector.peer().open("echo").send_raw("x").expect("its layer waits");
        let outcome = answer.await;
        assert!(matches!(outcome, Err(CallError::NotSent(_))), "{outcome:?}");
        check_echo(connector.peer()).await;
    });
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("the destructor of a handler panics");
    }
}

#[test]
fn an_endpoint_ends_although_the_destructor_of_a_handler_panics() {
    let world = World::new(0);
    let (server, client) = (world.host("server"), world.host("client"));
    world.run(async {
        let owned = PanicsWhenDropped;
        let builder = with_echo(server.builder())
            .handle_raw("panics", move |body: Bytes, _: Context| {
                let _ = &owned;
                async { HandlerResult::Ok(body) }
            })
            .handle_raw("cleans up", |_: Bytes, context: Context| async move {
                context.set_cancel_grace(9 * SECOND);
                pending::<HandlerResult<Bytes>>().await
            });
        let (binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
        let driver = Arc::new(Mutex::new(Some(driver)));
        let polled = driver.clone();
        server.spawn(std::future::poll_fn(move |cx| {
            let mut driver = polled.lock().expect("nobody panics with it");
            driver.as_mut().map_or(Poll::Ready(()), |driver| driver.poll_unpin(cx).map(drop))
        }));
        let (connector, driving) = client.builder().connect("tcp://server:1").expect("it is an endpoint");
        client.spawn(async { drop(driving.await) });
        let call = connector.peer().invoke_raw("cleans up", "").into_future();
        world.sleep(SECOND).await;
        assert_eq!(binder.stats().requests_running, 1);
        let driver: Option<Driver> = driver.lock().expect("nobody panics with it").take();
        catch_unwind(AssertUnwindSafe(|| drop(driver))).expect("the driver ends as others do");
        world.sleep(SECOND).await;
        assert_eq!(binder.stats().requests_running, 0, "without its driver, no handler goes on");
        drop(call);
    });
}

/// The waker of a task whose executor panics, once this is set.
struct Panics(AtomicBool);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        assert!(!self.0.load(Relaxed), "the executor of this task has ended");
    }
}

fn poll_with_panicking_waker(future: &mut (impl Future + Unpin)) {
    let waker = Waker::from(Arc::new(Panics(AtomicBool::new(true))));
    assert!(future.poll_unpin(&mut TaskContext::from_waker(&waker)).is_pending());
}

/// Connects two endpoints that serve and call, and gives the peer of either.
fn with_peers(check: impl AsyncFn(&Peer)) {
    for of_binder in [false, true] {
        let world = World::new(0);
        let (server, client) = (world.host("server"), world.host("client"));
        world.run(async {
            let builder = with_echo(server.builder());
            let (binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
            server.spawn(async { drop(driver.await) });
            let builder = with_echo(client.builder());
            let (connector, driver) = builder.connect("tcp://server:1").expect("it is an endpoint");
            client.spawn(async { drop(driver.await) });
            connector.peer().ready().await.expect("it is there");
            check_echo(connector.peer()).await;
            let peer = match of_binder {
                true => binder.peers().pop().expect("it is connected"),
                false => connector.peer().clone(),
            };
            let mut events = binder.events();
            check(&peer).await;
            world.sleep(SECOND).await;
            check_echo(&peer).await;
            assert!(events.next().now_or_never().is_none(), "the link goes on");
        });
    }
}

#[test]
fn a_callers_panicking_waker_costs_no_other_call() {
    with_peers(async |peer| {
        let mut call = peer.invoke_raw("echo", "x").into_future();
        poll_with_panicking_waker(&mut call);
        check_echo(peer).await;
        assert_eq!(call.now_or_never().expect("it has its outcome").expect("it succeeds"), "x");
    });
}

#[test]
fn a_readers_panicking_waker_costs_no_call() {
    with_peers(async |peer| {
        let (mut writer, mut answer) = peer.open("stream").stream().expect("it is connected");
        writer.write_bytes(Bytes::from_static(b"x")).await.expect("it is connected");
        poll_with_panicking_waker(&mut answer);
        check_echo(peer).await;
        writer.finish().expect("it goes on");
        let result = answer.await.expect("it has begun").body.collect().await;
        assert_eq!(result.expect("it is complete"), "x");
    });
}

#[test]
fn a_drivers_panicking_waker_costs_no_shutdown() {
    let world = World::new(0);
    let (server, client) = (world.host("server"), world.host("client"));
    world.run(async {
        let (one, other) = duplex(1 << 16);
        let (connector, mut driver) = client.builder().connect_stream(one);
        let (binder, accepting) = with_echo(server.builder()).binder();
        server.spawn(async { drop(accepting.await) });
        binder.accept(other, "client").expect("it runs");
        let panics = Arc::new(Panics(AtomicBool::new(false)));
        let waker = Waker::from(panics.clone());
        while !connector.peer().is_connected() {
            assert!(driver.poll_unpin(&mut TaskContext::from_waker(&waker)).is_pending());
            world.sleep(SECOND / 100).await;
        }
        panics.0.store(true, Relaxed);
        let mut shutdown = std::pin::pin!(connector.shutdown(SECOND));
        assert!(shutdown.as_mut().now_or_never().is_none(), "its driver is not polled");
        client.spawn(async { drop(driver.await) });
        shutdown.await;
    });
}
