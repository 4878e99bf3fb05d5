//! Streams at their edges: ends that come early, late, or from the other direction.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use callosum_runtime::{
    BodyError, BodyReader, BodyWriter, CallError, Context, HandlerError, HandlerResult, Limits, OrderingMode,
    Refusal, Responder, Urgency,
};
use futures_util::future::{join, join_all};
use futures_util::{AsyncReadExt, FutureExt, StreamExt};
use serde_json::Value;

use super::streams::body;
use crate::gate::{Alive, Gate};
use crate::rig::{Rig, SOON, had_left, longer_and_longer, poll_once};

fn small_bodies() -> Limits {
    Limits::default().max_body(100_000)
}

/// Plain handlers and plain calls whose body can't be reassembled: each ends with a typed error, and the link lives on.
pub async fn bodies_that_can_not_be_collected(rig: Rig) {
    let len = |body: Bytes, _| async move { HandlerResult::Ok(Bytes::from(body.len().to_string())) };
    let endless = |_: BodyReader, responder: Responder, _: Context| async move {
        let mut result = responder.begin().await?;
        loop {
            result.write_bytes(body(50_000)).await?;
        }
        #[expect(unreachable_code, reason = "it says what the type is")]
        HandlerResult::Ok(())
    };
    let breaks_off = |_: BodyReader, responder: Responder, _: Context| async move {
        responder.begin().await?.write_bytes(body(50_000)).await?;
        Err::<(), _>(HandlerError::new("Broken", "in the middle"))
    };
    let binder = rig
        .builder()
        .limits(small_bodies())
        .handle_raw("len", len)
        .handle_stream("endless", endless)
        .handle_stream("breaks off", breaks_off);
    let pair = rig.pair(binder, rig.builder().limits(small_bodies())).await;
    let refusal = |error: CallError| error.remote().and_then(Refusal::of);

    let (mut writer, answer) = pair.peer().open("len").stream().expect("it can be made");
    writer.write_bytes(body(20_000)).await.expect("there is room");
    drop(writer);
    assert_eq!(refusal(answer.await.expect_err("it is incomplete")), Some(Refusal::MalformedBody));

    let (mut writer, answer) = pair.peer().open("len").stream().expect("it can be made");
    let write = async { while writer.write_bytes(body(30_000)).await.is_ok() {} };
    let ((), answer) = join(write, answer).await;
    assert_eq!(refusal(answer.expect_err("it is too large")), Some(Refusal::BodyTooLarge));

    let none = Bytes::new();
    let error = pair.peer().invoke_raw("endless", none.clone()).await.expect_err("it is too large");
    assert!(matches!(error, CallError::Malformed(_)), "{error:?}");
    let error = pair.peer().invoke_raw("breaks off", none.clone()).await.expect_err("it fails");
    assert!(matches!(&error, CallError::Remote(info) if &*info.name == "Broken"), "{error:?}");
    let sent = body(100_000);
    assert_eq!(pair.peer().invoke_raw("len", sent.clone()).await.expect("it fits"), "100000");
    rig.until(|| pair.back.stats().requests_running == 0).await;
    pair.end().await;
}

/// A call that ends while its argument is written, or waits to be acknowledged, wakes the task that waits.
pub async fn results_that_come_first(rig: Rig) {
    let hasty = |mut argument: BodyReader, _: Responder, _: Context| async move {
        argument.next().await.transpose()?;
        HandlerResult::Ok(())
    };
    let fails = |mut argument: BodyReader, _: Responder, _: Context| async move {
        argument.next().await.transpose()?;
        Err::<(), _>(HandlerError::new("Full", "no space left"))
    };
    let binder = rig.builder().handle_stream("hasty", hasty).handle_stream("fails", fails);
    let pair = rig.pair(binder, rig.builder()).await;
    for _ in 0..20 {
        // All of it is there, and not all of it is read.
        let (mut writer, answer) = pair.peer().open("hasty").stream().expect("it can be made");
        writer.write_bytes(body(10_000)).await.expect("there is room");
        // It may be over already, and what was read may be acknowledged before the result comes, or not.
        let _ = writer.finish();
        let _ = writer.acknowledged().await;
        answer.await.expect("it is answered");
        // There is more of it than there is room for.
        let (mut writer, answer) = pair.peer().open("hasty").stream().expect("it can be made");
        while writer.write_bytes(body(100_000)).await.is_ok() {}
        answer.await.expect("it is answered");
        // The writer and the result both get the reason.
        let (mut writer, answer) = pair.peer().open("fails").stream().expect("it can be made");
        writer.write_bytes(body(300_000)).await.expect("there is room");
        let full = |error: &CallError| matches!(error, CallError::Remote(info) if &*info.name == "Full");
        match writer.acknowledged().await.expect_err("not all is read") {
            BodyError::Call(error) => assert!(full(&error), "{error:?}"),
            // A STOP came before.
            BodyError::Write(_) => {}
            other => panic!("{other:?}"),
        }
        assert!(full(&answer.await.expect_err("it fails")));
        match writer.write_bytes(body(1)).await.expect_err("it is over") {
            BodyError::Call(error) => assert!(full(&error), "{error:?}"),
            other => panic!("{other:?}"),
        }
    }
    pair.end().await;
}

/// Streams of one key from two peers, at one handler: who has to leave first is not kept from starting.
pub async fn turns_at_one_handler(rig: Rig) {
    let streamed = |_: BodyReader, responder: Responder, context: Context| async move {
        responder.begin().await?.write_item(&context.peer().id().number()).await?;
        HandlerResult::Ok(())
    };
    let gate = Gate::default();
    let serving = rig.builder().max_concurrency(1).handle_stream("streamed", streamed);
    let (binder, driver) = rig.serve(serving).await;
    gate.guard(binder.handlers(), "hold");
    let (a, a_driver) = rig.connect(rig.builder(), &binder.endpoints()[0]);
    let (b, b_driver) = rig.connect(rig.builder(), &binder.endpoints()[0]);
    a.peer().ready().await.expect("the binder is there");
    b.peer().ready().await.expect("the binder is there");
    let peers = rig.peers(&binder, 2).await;
    let queued = || peers.iter().map(|peer| peer.stats().requests_queued).sum::<u64>();
    let held = {
        let peer = a.peer().clone();
        rig.spawn(async move { peer.invoke::<_, Value>("hold", &1).await })
    };
    let first = gate.next().await;
    let one = a.peer().open("streamed").key("k").send(&()).expect("it can be made");
    rig.until(|| queued() == 1).await;
    let other = b.peer().open("streamed").key("k").send(&()).expect("it can be made");
    rig.until(|| queued() == 2).await;
    first.release(1);
    held.join().await.expect("it was let go");
    let (one, other) = join(one, other).await;
    for result in [one, other] {
        let items: Vec<_> = result.expect("it begins").body.items::<u64>().collect().await;
        assert!(matches!(items[..], [Ok(_)]), "{items:?}");
    }
    for end in [a, b] {
        end.shutdown(SOON).await;
    }
    binder.shutdown(SOON).await;
    for driver in [a_driver, b_driver, driver] {
        driver.join().await.expect("it ends well");
    }
}

/// However a body is read, nothing of it is lost, in one piece or in several.
pub async fn mixed_reads(rig: Rig) {
    let give = |wanted: BodyReader, responder: Responder, context: Context| async move {
        let len: usize = context.codec().decode(&wanted.collect().await?)?;
        responder.begin().await?.write_bytes(body(len)).await?;
        HandlerResult::Ok(())
    };
    let whole = |len: usize, _| async move { HandlerResult::Ok(vec![7_u8; len]) };
    let binder = rig.builder().handle_stream("give", give).handle("whole", whole);
    let pair = rig.pair(binder, rig.builder()).await;
    let peer = pair.peer();
    for len in [100, 16_384, 16_385, 300_000] {
        for method in ["give", "whole"] {
            let open = || async move {
                peer.open(method).send(&len).expect("it can be made").await.expect("it begins").body
            };
            let mut reference = Vec::new();
            open().await.read_to_end(&mut reference).await.expect("it is complete");
            let mut head = [0; 10];
            let mut reader = open().await;
            reader.read_exact(&mut head).await.expect("it is long enough");
            let mut read = head.to_vec();
            while let Some(bytes) = reader.next().await {
                read.extend_from_slice(&bytes.expect("it can be read"));
            }
            assert!(read == reference, "{method} {len}");
            let mut reader = open().await;
            reader.read_exact(&mut head).await.expect("it is long enough");
            let rest = reader.collect().await.expect("it is small enough");
            assert!([&head[..], &rest[..]].concat() == reference, "{method} {len}");
        }
    }
    pair.end().await;
}

/// A call that waits for room to put its result together still has its timeout, and loses its link.
pub async fn waiting_for_room(rig: Rig) {
    let limits = Limits::default().max_reassembly(700_000);
    let stalls = |_: BodyReader, responder: Responder, _: Context| async move {
        responder.size(650_000).begin().await?.write_bytes(body(50_000)).await?;
        pending::<()>().await;
        HandlerResult::Ok(())
    };
    let large = |_: Bytes, _| async move { HandlerResult::Ok(body(600_000)) };
    let binder = rig.builder().handle_stream("stalls", stalls).handle_raw("large", large);
    let pair = rig.pair(binder, rig.builder().limits(limits)).await;
    let call = |method: &'static str, timeout| {
        let peer = pair.peer().clone();
        rig.spawn(async move { peer.invoke_raw(method, Bytes::new()).timeout(timeout).await })
    };
    let stalled = call("stalls", SOON);
    rig.until(|| pair.peer().stats().bytes_received > 50_000).await;
    let waits = call("large", SOON);
    for timeout in longer_and_longer() {
        let error = call("large", timeout).join().await.expect_err("there is no room");
        if had_left(&error) {
            break;
        }
    }
    pair.back.disconnect();
    for call in [stalled, waits] {
        let error = call.join().await.expect_err("the link is gone");
        assert!(matches!(error, CallError::Disconnected(_)), "{error:?}");
    }
    pair.peer().ready().await.expect("it connects again");
    let again = call("large", SOON).join().await.expect("there is room again");
    assert_eq!(again.len(), 600_000);
    pair.end().await;
}

/// A handler that waits for its caller to read everything is stopped when the caller has received all and drops it unread.
pub async fn dropped_unread(rig: Rig) {
    let live = Arc::new(AtomicUsize::new(0));
    let patient = {
        let live = live.clone();
        move |_: BodyReader, responder: Responder, _: Context| {
            let alive = Alive::new(&live);
            async move {
                let _alive = alive;
                let mut result = responder.begin().await?;
                // As much as comes before anybody reads.
                result.write_bytes(body(10_000)).await?;
                result.finish()?;
                result.acknowledged().await?;
                HandlerResult::Ok(())
            }
        }
    };
    let pair = rig.pair(rig.builder().handle_stream("patient", patient), rig.builder()).await;
    let result = pair.peer().open("patient").send(&()).expect("it can be made").await.expect("it begins");
    // All of it is here.
    rig.until(|| pair.peer().stats().calls_done == 1).await;
    assert_eq!(live.load(Ordering::SeqCst), 1);
    drop(result);
    rig.until(|| live.load(Ordering::SeqCst) == 0).await;
    pair.end().await;
}

/// If a handler returns while another task still writes its result, the result is incomplete.
pub async fn unfinished_result(rig: Rig) {
    let (out, writers) = async_channel::unbounded::<(BodyWriter, BodyReader)>();
    let careless = move |argument: BodyReader, responder: Responder, _: Context| {
        let out = out.clone();
        async move {
            let mut result = responder.begin().await?;
            result.write_bytes(body(100)).await?;
            out.send((result, argument)).await?;
            HandlerResult::Ok(())
        }
    };
    let pair = rig.pair(rig.builder().handle_stream("careless", careless), rig.builder()).await;
    let (_argument, answer) = pair.peer().open("careless").stream().expect("it can be made");
    let (mut writer, mut argument) = writers.recv().await.expect("it runs");
    let error = match answer.await {
        Err(error) => error,
        Ok(mut result) => loop {
            match result.body.next().await {
                Some(Ok(_)) => {}
                Some(Err(BodyError::Call(error))) => break error,
                other => panic!("{other:?}"),
            }
        },
    };
    assert!(matches!(&error, CallError::Remote(info) if &*info.name == "UnfinishedResult"), "{error:?}");
    // What outlives its handler finds out.
    assert!(writer.write_bytes(body(1)).await.is_err());
    assert!(argument.next().await.expect("an error").is_err());
    pair.end().await;
}

/// A handler finishes its result, reads on, and has what it read when it ends; nothing that it was sent is cut off, even where
/// its caller has done everything that it had to and lets go.
pub async fn half_closed_by_the_handler(rig: Rig) {
    let (out, totals) = async_channel::unbounded::<(usize, bool)>();
    let early = move |mut argument: BodyReader, responder: Responder, _: Context| {
        let out = out.clone();
        async move {
            let mut result = responder.begin().await?;
            result.write_bytes(body(40_000)).await?;
            result.finish()?;
            let mut total = 0;
            let complete = loop {
                match argument.next().await {
                    Some(Ok(bytes)) => total += bytes.len(),
                    Some(Err(_)) => break false,
                    None => break true,
                }
            };
            out.send((total, complete)).await?;
            HandlerResult::Ok(())
        }
    };
    let pair = rig.pair(rig.builder().handle_stream("early", early), rig.builder()).await;
    let half_open = async || {
        let (writer, answer) = pair.peer().open("early").stream().expect("it can be made");
        let mut result = Vec::new();
        let mut from = answer.await.expect("it begins").body;
        from.read_to_end(&mut result).await.expect("it is complete");
        assert!(result == body(40_000));
        writer
    };
    // What is left to be sent is far more than a window.
    let mut writer = half_open().await;
    for _ in 0..20 {
        writer.write_bytes(body(100_000)).await.expect("it is read");
    }
    assert_eq!(pair.peer().stats().calls_in_flight, 1);
    writer.finish().expect("it is read");
    drop(writer);
    assert_eq!(totals.recv().await.expect("it ends"), (2_000_000, true));
    rig.until(|| pair.peer().stats().calls_done == 1).await;

    let mut writer = half_open().await;
    writer.write_bytes(body(1_000)).await.expect("it is read");
    drop(writer);
    let (total, complete) = totals.recv().await.expect("it ends");
    assert!(total <= 1_000 && !complete, "what has not left when it is given up does not leave");
    rig.until(|| pair.peer().stats().calls_done == 2).await;
    assert_eq!((pair.peer().stats().calls_in_flight, pair.peer().stats().calls_failed), (0, 0));
    pair.end().await;
}

/// Results that are read in the order that is worst, far more of them than the link has credit for.
pub async fn results_read_in_any_order(rig: Rig) {
    let limits = || Limits::default().max_queue_bytes(2 << 20).max_stream_bytes(2 << 20);
    let large = |_: Bytes, _: Context| async move { HandlerResult::Ok(body(300_000)) };
    let pair = rig.pair(rig.builder().handle_raw("large", large), rig.builder().limits(limits())).await;
    let opened: Vec<_> =
        (0..60).map(|_| pair.peer().open("large").send(&()).expect("it can be made").boxed()).collect();
    let results = join_all(opened).await;
    for result in results.into_iter().rev() {
        let read = result.expect("it begins").body.collect().await.expect("it is complete");
        assert!(read == body(300_000));
    }
    pair.end().await;
}

/// Of what waits, the most urgent leaves first.
pub async fn urgent_first(rig: Rig) {
    let (out, order) = async_channel::unbounded::<u8>();
    let note = move |urgency: u8, _: Context| {
        let out = out.clone();
        async move { Ok::<(), HandlerError>(out.send(urgency).await?) }
    };
    let limits = Limits::default().max_concurrency(1);
    let builder = rig.builder().limits(limits).ordering(OrderingMode::Unordered).handle("note", note);
    let (binder, serving) = rig.serve(builder).await;
    let (connector, driver) = rig.builder().connect(&binder.endpoints()[0]).expect("it is an endpoint");
    let peer = connector.peer();
    // Nothing leaves before the driver runs.
    let mut calls: Vec<_> = [7, 3, 0, 5]
        .into_iter()
        .map(|urgency| {
            let class = Urgency::new(urgency).expect("it is not over 7");
            peer.invoke::<_, ()>("note", &urgency).urgency(class).into_future()
        })
        .collect();
    for call in &mut calls {
        assert!(poll_once(call).await.is_none());
    }
    let opened = peer
        .open("note")
        .urgency(Urgency::new(1).expect("it is not over 7"))
        .send(&1_u8)
        .expect("it can be made");
    let driving = rig.drive(driver);
    join_all(calls).await.into_iter().for_each(|result| result.expect("it is answered"));
    opened.await.expect("it is answered");
    let order: Vec<u8> = std::iter::from_fn(|| order.try_recv().ok()).collect();
    assert_eq!(order, [0, 1, 3, 5, 7]);
    connector.shutdown(SOON).await;
    binder.shutdown(SOON).await;
    driving.join().await.expect("it ends well");
    serving.join().await.expect("it ends well");
}

/// What is to be compressed takes fewer bytes on the link, in both directions.
pub async fn compressed(rig: Rig) {
    let zeros = |argument: BodyReader, responder: Responder, _: Context| async move {
        let argument = argument.collect().await?;
        responder.compress(true).begin().await?.write_bytes(argument).await?;
        HandlerResult::Ok(())
    };
    let pair = rig.pair(rig.builder().handle_stream("zeros", zeros), rig.builder()).await;
    let (before, back) = (pair.peer().stats(), pair.back.stats());
    let (mut writer, answer) = pair.peer().open("zeros").compress(true).stream().expect("it can be made");
    writer.write_bytes(vec![0; 1 << 20].into()).await.expect("it is read");
    writer.finish().expect("it is read");
    assert_eq!(answer.await.expect("it begins").body.collect().await.expect("it is complete").len(), 1 << 20);
    let sent =
        [pair.peer().stats().bytes_sent - before.bytes_sent, pair.back.stats().bytes_sent - back.bytes_sent];
    assert!(sent.iter().all(|sent| *sent < 200_000), "{sent:?}");
    pair.end().await;
}
