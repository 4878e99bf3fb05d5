//! The side that connects: one remote peer, over one connection after the other.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use callosum_proto::Role;
use callosum_proto::zmtp;
use futures_util::future::{Either, select};

use crate::config::Reconnect;
use crate::error::{DisconnectCause, Drained, DriverError};
use crate::event::{Event, Events};
use crate::handlers::Handlers;
use crate::link::pump::{Alarm, Pump};
use crate::link::stream::StreamLink;
use crate::link::{LinkPeer, MessageReceiver, MessageSender, drive_single};
use crate::node::{Node, Phase};
use crate::peer::PeerShared;
use crate::rt::{BoxStream, from_now, sleep_until, until};
use crate::stats::Stats;
use crate::{Driver, Endpoint, Peer, inproc};

/// The side that connects. It serves and calls, like a [`Binder`](crate::Binder).
#[derive(Clone)]
pub struct Connector {
    node: Arc<Node>,
    peer: Peer,
}

impl Connector {
    pub(crate) fn to_endpoint(node: Arc<Node>, endpoint: Endpoint) -> (Self, Driver) {
        let peer = PeerShared::new(&node.core, Role::Connector);
        node.admit(&peer);
        let run = run(node.clone(), peer.clone(), endpoint);
        (Self { node: node.clone(), peer: node.handle(&peer, None) }, Driver::new(node, run))
    }

    pub(crate) fn over_stream(node: Arc<Node>, stream: BoxStream) -> (Self, Driver) {
        let peer = PeerShared::new(&node.core, Role::Connector);
        node.admit(&peer);
        let (of, to) = (node.clone(), peer.clone());
        let run = async move {
            let mechanism = identify(&of, &to)?;
            let (cause, _) =
                run_link(&of, &to, (mechanism, stream), String::from("byte stream"), false).await;
            if of.core.is_draining() { Ok(()) } else { Err(DriverError::Disconnected(cause)) }
        };
        (Self { node: node.clone(), peer: node.handle(&peer, None) }, Driver::new(node, run))
    }

    pub(crate) fn over_link(
        node: Arc<Node>,
        sender: Box<dyn MessageSender>,
        mut receiver: Box<dyn MessageReceiver>,
    ) -> (Self, Driver) {
        let peer = PeerShared::over_messages(&node.core, Role::Connector);
        node.admit(&peer);
        let (of, to) = (node.clone(), peer.clone());
        let run = async move {
            if !of.core.config.security.is_plaintext() {
                return Err(DriverError::LinkWithoutAuthentication);
            }
            let link = LinkPeer::new(to.clone(), Bytes::new(), "message link");
            let mut pump = Pump::new(of.clone(), to.clone());
            let driving = pin!(drive_single(&link, &mut pump, &*sender, &mut *receiver));
            let cause = until_cut(&of, driving).await.unwrap_or(DisconnectCause::Shutdown);
            conclude(&of, &to, &cause, false);
            if of.core.is_draining() { Ok(()) } else { Err(DriverError::Disconnected(cause)) }
        };
        (Self { node: node.clone(), peer: node.handle(&peer, None) }, Driver::new(node, run))
    }

    /// The remote peer.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The handlers that answer the remote peer's calls.
    pub fn handlers(&self) -> &Handlers {
        &self.node.handlers
    }

    /// The counters of the endpoint, which are those of its only peer.
    pub fn stats(&self) -> Stats {
        self.node.core.stats()
    }

    /// The events of the connections from now on.
    pub fn events(&self) -> Events {
        self.node.events()
    }

    /// Accepts no new calls from either side, gives the calls in progress up to `grace_period` to finish, writes their
    /// replies to the socket and waits until the peer has received them, then ends the driver. After the grace period, the
    /// remaining calls of this side end with an error, and the remaining handlers are stopped.
    ///
    /// A peer that stalls is waited for up to the grace period if it has not acknowledged all replies and streams, with its
    /// answer to a heartbeat, to [`Peer::ping`] or to a probe of the shutdown. Otherwise closing the connection takes 1 s at
    /// most, or [`Limits::write_timeout`](crate::Limits::write_timeout) if it takes no bytes.
    ///
    /// When this returns, every call of this side has its outcome: its future is ready, unless a [layer](crate::layer) of the
    /// application still waits for something else.
    ///
    /// Needs the driver to run. Cancel safe: once polled, the shutdown goes on. A handler that awaits it waits for
    /// itself until the grace period is over: poll it once there, or spawn it.
    pub async fn shutdown(&self, grace_period: Duration) -> Drained {
        shutdown(&self.node, grace_period).await
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("peer", &self.peer).finish_non_exhaustive()
    }
}

pub(crate) async fn shutdown(node: &Node, grace_period: Duration) -> Drained {
    node.drain(from_now(&*node.core.runtime, grace_period));
    node.wait_until_over().await
}

/// Connects, and connects again, until the endpoint is shut down.
async fn run(node: Arc<Node>, peer: Arc<PeerShared>, endpoint: Endpoint) -> Result<(), DriverError> {
    let mechanism = identify(&node, &peer)?;
    let mut backoff = None;
    loop {
        let limit = from_now(&*node.core.runtime, node.core.config.connection.handshake_timeout);
        let attempt = until(&*node.core.runtime, limit, connect(&node, &endpoint));
        let Some(attempt) = while_unlinked(&node, &peer, attempt).await else { return Ok(()) };
        let renew = matches!(node.core.config.reconnect, Reconnect::Backoff { .. });
        let cause = match attempt {
            Some(Ok(stream)) => {
                let over = (mechanism.clone(), stream);
                let (cause, was_established) =
                    run_link(&node, &peer, over, endpoint.to_string(), renew).await;
                if was_established {
                    backoff = None;
                }
                cause
            }
            Some(Err(error)) => error.into(),
            None => DisconnectCause::Io(Arc::new(std::io::ErrorKind::TimedOut.into())),
        };
        if node.core.is_draining() && peer.lock().connection.is_idle() {
            return Ok(());
        }
        let Reconnect::Backoff { first, most } = node.core.config.reconnect else {
            peer.detach(&cause, false);
            return Err(DriverError::Disconnected(cause));
        };
        let delays = backoff.get_or_insert_with(|| longest_delays(first, most));
        let after = jittered(delays.next().unwrap_or(most), chance(node.core.random()));
        node.report(Event::Reconnecting { cause, after });
        let pause = sleep_until(&*node.core.runtime, from_now(&*node.core.runtime, after));
        if while_unlinked(&node, &peer, pause).await.is_none() {
            return Ok(());
        }
    }
}

/// How long each attempt waits at the most.
fn longest_delays(first: Duration, most: Duration) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(first.max(Duration::from_millis(1)))
        .with_max_delay(most.max(first))
        .without_max_times()
        .build()
}

/// From 0, included, to 1, excluded: as many bits as fit.
fn chance(random: [u8; 8]) -> f64 {
    const BITS: u32 = f64::MANTISSA_DIGITS;
    (u64::from_le_bytes(random) >> (u64::BITS - BITS)) as f64 / (1_u64 << BITS) as f64
}

/// Full jitter: anything from nothing to `longest`, as `chance` says, which is from 0 to 1. Those who lost the same server
/// don't all come back at once.
fn jittered(longest: Duration, chance: f64) -> Duration {
    longest.mul_f64(chance)
}

/// The mechanism of the link. Without an identity, no link is made.
fn identify(node: &Node, peer: &Arc<PeerShared>) -> Result<zmtp::Mechanism, DriverError> {
    node.core.config.security.mechanism(Role::Connector).map_err(|error| {
        let cause = DisconnectCause::from(error);
        peer.detach(&cause, false);
        DriverError::Disconnected(cause)
    })
}

async fn connect(node: &Node, endpoint: &Endpoint) -> std::io::Result<BoxStream> {
    match endpoint {
        Endpoint::Inproc(name) => inproc::connect(name).await,
        other => Ok(node.core.runtime.connect(other, node.core.config.socket).await?),
    }
}

/// Drives a link to its end; also tells whether its handshake was ever complete.
async fn run_link(
    node: &Arc<Node>,
    peer: &Arc<PeerShared>,
    (mechanism, stream): (zmtp::Mechanism, BoxStream),
    address: String,
    renew: bool,
) -> (DisconnectCause, bool) {
    let mut link = StreamLink::new(node.clone(), peer.clone(), mechanism, stream, address, None);
    let cause = until_cut(node, &mut link).await.unwrap_or(DisconnectCause::Shutdown);
    let was_established = link.was_established();
    drop(link);
    conclude(node, peer, &cause, renew);
    (cause, was_established)
}

/// A link has ended; with `renew`, there may be another.
fn conclude(node: &Node, peer: &Arc<PeerShared>, cause: &DisconnectCause, renew: bool) {
    peer.detach(cause, renew && node.phase() == Phase::Running);
    node.lost_link(peer.id, cause.clone());
}

/// `future`, or `None` once a shutdown's deadline has passed.
async fn until_cut<F: Future + Unpin>(node: &Node, future: F) -> Option<F::Output> {
    let cut = pin!(deadline_passed(node));
    match select(future, cut).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// Waits for the deadline of a shutdown; marks it as passed.
pub(crate) async fn deadline_passed(node: &Node) {
    loop {
        let changed = node.phase_changed.listen();
        match node.phase() {
            Phase::Running => changed.await,
            Phase::Draining(deadline) => {
                if until(&*node.core.runtime, deadline, changed).await.is_none() {
                    return node.finish(Drained::DeadlinePassed);
                }
            }
            Phase::Ending(_) | Phase::Over(_) => return,
        }
    }
}

/// Waits for `future` while the connection has no link: its timers go on, and a shutdown ends the wait, with `None`,
/// when nothing waits for a link any more or its deadline has passed.
async fn while_unlinked<F: Future>(node: &Arc<Node>, peer: &Arc<PeerShared>, future: F) -> Option<F::Output> {
    let mut pump = Pump::new(node.clone(), peer.clone());
    let mut alarm = Alarm::new(&*node.core.runtime);
    let mut future = pin!(future);
    let unlinked = std::future::poll_fn(|cx| {
        peer.inbox.driver.register(cx.waker());
        if let Some(cause) = peer.end_cause() {
            // The application closed the connection while there was no link: end the waiting calls.
            peer.detach(&cause, node.phase() == Phase::Running);
            pump = Pump::new(node.clone(), peer.clone());
        }
        loop {
            let now = node.core.now();
            // Its transport is a link of its own.
            let _ = peer.lock().connection.handle_timeout(now);
            pump.run();
            if pump.is_drained() {
                return Poll::Ready(None);
            }
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            let next = peer.lock().connection.poll_timeout();
            if alarm.poll(cx, next, || node.core.now()).is_pending() {
                return Poll::Pending;
            }
        }
    });
    until_cut(node, unlinked).await.flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(reconnect: Reconnect, count: usize) -> Vec<u128> {
        let Reconnect::Backoff { first, most } = reconnect else { panic!("{reconnect:?}") };
        longest_delays(first, most).take(count).map(|delay| delay.as_millis()).collect()
    }

    #[test]
    fn delays_double_from_100_ms_to_30_s() {
        let expected = [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000, 30_000];
        assert_eq!(delays(Reconnect::default(), 12), expected);
        assert_eq!(delays(Reconnect::default(), 10_000).last(), Some(&30_000), "it never gives up");
    }

    #[test]
    fn jitter_is_full() {
        for longest in [Duration::from_millis(100), Duration::from_secs(30)] {
            assert_eq!(jittered(longest, chance([0; 8])), Duration::ZERO);
            assert_eq!(jittered(longest, chance((u64::MAX / 4 + 1).to_le_bytes())), longest / 4);
            let most = jittered(longest, chance([u8::MAX; 8]));
            assert!(most <= longest && most > longest * 99 / 100, "{most:?}");
        }
    }

    #[test]
    fn delays_are_never_nothing() {
        let backoff = |first, most| Reconnect::Backoff {
            first: Duration::from_millis(first),
            most: Duration::from_millis(most),
        };
        assert_eq!(delays(backoff(0, 0), 3)[0], 1);
        assert_eq!(delays(backoff(50, 20), 3), [50, 50, 50]);
    }
}
