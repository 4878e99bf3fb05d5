//! Code of the application that is not a body's or a waker's, wherever it runs: never under a lock, or it would wait for itself.

use std::fmt::Write as _;
use std::future::{IntoFuture, pending};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::auth::{AllowList, Identity, generate_keys};
use callosum_runtime::layer::{CallNext, OutgoingCall};
use callosum_runtime::link::memory;
use callosum_runtime::rt::Socket;
use callosum_runtime::service::Service;
use callosum_runtime::{
    BodyReader, CallError, CodecError, Context, HandlerResult, Handlers, Method, Peer, Responder, duplex,
};
use callosum_testkit::world::World;
use futures_io::{AsyncRead, AsyncWrite};

use crate::changed_runtime::ChangedRuntime;

const SECOND: Duration = Duration::from_secs(1);

/// Is owned by a handler, and uses the handlers when it is dropped.
struct UsesHandlers(Arc<OnceLock<Handlers>>);

impl Drop for UsesHandlers {
    fn drop(&mut self) {
        if let Some(handlers) = self.0.get() {
            handlers.set_limits("x", Default::default());
        }
    }
}

#[test]
fn a_service_with_a_name_twice_is_refused_and_dropped_without_the_lock() {
    let world = World::new(0);
    let (binder, _driver) = world.host("server").builder().binder();
    let handlers = Arc::new(OnceLock::from(binder.handlers().clone()));
    let method = |name: &str| {
        let owned = UsesHandlers(handlers.clone());
        let method = Method::raw(move |body: Bytes, _: Context| {
            let _ = &owned;
            async move { HandlerResult::Ok(body) }
        });
        (name.to_owned(), method)
    };
    let twice = Service::new([method("x"), method("y"), method("x")]);
    let refused = binder.handlers().serve(twice).expect_err("one would replace the other");
    assert_eq!(refused.name(), "x");
    assert!(binder.handlers().names().is_empty());
    binder.handlers().serve(Service::new([method("x"), method("y")])).expect("the names are free");
    assert_eq!(binder.handlers().names(), ["x", "y"]);
}

/// Changes the handlers that are written into it.
struct Changes(Handlers);

impl std::fmt::Write for Changes {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        self.0.remove("y");
        Ok(())
    }
}

#[test]
fn handlers_are_written_without_the_lock() {
    let world = World::new(0);
    let echo = |body: Bytes, _: Context| async { HandlerResult::Ok(body) };
    let (binder, _driver) = world.host("server").builder().handle_raw("x", echo).binder();
    let handlers = binder.handlers();
    write!(Changes(handlers.clone()), "{handlers:?}").expect("it fails never");
    assert_eq!(format!("{handlers:?}"), r#"{"x"}"#);
}

/// Calls a peer, and reads the list again, at each line of the log.
struct Subscriber {
    list: AllowList,
    peer: Peer,
    lines: Arc<AtomicUsize>,
}

impl tracing::Subscriber for Subscriber {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn event(&self, _: &tracing::Event<'_>) {
        self.lines.fetch_add(1, Relaxed);
        drop(self.peer.invoke_raw("log", "line").into_future());
        self.list.reload().expect("the file is there");
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn mistakes_in_a_list_of_keys_are_logged_without_the_lock() {
    let path = std::env::temp_dir().join(format!("callosum-testkit-locks-{}", std::process::id()));
    std::fs::write(&path, "not a key\n").expect("the directory is writable");
    let list = AllowList::open(generate_keys(), path.clone()).expect("it can be read");
    let world = World::new(0);
    let (connector, _driver) =
        world.host("client").builder().connect("tcp://server:1").expect("it is an endpoint");
    let lines = Arc::<AtomicUsize>::default();
    let subscriber = Subscriber { list: list.clone(), peer: connector.peer().clone(), lines: lines.clone() };
    tracing::subscriber::with_default(subscriber, || list.reload().expect("the file is there"));
    // Lines from within a subscriber reach none.
    assert_eq!(lines.load(Relaxed), 1);
    std::fs::remove_file(path).expect("it is there");
}

/// Converts to an identity, and tells a peer of it.
struct Audited(Peer);

impl From<Audited> for Identity {
    fn from(audited: Audited) -> Self {
        drop(audited.0.invoke_raw("audit", "user").into_future());
        Self::new("user")
    }
}

#[test]
fn an_identity_is_converted_without_the_lock() {
    let world = World::new(0);
    let host = world.host("server");
    let (binder, _driver) = host.builder().binder();
    let (connector, _connecting) = host.builder().connect("tcp://audit:1").expect("it is an endpoint");
    let (hub, sender, receiver) = memory(1);
    drop((sender, receiver));
    let audited = || Audited(connector.peer().clone());
    let (one, _other) = duplex(10);
    binder.accept_as(one, "x", audited()).expect("it runs");
    let (sender, receiver) = hub.connect("x");
    binder.accept_link(sender, receiver, "x", audited()).expect("it runs");
}

/// A socket whose error is the application's.
struct Fails(Failure);

/// Uses the peer when it is dropped.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the socket fails")]
struct Failure {
    peer: Arc<OnceLock<Peer>>,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Failure {
    fn drop(&mut self) {
        if let Some(peer) = self.peer.get() {
            drop(peer.invoke_raw("report", "it fails").into_future());
        }
        self.dropped.fetch_add(1, Relaxed);
    }
}

impl AsyncRead for Fails {
    fn poll_read(self: Pin<&mut Self>, _: &mut TaskContext<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::Error::other(self.0.clone())))
    }
}

impl AsyncWrite for Fails {
    fn poll_write(self: Pin<&mut Self>, _: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Socket for Fails {}

#[test]
fn why_a_link_has_ended_is_dropped_without_the_lock() {
    let world = World::new(0);
    let client = world.host("client");
    world.run(async {
        let failure = Failure { peer: Arc::default(), dropped: Arc::default() };
        let fails = failure.clone();
        let builder = ChangedRuntime::connecting(&client, move || Box::new(Fails(fails.clone())));
        let (connector, driver) = builder.connect("tcp://server:1").expect("it is an endpoint");
        failure.peer.set(connector.peer().clone()).expect("it is not set");
        client.spawn(async { drop(driver.await) });
        world.sleep(100 * SECOND).await;
        assert!(failure.dropped.load(Relaxed) > 3, "each attempt has an error of its own");
    });
}

#[test]
fn an_error_of_a_layer_that_comes_too_late_is_dropped_without_the_lock() {
    let world = World::new(0);
    let (server, client) = (world.host("server"), world.host("client"));
    world.run(async {
        let hang = |_: BodyReader, _: Responder, _: Context| pending::<HandlerResult<()>>();
        let builder = server.builder().handle_stream("hang", hang);
        let (_binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
        server.spawn(async { drop(driver.await) });
        let failure = Failure { peer: Arc::default(), dropped: Arc::default() };
        let late = failure.clone();
        let layer = move |call: OutgoingCall, next: CallNext| {
            let late = late.clone();
            async move {
                next.run(call).await.expect_err("the call is given up");
                Err(CallError::Encode(CodecError::Custom(late.into())))
            }
        };
        let builder = client.builder().call_layer(layer);
        let (connector, driver) = builder.connect("tcp://server:1").expect("it is an endpoint");
        client.spawn(async { drop(driver.await) });
        connector.peer().ready().await.expect("it is there");
        let (writer, answer) = connector.peer().open("hang").stream().expect("it is connected");
        world.sleep(SECOND).await;
        // Calls of another peer, which do not pass the layer.
        let (other, _driver) = client.builder().connect("tcp://audit:1").expect("it is an endpoint");
        failure.peer.set(other.peer().clone()).expect("it is not set");
        drop((writer, answer));
        world.sleep(SECOND).await;
        assert!(failure.dropped.load(Relaxed) > 0, "the call has its outcome already");
    });
}
