//! A remote peer: its connection, and the calls that wait on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_proto::{
    Call, CallId, CloseCause, Connection, ConnectionConfig, ConnectionEvent, ConnectionId, ErrorInfo, Event,
    InvokeError, Metadata, Outcome, PingId, Replied, Reply, RequestId, Role, StreamId,
};
use futures_channel::oneshot;
use futures_util::task::AtomicWaker;
use rustc_hash::FxHashMap;

use crate::auth::{CurvePublicKey, Identity};
use crate::config::WhileDisconnected;
use crate::dispatch::Inbox;
use crate::error::{CallError, DisconnectCause, NotSent};
use crate::lock::{Mutex, MutexGuard, assert_unlocked};
use crate::node::Node;
use crate::stats::{Counters, add};
use crate::stream::Shared;

mod effects;
mod handle;
mod info;
mod pending;
mod streams;

pub(crate) use effects::{Effect, Effects};
pub use handle::Peer;
pub use info::{PeerId, PeerInfo};
pub(crate) use pending::PendingCall;

pub(crate) struct PeerShared {
    pub(crate) id: PeerId,
    pub(crate) node: Arc<Node>,
    pub(crate) counters: Arc<Counters>,
    /// Wakes whatever drives the peer's link.
    pub(crate) waker: AtomicWaker,
    pub(crate) inbox: Inbox,
    role: Role,
    config: Arc<ConnectionConfig>,
    state: Mutex<PeerState>,
}

pub(crate) struct PeerState {
    pub(crate) connection: Connection,
    pub(crate) linked: bool,
    info: PeerInfo,
    cause: Option<DisconnectCause>,
    /// Why this side closes the link.
    cut: Option<DisconnectCause>,
    /// There will be no other link.
    over: bool,
    waiting: FxHashMap<CallId, oneshot::Sender<Answered>>,
    /// Who reads or writes the streams of calls.
    streams: FxHashMap<StreamId, Arc<Shared>>,
    /// Handlers that wait until their streamed reply may begin.
    reply_waiters: FxHashMap<RequestId, oneshot::Sender<()>>,
    /// What handlers send along with results that are not there yet.
    reply_metadata: FxHashMap<RequestId, Metadata>,
    pings: FxHashMap<PingId, oneshot::Sender<Duration>>,
    ready: Vec<oneshot::Sender<()>>,
}

/// What became of a call that is waited for.
pub(crate) type Answered = Result<(Bytes, Metadata), CallError>;

impl Drop for PeerShared {
    fn drop(&mut self) {
        let connection = self.state.get_mut().connection.id();
        self.forget(connection);
        self.node.totals.end(self.id);
    }
}

impl PeerShared {
    /// A peer over a byte stream, which has heartbeats of its own.
    pub(crate) fn new(node: &Arc<Node>, role: Role) -> Arc<Self> {
        Self::with_config(node, role, node.config.connection.clone())
    }

    /// A peer over a message link.
    pub(crate) fn over_messages(node: &Arc<Node>, role: Role) -> Arc<Self> {
        Self::with_config(node, role, node.config.message_connection.clone())
    }

    fn with_config(node: &Arc<Node>, role: Role, config: Arc<ConnectionConfig>) -> Arc<Self> {
        let (id, connection) = (node.next_peer_id(), node.dispatcher.open());
        Arc::new(Self {
            id,
            node: node.clone(),
            counters: node.totals.begin(id),
            waker: AtomicWaker::new(),
            inbox: Inbox::default(),
            role,
            state: Mutex::new(PeerState {
                connection: new_connection(node, &config, connection, role, CallId(0)),
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

    pub(crate) fn handle(self: &Arc<Self>) -> Peer {
        Peer::new(self.clone(), None)
    }

    /// The link is gone: its calls end, its requests are forgotten. For a connector, a new connection takes over, unless the endpoint is
    /// done; calls that wait for a link go on waiting if this never was one.
    pub(crate) fn detach(self: &Arc<Self>, cause: &DisconnectCause, renew: bool) {
        let mut effects = Effects::new(self.clone());
        // Named before the peer is locked.
        let next = renew.then(|| self.node.dispatcher.open());
        let over = {
            let mut state = self.lock();
            match state.over {
                true => None,
                false => Some(self.close_or_wait(&mut state, cause, next, &mut effects)),
            }
        };
        match over {
            Some(Some(over)) => self.forget(over),
            // The name is not needed.
            None | Some(None) => next.into_iter().for_each(|next| self.node.dispatcher.forget(next)),
        }
        // Callers are told, and handlers that never ran give their slots back.
        drop(effects);
    }

    /// A connection is over.
    fn forget(&self, connection: ConnectionId) {
        self.node.dispatcher.forget(connection);
        // The endpoint decides nothing for it any more, and nobody takes what it had decided.
        let mut left = Vec::new();
        self.inbox.take(&mut left);
        for (_, event) in left {
            match event {
                ConnectionEvent::Start(request) => self.node.dispatcher.finish(request, None),
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
        state.cause = Some(cause.clone());
        let refused = cause.is_authentication_failure();
        let waits = next.is_some()
            && !refused
            && self.node.config.while_disconnected == WhileDisconnected::Wait
            && state.connection.handle_disconnected(self.node.random());
        if !waits {
            state.connection.close(cause.close_cause());
        }
        state.take_effects(effects);
        if !waits {
            state.end_streams(cause, self.node.now(), effects);
        }
        state.cut = None;
        effects.drop_later(Some(std::mem::take(&mut state.pings)));
        if refused || next.is_none() {
            // Whoever waits for the link learns why there is none. The next attempt may do better.
            effects.drop_later(Some(std::mem::take(&mut state.ready)));
        }
        if waits {
            return None;
        }
        let over = state.connection.id();
        if let Some(next) = next {
            state.connection =
                new_connection(&self.node, &self.config, next, self.role, state.connection.next_call());
            if self.node.is_draining() {
                state.connection.drain();
            }
        }
        Some(over)
    }

    /// Does what concerns only callers; gives back what concerns the dispatcher or the driver.
    pub(crate) fn settle(&self, effect: Effect) -> Option<Effect> {
        assert_unlocked();
        match effect {
            Effect::Complete(waiter, result) => {
                self.count_call(result.is_ok());
                // The caller may have gone in this very moment.
                let _ = waiter.send(result);
                None
            }
            Effect::Ended { well } => {
                self.count_call(well);
                None
            }
            Effect::Wake(waker) => {
                waker.wake();
                None
            }
            Effect::Pong(waiter, round_trip) => {
                let _ = waiter.send(round_trip);
                None
            }
            Effect::MayReply(waiter) => {
                // It may have stopped waiting.
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

    fn count_call(&self, well: bool) {
        add(if well { &self.counters.calls_done } else { &self.counters.calls_failed }, 1);
    }

    /// Why the connection is over, if it is.
    pub(crate) fn end_cause(&self) -> Option<DisconnectCause> {
        let state = self.lock();
        match state.connection.close_cause()? {
            CloseCause::Local => Some(state.local_cause()),
            cause => Some(DisconnectCause::Connection(cause)),
        }
    }

    /// Closes the connection, for this reason.
    pub(crate) fn cut(&self, cause: DisconnectCause) {
        let mut state = self.lock();
        if state.connection.is_closed() {
            return;
        }
        state.cut = Some(cause);
        state.connection.close(CloseCause::Local);
        drop(state);
        self.waker.wake();
    }

    /// Gives the connection what the endpoint has decided. The bytes of a reply that comes too late are dropped without the lock.
    pub(crate) fn take_decisions(
        &self,
        state: &mut PeerState,
        decisions: &mut Vec<(ConnectionId, ConnectionEvent)>,
        effects: &mut Effects,
    ) {
        self.inbox.take(decisions);
        if decisions.is_empty() {
            return;
        }
        let now = self.node.now();
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
                // It is closed, and would not hand the request out any more.
                ConnectionEvent::Start(request) if !serves => effects.push(Effect::NeverRan(request)),
                event if serves => state.connection.handle_event(now, event),
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
            // What it would still write is missing, and the caller must not take the result for a whole one.
            let (name, why) =
                ("UnfinishedResult", "the handler ended while its result was still being written");
            reply = Reply::Failure(ErrorInfo::new(name, why));
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
        // It may be read or written outside of its handler.
        let wakers = streams.map(|streams| streams.end(Ok(()))).unwrap_or_default();
        effects.extend(wakers.into_iter().map(Effect::Wake));
    }
}

fn new_connection(
    node: &Node,
    config: &Arc<ConnectionConfig>,
    id: ConnectionId,
    role: Role,
    first_call: CallId,
) -> Connection {
    Connection::new(id, role, config.clone(), node.random(), first_call, node.now())
}

impl PeerState {
    /// A link is there.
    pub(crate) fn attach(
        &mut self,
        address: &str,
        routing_id: Bytes,
        public_key: Option<CurvePublicKey>,
        now: Instant,
    ) {
        self.linked = true;
        let identity = self.info.identity.take().filter(|_| self.info.public_key == public_key);
        let address = address.to_owned();
        self.info = PeerInfo { address, routing_id, public_key, identity, ..PeerInfo::default() };
        self.connection.handle_connected(now);
    }

    /// The transport has established who the peer is.
    pub(crate) fn set_identity(&mut self, identity: Identity) {
        self.info.identity = Some(Arc::new(identity));
    }

    pub(crate) fn info(&self) -> &PeerInfo {
        &self.info
    }

    /// Largest body that the peer takes, and largest item that it reads; `None` as long as it has not said.
    pub(crate) fn largest_body(&self) -> Option<usize> {
        let hello = self.info.hello.as_ref().filter(|_| self.linked)?;
        Some(usize::try_from(hello.max_body).unwrap_or(usize::MAX))
    }

    /// Our authenticator admits the owner of this key.
    pub(crate) fn admit(&mut self, address: &str, public_key: CurvePublicKey, identity: Identity) {
        address.clone_into(&mut self.info.address);
        self.info.public_key = Some(public_key);
        self.info.identity = Some(Arc::new(identity));
    }

    /// Why this side has closed the connection by itself.
    pub(crate) fn local_cause(&self) -> DisconnectCause {
        self.cut.clone().unwrap_or(DisconnectCause::Shutdown)
    }

    /// Whether this is the peer's connection, and open.
    pub(crate) fn serves(&self, connection: ConnectionId) -> bool {
        self.connection.id() == connection && !self.connection.is_closed()
    }

    /// Takes everything that the connection has to say.
    pub(crate) fn take_effects(&mut self, effects: &mut Effects) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Ended { call, outcome, metadata } => self.end_call(call, outcome, metadata, effects),
                Event::Response { call, metadata, size } => {
                    self.begin_result(call, metadata, size, effects);
                }
                Event::Readable(id) => self.tell(id, Shared::readable, effects),
                Event::Writable(id) => self.tell(id, Shared::writable, effects),
                Event::Reassembled { stream, body } => {
                    self.tell(stream, |shared| shared.reassembled(body), effects);
                }
                Event::Goodbye => effects.push(Effect::Goodbye),
                Event::Request(request) => effects.push(Effect::Request(request)),
                Event::Stop { request, reason } => effects.push(Effect::Stop(request, reason.into())),
                Event::Established { hello, dialect } => {
                    self.info.hello = hello;
                    self.info.dialect = Some(dialect);
                    effects.push(Effect::Established(std::mem::take(&mut self.ready), dialect));
                }
                Event::Pong { ping, round_trip } => {
                    if let Some(waiter) = self.pings.remove(&ping) {
                        effects.push(Effect::Pong(waiter, round_trip));
                    }
                }
                Event::MayReply(request) => {
                    effects.extend(self.reply_waiters.remove(&request).map(Effect::MayReply));
                }
                Event::Anomaly(anomaly) => effects.push(Effect::Anomaly(anomaly)),
                // Whoever drives the link asks the connection itself.
                _ => {}
            }
        }
    }

    /// Why a call has no result.
    fn failure(&self, outcome: Outcome) -> CallError {
        match outcome {
            Outcome::Result(_) | Outcome::Complete => unreachable!("a result is no failure"),
            Outcome::Failure(info) => CallError::Remote(info),
            Outcome::Error(info) => CallError::Rejected(info),
            Outcome::Cancelled => CallError::Cancelled,
            Outcome::TimedOut { sent } => CallError::TimedOut { sent },
            Outcome::Disconnected { cause, sent } => {
                let cause = match (cause, &self.cause) {
                    (CloseCause::LinkLost, Some(cause)) => cause.clone(),
                    (CloseCause::Local, _) => self.local_cause(),
                    // What is noted may concern an earlier link.
                    (cause, _) => DisconnectCause::Connection(cause),
                };
                match sent {
                    true => CallError::Disconnected(cause),
                    false => CallError::NotSent(NotSent::Disconnected(cause)),
                }
            }
            Outcome::TooLarge { size, limit } => {
                CallError::NotSent(InvokeError::BodyTooLarge { size, limit }.into())
            }
            Outcome::Malformed(error) => CallError::Malformed(error),
            Outcome::Fault(fault) => CallError::Fault(fault),
            Outcome::NeedsDialect2 => CallError::NotSent(InvokeError::NeedsDialect2.into()),
        }
    }
}

impl PeerShared {
    pub(crate) fn invoke(self: Arc<Self>, call: Call) -> Result<PendingCall, CallError> {
        let (sender, reply) = oneshot::channel();
        let call = self.make(call, |state, call| {
            state.waiting.insert(call, sender);
        })?;
        Ok(PendingCall::new(self, call, reply))
    }

    /// Makes a call whose result is a stream.
    pub(crate) fn open(&self, call: Call) -> Result<(CallId, Arc<Shared>), CallError> {
        let shared = Arc::new(Shared::default());
        let call = self.make(call, |state, call| {
            state.streams.insert(call.into(), shared.clone());
        })?;
        Ok((call, shared))
    }

    fn make(&self, call: Call, note: impl FnOnce(&mut PeerState, CallId)) -> Result<CallId, CallError> {
        let mut state = self.lock();
        if !state.linked && self.node.config.while_disconnected == WhileDisconnected::Fail {
            return Err(NotSent::NotConnected.into());
        }
        let call = state.connection.invoke(self.node.now(), call).map_err(|error| match &state.cause {
            Some(cause) if error == InvokeError::Closed => NotSent::Disconnected(cause.clone()),
            _ => NotSent::Refused(error),
        })?;
        note(&mut state, call);
        drop(state);
        add(&self.counters.calls_started.0, 1);
        self.waker.wake();
        Ok(call)
    }
}
