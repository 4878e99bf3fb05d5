//! Calls on a schedule: one falls due every millisecond, whether earlier ones have ended or not.
//!
//! A caller that makes the next call only when the last one has ended makes few while calls are slow, and so records a stall once
//! that delays hundreds. Here, every call that falls due meanwhile counts it.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::{
    StreamExt as _,
    channel::mpsc::{self, UnboundedReceiver},
    future::try_join,
    select_biased,
    stream::FuturesUnordered,
};

use crate::{
    executor::Executor,
    load::{Client, Sample},
};

/// Time between two calls: 1,000 a second.
pub const PERIOD: Duration = Duration::from_millis(1);

/// At most so many calls are made at a time. More that fall due wait, and are measured from when they did: a peer that can't
/// keep up is late, but not buried under more and more calls.
pub const AT_ONCE: usize = 64;

/// Ends a schedule when it is dropped: what is due by then is, and nothing after it.
#[derive(Debug)]
struct Until(Arc<AtomicBool>);

impl Drop for Until {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Says when calls are due, for so long or until told.
///
/// A thread keeps the time: tokio's timers are as coarse as the schedule, and those of the runtimes differ. What falls due
/// while that thread sleeps too long is left out, as no peer is responsible for that delay.
fn schedule(length: Option<Duration>) -> (UnboundedReceiver<Instant>, Until) {
    let (say, due) = mpsc::unbounded();
    let over = Arc::new(AtomicBool::new(false));
    let until = Until(over.clone());
    let begun = Instant::now();
    // The first instant does not depend on the thread. Sending fails if the receiver was dropped.
    let _ = say.unbounded_send(begun);
    let keep_time = move || {
        let mut next = begun + PERIOD;
        while length.is_none_or(|length| next - begun < length) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            if over.load(Ordering::Acquire) || say.unbounded_send(now).is_err() {
                return;
            }
            while next <= now {
                next += PERIOD;
            }
        }
    };
    // Without a name of its own, it would have that of the worker that starts it, and be taken for one.
    thread::Builder::new().name("time".to_owned()).spawn(keep_time).expect("there can be one more thread");
    (due, until)
}

/// Makes calls on schedule for so long.
///
/// # Errors
/// A call that fails, or whose body does not come back as it went.
pub async fn calls_for(client: &impl Client, body: &Bytes, length: Duration) -> Result<Sample> {
    let (due, _until) = schedule(Some(length));
    calls(client, body, due).await
}

/// Makes calls on schedule while `other` is under way, which runs as a task: all that are due before its end, and so
/// also those that end after it.
///
/// # Errors
/// As [`calls_for`], and those of `other`.
pub async fn calls_during<E: Executor, T: Send + 'static>(
    client: &impl Client,
    body: &Bytes,
    other: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<(Sample, T)> {
    let (due, until) = schedule(None);
    let other = E::spawn(async move {
        let result = other.await;
        drop(until);
        result
    });
    try_join(calls(client, body, due), other).await
}

async fn calls(client: &impl Client, body: &Bytes, mut due: UnboundedReceiver<Instant>) -> Result<Sample> {
    let begun = Instant::now();
    let mut sample = Sample::default();
    let mut under_way = FuturesUnordered::new();
    loop {
        let looked = Instant::now();
        if under_way.len() == AT_ONCE
            && let Some(took) = under_way.next().await
        {
            record(&mut sample, took?);
            continue;
        }
        select_biased! {
            at = due.next() => match at {
                Some(at) => under_way.push(call(client, body, start(at, looked, Instant::now()))),
                None => sample.seconds = begun.elapsed().as_secs_f64(),
            },
            took = under_way.select_next_some() => record(&mut sample, took?),
            complete => return Ok(sample),
        }
    }
}

fn record(sample: &mut Sample, took: Duration) {
    *sample.latency_ns.entry(took.as_nanos() as u64).or_default() += 1;
}

/// Since when a call is measured.
///
/// A call that fell due after the task had `looked` for it was waited for, and starts now that the task `woke`: to wake it is
/// not what is measured. One that was due before has waited for the task, whatever held that up.
fn start(due: Instant, looked: Instant, woke: Instant) -> Instant {
    if due >= looked { woke } else { due }
}

async fn call(client: &impl Client, body: &Bytes, start: Instant) -> Result<Duration> {
    let echoed = client.echo(body.clone()).await?;
    let took = start.elapsed();
    ensure!(echoed == *body, "a body came back changed");
    Ok(took)
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, atomic::AtomicU64};

    use anyhow::bail;
    use futures::channel::oneshot;

    use super::*;
    use crate::{
        executor::{AsyncStd, Tokio},
        load, proc,
    };

    /// Answers nothing until so many calls have come, and then everything.
    #[derive(Clone)]
    struct Stalls {
        until: u64,
        calls: Arc<AtomicU64>,
        waiting: Arc<Mutex<Vec<oneshot::Sender<()>>>>,
    }

    impl Stalls {
        fn until(until: u64) -> Self {
            Self { until, calls: Arc::default(), waiting: Arc::default() }
        }
    }

    impl Client for Stalls {
        async fn echo(&self, body: Bytes) -> Result<Bytes> {
            if self.calls.fetch_add(1, Ordering::Relaxed) + 1 < self.until {
                let (answer, stalled) = oneshot::channel();
                self.waiting.lock().unwrap().push(answer);
                stalled.await?;
            }
            answer_all(&self.waiting);
            Ok(body)
        }
    }

    fn answer_all(waiting: &Mutex<Vec<oneshot::Sender<()>>>) {
        waiting.lock().unwrap().drain(..).for_each(|answer| answer.send(()).unwrap());
    }

    const CALLS: u32 = 50;

    fn made(due: impl IntoIterator<Item = Instant>, client: Stalls) -> Sample {
        let (say, ticks) = mpsc::unbounded();
        due.into_iter().for_each(|due| say.unbounded_send(due).unwrap());
        drop(say);
        Tokio::block_on(async move { calls(&client, &load::body(0, 64), ticks).await }).unwrap()
    }

    #[test]
    fn a_stall_counts_for_every_call_that_was_due_in_it() {
        let now = Instant::now();
        let sample = made((1..=CALLS).map(|n| now - n * PERIOD), Stalls::until(0));
        let mut took: Vec<_> = sample.latency_ns.iter().flat_map(|(ns, n)| vec![*ns; *n as usize]).collect();
        took.sort_unstable();
        let waited = (1..=CALLS).map(|n| (n * PERIOD).as_nanos() as u64);
        assert_eq!(took.len(), CALLS as usize);
        assert!(took.iter().zip(waited).all(|(took, waited)| *took >= waited), "{took:?}");
    }

    #[test]
    fn a_call_that_is_due_waits_for_no_other() {
        let sample = made([Instant::now(); CALLS as usize], Stalls::until(u64::from(CALLS)));
        assert_eq!(sample.calls(), u64::from(CALLS));
    }

    #[test]
    fn so_many_calls_are_made_at_a_time_and_all_in_the_end() {
        let sample = made([Instant::now(); 3 * AT_ONCE], Stalls::until(AT_ONCE as u64));
        assert_eq!(sample.calls(), 3 * AT_ONCE as u64);
    }

    #[test]
    fn who_was_waited_for_starts_when_the_task_wakes_and_who_waited_when_due() {
        let looked = Instant::now();
        let (before, after, woke) = (looked - PERIOD, looked + PERIOD, looked + 3 * PERIOD);
        assert_eq!(start(after, looked, woke), woke);
        assert_eq!(start(before, looked, woke), before);
    }

    #[test]
    fn the_thread_that_keeps_the_time_has_a_name_of_its_own() {
        let count = || {
            let (mut due, _until) = schedule(None);
            // The second comes from the thread, which has its name by then. No runtime waits here: threads that it starts would
            // have the name of their starter until they have set their own.
            for _ in 0..2 {
                while due.try_recv().is_err() {
                    thread::yield_now();
                }
            }
            proc::threads("self", &["who starts it"]).unwrap()
        };
        let starter = thread::Builder::new().name("who starts it".to_owned()).spawn(count).unwrap();
        assert_eq!(starter.join().unwrap(), 1);
    }

    #[test]
    fn a_schedule_ends_after_its_time_or_when_told() {
        let (due, _until) = schedule(Some(5 * PERIOD));
        let due: Vec<_> = async_std::task::block_on(due.collect());
        assert!((1..=5).contains(&due.len()) && due.is_sorted(), "{due:?}");
        let (mut due, until) = schedule(None);
        async_std::task::block_on(async {
            assert!(due.next().await.is_some() && due.next().await.is_some());
            drop(until);
            while due.next().await.is_some() {}
        });
    }

    fn counts_what_is_under_way_in_the_end<E: Executor>() {
        let made = async {
            let stalls = Stalls::until(u64::MAX);
            let (seen, waiting) = (stalls.calls.clone(), stalls.waiting.clone());
            let other = async move {
                while seen.load(Ordering::Relaxed) < u64::from(CALLS) {
                    tokio::task::yield_now().await;
                }
                // Answers only now that this ends, and until the client is gone.
                thread::spawn(move || {
                    while Arc::strong_count(&waiting) > 1 {
                        answer_all(&waiting);
                        thread::yield_now();
                    }
                });
                Ok(())
            };
            let (sample, ()) = calls_during::<E, _>(&stalls, &load::body(0, 64), other).await?;
            assert_eq!(sample.calls(), stalls.calls.load(Ordering::Relaxed));
            assert!(sample.calls() >= u64::from(CALLS));
            Ok(())
        };
        E::block_on(made).unwrap();
    }

    #[test]
    fn calls_that_are_under_way_in_the_end_count_on_tokio() {
        counts_what_is_under_way_in_the_end::<Tokio>();
    }

    #[test]
    fn calls_that_are_under_way_in_the_end_count_on_async_std() {
        counts_what_is_under_way_in_the_end::<AsyncStd>();
    }

    #[test]
    fn what_fails_meanwhile_ends_all() {
        let made = async {
            let other = async { bail!("it broke") as Result<()> };
            calls_during::<Tokio, _>(&Stalls::until(0), &load::body(0, 64), other).await
        };
        assert_eq!(Tokio::block_on(made).unwrap_err().to_string(), "it broke");
    }
}
