//! Real load over loopback on tokio and on async-std: a gigabyte each way beside small calls, a client that is killed in the
//! middle, a slow reader among fast ones.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_hosts::Host;
use callosum_runtime::{
    BodyError, BodyReader, BodyWriter, Context, Event, HandlerResult, Limits, Peer, Responder,
};
use callosum_tests::gate::Alive;
use callosum_tests::rig::{Rig, SOON, Transport, next_event, on, on_within};
use futures_util::StreamExt;
use futures_util::future::join;

const GIB: u64 = 1 << 30;

/// Small calls a second, and how long one waits for the next.
const TICK: Duration = Duration::from_millis(1);

/// A prime, so that no piece looks like another.
const PERIOD: usize = 65_521;

/// Without optimization, and beside other tests, a gigabyte may take its minute. Only a safety net against hanging.
const LARGE_PATIENCE: Duration = Duration::from_secs(220);

const PIECE: usize = 128 * 1024;

/// Set where a client is to be run that is going to be killed: the endpoint that it connects to.
const VICTIM: &str = "CALLOSUM_TEST_VICTIM";

/// Bytes that tell where they belong.
fn pattern() -> Bytes {
    (0..PERIOD + PIECE).map(|n| (n % PERIOD * 7 / 5) as u8).collect::<Vec<_>>().into()
}

async fn write(writer: &mut BodyWriter, len: u64) -> Result<(), BodyError> {
    let pattern = pattern();
    let mut at = 0;
    while at < len {
        let from = (at % PERIOD as u64) as usize;
        let take = PIECE.min(usize::try_from(len - at).unwrap_or(PIECE));
        writer.write_bytes(pattern.slice(from..from + take)).await?;
        at += take as u64;
    }
    writer.finish()
}

/// How many bytes came, each in its place.
async fn read(mut body: BodyReader) -> Result<u64, BodyError> {
    let pattern = pattern();
    let mut at = 0;
    while let Some(bytes) = body.next().await {
        let bytes = bytes?;
        let from = (at % PERIOD as u64) as usize;
        assert!(bytes == pattern[from..from + bytes.len()], "bytes out of place after {at}");
        at += bytes.len() as u64;
    }
    Ok(at)
}

async fn sink(body: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
    let read = read(body).await?;
    responder.begin().await?.write_item(&read).await?;
    Ok(())
}

async fn source(body: BodyReader, responder: Responder, context: Context) -> HandlerResult<()> {
    let len: u64 = context.codec().decode(&body.collect().await?)?;
    Ok(write(&mut responder.begin().await?, len).await?)
}

async fn upload(peer: &Peer, len: u64) -> Result<u64, BodyError> {
    let (mut writer, answer) = peer.open("sink").stream()?;
    write(&mut writer, len).await?;
    let mut items = answer.await?.body.items::<u64>();
    let read = items.next().await.expect("it says how many came")?;
    // To the end, so that the call is done and not given up.
    assert!(items.next().await.is_none());
    Ok(read)
}

async fn download(peer: &Peer, len: u64) -> Result<u64, BodyError> {
    read(peer.open("source").send(&len)?.await?.body).await
}

fn serving(rig: &Rig) -> callosum_runtime::Builder {
    let add = |(a, b): (u64, u64), _| async move { HandlerResult::Ok(a + b) };
    rig.builder().handle_stream("sink", sink).handle_stream("source", source).handle("add", add)
}

/// A gigabyte up and one down at once, and a thousand small calls a second beside them, on one connection: all of those that
/// were due are made, none is lost, and they don't wait for the gigabytes to be over.
async fn a_gigabyte_each_way(rig: Rig) {
    // As many as are due in a time in which a slow machine runs nothing of this test.
    let limits = Limits::default().max_queue(100_000);
    let pair = rig.pair(serving(&rig).limits(limits), rig.builder()).await;
    let over = Arc::new(OnceLock::new());
    let answered = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let small = {
        let (rig, peer, over, answered) = (rig.clone(), pair.peer().clone(), over.clone(), answered.clone());
        rig.clone().spawn(async move {
            let mut made = Vec::new();
            let mut due = began;
            // Who is late catches up.
            while over.get().is_none_or(|over| due <= *over) {
                let (peer, answered, n) = (peer.clone(), answered.clone(), made.len() as u64);
                made.push(rig.spawn(async move {
                    let sum = peer.invoke::<_, u64>("add", &(n, 1)).await;
                    answered.fetch_add(1, Ordering::Relaxed);
                    sum
                }));
                due += TICK;
                while Instant::now() < due {
                    rig.pause(due.saturating_duration_since(Instant::now())).await;
                }
            }
            let count = made.len();
            for (n, call) in made.into_iter().enumerate() {
                assert_eq!(call.join().await.expect("it is answered"), n as u64 + 1);
            }
            count as u64
        })
    };
    let transfers = async {
        let transferred = join(upload(pair.peer(), GIB), download(pair.peer(), GIB)).await;
        let meanwhile = answered.load(Ordering::Relaxed);
        let ended = *over.get_or_init(Instant::now);
        (transferred, meanwhile, ended)
    };
    let (((up, down), meanwhile, ended), small) = join(transfers, small.join()).await;
    assert_eq!((up.expect("it arrives"), down.expect("it arrives")), (GIB, GIB));
    // One at the beginning, and one for each tick since.
    let due = 1 + (ended - began).as_nanos() / TICK.as_nanos();
    assert_eq!(u128::from(small), due);
    assert!(meanwhile >= small / 2, "{meanwhile} of {small} small calls were answered meanwhile");
    assert_eq!((pair.peer().stats().calls_failed, pair.peer().stats().calls_done), (0, small + 2));
    pair.end().await;
}

/// One slow reader among fast ones: theirs arrive, and then the rest of the slow one.
async fn a_slow_reader_among_fast_ones(rig: Rig) {
    const LEN: u64 = 64 << 20;
    let (binder, driver) = rig.serve(serving(&rig)).await;
    let (slow, slow_driver) = rig.connect(rig.builder(), &binder.endpoints()[0]);
    let mut crawling =
        slow.peer().open("source").send(&LEN).expect("it can be made").await.expect("it begins").body;
    let first = crawling.next().await.expect("it begins").expect("it can be read");
    for _ in 0..3 {
        // On its own connection, and on another.
        assert_eq!(download(slow.peer(), LEN).await.expect("it arrives"), LEN);
        let (fast, fast_driver) = rig.connect(rig.builder(), &binder.endpoints()[0]);
        assert_eq!(download(fast.peer(), LEN).await.expect("it arrives"), LEN);
        fast.shutdown(SOON).await;
        fast_driver.join().await.expect("it ends well");
    }
    let mut left = LEN - first.len() as u64;
    while let Some(bytes) = crawling.next().await {
        left -= bytes.expect("it can be read").len() as u64;
    }
    assert_eq!(left, 0);
    slow.shutdown(SOON).await;
    binder.shutdown(SOON).await;
    slow_driver.join().await.expect("it ends well");
    driver.join().await.expect("it ends well");
}

/// A process that dies with its parent's test.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A client is killed in the middle of an upload: its handler ends, nothing is left of it, and others go on.
async fn a_client_killed_in_the_middle(rig: Rig, test: &'static str) {
    let (came, coming) = async_channel::unbounded();
    let live = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&live);
    let counted = move |mut body: BodyReader, _: Responder, _: Context| {
        let (came, alive) = (came.clone(), Alive::new(&counter));
        async move {
            let _alive = alive;
            while let Some(bytes) = body.next().await {
                came.send(bytes?.len()).await?;
            }
            HandlerResult::Ok(())
        }
    };
    let (binder, driver) = rig.serve(serving(&rig).handle_stream("counted", counted)).await;
    let mut events = binder.events();
    let exe = std::env::current_exe().expect("the test is a program");
    let child = Command::new(exe)
        .args(["--exact", test, "--nocapture"])
        .env(VICTIM, binder.endpoints()[0].to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the system has processes");
    let mut victim = Victim(child);
    let mut read = 0;
    while read < 32 << 20 {
        read += coming.recv().await.expect("it goes on for ever");
    }
    let back = rig.sole_peer(&binder).await;
    let (other, other_driver) = rig.connect(rig.builder(), &binder.endpoints()[0]);
    let other_download = {
        let peer = other.peer().clone();
        rig.spawn(async move { download(&peer, 64 << 20).await })
    };
    victim.0.kill().expect("it runs");
    next_event(&mut events, |event| match event {
        Event::Disconnected { peer, .. } if peer == back.id() => Some(()),
        _ => None,
    })
    .await;
    rig.until(|| live.load(Ordering::SeqCst) == 0 && back.stats().requests_running == 0).await;
    assert_eq!(other_download.join().await.expect("it arrives"), 64 << 20);
    other.shutdown(SOON).await;
    binder.shutdown(SOON).await;
    other_driver.join().await.expect("it ends well");
    driver.join().await.expect("it ends well");
}

/// What the victim does until it is killed.
async fn upload_for_ever(rig: Rig, endpoint: String) {
    let endpoint = endpoint.parse().expect("it is an endpoint");
    let (connector, _driver) = rig.connect(rig.builder(), &endpoint);
    let (mut writer, _answer) = connector.peer().open("counted").stream().expect("it can be made");
    let piece = pattern();
    while writer.write_bytes(piece.clone()).await.is_ok() {}
}

#[test]
fn a_gigabyte_each_way_on_tokio() {
    on_within(Host::Tokio, LARGE_PATIENCE, "a gigabyte each way", Transport::Tcp, a_gigabyte_each_way);
}

#[test]
fn a_gigabyte_each_way_on_async_std() {
    on_within(Host::AsyncStd, LARGE_PATIENCE, "a gigabyte each way", Transport::Tcp, a_gigabyte_each_way);
}

#[test]
fn a_slow_reader_among_fast_ones_on_tokio() {
    on(Host::Tokio, "a slow reader", Transport::Tcp, a_slow_reader_among_fast_ones);
}

#[test]
fn a_slow_reader_among_fast_ones_on_async_std() {
    on(Host::AsyncStd, "a slow reader", Transport::Tcp, a_slow_reader_among_fast_ones);
}

#[test]
fn a_client_killed_in_the_middle_on_tokio() {
    const NAME: &str = "real_load::a_client_killed_in_the_middle_on_tokio";
    match std::env::var(VICTIM) {
        Ok(endpoint) => on(Host::Tokio, NAME, Transport::Tcp, |rig| upload_for_ever(rig, endpoint)),
        Err(_) => on(Host::Tokio, NAME, Transport::Tcp, |rig| a_client_killed_in_the_middle(rig, NAME)),
    }
}

#[test]
fn a_client_killed_in_the_middle_on_async_std() {
    const NAME: &str = "real_load::a_client_killed_in_the_middle_on_async_std";
    match std::env::var(VICTIM) {
        Ok(endpoint) => on(Host::AsyncStd, NAME, Transport::Tcp, |rig| upload_for_ever(rig, endpoint)),
        Err(_) => on(Host::AsyncStd, NAME, Transport::Tcp, |rig| a_client_killed_in_the_middle(rig, NAME)),
    }
}
