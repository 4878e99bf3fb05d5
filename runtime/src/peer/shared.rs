//! A remote peer as all of its handles share it: its connection, and the calls that wait on it.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use callosum_proto::{
    Call, CallId, CloseCause, Connection, ConnectionConfig, ConnectionEvent, ConnectionId, ErrorInfo,
    InvokeError, Replied, Reply, Request, RequestId, Role,
};
use rustc_hash::FxHashMap;

use super::effects::{Effect, Effects};
use super::info::PeerInfo;
use super::state::PeerState;
use crate::PeerId;
use crate::cancel::CancelReason;
use crate::config::WhileDisconnected;
use crate::core::Core;
use crate::dispatch::{Decisions, Inbox};
use crate::error::{CallError, DisconnectCause, NotSent};
use crate::lock::{Mutex, MutexGuard, assert_unlocked};
use crate::stats::{Counters, add};

pub(crate) struct PeerShared {
    pub(crate) id: PeerId,
    pub(crate) core: Arc<Core>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) inbox: Arc<Inbox>,
    role: Role,
    config: Arc<ConnectionConfig>,
    state: Mutex<PeerState>,
}

/// The effects of a peer's connection that have still to be carried out.
///
/// Those that are left when this is dropped, because a user's waker, executor or scheduler panicked, are settled as far as other tasks
/// are concerned, and the slots of requests that no handler has seen are freed.
pub(crate) struct Unsettled {
    peer: Arc<PeerShared>,
    effects: Effects,
}

impl Unsettled {
    pub(crate) fn new(peer: Arc<PeerShared>) -> Self {
        Self { peer, effects: Effects::default() }
    }
}

impl Deref for Unsettled {
    type Target = Effects;

    fn deref(&self) -> &Effects {
        &self.effects
    }
}

impl DerefMut for Unsettled {
    fn deref_mut(&mut self) -> &mut Effects {
        &mut self.effects
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        while let Some(effect) = self.effects.pop() {
            let peer = &self.peer;
            let settled = catch_unwind(AssertUnwindSafe(|| {
                if let Some(Effect::Request(Request { id: request, .. }) | Effect::NeverRan(request)) =
                    peer.settle(effect)
                {
                    // The engine counts it as started, but its handler never ran.
                    peer.core.dispatcher.finish(request, None);
                }
            }));
            if settled.is_err() {
                tracing::error!(peer = %peer.id, "what a connection's end has woken panicked");
            }
        }
    }
}

impl Drop for PeerShared {
    fn drop(&mut self) {
        let connection = self.state.get_mut().connection.id();
        self.forget(connection, CancelReason::Disconnected);
        self.core.totals.end(self.id);
    }
}

impl PeerShared {
    /// A peer over a byte stream, which has heartbeats of its own.
    pub(crate) fn new(core: &Arc<Core>, role: Role) -> Arc<Self> {
        Self::with_config(core, role, core.config.connection.clone())
    }

    /// A peer over a message link.
    pub(crate) fn over_messages(core: &Arc<Core>, role: Role) -> Arc<Self> {
        Self::with_config(core, role, core.config.message_connection.clone())
    }

    fn with_config(core: &Arc<Core>, role: Role, config: Arc<ConnectionConfig>) -> Arc<Self> {
        let (id, connection) = (core.next_peer_id(), core.dispatcher.open());
        let counters = core.totals.begin(id);
        Arc::new(Self {
            id,
            core: core.clone(),
            counters: counters.clone(),
            inbox: Arc::default(),
            role,
            state: Mutex::new(PeerState {
                connection: new_connection(core, &config, connection, role, CallId::FIRST),
                counters,
                linked: false,
                info: PeerInfo::default(),
                cause: None,
                cut: None,
                over: false,
                waiting: FxHashMap::default(),
                streams: FxHashMap::default(),
                reply_waiters: FxHashMap::default(),
                reply_metadata: FxHashMap::default(),
                pings: FxHashMap::default(),
                ready: Vec::new(),
            }),
            config,
        })
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Never call into the dispatcher while this is held: others would wait for both.
    pub(crate) fn lock(&self) -> MutexGuard<'_, PeerState> {
        self.state.lock()
    }

    /// Wakes what drives the link.
    pub(crate) fn wake(&self) {
        self.inbox.wake();
    }

    /// None of its requests starts from now on: its link has ended, and a handler would have a slot for nothing until it is
    /// [detached](Self::detach).
    pub(crate) fn start_no_more(&self) {
        let connection = self.lock().connection.id();
        self.core.dispatcher.start_no_more(connection);
    }

    /// The link is gone: its calls end, its requests are forgotten. For a connector, a new connection takes over, unless the endpoint is
    /// done; calls that wait for a link go on waiting if this never was one.
    pub(crate) fn detach(self: &Arc<Self>, cause: &DisconnectCause, renew: bool) {
        let mut effects = Unsettled::new(self.clone());
        // Get the id before the peer is locked: its lock and the dispatcher's are never held together.
        let next = renew.then(|| self.core.dispatcher.open());
        let over = {
            let mut state = self.lock();
            match state.over {
                true => None,
                false => Some(self.close_or_wait(&mut state, cause, next, &mut effects)),
            }
        };
        match over {
            Some(Some(over)) => {
                // The end of the endpoint is also that of its links, some of which are dropped before it has told its handlers.
                let why = match cause {
                    DisconnectCause::Shutdown => CancelReason::Shutdown,
                    _ => CancelReason::Disconnected,
                };
                self.forget(over, why);
            }
            // The new id is not needed.
            None | Some(None) => next
                .into_iter()
                .for_each(|next| self.core.dispatcher.forget(next, CancelReason::Disconnected)),
        }
        // Callers are woken, and requests whose handlers never ran release their slots.
        drop(effects);
    }

    /// A connection is over.
    fn forget(&self, connection: ConnectionId, why: CancelReason) {
        self.core.dispatcher.forget(connection, why);
        // The endpoint adds no more effects for it, and the driver that would take the queued ones has ended.
        let mut left = Vec::new();
        self.inbox.take(&mut left);
        for (_, event) in left {
            match event {
                ConnectionEvent::Start(request) => self.core.dispatcher.finish(request, None),
                ConnectionEvent::Reply { .. } | ConnectionEvent::Refuse { .. } => {
                    add(&self.counters.requests_failed, 1);
                }
                _ => {}
            }
        }
    }

    /// Returns the connection that is over; `None` if it waits for another link.
    fn close_or_wait(
        &self,
        state: &mut PeerState,
        cause: &DisconnectCause,
        next: Option<ConnectionId>,
        effects: &mut Effects,
    ) -> Option<ConnectionId> {
        state.linked = false;
        state.over = next.is_none();
        // There may be an error of the application's in it.
        effects.drop_later(state.cause.replace(cause.clone()));
        let refused = cause.is_authentication_failure();
        let waits = next.is_some()
            && !refused
            && self.core.config.while_disconnected == WhileDisconnected::Wait
            && state.connection.handle_disconnected(self.core.random());
        if !waits {
            state.connection.close(cause.close_cause());
        }
        state.take_effects(effects);
        if !waits {
            state.end_streams(cause, self.core.now(), effects);
        }
        effects.drop_later(state.cut.take());
        effects.drop_later(Some(std::mem::take(&mut state.pings)));
        if refused || next.is_none() {
            // `ready` returns why there is no link. The next attempt may succeed.
            effects.drop_later(Some(std::mem::take(&mut state.ready)));
        }
        if waits {
            return None;
        }
        let over = state.connection.id();
        if let Some(next) = next {
            state.connection =
                new_connection(&self.core, &self.config, next, self.role, state.connection.next_call());
            if self.core.is_draining() {
                state.connection.drain();
            }
        }
        Some(over)
    }

    /// Does what concerns only callers; gives back what concerns the dispatcher or the driver.
    pub(crate) fn settle(&self, effect: Effect) -> Option<Effect> {
        assert_unlocked();
        match effect {
            Effect::Ended(waker) | Effect::Wake(waker) => {
                waker.wake();
                None
            }
            Effect::Pong(waiter, round_trip) => {
                let _ = waiter.send(round_trip);
                None
            }
            Effect::MayReply(waiter) => {
                // The receiver may be gone.
                let _ = waiter.send(());
                None
            }
            Effect::Altered(replied) => {
                tracing::debug!(peer = %self.id, ?replied, "reply not sent as given");
                None
            }
            Effect::Drop(senders) => {
                drop(senders);
                None
            }
            other => Some(other),
        }
    }

    /// Why the connection is over, if it is.
    pub(crate) fn end_cause(&self) -> Option<DisconnectCause> {
        self.lock().end_cause()
    }

    /// Makes a call, and registers its caller before its outcome can arrive. Its timeout runs from now.
    pub(super) fn make(
        &self,
        mut call: Call,
        timeout: Option<Duration>,
        note: impl FnOnce(&mut PeerState, CallId),
    ) -> Result<CallId, CallError> {
        let mut state = self.lock();
        if !state.linked && self.core.config.while_disconnected == WhileDisconnected::Fail {
            return Err(NotSent::NotConnected.into());
        }
        let now = self.core.now();
        call.deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        let call = state.connection.invoke(now, call).map_err(|error| match &state.cause {
            Some(cause) if error == InvokeError::Closed => NotSent::Disconnected(cause.clone()),
            _ => NotSent::Refused(error),
        })?;
        note(&mut state, call);
        drop(state);
        add(&self.counters.calls_started.0, 1);
        self.wake();
        Ok(call)
    }

    /// Cancels a streamed call of ours. Returns whether it had not ended.
    pub(crate) fn abandon(&self, call: CallId) -> bool {
        let abandoned = {
            let mut state = self.lock();
            let abandoned = state.connection.abandon(call);
            state.connection.recv_stream(call).stop();
            if abandoned {
                state.count_call(false);
            }
            abandoned
        };
        if abandoned {
            self.wake();
        }
        abandoned
    }

    /// Closes the connection, for this reason.
    pub(crate) fn cut(&self, cause: DisconnectCause) {
        let mut state = self.lock();
        if state.connection.is_closed() {
            return;
        }
        let former = state.cut.replace(cause);
        state.connection.close(CloseCause::Local);
        drop(state);
        drop(former);
        self.wake();
    }

    /// Passes the endpoint's decisions to the connection. The bytes of a reply that comes too late are dropped outside of the lock.
    pub(crate) fn take_decisions(
        &self,
        state: &mut PeerState,
        decisions: &mut Decisions,
        effects: &mut Effects,
    ) {
        let mut now = None;
        for (connection, event) in decisions.drain(..) {
            let serves = state.serves(connection);
            if let ConnectionEvent::Refuse { .. } = event {
                add(&self.counters.requests_failed, 1);
            }
            match event {
                ConnectionEvent::Reply { request, reply } if serves => {
                    effects.drop_later(state.reply_waiters.remove(&request));
                    self.reply(state, request, reply, effects);
                }
                ConnectionEvent::Reply { reply, .. } => {
                    add(&self.counters.requests_failed, 1);
                    effects.drop_later(Some(reply));
                }
                // The connection is closed, and would not return the request any more.
                ConnectionEvent::Start(request) if !serves => effects.push(Effect::NeverRan(request)),
                event if serves => {
                    let now = *now.get_or_insert_with(|| self.core.now());
                    state.connection.handle_event(now, event);
                }
                _ => {}
            }
        }
    }

    fn reply(&self, state: &mut PeerState, id: RequestId, mut reply: Reply, effects: &mut Effects) {
        if !state.reply_metadata.is_empty()
            && let Some(given) = state.reply_metadata.remove(&id)
            && let Reply::Result { metadata, .. } = &mut reply
            && metadata.is_empty()
        {
            *metadata = given;
        }
        let streams = state.streams.remove(&id.into());
        if let (Reply::End, Some(streams)) = (&reply, &streams)
            && streams.is_writing()
        {
            // The result is incomplete, and the caller must not take it for a complete one.
            let (name, why) =
                ("UnfinishedResult", "the handler ended while its result was still being written");
            reply = Reply::Failure(ErrorInfo::new(name, why).into());
        }
        let is_result = matches!(reply, Reply::Result { .. } | Reply::End);
        let replied = state.connection.reply(id, reply);
        let is_sent = matches!(replied, Ok(Replied::AsGiven | Replied::WithoutMetadata));
        if replied != Ok(Replied::AsGiven) {
            effects.push(Effect::Altered(replied));
        }
        let counter = match is_result && is_sent {
            true => &self.counters.requests_done,
            false => &self.counters.requests_failed,
        };
        add(counter, 1);
        // Its streams may be in use outside of its handler.
        if let Some(streams) = streams {
            effects.extend(streams.end(Ok(())).into_iter().map(Effect::Wake));
        }
    }
}

fn new_connection(
    core: &Core,
    config: &Arc<ConnectionConfig>,
    id: ConnectionId,
    role: Role,
    first_call: CallId,
) -> Connection {
    Connection::new(id, role, config.clone(), core.random(), first_call, core.now())
}
