//! What a test body runs on: one runtime, one transport and a watchdog, or virtual time, where only the test runner's timeout
//! ends a body that never returns.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use callosum_hosts::Host;
use callosum_runtime::rt::{BoxStream, Runtime};
use callosum_runtime::{
    Binder, Builder, CallError, Connector, Dialect, Driver, DriverError, Endpoint, Event, Events, Peer,
    SocketOptions,
};
use callosum_testkit::world::World;
use futures_channel::oneshot;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::{FutureExt, StreamExt};

/// How long a test may take. Only a safety net against hanging, a little before the test runner ends it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(220);

/// How long a drain may take where it has nothing to wait for in the end.
pub const SOON: Duration = Duration::from_secs(120);

/// Where a rig's binders listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// IPv4 loopback, on a port that the system chooses.
    Tcp,
    /// A socket below the system's directory for temporary files.
    Ipc,
    /// Memory.
    Inproc,
}

/// One runtime and one transport.
#[derive(Clone, Debug)]
pub struct Rig {
    runtime: Arc<dyn Runtime>,
    transport: Transport,
    dialect: Dialect,
}

/// Runs a test body on a runtime.
///
/// # Panics
/// If the body does, or hangs.
pub fn on<F>(host: Host, name: &str, transport: Transport, body: impl FnOnce(Rig) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    run(host, Dialect::Two, PATIENCE, name, transport, body);
}

/// The same, for a body that may take so long.
///
/// # Panics
/// If the body does, or takes longer.
pub fn on_within<F>(
    host: Host,
    patience: Duration,
    name: &str,
    transport: Transport,
    body: impl FnOnce(Rig) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    run(host, Dialect::Two, patience, name, transport, body);
}

/// The same, with endpoints that offer dialect 1 only.
///
/// # Panics
/// If the body does, or hangs.
pub fn on_in_dialect_1<F>(
    host: Host,
    name: &str,
    transport: Transport,
    body: impl FnOnce(Rig) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    run(host, Dialect::One, PATIENCE, name, transport, body);
}

fn run<F>(
    host: Host,
    dialect: Dialect,
    patience: Duration,
    name: &str,
    transport: Transport,
    body: impl FnOnce(Rig) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    watch(patience, &format!("{name} on {host}"), move || {
        let executor = host.start().expect("the system has threads");
        executor.block_on(body(Rig { runtime: host.runtime(), transport, dialect }));
    });
}

/// Runs a test body on virtual time, in a world of one host. The seed follows from the name.
///
/// # Panics
/// If the body does, or nothing can happen any more.
pub fn virtual_time<F: Future<Output = ()>>(name: &str, body: impl FnOnce(Rig) -> F) {
    run_virtually(Dialect::Two, name, body);
}

/// The same, with endpoints that offer dialect 1 only.
///
/// # Panics
/// As [`virtual_time`] does.
pub fn virtual_time_in_dialect_1<F: Future<Output = ()>>(name: &str, body: impl FnOnce(Rig) -> F) {
    run_virtually(Dialect::One, name, body);
}

fn run_virtually<F: Future<Output = ()>>(dialect: Dialect, name: &str, body: impl FnOnce(Rig) -> F) {
    let world = World::new(name.bytes().map(u64::from).sum());
    let host = world.host("host");
    world.run(body(Rig { runtime: host.runtime(), transport: Transport::Tcp, dialect }));
}

/// Watches from outside of the runtime, so that a blocked executor is noticed as well.
fn watch(patience: Duration, name: &str, body: impl FnOnce() + Send + 'static) {
    let (done, over) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let _done = done;
        body();
    });
    if over.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
        panic!("{name} hangs");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A spawned future. Dropping this lets it go on; [`cut`](Self::cut) drops it.
#[derive(Debug)]
pub struct Task<T> {
    abort: AbortHandle,
    output: oneshot::Receiver<T>,
}

impl<T> Task<T> {
    /// Its output.
    ///
    /// # Panics
    /// If it panicked.
    pub async fn join(self) -> T {
        self.output.await.expect("the task runs to its end")
    }

    /// Drops the future, and returns once that is done.
    pub async fn cut(self) {
        self.abort.abort();
        // Fails when the task has dropped the sender, which it does after the future.
        let _ = self.output.await;
    }
}

/// A running driver.
pub type Running = Task<Result<(), DriverError>>;

/// A binder and a connector that are connected.
#[derive(Debug)]
pub struct Pair {
    /// The side that accepts.
    pub binder: Binder,
    /// Its driver.
    pub binder_driver: Running,
    /// The side that connects.
    pub connector: Connector,
    /// Its driver.
    pub connector_driver: Running,
    /// The connector, as the binder sees it.
    pub back: Peer,
}

impl Pair {
    /// The binder, as the connector sees it.
    pub fn peer(&self) -> &Peer {
        self.connector.peer()
    }

    /// Ends both, and sees that nothing is left.
    pub async fn end(self) {
        self.connector.shutdown(SOON).await;
        self.binder.shutdown(SOON).await;
        self.connector_driver.join().await.expect("a connector that was shut down ends well");
        self.binder_driver.join().await.expect("a binder that was shut down ends well");
    }
}

impl Rig {
    /// The same transport on an executor of the test's own.
    pub fn with_runtime(&self, runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, ..self.clone() }
    }

    /// The executor.
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    /// Starts to build an endpoint.
    pub fn builder(&self) -> Builder {
        Builder::new(self.runtime.clone()).dialect(self.dialect)
    }

    /// An address to bind that no other test uses.
    pub fn endpoint(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let unique = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        match self.transport {
            Transport::Tcp => String::from("tcp://127.0.0.1:0"),
            Transport::Ipc => {
                format!("ipc://{}/callosum-test-{unique}.sock", std::env::temp_dir().display())
            }
            Transport::Inproc => format!("inproc://test-{unique}"),
        }
    }

    /// Spawns a future.
    pub fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Task<T> {
        let (abort, registration) = AbortHandle::new_pair();
        let (done, output) = oneshot::channel();
        self.runtime.spawn(Box::pin(async move {
            let outcome = Abortable::new(future, registration).await;
            if let Ok(outcome) = outcome {
                // The task may be detached.
                let _ = done.send(outcome);
            }
        }));
        Task { abort, output }
    }

    /// Spawns a driver.
    pub fn drive(&self, driver: Driver) -> Running {
        self.spawn(driver)
    }

    /// Binds to an endpoint of this rig and runs the driver.
    pub async fn serve(&self, builder: Builder) -> (Binder, Running) {
        let (binder, driver) = builder.bind(self.endpoint()).await.expect("the endpoint is free");
        (binder, self.drive(driver))
    }

    /// Connects and runs the driver, without waiting for the link.
    pub fn connect(&self, builder: Builder, endpoint: &Endpoint) -> (Connector, Running) {
        let (connector, driver) = builder.connect(endpoint).expect("an endpoint is an endpoint");
        let driver = self.drive(driver);
        (connector, driver)
    }

    /// Two endpoints that are connected.
    pub async fn pair(&self, binder: Builder, connector: Builder) -> Pair {
        let (binder, binder_driver) = self.serve(binder).await;
        let (connector, connector_driver) = self.connect(connector, &binder.endpoints()[0]);
        connector.peer().ready().await.expect("the binder answers");
        let back = self.sole_peer(&binder).await;
        Pair { binder, binder_driver, connector, connector_driver, back }
    }

    /// The one peer of a binder, once it is there.
    pub async fn sole_peer(&self, binder: &Binder) -> Peer {
        let mut peers = self.peers(binder, 1).await;
        peers.remove(0)
    }

    /// The peers of a binder, once there are exactly this many.
    pub async fn peers(&self, binder: &Binder, count: usize) -> Vec<Peer> {
        let mut events = binder.events();
        loop {
            let peers = binder.peers();
            if peers.len() == count {
                return peers;
            }
            events.next().await.expect("the binder's driver runs");
        }
    }

    /// A timer, for what has no event: the watchdog bounds how often it is needed.
    pub async fn pause(&self, time: Duration) {
        let mut timer = self.runtime.timer(self.runtime.now() + time);
        std::future::poll_fn(|cx| timer.as_mut().poll(cx)).await;
    }

    /// Waits until a counter says so.
    pub async fn until(&self, mut condition: impl FnMut() -> bool) {
        while !condition() {
            self.pause(Duration::from_millis(1)).await;
        }
    }

    /// A byte stream to a binder, to be spoken over by hand.
    pub async fn open(&self, endpoint: &Endpoint) -> BoxStream {
        self.runtime.connect(endpoint, SocketOptions::default()).await.expect("the binder listens")
    }
}

/// The next event that the test asks for; others are passed over.
///
/// # Panics
/// If the stream ends first.
pub async fn next_event<T>(events: &mut Events, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    loop {
        let event = events.next().await.expect("the wanted event comes before the stream ends");
        if let Some(found) = wanted(event) {
            return found;
        }
    }
}

/// Timeouts to try one after another, until the machine is fast enough for what has to happen before one is over.
pub fn longer_and_longer() -> impl Iterator<Item = Duration> + Send {
    (0..).map(|n| Duration::from_millis(20 << n))
}

/// Whether a call that timed out had left by then.
///
/// # Panics
/// If it ended otherwise.
pub fn had_left(error: &CallError) -> bool {
    match error {
        CallError::TimedOut { sent } => *sent,
        other => panic!("{other:?}"),
    }
}

/// Polls a future once.
pub async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.poll_unpin(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
