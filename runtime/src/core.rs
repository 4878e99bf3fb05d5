//! The parts of an endpoint that calls, peers and links use: its clock, configuration, dispatcher and counters.
//!
//! Knows neither peers nor handlers, which [`Node`](crate::node::Node) adds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::PeerId;
use crate::config::Config;
use crate::dispatch::Dispatcher;
use crate::rt::Runtime;
use crate::stats::{Stats, Totals};
use crate::tasks::Tasks;

pub(crate) struct Core {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) config: Config,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) totals: Totals,
    pub(crate) tasks: Arc<Tasks>,
    next_peer: AtomicU64,
    /// For links that look at every poll.
    is_draining: AtomicBool,
}

impl Core {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, config: Config, dispatcher: Dispatcher) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            config,
            dispatcher,
            totals: Totals::default(),
            tasks: Arc::default(),
            next_peer: AtomicU64::new(1),
            is_draining: AtomicBool::new(false),
        })
    }

    /// The time, on the runtime's clock.
    pub(crate) fn now(&self) -> Instant {
        self.runtime.now()
    }

    /// Random bytes, from the runtime's source.
    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.runtime.fill_random(&mut bytes);
        bytes
    }

    pub(crate) fn next_peer_id(&self) -> PeerId {
        PeerId(self.next_peer.fetch_add(1, Ordering::Relaxed))
    }

    /// Totals of all peers.
    pub(crate) fn stats(&self) -> Stats {
        let (waiting, running) = self.dispatcher.total_load();
        self.totals.snapshot(waiting, running)
    }

    /// Whether the endpoint drains, or is over.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    pub(crate) fn set_draining(&self) {
        self.is_draining.store(true, Ordering::Release);
    }
}
