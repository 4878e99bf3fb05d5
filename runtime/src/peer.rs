//! A remote peer: its session, and the calls that wait on it.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_proto::session::{
    Anomaly, CloseCause, Dialect, Event, ExchangeId, IncomingId, Outcome, PingId, Reply, Request, Session,
};
use callosum_proto::wire::NONCE_LEN;
use callosum_proto::{CallId, ErrorInfo, Metadata, PeerId, Role, session};
use futures_channel::oneshot;
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxHashMap;

use crate::auth::{CurvePublicKey, Identity};
use crate::builder::WhileDisconnected;
use crate::error::{CallError, DisconnectCause, NotSent};
use crate::node::Node;
use crate::reassembly::Reassembly;
use crate::stats::{Counters, add};
use crate::stream::{Exchange, Shared};

mod handle;
mod info;
mod streams;

pub use handle::Peer;
pub use info::PeerInfo;

pub(crate) struct PeerShared {
    pub(crate) id: PeerId,
    pub(crate) node: Arc<Node>,
    pub(crate) counters: Counters,
    /// Wakes whatever drives the peer's link.
    pub(crate) waker: AtomicWaker,
    /// Room for its large bodies.
    pub(crate) reassembly: Arc<Reassembly>,
    role: Role,
    state: Mutex<PeerState>,
}

pub(crate) struct PeerState {
    pub(crate) session: Session,
    /// Names the current link towards the scheduler.
    pub(crate) link: PeerId,
    pub(crate) linked: bool,
    /// Too much waits to be written for more handlers to start.
    pub(crate) paused: bool,
    info: PeerInfo,
    cause: Option<DisconnectCause>,
    /// Why this side cuts the link.
    cut: Option<DisconnectCause>,
    /// There will be no other link.
    over: bool,
    waiting: FxHashMap<CallId, oneshot::Sender<Answered>>,
    /// Who reads or writes calls bit by bit.
    streams: FxHashMap<ExchangeId, Arc<Shared>>,
    /// What handlers send along with results that are not there yet.
    reply_metadata: FxHashMap<IncomingId, Metadata>,
    pings: FxHashMap<PingId, oneshot::Sender<Duration>>,
    ready: Vec<oneshot::Sender<()>>,
}

/// What became of a call that is waited for.
pub(crate) type Answered = Result<Reaction, CallError>;

/// A result, or its beginning.
pub(crate) enum Reaction {
    Result(Bytes, Metadata),
    /// It is too large for one piece.
    Large {
        metadata: Metadata,
        size: Option<u64>,
        shared: Arc<Shared>,
    },
}

/// What a session's events ask its driver to do, once the session's lock is released.
pub(crate) enum Effect {
    Complete(oneshot::Sender<Answered>, Answered),
    /// A call that is streamed, or large, has ended well, or not.
    Ended {
        well: bool,
    },
    Wake(Waker),
    Goodbye,
    Pong(oneshot::Sender<Duration>, Duration),
    Request(Request),
    Stop(IncomingId, Reply),
    Established(Vec<oneshot::Sender<()>>, Dialect),
    Anomaly(Anomaly),
}

impl PeerShared {
    pub(crate) fn new(node: &Arc<Node>, role: Role) -> Arc<Self> {
        let id = node.next_peer_id();
        Arc::new(Self {
            id,
            node: node.clone(),
            counters: Counters::default(),
            waker: AtomicWaker::new(),
            reassembly: Reassembly::new(node.config.session.max_reassembly),
            role,
            state: Mutex::new(PeerState {
                session: new_session(node, role, CallId(0)),
                link: id,
                linked: false,
                paused: false,
                info: PeerInfo::default(),
                cause: None,
                cut: None,
                over: false,
                waiting: FxHashMap::default(),
                streams: FxHashMap::default(),
                reply_metadata: FxHashMap::default(),
                pings: FxHashMap::default(),
                ready: Vec::new(),
            }),
        })
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Never call into the dispatcher while this is held: it locks in the other order.
    pub(crate) fn lock(&self) -> MutexGuard<'_, PeerState> {
        self.state.lock()
    }

    pub(crate) fn handle(self: &Arc<Self>) -> Peer {
        Peer { shared: self.clone(), lender: None }
    }

    /// The link is gone: its calls end, its requests are forgotten. For a connector, a new session takes over,
    /// unless the endpoint is done; calls that wait for a link go on waiting if this never was one.
    pub(crate) fn detach(self: &Arc<Self>, cause: &DisconnectCause, renew: bool) {
        let mut effects = Vec::new();
        let link = {
            let mut state = self.lock();
            if state.over {
                return;
            }
            state.linked = false;
            state.over = !renew;
            state.cause = Some(cause.clone());
            let refused = cause.is_authentication_failure();
            let waits = renew
                && !refused
                && self.node.config.while_disconnected == WhileDisconnected::Wait
                && state.session.handle_disconnected(new_nonce());
            if !waits {
                state.session.close(cause.close_cause());
            }
            state.take_effects(&mut effects);
            if !waits {
                state.end_streams(cause, &mut effects);
            }
            state.cut = None;
            state.pings.clear();
            if refused {
                // Whoever waits for the link learns why there is none. The next attempt may do better.
                state.ready.clear();
            }
            let link = state.link;
            state.paused = false;
            if waits {
                state.link = self.node.next_peer_id();
            } else if renew {
                state.session = new_session(&self.node, self.role, state.session.next_call());
                state.link = self.node.next_peer_id();
                if self.node.is_draining() {
                    state.session.drain();
                }
            } else {
                state.ready.clear();
            }
            link
        };
        self.node.dispatcher.forget(&self.node, link);
        for effect in effects {
            self.settle(effect);
        }
    }

    /// Does what concerns only callers; gives back what concerns the dispatcher or the driver.
    pub(crate) fn settle(&self, effect: Effect) -> Option<Effect> {
        match effect {
            Effect::Complete(waiter, result) => {
                match result {
                    Ok(Reaction::Result(..)) => self.count_call(true),
                    Ok(Reaction::Large { .. }) => {}
                    Err(_) => self.count_call(false),
                }
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
            other => Some(other),
        }
    }

    fn count_call(&self, well: bool) {
        add(if well { &self.counters.calls_done } else { &self.counters.calls_failed }, 1);
    }

    /// Ends the session, for this reason.
    pub(crate) fn cut(&self, cause: DisconnectCause) {
        let mut state = self.lock();
        if state.session.is_closed() {
            return;
        }
        state.cut = Some(cause);
        state.session.close(CloseCause::Local);
        drop(state);
        self.waker.wake();
    }

    /// Notes and returns whether too much waits to be written for more handlers to start.
    pub(crate) fn note_backlog(&self) -> bool {
        let mut state = self.lock();
        state.paused = state.session.is_backlogged();
        state.paused
    }

    /// Answers a request of a link, if that is still there; returns whether its link has to be paused with that.
    pub(crate) fn reply(&self, link: PeerId, id: IncomingId, mut reply: Reply) -> bool {
        let is_result = matches!(reply, Reply::Result { .. } | Reply::End);
        let mut state = self.lock();
        if state.link != link {
            add(&self.counters.requests_failed, 1);
            return false;
        }
        if !state.reply_metadata.is_empty()
            && let Some(given) = state.reply_metadata.remove(&id)
            && let Reply::Result { metadata, .. } = &mut reply
            && metadata.is_empty()
        {
            *metadata = given;
        }
        let stream = state.streams.remove(&ExchangeId::Theirs(id));
        if let (Reply::End, Some(stream)) = (&reply, &stream)
            && stream.is_writing()
        {
            // What it would still write is missing, and the caller must not take the result for a whole one.
            let (name, why) =
                ("UnfinishedResult", "the handler ended while its result was still being written");
            reply = Reply::Failure(ErrorInfo::new(name, why));
        }
        let is_result = is_result && matches!(reply, Reply::Result { .. } | Reply::End);
        let sent = state.session.reply(id, reply);
        let pause = state.session.is_backlogged() && !std::mem::replace(&mut state.paused, true);
        drop(state);
        // Whoever reads or writes it outside of its handler.
        stream.map(|stream| stream.end(Ok(()))).unwrap_or_default().wake();
        if let Err(error) = &sent {
            tracing::debug!(peer = %self.id, %error, "reply not sent as given");
        }
        let counter = match is_result && sent.is_ok() {
            true => &self.counters.requests_done,
            false => &self.counters.requests_failed,
        };
        add(counter, 1);
        self.waker.wake();
        pause
    }
}

fn new_session(node: &Node, role: Role, first_call: CallId) -> Session {
    Session::new(role, node.config.session.clone(), new_nonce(), first_call, Instant::now())
}

fn new_nonce() -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).expect("the operating system has randomness");
    nonce
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
        self.session.handle_connected(now);
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

    /// Why this side has ended the session by itself.
    pub(crate) fn local_cause(&self) -> DisconnectCause {
        self.cut.clone().unwrap_or(DisconnectCause::Shutdown)
    }

    /// Takes everything that the session has to say.
    pub(crate) fn take_effects(&mut self, effects: &mut Vec<Effect>) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Ended { call, outcome, metadata } => self.end_call(call, outcome, metadata, effects),
                Event::Response { call, metadata, size } => {
                    self.begin_result(call, metadata, size, effects);
                }
                Event::Readable(id) => self.tell(id, Shared::readable, effects),
                Event::Writable(id) => self.tell(id, Shared::writable, effects),
                Event::Collected { exchange, body } => {
                    self.tell(exchange, |shared| shared.collected(body), effects);
                }
                Event::Goodbye => effects.push(Effect::Goodbye),
                Event::Request(request) => effects.push(Effect::Request(request)),
                Event::CancelRequested(id) => effects.push(Effect::Stop(id, Reply::Cancelled)),
                Event::ExecutionTimedOut(id) => {
                    let error = session::Refusal::ExecutionTimedOut
                        .to_error("the handler ran longer than this endpoint allows");
                    effects.push(Effect::Stop(id, Reply::Error(error)));
                }
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
                Event::Anomaly(anomaly) => effects.push(Effect::Anomaly(anomaly)),
                // Whoever drives the link asks the session itself.
                Event::Closed(_) => {}
            }
        }
    }

    /// Why a call has no result.
    fn failure(&self, outcome: Outcome) -> CallError {
        match outcome {
            Outcome::Result(_) | Outcome::Complete => unreachable!("a result is no failure"),
            Outcome::Failure(info) => CallError::Failure(info),
            Outcome::Error(info) => CallError::from_remote(info),
            Outcome::Cancelled => CallError::Cancelled,
            Outcome::TimedOut { sent } => CallError::TimedOut { sent },
            Outcome::Disconnected { cause, sent } => {
                let cause = match (cause, &self.cause) {
                    (CloseCause::LinkLost, Some(cause)) => cause.clone(),
                    (CloseCause::Local, _) => self.local_cause(),
                    // What is noted may concern an earlier link.
                    (cause, _) => DisconnectCause::Session(cause),
                };
                match sent {
                    true => CallError::Disconnected(cause),
                    false => CallError::NotSent(NotSent::Disconnected(cause)),
                }
            }
            Outcome::TooLarge { size, limit } => {
                CallError::NotSent(session::InvokeError::BodyTooLarge { size, limit }.into())
            }
            Outcome::Malformed(error) => CallError::Malformed(error),
            Outcome::Fault(fault) => CallError::Fault(fault),
            Outcome::NeedsDialect2 => CallError::NotSent(session::InvokeError::NeedsDialect2.into()),
        }
    }
}

/// A call that was accepted. Dropping it abandons the call.
pub(crate) struct PendingCall {
    peer: Arc<PeerShared>,
    call: CallId,
    link: PeerId,
    pub(crate) reply: oneshot::Receiver<Answered>,
    pub(crate) ended: bool,
}

impl PendingCall {
    /// The call goes on as one whose result comes bit by bit.
    pub(crate) fn into_exchange(mut self, shared: Arc<Shared>) -> Exchange {
        self.ended = true;
        Exchange::new(self.peer.clone(), self.link, ExchangeId::Ours(self.call), shared, None)
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut state = self.peer.lock();
        let waited = state.waiting.remove(&self.call).is_some();
        // Or its result has begun, and nobody has taken that over.
        let large = state.streams.remove(&ExchangeId::Ours(self.call));
        if waited || large.is_some() {
            let abandoned = state.session.abandon(self.call);
            state.session.contents().stop(ExchangeId::Ours(self.call));
            drop(state);
            if abandoned {
                self.peer.count_call(false);
            }
            self.peer.waker.wake();
        }
    }
}

impl PeerShared {
    pub(crate) fn invoke(self: &Arc<Self>, call: session::Call) -> Result<PendingCall, CallError> {
        let (sender, reply) = oneshot::channel();
        let (call, link) = self.make(call, |state, call| {
            state.waiting.insert(call, sender);
        })?;
        Ok(PendingCall { peer: self.clone(), call, link, reply, ended: false })
    }

    /// Makes a call whose result comes bit by bit.
    pub(crate) fn open(
        self: &Arc<Self>,
        call: session::Call,
    ) -> Result<(CallId, PeerId, Arc<Shared>), CallError> {
        let shared = Arc::new(Shared::default());
        let (call, link) = self.make(call, |state, call| {
            state.streams.insert(ExchangeId::Ours(call), shared.clone());
        })?;
        Ok((call, link, shared))
    }

    fn make(
        self: &Arc<Self>,
        call: session::Call,
        note: impl FnOnce(&mut PeerState, CallId),
    ) -> Result<(CallId, PeerId), CallError> {
        let mut state = self.lock();
        if !state.linked && self.node.config.while_disconnected == WhileDisconnected::Fail {
            return Err(NotSent::NotConnected.into());
        }
        let call = state.session.invoke(Instant::now(), call).map_err(|error| match &state.cause {
            Some(cause) if error == session::InvokeError::Closed => NotSent::Disconnected(cause.clone()),
            _ => NotSent::Refused(error),
        })?;
        note(&mut state, call);
        let link = state.link;
        drop(state);
        add(&self.counters.calls_started.0, 1);
        self.waker.wake();
        Ok((call, link))
    }
}
