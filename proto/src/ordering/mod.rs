//! Decides when a request may start, and when its reply may be sent.
//!
//! Responsible for order by key, the concurrency limit, fairness between connections, and limits on waiting
//! requests. Not for handlers, replies and the contents of requests: here, a request is an id, a key and a
//! size. The idea: a request passes through two queues. The *run queue* decides which request takes a free
//! slot, and the *release queue* which reply is sent next.
//!
//! All connections of an endpoint share one scheduler, because they share slots and, unless
//! [`KeyScope::PerConnection`] is set, keys. A scheduler does no I/O, reads no clock, and never blocks.
//!
//! # The calling contract
//! Report what happens ([`arrive`](Scheduler::arrive), [`finish`](Scheduler::finish), …), in any order. Then
//! [`poll`](Scheduler::poll) until it returns `None`, and carry out each action: start the handler for
//! [`Start`](Action::Start), send the reply for [`Release`](Action::Release). The caller keeps finished
//! replies until then. [`Endpoint`](crate::endpoint::Endpoint) does all of this.
//!
//! An accepted request is started at most once, and released exactly once unless it is withdrawn or its
//! connection is forgotten. Calls for a request that is unknown, or in the wrong state, are ignored: no
//! sequence of calls panics or breaks invariants.
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
pub(crate) use self::reply_gate::ReplyGate;
use crate::ids::{ConnectionId, OrderingKey, RequestId};

/// A request that has arrived, as far as a scheduler needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The id of the request.
    pub request: RequestId,
    /// Its ordering key, or "no key".
    pub key: OrderingKey,
    /// Memory of the request while it waits, in bytes; without the argument if the request is not ready.
    pub bytes: usize,
    /// Whether the request may start: its argument is complete, or is handed out as a stream. If not, the request
    /// gets its place in the order now, and may start after [`ready`](Scheduler::ready).
    pub ready: bool,
}

/// A decision that the caller of [`poll`](Scheduler::poll) has to carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Run the handler of this request, and call [`finish`](Scheduler::finish) once it has ended.
    Start(RequestId),
    /// Send the reply of this request. The scheduler has forgotten the request.
    Release(RequestId),
    /// This running request may begin its reply: every earlier reply that it has to follow has been released.
    MayReply(RequestId),
}

/// The limit that a request would exceed. The request is not accepted, and the scheduler retains nothing of
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Busy {
    /// Too many waiting requests; see [`OrderingConfig::max_waiting_per_connection`].
    #[error("{limit} requests of this connection are waiting")]
    WaitingRequests {
        /// The limit in requests.
        limit: usize,
    },
    /// Too many bytes of waiting requests; see [`OrderingConfig::max_waiting_bytes_per_connection`].
    #[error("waiting requests of this connection would hold more than {limit} bytes")]
    WaitingBytes {
        /// The limit in bytes.
        limit: usize,
    },
    /// Too many requests in any state; see [`OrderingConfig::max_requests_per_connection`].
    #[error("{limit} requests of this connection have not finished")]
    Requests {
        /// The limit in requests.
        limit: usize,
    },
    /// The id is in use. A bug of the local caller, not a fault of the peer. The request with that id is not
    /// affected.
    #[error("the id of the request is in use")]
    DuplicateRequest,
}

/// Decides when requests start and when their replies are sent. Implemented by [`KeyOrder`]; you can write
/// your own.
///
/// The [module](self) docs define the calling contract.
pub trait Scheduler: Send {
    /// A request has arrived. It starts when [`poll`](Self::poll) returns [`Action::Start`].
    ///
    /// A request that is not ready gets its place in the order now, but takes no slot before
    /// [`ready`](Self::ready). Until then it counts as waiting. Later requests with its key wait for it if
    /// keys are serialized, and may start before it in the other modes.
    ///
    /// # Errors
    /// [`Busy`] with the limit. The scheduler retains nothing of the request; the caller answers it.
    fn arrive(&mut self, arrival: &Arrival) -> Result<(), Busy>;

    /// The argument of a request that arrived unready is complete, so the request may start, in its order of
    /// arrival. From now on `bytes` count in addition to those of its [`Arrival`], unless it can start at
    /// once. Ignored for any other request.
    ///
    /// # Errors
    /// [`Busy`] if the bytes would exceed the limit on waiting bytes. The request stays unready; the caller
    /// must [withdraw](Self::withdraw) and answer it.
    fn ready(&mut self, request: RequestId, bytes: usize) -> Result<(), Busy>;

    /// The handler has ended, successfully or not: frees slot and key, and releases the reply in its order. A
    /// request that has not started never starts, and is released in its order, too.
    fn finish(&mut self, request: RequestId);

    /// The caller has given up, and does not wait for the reply. A request that does not run is forgotten at
    /// once: it is neither started nor released, delays no other request, and counts against no limit.
    ///
    /// A running request is not affected: it keeps slot and key until its handler has ended. Withdraw it
    /// again after [`finish`](Self::finish), so that its reply does not wait for its order.
    fn withdraw(&mut self, request: RequestId);

    /// The connection has ended: none of its requests is started or released from now on.
    ///
    /// Its waiting and finished requests are forgotten. Its running requests keep slot and key until
    /// [`finish`](Self::finish), but delay no replies of other connections. A [pause](Self::pause) of the
    /// connection ends.
    fn forget_connection(&mut self, connection: ConnectionId);

    /// A running handler waits for a nested call. Other handlers may use its slot, so that nested calls can
    /// run even if there is only one slot. The handler keeps its key.
    fn suspend(&mut self, request: RequestId);

    /// A suspended handler goes on. It takes its slot back, even if more handlers than the limit run then; no
    /// request starts until there are fewer than the limit.
    fn resume(&mut self, request: RequestId);

    /// Starts no waiting request of this connection until [`unpause`](Self::unpause), because the peer does
    /// not read its replies. Running handlers go on, and replies are released as before.
    ///
    /// With [`KeyScope::Global`], a paused request delays later requests with its key, of every connection:
    /// their start if keys are serialized, their replies if replies are ordered. So pause a connection for
    /// replies that were released and not read, never for replies that wait for their order. Otherwise two
    /// connections could deadlock.
    fn pause(&mut self, connection: ConnectionId);

    /// Ends a [`pause`](Self::pause).
    fn unpause(&mut self, connection: ConnectionId);

    /// The connection is quiet: frees memory that is kept for its future requests. The default does nothing.
    fn shrink(&mut self, connection: ConnectionId) {
        let _ = connection;
    }

    /// A running handler wants to begin a streamed reply, that is, before it has [finished](Self::finish).
    ///
    /// Returns true if it may begin at once. If false, [`Action::MayReply`] follows once every earlier
    /// request that it has to follow has been released. Ignored, with false, if the request does not run or
    /// has asked before.
    ///
    /// The default returns true, for schedulers that release each reply as soon as its handler has finished.
    fn want_to_reply(&mut self, request: RequestId) -> bool {
        let _ = request;
        true
    }

    /// The next action. After any other method, call it until it returns `None`.
    fn poll(&mut self) -> Option<Action>;

    /// Handlers that have started and not finished, including suspended ones and those of forgotten
    /// connections.
    fn running(&self) -> usize;

    /// Requests that have not started.
    fn waiting(&self) -> usize;

    /// Whether there are no requests in any state. A pause does not count.
    fn is_idle(&self) -> bool;
}
