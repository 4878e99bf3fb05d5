//! Readers and responders that leave their handler, and results whose beginning is given up.

use bytes::Bytes;
use callosum_runtime::proto::{ReadError, WriteError};
use callosum_runtime::{
    BodyError, BodyReader, BodyWriter, CallError, Context, HandlerResult, OrderingMode, Responder,
};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
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

/// A reader of an argument outside of its handler gets an error if the call is answered before the argument is complete.
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

/// Argument and result of a call whose handler waits at a gate.
type GivenAway = async_channel::Receiver<(BodyReader, BodyWriter)>;

/// A handler that begins its result, gives its argument and its writer away, and waits at a gate.
fn giving_away()
-> (impl Fn(BodyReader, Responder, Context) -> BoxFuture<'static, HandlerResult<()>>, GivenAway, Gate) {
    let (gate, (out, bodies)) = (Gate::default(), async_channel::unbounded());
    let at = gate.clone();
    let writes = move |argument: BodyReader, responder: Responder, context: Context| {
        let (out, gate) = (out.clone(), at.clone());
        Box::pin(async move {
            let mut result = responder.begin().await?;
            result.write_bytes(Bytes::from_static(b"the beginning")).await?;
            out.send((argument, result)).await?;
            gate.pass_through(context).await;
            HandlerResult::Ok(())
        }) as BoxFuture<'static, _>
    };
    (writes, bodies, gate)
}

/// The end of a body that is given up.
async fn broken(mut body: BodyReader) -> BodyError {
    loop {
        match body.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return error,
            None => panic!("it is not complete"),
        }
    }
}

/// An argument that is given up is incomplete at once, and so is a result, whose call ends with it while its handler runs on.
pub async fn writers_that_give_up(rig: Rig) {
    let (writes, bodies, gate) = giving_away();
    let pair = rig.pair(rig.builder().handle_stream("writes", writes), rig.builder()).await;
    let open = async || {
        let (mut writer, answer) = pair.peer().open("writes").stream().expect("it can be made");
        writer.write_bytes(Bytes::from_static(b"the beginning")).await.expect("there is room");
        let (argument, result) = bodies.recv().await.expect("the handler has sent them");
        (writer, answer.await.expect("it has begun").body, argument, result)
    };
    let (writer, from, argument, to) = open().await;
    writer.abort();
    let error = broken(argument).await;
    assert!(matches!(error, BodyError::Read(ReadError::Aborted)), "{error:?}");
    drop(to);
    gate.next().await.release(Value::Null);
    assert_eq!(from.collect().await.expect("the result is not touched"), "the beginning");

    let (mut writer, from, argument, to) = open().await;
    to.abort();
    let error = broken(from).await;
    let BodyError::Call(CallError::Remote(info)) = error else { panic!("{error:?}") };
    assert_eq!(&*info.name, "AbortedResult");
    assert!(writer.write_bytes(Bytes::from_static(b"more")).await.is_err(), "the call has ended");
    broken(argument).await;
    assert_eq!(pair.back.stats().requests_running, 1, "the handler runs on");
    gate.next().await.release(Value::Null);
    rig.until(|| pair.back.stats().requests_running == 0).await;
    assert_eq!((pair.back.stats().requests_done, pair.back.stats().requests_failed), (1, 1));

    // What is complete, or was given up by the other side, is not touched.
    let (mut writer, from, argument, mut to) = open().await;
    writer.finish().expect("it is read");
    to.finish().expect("it is read");
    writer.abort();
    to.abort();
    assert_eq!(argument.collect().await.expect("it is complete"), "the beginning");
    gate.next().await.release(Value::Null);
    assert_eq!(from.collect().await.expect("it is complete"), "the beginning");
    pair.end().await;
}

/// A call whose result is complete is stopped, also if its handler reads nothing; one whose argument is complete too is not.
pub async fn writers_that_cancel(rig: Rig) {
    let (writes, bodies, gate) = giving_away();
    let pair = rig.pair(rig.builder().handle_stream("writes", writes), rig.builder()).await;
    for finishes in [false, true] {
        let (mut writer, answer) = pair.peer().open("writes").stream().expect("it can be made");
        let (argument, mut to) = bodies.recv().await.expect("the handler has sent them");
        to.finish().expect("it is read");
        let from = answer.await.expect("it has begun").body;
        assert_eq!(from.collect().await.expect("it is complete"), "the beginning");
        assert_eq!(pair.back.stats().requests_running, 1);
        if finishes {
            writer.finish().expect("it is read");
            writer.cancel();
            assert_eq!(argument.collect().await.expect("it is complete"), "");
            gate.next().await.release(Value::Null);
        } else {
            writer.cancel();
            rig.until(|| pair.back.stats().requests_running == 0).await;
            broken(argument).await;
            drop(gate.next().await);
        }
        rig.until(|| pair.back.stats().requests_running == 0).await;
    }
    assert_eq!((pair.back.stats().requests_done, pair.back.stats().requests_failed), (1, 1));
    pair.end().await;
}

/// A writer that has nothing to write learns that its reader is gone.
pub async fn writers_learn_that_nobody_reads(rig: Rig) {
    let (writes, bodies, gate) = giving_away();
    let pair = rig.pair(rig.builder().handle_stream("writes", writes), rig.builder()).await;
    let open = async || {
        let (writer, answer) = pair.peer().open("writes").stream().expect("it can be made");
        let (argument, result) = bodies.recv().await.expect("the handler has sent them");
        (writer, answer.await.expect("it has begun").body, argument, result)
    };
    // The reader of the argument stops, and the call goes on.
    let (mut writer, from, argument, mut to) = open().await;
    assert!(poll_once(&mut Box::pin(writer.closed())).await.is_none(), "it is read");
    drop(argument);
    let error = writer.closed().await;
    assert!(matches!(error, BodyError::Write(WriteError::Stopped)), "{error:?}");
    writer.write_bytes(Bytes::from_static(b"more")).await.expect_err("nobody reads it");
    // The caller drops the result, which cancels the call.
    assert!(poll_once(&mut Box::pin(to.closed())).await.is_none(), "it is read");
    drop(from);
    to.closed().await;
    to.write_bytes(Bytes::from_static(b"more")).await.expect_err("nobody reads it");
    drop(gate.next().await);

    // The handler ends.
    let (mut writer, from, _argument, mut to) = open().await;
    to.finish().expect("it is read");
    assert!(poll_once(&mut Box::pin(to.closed())).await.is_none(), "it is read");
    gate.next().await.release(Value::Null);
    writer.closed().await;
    assert_eq!(from.collect().await.expect("it is complete"), "the beginning");
    to.closed().await;

    // The link ends.
    let (mut writer, from, _argument, mut to) = open().await;
    pair.peer().disconnect();
    let error = writer.closed().await;
    assert!(matches!(error, BodyError::Call(CallError::Disconnected(_))), "{error:?}");
    to.closed().await;
    broken(from).await;
    pair.end().await;
}
