//! Connections over message links: one that has a single remote peer, or one for each routing id.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::{CloseCause, Multipart, Role};
use futures_util::FutureExt;
use futures_util::future::{Either, select};

use super::pump::{Alarm, Pump};
use super::{MessageReceiver, MessageSender, Received};
use crate::error::DisconnectCause;
use crate::handshakes::HandshakeSlot;
use crate::lock::{Mutex, guarded, guarded_message};
use crate::node::Node;
use crate::peer::PeerShared;
use crate::rt::yield_now;
use crate::stats::add;
use crate::waiters::Waiters;

/// Messages sent or received before the link yields to other tasks.
const MAX_TURNS: usize = 64;

/// Messages whose effects may wait to be carried out before the link is read on.
const MAX_BEHIND: usize = 64;

/// How long a drained connection waits for the peer's answer that it has received everything, if it can't lose a reply.
const LINGER: Duration = Duration::from_secs(1);

/// The link to one peer, as part of a message link.
pub(crate) struct LinkPeer {
    peer: Arc<PeerShared>,
    routing_id: Bytes,
    /// Messages that were delivered, and whose effects have not been carried out.
    behind: AtomicUsize,
    caught_up: Waiters,
}

impl LinkPeer {
    /// The link is there from now on.
    pub(crate) fn new(peer: Arc<PeerShared>, routing_id: Bytes, address: &str) -> Self {
        peer.lock().attach(address, routing_id.clone(), None, peer.core.now());
        let (behind, caught_up) = (AtomicUsize::new(0), Waiters::default());
        Self { peer, routing_id, behind, caught_up }
    }

    fn is_established(&self) -> bool {
        self.peer.lock().connection.is_established()
    }

    /// Passes a received message to the connection. [`drive`] carries out its effects, on its own task.
    fn deliver(&self, message: Multipart) {
        add(&self.peer.counters.bytes_received, message.size() as u64);
        self.peer.lock().connection.handle_message(self.peer.core.now(), message);
        self.behind.fetch_add(1, Relaxed);
        self.peer.wake();
    }

    /// The effects of a delivered message were carried out, or never will be.
    fn catch_up(&self) {
        if self.behind.swap(0, Relaxed) >= MAX_BEHIND {
            self.caught_up.wake_all();
        }
    }

    /// Waits as long as too many messages wait for their effects. Otherwise a peer that sends faster than its handlers begin would fill the
    /// memory with the events of its messages.
    async fn wait_until_caught_up(&self) {
        while self.behind.load(Relaxed) >= MAX_BEHIND {
            let caught_up = self.caught_up.listen();
            if self.behind.load(Relaxed) >= MAX_BEHIND {
                caught_up.await;
            }
        }
    }
}

/// Sends the messages of a peer's connection, carries out the effects of those that are [delivered](LinkPeer::deliver) meanwhile,
/// and keeps the timers, until the connection ends.
async fn drive(link: &LinkPeer, pump: &mut Pump, sender: &dyn MessageSender) -> DisconnectCause {
    let alarm = Alarm::new(&*link.peer.core.runtime);
    let mut drive = Drive { link, pump, alarm };
    loop {
        for _ in 0..MAX_TURNS {
            let sent = match std::future::poll_fn(|cx| drive.poll_next(cx)).await {
                Ok(message) => drive.send(sender, message).await,
                Err(cause) => Err(cause),
            };
            if let Err(cause) = sent {
                return cause;
            }
        }
        yield_now().await;
    }
}

struct Drive<'a> {
    link: &'a LinkPeer,
    pump: &'a mut Pump,
    alarm: Alarm,
}

impl Drive<'_> {
    async fn send(&mut self, sender: &dyn MessageSender, message: Multipart) -> Result<(), DisconnectCause> {
        let peer = &self.link.peer;
        let size = message.size() as u64;
        let mut sending = sender.send(&self.link.routing_id, message);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = sending.poll_unpin(cx) {
                return Poll::Ready(result.map_err(DisconnectCause::Link));
            }
            peer.lock().connection.handle_write_blocked(peer.core.now());
            self.poll_end(cx).map(Err)
        })
        .await?;
        add(&peer.counters.bytes_sent, size);
        peer.lock().connection.handle_write_progress();
        Ok(())
    }

    /// The next message to be sent, or why there is none any more.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Multipart, DisconnectCause>> {
        let peer = &self.link.peer;
        loop {
            if let Poll::Ready(cause) = self.poll_end(cx) {
                return Poll::Ready(Err(cause));
            }
            let mut state = peer.lock();
            if let Some(message) = state.connection.poll_message(peer.core.now()) {
                return Poll::Ready(Ok(message));
            }
            // Dropping messages instead of sending them may have ended a call or the connection, or made room for requests.
            if !state.connection.has_events() {
                break;
            }
        }
        self.pump.poll_drained(cx, LINGER).map(|()| Err(DisconnectCause::Shutdown))
    }

    /// Does what is due; ready when the connection has ended.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<DisconnectCause> {
        let peer = &self.link.peer;
        peer.inbox.driver.register(cx.waker());
        loop {
            self.link.catch_up();
            self.pump.run();
            if let Some(cause) = peer.end_cause() {
                return Poll::Ready(cause);
            }
            let next = peer.lock().connection.poll_timeout();
            if self.alarm.poll(cx, next, || peer.core.now()).is_pending() {
                return Poll::Pending;
            }
            // A message link has no errors of ZMTP's.
            let _ = peer.lock().connection.handle_timeout(peer.core.now());
            self.pump.shrink();
        }
    }
}

/// Receives from a link, and yields to other tasks now and then.
struct Receiving<'a> {
    receiver: &'a mut dyn MessageReceiver,
    turns: usize,
}

impl Receiving<'_> {
    async fn next(&mut self) -> Result<Received, DisconnectCause> {
        self.turns += 1;
        if self.turns.is_multiple_of(MAX_TURNS) {
            yield_now().await;
        }
        Ok(match self.receiver.receive().await.map_err(DisconnectCause::Link)? {
            Received::Message { from, message } => {
                Received::Message { from: guarded(from), message: guarded_message(message) }
            }
            gone => gone,
        })
    }
}

/// Drives a link that has a single peer to its end.
pub(crate) async fn drive_single(
    link: &LinkPeer,
    pump: &mut Pump,
    sender: &dyn MessageSender,
    receiver: &mut dyn MessageReceiver,
) -> DisconnectCause {
    let receiving = async {
        let mut receiving = Receiving { receiver, turns: 0 };
        loop {
            match receiving.next().await {
                Ok(Received::Message { message, .. }) => link.deliver(message),
                Ok(Received::Gone { .. }) => return DisconnectCause::PeerClosed,
                Err(cause) => return cause,
            }
        }
    };
    let cause = match select(pin!(receiving), pin!(drive(link, pump, sender))).await {
        Either::Left((cause, _)) | Either::Right((cause, _)) => cause,
    };
    // Messages received before the end still count.
    pump.run();
    cause
}

/// The same for a peer that a binder has accepted: as long as its handshake is not complete, it may be evicted.
pub(crate) async fn drive_accepted(
    link: &LinkPeer,
    pump: &mut Pump,
    sender: &dyn MessageSender,
    receiver: &mut dyn MessageReceiver,
    handshake: HandshakeSlot,
) -> DisconnectCause {
    let mut handshake = Some(handshake);
    let mut driving = pin!(drive_single(link, pump, sender, receiver));
    std::future::poll_fn(|cx| {
        // An eviction wakes the peer's driver, which is this task. Register before the check, or an eviction in between would be missed.
        link.peer.inbox.driver.register(cx.waker());
        if handshake.as_ref().is_some_and(HandshakeSlot::is_evicted) {
            return Poll::Ready(DisconnectCause::TooManyHandshakes);
        }
        let driven = driving.as_mut().poll(cx);
        if handshake.is_some() && link.is_established() {
            handshake = None;
        }
        driven
    })
    .await
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
        let mut receiving = Receiving { receiver, turns: 0 };
        let cause = loop {
            match receiving.next().await {
                Ok(Received::Message { from, message }) => {
                    if let Some(link) = self.take(from, message) {
                        link.wait_until_caught_up().await;
                    }
                }
                Ok(Received::Gone { peer }) => {
                    if let Some(link) = self.find(&peer) {
                        self.end(&link, DisconnectCause::PeerClosed);
                    }
                }
                Err(cause) => break cause,
            }
        };
        self.end_all(&cause).await;
        cause
    }

    /// The link has failed. There may be thousands of peers, so yield to other tasks in between.
    async fn end_all(&self, cause: &DisconnectCause) {
        let peers: Vec<_> = self.peers.lock().values().cloned().collect();
        peers.iter().for_each(|link| link.peer.start_no_more());
        for few in peers.chunks(MAX_TURNS) {
            few.iter().for_each(|link| self.end(link, cause.clone()));
            yield_now().await;
        }
    }

    fn find(&self, routing_id: &Bytes) -> Option<Arc<LinkPeer>> {
        self.peers.lock().get(routing_id).cloned()
    }

    /// Returns the link that the message was delivered to, if it goes on.
    fn take(self: &Arc<Self>, from: Bytes, message: Multipart) -> Option<Arc<LinkPeer>> {
        let Some(link) = self.find(&from) else {
            self.admit(from, message);
            return None;
        };
        if let Some(cause) = link.peer.end_cause() {
            self.end(&link, cause);
            self.admit(from, message);
            return None;
        }
        let hello = is_hello(&message).then(|| message.clone());
        link.deliver(message);
        let Some(cause) = link.peer.end_cause() else { return Some(link) };
        let restarted = matches!(cause, DisconnectCause::Connection(CloseCause::PeerRestarted));
        self.end(&link, cause);
        if restarted && let Some(hello) = hello {
            self.admit(from, hello);
        }
        None
    }

    /// Begins a connection to a peer that speaks for the first time, if it says something that begins one.
    fn admit(self: &Arc<Self>, from: Bytes, message: Multipart) {
        if !begins_connection(&message) {
            tracing::debug!(routing_id = %from.escape_ascii(), "message of an unknown peer dropped");
            return;
        }
        let address = format!("message link, peer {}", from.escape_ascii());
        if self.peers.lock().len() >= self.node.core.config.max_link_peers {
            return self.node.report_refusal(address, DisconnectCause::TooManyPeers);
        }
        let peer = PeerShared::over_messages(&self.node.core, Role::Binder);
        if !self.node.admit(&peer) {
            return;
        }
        let link = Arc::new(LinkPeer::new(peer, from.clone(), &address));
        let mut pump = Pump::new(self.node.clone(), link.peer.clone());
        self.peers.lock().insert(from, link.clone());
        link.deliver(message);
        if !link.is_established() {
            // The message does not begin a connection after all. The application has not seen this peer, so no event reports its end.
            let cause = link.peer.end_cause().unwrap_or(DisconnectCause::PeerClosed);
            self.end(&link, cause);
            return;
        }
        let admitted = Admitted { of: self.clone(), link, cause: DisconnectCause::Shutdown };
        self.node.core.tasks.spawn(&*self.node.core.runtime, None, async move {
            let driving = AssertUnwindSafe(drive(&admitted.link, &mut pump, &*admitted.of.sender));
            let cause = driving.catch_unwind().await.unwrap_or(DisconnectCause::Panicked);
            admitted.conclude(cause);
        });
    }

    /// Removes a link from the list. Returns whether it was still listed.
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
        link.peer.detach(&cause, false);
        link.peer.wake();
        link.catch_up();
        self.node.expel(link.peer.id, cause);
    }
}

/// A peer of a link. When its task has ended, so has its connection: also if the runtime drops the task.
struct Admitted {
    of: Arc<PeersOfLink>,
    link: Arc<LinkPeer>,
    /// Why the connection has ended.
    cause: DisconnectCause,
}

impl Admitted {
    fn conclude(mut self, cause: DisconnectCause) {
        self.cause = cause;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.of.end(&self.link, self.cause.clone());
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
