//! What every kind of link does with its connection: carry out effects, keep the timer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use callosum_proto::{CloseCause, ConnectionId};

use crate::dispatch::Clock;
use crate::error::DisconnectCause;
use crate::event::Event;
use crate::peer::{Effect, Effects, PeerShared};
use crate::rt::{Runtime, Timer};
use crate::stats::add;

/// Connects one peer's connection to the dispatcher.
pub(crate) struct Pump {
    pub(crate) peer: Arc<PeerShared>,
    connection: ConnectionId,
    effects: Effects,
    established: bool,
    anomalies_reported: u32,
}

/// Events that one link may cause with what it gets wrong, lest it push other events out of the subscribers' buffers.
const MAX_ANOMALIES_REPORTED: u32 = 16;

impl Pump {
    pub(crate) fn new(peer: Arc<PeerShared>) -> Self {
        let connection = peer.lock().connection.id();
        peer.node.dispatcher.serve(connection, &peer);
        let effects = Effects::new(peer.clone());
        Self { peer, connection, effects, established: false, anomalies_reported: 0 }
    }

    /// Whether the handshake was ever complete.
    pub(crate) fn was_established(&self) -> bool {
        self.established
    }

    /// Takes everything the connection has to say, and does it; returns how many others were set to work by that.
    pub(crate) fn run(&mut self) -> usize {
        let mut set_to_work = 0;
        let mut clock = Clock::default();
        loop {
            let reports = {
                let mut state = self.peer.lock();
                state.take_effects(&mut self.effects);
                // What is left is for the endpoint, and stays where it is until the dispatcher is locked too.
                state.connection.has_events()
            };
            if self.effects.is_empty() && !reports {
                return set_to_work;
            }
            if reports {
                // A backlog is among the first of these, so that nothing that has just come starts.
                self.peer.node.dispatcher.relay(self.connection, &self.peer);
            }
            // Those behind one that panics stay with the pump.
            while let Some(effect) = self.effects.pop() {
                set_to_work += usize::from(match self.peer.settle(effect) {
                    Some(effect) => self.carry_out(effect, &mut clock),
                    None => true,
                });
            }
        }
    }

    /// Does what concerns others than callers; whether that set somebody to work.
    fn carry_out(&mut self, effect: Effect, clock: &mut Clock) -> bool {
        let node = &self.peer.node;
        match effect {
            Effect::Request(request) => {
                return node.dispatcher.run(node, &self.peer, request, Some(clock));
            }
            Effect::Stop(request) => node.dispatcher.stop(request),
            Effect::Established(ready, dialect) => {
                self.established = true;
                node.set_established(&self.peer, true);
                node.report(Event::Connected(self.peer.handle()));
                if dialect < node.config.connection.dialect {
                    add(&self.peer.counters.downgrades, 1);
                    node.report(Event::Downgraded { peer: self.peer.id, dialect });
                }
                for waiter in ready {
                    // It may have stopped waiting.
                    let _ = waiter.send(());
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
            Effect::Complete(..)
            | Effect::Ended { .. }
            | Effect::Wake(_)
            | Effect::Pong(..)
            | Effect::Drop(_) => {
                unreachable!("settled by the peer itself")
            }
        }
        false
    }

    /// Why the connection is over, if it is.
    pub(crate) fn connection_end(&self) -> Option<DisconnectCause> {
        let state = self.peer.lock();
        match state.connection.close_cause()? {
            CloseCause::Local => Some(state.local_cause()),
            cause => Some(DisconnectCause::Connection(cause)),
        }
    }

    /// Whether the endpoint is shutting down and the connection has nothing left to do.
    pub(crate) fn is_drained(&self) -> bool {
        if !self.peer.node.is_draining() {
            return false;
        }
        // The endpoint shuts down before it tells its connections, which have a goodbye to say then.
        let state = self.peer.lock();
        state.connection.is_draining() && state.connection.is_idle()
    }
}

/// A timer that is set again only when it must go off earlier than it would.
pub(crate) struct Alarm {
    timer: Pin<Box<dyn Timer>>,
    armed: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new(runtime: &dyn Runtime) -> Self {
        Self { timer: runtime.timer(Instant::now()), armed: None }
    }

    /// Sees to it that the task is woken by `next`; ready if it must look at its timeouts now.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, next: Option<Instant>) -> Poll<()> {
        let Some(next) = next else { return Poll::Pending };
        if self.armed.is_none_or(|armed| next < armed) {
            self.armed = Some(next);
            self.timer.as_mut().reset(next);
        }
        self.timer.as_mut().poll(cx).map(|()| self.armed = None)
    }
}
