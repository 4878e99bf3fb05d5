//! The part of driving a connection that all kinds of links share: effects and the timer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use callosum_proto::{ConnectionId, Request};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::batch::SetToWork;
use crate::dispatch::{Decisions, Handling, Relayed};
use crate::event::Event;
use crate::node::Node;
use crate::pace::Spent;
use crate::peer::{Effect, PeerShared, Unsettled};
use crate::rt::{Runtime, Timer, until};
use crate::serve;
use crate::stats::add;
use crate::waiters;

/// Connects one peer's connection to the dispatcher.
pub(crate) struct Pump {
    node: Arc<Node>,
    pub(crate) peer: Arc<PeerShared>,
    connection: ConnectionId,
    handling: Arc<Handling>,
    effects: Unsettled,
    /// Decisions of the endpoint that are not passed to the connection yet; empty between two calls, as is `relayed`.
    decisions: Decisions,
    relayed: Relayed,
    established: bool,
    anomalies_reported: u32,
    /// Present once the connection has drained.
    receipt: Option<Receipt>,
}

/// Events that one link may cause with what it gets wrong, so that it pushes no other events out of the subscribers' buffers.
const MAX_ANOMALIES_REPORTED: u32 = 16;

impl Pump {
    pub(crate) fn new(node: Arc<Node>, peer: Arc<PeerShared>) -> Self {
        let connection = peer.lock().connection.id();
        let handling = node.core.dispatcher.serve(connection, &peer.inbox, &peer.counters);
        let effects = Unsettled::new(peer.clone());
        Self {
            node,
            peer,
            connection,
            handling,
            effects,
            decisions: Decisions::new(),
            relayed: Relayed::default(),
            established: false,
            anomalies_reported: 0,
            receipt: None,
        }
    }

    /// Whether the handshake was ever complete.
    pub(crate) fn was_established(&self) -> bool {
        self.established
    }

    /// Gives the connection what the endpoint has decided, takes everything it has to say, and does it; returns how many others were
    /// set to work by that.
    pub(crate) fn run(&mut self) -> SetToWork {
        let mut set_to_work = SetToWork::default();
        let mut spent = Spent::default();
        // Once: an event that is added later wakes this task again.
        self.peer.inbox.take(&mut self.decisions);
        loop {
            // Replies of handlers go to the endpoint first: until its answer the connection has nothing new to say.
            if self.relayed.finished.is_empty() {
                let mut state = self.peer.lock();
                self.peer.take_decisions(&mut state, &mut self.decisions, &mut self.effects);
                state.take_effects(&mut self.effects);
                while let Some(report) = state.connection.poll_endpoint_event() {
                    self.relayed.reports.push_back(report);
                }
            }
            if self.effects.is_empty() && self.relayed.is_empty() {
                return set_to_work;
            }
            if !self.relayed.is_empty() {
                // Relay first: a stopped handler may end at once, and the reply that was reported earlier has to win.
                self.relay();
            }
            spent.pause();
            // If one panics, the effects behind it stay with the pump.
            while let Some(effect) = self.effects.pop() {
                if let Effect::Request(request) = effect {
                    set_to_work.calls += usize::from(self.start(request, &mut spent));
                    continue;
                }
                spent.pause();
                let group = match effect {
                    Effect::Wake(_) => &mut set_to_work.streams,
                    _ => &mut set_to_work.calls,
                };
                // A caller whose waker panics must not end the link of all.
                let has_woken = waiters::caught(|| match self.peer.settle(effect) {
                    Some(effect) => self.carry_out(effect),
                    None => true,
                });
                *group += usize::from(has_woken.unwrap_or(true));
            }
        }
    }

    fn relay(&mut self) {
        let Self { peer, relayed, decisions, .. } = self;
        peer.core.dispatcher.relay(self.connection, &peer.inbox, relayed, decisions);
    }

    /// Runs a handler; whether it goes on as a task.
    fn start(&mut self, request: Request, spent: &mut Spent) -> bool {
        let ended = serve::run(&self.node, &self.peer, &self.handling, request, spent);
        let goes_on = ended.is_none();
        if let Some(ended) = ended {
            self.relayed.finished.push_back(ended);
        }
        goes_on
    }

    /// Releases spare memory, after a time with little or no traffic.
    pub(crate) fn shrink(&mut self) {
        self.effects.shrink();
        self.decisions = Decisions::new();
        if self.relayed.is_empty() {
            self.relayed = Relayed::default();
        }
        self.peer.inbox.shrink();
    }

    /// Carries out an effect that does not complete a call. Returns whether it started a handler or woke a task.
    fn carry_out(&mut self, effect: Effect) -> bool {
        let node = &self.node;
        match effect {
            Effect::NeverRan(request) => self.relayed.finished.push_back((request, None)),
            Effect::Stop(request, reason) => self.handling.stop(request, reason),
            Effect::Established(ready, dialect) => {
                self.established = true;
                node.connected(&self.peer);
                if dialect < node.core.config.connection.dialect {
                    add(&self.peer.counters.downgrades, 1);
                    node.report(Event::Downgraded { peer: self.peer.id, dialect });
                }
                for waiter in ready {
                    // The receiver may be gone.
                    waiters::caught(|| _ = waiter.send(()));
                }
            }
            Effect::Anomaly(anomaly) => {
                add(&self.peer.counters.anomalies, 1);
                if self.anomalies_reported < MAX_ANOMALIES_REPORTED {
                    self.anomalies_reported += 1;
                    node.report(Event::Anomaly { peer: self.peer.id, anomaly });
                }
            }
            Effect::Goodbye => node.report(Event::Draining { peer: self.peer.id }),
            Effect::Ended(_)
            | Effect::Wake(_)
            | Effect::Pong(..)
            | Effect::MayReply(_)
            | Effect::Altered(_)
            | Effect::Drop(_) => {
                unreachable!("settled by the peer itself")
            }
            Effect::Request(_) => unreachable!("requests are run by the caller of this function"),
        }
        false
    }

    /// Ready once the endpoint is shutting down, the connection has nothing left to do, and the peer has received all replies and
    /// streams: what a link has taken may be lost when it is dropped. A peer that has not acknowledged them is waited for until the
    /// grace period is over, any other for `otherwise`. To be polled again when something has come from the peer.
    pub(crate) fn poll_drained(&mut self, cx: &mut Context<'_>, otherwise: Duration) -> Poll<()> {
        while self.is_drained() {
            let (is_established, is_acknowledged) = {
                let state = self.peer.lock();
                (state.connection.is_established(), state.connection.is_acknowledged())
            };
            let receipt = match (&mut self.receipt, is_acknowledged) {
                _ if !is_established => return Poll::Ready(()),
                (None, true) if otherwise.is_zero() => return Poll::Ready(()),
                // By the heartbeat, perhaps, while the probe was under way.
                (Some(Receipt::Needed(_)), true) => return Poll::Ready(()),
                (None, true) => {
                    let by = self.peer.core.now() + otherwise;
                    self.receipt.insert(Receipt::Courtesy(acknowledged(self.peer.clone(), Some(by)).boxed()))
                }
                (Some(receipt @ Receipt::Needed(_)), false)
                | (Some(receipt @ Receipt::Courtesy(_)), true) => receipt,
                // A call that came meanwhile has been refused.
                (None | Some(Receipt::Courtesy(_)), false) => {
                    self.receipt.insert(Receipt::Needed(acknowledged(self.peer.clone(), None).boxed()))
                }
            };
            let (Receipt::Needed(answered) | Receipt::Courtesy(answered)) = receipt;
            match ready!(answered.poll_unpin(cx)) {
                // It may have refused another call since the probe.
                true if !self.peer.lock().connection.is_acknowledged() => self.receipt = None,
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Whether the endpoint is shutting down and the connection has nothing left to do.
    pub(crate) fn is_drained(&self) -> bool {
        if !self.peer.core.is_draining() {
            return false;
        }
        // The endpoint's state changes before its connections get the drain, which makes each send a goodbye.
        let state = self.peer.lock();
        state.connection.is_draining() && state.connection.is_idle()
    }
}

/// What a connection that has drained waits for.
enum Receipt {
    /// The peer has to acknowledge what it must not lose.
    Needed(BoxFuture<'static, bool>),
    /// It has, and may have the rest.
    Courtesy(BoxFuture<'static, bool>),
}

/// Waits until the peer has received what was sent so far, which its answer to a probe shows. False if it won't: the connection is over.
async fn acknowledged(peer: Arc<PeerShared>, by: Option<Instant>) -> bool {
    let answered = peer.probe(usize::MAX);
    match by {
        None => answered.await.is_ok(),
        Some(at) => !matches!(until(&*peer.core.runtime, at, answered).await, Some(Err(_))),
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // Effects are left only if code of the application has panicked.
        if !self.relayed.is_empty() && catch_unwind(AssertUnwindSafe(|| self.relay())).is_err() {
            tracing::error!(peer = %self.peer.id, "what the end of a link has woken panicked");
        }
        self.peer.inbox.put_back(&mut self.decisions);
    }
}

/// A timer that is set again only when it must go off earlier than it would.
pub(crate) struct Alarm {
    timer: Pin<Box<dyn Timer>>,
    armed: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new(runtime: &dyn Runtime) -> Self {
        Self { timer: runtime.timer(runtime.now()), armed: None }
    }

    /// Sees to it that the task is woken by `next`; ready if it must look at its timeouts now.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        next: Option<Instant>,
        now: impl FnOnce() -> Instant,
    ) -> Poll<()> {
        let Some(next) = next else { return Poll::Pending };
        if self.armed.is_none_or(|armed| next < armed) {
            if next <= now() {
                // Otherwise the executor would be woken for a timer that has fired already.
                return Poll::Ready(());
            }
            self.armed = Some(next);
            self.timer.as_mut().reset(next);
        }
        self.timer.as_mut().poll(cx).map(|()| self.armed = None)
    }
}
