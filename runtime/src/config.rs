//! The configuration of an endpoint: limits, reconnecting, and the values that the parts of an endpoint look up.
//!
//! One idiom: a type starts with its defaults, and has a setter for each value; setters can be chained.

use std::sync::Arc;
use std::time::Duration;

use callosum_proto::{ConnectionConfig, EndpointConfig, Keepalive};

use crate::auth::Security;
use crate::error::{HandlerExists, at_least_one_milli};
use crate::{Codec, SocketOptions};

/// Whether a call waits or fails while a connector has no connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhileDisconnected {
    /// It waits for the connection, up to its timeout, or until the other side rejects this one (see
    /// [`DisconnectCause::is_authentication_failure`](crate::DisconnectCause::is_authentication_failure)). The default.
    #[default]
    Wait,
    /// It fails at once with [`NotSent::NotConnected`](crate::NotSent::NotConnected).
    Fail,
}

/// Whether and when a connector reconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reconnect {
    /// It tries again, after a random time between zero and a delay that doubles from `first` to `most` ("full
    /// jitter"), so that many connectors don't reconnect at the same time.
    Backoff {
        /// The first delay. Default 100 ms.
        first: Duration,
        /// The longest delay. Default 30 s.
        most: Duration,
    },
    /// It does not reconnect: pending calls fail, and the driver returns the cause.
    Never,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self::Backoff { first: Duration::from_millis(100), most: Duration::from_secs(30) }
    }
}

/// A struct of values with a setter for each.
macro_rules! setters {
    (
        $(#[$of_type:meta])*
        pub struct $type:ident { $( $(#[$of_setter:meta])* $name:ident: $value:ty, )* }
    ) => {
        $(#[$of_type])*
        pub struct $type { $( pub(crate) $name: $value, )* }

        impl $type { $(
            $(#[$of_setter])*
            pub fn $name(mut self, $name: $value) -> Self {
                self.$name = $name;
                self
            }
        )* }
    };
}

setters! {
    /// Limits of an endpoint. The guide's page *Limits and tuning* says what happens at each.
    ///
    /// ```
    /// # use callosum_runtime::Limits;
    /// let limits = Limits::default().max_body(1 << 20).max_queue(100);
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    #[must_use = "limits hold for the builder that they are given to"]
    pub struct Limits {
        /// Largest body of a call or a result, compressed or not, and largest item of a typed stream, in bytes.
        /// Default 10 MiB.
        max_body: usize,
        /// Handlers that run at a time, for all peers together, without those that have
        /// [released their slot](crate::Context::release_slot). Default 100.
        max_concurrency: usize,
        /// The share of these slots that the handlers of one peer may hold, in percent, rounded up; 0 counts as one
        /// slot. Past it, the peer's requests wait, even if no other peer has any, so that other peers find a free slot
        /// even if these handlers never end. Set 100 if there is only one peer. Default 80.
        max_share_per_peer: u8,
        /// Requests of one peer that wait for a slot or their key. One more is refused as `Busy`. Default 1,000.
        max_queue: usize,
        /// Bytes of those requests. A request that exceeds them is refused as `Busy`. Default 64 MiB.
        max_queue_bytes: usize,
        /// Bytes that wait to be written to one peer. Default 64 MiB.
        ///
        /// Past it, calls to the peer are refused, and none of its requests start; the replies of running handlers
        /// still enter the queue, and those of requests that start before the endpoint knows. Replies that wait for
        /// earlier calls with their key have a limit of the same size; past it, the caller gets an ERROR named
        /// `ReplyTooLarge` instead.
        max_outgoing_bytes: usize,
        /// Window of one streamed argument or result, in bytes, once half of its first window of 16 KiB has been read. It
        /// grows if the round trip limits the rate. Default 256 KiB.
        stream_window: u64,
        /// Together with [`max_queue_bytes`](Self::max_queue_bytes), the unread bytes of all streamed arguments and
        /// results of one peer. Half of them are reserved for the first 16 KiB of streams that are not read yet, so
        /// that these delay no others; if the other half is used up, windows get smaller. Default 32 MiB.
        max_stream_bytes: u64,
        /// Unsent bytes of one streamed argument or result; past it, writing waits. A write counts as at least 32 bytes.
        /// Default 256 KiB.
        stream_buffer: usize,
        /// Bytes of large arguments and results of one peer that are reassembled at a time; more wait. Default 64 MiB.
        max_reassembly_per_peer: usize,
        /// The same for all peers. Default 1 GiB.
        max_reassembly: usize,
        /// How long a peer may accept no bytes before its connection is closed. Default 10 s.
        write_timeout: Duration,
        /// How long a handshake may take before the connection is closed. Default 10 s.
        handshake_timeout: Duration,
        /// Connections of a binder whose handshake is not complete. Default 1,024.
        ///
        /// For one more, another is evicted: the oldest of the address with the most, where an IPv6 network counts as
        /// one address, so that a source that opens too many evicts its own. It ends with
        /// [`TooManyHandshakes`](crate::DisconnectCause::TooManyHandshakes). With 0, no connection is accepted.
        max_handshakes: usize,
        /// Peers of a binder's message link. Default 16,384.
        ///
        /// If a link does not report that a peer has left, the peer counts until the keepalive closes its connection.
        max_link_peers: usize,
    }
}

impl Default for Limits {
    fn default() -> Self {
        let (connection, endpoint) = (ConnectionConfig::default(), EndpointConfig::default());
        Self {
            max_body: connection.max_body,
            max_concurrency: endpoint.ordering.max_running,
            max_share_per_peer: endpoint.ordering.max_share_per_connection,
            max_queue: endpoint.ordering.max_waiting_per_connection,
            max_queue_bytes: endpoint.ordering.max_waiting_bytes_per_connection,
            max_outgoing_bytes: connection.max_outgoing_bytes,
            stream_window: connection.stream_window,
            max_stream_bytes: 32 << 20,
            stream_buffer: connection.stream_buffer,
            max_reassembly_per_peer: endpoint.max_reassembly,
            max_reassembly: endpoint.max_reassembly_total,
            write_timeout: connection.write_timeout,
            handshake_timeout: connection.handshake_timeout,
            max_handshakes: 1_024,
            max_link_peers: 16_384,
        }
    }
}

impl Limits {
    /// Requests of one peer in any state: waiting, running, or done and waiting to be answered in order.
    fn max_requests(&self) -> usize {
        self.max_queue.saturating_add(self.max_concurrency).saturating_mul(2)
    }

    /// As far as they concern one connection.
    pub(crate) fn connection(&self) -> ConnectionConfig {
        ConnectionConfig::default()
            .max_body(self.max_body)
            .max_requests(self.max_requests())
            .max_outgoing_bytes(self.max_outgoing_bytes)
            .write_timeout(at_least_one_milli(self.write_timeout))
            .handshake_timeout(at_least_one_milli(self.handshake_timeout))
            .stream_window(self.stream_window)
            // What waits for a handler may use up one part, and must not hold up what runs.
            .connection_window((self.max_queue_bytes as u64).saturating_add(self.max_stream_bytes))
            .stream_buffer(self.stream_buffer)
    }

    /// As far as they concern all connections together.
    pub(crate) fn endpoint(&self) -> EndpointConfig {
        let defaults = EndpointConfig::default();
        let ordering = defaults.ordering.clone();
        defaults
            .max_held_reply_bytes(self.max_outgoing_bytes)
            .max_reassembly(self.max_reassembly_per_peer)
            .max_reassembly_total(self.max_reassembly)
            .ordering(
                ordering
                    .max_running(self.max_concurrency)
                    .max_share_per_connection(self.max_share_per_peer)
                    .max_waiting_per_connection(self.max_queue)
                    .max_waiting_bytes_per_connection(self.max_queue_bytes)
                    .max_requests_per_connection(self.max_requests()),
            )
    }
}

/// The values that the parts of an endpoint look up.
pub(crate) struct Config {
    pub(crate) connection: Arc<ConnectionConfig>,
    /// The same over a message link, which has no probes of its own.
    pub(crate) message_connection: Arc<ConnectionConfig>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) socket: SocketOptions,
    pub(crate) codec: Codec,
    pub(crate) expose_tracebacks: bool,
    pub(crate) max_cancel_grace: Duration,
    /// Two handlers of one name were given to the builder.
    pub(crate) handler_exists: Option<HandlerExists>,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) while_disconnected: WhileDisconnected,
    pub(crate) reconnect: Reconnect,
    pub(crate) max_handshakes: usize,
    pub(crate) max_link_peers: usize,
    pub(crate) security: Security,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_handshakes_have_1024_places() {
        assert_eq!(Limits::default().max_handshakes, 1_024);
    }

    #[test]
    fn limits_reach_the_engine() {
        let limits = Limits::default().max_body(1).max_queue(3).max_concurrency(4).max_share_per_peer(50);
        let limits = limits.max_queue_bytes(5).max_stream_bytes(6).write_timeout(Duration::ZERO);
        let (connection, endpoint) = (limits.connection(), limits.endpoint());
        assert_eq!((connection.max_body, connection.max_requests, connection.connection_window), (1, 14, 11));
        assert_eq!(connection.write_timeout, Duration::from_millis(1));
        let ordering = endpoint.ordering;
        assert_eq!((ordering.max_running, ordering.max_share_per_connection), (4, 50));
        assert_eq!((ordering.max_waiting_per_connection, ordering.max_requests_per_connection), (3, 14));
    }
}
