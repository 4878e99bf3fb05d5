//! Byte streams of users' own: that buffer what they are given, take one byte at a time, or close late. All on virtual time: a
//! call that takes any has waited for a timer.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use callosum_tokio::auth::{AuthenticationError, CurveClient, KeySet, generate_keys};
use callosum_tokio::rt::ByteStream;
use callosum_tokio::{
    Binder, Builder, Connector, DisconnectCause, Drained, Driver, DriverError, Duplex, HandlerResult,
    builder, duplex,
};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::io::{AsyncRead, AsyncWrite, BufWriter};
use tokio::task::JoinHandle;

type Driving = JoinHandle<Result<(), DriverError>>;

/// What a test does to the bytes of one end of a stream.
#[derive(Clone, Copy)]
struct Habits {
    /// What is taken at once, and read at once.
    at_once: usize,
    /// Whether bytes are passed on only when they are flushed.
    keeps: bool,
    /// How often a flush, or a close, is not done yet, and how long it takes then.
    late: (usize, Duration),
}

const PLAIN: Habits = Habits { at_once: usize::MAX, keeps: false, late: (0, Duration::ZERO) };

/// How often a stream was asked for what.
#[derive(Default)]
struct Counts {
    writes: AtomicUsize,
    flushes: AtomicUsize,
    closes: AtomicUsize,
}

/// A byte stream with habits.
struct Odd {
    inner: Duplex,
    habits: Habits,
    kept: Vec<u8>,
    /// How often the flush or close under way has still to be put off.
    left: Option<usize>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    counts: Arc<Counts>,
}

impl Odd {
    fn new(inner: Duplex, habits: Habits) -> Self {
        Self { inner, habits, kept: Vec::new(), left: None, pause: None, counts: Arc::default() }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (times, pause) = self.habits.late;
        let left = self.left.get_or_insert(times);
        while *left > 0 {
            let sleeping = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            ready!(sleeping.as_mut().poll(cx));
            self.pause = None;
            *left -= 1;
        }
        Poll::Ready(())
    }

    fn poll_pass_on(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.kept))?;
            self.kept.drain(..n);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Odd {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let len = buf.len().min(self.habits.at_once);
        Pin::new(&mut self.inner).poll_read(cx, &mut buf[..len])
    }
}

impl AsyncWrite for Odd {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        let buf = &buf[..buf.len().min(self.habits.at_once)];
        match self.habits.keeps {
            true => self.kept.extend_from_slice(buf),
            false => return Pin::new(&mut self.inner).poll_write(cx, buf),
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.counts.flushes.fetch_add(1, Ordering::Relaxed);
        ready!(self.poll_late(cx));
        ready!(self.poll_pass_on(cx))?;
        self.left = None;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.counts.closes.fetch_add(1, Ordering::Relaxed);
        ready!(self.poll_late(cx));
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

struct Ends {
    binder: Binder,
    connector: Connector,
    driving: [Driving; 2],
}

fn drive((a, b): (Driver, Driver)) -> [Driving; 2] {
    [tokio::spawn(a), tokio::spawn(b)]
}

fn echoing(builder: Builder) -> Builder {
    builder.handle_raw("echo", |body, _| async move { HandlerResult::Ok(body) })
}

async fn connect(ours: impl ByteStream, theirs: impl ByteStream) -> Ends {
    let (binder, serving) = echoing(builder()).binder();
    binder.accept(theirs, "memory").expect("there is room");
    let (connector, calling) = echoing(builder()).connect_stream(ours);
    let driving = drive((serving, calling));
    connector.peer().ready().await.expect("the binder answers");
    Ends { binder, connector, driving }
}

impl Ends {
    /// Calls of all sizes, both ways, alone and at once.
    async fn call(&self, largest: usize) {
        let back = self.binder.peers().remove(0);
        for peer in [self.connector.peer(), &back] {
            for len in [0, 1, 100, 5_000, largest] {
                let body = Bytes::from(vec![7; len]);
                assert_eq!(peer.invoke_raw("echo", body.clone()).await.expect("it comes back"), body);
            }
            let body = Bytes::from(vec![8; 1_000]);
            for echoed in join_all((0..20).map(|_| peer.invoke_raw("echo", body.clone()).into_future())).await
            {
                assert_eq!(echoed.expect("it comes back"), body);
            }
        }
    }

    async fn end(self) {
        assert_eq!(self.connector.shutdown(Duration::from_secs(600)).await, Drained::Completely);
        assert_eq!(self.binder.shutdown(Duration::from_secs(600)).await, Drained::Completely);
        for driving in self.driving {
            driving.await.expect("it does not panic").expect("it ends well");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn buffered_streams_are_flushed() {
    for capacity in [1, 100, 8 * 1024, 1 << 20] {
        let (ours, theirs) = duplex(64 * 1024);
        let begun = tokio::time::Instant::now();
        let ends =
            connect(BufWriter::with_capacity(capacity, ours), BufWriter::with_capacity(capacity, theirs))
                .await;
        ends.call(500_000).await;
        ends.end().await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "with a buffer of {capacity} bytes");
    }
}

/// What comes between a call and its reply is flushed too: the pipe is smaller than either.
#[tokio::test(start_paused = true)]
async fn buffered_streams_are_flushed_through_a_narrow_pipe() {
    for capacity in [16, 4 * 1024, 1 << 20] {
        let (ours, theirs) = duplex(16);
        let begun = tokio::time::Instant::now();
        let ends =
            connect(BufWriter::with_capacity(capacity, ours), BufWriter::with_capacity(capacity, theirs))
                .await;
        ends.call(50_000).await;
        ends.end().await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "with a buffer of {capacity} bytes");
    }
}

/// A flush that is not done at once is driven on whenever it wakes the link.
#[tokio::test(start_paused = true)]
async fn late_flushes_are_driven_to_their_end() {
    for late in [(0, Duration::ZERO), (1, Duration::ZERO), (3, Duration::from_millis(1))] {
        let habits = Habits { keeps: true, late, ..PLAIN };
        let (ours, theirs) = duplex(4 * 1024);
        let begun = tokio::time::Instant::now();
        let ends = connect(Odd::new(ours, habits), Odd::new(theirs, habits)).await;
        ends.call(50_000).await;
        ends.end().await;
        let passed = begun.elapsed();
        assert!(passed < Duration::from_secs(10), "{passed:?} have passed, as if a heartbeat had helped");
    }
}

#[tokio::test(start_paused = true)]
async fn one_byte_at_a_time() {
    for keeps in [false, true] {
        let habits = Habits { at_once: 1, keeps, ..PLAIN };
        let (ours, theirs) = duplex(100);
        let begun = tokio::time::Instant::now();
        let ends = connect(Odd::new(ours, habits), Odd::new(theirs, habits)).await;
        ends.call(20_000).await;
        ends.end().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}

/// A stream may take its time to close: what was written has arrived, and its end is what the other side sees.
#[tokio::test(start_paused = true)]
async fn late_closes_are_driven_to_their_end() {
    let habits = Habits { keeps: true, late: (5, Duration::from_millis(100)), ..PLAIN };
    let (ours, theirs) = duplex(64 * 1024);
    let ours = Odd::new(ours, habits);
    let counts = ours.counts.clone();
    let mut ends = connect(ours, theirs).await;
    let call = ends.connector.peer().invoke_raw("echo", Bytes::from_static(b"!")).into_future();
    let (echoed, drained) =
        futures_util::future::join(call, ends.connector.shutdown(Duration::from_secs(600))).await;
    assert_eq!(echoed.expect("it was made before"), "!");
    assert_eq!(drained, Drained::Completely);
    assert!(counts.closes.load(Ordering::Relaxed) > 1);
    (&mut ends.driving[1]).await.expect("it does not panic").expect("it ends well");
    let mut events = ends.binder.events();
    while !ends.binder.peers().is_empty() {
        events.next().await.expect("the binder's driver runs");
    }
}

/// A close that never ends holds a shutdown up for a second, and not for its whole grace period.
#[tokio::test(start_paused = true)]
async fn a_close_that_hangs_is_given_up() {
    let (ours, theirs) = duplex(64 * 1024);
    let ends = connect(NeverCloses(ours), theirs).await;
    ends.call(100).await;
    let begun = tokio::time::Instant::now();
    assert_eq!(ends.connector.shutdown(Duration::from_secs(600)).await, Drained::Completely);
    let passed = begun.elapsed();
    assert!(passed < Duration::from_secs(3), "{passed:?}");
}

/// A stream whose `poll_close` is never ready, and never wakes its task.
struct NeverCloses(Duplex);

impl AsyncRead for NeverCloses {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for NeverCloses {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// Why a client is rejected is flushed before its link ends.
#[tokio::test(start_paused = true)]
async fn last_words_are_flushed() {
    let server = generate_keys();
    let public = server.public();
    let (binder, serving) = builder().authenticator(KeySet::new(server)).binder();
    let (ours, theirs) = duplex(64 * 1024);
    binder.accept(BufWriter::new(theirs), "memory").expect("there is room");
    let client = builder().authenticator(CurveClient::new(generate_keys(), public));
    let (_connector, calling) = client.connect_stream(BufWriter::new(ours));
    let [_serving, calling] = drive((serving, calling));
    let result = calling.await.expect("it does not panic");
    let Err(DriverError::Disconnected(DisconnectCause::Authentication(error))) = result else {
        panic!("{result:?}");
    };
    assert!(matches!(error, AuthenticationError::Refused { status: Some(_) }), "{error:?}");
}

/// A stream that has nothing to flush is asked at most once for each batch of writes.
#[tokio::test(start_paused = true)]
async fn flushes_are_no_more_than_writes() {
    let (ours, theirs) = duplex(64 * 1024);
    let ours = Odd::new(ours, PLAIN);
    let counts = ours.counts.clone();
    let ends = connect(ours, theirs).await;
    ends.call(500_000).await;
    let (writes, flushes) = (counts.writes.load(Ordering::Relaxed), counts.flushes.load(Ordering::Relaxed));
    assert!(flushes > 0 && flushes <= writes, "{flushes} flushes of {writes} writes");
    ends.end().await;
}

/// A flush that hangs costs no processor time, and keeps nothing else from being read or written.
#[tokio::test(start_paused = true)]
async fn a_flush_that_waits_is_not_spun_on() {
    let (ours, theirs) = duplex(64 * 1024);
    let ours = Odd::new(ours, PLAIN);
    let (hangs, polls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (binder, serving) = echoing(builder()).binder();
    binder.accept(theirs, "memory").expect("there is room");
    let (connector, mut calling) =
        echoing(builder().no_keepalive()).connect_stream(Hangs(ours, hangs.clone()));
    let counted = polls.clone();
    let _serving = tokio::spawn(serving);
    let _calling = tokio::spawn(poll_fn(move |cx| {
        counted.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut calling).poll(cx)
    }));
    connector.peer().ready().await.expect("the binder answers");
    hangs.store(true, Ordering::Relaxed);
    polls.store(0, Ordering::Relaxed);
    for _ in 0..10 {
        let body = Bytes::from_static(b"?");
        assert_eq!(connector.peer().invoke_raw("echo", body.clone()).await.expect("it comes back"), body);
    }
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let polls = polls.load(Ordering::Relaxed);
    assert!(polls < 1_000, "{polls} polls for ten calls");
}

/// A stream whose flush may hang; what it was given has long been passed on.
struct Hangs(Odd, Arc<AtomicBool>);

impl AsyncRead for Hangs {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Hangs {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.1.load(Ordering::Relaxed) {
            true => Poll::Pending,
            false => Pin::new(&mut self.0).poll_flush(cx),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
