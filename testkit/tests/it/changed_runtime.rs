//! The runtime of a host of the world, changed where a test needs another.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use callosum_runtime::rt::{BoxSocket, Listener, Runtime, Timer};
use callosum_runtime::{Builder, Endpoint, SocketOptions};
use callosum_testkit::world::Host;
use futures_util::future::{BoxFuture, FutureExt};

type Task = BoxFuture<'static, ()>;

/// See the [module](self).
pub(crate) struct ChangedRuntime {
    runtime: Arc<dyn Runtime>,
    spawn: Box<dyn Fn(Task) -> Option<Task> + Send + Sync>,
    connect: Option<Box<dyn Fn() -> BoxSocket + Send + Sync>>,
}

impl ChangedRuntime {
    /// It runs what this makes of a task.
    pub(crate) fn spawning(
        host: &Host,
        spawn: impl Fn(Task) -> Option<Task> + Send + Sync + 'static,
    ) -> Builder {
        Self::builder(Self { runtime: host.runtime(), spawn: Box::new(spawn), connect: None })
    }

    /// It opens these sockets.
    pub(crate) fn connecting(
        host: &Host,
        connect: impl Fn() -> BoxSocket + Send + Sync + 'static,
    ) -> Builder {
        let connect = Some(Box::new(connect) as Box<_>);
        Self::builder(Self { runtime: host.runtime(), spawn: Box::new(Some), connect })
    }

    fn builder(self) -> Builder {
        Builder::new(Arc::new(self)).allow_plaintext()
    }
}

impl std::fmt::Debug for ChangedRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChangedRuntime").finish_non_exhaustive()
    }
}

impl Runtime for ChangedRuntime {
    fn spawn(&self, task: Task) {
        if let Some(task) = (self.spawn)(task) {
            self.runtime.spawn(task);
        }
    }

    fn now(&self) -> Instant {
        self.runtime.now()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.runtime.fill_random(bytes);
    }

    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>> {
        self.runtime.timer(at)
    }

    fn connect<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<BoxSocket>> {
        match &self.connect {
            Some(connect) => std::future::ready(Ok(connect())).boxed(),
            None => self.runtime.connect(endpoint, options),
        }
    }

    fn bind<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.runtime.bind(endpoint, options)
    }
}
