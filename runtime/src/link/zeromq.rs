//! Sockets of the `zeromq` crate as message links.
//!
//! Checked against the source of 0.7.0: a `recv` that is dropped loses no message; a `send` that is dropped may lose
//! its own, and no other; the clones of a sending half send to different peers independently.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::zeromq::util::PeerIdentity;
use ::zeromq::{
    DealerSendHalf, DealerSocket, RouterSendHalf, RouterSocket, Socket, SocketEvent, SocketRecv, SocketSend,
    ZmqError, ZmqMessage, ZmqResult,
};
use bytes::Bytes;
use callosum_proto::Multipart;
use futures_channel::mpsc;
use futures_util::Stream;
use futures_util::future::{BoxFuture, Either};
use futures_util::lock::Mutex;

use super::{LinkFailure, MessageReceiver, MessageSender, Received};
use crate::{Binder, Builder, Connector, Driver};

impl<S> Builder<S> {
    /// Speaks over a DEALER socket of the `zeromq` crate, as the side that speaks first. The socket must be connected,
    /// to one endpoint.
    ///
    /// Compared to [`connect`](Self::connect), version 0.7.0 of that crate lacks:
    /// - encryption and authentication (no CURVE, no PLAIN: it speaks NULL to every peer);
    /// - a limit for the size of what it receives, and for the number of frames: the peer decides how much memory it
    ///   takes. [`Limits`](crate::Limits) apply to what has been received;
    /// - a limit in bytes for what it keeps to be sent: it takes up to 100,000 messages for a peer, however large and
    ///   whether the peer reads or not, so that `write_timeout` and `max_outgoing_bytes` come too late to bound memory;
    /// - heartbeats: a peer that vanishes without closing its connection is found out by
    ///   [`keepalive`](Self::keepalive) only, or by TCP;
    /// - reconnecting of a DEALER: when the connection ends the driver does, with an error.
    ///
    /// The socket's monitor is taken over: it tells when the peer is gone. What the socket has taken to be sent is
    /// written by tasks of its own, which the driver does not own; a [`shutdown`](Connector::shutdown) that drains
    /// waits for the peer's answer that it has received everything: up to the grace period if it has not acknowledged all replies
    /// and streams, else up to 1 s.
    pub fn connect_zeromq(self, mut socket: DealerSocket) -> (Connector, Driver) {
        let monitor = socket.monitor();
        let (sender, receiver) = socket.split();
        self.connect_link(Single(Mutex::new(sender)), Incoming::new(receiver, monitor, false))
    }

    /// Speaks over a ROUTER socket of the `zeromq` crate, with each peer that speaks first. The socket must be
    /// bound: it can't be once it is given away.
    ///
    /// It lacks what [`connect_zeromq`](Self::connect_zeromq) lists, and:
    /// - a limit for the connections that it accepts, and for the time that their handshake may take;
    /// - protection of identities: a newcomer that announces the identity of another peer takes over that peer's place
    ///   and its replies, and may lose it again when that crate notices the end of the other's connection. Peers that don't announce one
    ///   get a random one each.
    pub fn bind_zeromq(self, mut socket: RouterSocket) -> (Binder, Driver) {
        let monitor = socket.monitor();
        let (sender, receiver) = socket.split();
        self.bind_link(Many(sender), Incoming::new(receiver, monitor, true))
    }
}

/// The sending half of a ROUTER, of which a clone is made for each message.
struct Many(RouterSendHalf);

impl MessageSender for Many {
    fn send<'a>(&'a self, to: &'a Bytes, message: Multipart) -> BoxFuture<'a, Result<(), LinkFailure>> {
        let mut half = self.0.clone();
        Box::pin(async move { half.send(with_routing_id(Some(to), message)).await.map_err(failure) })
    }
}

/// The sending half of a DEALER. Its lock is never waited for: there is one peer, and one message at a time.
struct Single(Mutex<DealerSendHalf>);

impl MessageSender for Single {
    fn send<'a>(&'a self, _to: &'a Bytes, message: Multipart) -> BoxFuture<'a, Result<(), LinkFailure>> {
        Box::pin(
            async move { self.0.lock().await.send(with_routing_id(None, message)).await.map_err(failure) },
        )
    }
}

fn with_routing_id(routing_id: Option<&Bytes>, message: Multipart) -> ZmqMessage {
    let frames: VecDeque<_> = routing_id.cloned().into_iter().chain(message.into_frames()).collect();
    ZmqMessage::try_from(frames).expect("a connection sends no message without frames")
}

fn failure(error: ZmqError) -> LinkFailure {
    Arc::new(error)
}

/// A receiving half, and the monitor that tells which peers have gone.
struct Incoming<R> {
    half: R,
    monitor: mpsc::Receiver<SocketEvent>,
    /// Whether the first frame of each message is a routing id.
    routed: bool,
    /// Received, but the monitor may have something to say that happened before.
    held: Option<ZmqMessage>,
}

impl<R: SocketRecv + Send + 'static> Incoming<R> {
    fn new(half: R, monitor: mpsc::Receiver<SocketEvent>, routed: bool) -> Self {
        Self { half, monitor, routed, held: None }
    }

    async fn next(&mut self) -> ZmqResult<Received> {
        let message = match self.held.take() {
            Some(message) => message,
            None => {
                let next = {
                    let mut receiving = self.half.recv();
                    let monitor = &mut self.monitor;
                    let next = poll_fn(|cx| match poll_gone(monitor, cx) {
                        Poll::Ready(peer) => Poll::Ready(Either::Left(peer)),
                        Poll::Pending => receiving.as_mut().poll(cx).map(Either::Right),
                    });
                    next.await
                };
                match next {
                    Either::Left(peer) => return Ok(self.gone(peer)),
                    Either::Right(message) => message?,
                }
            }
        };
        // Report a departure before a message that arrived after it, even if the monitor reports it late: otherwise a new
        // peer with the same identity is taken for the one that left.
        if let Poll::Ready(peer) = poll_fn(|cx| Poll::Ready(poll_gone(&mut self.monitor, cx))).await {
            self.held = Some(message);
            return Ok(self.gone(peer));
        }
        let mut frames = message.into_vecdeque();
        let from = if self.routed { frames.pop_front().unwrap_or_default() } else { Bytes::new() };
        Ok(Received::Message { from, message: Multipart::from_frames(frames).unwrap_or_default() })
    }

    fn gone(&self, peer: PeerIdentity) -> Received {
        Received::Gone { peer: if self.routed { peer.into() } else { Bytes::new() } }
    }
}

impl<R: SocketRecv + Send + 'static> MessageReceiver for Incoming<R> {
    fn receive(&mut self) -> BoxFuture<'_, Result<Received, LinkFailure>> {
        Box::pin(async { self.next().await.map_err(failure) })
    }
}

/// The next peer that has gone.
fn poll_gone(monitor: &mut mpsc::Receiver<SocketEvent>, cx: &mut Context<'_>) -> Poll<PeerIdentity> {
    loop {
        match Pin::new(&mut *monitor).poll_next(cx) {
            Poll::Ready(Some(SocketEvent::Disconnected(peer))) => return Poll::Ready(peer),
            Poll::Ready(Some(_)) => {}
            // Without a monitor, only the keepalive detects a dead peer.
            Poll::Ready(None) | Poll::Pending => return Poll::Pending,
        }
    }
}
