//! Endpoints on tokio's paused clock: what takes time takes virtual time, and no task is polled while nothing happens.

use std::future::{IntoFuture, pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use callosum_testkit::wrapped::{Wrap, Wrapped};
use callosum_tokio::rt::Runtime;
use callosum_tokio::{
    Binder, Builder, CallError, Connector, Context, Drained, Driver, Event, HandlerResult, Reconnect,
    TokioRuntime, duplex,
};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

/// tokio, and how many times it has polled tasks of endpoints.
#[derive(Clone, Debug, Default)]
struct Counting {
    tokio: Arc<TokioRuntime>,
    polls: Arc<AtomicUsize>,
    /// Polls no task any more, like a machine that has lost its network.
    frozen: Arc<AtomicBool>,
}

impl Counting {
    fn builder(&self) -> Builder {
        Builder::new(Arc::new(Wrapped(self.clone())))
    }

    fn drive(&self, driver: Driver) {
        self.spawn(Box::pin(async move {
            // How it ends is seen by its endpoint.
            let _ = driver.await;
        }));
    }

    /// Polls since this was called before.
    fn polls(&self) -> usize {
        self.polls.swap(0, Ordering::SeqCst)
    }

    /// A binder and a connector over memory, connected.
    async fn pair(&self, binder: Builder, connector: Builder) -> (Binder, Connector) {
        let (ours, theirs) = duplex(64 * 1024);
        let (binder, driver) = binder.binder();
        self.drive(driver);
        binder.accept(theirs, "memory").expect("there is room");
        let (connector, driver) = connector.connect_stream(ours);
        self.drive(driver);
        connector.peer().ready().await.expect("the binder answers");
        (binder, connector)
    }
}

impl Wrap for Counting {
    fn inner(&self) -> &dyn Runtime {
        &*self.tokio
    }

    fn spawn(&self, mut task: BoxFuture<'static, ()>) {
        let (polls, frozen) = (self.polls.clone(), self.frozen.clone());
        self.tokio.spawn(Box::pin(poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::SeqCst);
            if frozen.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
            task.as_mut().poll(cx)
        })));
    }
}

/// Whether so much virtual time has passed; tokio's timers count milliseconds.
#[track_caller]
fn assert_passed(since: tokio::time::Instant, expected: Duration) {
    let passed = since.elapsed();
    let most = expected + Duration::from_millis(10);
    assert!((expected..=most).contains(&passed), "{passed:?} have passed, not {expected:?}");
}

async fn never(_: (), _: Context) -> HandlerResult<()> {
    pending().await
}

#[tokio::test(start_paused = true)]
async fn a_call_times_out() {
    let runtime = Counting::default();
    let (_binder, connector) =
        runtime.pair(runtime.builder().handle("never", never), runtime.builder()).await;
    let begun = tokio::time::Instant::now();
    runtime.polls();
    let call = connector.peer().invoke::<_, ()>("never", &()).timeout(Duration::from_secs(3));
    let error = call.await.expect_err("it never answers");
    assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
    assert_passed(begun, Duration::from_secs(3));
    let polls = runtime.polls();
    assert!(polls < 30, "{polls} polls for one call");
}

#[tokio::test(start_paused = true)]
async fn what_takes_longer_than_its_callers_timeout_is_not_waited_for() {
    let runtime = Counting::default();
    let slow = |seconds: u64, _: Context| async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        HandlerResult::Ok(seconds)
    };
    let (_binder, connector) = runtime.pair(runtime.builder().handle("slow", slow), runtime.builder()).await;
    let begun = tokio::time::Instant::now();
    let call = |seconds: u64| {
        connector.peer().invoke::<_, u64>("slow", &seconds).timeout(Duration::from_secs(3)).into_future()
    };
    let (quick, late) = futures_util::future::join(call(2), call(4)).await;
    assert_eq!(quick.expect("it is in time"), 2);
    assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
    assert_passed(begun, Duration::from_secs(3));
}

/// Idle peers probe each other, and do nothing else.
#[tokio::test(start_paused = true)]
async fn idle_peers_only_probe() {
    let runtime = Counting::default();
    let echo = |n: u32, _: Context| async move { HandlerResult::Ok(n) };
    let builder = || runtime.builder().keepalive(Duration::from_secs(30), 2).handle("echo", echo);
    let (binder, connector) = runtime.pair(builder(), builder()).await;
    let begun = tokio::time::Instant::now();
    runtime.polls();
    tokio::time::sleep(Duration::from_secs(60 * 60)).await;
    assert_passed(begun, Duration::from_secs(60 * 60));
    let polls = runtime.polls();
    assert!(polls < 2_000, "{polls} polls for 120 probes of each side");
    assert_eq!(binder.peers().len(), 1);
    assert_eq!(connector.peer().invoke::<_, u32>("echo", &7).await.expect("the link lives"), 7);
}

/// A peer that has fallen silent is given up after its keepalive.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up() {
    let (runtime, silent) = (Counting::default(), Counting::default());
    let builder = runtime.builder().keepalive(Duration::from_secs(30), 2);
    let (ours, theirs) = duplex(64 * 1024);
    let (binder, driver) = silent.builder().binder();
    silent.drive(driver);
    binder.accept(theirs, "memory").expect("there is room");
    let (connector, driver) = builder.connect_stream(ours);
    let mut events = connector.events();
    runtime.drive(driver);
    connector.peer().ready().await.expect("the binder answers");
    silent.frozen.store(true, Ordering::SeqCst);
    let begun = tokio::time::Instant::now();
    runtime.polls();
    let error = connector.peer().invoke::<_, ()>("any", &()).await.expect_err("nothing answers");
    assert!(matches!(error, CallError::Disconnected(_)), "{error:?}");
    assert_passed(begun, Duration::from_secs(90));
    let polls = runtime.polls();
    assert!(polls < 50, "{polls} polls for two probes");
    while !matches!(events.next().await.expect("the end of the link is an event"), Event::Disconnected { .. })
    {
    }
}

/// A connector waits as long as it says between two attempts, and does nothing meanwhile.
#[tokio::test(start_paused = true)]
async fn reconnecting_takes_virtual_time() {
    const ATTEMPTS: usize = 100;
    const NAME: &str = "inproc://reconnecting-takes-virtual-time";
    let runtime = Counting::default();
    let most = Duration::from_secs(30);
    let policy = Reconnect::Backoff { first: Duration::from_millis(100), most };
    let (connector, driver) = runtime.builder().reconnect(policy).connect(NAME).expect("it is an endpoint");
    let mut events = connector.events();
    let begun = tokio::time::Instant::now();
    runtime.drive(driver);
    let mut waited = Duration::ZERO;
    for _ in 0..ATTEMPTS {
        let event = events.next().await.expect("the driver runs");
        let Event::Reconnecting { after, .. } = event else { panic!("{event:?}") };
        let passed = begun.elapsed();
        // Each timer may be late by a millisecond.
        let late = Duration::from_millis(2 * ATTEMPTS as u64);
        assert!((waited..=waited + late).contains(&passed), "{passed:?} have passed, not {waited:?}");
        waited += after;
    }
    assert!(waited > most, "{waited:?}");
    let polls = runtime.polls();
    assert!(polls < 5 * ATTEMPTS, "{polls} polls for {ATTEMPTS} attempts");
    let (_binder, driver) = runtime.builder().bind(NAME).await.expect("the name is free");
    runtime.drive(driver);
    connector.peer().ready().await.expect("the next attempt reaches the binder");
    assert!(begun.elapsed() <= waited + most);
}

/// A shutdown ends at its deadline of virtual time, if a handler takes longer.
#[tokio::test(start_paused = true)]
async fn a_shutdown_has_its_grace_period() {
    let runtime = Counting::default();
    let (binder, connector) = runtime.pair(runtime.builder().handle("never", never), runtime.builder()).await;
    let begun = tokio::time::Instant::now();
    let call = connector.peer().invoke::<_, ()>("never", &()).into_future();
    // Its handler runs by then.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let drained = binder.shutdown(Duration::from_secs(20)).await;
    assert_eq!(drained, Drained::DeadlinePassed);
    assert_passed(begun, Duration::from_secs(20));
    call.await.expect_err("its handler was stopped");
}

/// The clock is that of the endpoint's runtime, also where no runtime is current.
#[tokio::test(start_paused = true)]
async fn other_threads_see_the_same_time() {
    let runtime = Arc::new(TokioRuntime::default());
    runtime.spawn(Box::pin(async {}));
    tokio::time::sleep(Duration::from_secs(1_000_000)).await;
    let now = runtime.now();
    assert_eq!(now, tokio::time::Instant::now().into_std());
    let elsewhere = std::thread::spawn(move || runtime.now()).join().expect("it tells the time");
    assert_eq!(elsewhere, now);
}

/// Goes behind the tasks that are ready. tokio's own `yield_now` goes behind a look at the timers, too, and that is rare.
async fn turn() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Others have their turns in between, as the connections that go on.
#[tokio::test(start_paused = true)]
async fn links_that_end_at_the_same_moment_leave_turns_to_others() {
    const LINKS: usize = 300;
    let counting = Counting::default();
    let (binder, driver) = counting.builder().binder();
    counting.drive(driver);
    let (mut peers, mut drivers) = (Vec::new(), FuturesUnordered::new());
    for n in 0..LINKS {
        let (ours, theirs) = duplex(1024);
        binder.accept(theirs, n.to_string()).expect("there is room");
        let (connector, driver) = counting.builder().connect_stream(ours);
        peers.push(connector);
        drivers.push(driver.into_future());
    }
    let driving = tokio::spawn(async move { while drivers.next().await.is_some() {} });
    for connector in &peers {
        connector.peer().ready().await.expect("the binder answers");
    }
    driving.abort();
    // A task of its own: that of a test has a turn after 61 of others.
    let observing = tokio::spawn(async move {
        let (mut left, mut most, mut turns) = (LINKS, 0, 0);
        while left > 0 {
            turn().await;
            let now = binder.peers().len();
            turns += usize::from(left < LINKS);
            (left, most) = (now, most.max(left - now));
        }
        (most, turns)
    });
    let (most, turns) = observing.await.expect("it does not panic");
    assert!(most <= 64, "{most} ended in one turn");
    assert!(turns <= 4 * LINKS / 64, "all have ended after {turns} turns");
}
