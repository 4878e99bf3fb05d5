//! SIGINT and SIGTERM, on either runtime.

use std::future::Future;
use std::io;
use std::pin::pin;

use async_signal::Signal;
use futures_util::StreamExt;
use futures_util::future::{Either, select};

/// The signals that ask a command to end. From the moment this exists they no longer kill the process.
pub(crate) struct Signals(async_signal::Signals);

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self(async_signal::Signals::new([Signal::Int, Signal::Term])?))
    }

    /// Waits for the next one. Cancel safe.
    pub(crate) async fn next(&mut self) {
        // On an error, no signal is received: the command then ends only when its work is done.
        if !matches!(self.0.next().await, Some(Ok(_))) {
            std::future::pending().await
        }
    }

    /// `work`, or `None` if a signal comes first; `work` is dropped then.
    pub(crate) async fn unless<F: Future>(&mut self, work: F) -> Option<F::Output> {
        match select(pin!(work), pin!(self.next())).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => None,
        }
    }
}
