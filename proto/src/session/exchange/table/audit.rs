//! What has to hold of the table; for the simulation.

use super::{ExchangeId, Exchanges};

impl Exchanges {
    pub(in crate::session) fn contains(&self, id: ExchangeId) -> bool {
        self.table.contains_key(&id)
    }

    pub(in crate::session) fn ids(&self) -> impl Iterator<Item = ExchangeId> {
        self.table.keys().copied()
    }

    pub(in crate::session) fn is_over(&self, id: ExchangeId) -> bool {
        self.table.get(&id).is_some_and(|exchange| exchange.over)
    }

    /// # Panics
    /// If sums and parts differ, or somebody who could go on is not in a queue.
    pub(in crate::session) fn audit(&self) {
        let (mut bodies, mut held, mut growth, mut waiting) = (0, 0, 0, 0);
        for (id, exchange) in &self.table {
            if let Some(receive) = &exchange.receive {
                held += receive.held_cost();
                growth += receive.growth();
            }
            if let Some(send) = &exchange.send {
                bodies += if exchange.whole_body { send.queued() } else { 0 };
                waiting += usize::from(send.turn.is_some());
                assert!(
                    send.turn.is_some() || !(exchange.begun && send.is_ready()),
                    "{id:?} has something to send and no turn: {exchange:?}"
                );
            }
            if let (ExchangeId::Theirs(request), Some(wire)) = (id, exchange.wire) {
                assert_eq!(self.theirs.get(&wire), Some(request));
            }
        }
        assert_eq!(self.body_bytes, bodies, "bytes of bodies");
        assert_eq!(self.held(), held, "credit that is held");
        assert_eq!(self.growth_left + growth, self.link.window / super::GROWTH_PART, "growth of windows");
        assert_eq!(self.lanes.iter().map(|lane| lane.waiting.len()).sum::<usize>(), waiting, "turns");
        assert_eq!(self.gathering.values().sum::<usize>(), self.gathered, "bodies put together");
        assert!(self.gathered <= self.gather_limit || self.gathering.len() == 1, "too many are put together");
        assert!(self.gathering.keys().all(|id| self.table.contains_key(id)));
        assert!(self.gather_queue.is_empty() || self.gathered > 0, "nobody is put together, and some wait");
        assert!(self.link.limit - self.link.consumed <= self.link.window, "too much credit of the link");
    }

    /// # Panics
    /// If anything is left.
    pub(in crate::session) fn audit_idle(&self) {
        assert!(self.table.is_empty() && self.ours.is_empty() && self.theirs.is_empty());
        assert!(self.credits.is_empty() && self.gathering.is_empty() && self.gather_queue.is_empty());
        assert!(self.lanes.iter().all(|lane| lane.waiting.is_empty()));
    }
}
