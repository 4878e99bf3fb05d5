//! Layers around calls and handlers: what they see, what they may change, and that calls keep their order.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::layer::{CallNext, CallResult, HandlerNext, IncomingCall, OutgoingCall};
use callosum_runtime::{
    BodyReader, Builder, CallError, Context, ErrorInfo, HandlerResult, Metadata, OrderingMode, Refusal,
    Reply, Responder,
};
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use serde_json::Value;

use crate::gate::Alive;
use crate::rig::{Rig, poll_once};

/// What layers have seen, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().push(line.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Result { body, .. } => format!("result of {} bytes", body.len()),
        Reply::End => "end of stream".into(),
        Reply::Failure(info) => format!("failure {}", info.name),
        Reply::Error(info) => format!("error {}", info.name),
        other => format!("{other:?}"),
    }
}

/// A layer that writes down what it sees of handlers.
fn watch_handlers(builder: Builder, name: &'static str, log: &Log) -> Builder {
    let log = log.clone();
    builder.layer(move |call: IncomingCall, next: HandlerNext| {
        let log = log.clone();
        async move {
            let (method, size) = (call.known_method().to_owned(), call.body_size());
            log.add(format!("{name}: {method} {} {size:?}", call.context().key().as_text().unwrap_or("")));
            let reply = next.run(call).await;
            log.add(format!("{name}: {method} {}", text(&reply)));
            reply
        }
    })
}

/// The same for calls.
fn watch_calls(log: &Log, name: &'static str) -> impl callosum_runtime::layer::CallLayer + use<> {
    let log = log.clone();
    move |call: OutgoingCall, next: CallNext| {
        let log = log.clone();
        async move {
            let method = call.method().to_owned();
            log.add(format!("{name}: {method} {} {:?}", call.key().as_text().unwrap_or(""), call.timeout()));
            let result = next.run(call).await;
            log.add(match &result {
                Ok(CallResult { body, .. }) => format!("{name}: {method} {} bytes", body.len()),
                Err(error) => format!("{name}: {method} {error}"),
            });
            result
        }
    }
}

async fn echo(body: Bytes, _: Context) -> HandlerResult<Bytes> {
    Ok(body)
}

/// The first layer is the outermost, on both sides; a handle's layers are inside of its endpoint's.
pub async fn nested(rig: Rig) {
    let (here, there) = (Log::default(), Log::default());
    let binder = watch_handlers(rig.builder().handle_raw("echo", echo), "outer", &there);
    let binder = watch_handlers(binder, "inner", &there);
    let pair = rig.pair(binder, rig.builder().call_layer(watch_calls(&here, "outer"))).await;
    let peer = pair.peer().with_layer(watch_calls(&here, "inner"));
    let call = peer.invoke_raw("echo", "12345").key("k").timeout(Duration::from_secs(60));
    assert_eq!(call.await.expect("it echoes"), "12345");
    let calls =
        ["outer: echo k Some(60s)", "inner: echo k Some(60s)", "inner: echo 5 bytes", "outer: echo 5 bytes"];
    assert_eq!(here.take(), calls);
    let handled = [
        "outer: echo k Some(5)",
        "inner: echo k Some(5)",
        "inner: echo result of 5 bytes",
        "outer: echo result of 5 bytes",
    ];
    assert_eq!(there.take(), handled);
    peer.without_layers().invoke_raw("echo", "").await.expect("it echoes");
    assert!(here.take().is_empty(), "it passed no layer");
    pair.end().await;
}

/// Layers of handlers see every outcome, streams, panics and the fallback among them, and nothing that no handler answers.
pub async fn outcomes_of_handlers(rig: Rig) {
    let log = Log::default();
    let stream = |mut body: BodyReader, responder: Responder, _: Context| async move {
        let mut result = responder.begin().await?;
        while let Some(bytes) = body.next().await {
            result.write_bytes(bytes?).await?;
        }
        HandlerResult::Ok(())
    };
    let binder = watch_handlers(rig.builder(), "layer", &log)
        .handle_stream("stream", stream)
        .handle_raw("panic", |_, _| async { panic!("on purpose") as HandlerResult<Bytes> })
        .handle_raw("fail", |_, _| async { HandlerResult::<Bytes>::Err("on purpose".into()) })
        .handle("typed", |_: u8, _| async { HandlerResult::Ok(()) });
    let pair = rig.pair(binder, rig.builder()).await;
    let peer = pair.peer();

    let streamed = peer.open("stream").send_raw("12345").expect("it is made").await.expect("it begins");
    assert_eq!(streamed.body.collect().await.expect("it echoes"), "12345");
    rig.until(|| log.0.lock().len() == 2).await;
    assert_eq!(log.take(), ["layer: stream  Some(5)", "layer: stream end of stream"]);

    for (method, outcome) in [("panic", "failure Panic"), ("fail", "failure Error")] {
        let error = peer.invoke_raw(method, "").await.expect_err("it fails");
        assert!(matches!(error, CallError::Remote(_)), "{error:?}");
        assert_eq!(log.take(), [format!("layer: {method}  Some(0)"), format!("layer: {method} {outcome}")]);
    }
    peer.invoke::<_, ()>("typed", "no number").await.expect_err("it is refused");
    assert_eq!(log.take()[1], "layer: typed error InvalidArgument");

    let error = peer.invoke_raw("unknown", "").await.expect_err("there is no such method");
    assert_eq!(error.refusal(), Some(Refusal::NoSuchMethod));
    assert!(log.take().is_empty(), "no handler answered");
    pair.binder.handlers().set_fallback(echo);
    peer.invoke_raw("unknown", "").await.expect("the fallback answers");
    assert_eq!(log.take(), ["layer: _OTHER  Some(0)", "layer: _OTHER result of 0 bytes"]);
    pair.end().await;
}

/// A layer may answer in place of the handler, or of the other side.
pub async fn answered_by_layers(rig: Rig) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let binder = rig
        .builder()
        .layer(|call: IncomingCall, next: HandlerNext| async move {
            match call.context().key().is_given() {
                true => next.run(call).await,
                false => Reply::Failure(ErrorInfo::new("NoKey", "it needs a key").into()),
            }
        })
        .handle_raw("echo", move |body, context| {
            counted.fetch_add(1, Ordering::SeqCst);
            echo(body, context)
        });
    let pair = rig.pair(binder, rig.builder()).await;
    let error = pair.peer().invoke_raw("echo", "").await.expect_err("it has no key");
    assert_eq!(error.remote().map(|info| &*info.name), Some("NoKey"));
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    pair.peer().invoke_raw("echo", "").key("k").await.expect("it has a key");
    assert_eq!(runs.load(Ordering::SeqCst), 1);

    let cached =
        pair.peer().with_layer(|_: OutgoingCall, _: CallNext| async { Ok(CallResult::new("cached")) });
    assert_eq!(cached.invoke_raw("echo", "").await.expect("it is cached"), "cached");
    assert_eq!(runs.load(Ordering::SeqCst), 1);

    let twice = pair.peer().with_layer(|call: OutgoingCall, next: CallNext| async move {
        next.run(call.clone()).await?;
        next.run(call).await
    });
    assert_eq!(twice.invoke_raw("echo", "x").key("k").await.expect("it echoes"), "x");
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    pair.end().await;
}

/// A layer may send metadata along, and read what comes with the result.
pub async fn metadata_of_layers(rig: Rig) {
    let token = |value: &'static str| {
        let mut metadata = Metadata::new();
        metadata.insert("token", value).expect("it fits");
        metadata
    };
    let binder = rig.builder().layer(move |call: IncomingCall, next: HandlerNext| async move {
        assert_eq!(call.context().metadata().get("token").map(|value| &value[..]), Some(&b"asked"[..]));
        match next.run(call).await {
            Reply::Result { body, compressed, .. } => {
                Reply::Result { body, compressed, metadata: token("given") }
            }
            other => other,
        }
    });
    let pair = rig.pair(binder.handle_raw("echo", echo), rig.builder()).await;
    let peer = pair.peer().with_layer(move |mut call: OutgoingCall, next: CallNext| async move {
        *call.metadata_mut() = token("asked");
        next.run(call).await
    });
    let (body, metadata) = peer.invoke_raw("echo", "x").send_with_metadata().await.expect("it echoes");
    assert_eq!((body, metadata), (Bytes::from("x"), token("given")));
    pair.end().await;
}

/// Calls that are sent without awaiting each other's result keep their order through layers that don't wait before they pass them on.
pub async fn order_is_kept(rig: Rig) {
    let (log, seen) = (Log::default(), Log::default());
    let handled = seen.clone();
    let binder = rig.builder().ordering(OrderingMode::KeySerialized).handle("note", move |number: u32, _| {
        handled.add(number.to_string());
        async { HandlerResult::Ok(()) }
    });
    let connector = rig.builder().call_layer(watch_calls(&log, "a")).call_layer(watch_calls(&log, "b"));
    let pair = rig.pair(binder, connector).await;
    let calls: Vec<_> = (0..100_u32)
        .map(|number| pair.peer().invoke::<_, ()>("note", &number).key("k").send_with_metadata())
        .collect();
    // Awaited in the other order: they had been made before.
    for result in join_all(calls.into_iter().rev()).await {
        result.expect("it is noted");
    }
    assert_eq!(seen.take(), (0..100_u32).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(log.take().len(), 400);
    pair.end().await;
}

/// A layer that waits before it passes a call on makes it later, as its page says.
pub async fn order_of_layers_that_wait(rig: Rig) {
    let seen = Log::default();
    let handled = seen.clone();
    let binder = rig.builder().handle("note", move |number: u32, _| {
        handled.add(number.to_string());
        async { HandlerResult::Ok(()) }
    });
    let pair = rig.pair(binder, rig.builder()).await;
    let (open, gate) = async_channel::unbounded::<()>();
    let waiting = pair.peer().with_layer(move |call: OutgoingCall, next: CallNext| {
        let gate = gate.clone();
        async move {
            gate.recv().await.expect("it opens");
            next.run(call).await
        }
    });
    let mut first = waiting.invoke::<_, ()>("note", &1_u32).key("k").send_with_metadata();
    assert!(poll_once(&mut first).await.is_none());
    pair.peer().invoke::<_, ()>("note", &2_u32).key("k").await.expect("it is noted");
    open.send(()).await.expect("the layer waits");
    first.await.expect("it is noted");
    assert_eq!(seen.take(), ["2", "1"]);
    pair.end().await;
}

/// Dropping a call drops the futures of its layers, and its handler is stopped, with those of its own.
pub async fn dropped(rig: Rig) {
    let (here, there) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (ours, theirs) = (here.clone(), there.clone());
    let binder = rig
        .builder()
        .layer(move |call: IncomingCall, next: HandlerNext| {
            let alive = Alive::new(&theirs);
            next.run(call).inspect(move |_| drop(alive))
        })
        .handle("wait", |_: Value, _| pending::<HandlerResult<()>>());
    let connector = rig.builder().call_layer(move |call: OutgoingCall, next: CallNext| {
        let alive = Alive::new(&ours);
        next.run(call).inspect(move |_| drop(alive))
    });
    let pair = rig.pair(binder, connector).await;
    let call = pair.peer().invoke::<_, ()>("wait", &()).send_with_metadata();
    rig.until(|| there.load(Ordering::SeqCst) == 1).await;
    assert_eq!(here.load(Ordering::SeqCst), 1);
    drop(call);
    assert_eq!(here.load(Ordering::SeqCst), 0);
    rig.until(|| there.load(Ordering::SeqCst) == 0).await;
    pair.end().await;
}

/// Calls back and forth through layers lend the slot of their handler, as those without do.
pub async fn nested_at_one_handler(rig: Rig) {
    async fn count(left: u32, context: Context) -> HandlerResult<u32> {
        match left {
            0 => Ok(0),
            left => Ok(context.peer().invoke::<_, u32>("count", &(left - 1)).await? + 1),
        }
    }
    let log = Log::default();
    let builder = || {
        let builder = rig.builder().max_concurrency(1).call_layer(watch_calls(&log, "call"));
        watch_handlers(builder, "handler", &log).handle("count", count)
    };
    let pair = rig.pair(builder(), builder()).await;
    assert_eq!(pair.peer().invoke::<_, u32>("count", &10_u32).await.expect("it counts"), 10);
    assert_eq!(log.take().len(), 44);
    pair.end().await;
}
