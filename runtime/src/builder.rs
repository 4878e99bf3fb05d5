//! Builds an endpoint: handlers, defaults, limits, then the address to bind or to connect to.

mod handlers;

pub use handlers::{State, Stateless};

use std::sync::Arc;
use std::time::Duration;

use callosum_proto::ordering::{KeyScope, OrderingMode, Scheduler};
use callosum_proto::{Dialect, Keepalive, StreamArguments};

use crate::auth::{Authenticator, Security};
use crate::config::{Config, Limits, Reconnect, WhileDisconnected};
use crate::core::Core;
use crate::dispatch::Dispatcher;
use crate::endpoint::ParseEndpointError;
use crate::error::{BindError, ConnectError, HandlerExists, at_least_one_milli};
use crate::handlers::Handlers;
use crate::layer::{CallLayer, HandlerLayer};
use crate::link::{MessageReceiver, MessageSender};
use crate::method_limits::MethodLimits;
use crate::node::Node;
use crate::peer::{CallLayers, add_layer};
use crate::rt::{ByteStream, Runtime};
use crate::{Binder, Codec, Connector, Driver, Endpoint, SocketOptions};

/// Builds an endpoint. Both kinds, [`Binder`] and [`Connector`], serve and call.
///
/// Handlers are functions; if the builder has a [state](Self::with_state), of the type `S`, they get a clone of it.
///
/// If two handlers have the same name, [`bind`](Self::bind) and [`connect`](Self::connect) return an error. After the
/// methods that return no result, the driver ends at once with
/// [`DriverError::HandlerExists`](crate::DriverError::HandlerExists).
#[must_use = "an endpoint exists once it is bound or connected"]
pub struct Builder<S = Stateless> {
    settings: Settings,
    state: S,
}

/// All but the state that handlers are given.
struct Settings {
    runtime: Arc<dyn Runtime>,
    handlers: Handlers,
    handler_exists: Option<HandlerExists>,
    codec: Codec,
    expose_tracebacks: bool,
    max_cancel_grace: Duration,
    dialect: Dialect,
    ordering: OrderingMode,
    key_scope: KeyScope,
    scheduler: Option<Box<dyn Scheduler>>,
    limits: Limits,
    keepalive: Option<Keepalive>,
    socket: SocketOptions,
    call_timeout: Option<Duration>,
    execution_timeout: Option<Duration>,
    while_disconnected: WhileDisconnected,
    reconnect: Reconnect,
    authenticator: Option<Arc<dyn Authenticator>>,
    allow_plaintext: bool,
    handler_layers: Vec<Box<dyn HandlerLayer>>,
    call_layers: CallLayers,
}

impl<S> std::fmt::Debug for Builder<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("runtime", &self.settings.runtime)
            .field("handlers", &self.settings.handlers)
            .field("ordering", &self.settings.ordering)
            .field("limits", &self.settings.limits)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// A builder with the defaults, on this executor.
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        let settings = Settings {
            runtime,
            handlers: Handlers::default(),
            handler_exists: None,
            codec: Codec::default(),
            expose_tracebacks: false,
            max_cancel_grace: Duration::from_secs(10),
            dialect: Dialect::Two,
            ordering: OrderingMode::default(),
            key_scope: KeyScope::default(),
            scheduler: None,
            limits: Limits::default(),
            keepalive: Some(Keepalive::default()),
            socket: SocketOptions::default(),
            call_timeout: None,
            execution_timeout: None,
            while_disconnected: WhileDisconnected::default(),
            reconnect: Reconnect::default(),
            authenticator: None,
            allow_plaintext: false,
            handler_layers: Vec::new(),
            call_layers: None,
        };
        Self { settings, state: Stateless }
    }
}

impl<S> Builder<S> {
    /// The executor of the endpoint.
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.settings.runtime
    }

    /// Serializes typed arguments and results in this codec, unless a call or a handler has another one.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.settings.codec = codec;
        self
    }

    /// Sends callers the full path of the type of a handler's error, and its chain of sources, as the error's
    /// traceback. Default: no. Callers then get only the name and the text of the error, because the rest may reveal
    /// files, hosts or queries.
    ///
    /// Tracebacks that a handler [relays](crate::HandlerError::relay) are always sent.
    pub fn expose_tracebacks(mut self, expose: bool) -> Self {
        self.settings.expose_tracebacks = expose;
        self
    }

    /// The longest [grace period](crate::Context::set_cancel_grace) of a cancelled handler. After a shutdown, the
    /// driver may wait that long for handlers. Default 10 s.
    pub fn max_cancel_grace(mut self, most: Duration) -> Self {
        self.settings.max_cancel_grace = most;
        self
    }

    /// The highest dialect that is offered to peers. Default [`Dialect::Two`]. Python peers always speak
    /// [`Dialect::One`].
    pub fn dialect(mut self, highest: Dialect) -> Self {
        self.settings.dialect = highest;
        self
    }

    /// Limits a method. See [`Handlers::set_limits`].
    pub fn method_limits(self, method: impl Into<String>, limits: MethodLimits) -> Self {
        self.settings.handlers.set_limits(method, limits);
        self
    }

    /// How calls with the same key are ordered. Default [`OrderingMode::ExitOrdered`].
    pub fn ordering(mut self, mode: OrderingMode) -> Self {
        self.settings.ordering = mode;
        self
    }

    /// Whether all peers share one key space. Default [`KeyScope::Global`].
    pub fn key_scope(mut self, scope: KeyScope) -> Self {
        self.settings.key_scope = scope;
        self
    }

    /// Uses a scheduler of your own. [`ordering`](Self::ordering), [`key_scope`](Self::key_scope) and the limits on
    /// handlers and queues then have no effect. The scheduler is called while the endpoint holds a lock, so it must not
    /// use this API.
    pub fn scheduler(mut self, scheduler: Box<dyn Scheduler>) -> Self {
        self.settings.scheduler = Some(scheduler);
        self
    }

    /// Sets all limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Handlers that run at a time, for all peers together; those of one peer are [a share](Limits::max_share_per_peer) of them at
    /// most. Default 100.
    pub fn max_concurrency(mut self, handlers: usize) -> Self {
        self.settings.limits.max_concurrency = handlers;
        self
    }

    /// Probes a silent peer every `idle`, and closes the connection after this many unanswered probes. Default 30 s and
    /// 2.
    pub fn keepalive(mut self, idle: Duration, misses: u32) -> Self {
        self.settings.keepalive = Some(Keepalive { idle, misses });
        self
    }

    /// Sends no probes: if a peer vanishes without closing its connection, that is noticed only when something is
    /// written to it.
    pub fn no_keepalive(mut self) -> Self {
        self.settings.keepalive = None;
        self
    }

    /// Sets options of the TCP connections, and of the Unix domain sockets that it listens on. Default: those of
    /// [`SocketOptions::default`], which are the system's but for two.
    pub fn socket_options(mut self, options: SocketOptions) -> Self {
        self.settings.socket = options;
        self
    }

    /// How long calls wait for their reply, unless a call sets its own timeout. Default: until the reply comes or the
    /// connection ends.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.settings.call_timeout = Some(timeout);
        self
    }

    /// How long a handler may run before it is cancelled. Its caller gets an ERROR named `ExecutionTimedOut`, after the
    /// handler's [grace period](crate::Context::set_cancel_grace). Default: without limit.
    pub fn execution_timeout(mut self, timeout: Duration) -> Self {
        self.settings.execution_timeout = Some(at_least_one_milli(timeout));
        self
    }

    /// Whether calls wait or fail while a connector has no connection. Default [`WhileDisconnected::Wait`].
    pub fn while_disconnected(mut self, policy: WhileDisconnected) -> Self {
        self.settings.while_disconnected = policy;
        self
    }

    /// Whether a connector reconnects, and after which delay. Default: it tries again for ever, after a random delay of
    /// up to 100 ms, which doubles to 30 s.
    pub fn reconnect(mut self, policy: Reconnect) -> Self {
        self.settings.reconnect = policy;
        self
    }

    /// Encrypts every connection with CURVE, and admits the clients that the authenticator admits; peers that don't
    /// speak CURVE are refused. See [`auth`](crate::auth).
    ///
    /// The authenticator must have the key pair of the endpoint's side: without a server identity, `bind` fails, and
    /// without a client identity, a connector's driver ends at once with an error. [Message links](crate::link) can't
    /// be authenticated: with one, the driver ends at once with an error.
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.settings.authenticator = Some(Arc::new(authenticator));
        self
    }

    /// Allows this endpoint to bind addresses that other machines can reach, without encryption and authentication.
    /// Each of those machines can call every handler, and machines on the path can read and change everything.
    pub fn allow_plaintext(mut self) -> Self {
        self.settings.allow_plaintext = true;
        self
    }

    /// Adds a [layer](crate::layer) around all handlers, inside the layers that were added before.
    pub fn layer(mut self, layer: impl HandlerLayer) -> Self {
        self.settings.handler_layers.push(Box::new(layer));
        self
    }

    /// Adds a [layer](crate::layer) around all calls of this endpoint, inside the layers that were added before.
    /// [`Peer::with_layer`](crate::Peer::with_layer) adds one around the calls of one handle.
    pub fn call_layer(mut self, layer: impl CallLayer) -> Self {
        self.settings.call_layers = add_layer(&self.settings.call_layers, layer);
        self
    }

    pub(crate) fn build(self) -> Arc<Node> {
        let handlers = self.settings.handlers.clone();
        let connection = (self.settings.limits.connection())
            .dialect(self.settings.dialect)
            .ordered_replies(
                self.settings.scheduler.is_some() || self.settings.ordering != OrderingMode::Unordered,
            )
            .execution_timeout(self.settings.execution_timeout)
            .stream_arguments(StreamArguments::Of(Arc::new(move |method| handlers.streams(method))));
        let mut endpoint = self.settings.limits.endpoint();
        endpoint.ordering = endpoint.ordering.mode(self.settings.ordering).scope(self.settings.key_scope);
        let config = Config {
            message_connection: Arc::new(connection.clone().keepalive(self.settings.keepalive)),
            connection: Arc::new(connection),
            keepalive: self.settings.keepalive,
            socket: self.settings.socket,
            codec: self.settings.codec,
            expose_tracebacks: self.settings.expose_tracebacks,
            max_cancel_grace: self.settings.max_cancel_grace,
            handler_exists: self.settings.handler_exists,
            call_timeout: self.settings.call_timeout,
            while_disconnected: self.settings.while_disconnected,
            reconnect: self.settings.reconnect,
            max_handshakes: self.settings.limits.max_handshakes,
            max_link_peers: self.settings.limits.max_link_peers,
            security: Security::new(self.settings.authenticator, self.settings.allow_plaintext),
        };
        let dispatcher = Dispatcher::new(endpoint, self.settings.scheduler);
        let core = Core::new(self.settings.runtime, config, dispatcher);
        Node::new(
            core,
            self.settings.handlers,
            self.settings.handler_layers.into(),
            self.settings.call_layers,
        )
    }

    /// Listens on an endpoint, such as `"tcp://127.0.0.1:0"`. More can be added with [`Binder::listen`].
    ///
    /// The endpoint accepts no connection until the driver runs. Cancel safe: dropping the future closes the listener.
    ///
    /// # Errors
    /// If the text is not an endpoint, the system refuses it, other machines could reach it in plaintext without
    /// [`allow_plaintext`](Self::allow_plaintext), the [`authenticator`](Self::authenticator) has no server identity,
    /// or two handlers have the same name.
    pub async fn bind<E>(self, endpoint: E) -> Result<(Binder, Driver), BindError>
    where
        E: TryInto<Endpoint>,
        E::Error: Into<ParseEndpointError>,
    {
        if let Some(error) = self.settings.handler_exists {
            return Err(error.into());
        }
        let (binder, driver) = Binder::new(self.build());
        binder.listen(endpoint).await?;
        Ok((binder, driver))
    }

    /// Connects to an endpoint, such as `"tcp://manager:5555"`, when the driver runs.
    ///
    /// Calls can be made at once: they wait for the connection. [`Peer::ready`](crate::Peer::ready) waits until it is
    /// made.
    ///
    /// # Errors
    /// If the text is not an endpoint, or two handlers have the same name.
    pub fn connect<E>(self, endpoint: E) -> Result<(Connector, Driver), ConnectError>
    where
        E: TryInto<Endpoint>,
        E::Error: Into<ParseEndpointError>,
    {
        let endpoint = endpoint.try_into().map_err(Into::into)?;
        if let Some(error) = self.settings.handler_exists {
            return Err(error.into());
        }
        Ok(Connector::to_endpoint(self.build(), endpoint))
    }

    /// A connector over a byte stream that is already open. It can't reconnect: the driver ends with the stream.
    pub fn connect_stream(self, stream: impl ByteStream) -> (Connector, Driver) {
        Connector::over_stream(self.build(), Box::new(stream))
    }

    /// A connector over a [message link](crate::link) with a single peer; this side sends the first message. It can't
    /// reconnect: the driver ends with the link.
    pub fn connect_link(
        self,
        sender: impl MessageSender,
        receiver: impl MessageReceiver,
    ) -> (Connector, Driver) {
        Connector::over_link(self.build(), Box::new(sender), Box::new(receiver))
    }

    /// A binder over a [message link](crate::link) with many peers, each of which sends the first message. The driver
    /// ends when the link fails.
    ///
    /// The binder can also have listeners and byte streams, as with [`binder`](Self::binder).
    pub fn bind_link(self, sender: impl MessageSender, receiver: impl MessageReceiver) -> (Binder, Driver) {
        Binder::over_link(self.build(), Box::new(sender), Box::new(receiver))
    }

    /// A binder without a listener: add listeners with [`Binder::listen`], or byte streams with [`Binder::accept`].
    pub fn binder(self) -> (Binder, Driver) {
        Binder::new(self.build())
    }
}
