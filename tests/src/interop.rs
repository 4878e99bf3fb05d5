//! Where the tests with real peers run: one runtime, one transport, a watchdog, and whatever lives there.
//!
//! A test's body is plain blocking code on a thread of its own, because processes block; what it starts on the
//! runtime goes on meanwhile.

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{env, fs, mem, panic, process, thread};

use callosum_hosts::{Executor, Host};
use callosum_runtime::rt::Runtime;
use callosum_runtime::{Binder, Builder, Connector, Drained, Driver, DriverError, Peer, Reconnect};

use crate::python::{PyProcess, fork_server};

/// How long a test waits for what must come. Only a safety net against hanging.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The transport between the peers of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Loopback TCP.
    Tcp,
    /// A Unix domain socket.
    Ipc,
}

/// Makes tests of bodies `fn(&World)`, which are listed as `name: transports;`: one test for each of two runtimes, as the
/// adapters have no part in the protocol, and each transport. It runs all bodies that name the transport, one after the
/// other, with Python imported once.
#[macro_export]
macro_rules! interop_tests {
    ($($body:ident: $($transport:ident)+;)*) => {
        /// The cases that a transport has.
        const CASES: &[$crate::interop::Case] = &[$(
            $crate::interop::Case {
                name: stringify!($body),
                transports: &[$($crate::interop_tests!(@transport $transport)),+],
                body: $body,
            },
        )*];

        $crate::interop_tests!(@host tokio Tokio);
        $crate::interop_tests!(@host async_std AsyncStd);
    };
    (@transport tcp) => { $crate::interop::Transport::Tcp };
    (@transport ipc) => { $crate::interop::Transport::Ipc };
    (@host $module:ident $host:ident) => {
        mod $module {
            use $crate::interop::{Transport, run_all};

            #[test]
            fn tcp() {
                run_all(::callosum_hosts::Host::$host, Transport::Tcp, super::CASES);
            }

            #[test]
            fn ipc() {
                run_all(::callosum_hosts::Host::$host, Transport::Ipc, super::CASES);
            }
        }
    };
}

/// Names the only case that is run, such as `nine_mebibytes`; all are unless it is set.
const ONLY_VAR: &str = "CALLOSUM_TEST_CASE";

/// What is tested with Python, by a name of its own.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What it is run over.
    pub transports: &'static [Transport],
    /// Its body.
    pub body: fn(&World),
}

/// Runs those of the cases that have this transport, all of them whichever fail, and says what became of each.
///
/// # Panics
/// When one has panicked, or hangs.
pub fn run_all(host: Host, transport: Transport, cases: &[Case]) {
    // Those of all cases are forked from one process. Not under a watchdog: pip may have to be waited for.
    let fork_server = fork_server();
    let only = env::var(ONLY_VAR).ok();
    let mut failed = Vec::new();
    let cases = cases.iter().filter(|case| case.transports.contains(&transport));
    for case in cases.filter(|case| only.as_ref().is_none_or(|only| only == case.name)) {
        let begun = Instant::now();
        let outcome = panic::catch_unwind(|| watch(host, transport, case.body));
        println!("{}: {} in {:?}", case.name, if outcome.is_ok() { "ok" } else { "FAILED" }, begun.elapsed());
        if outcome.is_err() {
            failed.push(case.name);
        }
    }
    drop(fork_server);
    assert!(failed.is_empty(), "failed on {host} over {transport:?}: {}", failed.join(", "));
}

/// Runs a body, under the watchdog.
fn watch(host: Host, transport: Transport, body: fn(&World)) {
    let (done, ended) = mpsc::channel();
    let test = thread::spawn(move || {
        let world = World::new(host, transport);
        body(&world);
        drop(world);
        // Nobody listens any more once the watchdog has barked.
        let _ = done.send(());
    });
    match ended.recv_timeout(crate::rig::PATIENCE) {
        // Python's processes end as soon as their standard input does: with this process at the latest.
        Err(RecvTimeoutError::Timeout) => panic!("the test hangs"),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            test.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked));
        }
    }
}

/// Lets other tasks run.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// One runtime and one transport.
#[derive(Debug)]
pub struct World {
    runtime: Arc<dyn Runtime>,
    executor: Executor,
    transport: Transport,
    sockets: Sockets,
}

impl World {
    fn new(host: Host, transport: Transport) -> Self {
        let executor = host.start().expect("the system has threads");
        Self { runtime: host.runtime(), executor, transport, sockets: Sockets::default() }
    }

    /// An endpoint to bind: a port that the system chooses, or a path of its own.
    pub fn endpoint(&self) -> String {
        match self.transport {
            Transport::Tcp => "tcp://127.0.0.1:*".into(),
            Transport::Ipc => self.sockets.next(),
        }
    }

    /// A builder of endpoints on this runtime, which come back quickly when they have lost their link.
    pub fn builder(&self) -> Builder {
        let (first, most) = (Duration::from_millis(20), Duration::from_millis(200));
        Builder::new(self.runtime.clone())
            .call_timeout(PATIENCE)
            .reconnect(Reconnect::Backoff { first, most })
    }

    /// Runs a future on this thread.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.executor.block_on(future)
    }

    fn spawn(&self, driver: Driver) -> Receiver<Result<(), DriverError>> {
        let (sender, ended) = mpsc::channel();
        let task = async move {
            // The test may have failed by now.
            let _ = sender.send(driver.await);
        };
        // tokio's is the runtime that is current.
        self.block_on(async { self.runtime.spawn(Box::pin(task)) });
        ended
    }

    /// Binds, and drives the binder.
    pub fn serve(&self, builder: Builder) -> Server {
        self.serve_at(builder, &self.endpoint())
    }

    /// Like [`serve`](Self::serve), at an endpoint that is known.
    pub fn serve_at(&self, builder: Builder, endpoint: &str) -> Server {
        let (binder, driver) = self.block_on(builder.bind(endpoint)).expect("the endpoint is free");
        Server { binder, driver: self.spawn(driver) }
    }

    /// Connects, and drives the connector.
    pub fn connect(&self, builder: Builder, endpoint: &str) -> Client {
        let (connector, driver) = builder.connect(endpoint).expect("this is an endpoint");
        Client { connector, driver: self.spawn(driver) }
    }

    /// Starts a Python server, with arguments of `server.py`.
    pub fn python_server(&self, args: &[&str]) -> (PyProcess, String) {
        self.python_server_at(&self.endpoint(), args)
    }

    /// Like [`python_server`](Self::python_server), at an endpoint that is known.
    pub fn python_server_at(&self, endpoint: &str, args: &[&str]) -> (PyProcess, String) {
        let mut server = PyProcess::spawn("server.py", &[&["--bind", endpoint], args].concat());
        let endpoint = server.wait_line("listening on ");
        (server, endpoint)
    }

    /// Starts a Python client of a server, with arguments of `client.py`; returns it after its handshake.
    pub fn python_client(&self, server: &Server, args: &[&str]) -> PyProcess {
        let mut client = PyProcess::spawn("client.py", &[&["--connect", &server.endpoint()], args].concat());
        client.wait_line("ready");
        client
    }
}

/// A binder that runs.
#[derive(Debug)]
pub struct Server {
    /// Its handle.
    pub binder: Binder,
    driver: Receiver<Result<(), DriverError>>,
}

impl Server {
    /// Where it listens.
    pub fn endpoint(&self) -> String {
        self.binder.endpoints()[0].to_string()
    }

    /// Shuts it down; nothing may be under way any more.
    pub fn stop(self, world: &World) {
        end(world.block_on(self.binder.shutdown(PATIENCE)), &self.driver);
    }

    /// Ends it at once, whatever is under way.
    pub fn cut(self, world: &World) {
        world.block_on(self.binder.shutdown(Duration::ZERO));
        // Until then its endpoint is taken.
        self.driver.recv_timeout(PATIENCE).expect("the driver ends").expect("and without an error");
    }
}

/// A connector that runs.
#[derive(Debug)]
pub struct Client {
    /// Its handle.
    pub connector: Connector,
    driver: Receiver<Result<(), DriverError>>,
}

impl Client {
    /// The peer that it is connected to.
    pub fn peer(&self) -> &Peer {
        self.connector.peer()
    }

    /// Shuts it down; nothing may be under way any more.
    pub fn stop(self, world: &World) {
        end(world.block_on(self.connector.shutdown(PATIENCE)), &self.driver);
    }
}

fn end(drained: Drained, driver: &Receiver<Result<(), DriverError>>) {
    assert_eq!(drained, Drained::Completely);
    driver.recv_timeout(PATIENCE).expect("the driver ends with the shutdown").expect("and without an error");
}

/// Ends a Python process by closing its standard input, and sees that it ends well.
///
/// # Panics
/// When it does not.
pub fn farewell(process: PyProcess) {
    let (status, stderr) = process.finish();
    assert!(status.success(), "{status}\n{stderr}");
}

/// Lets others run until something has become true; the test's watchdog bounds it.
pub fn until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// What comes next on a channel that a handler writes to.
///
/// # Panics
/// When nothing comes in time.
pub fn next<T>(channel: &Receiver<T>) -> T {
    channel.recv_timeout(PATIENCE).expect("it comes in time")
}

/// A directory for sockets, made when the first is asked for.
#[derive(Debug, Default)]
struct Sockets {
    directory: OnceLock<PathBuf>,
    made: AtomicUsize,
}

impl Sockets {
    fn next(&self) -> String {
        static WORLDS: AtomicUsize = AtomicUsize::new(0);
        let directory = self.directory.get_or_init(|| {
            // Short, because the path of a socket has at most 107 bytes.
            let name = format!("callosum-{}-{}", process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
            let directory = env::temp_dir().join(name);
            fs::create_dir(&directory).unwrap_or_else(|e| panic!("can't make {}: {e}", directory.display()));
            directory
        });
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        format!("ipc://{}", directory.join(number.to_string()).display())
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Some(directory) = self.directory.get() {
            // A file that can't be removed is in the system's temporary directory, which is cleaned.
            let _ = fs::remove_dir_all(directory);
        }
    }
}
