//! Arguments and results that are read and written bit by bit, bodies in chunks, metadata.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_proto::{ReadError, WriteError};
use callosum_runtime::stream::Answer;
use callosum_runtime::{
    BodyError, BodyReader, BodyWriter, CallError, Context, Dialect, Event, HandlerError, HandlerResult,
    InvokeError, Limits, Metadata, NotSent, OrderingMode, Peer, Refusal, ReplyError, Responder,
};
use futures_util::future::join;
use futures_util::{AsyncReadExt, AsyncWriteExt, FutureExt, SinkExt, StreamExt, TryStreamExt};

use crate::gate::{Alive, Gate};
use crate::rig::{Rig, SOON, had_left, longer_and_longer, next_event, poll_once};

/// Seven bytes of each value, over and over.
pub(super) fn body(len: usize) -> Bytes {
    // Copied, since a closure for each byte takes longer than what is tested.
    let period: Vec<_> = (0..len.min(7 * 256)).map(|n| (n / 7) as u8).collect();
    let mut bytes = period.repeat(len.div_ceil(7 * 256));
    bytes.truncate(len);
    bytes.into()
}

/// Reads to the end, as `read_to_end` does, which without optimization takes its time to fill its buffer with zeros.
async fn read_all(mut body: BodyReader) -> std::io::Result<Vec<u8>> {
    let (mut all, mut buf) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        match body.read(&mut buf).await? {
            0 => return Ok(all),
            read => all.extend_from_slice(&buf[..read]),
        }
    }
}

/// Sends back what comes while it comes.
async fn echo(mut body: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
    let mut result = responder.begin().await?;
    while let Some(bytes) = body.next().await {
        result.write_bytes(bytes?).await?;
    }
    Ok(())
}

/// Adds up numbers.
async fn sum(body: BodyReader, responder: Responder, _: Context) -> HandlerResult<()> {
    let sum = body.items::<u64>().try_fold(0, |sum, n| async move { Ok(sum + n) }).await?;
    responder.begin().await?.write_item(&sum).await?;
    Ok(())
}

/// Counts up to its argument.
async fn count(body: BodyReader, responder: Responder, context: Context) -> HandlerResult<()> {
    let up_to: u64 = context.codec().decode(&body.collect().await?)?;
    let mut items = responder.begin().await?.items();
    for n in 0..up_to {
        items.send(n).await?;
    }
    Ok(())
}

/// Bytes go both ways at once, as `AsyncRead` and `AsyncWrite`.
pub async fn bytes_both_ways(rig: Rig) {
    let pair =
        rig.pair(rig.builder().handle_stream("echo", echo), rig.builder().handle_stream("echo", echo)).await;
    for peer in [pair.peer(), &pair.back] {
        let sent = body(5 << 20);
        let (mut writer, answer) = peer.open("echo").stream().expect("it can be made");
        let write = async {
            writer.write_all(&sent).await.expect("the other side reads");
            writer.close().await.expect("it is complete");
        };
        let read = async { read_all(answer.await.expect("it begins").body).await.expect("it is complete") };
        let ((), back) = join(write, read).await;
        assert_eq!(back.len(), sent.len());
        assert!(back == sent);
    }
    pair.end().await;
}

/// One answer to many items, and many to one.
pub async fn items_either_way(rig: Rig) {
    let pair =
        rig.pair(rig.builder().handle_stream("sum", sum).handle_stream("count", count), rig.builder()).await;
    let (writer, answer) = pair.peer().open("sum").stream().expect("it can be made");
    let mut items = writer.items::<u64>();
    for n in 1..=1_000_u64 {
        items.send(n).await.expect("the other side reads");
    }
    items.close().await.expect("it is complete");
    let sums: Vec<u64> =
        answer.await.expect("it begins").body.items::<u64>().try_collect().await.expect("it is complete");
    assert_eq!(sums, [500_500]);
    let body =
        pair.peer().open("count").send(&20_000_u64).expect("it can be made").await.expect("it begins").body;
    let counted: Vec<u64> = body.items::<u64>().try_collect().await.expect("it is complete");
    assert!(counted.into_iter().eq(0..20_000));
    // It is counted when the link's task has told everybody.
    rig.until(|| pair.peer().stats().calls_in_flight == 0).await;
    pair.end().await;
}

/// How a call fails before its first item, whether its result has begun by then or not.
async fn failure_of_items(answer: Answer) -> String {
    let error = match answer.await {
        Err(error) => error,
        Ok(result) => match result.body.items::<String>().next().await {
            Some(Err(BodyError::Call(error))) => error,
            other => panic!("{other:?}"),
        },
    };
    match error {
        CallError::Remote(info) => info.repr.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Large items cross as they are, what goes past the limit before an item ends does not, and an item of another type is an
/// error.
pub async fn items_at_the_limit(rig: Rig) {
    let limits = || Limits::default().max_body(300_000);
    let mirror = |body: BodyReader, responder: Responder, _: Context| async move {
        let mut result = responder.begin().await?;
        let mut items = body.items::<String>();
        while let Some(item) = items.next().await {
            result.write_item(&item?).await?;
        }
        HandlerResult::Ok(())
    };
    let binder = rig.builder().limits(limits()).handle_stream("mirror", mirror);
    let pair = rig.pair(binder, rig.builder()).await;
    let sent = ["x".repeat(299_998), String::new(), "y".repeat(70_000)];
    let (mut writer, answer) = pair.peer().open("mirror").stream().expect("it can be made");
    for item in &sent {
        writer.write_item(item).await.expect("the other side reads");
    }
    writer.finish().expect("it is complete");
    let back: Vec<String> =
        answer.await.expect("it begins").body.items::<String>().try_collect().await.expect("it is complete");
    assert_eq!(back, sent);
    let (mut writer, answer) = pair.peer().open("mirror").stream().expect("it can be made");
    // Whether all of it leaves depends on who is faster.
    let _ = writer.write_bytes(body(300_001)).await;
    let mut items = answer.await.expect("it begins").body.items::<String>();
    let Some(Err(BodyError::Call(CallError::Remote(info)))) = items.next().await else { panic!("a failure") };
    assert!(info.repr.contains("300000"), "{info:?}");
    assert!(items.next().await.is_none(), "no more after an error");
    let (mut writer, answer) = pair.peer().open("mirror").stream().expect("it can be made");
    writer.write_item(&7).await.expect("there is room");
    failure_of_items(answer).await;
    pair.end().await;
}

/// An item that is larger than the other side takes is refused where it is written, in both directions, and the stream goes
/// on. One that is written before the connection exists, when that limit is unknown, fails its reader.
pub async fn items_too_large_to_write(rig: Rig) {
    let small = || Limits::default().max_body(300_000);
    let too_large = |error: BodyError| match error {
        BodyError::ItemTooLarge { size, limit } => assert_eq!((size, limit), (300_001, 300_000)),
        other => panic!("{other:?}"),
    };
    let (fits, over) = ("x".repeat(299_998), "x".repeat(299_999));
    let grows = move |body: BodyReader, responder: Responder, _: Context| async move {
        let mut result = responder.begin().await?;
        let mut items = body.items::<String>();
        while let Some(item) = items.next().await {
            result.write_item(&(item? + "x")).await?;
        }
        HandlerResult::Ok(())
    };

    let binder = rig.builder().limits(small()).handle_stream("grows", grows);
    let (binder, serving) = rig.serve(binder).await;
    let (connector, driver) = rig.builder().connect(&binder.endpoints()[0]).expect("it is an endpoint");
    let peer = connector.peer();
    // Nothing leaves before the driver runs.
    let (mut early, answer) = peer.open("grows").stream().expect("it can be made");
    early.write_item(&over).await.expect("the limit is not known");
    let driving = rig.drive(driver);
    let failure = failure_of_items(answer).await;
    assert!(failure.contains("300000"), "{failure}");

    let (mut writer, answer) = peer.open("grows").stream().expect("it can be made");
    too_large(writer.write_item(&over).await.expect_err("it is too large"));
    writer.write_item("y").await.expect("the stream goes on");
    let mut items = writer.items::<&str>();
    too_large(items.send(&over).await.expect_err("it is too large"));
    items.send(&fits).await.expect("the stream goes on");
    items.close().await.expect("it is complete");
    let back: Vec<String> =
        answer.await.expect("it begins").body.items::<String>().try_collect().await.expect("it is complete");
    assert_eq!(back, ["yx".to_owned(), over.clone()], "this side takes more");
    connector.shutdown(SOON).await;
    binder.shutdown(SOON).await;
    driving.join().await.expect("it ends well");
    serving.join().await.expect("it ends well");

    let pair = rig.pair(rig.builder().handle_stream("grows", grows), rig.builder().limits(small())).await;
    let (mut writer, answer) = pair.peer().open("grows").stream().expect("it can be made");
    writer.write_item(&fits).await.expect("there is room");
    let failure = failure_of_items(answer).await;
    assert!(failure.contains("300001") && failure.contains("300000"), "{failure}");
    pair.end().await;
}

/// Large bodies of plain calls travel in chunks, and come out whole.
pub async fn large_bodies(rig: Rig) {
    let echo = |body: Bytes, _| async move { HandlerResult::Ok(body) };
    let pair = rig.pair(rig.builder().handle_raw("echo", echo), rig.builder()).await;
    for len in [16_384, 16_385, 65_536, 300_000, 10 << 20] {
        for compress in [false, true] {
            let sent = body(len);
            let back =
                pair.peer().invoke_raw("echo", sent.clone()).compress(compress).await.expect("it is echoed");
            assert!(back == sent, "{len} {compress}");
        }
    }
    rig.until(|| pair.peer().stats().calls_done == 10).await;
    pair.end().await;
}

/// More large bodies than may be reassembled at a time wait for each other, and all come through.
pub async fn large_bodies_take_turns(rig: Rig) {
    let limits = Limits::default().max_reassembly(3 << 20).max_reassembly_per_peer(2 << 20);
    let echo = |body: Bytes, _| async move { HandlerResult::Ok(body) };
    let binder = rig.builder().limits(limits.clone()).handle_raw("echo", echo);
    let pair = rig.pair(binder, rig.builder().limits(limits)).await;
    let sent = body(1 << 20);
    let calls = (0..20).map(|_| pair.peer().invoke_raw("echo", sent.clone()).into_future());
    for back in futures_util::future::join_all(calls).await {
        assert!(back.expect("it is echoed") == sent);
    }
    pair.end().await;
}

/// A writer learns what the other side's application has taken, and waits while that is nothing.
pub async fn acknowledged(rig: Rig) {
    let (go, gone) = async_channel::bounded::<()>(1);
    let slow = move |mut body: BodyReader, _: Responder, _: Context| {
        let gone = gone.clone();
        async move {
            gone.recv().await?;
            while body.next().await.transpose()?.is_some() {}
            gone.recv().await?;
            HandlerResult::Ok(())
        }
    };
    let pair = rig.pair(rig.builder().handle_stream("slow", slow), rig.builder()).await;
    let (mut writer, answer) = pair.peer().open("slow").stream().expect("it can be made");
    let mut written = 0;
    let piece = body(64 * 1024);
    // As much as there is room for on both sides: once the window that it has unread is used up, nothing leaves any more.
    let (window, before) = (16 << 10, pair.back.stats().bytes_received);
    loop {
        let used_up = pair.back.stats().bytes_received - before > window - 1_024;
        match poll_once(&mut Box::pin(writer.write_bytes(piece.clone()))).await {
            Some(result) => {
                result.expect("there is room");
                written += piece.len() as u64;
            }
            None if used_up => break,
            None => rig.pause(Duration::from_millis(1)).await,
        }
    }
    assert!((256 << 10..1 << 20).contains(&written), "{written}");
    assert_eq!(writer.consumed().expect("it is open"), 0);
    writer.finish().expect("it is open");
    go.send(()).await.expect("it listens");
    assert_eq!(writer.acknowledged().await.expect("it is read"), written);
    go.send(()).await.expect("it listens");
    let rest = answer.await.expect("it ends").body.collect().await.expect("it is empty");
    assert!(rest.is_empty());
    pair.end().await;
}

/// A handler that fails in the middle fails its caller, after what came before.
pub async fn failure_in_the_middle(rig: Rig) {
    let fails = |_: BodyReader, responder: Responder, _: Context| async move {
        let mut result = responder.begin().await?;
        result.write_bytes(body(100)).await?;
        Err::<(), _>(HandlerError::new("DiskFull", "no space left"))
    };
    let pair = rig.pair(rig.builder().handle_stream("fails", fails), rig.builder()).await;
    let result = pair.peer().open("fails").send(&()).expect("it can be made").await;
    let error = match result {
        Ok(mut result) => loop {
            match result.body.next().await.expect("it does not end well") {
                Ok(bytes) => assert_eq!(bytes.len(), 100),
                Err(BodyError::Call(error)) => break error,
                Err(other) => panic!("{other:?}"),
            }
        },
        Err(error) => error,
    };
    assert!(matches!(&error, CallError::Remote(info) if &*info.name == "DiskFull"), "{error:?}");
    rig.until(|| pair.peer().stats().calls_failed == 1).await;
    pair.end().await;
}

/// A caller that gives up its argument tells the handler, whose answer still counts.
pub async fn abandoned_argument(rig: Rig) {
    let judge = |mut body: BodyReader, responder: Responder, _: Context| async move {
        let verdict = loop {
            match body.next().await {
                Some(Ok(_)) => {}
                Some(Err(BodyError::Read(ReadError::Aborted))) => break "incomplete",
                Some(Err(error)) => return Err(error.into()),
                None => break "complete",
            }
        };
        responder.begin().await?.write_item(verdict).await?;
        HandlerResult::Ok(())
    };
    let pair = rig.pair(rig.builder().handle_stream("judge", judge), rig.builder()).await;
    for (complete, verdict) in [(true, "complete"), (false, "incomplete")] {
        let (mut writer, answer) = pair.peer().open("judge").stream().expect("it can be made");
        writer.write_bytes(body(100_000)).await.expect("there is room");
        if complete {
            writer.finish().expect("it is open");
        }
        drop(writer);
        let said: Vec<String> = answer
            .await
            .expect("it begins")
            .body
            .items::<String>()
            .try_collect()
            .await
            .expect("it is complete");
        assert_eq!(said, [verdict]);
    }
    pair.end().await;
}

/// A reader that is dropped stops its writer, on either side, and ends the call if it was the caller's.
pub async fn dropped_readers(rig: Rig) {
    let live = Arc::new(AtomicUsize::new(0));
    let (told, tell) = async_channel::unbounded();
    let endless = {
        let live = live.clone();
        move |_: BodyReader, responder: Responder, _: Context| {
            let alive = Alive::new(&live);
            async move {
                let _alive = alive;
                let mut result = responder.begin().await?;
                loop {
                    result.write_bytes(body(10_000)).await?;
                }
                #[expect(unreachable_code, reason = "it says what the type is")]
                HandlerResult::Ok(())
            }
        }
    };
    let averse = move |body: BodyReader, responder: Responder, _: Context| {
        let told = told.clone();
        async move {
            drop(body);
            told.send(()).await?;
            responder.begin().await?.write_item("enough").await?;
            HandlerResult::Ok(())
        }
    };
    let binder = rig.builder().handle_stream("endless", endless).handle_stream("averse", averse);
    let pair = rig.pair(binder, rig.builder()).await;
    let mut result = pair.peer().open("endless").send(&()).expect("it can be made").await.expect("it begins");
    result.body.next().await.expect("there is something").expect("it can be read");
    drop(result);
    rig.until(|| live.load(Ordering::SeqCst) == 0).await;
    let (mut writer, answer) = pair.peer().open("averse").stream().expect("it can be made");
    tell.recv().await.expect("it runs");
    let error = loop {
        if let Err(error) = writer.write_bytes(body(10_000)).await {
            break error;
        }
    };
    assert!(matches!(error, BodyError::Write(WriteError::Stopped | WriteError::NotOpen)), "{error:?}");
    let said: Vec<String> =
        answer.await.expect("it begins").body.items::<String>().try_collect().await.expect("all came");
    assert_eq!(said, ["enough"]);
    pair.end().await;
}

/// A call without a handler is refused before its argument is complete: its caller may wait for an answer before it goes on.
pub async fn no_handler(rig: Rig) {
    let pair = rig.pair(rig.builder(), rig.builder()).await;
    let (mut writer, answer) = pair.peer().open("nothing").stream().expect("it can be made");
    // It may have been refused already.
    if let Err(error) = writer.write_bytes(body(10)).await {
        assert!(matches!(error, BodyError::Call(CallError::Rejected(_))), "{error:?}");
    }
    match answer.await {
        Err(CallError::Rejected(info)) => assert_eq!(Refusal::of(&info), Some(Refusal::NoSuchMethod)),
        other => panic!("{other:?}"),
    }
    drop(writer);
    pair.end().await;
}

/// A call that is dropped, or runs out of time, ends in the middle of its streams, on both sides.
pub async fn cancelled_in_the_middle(rig: Rig) {
    let live = Arc::new(AtomicUsize::new(0));
    let counted = {
        let live = live.clone();
        move |body: BodyReader, responder: Responder, context: Context| {
            let alive = Alive::new(&live);
            async move {
                let _alive = alive;
                echo(body, responder, context).await
            }
        }
    };
    let pair = rig.pair(rig.builder().handle_stream("echo", counted), rig.builder()).await;
    let (mut writer, answer) = pair.peer().open("echo").stream().expect("it can be made");
    writer.write_bytes(body(100_000)).await.expect("there is room");
    let mut result = answer.await.expect("it begins");
    result.body.next().await.expect("there is something").expect("it can be read");
    drop((result, writer));
    rig.until(|| live.load(Ordering::SeqCst) == 0).await;
    for timeout in longer_and_longer() {
        let opening = pair.peer().open("echo").timeout(timeout);
        let (mut writer, answer) = opening.stream().expect("it can be made");
        // It may be over by now.
        let _ = writer.write_bytes(body(100)).await;
        let error = match answer.await {
            Err(error) => error,
            Ok(mut result) => loop {
                match result.body.next().await.expect("it does not end well") {
                    Ok(_) => {}
                    Err(BodyError::Call(error)) => break error,
                    Err(other) => panic!("{other:?}"),
                }
            },
        };
        if had_left(&error) {
            break;
        }
    }
    rig.until(|| live.load(Ordering::SeqCst) == 0).await;
    pair.end().await;
}

/// A link that is cut ends the streams on it, with the cause.
pub async fn cut_in_the_middle(rig: Rig) {
    let pair = rig.pair(rig.builder().handle_stream("echo", echo), rig.builder()).await;
    let (mut writer, answer) = pair.peer().open("echo").stream().expect("it can be made");
    writer.write_bytes(body(1_000)).await.expect("there is room");
    let mut result = answer.await.expect("it begins");
    result.body.next().await.expect("there is something").expect("it can be read");
    pair.back.disconnect();
    let error = result.body.next().await.expect("an error").expect_err("it is cut");
    assert!(matches!(error, BodyError::Call(CallError::Disconnected(_))), "{error:?}");
    assert!(writer.write_bytes(body(10)).await.is_err());
    assert!(result.body.next().await.is_none());
    // On the next link, numbers begin anew, and nothing is mixed up.
    pair.peer().ready().await.expect("it connects again");
    let mut back = Vec::new();
    let again = pair.peer().open("echo").send_raw(body(50_000)).expect("it can be made");
    again.await.expect("it begins").body.read_to_end(&mut back).await.expect("it is complete");
    assert!(back == body(50_000));
    pair.end().await;
}

/// A reader that reads nothing holds up neither other streams nor small calls on its connection.
pub async fn slow_readers_hold_up_nobody(rig: Rig) {
    let add = |(a, b): (u64, u64), _| async move { HandlerResult::Ok(a + b) };
    let binder = rig.builder().handle_stream("count", count).handle_stream("echo", echo).handle("add", add);
    let pair = rig.pair(binder, rig.builder()).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        let opened = pair.peer().open("count").send(&1_000_000_u64).expect("it can be made");
        idle.push(opened.await.expect("it begins"));
    }
    for n in 0..100_u64 {
        let sum: u64 = pair.peer().invoke("add", &(n, 1)).await.expect("it is answered");
        assert_eq!(sum, n + 1);
    }
    let quick = pair.peer().open("echo").send_raw(body(5 << 20)).expect("it can be made");
    let back = read_all(quick.await.expect("it begins").body).await.expect("it is complete");
    assert!(back == body(5 << 20));
    for result in idle {
        let counted = result.body.items::<u64>().take(10_000).try_collect::<Vec<_>>().await;
        assert!(counted.expect("it goes on").into_iter().eq(0..10_000));
    }
    pair.end().await;
}

/// What leaves in order leaves in order, also where results are streamed or large.
pub async fn ordered(rig: Rig) {
    for mode in [OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let gate = Gate::default();
        let large = |len: usize, _| async move { HandlerResult::Ok("x".repeat(len)) };
        let binder = rig.builder().ordering(mode).handle_stream("count", count).handle("large", large);
        let pair = rig.pair(binder, rig.builder()).await;
        gate.guard(pair.binder.handlers(), "hold");
        let held = {
            let call = pair.peer().invoke::<_, u32>("hold", &1).key("k").into_future();
            rig.spawn(call)
        };
        let first = gate.next().await;
        let second = pair.peer().open("count").key("k").send(&100_000_u64).expect("it can be made");
        let third = pair.peer().invoke::<_, String>("large", &1_000_000).key("k").into_future();
        let fourth = pair.peer().invoke::<_, String>("large", &1).key("k").into_future();
        // Nothing overtakes the one that is held.
        let other: String = pair.peer().invoke("large", &2).await.expect("it has no key");
        assert_eq!(other, "xx");
        let second = async move {
            second.await?.body.items::<u64>().try_collect::<Vec<_>>().await.map(|all| all.len())
        };
        let (mut second, mut third, mut fourth) =
            (second.boxed().fuse(), third.boxed().fuse(), fourth.boxed().fuse());
        assert!(poll_once(&mut second).await.is_none());
        assert!(poll_once(&mut third).await.is_none());
        assert!(poll_once(&mut fourth).await.is_none());
        first.release(1);
        assert_eq!(held.join().await.expect("it was let go"), 1);
        let mut done = [false; 3];
        while done != [true; 3] {
            // The last first: who is there has none before him that is not.
            let now = poll_fn(|cx| {
                let now = (fourth.poll_unpin(cx), third.poll_unpin(cx), second.poll_unpin(cx));
                match now {
                    (Poll::Pending, Poll::Pending, Poll::Pending) => Poll::Pending,
                    now => Poll::Ready(now),
                }
            });
            let (fourth, third, second) = now.await;
            if let Poll::Ready(result) = second {
                assert_eq!(result.expect("it is complete"), 100_000);
                done[0] = true;
            }
            if let Poll::Ready(result) = third {
                assert_eq!(result.expect("it is answered").len(), 1_000_000);
                assert!(done[0], "the third before the second");
                done[1] = true;
            }
            if let Poll::Ready(result) = fourth {
                assert_eq!(result.expect("it is answered"), "x");
                assert!(done[1], "the fourth before the third");
                done[2] = true;
            }
        }
        pair.end().await;
    }
}

/// Metadata goes there and back, and with it the time that the caller has left.
pub async fn metadata(rig: Rig) {
    let stamp = |_: (), context: Context| async move {
        let trace = context.metadata().get("trace").cloned();
        let mut reply = Metadata::new();
        reply.insert("trace", trace.unwrap_or_default())?;
        context.set_reply_metadata(reply)?;
        HandlerResult::Ok(context.deadline().map(|at| at > Instant::now()))
    };
    let streamed = |_: BodyReader, responder: Responder, context: Context| async move {
        responder.metadata(context.metadata().clone()).begin().await?;
        HandlerResult::Ok(())
    };
    let binder = rig.builder().handle("stamp", stamp).handle_stream("streamed", streamed);
    let pair = rig.pair(binder, rig.builder()).await;
    let mut metadata = Metadata::new();
    metadata.insert("trace", "42").expect("it is small");
    let call = pair.peer().invoke("stamp", &()).metadata(metadata.clone()).timeout(SOON);
    let (left, back): (Option<bool>, _) = call.send_with_metadata().await.expect("it is answered");
    assert_eq!((left, &back), (Some(true), &metadata));
    let (left, back): (Option<bool>, _) =
        pair.peer().invoke("stamp", &()).no_timeout().send_with_metadata().await.expect("it is answered");
    assert_eq!(left, None);
    assert_eq!(back.get("trace"), Some(&Bytes::new()));
    let opened = pair.peer().open("streamed").metadata(metadata.clone()).send(&()).expect("it can be made");
    assert_eq!(opened.await.expect("it begins").metadata, metadata);
    pair.end().await;
}

/// A peer that does not offer dialect 2 is spoken to in dialect 1, says the API, and so do events and counters.
pub async fn downgraded(rig: Rig) {
    let stamped = |_: (), context: Context| async move {
        let mut metadata = Metadata::new();
        metadata.insert("trace", "42")?;
        assert_eq!(context.set_reply_metadata(metadata), Err(ReplyError::NeedsDialect2));
        HandlerResult::Ok(7)
    };
    let binder = rig.builder().dialect(Dialect::One).handle_stream("count", count).handle("stamped", stamped);
    let (binder, binder_driver) = rig.serve(binder).await;
    let (connector, driver) = rig.builder().connect(&binder.endpoints()[0]).expect("it is an endpoint");
    let mut events = connector.events();
    let connector_driver = rig.drive(driver);
    let dialect = next_event(&mut events, |event| match event {
        Event::Downgraded { dialect, .. } => Some(dialect),
        _ => None,
    });
    assert_eq!(dialect.await, Dialect::One);
    let peer = connector.peer();
    assert_eq!((peer.info().dialect, peer.stats().downgrades), (Some(Dialect::One), 1));
    let refused = |error: CallError| {
        assert!(
            matches!(error, CallError::NotSent(NotSent::Refused(InvokeError::NeedsDialect2))),
            "{error:?}"
        );
    };
    let mut metadata = Metadata::new();
    metadata.insert("trace", "42").expect("it is small");
    refused(peer.invoke::<_, ()>("count", &1).metadata(metadata).await.expect_err("it can't travel"));
    refused(peer.open("count").stream().expect_err("it can't travel"));
    let error =
        peer.open("count").send(&1).expect("a whole argument can").await.expect_err("its result can't");
    assert_eq!(error.remote().and_then(Refusal::of), Some(Refusal::Unsupported));
    // The result of such a handler is one all the same.
    assert_eq!(peer.invoke::<_, u64>("stamped", &()).await.expect("it is answered"), 7);
    rig.until(|| binder.peers()[0].stats().requests_done == 1).await;
    connector.shutdown(SOON).await;
    binder.shutdown(SOON).await;
    connector_driver.join().await.expect("it ends well");
    binder_driver.join().await.expect("it ends well");
}

/// A shutdown waits for streams under way.
pub async fn shutdown_waits(rig: Rig) {
    let pair = rig.pair(rig.builder().handle_stream("echo", echo), rig.builder()).await;
    let (mut writer, answer) = pair.peer().open("echo").stream().expect("it can be made");
    writer.write_bytes(body(300_000)).await.expect("there is room");
    let mut result = answer.await.expect("it begins");
    let (binder, connector) = (pair.binder.clone(), pair.connector.clone());
    let stopping = rig.spawn(async move { join(binder.shutdown(SOON), connector.shutdown(SOON)).await });
    rig.until(|| pair.peer().open("echo").stream().is_err()).await;
    writer.write_bytes(body(100_000)).await.expect("what is under way goes on");
    writer.finish().expect("it is complete");
    let mut back = Vec::new();
    result.body.read_to_end(&mut back).await.expect("it is complete");
    assert_eq!(back.len(), 400_000);
    drop(result);
    stopping.join().await;
    pair.connector_driver.join().await.expect("it ends well");
    pair.binder_driver.join().await.expect("it ends well");
}

/// A handler that calls its caller back with a stream, at a limit of one handler on each side.
pub async fn nested_at_one_handler(rig: Rig) {
    async fn relay(mut body: BodyReader, responder: Responder, context: Context) -> HandlerResult<()> {
        let depth = context.metadata().get("depth").map_or(0, |depth| depth[0]);
        if depth == 0 {
            return echo(body, responder, context).await;
        }
        let mut metadata = Metadata::new();
        metadata.insert("depth", vec![depth - 1])?;
        let peer: &Peer = context.peer();
        let (mut writer, answer): (BodyWriter, _) = peer.open("relay").metadata(metadata).stream()?;
        while let Some(bytes) = body.next().await {
            writer.write_bytes(bytes?).await?;
        }
        writer.finish()?;
        let mut inner = answer.await?.body;
        let mut result = responder.begin().await?;
        while let Some(bytes) = inner.next().await {
            result.write_bytes(bytes?).await?;
        }
        Ok(())
    }
    let builder = || rig.builder().max_concurrency(1).handle_stream("relay", relay);
    let pair = rig.pair(builder(), builder()).await;
    let mut metadata = Metadata::new();
    metadata.insert("depth", vec![6]).expect("it is small");
    let opened =
        pair.peer().open("relay").metadata(metadata).send_raw(body(100_000)).expect("it can be made");
    let mut back = Vec::new();
    opened.await.expect("it begins").body.read_to_end(&mut back).await.expect("it is complete");
    assert!(back == body(100_000));
    pair.end().await;
}
