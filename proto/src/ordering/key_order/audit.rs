//! Invariants of the scheduler's tables between any two calls.

use super::{ConnectionId, KeyOrder, OrderingMode, State};

impl KeyOrder {
    /// # Panics
    /// If the tables contradict each other, or retain anything of ended requests.
    #[doc(hidden)]
    pub fn audit(&self) {
        let (mut all, mut waiting, mut running, mut suspended, mut ordered) = (0, 0, 0, 0, 0);
        for (connection, account) in self.connections.iter() {
            let (mut open, mut queued, mut bytes, mut held) = (0, 0, 0, 0);
            for (_, request) in account.requests.iter() {
                all += 1;
                open += usize::from(!matches!(request.state, State::Abandoned { .. }));
                held += usize::from(matches!(request.state, State::Running { suspended: false, .. }));
                match request.state {
                    State::Waiting { queued: of, .. } => {
                        waiting += 1;
                        queued += usize::from(of.is_some());
                        bytes += of.unwrap_or(0);
                    }
                    State::Running { suspended: lent, .. } | State::Abandoned { suspended: lent } => {
                        running += 1;
                        suspended += usize::from(lent);
                    }
                    State::Finished => {}
                }
                let has_place = self.order_of(request.key).is_some();
                let is_unfinished = matches!(request.state, State::Waiting { .. } | State::Running { .. });
                ordered += usize::from(has_place && is_unfinished);
            }
            assert_eq!((account.open, account.queued, account.queued_bytes), (open, queued, bytes));
            assert_eq!(self.run.held(ConnectionId(connection)), held, "slots of {connection}");
        }
        assert_eq!(self.requests, all);
        assert_eq!((self.waiting, self.running, self.suspended), (waiting, running, suspended));
        // Not equal: finished requests that wait for an earlier one have a place, too.
        let places = self.release.audit();
        assert!(places >= ordered, "an unfinished request has no place");
        let run_queue_is_empty = self.run.audit();
        if self.requests == 0 {
            assert!(run_queue_is_empty && places == 0 && self.keys.len() == 0, "left behind: {self:?}");
        }
        if self.config.mode == OrderingMode::Unordered {
            assert_eq!(places, 0);
        }
    }
}
