//! The state of a peer and its connection, under the peer's lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_proto::{
    CallId, CloseCause, Connection, ConnectionId, Dialect, Event, InvokeError, Metadata, Outcome, RequestId,
    StreamId,
};
use futures_channel::oneshot;
use rustc_hash::FxHashMap;

use super::effects::{Effect, Effects};
use super::info::PeerInfo;
use super::outcome::OutcomeCell;
use crate::auth::{CurvePublicKey, Identity};
use crate::error::{CallError, DisconnectCause, NotSent};
use crate::stats::{Counters, add};
use crate::stream::Shared;

pub(crate) struct PeerState {
    pub(crate) connection: Connection,
    pub(super) counters: Arc<Counters>,
    pub(crate) linked: bool,
    pub(super) info: PeerInfo,
    pub(super) cause: Option<DisconnectCause>,
    /// Why this side closes the link.
    pub(super) cut: Option<DisconnectCause>,
    /// There will be no other link.
    pub(super) over: bool,
    /// The callers that wait for a whole result.
    pub(super) waiting: FxHashMap<CallId, Arc<OutcomeCell>>,
    /// The readers and writers of the streams of calls.
    pub(super) streams: FxHashMap<StreamId, Arc<Shared>>,
    /// Handlers that wait until their streamed reply may begin.
    pub(super) reply_waiters: FxHashMap<RequestId, oneshot::Sender<()>>,
    /// Metadata that handlers have set for results that they have not returned yet.
    pub(super) reply_metadata: FxHashMap<RequestId, Metadata>,
    pub(super) pings: FxHashMap<u64, oneshot::Sender<Duration>>,
    pub(super) ready: Vec<oneshot::Sender<()>>,
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
        let max_body = self.info.max_body.filter(|_| self.linked)?;
        Some(usize::try_from(max_body).unwrap_or(usize::MAX))
    }

    /// The dialect of the link; `None` before its handshake, and without a link: the next one may speak another.
    pub(crate) fn dialect(&self) -> Option<Dialect> {
        self.info.dialect.filter(|_| self.linked)
    }

    /// Our authenticator admits the owner of this key.
    pub(crate) fn admit(&mut self, address: &str, public_key: CurvePublicKey, identity: Identity) {
        address.clone_into(&mut self.info.address);
        self.info.public_key = Some(public_key);
        self.info.identity = Some(Arc::new(identity));
    }

    /// Why the connection is over, if it is.
    pub(crate) fn end_cause(&self) -> Option<DisconnectCause> {
        match self.connection.close_cause()? {
            CloseCause::Local => Some(self.local_cause()),
            cause => Some(DisconnectCause::Connection(cause)),
        }
    }

    /// Why this side has closed the connection by itself.
    pub(crate) fn local_cause(&self) -> DisconnectCause {
        self.cut.clone().unwrap_or(DisconnectCause::Shutdown)
    }

    /// Whether this is the peer's connection, and open.
    pub(crate) fn serves(&self, connection: ConnectionId) -> bool {
        self.connection.id() == connection && !self.connection.is_closed()
    }

    /// A call of ours has ended. Counted before its caller can see that.
    pub(super) fn count_call(&self, well: bool) {
        add(if well { &self.counters.calls_done } else { &self.counters.calls_failed }, 1);
    }

    /// Takes all events of the connection.
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
                Event::Established { max_body, dialect } => {
                    self.info.max_body = max_body;
                    self.info.dialect = Some(dialect);
                    // The connection may have been closed since: waiters then wait for the next one.
                    let ready = match self.connection.is_established() {
                        true => std::mem::take(&mut self.ready),
                        false => Vec::new(),
                    };
                    effects.push(Effect::Established(ready, dialect));
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
                // The driver of the link asks the connection itself.
                _ => {}
            }
        }
    }

    /// Why a call has no result.
    pub(super) fn failure(&self, outcome: Outcome) -> CallError {
        match outcome {
            Outcome::Result(_) | Outcome::Complete => unreachable!("a result is not a failure"),
            Outcome::Failure(info) => CallError::Remote(*info),
            Outcome::Error(info) => CallError::Rejected(*info),
            Outcome::Cancelled => CallError::Cancelled,
            Outcome::TimedOut { sent } => CallError::TimedOut { sent },
            Outcome::Disconnected { cause, sent } => {
                let cause = match (cause, &self.cause) {
                    (CloseCause::LinkLost, Some(cause)) => cause.clone(),
                    (CloseCause::Local, _) => self.local_cause(),
                    // The entry may concern an earlier link.
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
