//! Histories of calls and handler runs, and their checks.
//!
//! A [`History`] records when a call was made, when a handler ran for it, and how the call ended. [`check`](History::check) then says
//! whether Callosum's guarantees held, and those of the program that the calls went through: a relay, a retry, a queue of your own.
//!
//! - Every call has one outcome, if its caller waited for it.
//! - A handler starts at most once for a call, and has run for a call that succeeded.
//! - [`CallError::may_have_run`] is true where a handler ran.
//! - Calls with the same key, on the same connection, keep the order in which they were made, as the ordering mode promises.
//!
//! Pass the id of a call to its handler: as a part of the argument, or as metadata.
//!
//! ```
//! use callosum_runtime::{Context, HandlerResult, OrderingMode};
//! use callosum_testkit::history::History;
//! use callosum_testkit::world::World;
//!
//! let world = World::new(1);
//! let (server, client) = (world.host("server"), world.host("client"));
//! let history = History::new(&world);
//! world.run(async {
//!     let seen = history.clone();
//!     let stop = move |call: u64, _: Context| {
//!         let seen = seen.clone();
//!         async move {
//!             let _run = seen.run(call);
//!             HandlerResult::Ok(())
//!         }
//!     };
//!     let (_binder, driver) = server.builder().handle("stop", stop).bind("tcp://server:1").await.unwrap();
//!     server.spawn(async { drop(driver.await) });
//!     let (connector, driver) = client.builder().connect("tcp://server:1").unwrap();
//!     client.spawn(async { drop(driver.await) });
//!
//!     let call = history.begin("client", Some("container"));
//!     let outcome = connector.peer().invoke::<_, ()>("stop", &call.id()).key("container").await;
//!     call.end(&outcome);
//! });
//! history.check(OrderingMode::ExitOrdered).unwrap();
//! ```

mod check;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use callosum_runtime::{CallError, OrderingMode};

pub use self::check::{Violation, Violations, check_may_have_run, check_order, check_outcomes, check_starts};

use crate::world::{Time, World};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When, since the world began. Calls that end at the same time may have been noticed in any order.
    pub at: Duration,
    /// The call. Ids grow in the order in which calls are made.
    pub call: u64,
    /// What.
    pub what: What,
}

/// An event of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// It was made.
    Made {
        /// The connection on which it is ordered, by a name of the test's choice.
        connection: String,
        /// Its ordering key.
        key: Option<String>,
    },
    /// A handler began to run for it.
    Started,
    /// The handler has ended, in whatever way.
    Stopped,
    /// The caller got a result.
    Succeeded,
    /// The caller got an error.
    Failed {
        /// The value of [`CallError::may_have_run`].
        may_have_run: bool,
    },
    /// The caller has dropped the call.
    Abandoned,
}

/// Records what happens. Clones record into the same history.
#[derive(Clone, Debug)]
pub struct History {
    time: Time,
    events: Arc<Mutex<Vec<Event>>>,
}

impl History {
    /// A history of what happens in this world.
    pub fn new(world: &World) -> Self {
        Self { time: world.time(), events: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, call: u64, what: What) {
        let at = self.time.elapsed();
        self.lock().push(Event { at, call, what });
    }

    /// A call is made now, on a connection and with a key. Make it before anything else is awaited, or another could be made before.
    pub fn begin(&self, connection: impl Into<String>, key: Option<&str>) -> Call {
        let (connection, key) = (connection.into(), key.map(str::to_owned));
        let at = self.time.elapsed();
        let mut events = self.lock();
        let id = events.len() as u64;
        events.push(Event { at, call: id, what: What::Made { connection, key } });
        drop(events);
        Call { history: self.clone(), id, ended: false }
    }

    /// A handler runs for a call, until this is dropped.
    #[must_use = "the handler has ended when this is dropped"]
    pub fn run(&self, call: u64) -> Run {
        self.push(call, What::Started);
        Run { history: self.clone(), call }
    }

    /// All that has happened, in its order.
    pub fn events(&self) -> Vec<Event> {
        self.lock().clone()
    }

    /// Checks everything, once no call is under way any more.
    ///
    /// Keys are those of one serving endpoint with `KeyScope::Global`: record each serving endpoint in a history of its own, or put
    /// its name into the key.
    ///
    /// # Errors
    /// All that was not allowed.
    pub fn check(&self, mode: OrderingMode) -> Result<(), Violations> {
        let events = self.events();
        let found = [
            check_outcomes(&events),
            check_starts(&events),
            check_may_have_run(&events),
            check_order(&events, mode),
        ];
        let found: Vec<_> = found.into_iter().flatten().collect();
        if found.is_empty() { Ok(()) } else { Err(Violations(found)) }
    }
}

/// A call that has been recorded. Dropping it says that the caller has dropped the call.
#[derive(Debug)]
pub struct Call {
    history: History,
    id: u64,
    ended: bool,
}

impl Call {
    /// Tells the handler which call it is. Unique in its history.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Records how the call has ended. Call this as soon as it has ended, before anything else is awaited: the time counts.
    pub fn end<R>(mut self, outcome: &Result<R, CallError>) {
        self.ended = true;
        let what = match outcome {
            Ok(_) => What::Succeeded,
            Err(error) => What::Failed { may_have_run: error.may_have_run() },
        };
        self.history.push(self.id, what);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.history.push(self.id, What::Abandoned);
        }
    }
}

/// A handler that runs, until this is dropped.
#[derive(Debug)]
pub struct Run {
    history: History,
    call: u64,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.history.push(self.call, What::Stopped);
    }
}
