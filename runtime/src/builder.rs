//! Building an endpoint: handlers, defaults, limits, then where it binds or connects.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::ordering::{KeyScope, OrderingMode, Scheduler};
use callosum_proto::{ConnectionConfig, Dialect, EndpointConfig, Keepalive, StreamArguments, zmtp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::{Authenticator, Security};
use crate::dispatch::Dispatcher;
use crate::endpoint::ParseEndpointError;
use crate::error::{BindError, HandlerError, at_least_one_milli};
use crate::handler::{Context, Handler, Handlers};
use crate::link::{MessageReceiver, MessageSender};
use crate::node::Node;
use crate::rt::{ByteStream, Runtime};
use crate::stream::{BodyReader, Responder};
use crate::{Binder, Codec, Connector, Driver, Endpoint};

/// What becomes of a call that is made while a connector has no link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// Limits of an endpoint. The defaults are those that the README lists.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Largest body of a call or a result, compressed or not, and largest item of a typed stream, in bytes.
    /// Default 10 MiB.
    pub max_body: usize,
    /// Handlers that run at a time, for all peers together. Default 100.
    pub max_concurrency: usize,
    /// The share of these that the handlers of one peer may be, in percent, rounded up; 0 counts as one handler. Past it, the peer's
    /// requests wait, also while nobody else has any: so others find a place at once, even if its handlers never end. Give 100
    /// where there is only one peer. Default 80.
    pub max_share_per_peer: u8,
    /// Requests of one peer that wait for a handler. Default 1,000.
    pub max_queue: usize,
    /// Bytes of those requests. Default 64 MiB.
    pub max_queue_bytes: usize,
    /// Bytes that wait to be written to one peer. Default 64 MiB.
    ///
    /// Past it, calls are refused and no handlers are started for the peer; the replies of those that run still join, and of as many more
    /// as take their places before it is known.
    /// As many bytes of replies may wait for those of earlier calls with their key; past that, the caller gets an ERROR
    /// named `ReplyTooLarge` instead.
    pub max_outgoing_bytes: usize,
    /// What a peer may send ahead of one streamed argument or result, in bytes, once it is being read; 16 KiB before that. Where
    /// that holds the peer up because of the distance, it grows. Default 256 KiB.
    pub stream_window: u64,
    /// Together with [`max_queue_bytes`](Self::max_queue_bytes), the most that is held for one peer of streamed arguments and
    /// results that nobody has taken, in bytes. Half of it is for the first 16 KiB of those that nobody reads yet, so that they
    /// hold up nobody; where the rest is used up, others come in smaller pieces. Default 32 MiB.
    pub max_stream_bytes: u64,
    /// What may wait to be sent of one streamed argument or result, in bytes. Default 256 KiB.
    pub stream_buffer: usize,
    /// Large arguments and results that are reassembled at a time for one peer, in bytes; more wait. Default 64 MiB.
    pub max_reassembly_per_peer: usize,
    /// The same for all peers. Default 1 GiB.
    pub max_reassembly: usize,
    /// How long a peer may take none of them. Default 10 s.
    pub write_timeout: Duration,
    /// How long a handshake may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// Connections of a binder whose handshake is not complete. Default 1,024.
    ///
    /// For one more, another is evicted: the oldest of the address with the most, an IPv6 network being one address, so
    /// that whoever opens too many pushes out his own. Its link ends with
    /// [`TooManyHandshakes`](crate::DisconnectCause::TooManyHandshakes). With 0, nobody gets in.
    pub max_handshakes: usize,
    /// Peers of a binder's message link. Default 16,384.
    ///
    /// Where a link does not report that a peer has left, its place is free again only when the keepalive finds out.
    pub max_link_peers: usize,
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

/// What the parts of an endpoint look up.
pub(crate) struct Config {
    pub(crate) connection: Arc<ConnectionConfig>,
    pub(crate) heartbeat: Option<zmtp::Heartbeat>,
    pub(crate) codec: Codec,
    pub(crate) call_timeout: Option<Duration>,
    pub(crate) while_disconnected: WhileDisconnected,
    pub(crate) reconnect: Reconnect,
    pub(crate) max_handshakes: usize,
    pub(crate) max_link_peers: usize,
    pub(crate) security: Security,
}

/// Builds an endpoint. Both kinds, [`Binder`] and [`Connector`], serve and invoke.
#[must_use = "an endpoint exists once it is bound or connected"]
pub struct Builder {
    runtime: Arc<dyn Runtime>,
    handlers: Handlers,
    codec: Codec,
    dialect: Dialect,
    ordering: OrderingMode,
    key_scope: KeyScope,
    scheduler: Option<Box<dyn Scheduler>>,
    limits: Limits,
    keepalive: Option<zmtp::Heartbeat>,
    call_timeout: Option<Duration>,
    execution_timeout: Option<Duration>,
    while_disconnected: WhileDisconnected,
    reconnect: Reconnect,
    authenticator: Option<Arc<dyn Authenticator>>,
    allow_plaintext: bool,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("runtime", &self.runtime)
            .field("handlers", &self.handlers)
            .field("ordering", &self.ordering)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Starts with the defaults, on this executor.
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self {
            runtime,
            handlers: Handlers::default(),
            codec: Codec::default(),
            dialect: Dialect::Two,
            ordering: OrderingMode::default(),
            key_scope: KeyScope::default(),
            scheduler: None,
            limits: Limits::default(),
            keepalive: Some(zmtp::Heartbeat::default()),
            call_timeout: None,
            execution_timeout: None,
            while_disconnected: WhileDisconnected::default(),
            reconnect: Reconnect::default(),
            authenticator: None,
            allow_plaintext: false,
        }
    }

    /// Serializes typed arguments and results in this codec, unless a call or a handler says otherwise.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The highest dialect that is offered to peers. Default [`Dialect::Two`]; Python peers speak [`Dialect::One`] whatever
    /// is offered.
    pub fn dialect(mut self, highest: Dialect) -> Self {
        self.dialect = highest;
        self
    }

    /// Adds a typed handler. See [`Handlers::add`].
    pub fn handle<A, R, E, F, Fut>(self, method: impl Into<String>, handler: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Into<HandlerError> + Send + 'static,
        F: Fn(A, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.handlers.add(method, handler);
        self
    }

    /// Adds a handler of raw bytes. See [`Handlers::add_raw`].
    pub fn handle_raw<E, F, Fut>(self, method: impl Into<String>, handler: F) -> Self
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(Bytes, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        self.handlers.add_raw(method, handler);
        self
    }

    /// Adds a handler that reads its argument and writes its result as a stream. See [`Handlers::add_stream`].
    pub fn handle_stream<E, F, Fut>(self, method: impl Into<String>, handler: F) -> Self
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(BodyReader, Responder, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
    {
        self.handlers.add_stream(method, handler);
        self
    }

    /// Adds a handler that controls its whole reply.
    pub fn handler(self, method: impl Into<String>, handler: impl Handler) -> Self {
        self.handlers.add_handler(method, handler);
        self
    }

    /// Answers calls of unknown methods. See [`Handlers::set_fallback`].
    pub fn fallback<E, F, Fut>(self, handler: F) -> Self
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(Bytes, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        self.handlers.set_fallback(handler);
        self
    }

    /// What calls with the same key owe each other. Default [`OrderingMode::ExitOrdered`].
    pub fn ordering(mut self, mode: OrderingMode) -> Self {
        self.ordering = mode;
        self
    }

    /// Whether a key is the same key for all peers. Default [`KeyScope::Global`].
    pub fn key_scope(mut self, scope: KeyScope) -> Self {
        self.key_scope = scope;
        self
    }

    /// Uses a scheduler of your own; [`ordering`](Self::ordering), [`key_scope`](Self::key_scope) and the limits that
    /// concern handlers and queues are then its affair.
    pub fn scheduler(mut self, scheduler: Box<dyn Scheduler>) -> Self {
        self.scheduler = Some(scheduler);
        self
    }

    /// Sets all limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Handlers that run at a time, for all peers together; those of one peer are [a share](Limits::max_share_per_peer) of them at
    /// most. Default 100.
    pub fn max_concurrency(mut self, handlers: usize) -> Self {
        self.limits.max_concurrency = handlers;
        self
    }

    /// Probes a silent peer every `idle`, and gives it up after this many unanswered probes. Default 30 s and 2.
    pub fn keepalive(mut self, idle: Duration, misses: u32) -> Self {
        self.keepalive = Some(zmtp::Heartbeat { interval: idle, misses });
        self
    }

    /// Never probes: a peer that vanishes without closing its connection is noticed only when it is written to.
    pub fn no_keepalive(mut self) -> Self {
        self.keepalive = None;
        self
    }

    /// How long calls wait for their reply, unless they say otherwise. Default: for ever, or until the link ends.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = Some(timeout);
        self
    }

    /// How long a handler may run before it is stopped and its caller gets an ERROR. Default: for ever.
    pub fn execution_timeout(mut self, timeout: Duration) -> Self {
        self.execution_timeout = Some(at_least_one_milli(timeout));
        self
    }

    /// What becomes of calls made while a connector has no link. Default [`WhileDisconnected::Wait`].
    pub fn while_disconnected(mut self, policy: WhileDisconnected) -> Self {
        self.while_disconnected = policy;
        self
    }

    /// What a connector does when it has no link. Default: it tries again for ever.
    pub fn reconnect(mut self, policy: Reconnect) -> Self {
        self.reconnect = policy;
        self
    }

    /// Encrypts every link with CURVE, and lets in whom the authenticator admits; peers that don't speak CURVE are
    /// refused. See [`auth`](crate::auth).
    ///
    /// It needs the identity of the side that the endpoint is on: without a server identity nothing can be bound, and
    /// without a client identity a connector's driver ends at once, with an error.
    /// [Message links](crate::link) can't be authenticated: with one, the driver ends at once as well.
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.authenticator = Some(Arc::new(authenticator));
        self
    }

    /// Lets this endpoint bind addresses that other machines can reach without encryption and authentication. Whoever
    /// reaches it can call every handler, and whoever is on the way can read and change everything.
    pub fn allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
        self
    }

    pub(crate) fn build(self, message_keepalive: bool) -> Arc<Node> {
        let limits = self.limits;
        let mut connection = ConnectionConfig::default();
        connection.dialect = self.dialect;
        connection.stream_window = limits.stream_window;
        // What waits for a handler may use up one part, and must not hold up what runs.
        connection.connection_window =
            (limits.max_queue_bytes as u64).saturating_add(limits.max_stream_bytes);
        connection.stream_buffer = limits.stream_buffer;
        connection.ordered_replies = self.scheduler.is_some() || self.ordering != OrderingMode::Unordered;
        connection.max_body = limits.max_body;
        connection.max_outgoing_bytes = limits.max_outgoing_bytes;
        connection.write_timeout = at_least_one_milli(limits.write_timeout);
        connection.handshake_timeout = at_least_one_milli(limits.handshake_timeout);
        connection.execution_timeout = self.execution_timeout;
        // What waits, what runs, and what is done but has to wait for its order to leave.
        connection.max_requests = limits.max_queue.saturating_add(limits.max_concurrency).saturating_mul(2);
        let handlers = self.handlers.clone();
        connection.stream_arguments = StreamArguments::Of(Arc::new(move |method| handlers.streams(method)));
        if message_keepalive {
            connection.keepalive = self
                .keepalive
                .map(|heartbeat| Keepalive { idle: heartbeat.interval, misses: heartbeat.misses });
        }
        let mut endpoint = EndpointConfig::default();
        endpoint.max_held_reply_bytes = limits.max_outgoing_bytes;
        endpoint.max_reassembly = limits.max_reassembly_per_peer;
        endpoint.max_reassembly_total = limits.max_reassembly;
        endpoint.ordering.mode = self.ordering;
        endpoint.ordering.scope = self.key_scope;
        endpoint.ordering.max_running = limits.max_concurrency;
        endpoint.ordering.max_share_per_connection = limits.max_share_per_peer;
        endpoint.ordering.max_waiting_per_connection = limits.max_queue;
        endpoint.ordering.max_waiting_bytes_per_connection = limits.max_queue_bytes;
        endpoint.ordering.max_requests_per_connection = connection.max_requests;
        let config = Config {
            connection: Arc::new(connection),
            heartbeat: self.keepalive,
            codec: self.codec,
            call_timeout: self.call_timeout,
            while_disconnected: self.while_disconnected,
            reconnect: self.reconnect,
            max_handshakes: limits.max_handshakes,
            max_link_peers: limits.max_link_peers,
            security: Security::new(self.authenticator, self.allow_plaintext),
        };
        Node::new(self.runtime, config, self.handlers, Dispatcher::new(endpoint, self.scheduler))
    }

    /// Listens on an endpoint, such as `"tcp://127.0.0.1:0"`. More can be added with [`Binder::listen`].
    ///
    /// Nothing is accepted until the driver runs.
    ///
    /// # Errors
    /// If the text is no endpoint, the system refuses it, other machines could reach it in plaintext without
    /// [`allow_plaintext`](Self::allow_plaintext), or the [`authenticator`](Self::authenticator) has no server identity.
    pub async fn bind<E>(self, endpoint: E) -> Result<(Binder, Driver), BindError>
    where
        E: TryInto<Endpoint>,
        E::Error: Into<ParseEndpointError>,
    {
        let (binder, driver) = Binder::new(self.build(false));
        binder.listen(endpoint).await?;
        Ok((binder, driver))
    }

    /// Connects to an endpoint, such as `"tcp://manager:5555"`, when the driver runs.
    ///
    /// Calls can be made at once: they wait for the link. [`Peer::ready`](crate::Peer::ready) waits for it explicitly.
    ///
    /// # Errors
    /// If the text is no endpoint.
    pub fn connect<E>(self, endpoint: E) -> Result<(Connector, Driver), ParseEndpointError>
    where
        E: TryInto<Endpoint>,
        E::Error: Into<ParseEndpointError>,
    {
        let endpoint = endpoint.try_into().map_err(Into::into)?;
        Ok(Connector::to_endpoint(self.build(false), endpoint))
    }

    /// Speaks over a byte stream that is open already, as the side that connected. There is no reconnecting.
    pub fn connect_stream(self, stream: impl ByteStream) -> (Connector, Driver) {
        Connector::over_stream(self.build(false), Box::new(stream))
    }

    /// Speaks over a [message link](crate::link) that has a single peer, as the side that speaks first. There is no
    /// reconnecting.
    pub fn connect_link(
        self,
        sender: impl MessageSender,
        receiver: impl MessageReceiver,
    ) -> (Connector, Driver) {
        Connector::over_link(self.build(true), Box::new(sender), Box::new(receiver))
    }

    /// Speaks over a [message link](crate::link) with many peers, each of which speaks first. The driver ends when the
    /// link fails.
    ///
    /// The binder can have byte streams besides, as with [`binder`](Self::binder).
    pub fn bind_link(self, sender: impl MessageSender, receiver: impl MessageReceiver) -> (Binder, Driver) {
        Binder::over_link(self.build(true), Box::new(sender), Box::new(receiver))
    }

    /// A binder that listens nowhere: give it endpoints with [`Binder::listen`], or byte streams with
    /// [`Binder::accept`].
    pub fn binder(self) -> (Binder, Driver) {
        Binder::new(self.build(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_handshakes_have_1024_places() {
        assert_eq!(Limits::default().max_handshakes, 1_024);
    }
}
