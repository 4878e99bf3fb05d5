//! Limits at their edge, and peers that break them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_proto::internals::wire::Payload;
use callosum_proto::{ErrorInfo, OrderingKey};
use callosum_runtime::{
    Builder, CallError, CloseCause, DisconnectCause, Event, Events, HandlerResult, InvokeError, Limits,
    NotSent, Peer, Refusal, Response, duplex,
};
use serde_json::json;

use crate::gate::{Gate, Held};
use crate::raw::RawPeer;
use crate::rig::{Pair, Rig, SOON, longer_and_longer, next_event};

const BODY: usize = 10_000;

fn limits() -> Limits {
    Limits::default().max_body(BODY)
}

fn serving(builder: Builder) -> Builder {
    builder
        .handle_raw("echo", |body, _| async move { HandlerResult::Ok(body) })
        .handle_raw("fill", |body, _| async move {
            HandlerResult::Ok(Bytes::from(vec![1; serde_json::from_slice(&body)?]))
        })
}

async fn fill(peer: &Peer, size: usize) -> Result<Bytes, CallError> {
    peer.invoke_raw("fill", size.to_string()).await
}

/// A body at the limit passes, in both directions; one byte more is a typed error, and the link lives on.
pub async fn body_at_the_limit(rig: Rig) {
    let pair =
        rig.pair(serving(rig.builder()).limits(limits()), serving(rig.builder()).limits(limits())).await;
    for peer in [pair.peer(), &pair.back] {
        let (fits, over) = (Bytes::from(vec![1; BODY]), Bytes::from(vec![1; BODY + 1]));
        for compress in [false, true] {
            let same = peer.invoke_raw("echo", fits.clone()).compress(compress).await.expect("it fits");
            assert_eq!(same, fits);
            let error =
                peer.invoke_raw("echo", over.clone()).compress(compress).await.expect_err("too large");
            let CallError::NotSent(NotSent::Refused(InvokeError::BodyTooLarge { size, limit })) = error
            else {
                panic!("{error:?}")
            };
            assert_eq!((size, limit), (BODY + 1, BODY));
        }
        assert_eq!(fill(peer, BODY).await.expect("it fits").len(), BODY);
        let error = fill(peer, BODY + 1).await.expect_err("too large");
        assert_eq!(error.remote().and_then(Refusal::of), Some(Refusal::ReplyTooLarge), "{error:?}");
        assert!(error.may_have_run());
        assert!(peer.is_connected());
    }
    pair.end().await;
}

/// The receiver's limit counts, and is known to the sender: here only the connector's is small.
pub async fn limit_of_the_other_side(rig: Rig) {
    let pair = rig.pair(serving(rig.builder()), serving(rig.builder()).limits(limits())).await;
    let over = Bytes::from(vec![1; BODY + 1]);
    let error = pair.back.invoke_raw("echo", over.clone()).await.expect_err("the connector takes less");
    assert!(!error.may_have_run(), "{error:?}");
    // The connector may send more than it takes, so the binder can't answer.
    let error = pair.peer().invoke_raw("echo", over.clone()).await.expect_err("the reply is too large");
    assert_eq!(error.remote().and_then(Refusal::of), Some(Refusal::ReplyTooLarge), "{error:?}");
    pair.end().await;
}

/// A call that was made before the link and turns out too large for the peer ends with an error and is not sent.
pub async fn too_large_once_known(rig: Rig) {
    let (binder, driver) = rig.serve(serving(rig.builder()).limits(limits())).await;
    let over = Bytes::from(vec![1; BODY + 1]);
    let (connector, connector_driver) =
        rig.builder().connect(&binder.endpoints()[0]).expect("it is an endpoint");
    let call = connector.peer().invoke_raw("echo", over.clone()).into_future();
    let connector_driver = rig.drive(connector_driver);
    let error = call.await.expect_err("too large");
    assert!(
        matches!(error, CallError::NotSent(NotSent::Refused(InvokeError::BodyTooLarge { .. }))),
        "{error:?}"
    );
    fill(connector.peer(), 1).await.expect("the link lives on");
    connector_driver.cut().await;
    driver.cut().await;
}

async fn refused<S: callosum_runtime::rt::ByteStream>(raw: &mut RawPeer<S>) -> ErrorInfo {
    match raw.hear().await {
        (_, Payload::Error(info)) => info,
        (header, other) => panic!("{header:?} {other:?}"),
    }
}

/// A peer that does not know the limit: one byte past it is refused with an ERROR, whether it shows in the size or in
/// what the compressed body declares; the connection lives on.
pub async fn one_byte_past_from_a_stranger(rig: Rig) {
    let (binder, driver) = rig.serve(serving(rig.builder()).limits(limits())).await;
    let mut raw = RawPeer::connect(rig.open(&binder.endpoints()[0]).await).await;
    for (seq, compressed) in [(1, false), (2, true)] {
        raw.say(seq, "echo", Payload::Function(vec![1; BODY + 1].into()), compressed).await;
        assert_eq!(Refusal::of(&refused(&mut raw).await), Some(Refusal::BodyTooLarge));
    }
    raw.say(3, "echo", Payload::Function(vec![1; 500_000].into()), true).await;
    assert_eq!(Refusal::of(&refused(&mut raw).await), Some(Refusal::BodyTooLarge));
    raw.call(4, "echo", vec![2; BODY]).await;
    let (header, Payload::Result(body)) = raw.hear().await else { panic!("no result") };
    assert_eq!((header.id.seq, body.len()), (4, BODY));
    assert_eq!(rig.sole_peer(&binder).await.stats().anomalies, 3);
    drop(raw);
    rig.peers(&binder, 0).await;
    binder.shutdown(SOON).await;
    driver.join().await.expect("it ends well");
}

/// A body far past the limit costs the link, as soon as it is announced; other peers go on.
pub async fn far_past(rig: Rig) {
    let (binder, driver) = rig.serve(serving(rig.builder()).limits(limits())).await;
    let (good, good_driver) = rig.connect(rig.builder(), &binder.endpoints()[0]);
    good.peer().ready().await.expect("the binder is there");
    let mut events = binder.events();
    for announced in [(BODY as u64) + (4 << 20), 1 << 40, u64::MAX >> 1, u64::MAX] {
        let mut raw = RawPeer::connect(rig.open(&binder.endpoints()[0]).await).await;
        let mut frame = vec![0x02];
        frame.extend(announced.to_be_bytes());
        raw.write(&frame).await;
        let cause = next_event(&mut events, |event| match event {
            Event::Disconnected { cause, .. } => Some(cause),
            _ => None,
        });
        let cause = cause.await;
        assert!(matches!(cause, DisconnectCause::Protocol(_)), "{cause:?}");
        raw.until_closed().await;
        fill(good.peer(), 7).await.expect("others go on");
    }
    good_driver.cut().await;
    driver.cut().await;
}

/// A peer that vanishes in the middle of a large body leaves nothing behind; others go on.
pub async fn killed_in_the_middle_of_a_body(rig: Rig) {
    let gate = Gate::default();
    let (binder, driver) = rig.serve(serving(rig.builder())).await;
    gate.guard(binder.handlers(), "hold");
    let (good, good_driver) = rig.connect(rig.builder(), &binder.endpoints()[0]);
    good.peer().ready().await.expect("the binder is there");
    let mut events = binder.events();
    for _ in 0..3 {
        let mut raw = RawPeer::connect(rig.open(&binder.endpoints()[0]).await).await;
        raw.call(1, "hold", "1").await;
        let _held = gate.next().await;
        let mut frame = vec![0x02];
        frame.extend((9u64 << 20).to_be_bytes());
        frame.extend([7; 100_000]);
        raw.write(&frame).await;
        fill(good.peer(), 7).await.expect("others go on");
        drop(raw);
        let cause = next_event(&mut events, |event| match event {
            Event::Disconnected { cause, .. } => Some(cause),
            _ => None,
        });
        let cause = cause.await;
        assert!(matches!(cause, DisconnectCause::PeerClosed | DisconnectCause::Io(_)), "{cause:?}");
        rig.until(|| gate.live() == 0).await;
        fill(good.peer(), 7).await.expect("others go on");
    }
    good_driver.cut().await;
    binder.shutdown(SOON).await;
    driver.join().await.expect("it ends well");
}

fn is_not_reading(event: Event) -> Option<()> {
    match event {
        Event::Disconnected { cause: DisconnectCause::Connection(CloseCause::PeerNotReading), .. } => {
            Some(())
        }
        _ => None,
    }
}

/// A peer that never reads is cut after the write timeout, over a socket and over a stream in memory; others go on.
pub async fn peer_that_never_reads(rig: Rig) {
    let limits = Limits::default().write_timeout(Duration::from_millis(50));
    let (binder, driver) = rig.serve(serving(rig.builder()).limits(limits)).await;
    let (good, good_driver) = rig.connect(rig.builder(), &binder.endpoints()[0]);
    good.peer().ready().await.expect("the binder is there");
    let mut events = binder.events();
    let (ours, theirs) = duplex(4096);
    binder.accept(theirs, "memory").expect("there is room");
    let streams: [callosum_runtime::rt::BoxStream; 2] =
        [Box::new(ours), rig.open(&binder.endpoints()[0]).await];
    for stream in streams {
        let mut raw = RawPeer::connect(stream).await;
        // All at once: it is cut soon after the first answer.
        for seq in 0..8 {
            let call = Payload::Function("8000000".into());
            let message = raw.message(seq, ("fill", OrderingKey::none()), call, false);
            raw.queue(message);
        }
        raw.flush().await;
        let mut cut = Box::pin(next_event(&mut events, is_not_reading));
        loop {
            fill(good.peer(), 100).await.expect("others go on");
            if crate::rig::poll_once(&mut cut).await.is_some() {
                break;
            }
            rig.pause(Duration::from_millis(1)).await;
        }
        drop(cut);
        drop(raw);
    }
    assert_eq!(rig.sole_peer(&binder).await.stats().requests_running, 0);
    good_driver.cut().await;
    driver.cut().await;
}

/// A peer on a slow line reads all the time, though little. The system's buffers, which are large, must not hide that.
pub async fn peer_that_reads_slowly(rig: Rig) {
    // A peer that comes to reading less often than the timeout is cut by right: that of a machine too slow for it is longer.
    for timeout in longer_and_longer().skip(4) {
        if survives_slow_reading(&rig, timeout).await {
            break;
        }
    }
}

/// Whether a binder keeps a peer for twice its write timeout that reads twenty times in one.
async fn survives_slow_reading(rig: &Rig, timeout: Duration) -> bool {
    const STEP: usize = 16 * 1024;
    let limits = Limits::default().write_timeout(timeout);
    let (binder, driver) = rig.serve(serving(rig.builder()).limits(limits)).await;
    let mut raw = RawPeer::connect(rig.open(&binder.endpoints()[0]).await).await;
    // More than all buffers take.
    for seq in 0..4 {
        let call = Payload::Function("8000000".into());
        let message = raw.message(seq, ("fill", OrderingKey::none()), call, false);
        raw.queue(message);
    }
    raw.flush().await;
    let begun = Instant::now();
    let mut kept = true;
    while kept && begun.elapsed() < timeout * 2 {
        kept = raw.read_away(STEP).await.is_ok_and(|len| len > 0);
        rig.pause(timeout / 20).await;
    }
    kept &= binder.peers().len() == 1;
    drop(raw);
    driver.cut().await;
    kept
}

/// Our own calls to a peer that does not read are refused once too many bytes wait, and end when the link is cut.
pub async fn full_outbox(rig: Rig) {
    for timeout in longer_and_longer() {
        let limits = Limits::default().max_outgoing_bytes(2 << 20).write_timeout(timeout);
        let (binder, driver) = rig.serve(rig.builder().limits(limits)).await;
        let (ours, theirs) = duplex(4096);
        binder.accept(theirs, "memory").expect("there is room");
        let raw = RawPeer::connect(ours).await;
        let peer = rig.sole_peer(&binder).await;
        let body = Bytes::from(vec![0; 500_000]);
        let mut calls = Vec::new();
        let refused = loop {
            let mut call = peer.invoke_raw("any", body.clone()).into_future();
            match crate::rig::poll_once(&mut call).await {
                None => calls.push(call),
                Some(result) => break result.expect_err("nobody answers"),
            }
        };
        let waiting = calls.len();
        for call in calls {
            let error = call.await.expect_err("the link is cut");
            assert!(is_cut_for_not_reading(&error), "{error:?}");
        }
        drop(raw);
        driver.cut().await;
        if is_cut_for_not_reading(&refused) {
            // That took longer than the timeout.
            continue;
        }
        let full = matches!(refused, CallError::NotSent(NotSent::Refused(InvokeError::QueueFull { .. })));
        assert!(full, "{refused:?}");
        assert!(waiting >= 2);
        break;
    }
}

fn is_cut_for_not_reading(error: &CallError) -> bool {
    let (CallError::Disconnected(cause) | CallError::NotSent(NotSent::Disconnected(cause))) = error else {
        return false;
    };
    matches!(cause, DisconnectCause::Connection(CloseCause::PeerNotReading))
}

async fn refusal(events: &mut Events) -> (String, DisconnectCause) {
    next_event(events, |event| match event {
        Event::Refused { address, cause, .. } => Some((address, cause)),
        _ => None,
    })
    .await
}

/// Connections that never complete ZMTP's handshake are limited in number, the oldest makes way for one more, and in time.
pub async fn unfinished_handshakes(rig: Rig) {
    for timeout in longer_and_longer() {
        let limits = Limits::default().max_handshakes(3).handshake_timeout(timeout);
        let (binder, driver) = rig.serve(serving(rig.builder()).limits(limits)).await;
        let mut events = binder.events();
        let mut silent = Vec::new();
        for n in 0..5 {
            let (ours, theirs) = duplex(1024);
            binder.accept(theirs, n.to_string()).expect("another is evicted");
            silent.push(ours);
        }
        let mut evicted = Vec::new();
        for _ in 0..5 {
            match refusal(&mut events).await {
                (address, DisconnectCause::TooManyHandshakes) => evicted.push(address),
                (_, cause) => assert!(matches!(cause, DisconnectCause::Protocol(_)), "{cause:?}"),
            }
        }
        evicted.sort();
        let oldest = ["0", "1"];
        assert!(evicted.iter().all(|address| oldest.contains(&&**address)), "{evicted:?} are not the oldest");
        if evicted != oldest {
            // The time of the oldest was over before all had come.
            driver.cut().await;
            continue;
        }
        let (good, good_driver) = rig.connect(rig.builder(), &binder.endpoints()[0]);
        fill(good.peer(), 1).await.expect("there is room");
        good_driver.cut().await;
        driver.cut().await;
        break;
    }

    let none = Limits::default().max_handshakes(0);
    let (binder, driver) = rig.builder().limits(none).binder();
    let error = binder.accept(duplex(1024).1, "anybody").expect_err("there is no room");
    assert!(matches!(error, DisconnectCause::TooManyHandshakes), "{error:?}");
    drop(driver);
}

/// Bytes that are no ZMTP are refused; the binder lives on.
pub async fn garbage_instead_of_a_greeting(rig: Rig) {
    use futures_util::AsyncWriteExt;
    let (binder, driver) = rig.serve(serving(rig.builder())).await;
    let mut events = binder.events();
    let mut stream = rig.open(&binder.endpoints()[0]).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: somewhere.example\r\nAccept: */*\r\n\r\n and more than a greeting holds")
        .await
        .expect("the binder reads");
    let cause = next_event(&mut events, |event| match event {
        Event::Refused { cause, .. } => Some(cause),
        _ => None,
    });
    let cause = cause.await;
    assert!(matches!(cause, DisconnectCause::Protocol(_)), "{cause:?}");
    let (good, good_driver) = rig.connect(rig.builder(), &binder.endpoints()[0]);
    fill(good.peer(), 1).await.expect("the binder lives on");
    good_driver.cut().await;
    driver.cut().await;
}

/// What a stranger gets wrong between good calls is dropped or refused, and counted; the good calls succeed.
pub async fn garbage_between_good_calls(rig: Rig) {
    use callosum_proto::Multipart;
    let (binder, driver) = rig.serve(serving(rig.builder())).await;
    let mut raw = RawPeer::connect(rig.open(&binder.endpoints()[0]).await).await;
    let upper = || Bytes::from_static(b"UPPER");
    let garbage = [
        Multipart::new("NOISE".into(), Bytes::new(), Bytes::new()),
        Multipart::new(upper(), Bytes::new(), Bytes::new()),
        Multipart::new(upper(), Bytes::from_static(b"\xc1\xc1"), Bytes::from_static(b"\x80")),
        Multipart::new(upper(), Bytes::from_static(b"\xdf\xff\xff\xff\xff"), Bytes::new()),
        Multipart::from_frames([upper()]).expect("one frame is a message"),
        Multipart::from_frames(vec![upper(); 2]).expect("two frames are a message"),
    ];
    for (seq, message) in (0..).zip(garbage.iter().cycle().take(30)) {
        raw.send(message.clone()).await;
        raw.call(seq, "echo", "good").await;
        let (header, Payload::Result(body)) = raw.hear().await else { panic!("no result") };
        assert_eq!((header.id.seq, &body[..]), (seq, &b"good"[..]));
    }
    raw.say(77, "nothing", Payload::Cancel, false).await;
    raw.say(78, "nothing", Payload::Result(Bytes::new()), false).await;
    raw.call(79, "echo", "good").await;
    raw.hear().await;
    assert_eq!(rig.sole_peer(&binder).await.stats().anomalies, 32);
    drop(raw);
    driver.cut().await;
}

/// However much a stranger gets wrong, it does not push what happened to others out of a subscriber's buffer.
pub async fn anomalies_drown_no_events(rig: Rig) {
    use callosum_proto::Multipart;
    let (binder, driver) = rig.serve(serving(rig.builder())).await;
    let mut events = binder.events();
    let mut raw = RawPeer::connect(rig.open(&binder.endpoints()[0]).await).await;
    for _ in 0..3_000 {
        raw.send(Multipart::new("NOISE".into(), Bytes::new(), Bytes::new())).await;
    }
    raw.call(1, "echo", "good").await;
    raw.hear().await;
    assert_eq!(rig.sole_peer(&binder).await.stats().anomalies, 3_000);
    drop(raw);
    let (mut connected, mut anomalies) = (0, 0);
    next_event(&mut events, |event| {
        match event {
            Event::Connected(_) => connected += 1,
            Event::Anomaly { .. } => anomalies += 1,
            _ => {}
        }
        matches!(event, Event::Disconnected { .. }).then_some(())
    })
    .await;
    assert_eq!((connected, anomalies), (1, 16));
    driver.cut().await;
}

/// A CANCEL of a running call is answered with CANCELLED; one that comes twice is not answered twice.
pub async fn cancel_is_answered(rig: Rig) {
    let gate = Gate::default();
    let (binder, driver) = rig.serve(serving(rig.builder())).await;
    gate.guard(binder.handlers(), "hold");
    let mut raw = RawPeer::connect(rig.open(&binder.endpoints()[0]).await).await;
    raw.call(5, "hold", json!(1).to_string()).await;
    let _held = gate.next().await;
    raw.say(5, "hold", Payload::Cancel, false).await;
    raw.say(5, "hold", Payload::Cancel, false).await;
    let (header, payload) = raw.hear().await;
    assert_eq!((header.id.seq, payload), (5, Payload::Cancelled));
    assert_eq!(gate.live(), 0, "the handler was dropped before");
    raw.call(6, "echo", "good").await;
    assert_eq!(raw.hear().await.0.id.seq, 6);
    let peer = rig.sole_peer(&binder).await;
    assert_eq!((peer.stats().requests_done, peer.stats().requests_failed), (1, 1));
    drop(raw);
    driver.cut().await;
}

/// Replies of `BODY` bytes that may wait for their turn.
const KEPT: usize = 4;

/// A handler of key `k` that holds up the replies of later calls with its key.
struct Behind {
    pair: Pair,
    held: Held,
    first: Response<serde_json::Value>,
    /// The argument of `fill` for a reply of `BODY` bytes.
    size: Bytes,
}

async fn behind_one_that_holds(rig: &Rig) -> Behind {
    let gate = Gate::default();
    let few = limits().max_outgoing_bytes(KEPT * (BODY + 1_000));
    let pair = rig.pair(serving(rig.builder()).limits(few), rig.builder()).await;
    gate.guard(pair.binder.handlers(), "hold");
    let first = pair.peer().invoke::<_, serde_json::Value>("hold", &json!(1)).key("k").into_future();
    let held = gate.next().await;
    Behind { pair, held, first, size: BODY.to_string().into() }
}

/// Replies that wait for an earlier call with their key are bounded like those that wait to be written: past the limit
/// the caller gets an ERROR instead, in order.
pub async fn replies_held_back(rig: Rig) {
    let Behind { pair, held, first, size } = behind_one_that_holds(&rig).await;
    let calls: Vec<_> =
        (0..10).map(|_| pair.peer().invoke_raw("fill", size.clone()).key("k").into_future()).collect();
    // This one has no key, and arrives after them.
    fill(pair.peer(), 1).await.expect("it has no key");
    rig.until(|| (pair.back.stats().requests_running, pair.back.stats().requests_queued) == (1, 0)).await;
    held.release(1);
    first.await.expect("it was released");
    let mut kept = 0;
    for call in calls {
        match call.await {
            Ok(body) => kept += usize::from(body.len() == BODY),
            Err(error) => {
                assert_eq!(error.remote().and_then(Refusal::of), Some(Refusal::ReplyTooLarge), "{error:?}");
                assert!(error.may_have_run());
            }
        }
    }
    assert!(kept <= KEPT, "{kept} replies were kept");
    assert_eq!(fill(pair.peer(), BODY).await.expect("nothing is in its way").len(), BODY);
    pair.end().await;
}

/// A call that is cancelled while its reply waits for its order makes room for others.
pub async fn cancelled_replies_make_room(rig: Rig) {
    let Behind { pair, held, first, size } = behind_one_that_holds(&rig).await;
    for _ in 0..5 * KEPT {
        let call = pair.peer().invoke_raw("fill", size.clone()).key("k").into_future();
        // This one has no key, and arrives after it.
        fill(pair.peer(), 1).await.expect("it has no key");
        drop(call);
    }
    let last = pair.peer().invoke_raw("fill", size.clone()).key("k").into_future();
    fill(pair.peer(), 1).await.expect("it has no key");
    held.release(1);
    first.await.expect("it was released");
    assert_eq!(last.await.expect("there is room").len(), BODY);
    pair.end().await;
}

/// A time that the clock can't hold is no time limit.
pub async fn endless_times(rig: Rig) {
    let endless = Limits::default().handshake_timeout(Duration::MAX).write_timeout(Duration::MAX);
    let builder = || {
        let builder = serving(rig.builder()).limits(endless.clone()).keepalive(Duration::MAX, 2);
        builder.execution_timeout(Duration::MAX).call_timeout(Duration::MAX)
    };
    let pair = rig.pair(builder(), builder()).await;
    for peer in [pair.peer(), &pair.back] {
        assert_eq!(fill(peer, 3).await.expect("it is served").len(), 3);
    }
    pair.end().await;
}
