//! With randomness from a seed, on a paused clock and one thread, endpoints do the same again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use callosum_testkit::wrapped::{Wrap, Wrapped};
use callosum_tokio::auth::{CurveClient, CurveKeyPair, Identity, KeySet, generate_keys};
use callosum_tokio::rt::Runtime;
use callosum_tokio::{Builder, Driver, Duplex, Event, HandlerResult, TokioRuntime, duplex};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::io::{AsyncRead, AsyncWrite};
use parking_lot::Mutex;

/// tokio, with a generator of random bytes that starts from a seed (SplitMix64). Good for tests only.
#[derive(Debug)]
struct Seeded {
    tokio: TokioRuntime,
    state: Mutex<u64>,
}

impl Seeded {
    fn new(seed: u64) -> Arc<Wrapped<Self>> {
        Arc::new(Wrapped(Self { tokio: TokioRuntime::default(), state: Mutex::new(seed) }))
    }
}

impl Wrap for Seeded {
    fn inner(&self) -> &dyn Runtime {
        &self.tokio
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let mut state = self.state.lock();
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A byte stream that notes each write.
struct Noted(Duplex, Arc<Mutex<Vec<Vec<u8>>>>);

impl AsyncRead for Noted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.0).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = poll {
            self.1.lock().push(buf[..n].to_vec());
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

fn drive(driver: Driver) {
    // How it ends does not matter here.
    tokio::spawn(async { _ = driver.await });
}

/// Runs on a paused clock of its own, from its beginning.
fn on_virtual_time<T>(run: impl Future<Output = T>) -> T {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    tokio.expect("the system has what it takes").block_on(run)
}

/// Everything that two endpoints write to each other under CURVE: calls of several sizes, at once, in both directions.
fn conversation(seed: u64, server: &CurveKeyPair, client: &CurveKeyPair) -> Vec<Vec<u8>> {
    on_virtual_time(async {
        let runtime = Seeded::new(seed);
        let builder = || {
            let builder = Builder::new(runtime.clone()).keepalive(Duration::from_secs(1), 2);
            builder.handle_raw("echo", |body, _| async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                HandlerResult::Ok(body)
            })
        };
        let keys = KeySet::new(server.clone());
        keys.admit(client.public(), Identity::new("me"));
        let (binder, driver) = builder().authenticator(keys).binder();
        drive(driver);
        let (ours, theirs) = duplex(8 * 1024);
        let notes = Arc::<Mutex<Vec<_>>>::default();
        binder.accept(Noted(theirs, notes.clone()), "memory").expect("there is room");
        let client = CurveClient::new(client.clone(), server.public());
        let (connector, driver) = builder().authenticator(client).connect_stream(Noted(ours, notes.clone()));
        drive(driver);
        connector.peer().ready().await.expect("it is admitted");
        let back = binder.peers().remove(0);
        let calls = (0..50_u8).map(|n| {
            let peer = if n % 2 == 0 { connector.peer() } else { &back };
            peer.invoke_raw("echo", vec![n; usize::from(n) * 1_000]).into_future()
        });
        for (n, echoed) in join_all(calls).await.into_iter().enumerate() {
            assert_eq!(echoed.expect("it comes back").len(), n * 1_000);
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        connector.shutdown(Duration::from_secs(1)).await;
        binder.shutdown(Duration::from_secs(1)).await;
        notes.lock().clone()
    })
}

#[test]
fn the_same_seed_makes_the_same_bytes() {
    let (server, client) = (generate_keys(), generate_keys());
    let first = conversation(1, &server, &client);
    for _ in 0..3 {
        assert!(conversation(1, &server, &client) == first);
    }
    assert!(conversation(2, &server, &client) != first);
}

/// How long a connector waits between attempts that fail.
fn pauses(seed: u64) -> Vec<Duration> {
    on_virtual_time(async {
        let (connector, driver) = Builder::new(Seeded::new(seed))
            .connect("inproc://nobody-listens-here")
            .expect("it is an endpoint");
        drive(driver);
        let events = connector.events().take(50).map(|event| match event {
            Event::Reconnecting { after, .. } => after,
            other => panic!("{other:?}"),
        });
        events.collect().await
    })
}

#[test]
fn the_same_seed_makes_the_same_pauses() {
    assert_eq!(pauses(1), pauses(1));
    assert_ne!(pauses(1), pauses(2));
}
