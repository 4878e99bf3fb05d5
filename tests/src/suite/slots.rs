//! Slots under the concurrency limit: handlers that give theirs back, and limits of single methods.

use std::future::{IntoFuture, pending};

use callosum_runtime::stream::Streamed;
use callosum_runtime::{
    BodyReader, Context, HandlerResult, Handlers, MethodLimits, OrderingMode, Peer, Refusal, Responder,
};
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::Value;

use crate::gate::Gate;
use crate::rig::{Rig, poll_once};

/// More than there are slots, and far more than the share of one peer.
const STREAMS: u64 = 200;

/// Adds a method that gives its slot back, and streams what it was called with, and then nothing for ever.
fn follow(handlers: &Handlers) {
    let follow = |body: BodyReader, responder: Responder, context: Context| async move {
        let what: Value = context.codec().decode(&body.collect().await?)?;
        context.release_slot();
        let mut events = responder.begin().await?;
        events.write_item(&what).await?;
        pending::<HandlerResult<()>>().await
    };
    handlers.add_stream("follow", follow).expect("a new name");
}

async fn following(peer: &Peer, key: Option<&str>, what: u64) -> Streamed {
    let mut call = peer.open("follow");
    if let Some(key) = key {
        call = call.key(key);
    }
    call.send(&what).expect("it is made").await.expect("it begins")
}

/// Streams that go on for ever hold no slots: with the default limits, small calls go on beside 200 of one peer.
pub async fn long_streams_beside_small_calls(rig: Rig) {
    let binder = rig.builder().handle("double", |n: u64, _| async move { HandlerResult::Ok(2 * n) });
    let pair = rig.pair(binder, rig.builder()).await;
    follow(pair.binder.handlers());
    let double = |n: u64| pair.peer().invoke::<_, u64>("double", &n).into_future();
    let mut streams = Vec::new();
    for n in 0..STREAMS {
        streams.push(following(pair.peer(), None, n).await.body.items::<u64>());
        assert_eq!(double(n).await.expect("there is a slot"), 2 * n);
    }
    for (n, stream) in streams.iter_mut().enumerate() {
        assert_eq!(stream.next().await.expect("an event").expect("a number"), n as u64);
    }
    assert_eq!(pair.back.stats().requests_running, STREAMS);
    let doubled = join_all((0..300).map(double)).await;
    for (n, doubled) in doubled.into_iter().enumerate() {
        assert_eq!(doubled.expect("there are slots"), 2 * n as u64);
    }
    drop(streams);
    rig.until(|| pair.back.stats().requests_running == 0).await;
    pair.end().await;
}

/// A handler without a slot has not ended: its key stays taken.
pub async fn a_released_slot_keeps_its_key(rig: Rig) {
    let binder = rig.builder().max_concurrency(1).ordering(OrderingMode::KeySerialized);
    let pair = rig.pair(binder.handle("next", |(), _| async { HandlerResult::Ok(7) }), rig.builder()).await;
    follow(pair.binder.handlers());
    let stream = following(pair.peer(), Some("k"), 1).await;
    let mut behind = pair.peer().invoke::<_, u64>("next", &()).key("k").into_future();
    for _ in 0..10 {
        let other = pair.peer().invoke::<_, u64>("next", &()).key("other").await;
        assert_eq!(other.expect("there is a slot"), 7);
    }
    assert_eq!(poll_once(&mut behind).await.map(|result| result.is_ok()), None, "it came first, and waits");
    assert_eq!(pair.back.stats().requests_queued, 1);
    drop(stream);
    assert_eq!(behind.await.expect("the key is free"), 7);
    pair.end().await;
}

/// A nested call gives nothing back that was given back before: at a limit of one, one handler more runs, not two.
pub async fn a_released_slot_stays_released(rig: Rig) {
    let gate = Gate::default();
    let through = gate.clone();
    let nests = move |(): (), context: Context| {
        let gate = through.clone();
        async move {
            context.release_slot();
            let echoed: u64 = context.peer().invoke("echo", &1).await?;
            gate.pass_through(context).await;
            HandlerResult::Ok(echoed)
        }
    };
    let binder = rig.builder().max_concurrency(1).handle("nests", nests);
    let echo = rig.builder().handle("echo", |n: u64, _| async move { HandlerResult::Ok(n) });
    let pair = rig.pair(binder, echo).await;
    let other = Gate::default();
    other.guard(pair.binder.handlers(), "hold");
    let call = |method: &'static str| {
        let call = pair.peer().invoke::<_, Value>(method, &());
        rig.spawn(call.into_future())
    };
    let nests = call("nests");
    let nested = gate.next().await;
    let (first, second) = (call("hold"), call("hold"));
    let held = other.next().await;
    rig.until(|| pair.back.stats().requests_queued == 1).await;
    nested.release(1);
    nests.join().await.expect("it was released");
    assert_eq!(other.live(), 1, "no slot came free with it");
    held.release(1);
    other.next().await.release(1);
    first.join().await.expect("it was released");
    second.join().await.expect("it was released");
    pair.end().await;
}

/// Past the limit of its method a call is refused, and has not run. Others are not concerned.
pub async fn limits_of_a_method(rig: Rig) {
    let gate = Gate::default();
    let binder = rig.builder().method_limits("hold", MethodLimits::default().max_concurrency(2));
    let pair = rig.pair(binder, rig.builder()).await;
    let handlers = pair.binder.handlers();
    // The limit was set first, and is the method's, not the handler's.
    gate.guard(handlers, "hold");
    gate.guard(handlers, "free");
    let hold = || rig.spawn(pair.peer().invoke::<_, Value>("hold", &()).into_future());
    let (first, second) = (hold(), hold());
    let (held, also) = (gate.next().await, gate.next().await);
    let refused = hold().join().await.expect_err("two run");
    assert!(refused.refusal() == Some(Refusal::Busy) && !refused.may_have_run(), "{refused:?}");
    let free = rig.spawn(pair.peer().invoke::<_, Value>("free", &()).into_future());
    gate.next().await.release(3);
    free.join().await.expect("another method");
    held.release(1);
    let _ = (first.join().await, also.release(1), second.join().await);
    // Those have ended, or their callers would not know.
    let third = hold();
    handlers.set_limits("hold", MethodLimits::default().max_concurrency(1));
    let held = gate.next().await;
    hold().join().await.expect_err("one runs");
    handlers.set_limits("hold", MethodLimits::default());
    let fourth = hold();
    gate.next().await.release(1);
    held.release(1);
    third.join().await.expect("it was released");
    fourth.join().await.expect("there is no limit");
    assert_eq!(gate.live(), 0);
    pair.end().await;
}
