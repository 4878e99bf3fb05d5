//! What calls with the same key owe each other, through real sockets.

use std::collections::BTreeMap;
use std::sync::Arc;

use callosum_runtime::{CallError, Context, HandlerResult, KeyScope, Limits, OrderingMode, Peer, Refusal};
use futures_util::StreamExt;
use futures_util::future::poll_immediate;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::gate::{Gate, Held};
use crate::rig::{Rig, SOON, Task};

type Call = Task<Result<Value, CallError>>;

fn hold(rig: &Rig, peer: &Peer, key: &str, argument: Value) -> Call {
    let (peer, key) = (peer.clone(), key.to_owned());
    rig.spawn(async move { peer.invoke("hold", &argument).key(key).await })
}

async fn next_two(gate: &Gate) -> [Held; 2] {
    let mut held = [gate.next().await, gate.next().await];
    held.sort_by_key(|held| held.argument.as_u64());
    held
}

/// Unordered: replies leave when they are done, key or not.
pub async fn unordered(rig: Rig) {
    let gate = Gate::default();
    let pair = rig.pair(rig.builder().ordering(OrderingMode::Unordered), rig.builder()).await;
    gate.guard(pair.binder.handlers(), "hold");
    let first = hold(&rig, pair.peer(), "k", json!(1));
    let one = gate.next().await;
    let second = hold(&rig, pair.peer(), "k", json!(2));
    gate.next().await.release("two");
    assert_eq!(second.join().await.expect("it need not wait"), "two");
    one.release("one");
    assert_eq!(first.join().await.expect("it was released"), "one");
    pair.end().await;
}

/// Exit-ordered: handlers run at once, replies of a key leave in order, also after a failure; other keys, and calls
/// without a key, don't wait.
pub async fn exit_ordered(rig: Rig) {
    let gate = Gate::default();
    let pair = rig.pair(rig.builder().ordering(OrderingMode::ExitOrdered), rig.builder()).await;
    gate.guard(pair.binder.handlers(), "hold");
    pair.binder
        .handlers()
        .add("plain", |n: Value, _| async move { HandlerResult::Ok(n) })
        .expect("a new name");
    let first = hold(&rig, pair.peer(), "k", json!(1));
    let one = gate.next().await;
    let second = hold(&rig, pair.peer(), "k", json!(2));
    let two = gate.next().await;
    assert_eq!(gate.live(), 2, "both run at once");
    two.release("two");
    rig.until(|| gate.live() == 1).await;
    let other: Value = pair.peer().invoke("plain", &1).key("other").await.expect("another key goes on");
    assert_eq!(other, 1);
    let none: Value = pair.peer().invoke("plain", &2).await.expect("no key goes on");
    assert_eq!(none, 2);
    assert_eq!(pair.peer().stats().calls_in_flight, 2, "the second waits for the first");
    one.fail(callosum_runtime::HandlerError::new("One", "failed"));
    first.join().await.expect_err("it failed");
    assert_eq!(second.join().await.expect("its turn has come"), "two");
    pair.end().await;
}

/// Key-serialized: one handler at a time for each key, other keys at once.
pub async fn key_serialized(rig: Rig) {
    let gate = Gate::default();
    let pair = rig.pair(rig.builder().ordering(OrderingMode::KeySerialized), rig.builder()).await;
    gate.guard(pair.binder.handlers(), "hold");
    let first = hold(&rig, pair.peer(), "k", json!(1));
    let one = gate.next().await;
    let second = hold(&rig, pair.peer(), "k", json!(2));
    rig.until(|| pair.back.stats().requests_queued == 1).await;
    let other = hold(&rig, pair.peer(), "other", json!(3));
    let three = gate.next().await;
    assert_eq!(three.argument, 3, "the second waits for the first");
    one.release("one");
    let two = gate.next().await;
    assert_eq!(two.argument, 2);
    two.release("two");
    three.release("three");
    for (call, result) in [(first, "one"), (second, "two"), (other, "three")] {
        assert_eq!(call.join().await.expect("it was released"), result);
    }
    pair.end().await;
}

/// By default a key is one key for all peers of a binder; each peer has its own on request.
pub async fn key_scope(rig: Rig) {
    for scope in [KeyScope::Global, KeyScope::PerConnection] {
        let gate = Gate::default();
        let builder = rig.builder().ordering(OrderingMode::KeySerialized).key_scope(scope);
        let pair = rig.pair(builder, rig.builder()).await;
        gate.guard(pair.binder.handlers(), "hold");
        let (other, driver) = rig.connect(rig.builder(), &pair.binder.endpoints()[0]);
        other.peer().ready().await.expect("the binder is there");
        let first = hold(&rig, pair.peer(), "k", json!(1));
        let one = gate.next().await;
        let second = hold(&rig, other.peer(), "k", json!(2));
        let two = match scope {
            KeyScope::PerConnection => gate.next().await,
            _ => {
                let peers = rig.peers(&pair.binder, 2).await;
                rig.until(|| peers.iter().any(|peer| peer.stats().requests_queued == 1)).await;
                assert_eq!(gate.live(), 1);
                one.release("one");
                assert_eq!(first.join().await.expect("it was released"), "one");
                let two = gate.next().await;
                two.release("two");
                second.join().await.expect("it was released");
                other.shutdown(SOON).await;
                driver.join().await.expect("it ends well");
                pair.end().await;
                continue;
            }
        };
        assert_eq!(gate.live(), 2, "the peers don't affect each other");
        two.release("two");
        second.join().await.expect("it was released");
        one.release("one");
        first.join().await.expect("it was released");
        other.shutdown(SOON).await;
        driver.join().await.expect("it ends well");
        pair.end().await;
    }
}

/// What handlers and replies of one key did, in order.
#[derive(Debug, Default)]
struct Log {
    started: BTreeMap<String, Vec<u64>>,
    running: BTreeMap<String, usize>,
    most_at_once: usize,
}

const KEYS: usize = 25;
const PER_KEY: u64 = 16;

async fn many_keys(rig: &Rig, mode: OrderingMode) -> (Log, BTreeMap<String, Vec<u64>>) {
    let log = Arc::new(Mutex::new(Log::default()));
    let (enter, entered) = async_channel::unbounded::<async_channel::Sender<()>>();
    let seen = log.clone();
    let handler = move |n: u64, context: Context| {
        let (log, enter) = (seen.clone(), enter.clone());
        async move {
            let key = context.key().as_text().unwrap_or_default().to_owned();
            {
                let mut log = log.lock();
                log.started.entry(key.clone()).or_default().push(n);
                let running = log.running.entry(key.clone()).or_default();
                *running += 1;
                let now = *running;
                log.most_at_once = log.most_at_once.max(now);
            }
            let (release, released) = async_channel::bounded(1);
            enter.send(release).await?;
            released.recv().await?;
            *log.lock().running.entry(key).or_default() -= 1;
            HandlerResult::Ok(n)
        }
    };
    let pair = rig
        .pair(rig.builder().ordering(mode).max_concurrency(40).handle("work", handler), rig.builder())
        .await;
    let mut calls = FuturesUnordered::new();
    let numbers: Vec<u64> = (0..PER_KEY).collect();
    for n in &numbers {
        for key in 0..KEYS {
            let key = format!("key-{key}");
            // Made here, so in this order; the future only waits.
            let call = pair.peer().invoke::<_, u64>("work", n).key(&key).into_future();
            calls.push(async move { (key, call.await.expect("the handler is released")) });
        }
    }
    // Each waits before any ends: one that is polled for the first time when it has ended could overtake the one before.
    assert!(poll_immediate(calls.next()).await.is_none(), "no handler is released yet");
    // Releases handlers in a random order, so that each takes a time of its own.
    let releasing = rig.spawn(async move {
        let mut random = fastrand::Rng::with_seed(42);
        let mut held = Vec::new();
        while let Ok(release) = entered.recv().await {
            held.push(release);
            while let Ok(release) = entered.try_recv() {
                held.push(release);
            }
            while !held.is_empty() && (entered.is_empty() || random.bool()) {
                let release = held.swap_remove(random.usize(..held.len()));
                // Its handler waits for it.
                let _ = release.try_send(());
            }
        }
    });
    let mut finished: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    while let Some((key, n)) = calls.next().await {
        finished.entry(key).or_default().push(n);
    }
    drop(calls);
    releasing.cut().await;
    pair.end().await;
    let log = std::mem::take(&mut *log.lock());
    (log, finished)
}

/// Many keys, random times, unordered: everything comes back.
pub async fn many_keys_unordered(rig: Rig) {
    let (log, finished) = many_keys(&rig, OrderingMode::Unordered).await;
    assert_eq!(log.started.len(), KEYS);
    for numbers in finished.values() {
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..PER_KEY).collect::<Vec<_>>());
    }
}

/// Many keys, random times, exit-ordered: the replies of each key arrive in order.
pub async fn many_keys_exit_ordered(rig: Rig) {
    let (_, finished) = many_keys(&rig, OrderingMode::ExitOrdered).await;
    assert_eq!(finished.len(), KEYS);
    for (key, numbers) in finished {
        assert_eq!(numbers, (0..PER_KEY).collect::<Vec<_>>(), "{key}");
    }
}

/// Many keys, random times, key-serialized: handlers of each key start in order and one at a time.
pub async fn many_keys_serialized(rig: Rig) {
    let (log, finished) = many_keys(&rig, OrderingMode::KeySerialized).await;
    assert_eq!(log.most_at_once, 1);
    assert_eq!((log.started.len(), finished.len()), (KEYS, KEYS));
    for (key, numbers) in log.started.iter().chain(&finished) {
        assert_eq!(*numbers, (0..PER_KEY).collect::<Vec<_>>(), "{key}");
    }
}

/// Calls up to the queue limit wait; one past it is refused as busy, and runs nowhere.
pub async fn busy_past_the_queue_limit(rig: Rig) {
    for queue in [0, 3] {
        let gate = Gate::default();
        let limits = Limits::default().max_concurrency(2).max_queue(queue);
        let pair = rig.pair(rig.builder().limits(limits), rig.builder()).await;
        gate.guard(pair.binder.handlers(), "hold");
        let running: Vec<Call> = (0..2).map(|n| hold(&rig, pair.peer(), "", json!(n))).collect();
        let held = next_two(&gate).await;
        let waiting: Vec<Call> = (2..2 + queue).map(|n| hold(&rig, pair.peer(), "", json!(n))).collect();
        rig.until(|| pair.back.stats().requests_queued == queue as u64).await;
        for _ in 0..3 {
            let error = hold(&rig, pair.peer(), "", json!(9)).join().await.expect_err("the queue is full");
            assert_eq!(error.refusal(), Some(Refusal::Busy), "{error:?}");
            assert!(!error.may_have_run());
        }
        for held in held {
            held.release("done");
        }
        for _ in 0..queue {
            gate.next().await.release("done");
        }
        for call in running.into_iter().chain(waiting) {
            assert_eq!(call.join().await.expect("it was accepted"), "done");
        }
        assert_eq!(gate.started(), 2 + queue, "refused calls ran nowhere");
        pair.end().await;
    }
}

/// A queue that is full for one peer has room for another, and places go round among peers.
pub async fn peers_get_their_share(rig: Rig) {
    let gate = Gate::default();
    let limits = Limits::default().max_concurrency(1).max_queue(50);
    let pair = rig.pair(rig.builder().limits(limits), rig.builder()).await;
    gate.guard(pair.binder.handlers(), "hold");
    let greedy: Vec<Call> = (0..51).map(|_| hold(&rig, pair.peer(), "", json!("greedy"))).collect();
    rig.until(|| pair.back.stats().requests_queued == 50).await;
    let (modest, driver) = rig.connect(rig.builder(), &pair.binder.endpoints()[0]);
    modest.peer().ready().await.expect("the binder is there");
    let call = hold(&rig, modest.peer(), "modest", json!("modest"));
    let peers = rig.peers(&pair.binder, 2).await;
    rig.until(|| peers.iter().filter(|peer| peer.stats().requests_queued > 0).count() == 2).await;
    let mut turns = 0;
    loop {
        let held = gate.next().await;
        let is_modest = held.argument == "modest";
        held.release(Value::Null);
        if is_modest {
            break;
        }
        turns += 1;
    }
    assert!(turns <= 3, "it waited for {turns} others");
    call.join().await.expect("it was released");
    for _ in turns..51 {
        gate.next().await.release(Value::Null);
    }
    for call in greedy {
        call.join().await.expect("it was released");
    }
    modest.shutdown(SOON).await;
    driver.join().await.expect("it ends well");
    pair.end().await;
}
