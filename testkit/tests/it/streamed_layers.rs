//! Layers around calls that open streams, on virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::layer::{CallLayer, CallNext, CallResult, MethodTimeouts, OutgoingCall};
use callosum_runtime::{
    BodyError, BodyReader, Builder, CallError, Connector, Context, HandlerError, HandlerResult, Metadata,
    NotSent, Responder,
};
use callosum_testkit::world::{Time, World};
use futures_util::StreamExt;

const SECOND: Duration = Duration::from_secs(1);

async fn echo(mut body: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
    let mut metadata = Metadata::new();
    metadata.insert("from", "echo")?;
    let mut result = responder.metadata(metadata).begin().await?;
    while let Some(bytes) = body.next().await {
        result.write_bytes(bytes?).await?;
    }
    Ok(())
}

async fn fail(_: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
    responder.begin().await?.write_bytes(Bytes::from_static(b"some")).await?;
    Err(HandlerError::new("Broken", "half of it"))
}

async fn hang(_: BodyReader, responder: Responder, context: Context) -> HandlerResult<()> {
    responder.begin().await?.write_bytes(Bytes::from_static(b"some")).await?;
    context.cancelled().await;
    Ok(())
}

/// A binder that has these handlers, and a connector that is connected.
async fn connected(world: &World, call: impl FnOnce(Builder) -> Builder) -> Connector {
    let (server, client) = (world.host("server"), world.host("client"));
    let builder = server.builder();
    let builder = builder.handle_stream("echo", echo).handle_stream("fail", fail).handle_stream("hang", hang);
    let (binder, driver) = builder.bind("tcp://server:1").await.expect("the port is free");
    server.spawn(async move {
        let _binder = binder;
        drop(driver.await);
    });
    let (connector, driver) = call(client.builder()).connect("tcp://server:1").expect("it is an endpoint");
    client.spawn(async { drop(driver.await) });
    connector.peer().ready().await.expect("the binder answers");
    connector
}

/// What a layer has seen, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: String) {
        self.0.lock().expect("no test panics here").push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no test panics here"))
    }

    fn layer(&self) -> impl CallLayer + use<> {
        let log = self.clone();
        move |call: OutgoingCall, next: CallNext| {
            let log = log.clone();
            let (method, key, timeout) = (call.method().to_owned(), call.key().to_string(), call.timeout());
            log.add(format!("{method} {key} {timeout:?} {} {}", call.opens_stream(), call.metadata().len()));
            async move {
                let result = next.run(call).await;
                log.add(match &result {
                    Ok(result) => format!("{method}: {} {}", result.body.len(), result.metadata.len()),
                    Err(error) => format!("{method}: {error}"),
                });
                result
            }
        }
    }
}

async fn collect(mut body: BodyReader) -> Result<Vec<u8>, BodyError> {
    let mut all = Vec::new();
    while let Some(bytes) = body.next().await {
        all.extend_from_slice(&bytes?);
    }
    Ok(all)
}

#[test]
fn layers_see_streamed_calls_from_their_beginning_to_their_end() {
    let world = World::new(1);
    let log = Log::default();
    world.run(async {
        let connector = connected(&world, |builder| builder.call_layer(log.layer())).await;
        let peer = connector.peer();
        let mut metadata = Metadata::new();
        metadata.insert("a", "b").expect("there is room");
        let opening = peer.open("echo").key("k").timeout(5 * SECOND).metadata(metadata);
        let (mut writer, answer) = opening.stream().expect("it is made");
        assert_eq!(log.take(), ["echo \"k\" Some(5s) true 1"]);
        for part in ["one", "two"] {
            writer.write_bytes(part.into()).await.expect("it reads");
        }
        writer.finish().expect("it reads");
        let answer = answer.await.expect("it answers");
        assert_eq!(log.take(), [""; 0], "it has not ended");
        assert_eq!(collect(answer.body).await.expect("it is whole"), b"onetwo");
        world.sleep(SECOND).await;
        assert_eq!(log.take(), ["echo: 0 1"]);

        // It fails before anything of its result has left.
        peer.open("fail").send_raw("").expect("it is made").await.expect_err("it fails");
        world.sleep(SECOND).await;
        assert_eq!(log.take()[1], "fail: the remote handler failed: Broken: half of it");

        let answer = peer.open("hang").timeout(SECOND).send_raw("").expect("it is made").await;
        let error = collect(answer.expect("it begins").body).await.expect_err("its time is over");
        assert!(matches!(error, BodyError::Call(CallError::TimedOut { sent: true })), "{error:?}");
        world.sleep(SECOND).await;
        assert_eq!(log.take()[1], "hang: no reply arrived before the timeout");

        drop(peer.open("hang").send_raw("").expect("it is made").await.expect("it begins"));
        world.sleep(SECOND).await;
        assert_eq!(log.take()[1], "hang: the remote side cancelled the call");

        peer.open("nothing").send_raw("").expect("it is made").await.expect_err("there is no such method");
        world.sleep(SECOND).await;
        assert!(log.take()[1].starts_with("nothing: the remote side rejected the call: NoSuchMethod"));

        let answer = peer.open("hang").send_raw("").expect("it is made").await.expect("it begins");
        peer.disconnect();
        collect(answer.body).await.expect_err("its link has ended");
        world.sleep(SECOND).await;
        assert!(log.take()[1].contains("this side closed the connection"));
    });
}

/// Its writer and its reader are there before the call is.
#[test]
fn a_layer_may_wait_before_a_stream_is_opened() {
    let world = World::new(2);
    world.run(async {
        let connector = connected(&world, |builder| builder.call_layer(wait(world.time()))).await;
        let begun = world.elapsed();
        let (mut writer, answer) = connector.peer().open("echo").stream().expect("it waits");
        assert_eq!(writer.consumed().expect("it waits"), 0);
        writer.write_bytes("late".into()).await.expect("it reads");
        assert!(world.elapsed() >= begun + SECOND, "the layer waits");
        writer.finish().expect("it reads");
        let body = collect(answer.await.expect("it answers").body).await.expect("it is whole");
        assert_eq!(body, b"late");

        // Nothing is written, and the end of that is not forgotten.
        let (mut writer, answer) = connector.peer().open("echo").stream().expect("it waits");
        writer.finish().expect("it waits");
        drop(writer);
        assert_eq!(collect(answer.await.expect("it answers").body).await.expect("it is whole"), b"");
    });
}

fn wait(time: Time) -> impl CallLayer {
    move |call: OutgoingCall, next: CallNext| {
        let time = time.clone();
        async move {
            time.sleep(SECOND).await;
            next.run(call).await
        }
    }
}

#[test]
fn a_stream_that_is_given_up_before_it_is_opened_never_is() {
    let world = World::new(3);
    let log = Log::default();
    world.run(async {
        let wait = wait(world.time());
        let connector = connected(&world, |builder| builder.call_layer(wait).call_layer(log.layer())).await;
        let peer = connector.peer();
        drop(peer.open("echo").stream().expect("it waits"));
        drop(peer.open("echo").send_raw("").expect("it waits"));
        let (writer, answer) = peer.open("echo").stream().expect("it waits");
        drop(writer);
        let error = answer.await.expect_err("its argument can't be completed");
        assert!(matches!(error, CallError::Cancelled), "{error:?}");
        world.sleep(5 * SECOND).await;
        assert_eq!(log.take(), [""; 0]);
        assert_eq!(peer.stats().calls_in_flight, 0);
    });
}

#[test]
fn a_layer_may_answer_or_refuse_a_stream() {
    let world = World::new(4);
    world.run(async {
        let connector = connected(&world, |builder| builder).await;
        let answering = connector
            .peer()
            .with_layer(|_: OutgoingCall, _: CallNext| async { Ok(CallResult::new("cached")) });
        let (mut writer, answer) = answering.open("echo").stream().expect("it is answered");
        assert_eq!(collect(answer.await.expect("it answers").body).await.expect("it is whole"), b"cached");
        writer.write_bytes("more".into()).await.expect_err("nobody reads");
        let refusing = connector
            .peer()
            .with_layer(|_: OutgoingCall, _: CallNext| async { Err(CallError::from(NotSent::NotConnected)) });
        let error = refusing.open("echo").send_raw("").expect_err("it is refused");
        assert!(matches!(error, CallError::NotSent(NotSent::NotConnected)), "{error:?}");
    });
}

/// A layer that has waited long enough gives the call up, and says why.
#[test]
fn a_layer_may_give_a_stream_up() {
    let world = World::new(5);
    world.run(async {
        let time = world.time();
        let connector = connected(&world, |builder| {
            builder.call_layer(move |call: OutgoingCall, next: CallNext| {
                let (calling, time) = (next.run(call), time.clone());
                async move {
                    let waiting = std::pin::pin!(time.sleep(SECOND));
                    match futures_util::future::select(calling, waiting).await {
                        futures_util::future::Either::Left((result, _)) => result,
                        futures_util::future::Either::Right(_) => Err(CallError::TimedOut { sent: true }),
                    }
                }
            })
        })
        .await;
        let answer = connector.peer().open("hang").send_raw("").expect("it is made").await;
        let error = collect(answer.expect("it begins").body).await.expect_err("it is given up");
        assert!(matches!(error, BodyError::Call(CallError::TimedOut { sent: true })), "{error:?}");
        world.sleep(SECOND).await;
        assert_eq!(connector.peer().stats().calls_in_flight, 0);
    });
}

/// Its parts are on their way.
#[test]
fn a_stream_is_opened_once() {
    let world = World::new(6);
    world.run(async {
        let connector = connected(&world, |builder| {
            builder.call_layer(|call: OutgoingCall, next: CallNext| async move {
                let first = next.run(call.clone());
                let second = next.run(call).await;
                assert!(matches!(second, Err(CallError::NotSent(NotSent::StreamMade))), "{second:?}");
                first.await
            })
        })
        .await;
        let answer = connector.peer().open("echo").send_raw("x").expect("it is made").await;
        assert_eq!(collect(answer.expect("it begins").body).await.expect("it is whole"), b"x");
    });
}

#[test]
fn timeouts_of_methods_hold_for_streams() {
    let world = World::new(7);
    world.run(async {
        let timeouts = MethodTimeouts::default().method("hang", 3 * SECOND);
        let connector = connected(&world, |builder| builder.call_layer(timeouts)).await;
        let begun = world.elapsed();
        let answer = connector.peer().open("hang").send_raw("").expect("it is made").await;
        let error = collect(answer.expect("it begins").body).await.expect_err("its time is over");
        assert!(matches!(error, BodyError::Call(CallError::TimedOut { sent: true })), "{error:?}");
        assert_eq!((world.elapsed() - begun).as_secs(), 3);
    });
}

/// What is left of its argument goes on after its reader, and the layers learn how it has ended.
#[test]
fn the_outcome_is_that_of_the_call_and_not_of_its_reader() {
    let world = World::new(8);
    let log = Log::default();
    world.run(async {
        let connector = connected(&world, |builder| builder.call_layer(log.layer())).await;
        for _ in 0..50 {
            let answer = connector.peer().open("echo").send_raw(vec![7; 200_000]).expect("it is made").await;
            let body = collect(answer.expect("it begins").body).await.expect("it is whole");
            assert_eq!(body.len(), 200_000);
        }
        world.sleep(SECOND).await;
        let ends: Vec<_> = log.take().into_iter().filter(|line| line.starts_with("echo: ")).collect();
        assert_eq!(ends, ["echo: 0 1"; 50]);
    });
}
