//! Modes and limits of ordering.

use crate::setters::setters;

/// How the requests of one key are ordered. Requests without a key are not ordered, in any mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OrderingMode {
    /// Requests start at once, replies leave when they are done.
    Unordered,
    /// Requests start at once; replies leave in the order in which the requests arrived.
    #[default]
    ExitOrdered,
    /// One handler at a time, in the order in which the requests arrived; so replies leave in that order too.
    /// A handler that waits for a nested call with its own key waits for itself, until a deadline or a
    /// cancellation ends that.
    KeySerialized,
}

/// Whose requests share a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyScope {
    /// A key is the same key for all connections. A slow or [paused](super::Scheduler::pause) peer can then
    /// hold up others that use its keys.
    #[default]
    Global,
    /// Connections that use the same key don't affect each other.
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
    /// Default: [`OrderingMode::ExitOrdered`].
    pub mode: OrderingMode,
    /// Default: [`KeyScope::Global`].
    pub scope: KeyScope,
    /// Slots: handlers that run at a time, of all connections together, without the suspended ones. 0 counts
    /// as 1. Past it, requests wait. Default: 100.
    pub max_running: usize,
    /// The share of these slots that the handlers of one connection may hold, in percent, rounded up to whole
    /// slots. Past it, its requests wait as if no slot was free, even if no other connection needs one: a
    /// slot can't be taken back from a handler, so another connection finds one at once only if it was kept
    /// free. With up to 4 slots, the default share is all of them; from 5 on, it leaves at least one to
    /// others. 100 or more is no limit of its own, and 0 counts as one slot. Default: 80.
    pub max_share_per_connection: u8,
    /// Requests of one connection that wait to start; one more is refused. A request that could start at once
    /// when it arrived is not counted, so 0 means that none may wait. Default: 1,000.
    pub max_waiting_per_connection: usize,
    /// Bytes of those waiting requests; one that would exceed them is refused, when it arrives or when its
    /// argument is complete. Default: 64 MiB.
    pub max_waiting_bytes_per_connection: usize,
    /// Requests of one connection in any state: waiting, running, suspended, or finished and not released
    /// because an earlier request of their key is not; one more is refused. The last two have no other bound.
    /// Requests that were [withdrawn](super::Scheduler::withdraw) and don't run do not count, for nothing is
    /// kept of them. Default: 4,000.
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

    /// Slots in all, at least 1.
    pub(super) fn slots(&self) -> usize {
        self.max_running.max(1)
    }

    /// Slots that the handlers of one connection may hold, at least 1.
    pub fn max_running_per_connection(&self) -> usize {
        let percent = usize::from(self.max_share_per_connection.min(100));
        let (hundreds, rest) = (self.slots() / 100, self.slots() % 100);
        // In two parts, for the product of all slots could overflow.
        (hundreds * percent + (rest * percent).div_ceil(100)).max(1)
    }
}
