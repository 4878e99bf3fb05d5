//! Invariants of an endpoint's tables between any two calls.

use super::Endpoint;
use super::request::{Phase, Request};

impl Endpoint {
    /// # Panics
    /// If the tables contradict each other, or retain anything of ended requests.
    #[doc(hidden)]
    pub fn audit(&self) {
        let (mut open, mut requests, mut running, mut waiting) = (0, 0, 0, 0);
        for (connection, peer) in self.peers.iter() {
            open += usize::from(peer.is_open());
            requests += peer.requests.len();
            let (mut held, before) = (0, (waiting, running));
            for (_, request) in peer.requests.iter() {
                match request {
                    Request::Waiting => waiting += 1,
                    Request::Running(_) => running += 1,
                    Request::Finished(_) => {}
                    Request::Held { bytes, .. } => held += bytes,
                }
            }
            assert_eq!(peer.held_bytes, held, "{connection}");
            assert_eq!(
                (peer.waiting, peer.running),
                (waiting - before.0, running - before.1),
                "{connection}"
            );
            if peer.phase == Phase::Closed {
                let runs = |request: &Request| matches!(request, Request::Running(_));
                assert!(
                    !peer.requests.is_empty() && peer.requests.iter().all(|(_, request)| runs(request)),
                    "{connection}"
                );
            }
        }
        assert_eq!((self.open, self.requests), (open, requests));
        assert_eq!((self.running(), self.waiting()), (running, waiting));
        self.reassembly.audit();
    }

    /// Whether only open connections are left.
    #[doc(hidden)]
    pub fn audit_empty(&self) -> bool {
        let nothing_waits = self.events.is_empty() && self.finished.is_empty() && self.reassembly.is_empty();
        self.is_idle() && self.scheduler.is_idle() && nothing_waits
    }
}
