//! Credit of a whole connection, in both directions, and how far the windows of its streams may grow.
//!
//! The peer may send DATA up to `limit`, which is raised as streams are read (LINK_CREDIT). With a window of
//! 96 MiB, of which streams that nobody reads hold 60 MiB, the remaining 36 MiB are the unused connection
//! window: LINK_CREDIT is sent once 9 MiB, a quarter of it, have been consumed. So a connection whose window
//! is nearly used up still updates often enough.
//!
//! Half of the window is kept for the initial windows of streams that nobody reads (F-9); the other half is
//! the allowance by which the windows of streams that are read are widened.

use std::time::Duration;

/// LINK_CREDIT is sent once 1/4 of the unused connection window has been consumed.
const CREDIT_STEP: u64 = 4;

/// Windows are widened by 1/2 of the connection's in all.
const GROWTH_PART: u64 = 2;

/// The last 3/4 of that allowance are kept for windows that open to their ordinary width, and are not
/// available for those that grow beyond it on long paths.
const EXTRA_PART: u64 = 4;

/// DATA that the connection had no credit for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exceeded;

#[derive(Debug)]
pub(crate) struct Flow {
    /// What our DATA may cost in all, and what it has cost.
    pub(crate) peer_limit: u64,
    peer_spent: u64,
    window: u64,
    /// What the peer's DATA may cost in all, what it has cost, and how much of that has been consumed.
    limit: u64,
    spent: u64,
    consumed: u64,
    /// By how much more windows of streams may be widened.
    pub(crate) growth_left: u64,
    /// The shortest round trip that was measured.
    round_trip: Option<Duration>,
}

impl Flow {
    pub(crate) fn new(window: u64) -> Self {
        Self {
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

    /// What our next DATA may cost.
    pub(crate) fn send_credit(&self) -> u64 {
        self.peer_limit.saturating_sub(self.peer_spent)
    }

    pub(crate) fn count_sent(&mut self, cost: u64) {
        self.peer_spent += cost;
    }

    /// Takes a LINK_CREDIT, or the credit of the hello. A limit never shrinks.
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

    /// Counts what was read or dropped of what [`receive`](Self::receive) counted.
    pub(crate) fn consume(&mut self, cost: u64) {
        self.consumed += cost;
    }

    pub(crate) fn is_credit_due(&self) -> bool {
        let unused = self.window.saturating_sub(self.held());
        let target = self.consumed.saturating_add(self.window);
        target.saturating_sub(self.limit) >= (unused / CREDIT_STEP).max(1)
    }

    /// The limit of a LINK_CREDIT, if one is due.
    pub(crate) fn credit_due(&mut self) -> Option<u64> {
        self.is_credit_due().then(|| {
            self.limit = self.consumed.saturating_add(self.window);
            self.limit
        })
    }

    /// What was received and neither read nor dropped.
    pub(crate) fn held(&self) -> u64 {
        self.spent - self.consumed
    }

    pub(crate) fn measured(&mut self, round_trip: Duration) {
        self.round_trip = Some(self.round_trip.map_or(round_trip, |shortest| shortest.min(round_trip)));
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    #[cfg(test)]
    pub(crate) fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = Some(round_trip);
    }

    /// Takes `by` from the allowance for a window that grows beyond its ordinary width, if enough is left for
    /// others.
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

    /// The connection is over: nothing is held but the streams in `unread`, as pairs of cost and growth.
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
