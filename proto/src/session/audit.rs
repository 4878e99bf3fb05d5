//! What has to hold of a session's tables between any two calls; for the simulation.

use super::{ExchangeId, Session, Timer};

impl Session {
    /// # Panics
    /// If the tables contradict each other.
    pub(crate) fn audit(&self) {
        self.exchanges.audit();
        self.outbox.audit();
        for timer in self.timers.many() {
            let known = match timer {
                Timer::Call(call) => self.calls.contains(call),
                Timer::Execution(id) => self.requests.contains(id),
                Timer::Collect(id) => self.exchanges.contains(id),
                _ => false,
            };
            assert!(known, "{timer:?} is left behind");
        }
        for id in self.exchanges.ids() {
            let known = match id {
                ExchangeId::Ours(call) => self.calls.contains(call) || self.exchanges.is_over(id),
                ExchangeId::Theirs(request) => self.requests.contains(request) || self.exchanges.is_over(id),
            };
            assert!(known, "{id:?} is left behind");
        }
    }

    /// # Panics
    /// If anything is left though all is done.
    pub(crate) fn audit_idle(&self) {
        self.exchanges.audit_idle();
        assert!(self.leaving.is_empty() && self.outbox.is_empty() && self.timers.many().next().is_none());
    }
}
