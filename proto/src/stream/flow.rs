//! Flow control of a whole connection, in both directions, and how far the windows of its streams may grow.
//!
//! The peer may send DATA up to `limit`, which a LINK_CREDIT raises as streams are read. One is sent once a
//! quarter of the *unused* window has been consumed, so that a connection whose window is nearly used up
//! still gets frequent updates. Example: with a window of 96 MiB, of which unread streams hold 60 MiB, 36 MiB
//! are unused, and LINK_CREDIT is sent once 9 MiB have been consumed.
//!
//! Half of the window is reserved for the initial windows of unread streams (F-9). The other half is an
//! allowance by which the windows of streams that are read can be widened.

use std::time::Duration;

/// LINK_CREDIT is sent once 1/4 of the unused connection window has been consumed.
const CREDIT_STEP: u64 = 4;

/// The allowance for widening windows is 1/2 of the connection's window.
const GROWTH_PART: u64 = 2;

/// 3/4 of the allowance are reserved for windows that open to `stream_window`; windows that grow beyond it,
/// on paths with a long round trip, can use the rest.
const EXTRA_PART: u64 = 4;

/// A DATA exceeded the credit of the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exceeded;

#[derive(Debug)]
pub(crate) struct Flow {
    /// The most that all our DATA may cost, as the peer has granted.
    pub(crate) peer_limit: u64,
    /// What all our DATA has cost.
    peer_spent: u64,
    /// The configured window of this side.
    window: u64,
    /// The most that all DATA of the peer may cost; what it has cost; and how much of that has been read or
    /// dropped.
    limit: u64,
    spent: u64,
    consumed: u64,
    /// What is left of the allowance for widening windows.
    pub(crate) growth_left: u64,
    /// The shortest measured round trip.
    round_trip: Option<Duration>,
}

impl Flow {
    pub(crate) fn new(window: u64) -> Self {
        Self {
            // The peer's hello grants the first credit; in dialect 1, there is none.
            peer_limit: 0,
            peer_spent: 0,
            window,
            limit: window,
            spent: 0,
            consumed: 0,
            growth_left: window / GROWTH_PART,
            round_trip: None,
        }
    }

    /// The most that our next DATA may cost.
    pub(crate) fn send_credit(&self) -> u64 {
        self.peer_limit.saturating_sub(self.peer_spent)
    }

    pub(crate) fn count_sent(&mut self, cost: u64) {
        self.peer_spent += cost;
    }

    /// Handles a LINK_CREDIT. A lower limit is ignored.
    pub(crate) fn raise_peer_limit(&mut self, limit: u64) {
        self.peer_limit = self.peer_limit.max(limit);
    }

    /// Counts a DATA of the peer.
    pub(crate) fn receive(&mut self, cost: u64) -> Result<(), Exceeded> {
        let spent = self.spent.checked_add(cost).ok_or(Exceeded)?;
        if spent > self.limit {
            return Err(Exceeded);
        }
        self.spent = spent;
        Ok(())
    }

    /// Counts DATA that was read or dropped, after [`receive`](Self::receive) has counted it.
    pub(crate) fn consume(&mut self, cost: u64) {
        self.consumed += cost;
    }

    pub(crate) fn is_credit_due(&self) -> bool {
        let unused = self.window.saturating_sub(self.held());
        let target = self.consumed.saturating_add(self.window);
        // At least 1: without new credit there is nothing to send.
        target.saturating_sub(self.limit) >= (unused / CREDIT_STEP).max(1)
    }

    /// The limit of a LINK_CREDIT, if one is due.
    pub(crate) fn credit_due(&mut self) -> Option<u64> {
        self.is_credit_due().then(|| {
            self.limit = self.consumed.saturating_add(self.window);
            self.limit
        })
    }

    /// Cost of DATA that was received, and neither read nor dropped.
    pub(crate) fn held(&self) -> u64 {
        self.spent - self.consumed
    }

    pub(crate) fn measured(&mut self, round_trip: Duration) {
        // The others include time in queues. Windows that follow them would make the queues longer.
        self.round_trip = Some(self.round_trip.map_or(round_trip, |shortest| shortest.min(round_trip)));
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    #[cfg(test)]
    pub(crate) fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = Some(round_trip);
    }

    /// Takes `by` from the allowance for a window that grows beyond `stream_window`; false if what would be
    /// left is reserved for other windows.
    pub(crate) fn grow(&mut self, by: u64) -> bool {
        let kept = (self.window / GROWTH_PART) / EXTRA_PART * (EXTRA_PART - 1);
        match self.growth_left.checked_sub(by) {
            Some(after) if after >= kept => {
                self.growth_left = after;
                true
            }
            _ => false,
        }
    }

    /// The connection has ended: only the streams in `unread`, as pairs of cost and growth, still hold
    /// credit.
    pub(crate) fn close(&mut self, unread: impl Iterator<Item = (u64, u64)>) {
        let (held, growth) =
            unread.fold((0, 0), |(held, growth), (cost, grown)| (held + cost, growth + grown));
        self.consumed = self.spent - held;
        self.growth_left = self.window / GROWTH_PART - growth;
    }

    /// # Panics
    /// If the sums over all streams differ from what is counted here.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn audit(&self, held: u64, growth: u64) {
        assert_eq!(self.held(), held, "credit that is held");
        assert_eq!(self.growth_left + growth, self.window / GROWTH_PART, "growth of windows");
        assert!(self.limit - self.consumed <= self.window, "too much credit of the connection");
    }
}
