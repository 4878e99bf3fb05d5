//! Whether a peer is there: waiting for its connection, and probes.

use std::time::Duration;

use callosum_proto::ConnectionId;
use futures_channel::oneshot;

use super::shared::PeerShared;
use crate::error::{CallError, DisconnectCause, NotSent};

impl PeerShared {
    /// Waits until the peer is connected. Fails if it will not be, or is not admitted.
    pub(crate) async fn ready(&self) -> Result<(), DisconnectCause> {
        let (established, _gone) = {
            let mut state = self.lock();
            if state.over {
                return Err(state.cause.clone().unwrap_or(DisconnectCause::Shutdown));
            }
            if state.linked && state.connection.is_established() {
                return Ok(());
            }
            // Dropped without the lock.
            let mut gone = Vec::new();
            if state.ready.len() == state.ready.capacity() {
                // Remove waiters that gave up: callers that repeat `ready` with a timeout would pile up while there is no link. Doubling
                // the capacity makes the cost per waiter constant.
                gone.extend(state.ready.extract_if(.., |waiter| waiter.is_canceled()));
                let left = state.ready.len();
                state.ready.reserve_exact(left.max(4));
            }
            let (sender, receiver) = oneshot::channel();
            state.ready.push(sender);
            (receiver, gone)
        };
        established.await.map_err(|_| self.lock().cause.clone().unwrap_or(DisconnectCause::Shutdown))
    }

    /// Sends a probe and waits for its answer, if fewer than `most` are unanswered.
    pub(crate) async fn probe(&self, most: usize) -> Result<Duration, CallError> {
        let (mut probe, answer) = {
            let mut state = self.lock();
            if state.pings.len() >= most {
                return Err(NotSent::TooManyProbes.into());
            }
            let ping = state.connection.ping().map_err(NotSent::Refused)?;
            let (sender, answer) = oneshot::channel();
            state.pings.insert(ping, sender);
            (Probe { peer: self, connection: state.connection.id(), ping: Some(ping) }, answer)
        };
        self.wake();
        let answer = answer.await;
        probe.ping = None;
        answer.map_err(|_| {
            CallError::Disconnected(self.lock().cause.clone().unwrap_or(DisconnectCause::Shutdown))
        })
    }
}

/// A pending probe. Dropping it forgets the probe.
struct Probe<'a> {
    peer: &'a PeerShared,
    connection: ConnectionId,
    ping: Option<u64>,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(ping) = self.ping {
            let mut state = self.peer.lock();
            // A later connection numbers its probes anew.
            if state.connection.id() == self.connection {
                let sender = state.pings.remove(&ping);
                // Otherwise dropped probes would push out probes that are still awaited.
                state.connection.forget_ping(ping);
                drop(state);
                // This wakes a waker, which must not happen under a lock.
                drop(sender);
            }
        }
    }
}
