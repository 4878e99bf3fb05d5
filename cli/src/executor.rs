//! The two async runtimes behind one face.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callosum_async_std::AsyncStdRuntime;
use callosum_runtime::Builder;
use callosum_runtime::rt::Runtime;
use callosum_tokio::TokioRuntime;
use clap::ValueEnum;
use futures_util::future::{Either, select};

/// An async runtime, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Executor {
    Tokio,
    AsyncStd,
}

impl Executor {
    /// Runs a future to its end, on threads of the runtime.
    pub(crate) fn block_on<F: Future>(self, future: F) -> io::Result<F::Output> {
        match self {
            Self::Tokio => {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                let output = runtime.block_on(future);
                // A look-up of a name can't be interrupted, and is not worth waiting for.
                runtime.shutdown_background();
                Ok(output)
            }
            Self::AsyncStd => Ok(async_std::task::block_on(future)),
        }
    }

    fn runtime(self) -> Arc<dyn Runtime> {
        match self {
            Self::Tokio => Arc::new(TokioRuntime::default()),
            Self::AsyncStd => Arc::new(AsyncStdRuntime),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::AsyncStd => "async-std",
        }
    }

    pub(crate) fn builder(self) -> Builder {
        Builder::new(self.runtime())
    }

    /// Waits; for a time that the clock can't hold, for ever.
    pub(crate) fn sleep(self, time: Duration) -> impl Future<Output = ()> + Send + 'static {
        let until = Instant::now().checked_add(time);
        async move {
            let Some(until) = until else { return std::future::pending().await };
            let mut timer = self.runtime().timer(until);
            poll_fn(|cx| timer.as_mut().poll(cx)).await;
        }
    }

    /// `future`, or `None` once that much time has passed.
    pub(crate) async fn within<F: Future>(self, time: Duration, future: F) -> Option<F::Output> {
        match select(std::pin::pin!(future), std::pin::pin!(self.sleep(time))).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => None,
        }
    }
}
