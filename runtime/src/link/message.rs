//! Connections over message links: one that has a single remote peer, or one for each routing id.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::{CloseCause, Multipart, Role};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, select};
use parking_lot::Mutex;

use super::handshakes::HandshakeSlot;
use super::pump::{Alarm, Pump};
use super::{MessageReceiver, MessageSender, Received};
use crate::error::DisconnectCause;
use crate::node::Node;
use crate::peer::PeerShared;
use crate::rt::{until, yield_now};
use crate::stats::add;

/// Messages sent or received before other tasks get their turn.
const MAX_TURNS: usize = 64;

/// How long a drained connection waits for the peer's word that it has received everything.
const LINGER: Duration = Duration::from_secs(1);

/// The link to one peer, as part of a message link.
pub(crate) struct LinkPeer {
    peer: Arc<PeerShared>,
    routing_id: Bytes,
    /// Held while effects are carried out, so that requests reach the dispatcher in the order in which they came. Lock
    /// order: this, then the dispatcher or a peer's state.
    pump: Mutex<Pump>,
}

impl LinkPeer {
    /// The link is there from now on.
    pub(crate) fn new(peer: Arc<PeerShared>, routing_id: Bytes, address: &str) -> Self {
        peer.lock().attach(address, routing_id.clone(), None, peer.node.now());
        let pump = Mutex::new(Pump::new(peer.clone()));
        Self { peer, routing_id, pump }
    }

    pub(crate) fn was_established(&self) -> bool {
        self.pump.lock().was_established()
    }

    fn connection_end(&self) -> Option<DisconnectCause> {
        self.pump.lock().connection_end()
    }

    /// Takes a message that came on the link.
    fn deliver(&self, message: Multipart) {
        add(&self.peer.counters.bytes_received, message.size() as u64);
        let mut pump = self.pump.lock();
        self.peer.lock().connection.handle_message(self.peer.node.now(), message);
        pump.run();
        drop(pump);
        self.peer.waker.wake();
    }

    /// Sends what the connection has to say and keeps its timers, until it ends.
    ///
    /// The link's messages are [`deliver`](Self::deliver)ed meanwhile.
    async fn drive(&self, sender: &dyn MessageSender) -> DisconnectCause {
        let mut alarm = Alarm::new(&*self.peer.node.runtime);
        let mut flush = None;
        loop {
            for _ in 0..MAX_TURNS {
                let next = std::future::poll_fn(|cx| self.poll_next(cx, &mut alarm, &mut flush));
                let sent = match next.await {
                    Ok(message) => self.send(sender, message, &mut alarm).await,
                    Err(cause) => Err(cause),
                };
                if let Err(cause) = sent {
                    return cause;
                }
            }
            yield_now().await;
        }
    }

    async fn send(
        &self,
        sender: &dyn MessageSender,
        message: Multipart,
        alarm: &mut Alarm,
    ) -> Result<(), DisconnectCause> {
        let size = message.size() as u64;
        let mut sending = sender.send(&self.routing_id, message);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = sending.poll_unpin(cx) {
                return Poll::Ready(result.map_err(DisconnectCause::Link));
            }
            self.peer.lock().connection.handle_write_blocked(self.peer.node.now());
            self.poll_end(cx, alarm).map(Err)
        })
        .await?;
        add(&self.peer.counters.bytes_sent, size);
        self.peer.lock().connection.handle_write_progress();
        Ok(())
    }

    /// The next message to be sent, or why there is none any more.
    fn poll_next(
        &self,
        cx: &mut Context<'_>,
        alarm: &mut Alarm,
        flush: &mut Option<BoxFuture<'static, ()>>,
    ) -> Poll<Result<Multipart, DisconnectCause>> {
        loop {
            if let Poll::Ready(cause) = self.poll_end(cx, alarm) {
                return Poll::Ready(Err(cause));
            }
            let mut state = self.peer.lock();
            if let Some(message) = state.connection.poll_message(self.peer.node.now()) {
                return Poll::Ready(Ok(message));
            }
            // What was dropped instead of sent may have ended a call or the connection, or made room for requests.
            if !state.connection.has_events() {
                break;
            }
        }
        if !self.pump.lock().is_drained() {
            return Poll::Pending;
        }
        let flush = flush.get_or_insert_with(|| flushed(self.peer.clone()).boxed());
        flush.poll_unpin(cx).map(|()| Err(DisconnectCause::Shutdown))
    }

    /// Does what is due; ready when the connection has ended.
    fn poll_end(&self, cx: &mut Context<'_>, alarm: &mut Alarm) -> Poll<DisconnectCause> {
        self.peer.waker.register(cx.waker());
        loop {
            let end = {
                let mut pump = self.pump.lock();
                pump.run();
                pump.connection_end()
            };
            if let Some(cause) = end {
                return Poll::Ready(cause);
            }
            let next = self.peer.lock().connection.poll_timeout();
            if alarm.poll(cx, next).is_pending() {
                return Poll::Pending;
            }
            // A message link has no errors of ZMTP's.
            let _ = self.peer.lock().connection.handle_timeout(self.peer.node.now());
        }
    }
}

/// A link may still hold what it has taken, and lose it when it is dropped: the answer to a probe shows that the peer
/// has received all that was sent before. One that does not answer is not waited for much longer.
async fn flushed(peer: Arc<PeerShared>) {
    if peer.lock().connection.is_established() {
        let handle = peer.handle();
        let _ = until(&*peer.node.runtime, peer.node.now() + LINGER, handle.ping()).await;
    }
}

/// Drives a link that has a single peer to its end.
pub(crate) async fn drive_single(
    link: &LinkPeer,
    sender: &dyn MessageSender,
    receiver: &mut dyn MessageReceiver,
) -> DisconnectCause {
    let receiving = receive_all(receiver, |received| match received {
        Received::Message { message, .. } => {
            link.deliver(message);
            None
        }
        Received::Gone { .. } => Some(DisconnectCause::PeerClosed),
    });
    match select(pin!(receiving), pin!(link.drive(sender))).await {
        Either::Left((cause, _)) | Either::Right((cause, _)) => cause,
    }
}

/// The same for a peer that a binder has accepted: as long as its handshake is not complete, it may be evicted.
pub(crate) async fn drive_accepted(
    link: &LinkPeer,
    sender: &dyn MessageSender,
    receiver: &mut dyn MessageReceiver,
    handshake: HandshakeSlot,
) -> DisconnectCause {
    let mut handshake = Some(handshake);
    let mut driving = pin!(drive_single(link, sender, receiver));
    std::future::poll_fn(|cx| {
        // An eviction wakes the peer's driver, which is this task. Before it looks, or an eviction in between would wake nobody.
        link.peer.waker.register(cx.waker());
        if handshake.as_ref().is_some_and(HandshakeSlot::is_evicted) {
            return Poll::Ready(DisconnectCause::TooManyHandshakes);
        }
        let driven = driving.as_mut().poll(cx);
        if link.was_established() {
            handshake = None;
        }
        driven
    })
    .await
}

/// Receives until the link fails, or `take` says that it is over.
async fn receive_all(
    receiver: &mut dyn MessageReceiver,
    mut take: impl FnMut(Received) -> Option<DisconnectCause>,
) -> DisconnectCause {
    loop {
        for _ in 0..MAX_TURNS {
            let end = match receiver.receive().await {
                Ok(received) => take(received),
                Err(failure) => Some(DisconnectCause::Link(failure)),
            };
            if let Some(cause) = end {
                return cause;
            }
        }
        yield_now().await;
    }
}

/// The peers of a link that has many. Each is established: what does not complete a handshake at once is dropped.
pub(crate) struct PeersOfLink {
    node: Arc<Node>,
    sender: Box<dyn MessageSender>,
    /// By routing id.
    peers: Mutex<BTreeMap<Bytes, Arc<LinkPeer>>>,
}

impl PeersOfLink {
    pub(crate) fn new(node: Arc<Node>, sender: Box<dyn MessageSender>) -> Arc<Self> {
        Arc::new(Self { node, sender, peers: Mutex::default() })
    }

    /// Receives until the link fails, then ends the connections to all its peers.
    pub(crate) async fn run(self: &Arc<Self>, receiver: &mut dyn MessageReceiver) -> DisconnectCause {
        let cause = receive_all(receiver, |received| {
            match received {
                Received::Message { from, message } => self.take(from, message),
                Received::Gone { peer } => {
                    if let Some(link) = self.find(&peer) {
                        self.end(&link, DisconnectCause::PeerClosed);
                    }
                }
            }
            None
        })
        .await;
        let peers: Vec<_> = self.peers.lock().values().cloned().collect();
        for link in peers {
            self.end(&link, cause.clone());
        }
        cause
    }

    fn find(&self, routing_id: &Bytes) -> Option<Arc<LinkPeer>> {
        self.peers.lock().get(routing_id).cloned()
    }

    fn take(self: &Arc<Self>, from: Bytes, message: Multipart) {
        let Some(link) = self.find(&from) else { return self.admit(from, message) };
        if let Some(cause) = link.connection_end() {
            self.end(&link, cause);
            return self.admit(from, message);
        }
        let hello = is_hello(&message).then(|| message.clone());
        link.deliver(message);
        let Some(cause) = link.connection_end() else { return };
        let restarted = matches!(cause, DisconnectCause::Connection(CloseCause::PeerRestarted));
        self.end(&link, cause);
        if restarted && let Some(hello) = hello {
            self.admit(from, hello);
        }
    }

    /// Begins a connection to a peer that speaks for the first time, if it says something that begins one.
    fn admit(self: &Arc<Self>, from: Bytes, message: Multipart) {
        if !begins_connection(&message) {
            tracing::debug!(routing_id = %from.escape_ascii(), "message of an unknown peer dropped");
            return;
        }
        let address = format!("message link, peer {}", from.escape_ascii());
        if self.peers.lock().len() >= self.node.config.max_link_peers {
            return self.node.report_refusal(address, DisconnectCause::TooManyPeers);
        }
        let peer = PeerShared::over_messages(&self.node, Role::Binder);
        if !self.node.admit(&peer) {
            return;
        }
        let link = Arc::new(LinkPeer::new(peer, from.clone(), &address));
        self.peers.lock().insert(from, link.clone());
        link.deliver(message);
        if !link.was_established() {
            // The message was none that begins a connection after all. Nobody has heard of this one, so nobody is told.
            let cause = link.connection_end().unwrap_or(DisconnectCause::PeerClosed);
            self.end(&link, cause);
            return;
        }
        let of = self.clone();
        self.node.tasks.spawn(&*self.node.runtime, async move {
            let ended = AssertUnwindSafe(link.drive(&*of.sender)).catch_unwind().await;
            of.end(&link, ended.unwrap_or(DisconnectCause::Panicked));
        });
    }

    /// Takes a link off the list, which nobody else has done then.
    fn forget(&self, link: &Arc<LinkPeer>) -> bool {
        let mut peers = self.peers.lock();
        let listed = peers.get(&link.routing_id).is_some_and(|listed| Arc::ptr_eq(listed, link));
        if listed {
            peers.remove(&link.routing_id);
        }
        listed
    }

    /// The connection to a peer has ended, or ends now. Idempotent.
    fn end(&self, link: &Arc<LinkPeer>, cause: DisconnectCause) {
        if !self.forget(link) {
            return;
        }
        let pump = link.pump.lock();
        link.peer.detach(&cause, false);
        drop(pump);
        link.peer.waker.wake();
        self.node.expel(link.peer.id, cause);
    }
}

/// Whether it is the PING with which a peer of ours begins a connection.
fn is_hello(message: &Multipart) -> bool {
    matches!(message.frames(), [marker, header, _] if marker[..] == *b"PING" && !header.is_empty())
}

/// Whether a connection can begin with this message.
///
/// A probe can't, where it is not the empty one of a Python peer: it belongs to a connection that this side has forgotten,
/// and its sender finds that out if there is no answer.
fn begins_connection(message: &Multipart) -> bool {
    match message.frames() {
        [marker, header, body] if marker[..] == *b"PING" => !header.is_empty() || body.is_empty(),
        [marker, ..] => marker[..] == *b"UPPER",
        [] => false,
    }
}
