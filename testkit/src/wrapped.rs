//! A runtime that forwards to another one, except for the methods that a test replaces.

use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::task::Context;
use std::time::Instant;

use callosum_runtime::rt::{BoxSocket, Listener, Runtime, Timer};
use callosum_runtime::{Endpoint, SocketOptions};
use futures_util::future::BoxFuture;

/// What a test changes of a runtime: the methods that it implements. All others pass on to [`inner`](Self::inner) what they
/// are given. [`Wrapped`] makes a [`Runtime`] of it.
///
/// Each does what the method of the same name of [`Runtime`] does.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// use callosum_runtime::rt::Runtime;
/// use callosum_testkit::world::World;
/// use callosum_testkit::wrapped::{Wrap, Wrapped};
///
/// /// Counts tasks.
/// #[derive(Debug)]
/// struct Counting(Arc<dyn Runtime>, AtomicUsize);
///
/// impl Wrap for Counting {
///     fn inner(&self) -> &dyn Runtime {
///         &*self.0
///     }
///
///     fn spawn(&self, task: futures_util::future::BoxFuture<'static, ()>) {
///         self.1.fetch_add(1, Ordering::Relaxed);
///         self.inner().spawn(task);
///     }
/// }
///
/// let world = World::new(1);
/// let counting = Wrapped(Counting(world.host("host").runtime(), AtomicUsize::new(0)));
/// world.run(async { counting.spawn(Box::pin(async {})) });
/// assert_eq!(counting.1.load(Ordering::Relaxed), 1);
/// ```
pub trait Wrap: Debug + Send + Sync + 'static {
    /// The runtime that does what this one does not.
    fn inner(&self) -> &dyn Runtime;

    /// See [`Runtime::spawn`].
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.inner().spawn(task);
    }

    /// See [`Runtime::yield_now`].
    fn yield_now(&self, cx: &mut Context<'_>) {
        self.inner().yield_now(cx);
    }

    /// See [`Runtime::now`].
    fn now(&self) -> Instant {
        self.inner().now()
    }

    /// See [`Runtime::fill_random`].
    fn fill_random(&self, bytes: &mut [u8]) {
        self.inner().fill_random(bytes);
    }

    /// See [`Runtime::timer`].
    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>> {
        self.inner().timer(at)
    }

    /// See [`Runtime::connect`].
    fn connect<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<BoxSocket>> {
        self.inner().connect(endpoint, options)
    }

    /// See [`Runtime::bind`].
    fn bind<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.inner().bind(endpoint, options)
    }
}

/// A runtime that is changed so.
#[derive(Clone, Debug)]
pub struct Wrapped<W>(pub W);

impl<W> Deref for Wrapped<W> {
    type Target = W;

    fn deref(&self) -> &W {
        &self.0
    }
}

impl<W: Wrap> Runtime for Wrapped<W> {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn yield_now(&self, cx: &mut Context<'_>) {
        self.0.yield_now(cx);
    }

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.0.fill_random(bytes);
    }

    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>> {
        self.0.timer(at)
    }

    fn connect<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<BoxSocket>> {
        self.0.connect(endpoint, options)
    }

    fn bind<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        options: SocketOptions,
    ) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.0.bind(endpoint, options)
    }
}
