//! The load, the same for every peer: n tasks that share one connection and make call after call.

use std::{
    collections::BTreeMap,
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use clap::Args;
use futures::future::try_join_all;
use rand::{RngCore as _, SeedableRng as _, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use crate::executor::Executor;

/// The client's end of one connection; clones share it.
pub trait Client: Clone + Send + Sync + 'static {
    /// Sends `body` and waits for the server to send it back.
    fn echo(&self, body: Bytes) -> impl Future<Output = Result<Bytes>> + Send;
}

/// The shape of a load.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Calls that are in flight at any time
    #[arg(long)]
    pub in_flight: usize,
    /// Length of the body of request and response, in bytes
    #[arg(long)]
    pub body_bytes: usize,
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

/// Loads `client` with `case` and measures.
///
/// # Errors
/// A call that fails, or whose body does not come back as it went.
pub async fn run<E: Executor>(client: impl Client, case: Case, timing: Timing) -> Result<Sample> {
    let opens = Instant::now() + Duration::from_millis(timing.warm_up_ms);
    let length = Duration::from_millis(timing.window_ms);
    let window = Window { opens, closes: opens + length };
    let tasks: Vec<_> = (0..case.in_flight)
        .map(|n| E::spawn(call_after_call(client.clone(), body(n, case.body_bytes), window)))
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

/// The body of task `n`. Random, so that it tells tasks apart and does not compress.
pub fn body(n: usize, len: usize) -> Bytes {
    let mut body = vec![0; len];
    SmallRng::seed_from_u64(n as u64).fill_bytes(&mut body);
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
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
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
        let error = Tokio::block_on(run::<Tokio>(client, CASE, timing)).unwrap_err();
        assert_eq!(error.to_string(), "it broke");
    }

    const CASE: Case = Case { in_flight: 3, body_bytes: 64 };

    #[test]
    fn counts_the_calls_of_the_window() {
        let timing = Timing { warm_up_ms: 1, window_ms: 250 };
        let sample = Tokio::block_on(run::<Tokio>(Loopback, CASE, timing)).unwrap();
        assert!(sample.calls() > 0);
        assert_eq!(sample.calls_per_s(), sample.calls() as f64 / 0.25);
    }

    #[test]
    fn a_changed_body_is_an_error() {
        for warm_up_ms in [0, 1000] {
            let timing = Timing { warm_up_ms, window_ms: 1000 };
            assert!(Tokio::block_on(run::<Tokio>(Garbles, CASE, timing)).is_err());
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
