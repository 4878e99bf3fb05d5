//! Tasks of async-std; its sockets and timers are those of `async-io`, and so are smol's.

use std::io;
use std::pin::Pin;
use std::time::Instant;

use callosum_runtime::rt::{BoxSocket, Listener, Runtime, Timer};
use callosum_runtime::{Endpoint, SocketOptions};
use callosum_smol::SmolRuntime;
use futures_util::future::BoxFuture;

/// The global executor of async-std.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncStdRuntime;

/// Brings what needs no executor.
static SMOL: SmolRuntime = SmolRuntime::global();

impl Runtime for AsyncStdRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        async_std::task::spawn(task);
    }

    fn now(&self) -> Instant {
        SMOL.now()
    }

    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>> {
        SMOL.timer(at)
    }

    fn connect<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<BoxSocket>> {
        SMOL.connect(endpoint, options)
    }

    fn bind<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        SMOL.bind(endpoint, options)
    }
}
