//! The state that the links of one endpoint share: its peers, its shutdown, and the subscribers of its events.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crate::broadcast::Broadcast;
use crate::core::Core;
use crate::error::{DisconnectCause, Drained};
use crate::event::{Event, Events};
use crate::handlers::Handlers;
use crate::handshakes::Handshakes;
use crate::layer::HandlerLayers;
use crate::loan::Lender;
use crate::lock::{Mutex, MutexGuard};
use crate::peer::{CallLayers, Peer, PeerShared};
use crate::rate_limit::RateLimit;
use crate::turns::Turns;
use crate::waiters::Waiters;
use crate::{Endpoint, PeerId};

pub(crate) struct Node {
    pub(crate) core: Arc<Core>,
    pub(crate) handlers: Handlers,
    pub(crate) handler_layers: HandlerLayers,
    call_layers: CallLayers,
    events: Broadcast<Event>,
    /// Links whose handshake is not complete.
    pub(crate) handshakes: Handshakes,
    /// Of links over byte streams and of those that have one peer, and of listeners that have accepted many.
    pub(crate) turns: Arc<Turns>,
    refusals: RateLimit,
    accept_failures: RateLimit,
    lifecycle: Mutex<Lifecycle>,
    pub(crate) phase_changed: Waiters,
}

struct Lifecycle {
    phase: Phase,
    /// Every peer that has a link or waits for one.
    peers: BTreeMap<PeerId, Member>,
    /// Events that are still to be sent to subscribers.
    notices: VecDeque<Notice>,
    /// Somebody tells them, and goes on until there are none.
    is_telling: bool,
}

/// Notices that wait to be told; past that, the oldest are dropped, as events are that a subscriber leaves unread.
const MAX_NOTICES: usize = Broadcast::<Event>::CAPACITY;

impl Lifecycle {
    /// Returns the notice that had to make room, to be dropped without the lock: a peer in it may be the last handle of that.
    fn push(&mut self, notice: Notice) -> Option<Notice> {
        let pushed_out = (self.notices.len() >= MAX_NOTICES).then(|| self.notices.pop_front()).flatten();
        self.notices.push_back(notice);
        pushed_out
    }
}

enum Notice {
    Event(Event),
    /// Nothing follows.
    Over,
}

struct Member {
    peer: Arc<PeerShared>,
    established: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// Until this time.
    Draining(Instant),
    /// What is left is being ended: some calls have no outcome yet.
    Ending(Drained),
    /// Every call has its outcome: each peer was locked to end its calls, and under that lock those that had ended had got theirs.
    Over(Drained),
}

impl Node {
    pub(crate) fn new(
        core: Arc<Core>,
        handlers: Handlers,
        handler_layers: HandlerLayers,
        call_layers: CallLayers,
    ) -> Arc<Self> {
        Arc::new(Self {
            handshakes: Handshakes::new(core.config.max_handshakes),
            core,
            handlers,
            handler_layers,
            call_layers,
            events: Broadcast::default(),
            turns: Arc::default(),
            refusals: RateLimit::default(),
            accept_failures: RateLimit::default(),
            lifecycle: Mutex::new(Lifecycle {
                phase: Phase::Running,
                peers: BTreeMap::new(),
                notices: VecDeque::new(),
                is_telling: false,
            }),
            phase_changed: Waiters::default(),
        })
    }

    /// A handle of a peer, for the handler of this call if it is one's.
    pub(crate) fn handle(&self, peer: &Arc<PeerShared>, lender: Option<Lender>) -> Peer {
        Peer::new(peer.clone(), lender, self.call_layers.clone())
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lifecycle.lock().phase
    }

    /// Adds a peer; `false` if the endpoint accepts no more.
    pub(crate) fn admit(&self, peer: &Arc<PeerShared>) -> bool {
        let mut lifecycle = self.lifecycle.lock();
        if lifecycle.phase != Phase::Running {
            return false;
        }
        lifecycle.peers.insert(peer.id, Member { peer: peer.clone(), established: false });
        true
    }

    /// A peer has completed its handshake, which is reported unless the endpoint is over.
    pub(crate) fn connected(&self, peer: &Arc<PeerShared>) {
        let mut lifecycle = self.lifecycle.lock();
        let member = lifecycle.peers.get_mut(&peer.id);
        let is_new = member.is_some_and(|member| !std::mem::replace(&mut member.established, true));
        self.tell(lifecycle, is_new.then(|| Event::Connected(self.handle(peer, None))));
    }

    /// A connector's peer has lost its link, which is reported if the link was.
    pub(crate) fn lost_link(&self, peer: PeerId, cause: DisconnectCause) {
        let mut lifecycle = self.lifecycle.lock();
        let member = lifecycle.peers.get_mut(&peer);
        let was_connected = member.is_some_and(|member| std::mem::take(&mut member.established));
        self.tell(lifecycle, was_connected.then_some(Event::Disconnected { peer, cause }));
    }

    /// Removes a peer whose calls have ended, and reports its end if it was reported as connected. Idempotent.
    pub(crate) fn expel(&self, peer: PeerId, cause: DisconnectCause) {
        let mut lifecycle = self.lifecycle.lock();
        let member = lifecycle.peers.remove(&peer);
        let was_connected = member.as_ref().is_some_and(|member| member.established);
        self.tell(lifecycle, was_connected.then_some(Event::Disconnected { peer, cause }));
        drop(member);
    }

    /// The peers whose handshake is complete.
    pub(crate) fn peers(&self) -> Vec<Arc<PeerShared>> {
        let lifecycle = self.lifecycle.lock();
        lifecycle
            .peers
            .values()
            .filter(|member| member.established)
            .map(|member| member.peer.clone())
            .collect()
    }

    pub(crate) fn peer(&self, id: PeerId) -> Option<Arc<PeerShared>> {
        let lifecycle = self.lifecycle.lock();
        lifecycle.peers.get(&id).filter(|member| member.established).map(|member| member.peer.clone())
    }

    /// The peer of this id, also during its handshake.
    pub(crate) fn anyone(&self, id: PeerId) -> Option<Arc<PeerShared>> {
        self.lifecycle.lock().peers.get(&id).map(|member| member.peer.clone())
    }

    pub(crate) fn everyone(&self) -> Vec<Arc<PeerShared>> {
        self.lifecycle.lock().peers.values().map(|member| member.peer.clone()).collect()
    }

    /// No new calls from now on; at `deadline`, what is left is ended.
    pub(crate) fn drain(&self, deadline: Instant) {
        {
            let mut lifecycle = self.lifecycle.lock();
            lifecycle.phase = match lifecycle.phase {
                Phase::Running => Phase::Draining(deadline),
                Phase::Draining(earlier) => Phase::Draining(earlier.min(deadline)),
                Phase::Ending(_) | Phase::Over(_) => return,
            };
            self.core.set_draining();
        }
        for peer in self.everyone() {
            peer.lock().connection.drain();
            peer.wake();
        }
        self.phase_changed.wake_all();
    }

    /// Cuts what is left. Every call ends.
    pub(crate) fn finish(&self, drained: Drained) {
        {
            let mut lifecycle = self.lifecycle.lock();
            if let Phase::Ending(_) | Phase::Over(_) = lifecycle.phase {
                return;
            }
            lifecycle.phase = Phase::Ending(drained);
            self.core.set_draining();
        }
        let layered = self.core.tasks.abort_all();
        // First, or waiting requests would be started while the peers are detached, perhaps without an executor.
        self.core.dispatcher.close();
        for peer in self.everyone() {
            peer.detach(&DisconnectCause::Shutdown, false);
            self.expel(peer.id, DisconnectCause::Shutdown);
        }
        // Layers can't make a call any more, so those that are not made never are.
        layered.iter().for_each(|streams| streams.end_unmade());
        // Last, because `shutdown` returns from now on.
        self.lifecycle.lock().phase = Phase::Over(drained);
        self.phase_changed.wake_all();
        let mut lifecycle = self.lifecycle.lock();
        lifecycle.notices.push_back(Notice::Over);
        self.tell(lifecycle, None);
        self.handlers.clear();
    }

    /// Waits until every call has its outcome, because the driver is over.
    pub(crate) async fn wait_until_over(&self) -> Drained {
        loop {
            let changed = self.phase_changed.listen();
            if let Phase::Over(drained) = self.phase() {
                return drained;
            }
            changed.await;
        }
    }

    /// Waits until the phase is no longer `Running`.
    pub(crate) async fn wait_until_draining(&self) {
        loop {
            let changed = self.phase_changed.listen();
            if self.core.is_draining() {
                return;
            }
            changed.await;
        }
    }

    /// A connection was not accepted, or ended before its handshake was complete.
    pub(crate) fn report_refusal(&self, address: String, cause: DisconnectCause) {
        let reported = self.refusals.take(self.core.now());
        match reported {
            Some(unreported) => self.report(Event::Refused { address, cause, unreported }),
            None => tracing::debug!(address, %cause, "connection refused"),
        }
    }

    /// The system did not let a listener accept.
    pub(crate) fn report_accept_failure(&self, endpoint: Endpoint, error: io::Error) {
        let reported = self.accept_failures.take(self.core.now());
        match reported {
            Some(unreported) => {
                self.report(Event::AcceptFailed { endpoint, error: Arc::new(error), unreported })
            }
            None => tracing::debug!(%endpoint, %error, "can't accept"),
        }
    }

    /// The events from now on.
    pub(crate) fn events(&self) -> Events {
        Events(self.events.subscribe())
    }

    /// Sends an event to the subscribers, after those that are still to be sent.
    pub(crate) fn report(&self, event: Event) {
        self.tell(self.lifecycle.lock(), Some(event));
    }

    /// Tells the subscribers what they have still to be told and then this, one thing after the other and without the lock: the tasks that
    /// it wakes, and a subscriber of `tracing`, may come back here.
    fn tell(&self, mut lifecycle: MutexGuard<'_, Lifecycle>, event: Option<Event>) {
        let _pushed_out = event.and_then(|event| lifecycle.push(Notice::Event(event)));
        let is_telling = std::mem::replace(&mut lifecycle.is_telling, true);
        drop(lifecycle);
        if is_telling {
            return;
        }
        while let Some(notice) = self.next_notice() {
            // A subscriber may panic, also at another link's notice: it must end no link.
            let _ = catch_unwind(AssertUnwindSafe(|| match notice {
                Notice::Event(event) => {
                    trace(&event);
                    self.events.send(event);
                }
                Notice::Over => self.events.close(),
            }));
        }
    }

    fn next_notice(&self) -> Option<Notice> {
        let mut lifecycle = self.lifecycle.lock();
        let notice = lifecycle.notices.pop_front();
        lifecycle.is_telling = notice.is_some();
        notice
    }
}

fn trace(event: &Event) {
    match event {
        Event::Connected(peer) => {
            let info = peer.info();
            let user = info.identity.as_ref().map(|identity| &*identity.user_id);
            tracing::info!(peer = %peer.id(), address = info.address, user, "peer connected");
        }
        Event::Disconnected { peer, cause } => tracing::info!(%peer, %cause, "peer disconnected"),
        Event::Reconnecting { cause, after } => {
            tracing::info!(%cause, after_ms = after.as_millis() as u64, "connecting again");
        }
        Event::Refused { address, cause, unreported } => {
            tracing::warn!(address, %cause, unreported, "connection refused");
        }
        Event::AcceptFailed { endpoint, error, unreported } => {
            tracing::warn!(%endpoint, %error, unreported, "can't accept");
        }
        Event::Downgraded { peer, dialect } => {
            tracing::info!(%peer, dialect = dialect.number(), "peer speaks a lower dialect");
        }
        Event::Draining { peer } => tracing::info!(%peer, "peer takes no new calls"),
        Event::Anomaly { peer, anomaly } => tracing::debug!(%peer, %anomaly, "message dropped"),
    }
}
