//! The configuration of the built-in scheduler: modes and limits.

use crate::setters::setters;

/// How requests with the same key are ordered. No mode orders requests without a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OrderingMode {
    /// Requests start as soon as a slot is free. Replies are sent as soon as their handlers have ended.
    Unordered,
    /// Requests start as soon as a slot is free. Replies are sent in the order in which the requests arrived.
    #[default]
    ExitOrdered,
    /// One handler runs at a time, in the order in which the requests arrived, so replies are sent in that
    /// order, too. A nested call with the key of its own handler is a deadlock until a deadline or a
    /// cancellation ends it.
    KeySerialized,
}

/// Whether requests of different connections share a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyScope {
    /// All connections share one key space. A slow or [paused](super::Scheduler::pause) peer can then delay
    /// others that use the same keys.
    #[default]
    Global,
    /// Each connection has its own key space: the same key on another connection is another key.
    PerConnection,
}

/// Mode and limits of a [`KeyOrder`](super::KeyOrder).
///
/// ```
/// let config = callosum_proto::ordering::OrderingConfig::default().max_running(1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OrderingConfig {
    /// How requests with the same key are ordered. Default: [`OrderingMode::ExitOrdered`].
    pub mode: OrderingMode,
    /// Whether connections share keys. Default: [`KeyScope::Global`].
    pub scope: KeyScope,
    /// Slots: the most handlers that run at a time, of all connections together, not counting suspended ones.
    /// Further requests wait. 0 counts as 1. Default: 100.
    pub max_running: usize,
    /// The share of these slots that the handlers of one connection may hold, in percent, rounded up to whole
    /// slots. Its further requests wait, even if no other connection needs a slot: a slot can't be taken back
    /// from a handler, so another connection can start at once only if a slot was kept free. With up to 4
    /// slots, the default share is all of them; from 5 on, it leaves at least one to others. 100 or more is
    /// no limit, and 0 counts as one slot. Default: 80.
    pub max_share_per_connection: u8,
    /// Requests of one connection that may wait to start; one more is refused. A request that can start at
    /// once when it arrives is not counted, so with 0 none may wait. Default: 1,000.
    pub max_waiting_per_connection: usize,
    /// Bytes of these waiting requests. A request that would exceed it is refused, when it arrives or when
    /// its argument is complete. Default: 64 MiB.
    pub max_waiting_bytes_per_connection: usize,
    /// Requests of one connection in any state: waiting, running, suspended, or finished and waiting for an
    /// earlier request with their key. One more is refused. No other limit bounds suspended and finished
    /// requests. [Withdrawn](super::Scheduler::withdraw) requests that don't run don't count. Default: 4,000.
    pub max_requests_per_connection: usize,
}

impl Default for OrderingConfig {
    fn default() -> Self {
        Self {
            mode: OrderingMode::default(),
            scope: KeyScope::default(),
            max_running: 100,
            max_share_per_connection: 80,
            max_waiting_per_connection: 1_000,
            max_waiting_bytes_per_connection: 64 << 20,
            max_requests_per_connection: 4_000,
        }
    }
}

impl OrderingConfig {
    setters! {
        mode: OrderingMode,
        scope: KeyScope,
        max_running: usize,
        max_share_per_connection: u8,
        max_waiting_per_connection: usize,
        max_waiting_bytes_per_connection: usize,
        max_requests_per_connection: usize,
    }

    /// All slots, at least 1.
    pub(super) fn slots(&self) -> usize {
        self.max_running.max(1)
    }

    /// Slots that the handlers of one connection may hold, at least 1:
    /// [`max_share_per_connection`](Self::max_share_per_connection) in slots.
    pub fn max_running_per_connection(&self) -> usize {
        let percent = usize::from(self.max_share_per_connection.min(100));
        let (hundreds, rest) = (self.slots() / 100, self.slots() % 100);
        // In two parts, because `slots * percent` could overflow.
        (hundreds * percent + (rest * percent).div_ceil(100)).max(1)
    }
}
