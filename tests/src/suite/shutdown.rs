//! How endpoints end: drained, cut, or dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callosum_runtime::{
    CallError, Codec, Context, DisconnectCause, Drained, Event, HandlerResult, InvokeError, NotSent, Peer,
    Refusal,
};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::gate::{Alive, Gate};
use crate::rig::{Pair, Rig, SOON, Task, poll_once};

type Call = Task<Result<Value, CallError>>;

fn hold(rig: &Rig, peer: &Peer, argument: u32) -> Call {
    let peer = peer.clone();
    rig.spawn(async move { peer.invoke("hold", &argument).await })
}

async fn gated(rig: &Rig, slots: usize) -> (Pair, Gate) {
    let gate = Gate::default();
    let pair = rig.pair(rig.builder().max_concurrency(slots), rig.builder()).await;
    gate.guard(pair.binder.handlers(), "hold");
    gate.guard(pair.connector.handlers(), "hold");
    (pair, gate)
}

/// The other side takes no new calls. Whether it says so depends on whether its goodbye was heard before.
fn refused_by_shutdown(error: &CallError) {
    assert!(
        matches!(error, CallError::NotSent(NotSent::Refused(InvokeError::PeerDraining)))
            || error.remote().and_then(Refusal::of) == Some(Refusal::ShuttingDown),
        "{error:?}"
    );
    assert!(!error.may_have_run());
}

/// A binder drains: running and waiting calls finish, their replies reach the other side, new calls are refused.
pub async fn binder_drains(rig: Rig) {
    let (pair, gate) = gated(&rig, 2).await;
    let calls: Vec<Call> = (0..5).map(|n| hold(&rig, pair.peer(), n)).collect();
    let running = [gate.next().await, gate.next().await];
    rig.until(|| pair.back.stats().requests_queued == 3).await;
    let binder = pair.binder.clone();
    let mut shutdown = Box::pin(async move { binder.shutdown(SOON).await });
    assert!(poll_once(&mut shutdown).await.is_none());
    let error = hold(&rig, pair.peer(), 9).join().await.expect_err("it takes no new calls");
    refused_by_shutdown(&error);
    let error = hold(&rig, &pair.back, 9).join().await.expect_err("no new calls from this side either");
    assert!(matches!(error, CallError::NotSent(NotSent::Refused(InvokeError::Draining))), "{error:?}");
    assert!(!error.may_have_run());
    for held in running {
        held.release("done");
    }
    for _ in 0..3 {
        gate.next().await.release("done");
    }
    for call in calls {
        assert_eq!(call.join().await.expect("its reply reached us"), "done");
    }
    assert_eq!(shutdown.await, Drained::Completely);
    pair.binder_driver.join().await.expect("it ends well");
    assert_eq!((gate.live(), gate.started()), (0, 5));
    pair.connector_driver.cut().await;
}

/// A connector drains: what it serves and what it has called finishes.
pub async fn connector_drains(rig: Rig) {
    let (pair, gate) = gated(&rig, 2).await;
    let ours = hold(&rig, pair.peer(), 1);
    let one = gate.next().await;
    let theirs = hold(&rig, &pair.back, 2);
    let two = gate.next().await;
    let connector = pair.connector.clone();
    let mut shutdown = Box::pin(async move { connector.shutdown(SOON).await });
    assert!(poll_once(&mut shutdown).await.is_none());
    let error = hold(&rig, &pair.back, 9).join().await.expect_err("it takes no new calls");
    refused_by_shutdown(&error);
    let error = pair.peer().invoke::<_, Value>("hold", &9).await.expect_err("no new calls");
    assert!(matches!(error, CallError::NotSent(NotSent::Refused(InvokeError::Draining))), "{error:?}");
    one.release("one");
    assert_eq!(ours.join().await.expect("it finishes"), "one");
    two.release("two");
    assert_eq!(theirs.join().await.expect("its reply reached us"), "two");
    assert_eq!(shutdown.await, Drained::Completely);
    pair.connector_driver.join().await.expect("it ends well");
    pair.binder.shutdown(SOON).await;
    pair.binder_driver.join().await.expect("it ends well");
}

/// Large replies that are done when the drain begins reach the other side.
pub async fn large_replies_are_flushed(rig: Rig) {
    let gate = Gate::default();
    // JSON looks at each of the bytes.
    let builder = || rig.builder().codec(Codec::MsgPack);
    let pair = rig.pair(builder(), builder()).await;
    gate.guard(pair.binder.handlers(), "hold");
    let large = Value::from("x".repeat(4 << 20));
    let calls: Vec<Call> = (0..8).map(|n| hold(&rig, pair.peer(), n)).collect();
    for _ in 0..8 {
        gate.next().await.release(large.clone());
    }
    rig.until(|| gate.live() == 0).await;
    assert_eq!(pair.binder.shutdown(SOON).await, Drained::Completely);
    for call in calls {
        assert_eq!(call.join().await.expect("its reply reached us"), large);
    }
    pair.binder_driver.join().await.expect("it ends well");
    pair.connector_driver.cut().await;
}

/// What is still under way at the deadline is cut: handlers are dropped, calls end with an error.
pub async fn deadline_cuts(rig: Rig) {
    for binder_first in [true, false] {
        let (pair, gate) = gated(&rig, 2).await;
        let calls = [hold(&rig, pair.peer(), 1), hold(&rig, &pair.back, 2)];
        let _held = (gate.next().await, gate.next().await);
        let patience = Duration::from_millis(10);
        let mut events = match binder_first {
            true => pair.binder.events(),
            false => pair.connector.events(),
        };
        let (drained, driver, other) = match binder_first {
            true => (pair.binder.shutdown(patience).await, pair.binder_driver, pair.connector_driver),
            false => (pair.connector.shutdown(patience).await, pair.connector_driver, pair.binder_driver),
        };
        assert_eq!(drained, Drained::DeadlinePassed);
        driver.join().await.expect("a shutdown is no error");
        for call in calls {
            let error = call.join().await.expect_err("it was cut");
            assert!(matches!(error, CallError::Disconnected(_)), "{error:?}");
            assert!(error.may_have_run());
        }
        rig.until(|| gate.live() == 0).await;
        assert!(matches!(
            events.next().await,
            Some(Event::Disconnected { cause: DisconnectCause::Shutdown, .. })
        ));
        assert!(events.next().await.is_none());
        other.cut().await;
    }
}

/// Shutting down twice, or with an earlier deadline, is one shutdown; all who asked are told.
pub async fn shutdown_twice(rig: Rig) {
    let (pair, gate) = gated(&rig, 2).await;
    let call = hold(&rig, pair.peer(), 1);
    let _held = gate.next().await;
    let binder = pair.binder.clone();
    let mut first = Box::pin(async move { binder.shutdown(Duration::MAX).await });
    assert!(poll_once(&mut first).await.is_none());
    assert_eq!(pair.binder.shutdown(Duration::ZERO).await, Drained::DeadlinePassed);
    assert_eq!(first.await, Drained::DeadlinePassed);
    assert_eq!(pair.binder.shutdown(SOON).await, Drained::DeadlinePassed, "it is over");
    call.join().await.expect_err("it was cut");
    pair.connector_driver.cut().await;
}

/// Endpoints without peers, links or calls drain at once.
pub async fn nothing_to_drain(rig: Rig) {
    let (binder, driver) = rig.serve(rig.builder()).await;
    let endpoint = binder.endpoints().remove(0);
    assert_eq!(binder.shutdown(SOON).await, Drained::Completely);
    driver.join().await.expect("it ends well");
    let (connector, driver) = rig.connect(rig.builder(), &endpoint);
    assert_eq!(connector.shutdown(SOON).await, Drained::Completely);
    driver.join().await.expect("it ends well");
    let error = connector.peer().invoke::<_, Value>("hold", &1).await.expect_err("it is over");
    assert!(
        matches!(error, CallError::NotSent(NotSent::Disconnected(DisconnectCause::Shutdown))),
        "{error:?}"
    );
    connector.peer().ready().await.expect_err("it is over");
}

/// A peer that connects during a drain is not taken in.
pub async fn no_newcomers_while_draining(rig: Rig) {
    let (pair, gate) = gated(&rig, 2).await;
    let call = hold(&rig, pair.peer(), 1);
    let held = gate.next().await;
    let binder = pair.binder.clone();
    let mut shutdown = Box::pin(async move { binder.shutdown(SOON).await });
    assert!(poll_once(&mut shutdown).await.is_none());
    let (ours, _) = callosum_runtime::duplex(1024);
    let error = pair.binder.accept(ours, "late").expect_err("it is draining");
    assert!(matches!(error, DisconnectCause::Shutdown), "{error:?}");
    held.release(1);
    call.join().await.expect("it finishes");
    assert_eq!(shutdown.await, Drained::Completely);
    pair.connector_driver.cut().await;
}

/// Dropping a driver ends everything under it: handlers are dropped, pending calls end, events end, the other side
/// learns of it.
pub async fn dropped_driver(rig: Rig) {
    for binder_first in [true, false] {
        let (pair, gate) = gated(&rig, 2).await;
        let calls = [hold(&rig, pair.peer(), 1), hold(&rig, &pair.back, 2)];
        let _held = (gate.next().await, gate.next().await);
        let Pair { binder, binder_driver, connector, connector_driver, back } = pair;
        let (dropped, other, mut events) = match binder_first {
            true => (binder_driver, connector_driver, binder.events()),
            false => (connector_driver, binder_driver, connector.events()),
        };
        dropped.cut().await;
        for call in calls {
            let error = call.join().await.expect_err("the link is gone");
            assert!(matches!(error, CallError::Disconnected(_)), "{error:?}");
        }
        rig.until(|| gate.live() == 0).await;
        while events.next().await.is_some() {}
        assert!(binder.peers().is_empty() || !binder_first);
        let (ours, theirs) = (connector.peer().stats(), back.stats());
        assert_eq!((ours.calls_in_flight, theirs.calls_in_flight), (0, 0));
        other.cut().await;
    }
}

/// Dropping a driver with a full house, also with calls that wait, while both sides call: every call ends, and every
/// handler that started is dropped, whatever was going on at that moment.
pub async fn dropped_driver_in_the_thick_of_it(rig: Rig) {
    for round in 0..20 {
        let live = Arc::new(AtomicUsize::new(0));
        let counter = live.clone();
        let handler = move |n: u32, context: Context| {
            let alive = Alive::new(&counter);
            async move {
                let _alive = alive;
                if n > 0 {
                    context.peer().invoke::<_, u32>("work", &(n - 1)).await?;
                }
                HandlerResult::Ok(n)
            }
        };
        let builder = || rig.builder().max_concurrency(2).handle("work", handler.clone());
        let pair = rig.pair(builder(), builder()).await;
        let calls: Vec<_> = (0..60)
            .map(|n| {
                let peer = if n % 2 == 0 { pair.peer().clone() } else { pair.back.clone() };
                rig.spawn(async move { peer.invoke::<_, u32>("work", &(n % 5)).await })
            })
            .collect();
        rig.until(|| pair.peer().stats().calls_done >= round % 10).await;
        let Pair { binder_driver, connector_driver, connector, back, .. } = pair;
        binder_driver.cut().await;
        connector_driver.cut().await;
        for call in calls {
            // Which calls were quicker than the drop does not matter; that all end does.
            let _ = call.join().await;
        }
        rig.until(|| live.load(Ordering::SeqCst) == 0).await;
        for peer in [connector.peer(), &back] {
            let peer = peer.clone();
            rig.until(move || {
                let stats = peer.stats();
                (stats.calls_in_flight, stats.requests_running, stats.requests_queued) == (0, 0, 0)
            })
            .await;
        }
    }
}

/// A driver that was never polled can be dropped; what waited ends.
pub async fn driver_never_polled(rig: Rig) {
    let (connector, driver) = rig.builder().connect(rig.endpoint()).expect("an endpoint");
    let argument = json!(1);
    let mut call = connector.peer().invoke::<_, Value>("hold", &argument).into_future();
    assert!(poll_once(&mut call).await.is_none());
    drop(driver);
    let error = call.await.expect_err("nobody will send it");
    assert!(matches!(error, CallError::NotSent(_)), "{error:?}");
    let (binder, driver) = rig.builder().bind(rig.endpoint()).await.expect("it is free");
    drop(driver);
    assert_eq!(binder.shutdown(SOON).await, Drained::DeadlinePassed);
}

/// A handler may hold its own endpoint: once that is over, both are gone.
pub async fn handlers_that_hold_their_endpoint(rig: Rig) {
    let pair = rig.pair(rig.builder(), rig.builder()).await;
    let alive = Arc::new(());
    let (token, binder) = (alive.clone(), pair.binder.clone());
    let count = move |_: Value, _: Context| {
        let (_token, peers) = (token.clone(), binder.peers().len());
        async move { HandlerResult::Ok(peers) }
    };
    pair.binder.handlers().add("count", count).expect("a new name");
    let (token, connector) = (alive.clone(), pair.connector.clone());
    let linked = move |_: Value, _: Context| {
        let (_token, linked) = (token.clone(), connector.peer().is_connected());
        async move { HandlerResult::Ok(linked) }
    };
    pair.connector.handlers().add("linked", linked).expect("a new name");
    assert_eq!(pair.peer().invoke::<_, usize>("count", &()).await.expect("it is served"), 1);
    assert!(pair.back.invoke::<_, bool>("linked", &()).await.expect("it is served"));
    pair.end().await;
    assert_eq!(Arc::strong_count(&alive), 1);
}
