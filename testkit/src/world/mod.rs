//! Hosts, a network and a clock in memory: the whole async API on virtual time.
//!
//! A [`World`] is a [`Runtime`](callosum_runtime::rt::Runtime) for each of its [hosts](Host), with one clock, one
//! executor and one network for all. The clock jumps to the next timer as soon as every task waits, so an hour of
//! virtual time takes no real time. Everything random (which task is polled next, how bytes are split, nonces) comes
//! from one seed, so the same seed gives the same run, and a failure can be replayed.
//!
//! ```
//! use std::time::Duration;
//!
//! use callosum_runtime::{CallError, Context, HandlerResult};
//! use callosum_testkit::world::{Link, World};
//!
//! async fn sleep(_: (), context: Context) -> HandlerResult<()> {
//!     std::future::pending().await
//! }
//!
//! let world = World::new(7);
//! let (server, client) = (world.host("server"), world.host("client"));
//! world.set_link(&server, &client, Link::default().latency(Duration::from_millis(20)));
//! world.run(async {
//!     let (_binder, driver) = server.builder().handle("sleep", sleep).bind("tcp://server:7000").await.unwrap();
//!     server.spawn(async { drop(driver.await) });
//!     let (connector, driver) = client.builder().connect("tcp://server:7000").unwrap();
//!     client.spawn(async { drop(driver.await) });
//!
//!     let call = connector.peer().invoke::<(), ()>("sleep", &()).timeout(Duration::from_secs(3600));
//!     let outcome = call.await;
//!     assert!(matches!(outcome, Err(CallError::TimedOut { sent: true })));
//!     assert!(world.elapsed() >= Duration::from_secs(3600), "of virtual time");
//! });
//! ```
//!
//! # Faults
//! [`World::partition`], [`reset`](World::reset), [`reset_after`](World::reset_after) so many bytes,
//! [`close_one_way`](World::close_one_way), [`Host::crash`], and a [`Link`] with high latency or low bandwidth.
//!
//! # Limits
//! A test must await only what comes from this world. Threads, real timers and real sockets don't wake its tasks:
//! [`World::run`] panics if every task waits for such an event. Keys that `generate_keys` makes come from the operating
//! system, not from the seed.

mod clock;
mod host;
mod network;
mod pipe;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::host::Host;
pub use self::network::Link;

use self::clock::Clock;
use self::network::Network;

/// The default limit of a world's virtual time: more than any timeout or backoff that a test may wait for.
const TIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Numbers the hosts of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct HostId(u64);

/// Hosts, the network between them, and their time.
///
/// A task that owns an `Arc<World>` keeps the world alive: move a [`Time`] into tasks, or call [`end`](World::end).
#[derive(Debug)]
pub struct World {
    seed: u64,
    clock: Arc<Clock>,
    network: Arc<Network>,
}

impl World {
    /// A world without hosts. What is random in it follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self::with_time(seed, TIME)
    }

    /// The same with a limit of its virtual time, at which [`run`](Self::run) panics. Default: a week.
    pub fn with_time(seed: u64, limit: Duration) -> Self {
        // Where virtual time starts: all that is seen of it are differences.
        #[allow(
            clippy::disallowed_methods,
            reason = "virtual time starts somewhere, and only differences are seen"
        )]
        let clock = Clock::new(Instant::now(), seed, limit);
        Self { seed, network: Network::new(clock.clone()), clock }
    }

    /// The seed that it was given.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Adds a host.
    ///
    /// # Panics
    /// If there is one of this name.
    pub fn host(&self, name: &str) -> Host {
        let id = self.network.add_host(name);
        Host { clock: self.clock.clone(), network: self.network.clone(), id }
    }

    /// Runs `test`, and all that is spawned, until `test` has ended. It may be called again; what was spawned goes on then.
    ///
    /// # Panics
    /// If `test` or a task panics, if everything waits and nothing can happen any more, if something is polled again and again while no
    /// time passes, and when the time of the world is over. The seed is printed first.
    pub fn run<F: Future>(&self, test: F) -> F::Output {
        catch_unwind(AssertUnwindSafe(|| self.clock.run(test))).unwrap_or_else(|panic| {
            eprintln!(
                "the seed of this world is {}, and {:?} of its time have passed",
                self.seed,
                self.elapsed()
            );
            resume_unwind(panic)
        })
    }

    /// Tells the time of this world, also to what outlives the borrow of it.
    pub fn time(&self) -> Time {
        Time(self.clock.clone())
    }

    /// The time now.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// How much virtual time has passed.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Waits for `time` of virtual time.
    ///
    /// # Cancel safety
    /// Nothing happens if it is dropped.
    pub async fn sleep(&self, time: Duration) {
        sleep(&self.clock, time).await;
    }

    /// A seeded random number below `end`, for the test's own choices.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn random_below(&self, end: u64) -> u64 {
        self.clock.random(|random| random.u64(..end))
    }

    /// Sets the link between hosts for which [`set_link`](Self::set_link) was not called.
    pub fn set_default_link(&self, link: Link) {
        self.network.set_default_link(link);
    }

    /// Sets the link between two hosts, from now on.
    pub fn set_link(&self, a: &Host, b: &Host, link: Link) {
        self.network.set_link(a.id, b.id, link);
    }

    /// From now on no bytes pass between the two hosts, and neither gets an error. Connections stay open, as those of
    /// TCP do; what was sent arrives after [`heal`](Self::heal).
    pub fn partition(&self, a: &Host, b: &Host) {
        self.network.partition(a.id, b.id);
    }

    /// Ends a [`partition`](Self::partition).
    pub fn heal(&self, a: &Host, b: &Host) {
        self.network.heal(a.id, b.id);
    }

    /// Resets all connections between two hosts. What is under way is lost.
    pub fn reset(&self, a: &Host, b: &Host) {
        self.network.reset(a.id, b.id);
    }

    /// Resets the connection on which the next byte after `bytes` more bytes from one host to the other is written. Once.
    pub fn reset_after(&self, from: &Host, to: &Host, bytes: u64) {
        self.network.reset_after(from.id, to.id, bytes);
    }

    /// Ends one direction of all connections between two hosts: `to` reads the end of the stream, and `from` can't write any more. The
    /// other direction goes on.
    pub fn close_one_way(&self, from: &Host, to: &Host) {
        self.network.close_one_way(from.id, to.id);
    }

    /// Drops all tasks, and with them what they own. The world can be used on.
    pub fn end(&self) {
        self.clock.clear();
    }

    /// A hash of what has been written, when, and between whom. Two runs of the same seed have the same; if not, the program
    /// that is tested depends on something else.
    pub fn fingerprint(&self) -> u64 {
        self.clock.fingerprint()
    }
}

impl Drop for World {
    /// Ends what still runs.
    fn drop(&mut self) {
        self.end();
    }
}

/// The time of a [`World`], and its randomness: what a task may own without keeping the world alive. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Time(Arc<Clock>);

impl Time {
    /// The time now.
    pub fn now(&self) -> Instant {
        self.0.now()
    }

    /// How much virtual time has passed.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Waits for `time` of virtual time.
    ///
    /// # Cancel safety
    /// Nothing happens if it is dropped.
    pub async fn sleep(&self, time: Duration) {
        sleep(&self.0, time).await;
    }

    /// A seeded random number below `end`, for the test's own choices.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn random_below(&self, end: u64) -> u64 {
        self.0.random(|random| random.u64(..end))
    }
}

/// Waits for ever if that time can't be told.
async fn sleep(clock: &Arc<Clock>, time: Duration) {
    match clock.now().checked_add(time) {
        Some(at) => sleep_until(clock, at).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(clock: &Arc<Clock>, at: Instant) {
    use callosum_runtime::rt::Timer;
    let mut timer = Box::pin(clock.timer(at));
    std::future::poll_fn(|cx| timer.as_mut().poll(cx)).await;
}

/// Runs a test once for each seed, each in a world of its own. `CALLOSUM_SEED=N` runs one seed only.
///
/// # Panics
/// If the test does; the seed is printed before.
///
/// ```
/// use std::time::Duration;
///
/// callosum_testkit::world::check(0..10, |world| async move {
///     world.sleep(Duration::from_secs(60)).await;
///     assert_eq!(world.elapsed(), Duration::from_secs(60));
/// });
/// ```
pub fn check<F: Future<Output = ()>>(
    seeds: impl IntoIterator<Item = u64>,
    mut test: impl FnMut(Arc<World>) -> F,
) {
    let only: Option<u64> = std::env::var("CALLOSUM_SEED")
        .ok()
        .map(|seed| seed.parse().unwrap_or_else(|_| panic!("CALLOSUM_SEED is not a number: {seed}")));
    let run = |seed| {
        let world = Arc::new(World::new(seed));
        world.run(test(world.clone()));
        world.end();
    };
    match only {
        Some(seed) => [seed].into_iter().for_each(run),
        None => seeds.into_iter().for_each(run),
    }
}
