//! Queries of a connection: its state, its peer, and the number of its calls.

use std::fmt;

use super::{Connection, Phase};
use crate::config::Dialect;
use crate::event::CloseCause;
use crate::ids::{CallId, RequestId};

impl Connection {
    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.close_cause().is_some()
    }

    /// Why the connection is over, if it is.
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

    /// What is spoken, once the handshake is complete.
    pub fn dialect(&self) -> Option<Dialect> {
        match self.phase {
            Phase::Established { dialect, .. } => Some(dialect),
            _ => None,
        }
    }

    /// Whether so much waits to be sent that no more of the peer's requests should start.
    pub fn is_backlogged(&self) -> bool {
        self.calls.is_backlogged()
    }

    /// Bytes of calls and replies that wait to be sent, without those of streams, which
    /// [`ConnectionConfig::stream_buffer`](crate::ConnectionConfig::stream_buffer) bounds.
    pub fn queued_bytes(&self) -> usize {
        self.calls.queued_bytes()
    }

    /// Bytes of streams that were received and not read, and what they count for besides.
    pub fn held_bytes(&self) -> u64 {
        self.calls.held_bytes()
    }

    /// Calls of ours that have not ended.
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
    /// Leaves out what is the application's: methods, keys and bodies.
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
