//! Readers and responders that leave their handler, and results whose beginning is given up.

use bytes::Bytes;
use callosum_runtime::{BodyError, BodyReader, Context, HandlerResult, OrderingMode, Responder};
use serde_json::Value;

use crate::gate::Gate;
use crate::rig::{Rig, poll_once};

/// A result that begins after its call has been answered fails, and does not wait.
pub async fn results_that_begin_too_late(rig: Rig) {
    let (out, responders) = async_channel::unbounded();
    let gives_away = move |_: BodyReader, responder: Responder, _: Context| {
        let out = out.clone();
        async move {
            out.send(responder).await?;
            HandlerResult::Ok(())
        }
    };
    let pair = rig.pair(rig.builder().handle_stream("gives away", gives_away), rig.builder()).await;
    let answer = pair.peer().open("gives away").key("k").send(&()).expect("it can be made");
    assert!(answer.await.expect("it is answered").body.collect().await.expect("it is empty").is_empty());
    let responder = responders.recv().await.expect("the handler has sent it");
    responder.begin().await.expect_err("the call has been answered");
    pair.end().await;
}

/// Who collects an argument outside of its handler is told when the call is answered before the argument is complete.
pub async fn arguments_collected_for_too_long(rig: Rig) {
    let (gate, (out, arguments)) = (Gate::default(), async_channel::unbounded());
    let at = gate.clone();
    let gives_away = move |argument: BodyReader, _: Responder, context: Context| {
        let (out, gate) = (out.clone(), at.clone());
        async move {
            out.send(argument).await?;
            gate.pass_through(context).await;
            HandlerResult::Ok(())
        }
    };
    let pair = rig.pair(rig.builder().handle_stream("gives away", gives_away), rig.builder()).await;
    let (mut writer, answer) = pair.peer().open("gives away").stream().expect("it can be made");
    writer.write_bytes(Bytes::from_static(b"the beginning")).await.expect("there is room");
    let mut collected = Box::pin(arguments.recv().await.expect("the handler has sent it").collect());
    assert!(poll_once(&mut collected).await.is_none(), "it goes on");
    gate.next().await.release(Value::Null);
    answer.await.expect("it is answered");
    let error = collected.await.expect_err("it is incomplete");
    assert!(matches!(error, BodyError::Read(_)), "{error:?}");
    pair.end().await;
}

/// A handler that does not wait for its order any more has its slot back.
pub async fn beginning_given_up(rig: Rig) {
    let gate = Gate::default();
    let at = gate.clone();
    let gives_up = move |_: BodyReader, responder: Responder, context: Context| {
        let gate = at.clone();
        async move {
            assert!(poll_once(&mut Box::pin(responder.begin())).await.is_none(), "another is before it");
            gate.pass_through(context).await;
            HandlerResult::Ok(())
        }
    };
    let echo = |body: Bytes, _: Context| async move { HandlerResult::Ok(body) };
    let serving = rig
        .builder()
        .ordering(OrderingMode::ExitOrdered)
        .max_concurrency(1)
        .handle_stream("gives up", gives_up)
        .handle_raw("echo", echo);
    let pair = rig.pair(serving, rig.builder()).await;
    gate.guard(pair.binder.handlers(), "hold");
    // Its argument is incomplete: it has its place in the order, and no slot.
    let (writer, first) = pair.peer().open("echo").key("k").stream().expect("it can be made");
    rig.until(|| pair.back.stats().requests_queued == 1).await;
    let second = pair.peer().open("gives up").key("k").send(&()).expect("it can be made");
    let second_runs = gate.next().await;
    let peer = pair.peer().clone();
    let third = rig.spawn(async move { peer.invoke::<_, Value>("hold", &3).await });
    rig.until(|| pair.back.stats().requests_queued == 2).await;
    pair.peer().ping().await.expect("it is connected");
    assert_eq!(pair.back.stats().requests_running, 1, "the third waits for the slot of the second");
    assert!(gate.try_next().is_none());
    second_runs.release(Value::Null);
    gate.next().await.release(3);
    assert_eq!(third.join().await.expect("it was released"), 3);
    drop(writer);
    first.await.expect_err("its argument was given up");
    second.await.expect("it is answered");
    pair.end().await;
}
