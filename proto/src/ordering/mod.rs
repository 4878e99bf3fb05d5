//! When a peer's request may start, and when its reply may leave.
//!
//! Responsible for order by key, the concurrency limit, fairness between connections, and the limits of what waits. Not for
//! handlers, replies and what requests contain: a request is an id, a key and a size here. The idea: one *run queue* decides
//! which request takes a free slot, one *release queue* whose reply is next; a request passes through both.
//!
//! Apart from connections because all connections of an endpoint share it: a key is one key for all of them, unless
//! [`KeyScope::PerConnection`] says otherwise. Nothing here does I/O, reads a clock or waits.
//!
//! # The calling contract
//! Report what happens ([`arrive`](Scheduler::arrive), [`finish`](Scheduler::finish), …), in any order; then
//! [`poll`](Scheduler::poll) until it yields `None`, and do what it says: start the handler of a
//! [`Start`](Action::Start), send the reply of a [`Release`](Action::Release). A reply that is ready earlier
//! stays with the caller. [`Endpoint`](crate::endpoint::Endpoint) does all of this.
//!
//! An accepted request is started at most once and released exactly once, unless it is withdrawn or its connection is forgotten.
//! A request that is unknown, or known but in the wrong state, is ignored: no sequence of calls panics or corrupts.
//!
//! # Example
//! ```
//! use callosum_proto::ordering::{Action, Arrival, Busy, KeyOrder, OrderingConfig, Scheduler};
//!
//! /// Two requests with the same key, of which the second is the faster one.
//! fn in_order(arrivals: [Arrival; 2]) -> Result<(), Busy> {
//!     let mut order = KeyOrder::new(OrderingConfig::default());
//!     for arrival in &arrivals {
//!         order.arrive(arrival)?;
//!         assert_eq!(order.poll(), Some(Action::Start(arrival.request)));
//!     }
//!     let [first, second] = arrivals.map(|arrival| arrival.request);
//!     order.finish(second);
//!     assert_eq!(order.poll(), None, "the first request's reply goes first");
//!     order.finish(first);
//!     assert_eq!(order.poll(), Some(Action::Release(first)));
//!     assert_eq!(order.poll(), Some(Action::Release(second)));
//!     assert!(order.is_idle());
//!     Ok(())
//! }
//! ```

mod config;
mod key_order;
mod keys;
mod release_queue;
mod reply_gate;
mod run_queue;

use thiserror::Error;

pub use self::config::{KeyScope, OrderingConfig, OrderingMode};
pub use self::key_order::KeyOrder;
pub(crate) use self::reply_gate::{Entered, GatePlace, ReplyGate};
use crate::ids::{ConnectionId, OrderingKey, RequestId};

/// A request that has come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Names the request from now on.
    pub request: RequestId,
    /// The key that it is ordered by, or none.
    pub key: OrderingKey,
    /// Memory that the request occupies while it waits, in bytes; without its argument if that is not complete.
    pub bytes: usize,
    /// Whether its argument is complete. If not, the request takes its place in the order now, and may start once
    /// [`ready`](Scheduler::ready) has been called.
    pub ready: bool,
}

/// What the caller is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Run the handler of this request, and [`finish`](Scheduler::finish) it once it has ended.
    Start(RequestId),
    /// Send the reply of this request. The scheduler has forgotten it.
    Release(RequestId),
    /// The reply of this running request may begin: every earlier reply that it has to follow has been released.
    MayReply(RequestId),
}

/// What a cancellation met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Withdrawn {
    /// The request had not started and never will, or had finished and was not released. The scheduler has forgotten it; the caller
    /// answers at once.
    Forgotten,
    /// The handler runs: stop it, [`finish`](Scheduler::finish) the request, and withdraw it again.
    Running,
    /// The request was never seen, was released, or was withdrawn before.
    Unknown,
}

/// A request was not accepted; nothing of it is retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[error("request not accepted: {reason}")]
pub struct Busy {
    /// Why.
    pub reason: BusyReason,
}

/// The limit that a refused request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum BusyReason {
    /// See [`OrderingConfig::max_waiting_per_connection`].
    #[error("{limit} requests of this connection are waiting")]
    WaitingRequests {
        /// In requests.
        limit: usize,
    },
    /// See [`OrderingConfig::max_waiting_bytes_per_connection`].
    #[error("waiting requests of this connection would hold more than {limit} bytes")]
    WaitingBytes {
        /// In bytes.
        limit: usize,
    },
    /// See [`OrderingConfig::max_requests_per_connection`].
    #[error("{limit} requests of this connection are not done")]
    Requests {
        /// In requests.
        limit: usize,
    },
    /// The id is in use: a fault of the local caller, not of the peer. The request that has it goes on.
    #[error("its id is in use")]
    DuplicateRequest,
}

/// Decides when requests start and when their replies leave; [`KeyOrder`] or one of your own.
///
/// The module's page has the calling contract.
pub trait Scheduler: Send {
    /// Takes a request in. It starts once [`poll`](Self::poll) says so.
    ///
    /// One that is not ready takes its place in the order now, but no slot before [`ready`](Self::ready). Where keys are
    /// serialized, later requests of its key wait for it; in the other modes they start before it. Meanwhile it
    /// counts against the limits of what waits, as one that can't start.
    ///
    /// # Errors
    /// [`Busy`] names the limit that was met; nothing is retained, and the caller answers.
    fn arrive(&mut self, arrival: &Arrival) -> Result<(), Busy>;

    /// The argument of a request that arrived unready is complete: it starts in the order in which it arrived. From now on
    /// these bytes count besides those of its [`Arrival`], unless it can start at once. Ignored for any other request.
    ///
    /// # Errors
    /// [`Busy`] if it would exceed the limit of bytes that wait. It is as unready as before; the caller
    /// [withdraws](Self::withdraw) it, and answers.
    fn ready(&mut self, request: RequestId, bytes: usize) -> Result<(), Busy>;

    /// The handler has really ended, however: the request frees its slot and its key, and its reply is released
    /// in its order. So is that of a request that has not started, which never will.
    fn finish(&mut self, request: RequestId);

    /// The caller has given the request up, so that nobody can tell when its reply leaves: a request that does not run is
    /// forgotten at once. It never starts, is not released, holds up nobody, and counts against no limit.
    ///
    /// Nothing changes for a running one: it keeps slot and key until its handler has really ended. Withdraw it again once it has
    /// [finished](Self::finish), or its reply waits for its order.
    fn withdraw(&mut self, request: RequestId) -> Withdrawn;

    /// The connection is gone: none of its requests is started or released any more.
    ///
    /// Its waiting and finished requests vanish, and hold up nobody. Its running ones keep slot and key
    /// until [`finish`](Self::finish), but hold up nobody's reply. The connection's pause ends.
    fn forget_connection(&mut self, connection: ConnectionId);

    /// The running handler waits for a nested call: others may use its slot meanwhile, so that nested calls
    /// get through even if one handler runs at a time. It keeps its key.
    fn suspend(&mut self, request: RequestId);

    /// The handler goes on and takes its slot back, even if more handlers than the limit run then; nothing
    /// starts until fewer do.
    fn resume(&mut self, request: RequestId);

    /// Starts none of this connection's waiting requests until [`unpause`](Self::unpause), because its peer does not take
    /// its replies. What runs goes on, and releases are not held back.
    ///
    /// With [`KeyScope::Global`], a paused request holds up the later requests of its key, of every connection, where
    /// the mode orders them: their start when keys are serialized, their replies when exits are ordered. So
    /// pause for replies that were released and not taken, never for those that wait for their order: two
    /// peers could wait for each other.
    fn pause(&mut self, connection: ConnectionId);

    /// Ends a [`pause`](Self::pause).
    fn unpause(&mut self, connection: ConnectionId);

    /// The connection is quiet: memory that is kept for its requests to come may go. The default does nothing.
    fn shrink(&mut self, connection: ConnectionId) {
        let _ = connection;
    }

    /// A running handler wants to begin its reply before it has [finished](Self::finish), because it streams it.
    ///
    /// Returns whether it may at once. If not, [`Action::MayReply`] says when: once no earlier request that it has
    /// to follow is left to be released. Ignored if the request does not run, or has asked before.
    ///
    /// The default is right for schedulers that release each request when it has finished.
    fn want_to_reply(&mut self, request: RequestId) -> bool {
        let _ = request;
        true
    }

    /// The next thing to do. Call it until it yields `None` after any other method.
    fn poll(&mut self) -> Option<Action>;

    /// Handlers started and not finished, suspended ones and those of forgotten connections included.
    fn running(&self) -> usize;

    /// Requests that have not started.
    fn waiting(&self) -> usize;

    /// Whether no request is left in any state. A pause is not a request.
    fn is_idle(&self) -> bool;
}
