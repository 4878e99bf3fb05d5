//! What an endpoint may be told: limits, what a connector does without a link, and what of it the parts of an endpoint look up.
//!
//! One idiom: a type begins with its defaults, and has a setter for each of its values, which can be chained.

use std::sync::Arc;
use std::time::Duration;

use callosum_proto::{ConnectionConfig, EndpointConfig, zmtp};

use crate::auth::Security;
use crate::error::{HandlerExists, at_least_one_milli};
use crate::layer::CallLayers;
use crate::{Codec, SocketOptions};

/// What becomes of a call that is made while a connector has no link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhileDisconnected {
    /// It waits for the link, up to its timeout, or until an attempt fails because the other side does not accept this one
    /// (see [`DisconnectCause::is_authentication_failure`](crate::DisconnectCause::is_authentication_failure)). The default.
    #[default]
    Wait,
    /// It fails at once with [`NotSent::NotConnected`](crate::NotSent::NotConnected).
    Fail,
}

/// What a connector does when it has no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reconnect {
    /// It tries again, after a random time between nothing and a delay that doubles from `first` to `most` ("full
    /// jitter"), so that many connectors don't come back at once.
    Backoff {
        /// The first delay. Default 100 ms.
        first: Duration,
        /// The longest delay. Default 30 s.
        most: Duration,
    },
    /// It ends: pending calls fail, and the driver returns the cause.
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
    /// Limits of an endpoint. The defaults are those that the guide lists.
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
        /// The share of these that the handlers of one peer may be, in percent, rounded up; 0 counts as one handler. Past it, the
        /// peer's requests wait, also while nobody else has any: so others find a slot at once, even if its handlers never end. Give
        /// 100 where there is only one peer. Default 80.
        max_share_per_peer: u8,
        /// Requests of one peer that wait for a handler. Default 1,000.
        max_queue: usize,
        /// Bytes of those requests. Default 64 MiB.
        max_queue_bytes: usize,
        /// Bytes that wait to be written to one peer. Default 64 MiB.
        ///
        /// Past it, calls are refused and no handlers are started for the peer; the replies of those that run still join, and of as
        /// many more as take their slots before it is known.
        /// As many bytes of replies may wait for those of earlier calls with their key; past that, the caller gets an ERROR
        /// named `ReplyTooLarge` instead.
        max_outgoing_bytes: usize,
        /// What a peer may send ahead of one streamed argument or result, in bytes, once it is being read; 16 KiB before that. Where
        /// that holds the peer up because of the distance, it grows. Default 256 KiB.
        stream_window: u64,
        /// Together with [`max_queue_bytes`](Self::max_queue_bytes), the most that is held for one peer of streamed arguments and
        /// results that nobody has taken, in bytes. Half of it is for the first 16 KiB of those that nobody reads yet, so that they
        /// hold up nobody; where the rest is used up, others come in smaller pieces. Default 32 MiB.
        max_stream_bytes: u64,
        /// What may wait to be sent of one streamed argument or result, in bytes. Default 256 KiB.
        stream_buffer: usize,
        /// Large arguments and results that are reassembled at a time for one peer, in bytes; more wait. Default 64 MiB.
        max_reassembly_per_peer: usize,
        /// The same for all peers. Default 1 GiB.
        max_reassembly: usize,
        /// How long a peer may take none of the bytes that are to be written to it. Default 10 s.
        write_timeout: Duration,
        /// How long a handshake may take. Default 10 s.
        handshake_timeout: Duration,
        /// Connections of a binder whose handshake is not complete. Default 1,024.
        ///
        /// For one more, another is evicted: the oldest of the address with the most, an IPv6 network being one address, so
        /// that a source that opens too many evicts its own. Its link ends with
        /// [`TooManyHandshakes`](crate::DisconnectCause::TooManyHandshakes). With 0, nobody gets in.
        max_handshakes: usize,
        /// Peers of a binder's message link. Default 16,384.
        ///
        /// Where a link does not report that a peer has left, its place is free again only when the keepalive finds out.
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
    /// Requests of one peer in any state: those that wait, those that run, and those that are done and have to wait for their
    /// order to leave.
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

/// What the parts of an endpoint look up.
pub(crate) struct Config {
    pub(crate) connection: Arc<ConnectionConfig>,
    /// The same over a message link, which has no heartbeats of its own.
    pub(crate) message_connection: Arc<ConnectionConfig>,
    pub(crate) heartbeat: Option<zmtp::Heartbeat>,
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
    pub(crate) call_layers: CallLayers,
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
