//! A message link within the process.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use callosum_proto::Multipart;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, SelectAll, Stream, StreamExt};

use super::{LinkFailure, MessageReceiver, MessageSender, Received};
use crate::channel::{self, Receiver, Sender};
use crate::lock::Mutex;

/// A message link in memory: a hub, like a ROUTER socket, to which any number of peers [`connect`](Hub::connect).
///
/// Each direction of each connection holds up to `capacity` messages, at least 1; a sender waits beyond that. The link fails
/// when no [`Hub`] is left and no peer is connected.
pub fn memory(capacity: usize) -> (Hub, HubSender, HubReceiver) {
    let (joins, joined) = channel::unbounded();
    let connections = Arc::new(Mutex::new(Connections::default()));
    let hub = Hub { capacity: capacity.max(1), joins, connections: connections.clone() };
    let receiver = HubReceiver { joined, inboxes: SelectAll::new(), connections: connections.clone() };
    (hub, HubSender { connections }, receiver)
}

/// Where peers connect to a [`memory`] link. All clones are the same hub.
#[derive(Clone, Debug)]
pub struct Hub {
    capacity: usize,
    joins: Sender<Inbox>,
    connections: Arc<Mutex<Connections>>,
}

/// The sending half of the side with many peers.
#[derive(Debug)]
pub struct HubSender {
    connections: Arc<Mutex<Connections>>,
}

/// The receiving half of the side with many peers.
pub struct HubReceiver {
    joined: Receiver<Inbox>,
    /// The messages of the connections; `None` at the end of one.
    inboxes: SelectAll<BoxStream<'static, (Name, Option<Multipart>)>>,
    connections: Arc<Mutex<Connections>>,
}

/// The sending half of a peer. Dropping it leaves the hub.
#[derive(Debug)]
pub struct MemorySender(Sender<Multipart>);

/// The receiving half of a peer.
#[derive(Debug)]
pub struct MemoryReceiver(Receiver<Multipart>);

/// A routing id, and a number that tells those apart who had it in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    routing_id: Bytes,
    serial: u64,
}

#[derive(Debug)]
struct Inbox {
    name: Name,
    messages: Receiver<Multipart>,
}

#[derive(Debug, Default)]
struct Connections {
    outboxes: BTreeMap<Bytes, (u64, Sender<Multipart>)>,
    next: u64,
}

impl Connections {
    fn is_current(&self, name: &Name) -> bool {
        self.outboxes.get(&name.routing_id).is_some_and(|(serial, _)| *serial == name.serial)
    }

    /// Dropping what this gives wakes the peer's task.
    fn leave(&mut self, name: &Name) -> Option<(u64, Sender<Multipart>)> {
        self.is_current(name).then(|| self.outboxes.remove(&name.routing_id)).flatten()
    }
}

impl Hub {
    /// Connects a peer. One that takes the routing id of another takes its place: the former receives nothing any
    /// more, and what it still sends is lost.
    pub fn connect(&self, routing_id: impl Into<Bytes>) -> (MemorySender, MemoryReceiver) {
        let routing_id = routing_id.into();
        let (inbox, messages) = channel::bounded(self.capacity);
        let (outbox, received) = channel::bounded(self.capacity);
        let (name, replaced) = {
            let mut connections = self.connections.lock();
            let serial = connections.next;
            connections.next += 1;
            let replaced = connections.outboxes.insert(routing_id.clone(), (serial, outbox));
            (Name { routing_id, serial }, replaced)
        };
        // Without the lock, as both wake tasks, and the former may hold messages of the application.
        drop(replaced);
        if self.joins.try_send(Inbox { name: name.clone(), messages }).is_err() {
            // There is no receiver: both halves are closed from the start.
            let outbox = self.connections.lock().leave(&name);
            drop(outbox);
        }
        (MemorySender(inbox), MemoryReceiver(received))
    }
}

fn gone<T>(_: T) -> LinkFailure {
    Arc::new(io::Error::from(io::ErrorKind::NotConnected))
}

impl MessageSender for HubSender {
    fn send<'a>(&'a self, to: &'a Bytes, message: Multipart) -> BoxFuture<'a, Result<(), LinkFailure>> {
        let outbox = self.connections.lock().outboxes.get(to).map(|(_, outbox)| outbox.clone());
        Box::pin(async move { outbox.ok_or_else(|| gone(()))?.send(message).await.map_err(gone) })
    }
}

impl MessageReceiver for HubReceiver {
    fn receive(&mut self) -> BoxFuture<'_, Result<Received, LinkFailure>> {
        Box::pin(std::future::poll_fn(|cx| self.poll_receive(cx)))
    }
}

impl HubReceiver {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, LinkFailure>> {
        let mut closed = false;
        loop {
            match self.joined.poll_next_unpin(cx) {
                Poll::Ready(Some(Inbox { name, messages })) => {
                    let end = futures_util::stream::once(std::future::ready((name.clone(), None)));
                    let named = messages.map(move |message| (name.clone(), Some(message)));
                    self.inboxes.push(named.chain(end).boxed());
                    continue;
                }
                Poll::Ready(None) => closed = true,
                Poll::Pending => {}
            }
            match Pin::new(&mut self.inboxes).poll_next(cx) {
                Poll::Ready(Some((name, message))) => {
                    if let Some(received) = self.receive_from(name, message) {
                        return Poll::Ready(Ok(received));
                    }
                }
                // No hub is left to connect to, and no peer is connected.
                Poll::Ready(None) if closed => return Poll::Ready(Err(gone(()))),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn receive_from(&self, name: Name, message: Option<Multipart>) -> Option<Received> {
        let Some(message) = message else {
            let left = self.connections.lock().leave(&name)?;
            drop(left);
            return Some(Received::Gone { peer: name.routing_id });
        };
        let is_current = self.connections.lock().is_current(&name);
        is_current.then_some(Received::Message { from: name.routing_id, message })
    }
}

impl Drop for HubReceiver {
    fn drop(&mut self) {
        self.joined.close();
        let left = std::mem::take(&mut self.connections.lock().outboxes);
        drop(left);
    }
}

impl std::fmt::Debug for HubReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubReceiver").finish_non_exhaustive()
    }
}

impl MessageSender for MemorySender {
    fn send<'a>(&'a self, _to: &'a Bytes, message: Multipart) -> BoxFuture<'a, Result<(), LinkFailure>> {
        Box::pin(async move { self.0.send(message).await.map_err(gone) })
    }
}

impl MessageReceiver for MemoryReceiver {
    fn receive(&mut self) -> BoxFuture<'_, Result<Received, LinkFailure>> {
        Box::pin(async {
            let message = self.0.next().await;
            Ok(message.map_or(Received::Gone { peer: Bytes::new() }, |message| Received::Message {
                from: Bytes::new(),
                message,
            }))
        })
    }
}
