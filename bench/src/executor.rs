//! The async runtimes under which peers run.
//!
//! Each takes the number of its worker threads from an environment variable of its own, which
//! [`process`](crate::process) sets for every child.

use std::future::Future;

use anyhow::{Context as _, Result};

/// What the load generator needs from a runtime.
pub trait Executor: Copy + Send + Sync + 'static {
    /// Shown in the results.
    const NAME: &'static str;
    /// The environment variable that says how many worker threads it has.
    const WORKERS_VARIABLE: &'static str;
    /// What each worker thread is called.
    const WORKER_NAME: &'static str;

    /// Starts the runtime, runs `future` on it to its end, and ends the runtime.
    ///
    /// # Errors
    /// Those of `future`, and a runtime that can't start.
    fn block_on<T: Send + 'static>(future: impl Future<Output = Result<T>> + Send + 'static) -> Result<T>;

    /// Runs `future` as a task, at once. Only from within [`Executor::block_on`].
    ///
    /// The returned future ends when the task does; it fails if the task panicked.
    fn spawn<T: Send + 'static>(
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;
}

/// tokio's multi-thread runtime.
#[derive(Clone, Copy, Debug)]
pub struct Tokio;

impl Executor for Tokio {
    const NAME: &'static str = "tokio";
    const WORKERS_VARIABLE: &'static str = "TOKIO_WORKER_THREADS";
    const WORKER_NAME: &'static str = "tokio-rt-worker";

    fn block_on<T: Send + 'static>(future: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name(Self::WORKER_NAME)
            .enable_all()
            .build()
            .context("can't start tokio")?;
        // As a task: the thread that blocks here is none of the workers, and handing I/O over to it costs wake-ups.
        runtime.block_on(async { Self::spawn(future).await })
    }

    fn spawn<T: Send + 'static>(
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send {
        let task = tokio::spawn(future);
        async move { task.await.context("a task ended early")? }
    }
}

/// async-std's global executor.
#[derive(Clone, Copy, Debug)]
pub struct AsyncStd;

impl Executor for AsyncStd {
    const NAME: &'static str = "async-std";
    const WORKERS_VARIABLE: &'static str = "ASYNC_STD_THREAD_COUNT";
    const WORKER_NAME: &'static str = "async-std/runtime";

    fn block_on<T: Send + 'static>(future: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        async_std::task::block_on(async { Self::spawn(future).await })
    }

    fn spawn<T: Send + 'static>(
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send {
        async_std::task::spawn(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs_tasks<E: Executor>() {
        let sum = E::block_on(async {
            let tasks: Vec<_> = (0..10).map(|n| E::spawn(async move { Ok(n) })).collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await?;
            }
            Ok(sum)
        });
        assert_eq!(sum.unwrap(), 45);
        assert!(E::block_on(async { anyhow::bail!("refused") as Result<()> }).is_err());
    }

    #[test]
    fn tokio_runs_tasks() {
        runs_tasks::<Tokio>();
    }

    #[test]
    fn async_std_runs_tasks() {
        runs_tasks::<AsyncStd>();
    }
}
