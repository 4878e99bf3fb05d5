//! The state that all connections of a tunnel share, on either side: their registry, events, totals, and the end of
//! all.
//!
//! The idea: a connection is a [`Guard`]; dropping it ends the connection, which is then counted and reported once,
//! whatever the cause.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use callosum_runtime::Drained;
use callosum_runtime::rt::{Broadcast, RateLimit, Runtime, Waiters};
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tracing::Span;
use tracing::field::Empty;

use crate::connection::{ConnectionInfo, ConnectionState, Side};
use crate::events::{Summary, TunnelEvent, TunnelEvents};
use crate::live::{Live, Outcome};
use crate::stop::Stop;
use crate::time::within;
use crate::totals::Table;
use crate::{End, Reason, Target, measure};

/// The state that all connections share.
pub(crate) struct Hub {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) events: Arc<Broadcast<TunnelEvent>>,
    /// Of clients that have named no target.
    pub(crate) failed_handshakes: RateLimit,
    pub(crate) totals: Table,
    registry: Mutex<Registry>,
    phase_changed: Waiters,
    none_left: Waiters,
}

#[derive(Default)]
struct Registry {
    phase: Phase,
    next: u64,
    live: BTreeMap<u64, Arc<Live>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Running,
    /// No new connections.
    Draining,
    /// None at all.
    Over,
}

/// The description of a new connection, without the parts that the hub adds.
pub(crate) struct Wanted {
    pub(crate) side: Side,
    pub(crate) user: Option<String>,
    pub(crate) forward: Arc<str>,
    pub(crate) target: Option<Target>,
    pub(crate) source: Option<std::net::SocketAddr>,
}

/// A connection that is counted until this is dropped.
pub(crate) struct Guard {
    hub: Arc<Hub>,
    pub(crate) live: Arc<Live>,
    pub(crate) span: Span,
    outcome: Outcome,
}

impl Hub {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            events: Arc::default(),
            failed_handshakes: RateLimit::default(),
            totals: Table::default(),
            registry: Mutex::default(),
            phase_changed: Waiters::default(),
            none_left: Waiters::default(),
        })
    }

    /// Registers a connection, which `stop` ends.
    ///
    /// # Errors
    /// If the hub is draining.
    pub(crate) fn begin(self: &Arc<Self>, wanted: Wanted, stop: Arc<Stop>) -> Result<Guard, Reason> {
        let Wanted { side, user, forward, target, source } = wanted;
        let totals = self.totals.of(user.as_deref(), &forward);
        // The recorder is the application's, so it is called without a lock.
        let measured = measure::Bytes::of(side, &totals);
        let mut registry = self.registry.lock();
        if registry.phase != Phase::Running {
            return Err(Reason::ShuttingDown);
        }
        let id = registry.next;
        registry.next += 1;
        let info = ConnectionInfo { id, side, user, forward, target, source, since: self.runtime.now() };
        let live = Arc::new(Live::new(info, totals, stop, self.events.clone(), measured));
        registry.live.insert(id, live.clone());
        drop(registry);
        measure::begin(side, &live.totals);
        Ok(Guard { hub: self.clone(), span: span(&live.info), live, outcome: Ok(End::Dropped) })
    }

    /// The events from now on.
    pub(crate) fn subscribe(&self) -> TunnelEvents {
        TunnelEvents(self.events.subscribe())
    }

    /// All that live, in the order in which they began.
    pub(crate) fn states(&self) -> Vec<ConnectionState> {
        self.registry.lock().live.values().map(|live| live.state()).collect()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.registry.lock().phase != Phase::Running
    }

    fn advance(&self, to: Phase) {
        let mut registry = self.registry.lock();
        registry.phase = registry.phase.max(to);
        drop(registry);
        self.phase_changed.wake_all();
    }

    /// Ends all connections at their next poll, for this reason.
    fn stop_all(&self, why: End) {
        let live: Vec<_> = self.registry.lock().live.values().cloned().collect();
        live.iter().for_each(|live| live.stop.stop(why));
    }

    /// Refuses new connections, and gives the open ones so long to end.
    pub(crate) async fn drain(&self, deadline: Duration) -> Drained {
        self.advance(Phase::Draining);
        let drained = match within(&*self.runtime, deadline, self.until_none_left()).await {
            Some(()) => Drained::Completely,
            None => {
                self.stop_all(End::ShutDown);
                self.until_none_left().await;
                Drained::DeadlinePassed
            }
        };
        self.advance(Phase::Over);
        self.events.close();
        drained
    }

    /// Ends everything.
    pub(crate) fn close(&self) {
        self.advance(Phase::Over);
        self.stop_all(End::Dropped);
        self.events.close();
    }

    async fn until_none_left(&self) {
        loop {
            let none_left = self.none_left.listen();
            if self.registry.lock().live.is_empty() {
                return;
            }
            none_left.await;
        }
    }

    pub(crate) async fn until_draining(&self) {
        self.until(Phase::Draining).await;
    }

    pub(crate) async fn until_over(&self) {
        self.until(Phase::Over).await;
    }

    /// The output of `future`, or `None` if the hub is closed before.
    pub(crate) async fn unless_over<F: Future>(&self, future: F) -> Option<F::Output> {
        self.before(Phase::Over, future).await
    }

    /// The output of `future`, or `None` if the hub begins to drain before.
    pub(crate) async fn unless_draining<F: Future>(&self, future: F) -> Option<F::Output> {
        self.before(Phase::Draining, future).await
    }

    async fn before<F: Future>(&self, phase: Phase, future: F) -> Option<F::Output> {
        match select(pin!(self.until(phase)), pin!(future)).await {
            Either::Left(_) => None,
            Either::Right((output, _)) => Some(output),
        }
    }

    async fn until(&self, phase: Phase) {
        loop {
            let changed = self.phase_changed.listen();
            if self.registry.lock().phase >= phase {
                return;
            }
            changed.await;
        }
    }
}

impl Guard {
    pub(crate) fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.hub.runtime
    }

    /// Refuses it if there are more than so many with it.
    pub(crate) fn unless_full(mut self, max: usize) -> Result<Self, Reason> {
        if self.hub.registry.lock().live.len() > max {
            self.outcome = Err(Reason::Busy);
            return Err(Reason::Busy);
        }
        Ok(self)
    }

    /// Sets the outcome, which is reported when this is dropped.
    pub(crate) fn set(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let live = &self.live;
        let duration = self.hub.runtime.now().saturating_duration_since(live.info.since);
        let [to_target, from_target] = live.moved();
        let outcome = match self.outcome {
            // Ended from outside before the other side had answered.
            Ok(_) if !live.is_open() => Err(Reason::Failed),
            outcome => outcome,
        };
        self.span.record("to_target", to_target).record("from_target", from_target);
        self.span.record("duration", tracing::field::debug(duration));
        let connection = live.info.clone();
        let event = match outcome {
            Ok(end) => {
                live.totals.end();
                self.span.record("end", tracing::field::display(end));
                tracing::info!(parent: &self.span, "connection closed");
                TunnelEvent::Closed(Summary { connection, to_target, from_target, duration, end })
            }
            Err(reason) => {
                live.totals.refuse();
                self.span.record("end", tracing::field::display(reason));
                tracing::info!(parent: &self.span, "connection refused");
                TunnelEvent::Refused { connection, reason }
            }
        };
        measure::end(live.info.side, &live.totals, outcome, duration);
        self.hub.events.send(event);
        let mut registry = self.hub.registry.lock();
        registry.live.remove(&live.info.id);
        let is_last = registry.live.is_empty();
        drop(registry);
        if is_last {
            self.hub.none_left.wake_all();
        }
    }
}

fn span(info: &ConnectionInfo) -> Span {
    tracing::info_span!(
        "tunnel",
        id = info.id,
        side = ?info.side,
        user = info.user.as_deref(),
        forward = &*info.forward,
        target = info.target.as_ref().map(tracing::field::display),
        source = info.source.as_ref().map(tracing::field::display),
        to_target = Empty,
        from_target = Empty,
        duration = Empty,
        end = Empty,
    )
}
