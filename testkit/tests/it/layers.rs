//! The layers that come with the runtime, on virtual time.

use std::fmt::Write;
use std::future::{Ready, pending, ready};
use std::sync::{Arc, Mutex};
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::layer::{
    CallNext, HandlerNext, IncomingCall, MethodTimeouts, Metrics, OutgoingCall, TraceContext, Tracing,
};
use callosum_runtime::tower::{CallRequest, HandlerRequest, HandlerService, PeerService, ServiceHandler};
use callosum_runtime::{
    BodyReader, Builder, CallError, CancelReason, Connector, Context, Dialect, HandlerError, HandlerResult,
    Method, Peer, Refusal, Reply, Responder,
};
use callosum_testkit::world::{Time, World};
use futures_util::future::{BoxFuture, Either};
use futures_util::{FutureExt, StreamExt};
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tower_service::Service;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const SECOND: Duration = Duration::from_secs(1);

/// A binder and a connector that is connected; the binder goes on until the world ends.
async fn connected(
    world: &World,
    serve: impl FnOnce(Builder) -> Builder,
    call: impl FnOnce(Builder) -> Builder,
) -> Connector {
    let (server, client) = (world.host("server"), world.host("client"));
    let (binder, driver) = serve(server.builder()).bind("tcp://server:1").await.expect("the port is free");
    server.spawn(async move {
        let _binder = binder;
        drop(driver.await);
    });
    let (connector, driver) = call(client.builder()).connect("tcp://server:1").expect("it is an endpoint");
    client.spawn(async { drop(driver.await) });
    connector.peer().ready().await.expect("the binder answers");
    connector
}

async fn hang(_: Bytes, _: Context) -> HandlerResult<Bytes> {
    pending().await
}

async fn echo(body: Bytes, _: Context) -> HandlerResult<Bytes> {
    Ok(body)
}

#[test]
fn timeouts_of_calls_only_shorten() {
    let world = World::new(1);
    world.run(async {
        let timeouts = MethodTimeouts::default().method("slow", 10 * SECOND).others(2 * SECOND);
        let serve = |builder: Builder| builder.handle_raw("slow", hang).handle_raw("fast", hang);
        let connector = connected(&world, serve, |builder| builder.call_layer(timeouts)).await;
        for (method, own, expected) in [
            ("slow", None, 10 * SECOND),
            ("fast", None, 2 * SECOND),
            ("fast", Some(SECOND), SECOND),
            ("fast", Some(20 * SECOND), 2 * SECOND),
        ] {
            let begun = world.elapsed();
            let mut call = connector.peer().invoke_raw(method, "");
            if let Some(own) = own {
                call = call.timeout(own);
            }
            let error = call.await.expect_err("nothing answers");
            assert!(matches!(error, CallError::TimedOut { sent: true }), "{error:?}");
            assert_eq!((world.elapsed() - begun).as_secs(), expected.as_secs(), "{method} {own:?}");
        }
    });
}

#[test]
fn timeouts_of_handlers_stop_them() {
    let world = World::new(2);
    world.run(async {
        let timeouts = MethodTimeouts::default().method("slow", 10 * SECOND);
        let deadline = |_: Bytes, context: Context| async move {
            HandlerResult::Ok(Bytes::from(context.deadline().is_some().to_string()))
        };
        let serve =
            |builder: Builder| builder.layer(timeouts).handle_raw("slow", hang).handle_raw("fast", deadline);
        let connector = connected(&world, serve, |builder| builder).await;
        let begun = world.elapsed();
        let error = connector.peer().invoke_raw("slow", "").await.expect_err("it is stopped");
        assert_eq!(error.refusal(), Some(Refusal::ExecutionTimedOut));
        assert_eq!((world.elapsed() - begun).as_secs(), 10);
        assert_eq!(connector.peer().invoke_raw("fast", "").await.expect("it answers"), "false");
    });
}

#[test]
fn what_a_handler_has_spawned_learns_of_its_timeout() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let world = World::new(2);
        world.run(async {
            let host = world.host("spawned");
            let reasons = Arc::<Mutex<Vec<_>>>::default();
            let told = reasons.clone();
            let spawns = move |_: Bytes, context: Context| {
                let (host, told) = (host.clone(), told.clone());
                async move {
                    // A layer's timeout leaves none.
                    context.set_cancel_grace(5 * SECOND);
                    host.spawn(async move {
                        let reason = context.cancelled().await;
                        told.lock().expect("nobody panics with it").push((reason, context.cancel_reason()));
                    });
                    pending::<HandlerResult<Bytes>>().await
                }
            };
            let timeouts = MethodTimeouts::default().others(SECOND);
            let serve =
                |builder: Builder| builder.layer(timeouts).layer(Metrics::new()).handle_raw("pull", spawns);
            let connector = connected(&world, serve, |builder| builder).await;
            let begun = world.elapsed();
            let error = connector.peer().invoke_raw("pull", "").await.expect_err("it is stopped");
            assert_eq!(error.refusal(), Some(Refusal::ExecutionTimedOut));
            assert_eq!((world.elapsed() - begun).as_secs(), 1);
            world.sleep(SECOND).await;
            let reason = CancelReason::TimedOut;
            assert_eq!(*reasons.lock().expect("nobody panics with it"), [(reason, Some(reason))]);
        });
    });
    let counts = snapshot(&snapshotter);
    assert!(counts.contains(&"calls_total{server,pull,timed_out} 1".to_owned()), "{counts:#?}");
}

/// Metrics and traces of a layer that answers although the handler's time is over.
#[test]
fn a_layer_may_answer_for_a_handler_whose_time_is_over() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let world = World::new(2);
        world.run(async {
            let answers = |call: IncomingCall, next: HandlerNext| async move {
                match next.run(call).await {
                    Reply::Error(_) => Reply::result("later"),
                    reply => reply,
                }
            };
            let timeouts = MethodTimeouts::default().others(SECOND);
            let serve = |builder: Builder| {
                builder.layer(Metrics::new()).layer(answers).layer(timeouts).handle_raw("pull", hang)
            };
            let connector = connected(&world, serve, |builder| builder).await;
            assert_eq!(connector.peer().invoke_raw("pull", "").await.expect("a layer answers"), "later");
        });
    });
    let counts = snapshot(&snapshotter);
    assert!(counts.contains(&"calls_total{server,pull,ok} 1".to_owned()), "{counts:#?}");
}

/// A service that answers what it is asked, and is ready only once it was polled twice.
#[derive(Clone)]
struct Answering {
    polls: usize,
}

impl Service<HandlerRequest> for Answering {
    type Response = Bytes;
    type Error = HandlerError;
    type Future = Ready<HandlerResult<Bytes>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<HandlerResult<()>> {
        self.polls += 1;
        if self.polls < 2 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HandlerRequest) -> Self::Future {
        assert!(self.polls >= 2, "it was not ready");
        ready(match request.context.key().is_given() {
            true => Ok(request.body),
            false => Err("it needs a key".into()),
        })
    }
}

#[test]
fn services_of_tower_on_both_sides() {
    let world = World::new(6);
    world.run(async {
        let method = Method::new(ServiceHandler::new(Answering { polls: 0 }));
        let serve = |builder: Builder| builder.handle_method("answer", method).handle_raw("hang", hang);
        let connector = connected(&world, serve, |builder| builder).await;
        let mut peer = PeerService::new(connector.peer().clone());
        let answer = peer.call(CallRequest::new("answer", "x").key("k")).await.expect("it answers");
        assert_eq!(answer.body, "x");
        let error = peer.call(CallRequest::new("answer", "x")).await.expect_err("it has no key");
        assert!(matches!(&error, CallError::Remote(info) if &*info.repr == "it needs a key"), "{error:?}");
        let error = peer.call(CallRequest::new("hang", "").timeout(SECOND)).await.expect_err("it hangs");
        assert!(matches!(error, CallError::TimedOut { sent: true }), "{error:?}");
    });
}

/// Middleware: a service that refuses arguments over a limit of its own.
#[derive(Clone)]
struct AtMost<S> {
    bytes: usize,
    service: S,
}

impl<S: Service<HandlerRequest, Response = Reply>> Service<HandlerRequest> for AtMost<S> {
    type Response = Reply;
    type Error = S::Error;
    type Future = Either<Ready<Result<Reply, S::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: HandlerRequest) -> Self::Future {
        match request.body.len() > self.bytes {
            true => Either::Left(ready(Ok(Refusal::BodyTooLarge.reply("by middleware")))),
            false => Either::Right(self.service.call(request)),
        }
    }
}

#[test]
fn middleware_of_tower_around_handlers() {
    let world = World::new(9);
    world.run(async {
        let limited = |method| {
            Method::new(ServiceHandler::new(AtMost { bytes: 5, service: HandlerService::new(method) }))
        };
        let fail = |_, _| async { HandlerResult::<Bytes>::Err("on purpose".into()) };
        let breaks = |_, _| -> Ready<HandlerResult<Bytes>> { panic!("it breaks") };
        let stream = |mut body: BodyReader, responder: Responder, _: Context| async move {
            let mut result = responder.begin().await?;
            while let Some(bytes) = body.next().await {
                result.write_bytes(bytes?).await?;
            }
            HandlerResult::Ok(())
        };
        let serve = |builder: Builder| {
            builder
                .handle_method("echo", limited(Method::raw(echo)))
                .handle_method("fail", limited(Method::raw(fail)))
                .handle_method("break", limited(Method::raw(breaks)))
                .handle_method("stream", limited(Method::stream(stream)))
        };
        let connector = connected(&world, serve, |builder| builder).await;
        let peer = connector.peer();
        for method in ["echo", "stream"] {
            assert_eq!(peer.invoke_raw(method, "12345").await.expect("it echoes"), "12345");
            let error = peer.invoke_raw(method, "123456").await.expect_err("it is over the limit");
            assert_eq!(error.refusal(), Some(Refusal::BodyTooLarge), "{method}");
        }
        for (method, name, text) in [("fail", "Error", "on purpose"), ("break", "Panic", "it breaks")] {
            let error = peer.invoke_raw(method, "").await.expect_err("it fails");
            let CallError::Remote(info) = &error else { panic!("{error:?}") };
            assert_eq!((&*info.name, &*info.repr), (name, text));
        }
    });
}

/// `name{side,method[,outcome]}` and its value.
fn snapshot(snapshotter: &Snapshotter) -> Vec<String> {
    let mut lines: Vec<_> = (snapshotter.snapshot().into_vec().into_iter())
        .map(|(key, _, _, value)| {
            let (kind, key) = key.into_parts();
            let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
            let value = match value {
                DebugValue::Counter(count) => count.to_string(),
                DebugValue::Gauge(level) => level.to_string(),
                DebugValue::Histogram(values) => format!("{values:?}"),
            };
            assert_eq!(kind == MetricKind::Gauge, key.name().ends_with("in_flight"));
            format!("{}{{{}}} {value}", key.name().trim_start_matches("callosum_"), labels.join(","))
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn metrics_of_calls_and_handlers() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let world = World::new(3);
        world.run(async {
            let fail = |_, _| async { HandlerResult::<Bytes>::Err("on purpose".into()) };
            let serve = |builder: Builder| {
                builder
                    .layer(Metrics::new())
                    .handle_raw("echo", echo)
                    .handle_raw("fail", fail)
                    .handle_raw("hang", hang)
            };
            let connector = connected(&world, serve, |builder| builder.call_layer(Metrics::new())).await;
            let peer = connector.peer();
            peer.invoke_raw("echo", "12345").await.expect("it echoes");
            peer.invoke_raw("fail", "").await.expect_err("it fails");
            let hanging = peer.invoke_raw("hang", "123").send_with_metadata();
            world.sleep(SECOND).await;
            let under_way = snapshot(&snapshotter);
            for line in ["calls_in_flight{client,hang} 1", "calls_in_flight{server,hang} 1"] {
                assert!(under_way.contains(&line.to_owned()), "{under_way:#?}");
            }
            drop(hanging);
            world.sleep(SECOND).await;
            // Each snapshot is what has changed since the one before.
            let counts: Vec<_> = [under_way, snapshot(&snapshotter)].concat();
            for line in [
                "calls_total{client,echo,ok} 1",
                "calls_total{server,echo,ok} 1",
                "calls_total{client,fail,failed} 1",
                "calls_total{server,fail,failed} 1",
                "calls_total{client,hang,dropped} 1",
                "calls_total{server,hang,cancelled} 1",
                "argument_bytes{client,echo,ok} [5.0]",
                "argument_bytes{client,hang,dropped} [3.0]",
                "argument_bytes{server,hang,cancelled} [3.0]",
                "result_bytes{client,echo,ok} [5.0]",
                "result_bytes{server,echo,ok} [5.0]",
                "calls_in_flight{client,hang} -1",
                "calls_in_flight{server,hang} -1",
            ] {
                assert!(counts.contains(&line.to_owned()), "{line}: {counts:#?}");
            }
            let time =
                counts.iter().find(|line| line.starts_with("call_duration_seconds{client,hang,dropped}"));
            assert!(time.is_some_and(|line| line.contains("[1.")), "{counts:#?}");
        });
    });
}

/// A handler that answers with what it has read. A second after it has read so many bytes, it fails.
fn echo_up_to(
    bytes: usize,
    time: Time,
) -> impl Fn(BodyReader, Responder, Context) -> BoxFuture<'static, HandlerResult<()>> {
    move |mut body, responder, _| {
        let time = time.clone();
        async move {
            let (mut result, mut read) = (responder.begin().await?, 0);
            while let Some(chunk) = body.next().await.transpose()? {
                read += chunk.len();
                result.write_bytes(chunk).await?;
                if read >= bytes {
                    time.sleep(SECOND).await;
                    return Err("it has read enough".into());
                }
            }
            Ok(())
        }
        .boxed()
    }
}

async fn make_streamed_calls(world: &World, peer: &Peer) {
    // Read as they come, also as far as they come, and as a whole.
    let (mut writer, answer) = peer.open("echo").stream().expect("it is connected");
    writer.write_bytes(vec![0; 300].into()).await.expect("there is room");
    writer.finish().expect("it is open");
    let mut body = answer.await.expect("it begins").body;
    while body.next().await.is_some() {}
    let (mut writer, answer) = peer.open("echo some").stream().expect("it is connected");
    writer.write_bytes(vec![0; 100].into()).await.expect("there is room");
    let mut body = answer.await.expect("it begins").body;
    body.next().await.expect("it echoes").expect("it goes on");
    writer.write_bytes(vec![0; 100].into()).await.expect("there is room");
    body.next().await.expect("it echoes").expect("it is there");
    body.next().await.expect("it fails").expect_err("it has read enough");
    let (mut writer, answer) = peer.open("collect").stream().expect("it is connected");
    writer.write_bytes(vec![0; 50_000].into()).await.expect("there is room");
    writer.finish().expect("it is open");
    answer.await.expect("it begins").body.collect().await.expect("it is complete");
    // Read after the end, and not at all.
    let answer = peer.open("whole").send_raw(vec![0; 70]).expect("it is connected");
    world.sleep(SECOND).await;
    drop(answer);
    let answer = peer.open("collect").send_raw(vec![0; 80]).expect("it is connected");
    world.sleep(SECOND).await;
    let body = answer.await.expect("it is there").body;
    assert_eq!(body.collect().await.expect("it is complete").len(), 160);
    // The handler reads nothing of an argument that it gets in parts.
    let (mut writer, answer) = peer.open("ignore").stream().expect("it is connected");
    writer.write_bytes(vec![0; 90].into()).await.expect("there is room");
    answer.await.expect("it ends");
    // Given up before anything was answered.
    let (mut writer, answer) = peer.open("collect").stream().expect("it is connected");
    writer.write_bytes(vec![0; 60].into()).await.expect("there is room");
    world.sleep(SECOND).await;
    drop((writer, answer));
    world.sleep(SECOND).await;
}

#[test]
fn metrics_of_streams() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let world = World::new(3);
        world.run(async {
            let collect = |body: BodyReader, responder: Responder, _: Context| async move {
                let size = body.collect().await?.len();
                responder.begin().await?.write_bytes(vec![0; 2 * size].into()).await?;
                HandlerResult::Ok(())
            };
            let (all, some) = (echo_up_to(usize::MAX, world.time()), echo_up_to(150, world.time()));
            let serve = |builder: Builder| {
                builder
                    .layer(Metrics::new())
                    .handle_raw("whole", echo)
                    .handle_stream("collect", collect)
                    .handle_stream("echo", all)
                    .handle_stream("echo some", some)
                    .handle_stream("ignore", async |_, _, _| HandlerResult::Ok(()))
            };
            let connector = connected(&world, serve, |builder| builder.call_layer(Metrics::new())).await;
            make_streamed_calls(&world, connector.peer()).await;
            let bytes: Vec<_> =
                snapshot(&snapshotter).into_iter().filter(|line| line.contains("_bytes{")).collect();
            assert_eq!(
                bytes,
                [
                    "argument_bytes{client,collect,cancelled} [60.0]",
                    "argument_bytes{client,collect,ok} [50000.0, 80.0]",
                    "argument_bytes{client,echo some,failed} [200.0]",
                    "argument_bytes{client,echo,ok} [300.0]",
                    "argument_bytes{client,ignore,ok} [90.0]",
                    "argument_bytes{client,whole,ok} [70.0]",
                    "argument_bytes{server,collect,cancelled} [0.0]",
                    "argument_bytes{server,collect,ok} [50000.0, 80.0]",
                    "argument_bytes{server,echo some,failed} [200.0]",
                    "argument_bytes{server,echo,ok} [300.0]",
                    "argument_bytes{server,ignore,ok} [0.0]",
                    "argument_bytes{server,whole,ok} [70.0]",
                    "result_bytes{client,collect,ok} [100000.0, 160.0]",
                    "result_bytes{client,echo some,failed} [200.0]",
                    "result_bytes{client,echo,ok} [300.0]",
                    "result_bytes{client,ignore,ok} [0.0]",
                    "result_bytes{client,whole,ok} [70.0]",
                    "result_bytes{server,collect,ok} [100000.0, 160.0]",
                    "result_bytes{server,echo some,failed} [200.0]",
                    "result_bytes{server,echo,ok} [300.0]",
                    "result_bytes{server,ignore,ok} [0.0]",
                    "result_bytes{server,whole,ok} [70.0]",
                ]
            );
        });
    });
}

/// Writes spans down: name, then its fields in the order in which they come.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).expect("a string takes everything");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, " {}={value}", field.name()).expect("a string takes everything");
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.name().starts_with("rpc.")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut spans = self.0.lock().expect("no test panics under it");
        let mut line = span.metadata().name().to_owned();
        span.record(&mut Fields(&mut line));
        spans.push(line);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut spans = self.0.lock().expect("no test panics under it");
        values.record(&mut Fields(&mut spans[span.into_u64() as usize - 1]));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The value of a field of a span.
fn field<'a>(span: &'a str, name: &str) -> Option<&'a str> {
    span.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn a_trace_goes_on_across_peers() {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(spans.clone());
    let world = World::new(4);
    world.run(async {
        let back = |_: Bytes, context: Context| async move {
            // So that it is polled twice.
            let first = context.peer().invoke_raw("echo", "").await?;
            context.peer().invoke_raw("nothing", "").key("k").await.expect_err("there is no such method");
            HandlerResult::Ok(first)
        };
        let layers = |builder: Builder| builder.layer(Tracing::new()).call_layer(Tracing::new());
        let serve = |builder: Builder| layers(builder).handle_raw("back", back);
        let connector = connected(&world, serve, |builder| layers(builder).handle_raw("echo", echo)).await;
        connector.peer().invoke_raw("back", "").key("k").await.expect("it answers");
        assert!(TraceContext::current().is_none());
    });
    let spans = spans.0.lock().expect("no test panics under it");
    let [call, handler, call_back, echo, refused] = &spans[..] else { panic!("{spans:#?}") };
    assert!(
        call.starts_with(
            "rpc.client otel.kind=client otel.name=back rpc.system=callosum rpc.method=back rpc.callosum.key=\"k\""
        ),
        "{call}"
    );
    assert!(handler.starts_with("rpc.server otel.kind=server otel.name=back"), "{handler}");
    for span in &spans[..] {
        assert_eq!(field(span, "trace_id"), field(call, "trace_id"), "{span}");
        assert_eq!(field(span, "trace_id").map(str::len), Some(32));
    }
    assert_eq!(field(call, "parent_span_id"), None);
    for (child, parent) in [(handler, call), (call_back, handler), (echo, call_back), (refused, handler)] {
        assert_eq!(field(child, "parent_span_id"), field(parent, "span_id"), "{child}");
    }
    assert_eq!((field(echo, "error.type"), field(refused, "error.type")), (None, Some("rejected")));
}

/// Notes why the handler of a call was stopped, once it is over.
struct Learns {
    context: Context,
    reasons: Arc<Mutex<Vec<Option<CancelReason>>>>,
}

impl Drop for Learns {
    fn drop(&mut self) {
        self.reasons.lock().expect("no test panics under it").push(self.context.cancel_reason());
    }
}

/// A handler that is stopped for this reason: what a layer learns, what the metrics say, and its span.
fn stopped(reason: CancelReason, grace: Duration) -> (Vec<Option<CancelReason>>, Vec<String>, String) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(spans.clone());
    let reasons = Arc::<Mutex<Vec<_>>>::default();
    metrics::with_local_recorder(&recorder, || {
        let world = World::new(8);
        world.run(async {
            let (server, client) = (world.host("server"), world.host("client"));
            let seen = reasons.clone();
            let learns = move |call: IncomingCall, next: HandlerNext| {
                let learns = Learns { context: call.context().clone(), reasons: seen.clone() };
                async move {
                    let reply = next.run(call).await;
                    drop(learns);
                    reply
                }
            };
            let handler = move |_: Bytes, context: Context| async move {
                context.set_cancel_grace(grace);
                context.cancelled().await;
                HandlerResult::Ok(Bytes::from_static(b"too late"))
            };
            let mut builder = server.builder().layer(learns).layer(Metrics::new()).layer(Tracing::new());
            if reason == CancelReason::TimedOut {
                builder = builder.execution_timeout(SECOND);
            }
            let builder = builder.handle_raw("hang", handler);
            let (binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
            server.spawn(async { drop(driver.await) });
            let (connector, driver) = client.builder().connect("tcp://server:1").expect("it is an endpoint");
            client.spawn(async { drop(driver.await) });
            connector.peer().ready().await.expect("the binder answers");
            let call = connector.peer().invoke_raw("hang", "").send_with_metadata();
            world.sleep(SECOND / 2).await;
            match reason {
                CancelReason::Caller => drop(call),
                CancelReason::Disconnected => client.crash(),
                CancelReason::Shutdown => drop(binder.shutdown(Duration::ZERO).await),
                _ => {
                    let error = call.await.expect_err("its time is over");
                    assert_eq!(error.refusal(), Some(Refusal::ExecutionTimedOut));
                }
            }
            world.sleep(SECOND).await;
        });
    });
    let spans = spans.0.lock().expect("no test panics under it");
    let [span] = &spans[..] else { panic!("{spans:#?}") };
    let reasons = reasons.lock().expect("no test panics under it").clone();
    (reasons, snapshot(&snapshotter), span.clone())
}

#[test]
fn layers_learn_why_a_handler_is_stopped() {
    for (reason, outcome) in [
        (CancelReason::TimedOut, "timed_out"),
        (CancelReason::Caller, "cancelled"),
        (CancelReason::Disconnected, "disconnected"),
        (CancelReason::Shutdown, "cancelled"),
    ] {
        // In its grace period a handler still answers, but nobody gets its reply.
        for grace in [Duration::ZERO, SECOND] {
            let (reasons, metrics, span) = stopped(reason, grace);
            assert_eq!(reasons, [Some(reason)], "{grace:?}");
            let count = format!("calls_total{{server,hang,{outcome}}} 1");
            assert!(metrics.contains(&count), "{reason:?} {grace:?}: {metrics:#?}");
            assert!(!metrics.iter().any(|line| line.starts_with("result_bytes")), "{metrics:#?}");
            let fields = (field(&span, "otel.status_code"), field(&span, "error.type"));
            assert_eq!(fields, (Some("ERROR"), Some(outcome)), "{reason:?} {grace:?}: {span}");
        }
    }
}

/// Python's peers, and others that speak dialect 1 only, are called without trace context, instead of not at all.
#[test]
fn peers_of_dialect_1_get_no_trace_context() {
    let world = World::new(5);
    world.run(async {
        let serve = |builder: Builder| builder.dialect(Dialect::One).handle_raw("echo", echo);
        let check = |call: OutgoingCall, next: CallNext| {
            assert!(call.metadata().is_empty());
            next.run(call)
        };
        let call = |builder: Builder| builder.call_layer(Tracing::new()).call_layer(check);
        let connector = connected(&world, serve, call).await;
        connector.peer().invoke_raw("echo", "x").await.expect("it echoes");
    });
}

/// A server that comes back in dialect 1 answers the calls that were made while it was away: they have no trace context either.
#[test]
fn peers_that_return_in_dialect_1_get_no_trace_context() {
    let world = World::new(7);
    world.run(async {
        let (server, client) = (world.host("server"), world.host("client"));
        let serve = async |dialect| {
            let builder = server.builder().dialect(dialect).handle_raw("echo", echo);
            let (binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
            server.spawn(async { drop(driver.await) });
            binder
        };
        let first = serve(Dialect::Two).await;
        let builder = client.builder().call_layer(Tracing::new());
        let (connector, driver) = builder.connect("tcp://server:1").expect("it is an endpoint");
        client.spawn(async { drop(driver.await) });
        connector.peer().ready().await.expect("the binder answers");
        assert_eq!(connector.peer().info().dialect, Some(Dialect::Two));
        server.crash();
        drop(first);
        world.sleep(SECOND).await;
        assert!(!connector.peer().is_connected());
        let call = connector.peer().invoke_raw("echo", "x").send_with_metadata();
        let _second = serve(Dialect::One).await;
        let (echoed, _) = call.await.expect("it is sent over the next link");
        assert_eq!(echoed, "x");
        assert_eq!(connector.peer().info().dialect, Some(Dialect::One));
    });
}
