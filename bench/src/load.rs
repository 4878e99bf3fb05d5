//! The load, the same for every peer: n tasks that make call after call, spread evenly over one connection or several.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use clap::Args;
use futures::future::try_join_all;
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use crate::{
    cases::{Case, KEYS},
    executor::Executor,
};

/// The client's end of one connection; clones share it.
pub trait Client: Clone + Send + Sync + 'static {
    /// Sends `body` and waits for the server to send it back.
    fn echo(&self, body: Bytes) -> impl Future<Output = Result<Bytes>> + Send;
}

/// The client's end of a connection whose calls can have a key.
pub trait KeyedClient: Client {
    /// As [`Client::echo`], ordered among the calls with the same key.
    fn echo_with_key(&self, key: &str, body: Bytes) -> impl Future<Output = Result<Bytes>> + Send;
}

/// Gives every call a key, each of [`KEYS`] as often as any other in the long run.
#[derive(Clone, Debug)]
pub struct Keyed<C> {
    client: C,
    keys: Arc<[String]>,
    calls: Arc<AtomicU64>,
}

impl<C: KeyedClient> Keyed<C> {
    /// Wraps `clients`, which share the keys.
    pub fn all(clients: Vec<C>) -> Vec<Self> {
        let keys: Arc<[String]> = (0..KEYS).map(|n| format!("session-{n}")).collect();
        let calls = Arc::new(AtomicU64::new(0));
        let keyed = |client| Self { client, keys: keys.clone(), calls: calls.clone() };
        clients.into_iter().map(keyed).collect()
    }
}

impl<C: KeyedClient> Client for Keyed<C> {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        let nth = self.calls.fetch_add(1, Ordering::Relaxed);
        let key = scattered(nth) % self.keys.len() as u64;
        self.client.echo_with_key(&self.keys[key as usize], body).await
    }
}

/// The number `n` of the sequence that splitmix64 (Steele et al. 2014) makes: random, and needs no state but `n`.
fn scattered(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// How long a load lasts.
#[derive(Args, Clone, Copy, Debug)]
pub struct Timing {
    /// Milliseconds before the window opens, in which every body is compared in full
    #[arg(long)]
    pub warm_up_ms: u64,
    /// Milliseconds in which calls count
    #[arg(long)]
    pub window_ms: u64,
}

impl Timing {
    /// So many times as long.
    pub(crate) fn stretched(self, times: u64) -> Self {
        Self { warm_up_ms: self.warm_up_ms * times, window_ms: self.window_ms * times }
    }

    /// As a client's command line has it.
    pub(crate) fn arguments(self) -> [(&'static str, u64); 2] {
        [("--warm-up-ms", self.warm_up_ms), ("--window-ms", self.window_ms)]
    }
}

/// What one load showed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// The length of the window.
    pub seconds: f64,
    /// Durations of the calls that ended within the window, in nanoseconds, and how often each occurred.
    pub latency_ns: BTreeMap<u64, u64>,
}

impl Sample {
    /// The number of calls that ended within the window.
    pub fn calls(&self) -> u64 {
        self.latency_ns.values().sum()
    }

    /// Calls that ended per second of the window.
    pub fn calls_per_s(&self) -> f64 {
        self.calls() as f64 / self.seconds
    }
}

#[derive(Clone, Copy)]
struct Window {
    opens: Instant,
    closes: Instant,
}

/// Loads `clients` with `case` and measures. Task n uses the client n modulo their number, so that each client has its equal
/// part of the calls in flight.
///
/// # Errors
/// There is no client; a call fails, or its body does not come back as it went.
pub async fn run<E: Executor>(clients: &[impl Client], case: Case, timing: Timing) -> Result<Sample> {
    ensure!(!clients.is_empty(), "there is no connection");
    let opens = Instant::now() + Duration::from_millis(timing.warm_up_ms);
    let length = Duration::from_millis(timing.window_ms);
    let window = Window { opens, closes: opens + length };
    let tasks: Vec<_> = (0..case.in_flight)
        .map(|n| {
            let client = clients[n % clients.len()].clone();
            E::spawn(call_after_call(client, body(n, case.body_bytes), window))
        })
        .collect();
    let mut sample = Sample { seconds: length.as_secs_f64(), ..Sample::default() };
    // The first that fails ends all, whichever it is.
    for nanos in try_join_all(tasks).await?.into_iter().flatten() {
        *sample.latency_ns.entry(nanos).or_default() += 1;
    }
    Ok(sample)
}

async fn call_after_call(client: impl Client, body: Bytes, window: Window) -> Result<Vec<u64>> {
    let mut latencies = Vec::with_capacity(1024);
    loop {
        let begun = Instant::now();
        let echoed = client.echo(body.clone()).await?;
        let ended = Instant::now();
        if ended >= window.closes {
            return Ok(latencies);
        }
        if ended >= window.opens {
            ensure!(looks_like(&echoed, &body), "a body came back changed");
            latencies.push((ended - begun).as_nanos() as u64);
        } else {
            ensure!(echoed == body, "a body came back changed");
        }
    }
}

/// The body of task `n`. Random, so that it tells tasks apart, and of 64 characters, so that every layer can carry it as text.
pub fn body(n: usize, len: usize) -> Bytes {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut body = vec![0; len];
    SmallRng::seed_from_u64(n as u64).fill_bytes(&mut body);
    body.iter_mut().for_each(|byte| *byte = CHARACTERS[usize::from(*byte % 64)]);
    body.into()
}

/// Compares the lengths and eight bytes at the start, in the middle and at the end: within the window, comparing
/// all of a large body would measure memory.
fn looks_like(a: &[u8], b: &[u8]) -> bool {
    let len = b.len();
    a.len() == len
        && [0, len / 2, len.saturating_sub(8)].into_iter().all(|start| {
            let end = len.min(start + 8);
            a[start..end] == b[start..end]
        })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{Mutex, atomic::AtomicBool},
    };

    use anyhow::bail;

    use super::*;
    use crate::executor::Tokio;

    #[derive(Clone)]
    struct Loopback;

    impl Client for Loopback {
        async fn echo(&self, body: Bytes) -> Result<Bytes> {
            Ok(body)
        }
    }

    #[derive(Clone)]
    struct Garbles;

    impl Client for Garbles {
        async fn echo(&self, body: Bytes) -> Result<Bytes> {
            let mut body = body.to_vec();
            body[0] ^= 1;
            Ok(body.into())
        }
    }

    /// The first call waits for ever, and every later one fails.
    #[derive(Clone)]
    struct FailsLater(Arc<AtomicBool>);

    impl Client for FailsLater {
        async fn echo(&self, _: Bytes) -> Result<Bytes> {
            if self.0.swap(true, Ordering::Relaxed) {
                bail!("it broke");
            }
            std::future::pending().await
        }
    }

    #[test]
    fn a_task_that_fails_waits_for_no_other() {
        let timing = Timing { warm_up_ms: 1000, window_ms: 1000 };
        let client = FailsLater(Arc::default());
        let error = Tokio::block_on(async move { run::<Tokio>(&[client], CASE, timing).await }).unwrap_err();
        assert_eq!(error.to_string(), "it broke");
    }

    const CASE: Case = Case::new(64, 3);

    /// Counts its calls and their keys.
    #[derive(Clone, Default)]
    struct Counts(Arc<Mutex<HashMap<String, u64>>>);

    impl Client for Counts {
        async fn echo(&self, body: Bytes) -> Result<Bytes> {
            self.echo_with_key("none", body).await
        }
    }

    impl KeyedClient for Counts {
        async fn echo_with_key(&self, key: &str, body: Bytes) -> Result<Bytes> {
            *self.0.lock().unwrap().entry(key.to_owned()).or_default() += 1;
            Ok(body)
        }
    }

    #[test]
    fn every_connection_has_its_part_of_the_calls() {
        let timing = Timing { warm_up_ms: 0, window_ms: 50 };
        let clients: [Counts; 3] = Default::default();
        let loaded = clients.clone();
        Tokio::block_on(async move { run::<Tokio>(&loaded, CASE, timing).await }).unwrap();
        assert!(clients.iter().all(|client| client.0.lock().unwrap()["none"] > 0));
        let none: [Counts; 0] = [];
        assert!(Tokio::block_on(async move { run::<Tokio>(&none, CASE, timing).await }).is_err());
    }

    #[test]
    fn all_keys_are_used_alike() {
        let counts = Counts::default();
        let keyed = Keyed::all(vec![counts.clone(), counts.clone()]);
        let calls = KEYS as u64 * 20;
        for n in 0..calls {
            futures::executor::block_on(keyed[n as usize % 2].echo(Bytes::new())).unwrap();
        }
        let counts = counts.0.lock().unwrap();
        assert_eq!((counts.len(), counts.values().sum::<u64>()), (KEYS, calls));
        assert!(counts.values().all(|count| *count < 60), "{:?}", counts.values().max());
    }

    #[test]
    fn counts_the_calls_of_the_window() {
        // If the machine is too slow for a call, again with more time.
        for times in 1.. {
            let timing = Timing { warm_up_ms: 1, window_ms: 50 }.stretched(times);
            let sample =
                Tokio::block_on(async move { run::<Tokio>(&[Loopback], CASE, timing).await }).unwrap();
            if sample.calls() > 0 {
                let seconds = Duration::from_millis(timing.window_ms).as_secs_f64();
                assert_eq!(sample.calls_per_s(), sample.calls() as f64 / seconds);
                break;
            }
        }
    }

    #[test]
    fn a_changed_body_is_an_error() {
        for warm_up_ms in [0, 1000] {
            let timing = Timing { warm_up_ms, window_ms: 1000 };
            let changed = Tokio::block_on(async move { run::<Tokio>(&[Garbles], CASE, timing).await });
            assert!(changed.is_err());
        }
    }

    #[test]
    fn bodies_of_tasks_differ() {
        assert_ne!(body(0, 64), body(1, 64));
        assert_eq!(body(1, 64), body(1, 64));
        assert_eq!(body(0, 0).len(), 0);
    }

    #[test]
    fn looks_at_length_start_middle_and_end() {
        let sent = body(7, 100);
        assert!(looks_like(&sent, &sent));
        assert!(!looks_like(&sent[..99], &sent));
        for i in [0, 50, 99] {
            let mut changed = sent.to_vec();
            changed[i] ^= 1;
            assert!(!looks_like(&changed, &sent));
        }
        assert!(looks_like(&[], &[]));
    }
}
