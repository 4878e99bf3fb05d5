//! When a peer's request may start, and when its reply may leave.
//!
//! Responsible for order by key, the concurrency limit, fairness between connections, and the limits of what
//! waits. Not for handlers, replies and what requests contain: a request is an id, a key and a size here. The
//! idea: one *run queue* decides which request takes a free slot, one *release queue* whose reply is next; a
//! request passes through both.
//!
//! Apart from connections because all connections of an endpoint share it: a key is one key for all of them,
//! unless [`KeyScope::PerConnection`] says otherwise. Nothing here does I/O, reads a clock or waits.
//!
//! # The calling contract
//! Report what happens ([`arrive`](Scheduler::arrive), [`finish`](Scheduler::finish), …), in any order; then
//! [`poll`](Scheduler::poll) until it yields `None`, and do what it says: start the handler of a
//! [`Start`](Action::Start), send the reply of a [`Release`](Action::Release). A reply that is ready earlier
//! stays with the caller. [`Endpoint`](crate::endpoint::Endpoint) does all of this.
//!
//! An accepted request is started at most once and released exactly once, unless it is withdrawn or its
//! connection is forgotten. A request that is unknown, or known but in the wrong state, is ignored: no
//! sequence of calls panics or corrupts.
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

/// A request that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The id of the request.
    pub request: RequestId,
    /// The key that it is ordered by, or none.
    pub key: OrderingKey,
    /// Memory that the request occupies while it waits, in bytes; without its argument if that is not
    /// complete.
    pub bytes: usize,
    /// Whether its argument is complete. If not, the request gets its place in the order now, and may start
    /// once [`ready`](Scheduler::ready) has been called.
    pub ready: bool,
}

/// What the caller of [`poll`](Scheduler::poll) has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Run the handler of this request, and [`finish`](Scheduler::finish) it once it has ended.
    Start(RequestId),
    /// Send the reply of this request. The scheduler has forgotten it.
    Release(RequestId),
    /// The reply of this running request may begin: every earlier reply that it has to follow has been
    /// released.
    MayReply(RequestId),
}

/// The limit that a request would exceed: it is not accepted, and the scheduler keeps nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Busy {
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
    /// The id is in use: a fault of the local caller, not of the peer. The request with that id is not
    /// affected.
    #[error("its id is in use")]
    DuplicateRequest,
}

/// Decides when requests start and when their replies are sent: [`KeyOrder`], or a scheduler of your own.
///
/// The docs of the module define the calling contract.
pub trait Scheduler: Send {
    /// A request has arrived. It starts when [`poll`](Self::poll) returns [`Action::Start`].
    ///
    /// A request that is not ready gets its place in the order now, but no slot before
    /// [`ready`](Self::ready). Until then, later requests with its key wait for it if keys are serialized,
    /// and start before it in the other modes. It counts as waiting.
    ///
    /// # Errors
    /// [`Busy`] with the limit; the scheduler keeps nothing of the request, and the caller answers it.
    fn arrive(&mut self, arrival: &Arrival) -> Result<(), Busy>;

    /// The argument of a request that arrived unready is complete: the request starts in its order of
    /// arrival. From now on these bytes count in addition to those of its [`Arrival`], unless it can start at
    /// once. Ignored for any other request.
    ///
    /// # Errors
    /// [`Busy`] if the bytes would exceed the limit on waiting bytes. The request stays unready; the caller
    /// [withdraws](Self::withdraw) and answers it.
    fn ready(&mut self, request: RequestId, bytes: usize) -> Result<(), Busy>;

    /// The handler has ended in any way: the request frees its slot and its key, and its reply is released in
    /// its order. A request that has not started is released in its order, too, and does not start.
    fn finish(&mut self, request: RequestId);

    /// The caller has cancelled the request, and does not wait for its reply: a request that does not run is
    /// forgotten at once. It does not start, is not released, delays no other request, and counts against no
    /// limit.
    ///
    /// A running request keeps slot and key until its handler has ended. Withdraw it again once it has
    /// [finished](Self::finish); otherwise its reply waits for its order.
    fn withdraw(&mut self, request: RequestId);

    /// The connection has ended: none of its requests is started or released any more.
    ///
    /// Its waiting and finished requests are forgotten. Its running requests keep slot and key until
    /// [`finish`](Self::finish), but delay no other reply. The connection's pause ends.
    fn forget_connection(&mut self, connection: ConnectionId);

    /// The running handler waits for a nested call: other handlers may use its slot meanwhile, so that nested
    /// calls can run even with one slot. The handler keeps its key.
    fn suspend(&mut self, request: RequestId);

    /// The handler goes on and takes its slot back, even if more handlers than the limit run then; nothing
    /// starts until fewer do.
    fn resume(&mut self, request: RequestId);

    /// Starts none of this connection's waiting requests until [`unpause`](Self::unpause), because its peer
    /// does not read its replies. Running handlers go on, and releases are not delayed.
    ///
    /// With [`KeyScope::Global`], a paused request delays the later requests with its key, of every
    /// connection, if the mode orders them: their start if keys are serialized, their replies if replies are
    /// ordered. So pause for replies that were released and not read, never for replies that wait for their
    /// order: otherwise two peers could wait for each other.
    fn pause(&mut self, connection: ConnectionId);

    /// Ends a [`pause`](Self::pause).
    fn unpause(&mut self, connection: ConnectionId);

    /// The connection is quiet: memory that is kept for its requests to come may go. The default does
    /// nothing.
    fn shrink(&mut self, connection: ConnectionId) {
        let _ = connection;
    }

    /// A running handler wants to begin its reply before it has [finished](Self::finish), because it streams
    /// it.
    ///
    /// Returns whether it may begin at once. If not, [`Action::MayReply`] follows once all earlier requests
    /// that it has to follow have been released. Ignored if the request does not run, or has asked before.
    ///
    /// The default suits schedulers that release each request when it has finished.
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
