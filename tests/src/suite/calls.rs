//! Calls, handlers and what handlers know.

use std::collections::BTreeMap;
use std::future::{IntoFuture, pending};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::{
    BindError, BodyReader, CallError, Codec, ConnectError, Context, DriverError, HandlerResult, Handlers,
    Invocation, Method, NotSent, OrderingKey, Peer, Refusal, Reply, Responder,
};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::rig::{Rig, SOON, poll_once};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    names: Vec<String>,
    note: Option<String>,
    shares: BTreeMap<String, i32>,
    blob: Vec<u8>,
}

fn order() -> Order {
    Order {
        id: u64::MAX,
        names: vec!["größe".into(), String::new()],
        note: None,
        shares: BTreeMap::from([("a".into(), -1), ("b".into(), 7)]),
        blob: vec![0, 255, 10],
    }
}

async fn mirror(argument: Value, _: Context) -> HandlerResult<Value> {
    Ok(argument)
}

async fn typed_mirror(rig: &Rig, codec: Codec) {
    let handler = |order: Order, _| async move { HandlerResult::Ok(order) };
    let binder = rig.builder().codec(codec.clone()).handle("mirror", handler);
    let pair = rig.pair(binder, rig.builder().codec(codec).handle("mirror", handler)).await;
    for peer in [pair.peer(), &pair.back] {
        let same: Order = peer.invoke("mirror", &order()).await.expect("an order is mirrored");
        assert_eq!(same, order());
    }
    pair.end().await;
}

/// Structs travel as JSON, in both directions.
pub async fn typed_json(rig: Rig) {
    typed_mirror(&rig, Codec::Json).await;
}

/// Structs travel as MessagePack, in both directions.
pub async fn typed_msgpack(rig: Rig) {
    typed_mirror(&rig, Codec::MsgPack).await;
}

/// Raw bytes are left as they are, compressed on the way or not, empty or not.
pub async fn raw_bytes(rig: Rig) {
    let binder = rig.builder().handle_raw("mirror", |body, _| async move { HandlerResult::Ok(body) });
    let pair = rig.pair(binder, rig.builder()).await;
    let bodies = [Bytes::new(), Bytes::from_static(&[0xc1, 0, 255]), Bytes::from(vec![7; 300_000])];
    for body in &bodies {
        for compress in [false, true] {
            let call = pair.peer().invoke_raw("mirror", body.clone()).compress(compress);
            assert_eq!(call.await.expect("bytes are mirrored"), body);
        }
    }
    pair.end().await;
}

/// One call, and one handler, may use another codec than their endpoints.
pub async fn codec_of_one_call(rig: Rig) {
    let pair = rig.pair(rig.builder().handle("json", mirror), rig.builder()).await;
    let handlers = pair.binder.handlers();
    let method = Method::typed_with_codec(Codec::MsgPack, |order: Order, context: Context| async move {
        assert_eq!(context.codec(), &Codec::Json, "the endpoint's");
        HandlerResult::Ok(order)
    });
    handlers.add_method("msgpack", method).expect("a new name");
    let msgpack = pair.peer().with_codec(Codec::MsgPack);
    assert_eq!(&msgpack, pair.peer(), "a handle to the same peer");
    let same: Order = msgpack.invoke("msgpack", &order()).await.expect("both use MessagePack");
    assert_eq!(same, order());
    let same: Order = pair.peer().invoke("json", &order()).await.expect("both use JSON");
    assert_eq!(same, order());
    pair.end().await;
}

/// A client of one service, as a program would write it: its methods make no call yet, so its caller sets the options.
struct Containers(Peer);

impl Containers {
    fn start(&self, image: &str) -> Invocation<(String, Option<String>)> {
        let name = format!("{image}-1");
        self.0.invoke("start", &name)
    }

    fn wait(&self, name: &str) -> Invocation<()> {
        self.0.invoke("wait", name)
    }
}

/// An invocation owns what it needs.
pub async fn typed_client(rig: Rig) {
    let start = |name: String, context: Context| async move {
        assert!(context.deadline().is_some(), "the timeout has travelled");
        HandlerResult::Ok((name, context.key().as_text().map(String::from)))
    };
    let wait = |_: String, _: Context| pending::<HandlerResult<()>>();
    let binder = rig.builder().handle("start", start).handle("wait", wait);
    let pair = rig.pair(binder, rig.builder()).await;
    let containers = Containers(pair.peer().clone());
    let starting = containers.start("nginx").key("web").timeout(SOON);
    let waiting = containers.wait("nginx-1").key("other").timeout(Duration::from_millis(20));
    // Nothing is borrowed, so they can be made elsewhere.
    drop(containers);
    let (name, key) = rig.spawn(starting.into_future()).join().await.expect("it starts");
    assert_eq!((&*name, key.as_deref()), ("nginx-1", Some("web")));
    let error = rig.spawn(waiting.into_future()).join().await.expect_err("it waits for ever");
    assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
    pair.end().await;
}

fn refusal(error: &CallError) -> Option<Refusal> {
    match error {
        CallError::Rejected(info) => Refusal::of(info),
        _ => None,
    }
}

async fn ask(peer: &Peer, method: &str) -> Result<Value, CallError> {
    peer.invoke(method, &json!(1)).await
}

/// An unknown method is a typed error, and the connection lives on.
pub async fn no_such_method(rig: Rig) {
    let pair = rig.pair(rig.builder().handle("mirror", mirror), rig.builder()).await;
    for peer in [pair.peer(), &pair.back] {
        let error = ask(peer, "nothing").await.expect_err("there is no such method");
        assert_eq!(refusal(&error), Some(Refusal::NoSuchMethod), "{error:?}");
        assert!(!error.may_have_run());
    }
    assert_eq!(ask(pair.peer(), "mirror").await.expect("the link lives on"), 1);
    pair.end().await;
}

/// Handlers come and go while calls run; those that run go on.
pub async fn handlers_change_while_running(rig: Rig) {
    let gate = Gate::default();
    let pair = rig.pair(rig.builder(), rig.builder()).await;
    let handlers = pair.binder.handlers().clone();
    assert!(!handlers.remove("work"), "there is none yet");
    gate.guard(&handlers, "work");
    let peer = pair.peer().clone();
    let running = rig.spawn(async move { ask(&peer, "work").await });
    let held = gate.next().await;

    let second = |_: Value, _: Context| async move { HandlerResult::Ok("second") };
    let error = handlers.add("work", second).expect_err("there is one");
    assert_eq!((error.name(), &*error.to_string()), ("work", "a handler named `work` already exists"));
    assert!(handlers.replace("work", Method::typed(second)));
    assert_eq!(ask(pair.peer(), "work").await.expect("the new one answers"), "second");
    assert!(handlers.remove("work"));
    let error = ask(pair.peer(), "work").await.expect_err("it was removed");
    assert_eq!(refusal(&error), Some(Refusal::NoSuchMethod));

    held.release("first");
    assert_eq!(running.join().await.expect("the old one goes on"), "first");
    pair.end().await;
}

fn twice(builder: callosum_runtime::Builder) -> callosum_runtime::Builder {
    builder.handle("mirror", mirror).handle_raw("mirror", |body, _| async { HandlerResult::Ok(body) })
}

/// An endpoint whose handlers have the same name is never there.
pub async fn names_are_taken_once(rig: Rig) {
    let Err(BindError::HandlerExists(error)) = twice(rig.builder()).bind(&rig.endpoint()).await else {
        panic!("two handlers are called `mirror`");
    };
    assert_eq!(error.name(), "mirror");
    let connected = twice(rig.builder()).connect("tcp://127.0.0.1:1");
    assert!(matches!(connected, Err(ConnectError::HandlerExists(_))), "{connected:?}");
    let (binder, driver) = twice(rig.builder()).binder();
    let ended = driver.await;
    assert!(matches!(ended, Err(DriverError::HandlerExists(_))), "{ended:?}");
    assert!(binder.handlers().names().is_empty(), "it is over");

    let handlers = Handlers::default();
    for name in ["c", "a", "größe", "b"] {
        handlers.add(name, mirror).expect("a new name");
    }
    assert_eq!(handlers.names(), ["a", "b", "c", "größe"]);
}

/// What handlers share, and what they do with it.
#[derive(Debug, Default)]
struct Store(parking_lot::Mutex<BTreeMap<String, Value>>);

impl Store {
    async fn put(self: Arc<Self>, (key, value): (String, Value), context: Context) -> HandlerResult<()> {
        assert_eq!(context.method(), "put");
        self.0.lock().insert(key, value);
        Ok(())
    }

    async fn get(self: Arc<Self>, key: String, _: Context) -> Result<Value, CallError> {
        Ok(self.0.lock().get(&key).cloned().unwrap_or_default())
    }

    async fn keys(self: Arc<Self>, _: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
        let keys: Vec<_> = self.0.lock().keys().cloned().collect();
        Ok(responder.begin().await?.write_item(&keys).await?)
    }
}

async fn size(store: Arc<Store>, _: Bytes, _: Context) -> HandlerResult<Bytes> {
    Ok(store.0.lock().len().to_string().into())
}

/// Handlers are given the builder's state, as it was when they were added.
pub async fn state(rig: Rig) {
    let store = Arc::<Store>::default();
    let binder = rig
        .builder()
        .with_state(store.clone())
        .handle("put", Store::put)
        .handle("get", Store::get)
        .handle_stream("keys", Store::keys)
        .handle_raw("size", size)
        .fallback(size)
        .with_state("another")
        .handle("which", |state: &str, (), _| std::future::ready(HandlerResult::Ok(state.to_owned())))
        .without_state()
        .handle("none", |(), _| std::future::ready(HandlerResult::Ok("none")));
    let pair = rig.pair(binder, rig.builder()).await;
    let peer = pair.peer();
    let () = peer.invoke("put", &("a", 1)).await.expect("it is stored");
    assert_eq!(peer.invoke::<_, Value>("get", "a").await.expect("it was stored"), 1);
    assert_eq!(store.0.lock()["a"], 1, "it is the same store");
    let keys: Vec<String> = peer.invoke("keys", &()).await.expect("there is one");
    assert_eq!(keys, ["a"]);
    for method in ["size", "unknown"] {
        assert_eq!(peer.invoke_raw(method, Bytes::new()).await.expect("a number"), "1");
    }
    for state in ["another", "none"] {
        let method = if state == "none" { "none" } else { "which" };
        assert_eq!(peer.invoke::<_, String>(method, &()).await.expect("it answers"), state);
    }
    pair.end().await;
    assert_eq!(Arc::strong_count(&store), 1, "the handlers are gone, and what they had");
}

/// A fallback answers what no handler does, knows the name, and can be removed.
pub async fn fallback(rig: Rig) {
    let binder = rig.builder().handle("known", |_: Value, _| async move { HandlerResult::Ok("known") });
    let binder = binder.fallback(|_, context: Context| async move {
        HandlerResult::Ok(Bytes::from(serde_json::to_vec(context.method())?))
    });
    let pair = rig.pair(binder, rig.builder()).await;
    assert_eq!(ask(pair.peer(), "known").await.expect("a handler goes first"), "known");
    assert_eq!(ask(pair.peer(), "größe").await.expect("the fallback answers"), "größe");
    assert!(pair.binder.handlers().remove_fallback());
    assert!(!pair.binder.handlers().remove_fallback());
    let error = ask(pair.peer(), "größe").await.expect_err("there is no fallback now");
    assert_eq!(refusal(&error), Some(Refusal::NoSuchMethod));
    pair.end().await;
}

/// A handler sees method, key, peer and deadline.
pub async fn context(rig: Rig) {
    let gate = Gate::default();
    let limit = Duration::from_secs(3_600);
    let pair = rig.pair(rig.builder().execution_timeout(limit), rig.builder()).await;
    gate.guard(pair.binder.handlers(), "look");
    let before = rig.runtime().now();
    let keys = [
        OrderingKey::none(),
        OrderingKey::text("k"),
        OrderingKey::text(""),
        OrderingKey::binary(&b"\xff"[..]),
    ];
    for key in keys {
        let argument = json!(0);
        let call = pair.peer().invoke::<_, Value>("look", &argument).ordering_key(key.clone());
        let look = async {
            let held = gate.next().await;
            assert_eq!(held.context.method(), "look");
            assert_eq!(held.context.key(), &key);
            assert_eq!(held.context.peer(), &pair.back);
            assert_eq!(held.context.peer().id(), pair.back.id());
            let deadline = held.context.deadline().expect("there is an execution timeout");
            assert!(deadline >= before + limit && deadline <= rig.runtime().now() + limit);
            held.release(1);
        };
        let (result, ()) = futures_util::future::join(call.into_future(), look).await;
        result.expect("the handler was released");
    }
    gate.guard(pair.connector.handlers(), "look");
    let argument = json!(0);
    let call = pair.back.invoke::<_, Value>("look", &argument);
    let look = gate.next().map(|held| {
        assert_eq!(held.context.deadline(), None, "the connector has no execution timeout");
        assert_eq!(held.context.peer(), pair.peer());
        assert!(!held.context.key().is_given());
        held.release(1);
    });
    let (result, ()) = futures_util::future::join(call.into_future(), look).await;
    result.expect("the handler was released");
    pair.end().await;
}

/// A handler of one's own kind controls its whole reply.
pub async fn own_handler(rig: Rig) {
    struct Own;
    impl callosum_runtime::Handler for Own {
        fn call(&self, body: Bytes, _: Context) -> futures_util::future::BoxFuture<'static, Reply> {
            let reply = match body.is_empty() {
                true => Reply::Cancelled,
                false => Reply::Result { body, compressed: true, metadata: Default::default() },
            };
            std::future::ready(reply).boxed()
        }
    }
    let pair = rig.pair(rig.builder().handle_method("own", Method::new(Own)), rig.builder()).await;
    let body = Bytes::from(vec![1; 50_000]);
    assert_eq!(pair.peer().invoke_raw("own", body.clone()).await.expect("the body comes back"), body);
    let error = pair.peer().invoke_raw("own", Bytes::new()).await.expect_err("it says so");
    assert!(matches!(error, CallError::Cancelled), "{error:?}");
    pair.end().await;
}

/// Counters say what is under way and what came of it, on both sides.
pub async fn counters(rig: Rig) {
    let gate = Gate::default();
    let builder = rig.builder().max_concurrency(1).handle("mirror", mirror);
    let pair = rig.pair(builder, rig.builder()).await;
    gate.guard(pair.binder.handlers(), "hold");
    let (ours, theirs) = (pair.peer().clone(), pair.back.clone());
    let calls = [(); 2].map(|()| {
        let peer = ours.clone();
        rig.spawn(async move { ask(&peer, "hold").await })
    });
    let held = gate.next().await;
    rig.until(|| theirs.stats().requests_queued == 1).await;
    assert_eq!(theirs.stats().requests_running, 1);
    assert_eq!(ours.stats().calls_in_flight, 2);
    held.release(1);
    gate.next().await.release(2);
    for call in calls {
        call.join().await.expect("both were released");
    }
    ask(&ours, "nothing").await.expect_err("there is no such method");
    let stats = ours.stats();
    assert_eq!((stats.calls_in_flight, stats.calls_done, stats.calls_failed), (0, 2, 1));
    let stats = theirs.stats();
    assert_eq!((stats.requests_queued, stats.requests_running), (0, 0));
    assert_eq!((stats.requests_done, stats.requests_failed), (2, 1));
    rig.until(|| theirs.stats().bytes_sent == ours.stats().bytes_received).await;
    rig.until(|| ours.stats().bytes_sent == theirs.stats().bytes_received).await;
    assert!(ours.stats().bytes_sent > 0 && theirs.stats().bytes_sent > 0);
    assert_eq!((ours.stats().anomalies, theirs.stats().anomalies), (0, 0));
    pair.end().await;
}

/// A probe is answered, in both directions.
pub async fn ping(rig: Rig) {
    let pair = rig.pair(rig.builder(), rig.builder()).await;
    pair.peer().ping().await.expect("the binder answers");
    pair.back.ping().await.expect("the connector answers");
    assert_eq!(pair.peer().info().max_body, Some(10 << 20), "the binder is one of ours");
    assert!(pair.back.info().max_body.is_some() && !pair.back.info().address.is_empty());
    pair.end().await;
}

/// Removes another method when it is dropped.
struct Together(callosum_runtime::Handlers, &'static str);

impl Drop for Together {
    fn drop(&mut self) {
        self.0.remove(self.1);
    }
}

/// What a handler owns may itself use the handlers when it is dropped.
pub async fn handlers_that_go_together(rig: Rig) {
    let (binder, driver) = rig.builder().binder();
    let handlers = binder.handlers();
    let owner = |other| {
        let together = Together(handlers.clone(), other);
        move |_: Bytes, _: Context| {
            let _ = &together;
            async { HandlerResult::Ok(Bytes::new()) }
        }
    };
    handlers.add_raw("a", owner("b")).expect("a new name");
    handlers.add_raw("b", owner("nothing")).expect("a new name");
    assert!(handlers.remove("a"));
    assert!(!handlers.remove("b"), "it went with the other");
    assert!(!handlers.replace("c", Method::raw(owner("nothing"))));
    handlers.add_raw("c", owner("nothing")).expect_err("it is refused, and dropped");
    assert!(handlers.replace("c", Method::raw(owner("nothing"))));
    handlers.set_fallback(owner("nothing"));
    handlers.set_fallback(owner("c"));
    assert!(handlers.remove_fallback());
    assert!(!handlers.remove("c"));
    drop(driver);
}

/// Dropped probes are forgotten; at most 32 can be awaited at a time.
pub async fn probes_are_bounded(rig: Rig) {
    let (ours, _silent) = callosum_runtime::duplex(64);
    let (connector, driver) = rig.builder().connect_stream(ours);
    let driver = rig.drive(driver);
    for _ in 0..1_000 {
        let mut dropped = Box::pin(connector.peer().ping());
        assert!(poll_once(&mut dropped).await.is_none());
    }
    let mut waiting: Vec<_> = (0..32).map(|_| Box::pin(connector.peer().ping())).collect();
    for probe in &mut waiting {
        assert!(poll_once(probe).await.is_none());
    }
    let error = connector.peer().ping().await.expect_err("one too many");
    assert!(matches!(error, CallError::NotSent(NotSent::TooManyProbes)), "{error:?}");
    drop(waiting.pop());
    let mut again = Box::pin(connector.peer().ping());
    assert!(poll_once(&mut again).await.is_none());
    driver.cut().await;
    for probe in waiting {
        probe.await.expect_err("the link never came to be");
    }
}
