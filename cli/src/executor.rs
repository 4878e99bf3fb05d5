//! The async runtime that the command line names.

use std::fmt::{self, Display, Formatter};
use std::future::{Future, poll_fn};
use std::io;
use std::time::{Duration, Instant};

use callosum_hosts::Host;
use callosum_runtime::Builder;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use futures_util::future::{Either, select};

/// An async runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Executor(Host);

impl Default for Executor {
    fn default() -> Self {
        Self(Host::Tokio)
    }
}

impl Display for Executor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Executor {
    /// Parses its name. Those that this build lacks are known, so that the error says which feature they need.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        let left_out = Host::LEFT_OUT.iter().map(|name| PossibleValue::new(*name).hide(true));
        let names = Host::NAMES.into_iter().map(PossibleValue::new).chain(left_out);
        PossibleValuesParser::new(names.collect::<Vec<_>>()).try_map(|name| name.parse::<Host>().map(Self))
    }

    /// Runs a future to its end, on threads of the runtime.
    pub(crate) fn block_on<F: Future>(self, future: F) -> io::Result<F::Output> {
        Ok(self.0.start()?.block_on(future))
    }

    pub(crate) fn name(self) -> &'static str {
        self.0.name()
    }

    pub(crate) fn builder(self) -> Builder {
        self.0.builder()
    }

    /// Waits; for a time that the clock can't hold, for ever.
    pub(crate) fn sleep(self, time: Duration) -> impl Future<Output = ()> + Send + 'static {
        let until = Instant::now().checked_add(time);
        async move {
            let Some(until) = until else { return std::future::pending().await };
            let mut timer = self.0.runtime().timer(until);
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
