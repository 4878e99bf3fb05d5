//! What users plug in: byte streams, executors, schedulers, subscribers of traces.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_proto::internals::wire::{PING, PONG};
use callosum_proto::ordering::{Action, Arrival, Busy, Scheduler};
use callosum_proto::zmtp::{Link, LinkConfig, LinkEvent};
use callosum_proto::{ConnectionId, Multipart, RequestId, Role};
use callosum_runtime::rt::Runtime;
use callosum_runtime::{
    CallError, Context, Dialect, DisconnectCause, DriverError, Event, HandlerError, HandlerResult, Limits,
    duplex,
};
use callosum_testkit::wrapped::{Wrap, Wrapped};
use futures_util::future::BoxFuture;
use futures_util::io::{AsyncRead, AsyncWrite};
use serde_json::Value;
use tracing::span;

use crate::gate::{Alive, Gate};
use crate::rig::{Pair, Rig, SOON, next_event};

async fn over_duplex(rig: &Rig, capacity: usize) -> Pair {
    let (ours, theirs) = duplex(capacity);
    let builder = || {
        let builder = rig.builder().handle("bounce", |depth: u32, context: Context| async move {
            match depth {
                0 => Ok(0),
                _ => {
                    let below: u32 = context.peer().invoke("bounce", &(depth - 1)).await?;
                    Ok::<_, HandlerError>(below + 1)
                }
            }
        });
        builder.handle_raw("echo", |body, _| async move { HandlerResult::Ok(body) })
    };
    let (binder, binder_driver) = builder().binder();
    let binder_driver = rig.drive(binder_driver);
    let (connector, connector_driver) = builder().connect_stream(ours);
    let connector_driver = rig.drive(connector_driver);
    binder.accept(theirs, "somewhere").expect("there is room");
    connector.peer().ready().await.expect("the binder answers");
    let back = rig.sole_peer(&binder).await;
    assert_eq!(back.info().address, "somewhere");
    Pair { binder, binder_driver, connector, connector_driver, back }
}

/// A byte stream of the user's own, however small its buffer, carries everything in both directions.
pub async fn tiny_byte_streams(rig: Rig) {
    for capacity in [1, 7, 4096] {
        let pair = over_duplex(&rig, capacity).await;
        for peer in [pair.peer(), &pair.back] {
            assert_eq!(peer.invoke::<_, u32>("bounce", &20).await.expect("calls nest"), 20);
            let body = Bytes::from(vec![3; 20_000]);
            assert_eq!(peer.invoke_raw("echo", body.clone()).await.expect("it comes back"), body);
        }
        let calls = (0..50).map(|n| {
            let peer = if n % 2 == 0 { pair.peer() } else { &pair.back };
            async move { peer.invoke::<_, u32>("bounce", &(n % 4)).await.expect("calls nest") }
        });
        futures_util::future::join_all(calls).await;
        pair.end().await;
    }
}

/// A connector over a byte stream does not reconnect: its driver ends with the cause.
pub async fn end_of_a_byte_stream(rig: Rig) {
    let gate = Gate::default();
    let pair = over_duplex(&rig, 512).await;
    gate.guard(pair.connector.handlers(), "hold");
    let back = pair.back.clone();
    let call = rig.spawn(async move { back.invoke::<_, Value>("hold", &1).await });
    let _held = gate.next().await;
    pair.binder_driver.cut().await;
    let Err(DriverError::Disconnected(cause)) = pair.connector_driver.join().await else {
        panic!("the driver must end with the cause");
    };
    assert!(matches!(cause, DisconnectCause::PeerClosed | DisconnectCause::Io(_)), "{cause:?}");
    assert_eq!(gate.live(), 0);
    call.join().await.expect_err("the link is gone");
    pair.connector.peer().ready().await.expect_err("there is no other stream");
}

/// An executor of the user's own: here, one that counts.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn Runtime>,
    spawned: AtomicUsize,
    alive: Arc<AtomicUsize>,
    yields: AtomicUsize,
}

impl Counting {
    fn new(inner: &Arc<dyn Runtime>) -> Arc<Wrapped<Self>> {
        let (spawned, alive, yields) = Default::default();
        Arc::new(Wrapped(Self { inner: inner.clone(), spawned, alive, yields }))
    }
}

impl Wrap for Counting {
    fn inner(&self) -> &dyn Runtime {
        &*self.inner
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.spawned.fetch_add(1, Ordering::SeqCst);
        let alive = Alive::new(&self.alive);
        self.inner.spawn(Box::pin(async move {
            let _alive = alive;
            task.await;
        }));
    }

    fn yield_now(&self, cx: &mut task::Context<'_>) {
        self.yields.fetch_add(1, Ordering::SeqCst);
        self.inner.yield_now(cx);
    }
}

/// Peers run on an executor of the user's own, and when the drivers have ended no task is left on it.
pub async fn own_runtime(rig: Rig) {
    let counting = Counting::new(rig.runtime());
    let alive = counting.alive.clone();
    let own = rig.with_runtime(counting.clone());
    for cut in [false, true] {
        let gate = Gate::default();
        // The drivers run outside, so that only what is under them is counted.
        let (binder, binder_driver) = own.builder().bind(rig.endpoint()).await.expect("it is free");
        let binder_driver = rig.drive(binder_driver);
        let (connector, connector_driver) =
            own.builder().connect(&binder.endpoints()[0]).expect("it is an endpoint");
        let connector_driver = rig.drive(connector_driver);
        gate.guard(binder.handlers(), "hold");
        let calls: Vec<_> = (0..10)
            .map(|n| {
                let peer = connector.peer().clone();
                rig.spawn(async move { peer.invoke::<_, Value>("hold", &n).await })
            })
            .collect();
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(gate.next().await);
        }
        assert!(alive.load(Ordering::SeqCst) >= 10);
        if cut {
            binder_driver.cut().await;
            rig.until(|| alive.load(Ordering::SeqCst) == 0).await;
            connector_driver.cut().await;
        } else {
            for held in held.drain(..) {
                held.release(1);
            }
            binder.shutdown(SOON).await;
            binder_driver.join().await.expect("it ends well");
            connector_driver.cut().await;
            rig.until(|| alive.load(Ordering::SeqCst) == 0).await;
        }
        for call in calls {
            assert_eq!(call.join().await.is_ok(), !cut);
        }
    }
    // Two rounds of a link and ten handlers, the last of which may have ended in its first poll, without a task.
    assert!(counting.spawned.load(Ordering::SeqCst) >= 20);
}

/// A link that writes a lot and hears nothing meanwhile has the executor look at its socket.
pub async fn long_writes(rig: Rig) {
    const LEN: usize = 1 << 20;
    let counting = Counting::new(rig.runtime());
    let size = |body: Bytes, _| async move { HandlerResult::Ok(Bytes::from(body.len().to_string())) };
    let (binder, binder_driver) = rig.serve(rig.builder().handle_raw("size", size)).await;
    // In dialect 1 nothing comes before all has left.
    let builder = rig.with_runtime(counting.clone()).builder().dialect(Dialect::One);
    let (connector, connector_driver) = rig.connect(builder, &binder.endpoints()[0]);
    connector.peer().ready().await.expect("it is let in");
    let before = counting.yields.load(Ordering::SeqCst);
    let body = Bytes::from(vec![7; LEN]);
    let counted = connector.peer().invoke_raw("size", body.clone()).await.expect("it is answered");
    assert_eq!(counted, LEN.to_string());
    assert!(counting.yields.load(Ordering::SeqCst) > before);
    connector_driver.cut().await;
    binder_driver.cut().await;
}

/// A byte stream with a peer in it that probes without end and reads every answer: there is always something to read, and
/// always room to write.
struct Flood(Link);

impl Flood {
    fn new() -> Self {
        Self(Link::new(&LinkConfig::new(Role::Binder), [7; 32], Instant::now()))
    }
}

impl AsyncRead for Flood {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.0.is_established() && self.0.pending_output() == 0 {
            // The largest that are answered.
            let probe = || Multipart::new(PING, Bytes::new(), Bytes::from(vec![7; 64 * 1024]));
            (0..16).for_each(|_| self.0.send(probe()).expect("it is established"));
        }
        let mut slices = [IoSlice::new(&[]); 1];
        let used = self.0.output(&mut slices);
        if used == 0 {
            return Poll::Pending;
        }
        let len = slices[0].len().min(buf.len());
        buf[..len].copy_from_slice(&slices[0][..len]);
        self.0.advance_output(len);
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.handle_input(Instant::now(), buf).map_err(io::Error::other)?;
        while let Some(event) = self.0.poll_event() {
            if let LinkEvent::Message(message) = event
                && let Some([marker, header, body]) = message.into_three()
                && marker == PING
            {
                self.0.send(Multipart::new(PONG, header, body)).expect("it is established");
            }
        }
        // There may be something to read now.
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A link that never has to wait for its stream keeps its deadlines.
pub async fn endless_stream(rig: Rig) {
    let (connector, driver) = rig.builder().connect_stream(Flood::new());
    let driver = rig.drive(driver);
    connector.peer().ready().await.expect("it answers");
    let body = Bytes::new();
    let call = connector.peer().invoke_raw("never", body.clone()).timeout(Duration::from_millis(20));
    assert!(matches!(call.await, Err(CallError::TimedOut { .. })));
    driver.cut().await;
}

/// An executor that can be told to die: from then on it drops tasks instead of running them, as tokio's runtime does
/// while it shuts down.
#[derive(Debug)]
struct Mortal {
    inner: Arc<dyn Runtime>,
    dead: AtomicBool,
}

impl Wrap for Mortal {
    fn inner(&self) -> &dyn Runtime {
        &*self.inner
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        match self.dead.load(Ordering::SeqCst) {
            true => drop(task),
            false => self.inner.spawn(task),
        }
    }
}

/// An executor that shuts down under a full queue neither blocks nor overflows the stack, and leaves no handler.
pub async fn dying_runtime(rig: Rig) {
    const WAITING: usize = 20_000;
    let mortal = Arc::new(Wrapped(Mortal { inner: rig.runtime().clone(), dead: AtomicBool::new(false) }));
    let own = rig.with_runtime(mortal.clone());
    let gate = Gate::default();
    let limits = Limits::default().max_concurrency(1).max_queue(WAITING);
    let (binder, binder_driver) =
        own.builder().limits(limits).bind(rig.endpoint()).await.expect("it is free");
    let binder_driver = rig.drive(binder_driver);
    let (connector, connector_driver) = rig.connect(rig.builder(), &binder.endpoints()[0]);
    gate.guard(binder.handlers(), "hold");
    let argument = Value::Null;
    let calls: Vec<_> =
        (0..=WAITING).map(|_| connector.peer().invoke::<_, Value>("hold", &argument).into_future()).collect();
    let held = gate.next().await;
    let back = rig.sole_peer(&binder).await;
    rig.until(|| back.stats().requests_queued == WAITING as u64).await;
    mortal.dead.store(true, Ordering::SeqCst);
    held.release(1);
    rig.until(|| gate.live() == 0).await;
    binder_driver.cut().await;
    for call in calls {
        // Which of them were answered before the end does not matter; that all end does.
        let _ = call.await;
    }
    rig.until(|| (back.stats().requests_queued, back.stats().requests_running) == (0, 0)).await;
    connector_driver.cut().await;
}

/// A scheduler of the user's own: last come, first served, one at a time.
#[derive(Default)]
struct LastFirst {
    waiting: Vec<RequestId>,
    unready: Vec<RequestId>,
    running: Option<RequestId>,
    releases: VecDeque<RequestId>,
}

impl Scheduler for LastFirst {
    fn arrive(&mut self, arrival: &Arrival) -> Result<(), Busy> {
        match arrival.ready {
            true => self.waiting.push(arrival.request),
            false => self.unready.push(arrival.request),
        }
        Ok(())
    }

    fn ready(&mut self, request: RequestId, _: usize) -> Result<(), Busy> {
        if let Some(at) = self.unready.iter().position(|other| *other == request) {
            self.waiting.push(self.unready.swap_remove(at));
        }
        Ok(())
    }

    fn finish(&mut self, request: RequestId) {
        if self.running == Some(request) {
            self.running = None;
            self.releases.push_back(request);
        }
    }

    fn withdraw(&mut self, request: RequestId) {
        if self.running != Some(request) {
            self.waiting.retain(|other| *other != request);
            self.unready.retain(|other| *other != request);
            self.releases.retain(|other| *other != request);
        }
    }

    fn forget_connection(&mut self, connection: ConnectionId) {
        self.waiting.retain(|request| request.connection() != connection);
        self.unready.retain(|request| request.connection() != connection);
        self.releases.retain(|request| request.connection() != connection);
    }

    fn suspend(&mut self, _: RequestId) {}
    fn resume(&mut self, _: RequestId) {}
    fn pause(&mut self, _: ConnectionId) {}
    fn unpause(&mut self, _: ConnectionId) {}

    fn poll(&mut self) -> Option<Action> {
        if let Some(request) = self.releases.pop_front() {
            return Some(Action::Release(request));
        }
        if self.running.is_some() {
            return None;
        }
        let request = self.waiting.pop()?;
        self.running = Some(request);
        Some(Action::Start(request))
    }

    fn running(&self) -> usize {
        usize::from(self.running.is_some())
    }

    fn waiting(&self) -> usize {
        self.waiting.len() + self.unready.len()
    }

    fn is_idle(&self) -> bool {
        self.waiting() == 0 && self.running.is_none() && self.releases.is_empty()
    }
}

/// The order of calls is the affair of the scheduler that the user gave.
pub async fn own_scheduler(rig: Rig) {
    let gate = Gate::default();
    let pair = rig.pair(rig.builder().scheduler(Box::<LastFirst>::default()), rig.builder()).await;
    gate.guard(pair.binder.handlers(), "hold");
    let mut calls = Vec::new();
    let mut first = None;
    for n in 0..4 {
        let peer = pair.peer().clone();
        calls.push(rig.spawn(async move { peer.invoke::<_, Value>("hold", &n).await }));
        match n {
            0 => first = Some(gate.next().await),
            n => rig.until(|| pair.back.stats().requests_queued == n).await,
        }
    }
    first.expect("the first runs").release(0);
    for n in [3, 2, 1] {
        let held = gate.next().await;
        assert_eq!(held.argument, n);
        held.release(n);
    }
    for (n, call) in (0..4).zip(calls) {
        assert_eq!(call.join().await.expect("it was released"), n);
    }
    pair.end().await;
}

/// Takes every span and event, and formats what it is given.
struct Everything;

impl tracing::Subscriber for Everything {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        std::hint::black_box(format!("{attributes:?}"));
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        std::hint::black_box(format!("{event:?}"));
    }

    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// With every trace enabled, nothing panics or waits: calls, failures, panics, cuts, reconnects.
pub async fn tracing_enabled(rig: Rig) {
    // Another test of this process may have been first; it has set the same.
    let _ = tracing::subscriber::set_global_default(Everything);
    let binder = rig.builder().handle("panic", |_: Value, _| async {
        if true {
            panic!("on purpose");
        }
        HandlerResult::Ok(())
    });
    let pair = rig.pair(binder, rig.builder()).await;
    pair.peer().invoke::<_, ()>("panic", &()).key("k").await.expect_err("it panics");
    pair.peer().invoke::<_, ()>("nothing", &()).await.expect_err("there is no such method");
    pair.peer().disconnect();
    pair.back.ready().await.err();
    pair.peer().ping().await.err();
    pair.end().await;
}

/// A byte stream that panics on demand.
struct Faulty(callosum_runtime::Duplex, Arc<AtomicBool>);

impl AsyncRead for Faulty {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        assert!(!self.1.load(Ordering::SeqCst), "on purpose");
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// A byte stream that panics takes its own link down and no more: its calls end, its peer is gone, the binder lives.
pub async fn panicking_byte_stream(rig: Rig) {
    let gate = Gate::default();
    let (binder, driver) = rig.builder().binder();
    let driver = rig.drive(driver);
    let mut events = binder.events();
    let fault = Arc::new(AtomicBool::new(false));
    let (ours, theirs) = callosum_runtime::duplex(1024);
    binder.accept(Faulty(ours, fault.clone()), "faulty").expect("it is running");
    let (connector, calling) = rig.builder().connect_stream(theirs);
    let calling = rig.drive(calling);
    gate.guard(connector.handlers(), "hold");
    let back = rig.sole_peer(&binder).await;
    let argument = Value::Null;
    let call = back.invoke::<_, Value>("hold", &argument).into_future();
    let _held = gate.next().await;
    fault.store(true, Ordering::SeqCst);
    let error = futures_util::future::join(connector.peer().ping(), call).await.1.expect_err("it was cut");
    assert!(matches!(error, CallError::Disconnected(_)), "{error:?}");
    next_event(&mut events, |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
    assert!(binder.peers().is_empty());
    calling.join().await.expect_err("it never reconnects");
    binder.shutdown(SOON).await;
    driver.join().await.expect("it ends well");
}
