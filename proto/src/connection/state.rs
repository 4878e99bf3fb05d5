//! Read-only queries: the state of a connection, its dialect, its calls and its queues.

use std::fmt;

use super::{Connection, Phase};
use crate::config::Dialect;
use crate::event::CloseCause;
use crate::ids::{CallId, RequestId};

impl Connection {
    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.close_cause().is_some()
    }

    /// Why the connection has ended; `None` while it is open.
    pub fn close_cause(&self) -> Option<CloseCause> {
        match self.phase {
            Phase::Closed(cause) => Some(cause),
            _ => None,
        }
    }

    /// Whether the handshake is complete.
    pub fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Established { .. })
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Handshaking | Phase::Established { .. })
    }

    /// The dialect in use; `None` unless the handshake is complete and the connection open.
    pub fn dialect(&self) -> Option<Dialect> {
        match self.phase {
            Phase::Established { dialect, .. } => Some(dialect),
            _ => None,
        }
    }

    /// Whether more than [`max_outgoing_bytes`](crate::ConnectionConfig::max_outgoing_bytes) wait to be sent,
    /// so that no more requests of the peer start. Arguments that are being sent don't count.
    #[cfg(any(test, feature = "internals"))]
    #[doc(hidden)]
    pub fn is_backlogged(&self) -> bool {
        self.calls.is_backlogged()
    }

    /// Bytes of calls and replies that wait to be sent. Without streams, which
    /// [`ConnectionConfig::stream_buffer`](crate::ConnectionConfig::stream_buffer) limits.
    pub fn queued_bytes(&self) -> usize {
        self.calls.queued_bytes()
    }

    /// Credit held by received and unread stream data: its bytes, plus 32 for each record.
    pub fn held_bytes(&self) -> u64 {
        self.calls.held_bytes()
    }

    /// Whether [`drain`](Self::drain) was called.
    pub fn is_draining(&self) -> bool {
        self.calls.is_draining()
    }

    /// Whether the peer has received all replies, and the ends of all streams, that have been sent: it has
    /// answered a later PING, of [`ping`](Self::ping) or of the heartbeat of ZMTP (K-5). Closing the transport
    /// earlier may lose some of them.
    pub fn is_acknowledged(&self) -> bool {
        self.acknowledgement.is_complete()
    }

    /// Whether there are no calls of this side, no requests of the peer, and nothing to send. Without a
    /// transport, only calls count.
    pub fn is_idle(&self) -> bool {
        // Without a transport, only calls and probes can wait, and nobody waits for the answer to a probe.
        self.calls.is_idle() || (self.phase == Phase::Unconnected && self.calls.open_calls() == 0)
    }

    /// Calls of this side that have not ended.
    pub fn open_calls(&self) -> usize {
        self.calls.open_calls()
    }

    /// Requests of the peer that have not been answered.
    pub fn open_requests(&self) -> usize {
        self.calls.open_requests()
    }

    /// Whether a request of the peer has not been answered.
    pub fn is_open(&self, request: RequestId) -> bool {
        self.calls.is_open(request)
    }

    /// The `first_call` of a connection that replaces this one.
    pub fn next_call(&self) -> CallId {
        self.calls.next_call()
    }
}

impl fmt::Debug for Connection {
    /// Omits the application's data: methods, keys and bodies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("role", &self.role)
            .field("phase", &self.phase)
            .field("draining", &self.is_draining())
            .field("open_calls", &self.open_calls())
            .field("open_requests", &self.open_requests())
            .field("queued_bytes", &self.queued_bytes())
            .finish_non_exhaustive()
    }
}
