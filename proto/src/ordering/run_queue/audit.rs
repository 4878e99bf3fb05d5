//! Invariants of the run queue's tables between any two calls.

use super::{ConnectionId, Offers, RunQueue};

impl RunQueue {
    /// Checks that all tables agree; returns whether nothing waits and no key is taken.
    ///
    /// # Panics
    /// If they don't.
    pub(in crate::ordering) fn audit(&self) -> bool {
        let mut startable = 0;
        let (mut offered, mut offers_of_all) = (0, 0);
        for (connection, offers) in self.connections.iter() {
            let connection = ConnectionId(connection);
            let queue = |id| self.get(id).expect("an offer of a queue that is gone");
            let queues = offers.queues.iter().map(|(place, id)| (place, *id, queue(*id)));
            offered += usize::from(offers.unkeyed.offer.is_some());
            offered += offers.keyed.iter().filter(|(_, queue)| queue.offer.is_some()).count();
            assert!(offers.keyed.iter().all(|(_, queue)| !queue.waiting.is_unused()), "a key is left behind");
            offers_of_all += offers.queues.len();
            let mut sum = 0;
            for (place, id, queue) in queues {
                let offer = queue.offer.expect("an offer that its queue does not know");
                assert_eq!((offer.connection, offer.place), (connection, place));
                assert_eq!(queue.waiting.startable(id), Some((connection, offer.startable)));
                sum += offer.startable;
            }
            assert_eq!(offers.startable, sum);
            assert_eq!(offers.place.is_some(), offers.startable_now(self.share) > 0);
            startable += offers.startable_now(self.share);
        }
        assert_eq!(self.startable, startable);
        offered += self.serial.iter().filter(|(_, queue)| queue.offer.is_some()).count();
        assert_eq!(offered, offers_of_all);
        let placed = self.connections.iter().filter(|(_, offers)| offers.place.is_some()).count();
        assert_eq!(self.ring.len(), placed);
        assert!(self.serial.iter().all(|(_, queue)| !queue.waiting.is_unused()), "a key is left behind");
        let waits_nothing = |offers: &Offers| offers.unkeyed.waiting.is_unused() && offers.keyed.is_empty();
        self.serial.is_empty() && self.connections.iter().all(|(_, offers)| waits_nothing(offers))
    }

    /// Slots that the handlers of this connection hold.
    pub(in crate::ordering) fn held(&self, connection: ConnectionId) -> usize {
        self.connections.get(connection.0).map_or(0, |offers| offers.held)
    }

    /// Slots for the queues of this connection's keys.
    #[cfg(test)]
    pub(in crate::ordering) fn keyed_slots(&self, connection: ConnectionId) -> usize {
        self.connections.get(connection.0).map_or(0, |offers| offers.keyed.capacity())
    }

    /// The number of connections and queues.
    #[cfg(test)]
    pub(in crate::ordering) fn kept(&self) -> usize {
        let keyed = self.connections.iter().map(|(_, offers)| offers.keyed.len()).sum::<usize>();
        self.connections.len() + keyed + self.serial.len()
    }
}
