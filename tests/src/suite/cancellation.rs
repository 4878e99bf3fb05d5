//! Calls that were dropped or timed out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use callosum_runtime::{CallError, OrderingMode, Peer, Refusal};
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::rig::{Pair, Rig, Task, had_left, longer_and_longer, poll_once};

/// Shorter than any handler that waits at a gate.
const SHORT: Duration = Duration::from_millis(20);

type Call = Task<Result<Value, CallError>>;

async fn held(rig: &Rig, slots: usize) -> (Pair, Gate) {
    let gate = Gate::default();
    let pair = rig.pair(rig.builder().max_concurrency(slots), rig.builder().max_concurrency(slots)).await;
    gate.guard(pair.binder.handlers(), "hold");
    gate.guard(pair.connector.handlers(), "hold");
    (pair, gate)
}

fn hold(rig: &Rig, peer: &Peer, argument: u32) -> Call {
    let peer = peer.clone();
    rig.spawn(async move { peer.invoke("hold", &argument).key("k").await })
}

/// Shows that the only place is free: another call gets it.
async fn passes(rig: &Rig, gate: &Gate, peer: &Peer) {
    let call = hold(rig, peer, 99);
    let held = gate.next().await;
    assert_eq!(held.argument, 99);
    held.release("through");
    assert_eq!(call.join().await.expect("it was released"), "through");
}

/// Dropping a call drops the handler's future on the other side and frees its place, in both directions.
pub async fn dropped_call_stops_its_handler(rig: Rig) {
    let (pair, gate) = held(&rig, 1).await;
    for (caller, server) in [(pair.peer(), &pair.back), (&pair.back, pair.peer())] {
        let call = hold(&rig, caller, 1);
        let _running = gate.next().await;
        assert_eq!(gate.live(), 1);
        call.cut().await;
        rig.until(|| gate.live() == 0).await;
        passes(&rig, &gate, caller).await;
        rig.until(|| server.stats().requests_failed == 1).await;
        assert_eq!(caller.stats().calls_failed, 1);
        assert_eq!((caller.stats().calls_in_flight, server.stats().requests_running), (0, 0));
    }
    pair.end().await;
}

/// A call that times out ends with `TimedOut`, and its handler is stopped.
pub async fn timed_out_call_stops_its_handler(rig: Rig) {
    let (pair, gate) = held(&rig, 1).await;
    let argument = json!(1);
    let mut timeouts = longer_and_longer();
    let error = loop {
        let timeout = timeouts.next().expect("it has no end");
        let error = pair.peer().invoke::<_, Value>("hold", &argument).timeout(timeout).await;
        let error = error.expect_err("nobody releases it");
        if had_left(&error) {
            break error;
        }
        assert!(!error.may_have_run());
    };
    assert!(error.may_have_run());
    // Whether the handler ran or the request was overtaken by its cancellation: it is not there any more.
    rig.until(|| pair.back.stats().requests_failed == 1 && gate.live() == 0).await;
    while gate.try_next().is_some() {}
    passes(&rig, &gate, pair.peer()).await;
    pair.end().await;
}

/// The endpoint's default timeout holds unless a call says otherwise.
pub async fn default_timeout(rig: Rig) {
    let gate = Gate::default();
    let pair = rig.pair(rig.builder(), rig.builder().call_timeout(SHORT)).await;
    gate.guard(pair.binder.handlers(), "hold");
    let error = pair.peer().invoke::<_, Value>("hold", &1).await.expect_err("nobody releases it");
    assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
    rig.until(|| gate.live() == 0).await;
    while gate.try_next().is_some() {}
    let argument = json!(2);
    let patient = pair.peer().invoke::<_, Value>("hold", &argument).no_timeout().into_future();
    let release = async {
        // The first one may have come late.
        let held = loop {
            let held = gate.next().await;
            if held.argument == argument {
                break held;
            }
        };
        rig.pause(SHORT * 2).await;
        held.release(3);
    };
    let (result, ()) = futures_util::future::join(patient, release).await;
    assert_eq!(result.expect("it has no timeout"), 3);
    pair.end().await;
}

/// The handler of a call that is cancelled while it waits never runs.
pub async fn cancelled_while_waiting_never_runs(rig: Rig) {
    for mode in [OrderingMode::Unordered, OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let gate = Gate::default();
        let pair = rig.pair(rig.builder().max_concurrency(1).ordering(mode), rig.builder()).await;
        gate.guard(pair.binder.handlers(), "hold");
        let first = hold(&rig, pair.peer(), 1);
        let running = gate.next().await;
        let second = hold(&rig, pair.peer(), 2);
        rig.until(|| pair.back.stats().requests_queued == 1).await;
        let third = hold(&rig, pair.peer(), 3);
        rig.until(|| pair.back.stats().requests_queued == 2).await;
        second.cut().await;
        rig.until(|| pair.back.stats().requests_queued == 1).await;
        running.release("first");
        assert_eq!(first.join().await.expect("it was released"), "first");
        let running = gate.next().await;
        assert_eq!(running.argument, 3, "the second never runs");
        running.release("third");
        assert_eq!(third.join().await.expect("it was released"), "third");
        assert_eq!(gate.started(), 2);
        pair.end().await;
    }
}

/// A call that is made and dropped before it could leave never reaches the other side.
pub async fn dropped_before_it_left(rig: Rig) {
    let gate = Gate::default();
    let (connector, driver) = rig.builder().connect(rig.endpoint()).expect("an endpoint");
    let argument = json!(1);
    let mut call = connector.peer().invoke::<_, Value>("hold", &argument).into_future();
    assert!(poll_once(&mut call).await.is_none());
    assert_eq!(connector.peer().stats().calls_in_flight, 1);
    drop(call);
    let stats = connector.peer().stats();
    assert_eq!((stats.calls_in_flight, stats.calls_failed), (0, 1));
    assert_eq!(gate.started(), 0);
    drop(driver);
}

/// A handler that runs longer than the endpoint allows is stopped, and its caller told.
pub async fn execution_timeout(rig: Rig) {
    let gate = Gate::default();
    let binder = rig.builder().max_concurrency(1).execution_timeout(SHORT);
    let pair = rig.pair(binder, rig.builder()).await;
    gate.guard(pair.binder.handlers(), "hold");
    for _ in 0..2 {
        let error = pair.peer().invoke::<_, Value>("hold", &1).await.expect_err("nobody releases it");
        let CallError::Rejected(info) = &error else { panic!("{error:?}") };
        assert_eq!(Refusal::of(info), Some(Refusal::ExecutionTimedOut));
        assert!(error.may_have_run());
        assert_eq!(gate.live(), 0, "the future was dropped before the answer left");
    }
    pair.end().await;
}

/// Many calls, dropped at random moments: nothing is left on either side.
pub async fn many_dropped(rig: Rig) {
    let (pair, gate) = held(&rig, 4).await;
    // Counted by those who make them: a task that is dropped soon enough makes none.
    let made = Arc::<AtomicU64>::default();
    let calls: Vec<Call> = (0..200)
        .map(|n| {
            let (peer, made) = (pair.peer().clone(), made.clone());
            rig.spawn(async move {
                made.fetch_add(1, Ordering::SeqCst);
                peer.invoke("hold", &n).key("k").await
            })
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(7);
    let released = rig.spawn({
        let (gate, mut random) = (gate.clone(), random.fork());
        async move {
            loop {
                let held = gate.next().await;
                match random.bool() {
                    true => held.release("through"),
                    false => drop(held),
                }
            }
        }
    });
    for call in calls {
        if random.bool() {
            rig.pause(Duration::from_micros(random.u64(..300))).await;
        }
        call.cut().await;
    }
    rig.until(|| {
        let (ours, theirs) = (pair.peer().stats(), pair.back.stats());
        (ours.calls_in_flight, theirs.requests_queued, theirs.requests_running) == (0, 0, 0)
    })
    .await;
    assert_eq!(gate.live(), 0);
    let ours = pair.peer().stats();
    assert_eq!(ours.calls_done + ours.calls_failed, made.load(Ordering::SeqCst));
    released.cut().await;
    while gate.try_next().is_some() {}
    passes(&rig, &gate, pair.peer()).await;
    pair.end().await;
}
