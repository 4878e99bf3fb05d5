//! A call for a handler under test: the context, body and responder that a server would give it, and the caller's side of them.
//!
//! Two endpoints in memory stand behind each call, so that all the handler can do works as it does in production: calling the
//! caller back, learning why it was cancelled, giving its slot back, sending metadata along. The handler itself is run by the test.
//!
//! ```
//! use callosum_runtime::{CancelReason, Context, HandlerResult};
//! use callosum_testkit::unit::TestCall;
//! use callosum_testkit::world::World;
//!
//! async fn stop(container: String, context: Context) -> HandlerResult<String> {
//!     let who = context.identity().map_or_else(|| "nobody".to_owned(), |identity| identity.user_id.clone());
//!     Ok(format!("{who} stops {container}"))
//! }
//!
//! let world = World::new(1);
//! world.run(async {
//!     let call = TestCall::new(&world.host("agent"), "stop").key("web-1").identity("alice").begin().await;
//!     assert!(call.context.key().is_given());
//!     assert_eq!(stop("web-1".to_owned(), call.context.clone()).await.unwrap(), "alice stops web-1");
//!
//!     drop(call.answer);
//!     assert_eq!(call.context.cancelled().await, CancelReason::Caller);
//! });
//! ```

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::{RequestId, internals};
use callosum_runtime::auth::Identity;
use callosum_runtime::stream::Answer;
use callosum_runtime::{
    BodyReader, BodyWriter, Builder, Context, HandlerError, HandlerResult, Metadata, Method, Peer, Responder,
    ResponseWithMetadata, duplex,
};
use futures_channel::oneshot;
use futures_util::future::{Either, select};

use crate::world::Host;

/// A request that came from nowhere, for a test of a [`Scheduler`](callosum_proto::ordering::Scheduler): the one with this number
/// of a connection with that number.
pub fn request(connection: u64, number: u64) -> RequestId {
    internals::request_id(internals::connection_id(connection), number)
}

/// Bytes under way between the two endpoints, in each direction.
const CAPACITY: usize = 64 * 1024;

/// A call to be made to a handler under test.
#[must_use = "the call is made by `begin` or `begin_stream`"]
pub struct TestCall {
    host: Host,
    method: String,
    identity: Option<Identity>,
    callee: Builder,
    caller: Builder,
    key: Option<String>,
    metadata: Metadata,
    timeout: Option<Duration>,
}

/// The context of a handler of whole values, and the caller's side of the call.
#[non_exhaustive]
pub struct Handling {
    /// The handler's context.
    pub context: Context,
    /// The caller's side: result and metadata, once the handler has ended. Dropping it cancels the call.
    pub answer: ResponseWithMetadata<Bytes>,
    /// The end of the handler, as the callee sees it.
    pub end: End<Bytes>,
}

/// The arguments of a handler of streams, and the caller's side of the call.
#[derive(Debug)]
#[non_exhaustive]
pub struct StreamHandling {
    /// The argument.
    pub body: BodyReader,
    /// Begins the result.
    pub responder: Responder,
    /// The handler's context.
    pub context: Context,
    /// The caller's side: writes the argument that the handler reads.
    pub argument: BodyWriter,
    /// The caller's side: the result, once it begins or the handler ends. Dropping it cancels the call.
    pub answer: Answer,
    /// The end of the handler, as the callee sees it.
    pub end: End<()>,
}

/// Ends the handler of a [`TestCall`]. Dropped, it ends the handler with an error.
#[derive(Debug)]
pub struct End<T>(oneshot::Sender<HandlerResult<T>>);

impl<T> End<T> {
    /// Ends the handler in this way. Does nothing if the call has ended before.
    pub fn with(self, outcome: HandlerResult<T>) {
        let _ = self.0.send(outcome);
    }
}

impl std::fmt::Debug for TestCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestCall").field("method", &self.method).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Handling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handling").field("context", &self.context).finish_non_exhaustive()
    }
}

impl TestCall {
    /// A call of this method, handled on `host` and made from there, without key, metadata, identity and timeout.
    pub fn new(host: &Host, method: &str) -> Self {
        Self {
            method: method.to_owned(),
            identity: None,
            callee: host.builder(),
            caller: host.builder(),
            key: None,
            metadata: Metadata::new(),
            timeout: None,
            host: host.clone(),
        }
    }

    /// Its [ordering key](Context::key).
    pub fn key(mut self, key: impl AsRef<str>) -> Self {
        self.key = Some(key.as_ref().to_owned());
        self
    }

    /// Its [metadata](Context::metadata).
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// How long the caller waits, of virtual time; sets the [deadline](Context::deadline).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The caller's [identity](Context::identity).
    pub fn identity(mut self, identity: impl Into<Identity>) -> Self {
        self.identity = Some(identity.into());
        self
    }

    /// Changes the endpoint that handles the call, such as its execution timeout or its codec. Handlers of the called method are
    /// not run.
    pub fn callee(mut self, change: impl FnOnce(Builder) -> Builder) -> Self {
        self.callee = change(self.callee);
        self
    }

    /// Changes the endpoint that makes the call, such as the handlers that the handler under test calls back.
    pub fn caller(mut self, change: impl FnOnce(Builder) -> Builder) -> Self {
        self.caller = change(self.caller);
        self
    }

    /// Makes the call, and returns the context for a handler of whole values.
    ///
    /// # Panics
    /// If no handler is run, such as for a [layer](callosum_runtime::layer) of the callee that refuses the call; with the outcome.
    pub async fn begin(self) -> Handling {
        let (given, give) = once();
        let method = Method::raw(move |_: Bytes, context: Context| hold(give.clone(), context));
        let (peer, call) = self.connect(method).await;
        let mut invocation = peer.invoke_raw(&call.method, Bytes::new()).metadata(call.metadata);
        if let Some(key) = call.key {
            invocation = invocation.key(key);
        }
        if let Some(timeout) = call.timeout {
            invocation = invocation.timeout(timeout);
        }
        let mut answer = invocation.send_with_metadata();
        let (context, end) = given_before(given, &mut answer).await;
        Handling { context, answer, end }
    }

    /// Makes the call, and returns the arguments for a handler of streams.
    ///
    /// # Panics
    /// As [`begin`](Self::begin).
    pub async fn begin_stream(self) -> StreamHandling {
        let (given, give) = once();
        let method =
            Method::stream(move |body, responder, context| hold(give.clone(), (body, responder, context)));
        let (peer, call) = self.connect(method).await;
        let mut opening = peer.open(&call.method).metadata(call.metadata);
        if let Some(key) = call.key {
            opening = opening.key(key);
        }
        if let Some(timeout) = call.timeout {
            opening = opening.timeout(timeout);
        }
        let (argument, mut answer) = opening.stream().expect("the link is there");
        let ((body, responder, context), end) = given_before(given, &mut answer).await;
        StreamHandling { body, responder, context, argument, answer, end }
    }

    /// Starts both endpoints, and returns the callee as the caller sees it.
    async fn connect(self, method: Method) -> (Peer, Options) {
        let Self { host, method: name, identity, callee, caller, key, metadata, timeout } = self;
        let (near, far) = duplex(CAPACITY);
        let (binder, driver) = callee.handle_method(name.clone(), method).binder();
        host.spawn(async { drop(driver.await) });
        match identity {
            Some(identity) => binder.accept_as(near, "tcp://caller", identity),
            None => binder.accept(near, "tcp://caller"),
        }
        .expect("a new binder takes a peer in");
        let (connector, driver) = caller.connect_stream(far);
        host.spawn(async { drop(driver.await) });

        let peer = connector.peer().clone();
        peer.ready().await.expect("both ends are in memory");
        (peer, Options { method: name, key, metadata, timeout })
    }
}

/// The options of the call.
struct Options {
    method: String,
    key: Option<String>,
    metadata: Metadata,
    timeout: Option<Duration>,
}

/// Hands what a handler is given, and the means to end it, to the test; once.
type Give<G, T> = Arc<Mutex<Option<oneshot::Sender<(G, End<T>)>>>>;

/// The handler's arguments, and the means to end it.
type Given<G, T> = oneshot::Receiver<(G, End<T>)>;

fn once<G, T>() -> (Given<G, T>, Give<G, T>) {
    let (give, given) = oneshot::channel();
    (given, Arc::new(Mutex::new(Some(give))))
}

/// What the handler is given.
///
/// # Panics
/// If the call ends before.
async fn given_before<G, T>(
    given: Given<G, T>,
    answer: impl Future<Output: std::fmt::Debug> + Unpin,
) -> (G, End<T>) {
    match select(given, answer).await {
        Either::Left((given, _)) => given.expect("the handler hands them over"),
        Either::Right((outcome, _)) => panic!("the call has not reached its handler: {outcome:?}"),
    }
}

/// The handler in the callee: ends as the test says.
async fn hold<G, T>(give: Give<G, T>, given: G) -> HandlerResult<T> {
    let failed = |message| HandlerError::new("TestCall", message);
    let (end, ended) = oneshot::channel();
    let give = give.lock().unwrap_or_else(PoisonError::into_inner).take();
    let given = give.ok_or_else(|| failed("a test call is handled once"))?.send((given, End(end)));
    given.map_err(|_| failed("the test has ended"))?;
    ended.await.unwrap_or_else(|_| Err(failed("the test has dropped the end of its call")))
}
