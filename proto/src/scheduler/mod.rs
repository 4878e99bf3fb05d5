//! When a remote peer's call may start, and when its reply may leave.
//!
//! Apart from sessions because a binder shares one scheduler among all its links: a key is one key for all
//! peers, unless [`KeyScope::PerPeer`] says otherwise. Nothing here does I/O, reads a clock or waits.
//!
//! # The calling contract
//! Report what happens ([`arrive`](Scheduler::arrive), [`finish`](Scheduler::finish), …), in any order; then
//! [`poll`](Scheduler::poll) until it yields `None`, and do what it says: start the handler of a
//! [`Start`](Action::Start), send the reply of a [`Release`](Action::Release). A reply that is ready earlier
//! stays with the caller.
//!
//! An accepted call is started at most once and released exactly once, unless its peer is forgotten. A ticket
//! that is unknown, or known but in the wrong state, is ignored: no sequence of calls panics or corrupts.
//!
//! # Example
//! ```
//! use callosum_proto::scheduler::{Action, Arrival, BuiltinScheduler, Scheduler, SchedulerConfig};
//! use callosum_proto::{OrderingKey, PeerId, Ticket};
//!
//! let mut scheduler = BuiltinScheduler::new(SchedulerConfig::default());
//! let key = OrderingKey::text("container-1");
//! for ticket in [Ticket(1), Ticket(2)] {
//!     scheduler.arrive(Arrival { ticket, peer: PeerId(7), key: &key, bytes: 64 })?;
//!     assert_eq!(scheduler.poll(), Some(Action::Start(ticket)));
//! }
//! scheduler.finish(Ticket(2));
//! assert_eq!(scheduler.poll(), None, "the first call's reply goes first");
//! scheduler.finish(Ticket(1));
//! assert_eq!(scheduler.poll(), Some(Action::Release(Ticket(1))));
//! assert_eq!(scheduler.poll(), Some(Action::Release(Ticket(2))));
//! assert!(scheduler.is_idle());
//! # Ok::<(), callosum_proto::scheduler::Busy>(())
//! ```

mod builtin;
mod exits;
mod starts;

use thiserror::Error;

pub use self::builtin::BuiltinScheduler;
use crate::ids::{OrderingKey, PeerId, Ticket};

/// What calls with the same key owe each other. Calls without a key owe each other nothing, in every mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OrderingMode {
    /// Calls start at once, replies leave when they are done.
    Unordered,
    /// Calls start at once; replies leave in the order in which the calls arrived.
    #[default]
    ExitOrdered,
    /// One handler at a time, in the order in which the calls arrived; so replies leave in that order too. A handler
    /// that waits for a nested call with its own key waits for itself, until a deadline or a cancellation ends that.
    KeySerialized,
}

/// Whose calls share a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyScope {
    /// A key is the same key for all peers. A slow or [paused](Scheduler::pause) peer whose turn it is can
    /// then hold up others that use its keys.
    #[default]
    Global,
    /// Peers that use the same key don't affect each other.
    PerPeer,
}

/// Mode and limits of a [`BuiltinScheduler`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerConfig {
    /// Default: [`OrderingMode::ExitOrdered`].
    pub mode: OrderingMode,
    /// Default: [`KeyScope::Global`].
    pub scope: KeyScope,
    /// Handlers that run at a time, of all peers together, without the suspended ones. 0 counts as 1.
    /// Default: 100.
    pub max_running: usize,
    /// Calls of one peer that wait to start. A call that could start at once when it arrived is not counted,
    /// so 0 means that no call may wait. Default: 1,000.
    pub max_waiting_per_peer: usize,
    /// Bytes of those waiting calls. Default: 64 MiB.
    pub max_waiting_bytes_per_peer: usize,
    /// Calls of one peer in any state: waiting, running, suspended, or done but not released because an
    /// earlier call of their key is not. The last two have no other bound. Default: 4,000.
    pub max_calls_per_peer: usize,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            mode: OrderingMode::default(),
            scope: KeyScope::default(),
            max_running: 100,
            max_waiting_per_peer: 1_000,
            max_waiting_bytes_per_peer: 64 << 20,
            max_calls_per_peer: 4_000,
        }
    }
}

impl SchedulerConfig {
    /// Sets [`mode`](Self::mode).
    #[must_use]
    pub fn with_mode(self, mode: OrderingMode) -> Self {
        Self { mode, ..self }
    }

    /// Sets [`scope`](Self::scope).
    #[must_use]
    pub fn with_scope(self, scope: KeyScope) -> Self {
        Self { scope, ..self }
    }

    /// Sets [`max_running`](Self::max_running).
    #[must_use]
    pub fn with_max_running(self, handlers: usize) -> Self {
        Self { max_running: handlers, ..self }
    }

    /// Sets [`max_waiting_per_peer`](Self::max_waiting_per_peer).
    #[must_use]
    pub fn with_max_waiting_per_peer(self, calls: usize) -> Self {
        Self { max_waiting_per_peer: calls, ..self }
    }

    /// Sets [`max_waiting_bytes_per_peer`](Self::max_waiting_bytes_per_peer).
    #[must_use]
    pub fn with_max_waiting_bytes_per_peer(self, bytes: usize) -> Self {
        Self { max_waiting_bytes_per_peer: bytes, ..self }
    }

    /// Sets [`max_calls_per_peer`](Self::max_calls_per_peer).
    #[must_use]
    pub fn with_max_calls_per_peer(self, calls: usize) -> Self {
        Self { max_calls_per_peer: calls, ..self }
    }
}

/// A call that came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Names the call from now on.
    pub ticket: Ticket,
    /// The link it came from.
    pub peer: PeerId,
    /// The scheduler keeps a cheap clone, which pins the buffer that the key is a slice of.
    pub key: &'a OrderingKey,
    /// What the call occupies while it waits: [`Request::size`](crate::session::Request::size), and what its owner keeps
    /// besides.
    pub bytes: usize,
}

/// What the caller is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Run the handler of this call, and [`finish`](Scheduler::finish) it once it has ended.
    Start(Ticket),
    /// Send the reply of this call. The scheduler has forgotten the ticket.
    Release(Ticket),
}

/// What a cancellation met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Withdrawn {
    /// The call had not started and never will. Its reply is released in its turn.
    Waiting,
    /// The handler runs: stop it, then [`finish`](Scheduler::finish) the call.
    Running,
    /// The call was never seen, has already finished, or was withdrawn before.
    Unknown,
}

/// A call was not accepted; nothing of it is retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[error("call not accepted: {reason}")]
pub struct Busy {
    /// Why.
    pub reason: BusyReason,
}

/// The limit that a refused call met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum BusyReason {
    /// See [`SchedulerConfig::max_waiting_per_peer`].
    #[error("{limit} calls of this peer are waiting")]
    WaitingCalls {
        /// In calls.
        limit: usize,
    },
    /// See [`SchedulerConfig::max_waiting_bytes_per_peer`].
    #[error("waiting calls of this peer would hold more than {limit} bytes")]
    WaitingBytes {
        /// In bytes.
        limit: usize,
    },
    /// See [`SchedulerConfig::max_calls_per_peer`].
    #[error("{limit} calls of this peer are not done")]
    Calls {
        /// In calls.
        limit: usize,
    },
    /// The ticket is in use: a fault of the local caller, not of the peer. The call that has it goes on.
    #[error("its ticket is in use")]
    DuplicateTicket,
}

/// Decides when calls start and when their replies leave; [`BuiltinScheduler`] or one of your own.
///
/// The module's page has the calling contract.
pub trait Scheduler: Send {
    /// Takes a call in. It starts once [`poll`](Self::poll) says so.
    ///
    /// # Errors
    /// [`Busy`] names the limit that was met; nothing is retained, and the caller answers.
    fn arrive(&mut self, call: Arrival<'_>) -> Result<(), Busy>;

    /// The handler has really ended, however: the call frees its slot and its key, and its reply is released
    /// in its turn. Withdraws a call that has not started.
    fn finish(&mut self, call: Ticket);

    /// Cancels a call: a waiting one will never start and counts as finished at once.
    ///
    /// Nothing changes for a running one: it keeps slot and key until its handler has really ended.
    fn withdraw(&mut self, call: Ticket) -> Withdrawn;

    /// The link is gone: no call of this peer is started or released any more.
    ///
    /// Its waiting and finished calls vanish, and hold up nobody's turn. Its running ones keep slot and key
    /// until [`finish`](Self::finish), but hold up nobody's reply. The peer's pause ends.
    fn forget_peer(&mut self, peer: PeerId);

    /// The running handler waits for a nested call: others may use its slot meanwhile, so that nested calls
    /// get through even if one handler runs at a time. It keeps its key.
    fn suspend(&mut self, call: Ticket);

    /// The handler goes on and takes its slot back, even if more handlers than the limit run then; nothing
    /// starts until fewer do.
    fn resume(&mut self, call: Ticket);

    /// Starts none of this peer's waiting calls until [`unpause`](Self::unpause), because it does not take
    /// its replies. What runs goes on, and releases are not held back.
    ///
    /// With [`KeyScope::Global`], a paused call holds up the later calls of its key, whoever made them, where
    /// the mode orders them: their start when keys are serialized, their replies when exits are ordered. So
    /// pause for replies that were released and not taken, never for those that wait for their turn: two
    /// peers could wait for each other.
    fn pause(&mut self, peer: PeerId);

    /// Ends a [`pause`](Self::pause).
    fn unpause(&mut self, peer: PeerId);

    /// Whether the reply of this call may begin to leave before the call is [finished](Self::finish), for a reply that is
    /// sent bit by bit while its handler runs: no earlier call that it has to follow has still to be released.
    ///
    /// The default is right for schedulers that release each call when it has finished.
    fn may_leave(&self, call: Ticket) -> bool {
        let _ = call;
        true
    }

    /// The next thing to do. Call it until it yields `None` after any other method.
    fn poll(&mut self) -> Option<Action>;

    /// Handlers started and not finished, suspended ones and those of forgotten peers included.
    fn running(&self) -> usize;

    /// Calls that have not started.
    fn waiting(&self) -> usize;

    /// Whether no call is left in any state. A pause is not a call.
    fn is_idle(&self) -> bool;
}
