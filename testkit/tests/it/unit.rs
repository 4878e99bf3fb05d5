//! Handlers run by a test, on calls that have a caller.

use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::auth::Identity;
use callosum_runtime::layer::{HandlerNext, IncomingCall};
use callosum_runtime::{
    BodyError, BodyReader, CallError, CancelReason, Context, ErrorInfo, HandlerError, HandlerResult,
    Metadata, Reply, Responder,
};
use callosum_testkit::unit::TestCall;
use callosum_testkit::world::{World, check};
use futures_util::StreamExt;

const SECOND: Duration = Duration::from_secs(1);

/// Streams its argument back in upper case, and counts what it has read.
async fn shout(mut body: BodyReader, responder: Responder, context: Context) -> HandlerResult<()> {
    let mut writer = responder.metadata(context.metadata().clone()).begin().await?;
    while let Some(bytes) = body.next().await {
        writer.write_bytes(bytes?.to_ascii_uppercase().into()).await?;
    }
    Ok(writer.finish()?)
}

/// Asks its caller for a name, and tells it how it went.
async fn greet(greeting: String, context: Context) -> HandlerResult<String> {
    let name: String = context.peer().invoke("name", &()).await.map_err(HandlerError::relay)?;
    let mut metadata = Metadata::new();
    metadata.insert("mood", "good").map_err(|error| HandlerError::new("Metadata", &error.to_string()))?;
    context.set_reply_metadata(metadata)?;
    Ok(format!("{greeting}, {name}"))
}

#[test]
fn the_context_says_what_the_call_says() {
    check(0..4, |world| async move {
        let mut metadata = Metadata::new();
        metadata.insert("trace", "7").unwrap();
        let call = TestCall::new(&world.host("agent"), "stop").key("web-1").metadata(metadata);
        let call = call.identity(Identity::new("alice")).timeout(3 * SECOND).begin().await;
        assert_eq!(call.context.method(), "stop");
        assert_eq!(call.context.key().as_text(), Some("web-1"));
        assert_eq!(call.context.metadata().get("trace"), Some(&Bytes::from_static(b"7")));
        assert_eq!(call.context.identity().unwrap().user_id, "alice");
        let left = call.context.deadline().unwrap() - world.now();
        assert!(left > 2 * SECOND && left <= 3 * SECOND, "{left:?}");

        let plain = TestCall::new(&world.host("other"), "stop").begin().await;
        assert!(!plain.context.key().is_given() && plain.context.metadata().is_empty());
        assert!(plain.context.identity().is_none() && plain.context.deadline().is_none());
    });
}

#[test]
fn a_handler_calls_its_caller_back_and_sends_metadata_along() {
    let world = World::new(1);
    world.run(async {
        let name = |_: (), _: Context| async { HandlerResult::Ok("Ada".to_owned()) };
        let call =
            TestCall::new(&world.host("agent"), "greet").caller(|builder| builder.handle("name", name));
        let call = call.begin().await;
        assert_eq!(greet("hello".to_owned(), call.context.clone()).await.unwrap(), "hello, Ada");
        call.end.with(Ok(Bytes::new()));
        let (_, metadata) = call.answer.await.unwrap();
        assert_eq!(metadata.get("mood"), Some(&Bytes::from_static(b"good")));
    });
}

#[test]
fn streams_go_both_ways() {
    check(0..4, |world| async move {
        let mut call = TestCall::new(&world.host("agent"), "shout").begin_stream().await;
        world.host("elsewhere").spawn(async move {
            let outcome = shout(call.body, call.responder, call.context).await;
            call.end.with(outcome);
        });
        call.argument.write_bytes(Bytes::from_static(b"quiet")).await.unwrap();
        call.argument.finish().unwrap();
        assert_eq!(call.answer.await.unwrap().body.collect().await.unwrap(), "QUIET");
    });
}

#[test]
fn a_handler_learns_why_it_is_cancelled() {
    check(0..4, |world| async move {
        let begin =
            |name: &str| TestCall::new(&world.host(name), "stop").callee(|builder| builder.no_keepalive());
        let cancelled = begin("a").begin().await;
        drop(cancelled.answer);
        assert_eq!(cancelled.context.cancelled().await, CancelReason::Caller);

        let late = begin("b").callee(|builder| builder.execution_timeout(SECOND)).begin().await;
        assert_eq!(late.context.cancelled().await, CancelReason::TimedOut);

        let lost = begin("c").begin().await;
        lost.context.peer().disconnect();
        assert_eq!(lost.context.cancelled().await, CancelReason::Disconnected);
    });
}

#[test]
fn the_caller_gets_the_error_that_the_handler_ends_with() {
    let world = World::new(1);
    world.run(async {
        let call = TestCall::new(&world.host("agent"), "stop").begin().await;
        call.end.with(Err(HandlerError::new("NoSuchContainer", "web-1")));
        let Err(CallError::Remote(error)) = call.answer.await else { panic!("a remote error") };
        assert_eq!(&*error.name, "NoSuchContainer");
    });
}

#[test]
fn a_call_whose_end_is_dropped_fails() {
    let world = World::new(1);
    world.run(async {
        let mut call = TestCall::new(&world.host("agent"), "stop").begin_stream().await;
        drop(call.end);
        assert!(matches!(call.answer.await, Err(CallError::Remote(_))));
        assert!(matches!(call.argument.closed().await, BodyError::Call(_)));
    });
}

#[test]
#[should_panic(expected = "the call has not reached its handler: Err(Remote(")]
fn a_call_that_a_layer_refuses_is_a_panic() {
    let world = World::new(0);
    world.run(async {
        let refuse = |_: IncomingCall, _: HandlerNext| async {
            Reply::Failure(ErrorInfo::new("Forbidden", "not on Sundays").into())
        };
        TestCall::new(&world.host("agent"), "stop").callee(|builder| builder.layer(refuse)).begin().await;
    });
}

#[test]
#[should_panic(expected = "the call has not reached its handler: Err(Remote(")]
fn a_stream_that_a_layer_refuses_is_a_panic() {
    let world = World::new(0);
    world.run(async {
        let refuse = |_: IncomingCall, _: HandlerNext| async {
            Reply::Failure(ErrorInfo::new("Forbidden", "not on Sundays").into())
        };
        let call = TestCall::new(&world.host("agent"), "stop").callee(|builder| builder.layer(refuse));
        call.begin_stream().await;
    });
}
