//! Handlers that are cancelled, learn why, and clean up.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use callosum_runtime::{
    Builder, CallError, CancelReason, Context, Drained, HandlerResult, OrderingMode, Peer, Refusal, State,
};
use futures_channel::oneshot;
use serde_json::Value;

use crate::gate::Alive;
use crate::rig::{Pair, Rig, Task, poll_once};

/// Shorter than any handler here lives by itself.
const SHORT: Duration = Duration::from_millis(20);

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3_600);

type Call = Task<Result<Value, CallError>>;

/// Handlers that clean up, at the test's pleasure.
struct Cleaner {
    grace: Duration,
    begun: Sender<()>,
    told: Sender<(CancelReason, oneshot::Sender<()>)>,
    live: Arc<AtomicUsize>,
}

/// What the test knows of them.
struct Watch {
    begun: Receiver<()>,
    told: Receiver<(CancelReason, oneshot::Sender<()>)>,
    live: Arc<AtomicUsize>,
}

impl Cleaner {
    /// Waits to be cancelled, then for the test, and returns a result that must not reach the caller.
    async fn run(self: Arc<Self>, _: Value, context: Context) -> HandlerResult<&'static str> {
        let _alive = Alive::new(&self.live);
        context.set_cancel_grace(self.grace);
        self.begun.send(()).await?;
        let reason = context.cancelled().await;
        let (done, cleaned) = oneshot::channel();
        self.told.send((reason, done)).await?;
        match cleaned.await {
            Ok(()) => Ok("cleaned up"),
            Err(_) => pending().await,
        }
    }
}

impl Watch {
    fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }
}

/// Methods `run`, which cleans up, and `pass`, which only passes.
fn cleaning(builder: Builder, grace: Duration) -> (Builder<State<Arc<Cleaner>>>, Watch) {
    let ((begun, has_begun), (told, is_told)) = (async_channel::unbounded(), async_channel::unbounded());
    let live = Arc::<AtomicUsize>::default();
    let watch = Watch { begun: has_begun, told: is_told, live: live.clone() };
    let cleaner = Arc::new(Cleaner { grace, begun, told, live });
    let builder = builder.handle("pass", |_: Value, _| async { HandlerResult::Ok("passed") });
    (builder.with_state(cleaner).handle("run", Cleaner::run), watch)
}

fn call(rig: &Rig, peer: &Peer, method: &'static str) -> Call {
    let peer = peer.clone();
    rig.spawn(async move { peer.invoke(method, &()).key("k").await })
}

/// One handler at a time, which has begun.
async fn one_running(rig: &Rig, builder: Builder) -> (Pair, Watch, Call) {
    let (builder, watch) = cleaning(builder.max_concurrency(1), LONG);
    let pair = rig.pair(builder.without_state(), rig.builder()).await;
    let running = call(rig, pair.peer(), "run");
    watch.begun.recv().await.expect("it runs");
    (pair, watch, running)
}

/// What is called while a handler cleans up waits for its slot.
async fn is_held_up(rig: &Rig, pair: &Pair, watch: &Watch, done: oneshot::Sender<()>) {
    let waiting = call(rig, pair.peer(), "pass");
    rig.until(|| pair.binder.peers().iter().any(|peer| peer.stats().requests_queued == 1)).await;
    assert_eq!(watch.live(), 1, "it has not ended");
    done.send(()).expect("the handler waits for it");
    assert_eq!(waiting.join().await.expect("the slot is free"), "passed");
    assert_eq!(watch.live(), 0);
}

/// A handler whose caller goes learns that, and keeps its slot until it has cleaned up.
pub async fn caller_cancels(rig: Rig) {
    for mode in [OrderingMode::Unordered, OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let (pair, watch, running) = one_running(&rig, rig.builder().ordering(mode)).await;
        running.cut().await;
        let (reason, done) = watch.told.recv().await.expect("it is told");
        assert_eq!(reason, CancelReason::Caller);
        is_held_up(&rig, &pair, &watch, done).await;
        rig.until(|| pair.back.stats().requests_failed == 1).await;
        pair.end().await;
    }
}

/// A handler that exceeds its timeout is cancelled; its caller gets the timeout once the handler has cleaned up, whatever it returns.
pub async fn execution_times_out(rig: Rig) {
    let (pair, watch, running) = one_running(&rig, rig.builder().execution_timeout(SHORT)).await;
    let (reason, done) = watch.told.recv().await.expect("it is told");
    assert_eq!(reason, CancelReason::TimedOut);
    let mut outcome = Box::pin(running.join());
    assert!(poll_once(&mut outcome).await.is_none(), "the handler has not ended");
    is_held_up(&rig, &pair, &watch, done).await;
    let error = outcome.await.expect_err("it was stopped");
    assert_eq!(error.refusal(), Some(Refusal::ExecutionTimedOut), "{error:?}");
    pair.end().await;
}

/// A handler whose link ends learns that, and keeps its slot from the calls of the next link.
pub async fn link_ends(rig: Rig) {
    let (pair, watch, running) = one_running(&rig, rig.builder()).await;
    pair.peer().disconnect();
    let error = running.join().await.expect_err("its link has ended");
    assert!(matches!(error, CallError::Disconnected(_)), "{error:?}");
    let (reason, done) = watch.told.recv().await.expect("it is told");
    assert_eq!(reason, CancelReason::Disconnected);
    is_held_up(&rig, &pair, &watch, done).await;
    pair.end().await;
}

/// A handler that is left when a shutdown's time is over learns that, and the driver waits for it.
pub async fn shut_down(rig: Rig) {
    let (pair, watch, running) = one_running(&rig, rig.builder()).await;
    assert_eq!(pair.binder.shutdown(SHORT).await, Drained::DeadlinePassed);
    running.join().await.expect_err("its link has ended");
    let (reason, done) = watch.told.recv().await.expect("it is told");
    assert_eq!(reason, CancelReason::Shutdown);
    let mut driver = Box::pin(pair.binder_driver.join());
    assert!(poll_once(&mut driver).await.is_none(), "the handler has not ended");
    done.send(()).expect("the handler waits for it");
    driver.await.expect("a shutdown is no error");
    assert_eq!(watch.live(), 0);
    pair.connector_driver.cut().await;
}

/// A driver that is dropped leaves no time, and neither does a grace period that is over.
pub async fn no_time_is_left(rig: Rig) {
    let (pair, watch, running) = one_running(&rig, rig.builder()).await;
    pair.binder_driver.cut().await;
    running.join().await.expect_err("its link has ended");
    rig.until(|| watch.live() == 0).await;
    pair.connector_driver.cut().await;

    let (builder, watch) = cleaning(rig.builder().max_concurrency(1), SHORT);
    let pair = rig.pair(builder.without_state(), rig.builder()).await;
    let running = call(&rig, pair.peer(), "run");
    watch.begun.recv().await.expect("it runs");
    running.cut().await;
    let (_reason, _never_done) = watch.told.recv().await.expect("it is told");
    assert_eq!(call(&rig, pair.peer(), "pass").join().await.expect("the slot is free in the end"), "passed");
    assert_eq!(watch.live(), 0);
    pair.end().await;
}

/// A handler without a grace period is dropped, and what it has spawned learns why.
pub async fn others_are_told(rig: Rig) {
    let (tell, told) = async_channel::unbounded();
    let (live, spawning) = (Arc::<AtomicUsize>::default(), rig.clone());
    let alive = live.clone();
    let spawns = move |_: Value, context: Context| {
        let (tell, alive, of) = (tell.clone(), Alive::new(&alive), context.clone());
        let (waits, watching) = oneshot::channel();
        let task = spawning.spawn(async move {
            let mut cancelled = Box::pin(of.cancelled());
            assert!(poll_once(&mut cancelled).await.is_none(), "it runs");
            let _ = waits.send(());
            let _ = tell.send(Some(cancelled.await)).await;
        });
        async move {
            let (_alive, _task) = (alive, task);
            watching.await?;
            pending::<HandlerResult<()>>().await
        }
    };
    let pair = rig.pair(rig.builder().handle("spawns", spawns), rig.builder()).await;
    let running = call(&rig, pair.peer(), "spawns");
    rig.until(|| live.load(Ordering::SeqCst) == 1).await;
    running.cut().await;
    assert_eq!(told.recv().await.expect("it is told"), Some(CancelReason::Caller));
    rig.until(|| live.load(Ordering::SeqCst) == 0).await;
    pair.end().await;
}
