//! Calls that are cancelled while their bodies are being sent.

use super::*;

#[test]
fn cancelling_lets_go_of_everything_on_both_sides() {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    let StreamId::Call(call) = up else { unreachable!() };
    a.write(up, body(1 << 20)).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.connection.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    b.write(theirs(&request), body(1 << 20)).unwrap();
    exchange(&mut a, &mut b);
    assert!(a.connection.held_bytes() > 0 && b.connection.held_bytes() > 0);
    assert!(a.connection.abandon(call));
    exchange(&mut a, &mut b);
    assert!(b.events().contains(&Event::Stop { request: request.id, reason: StopReason::Cancelled }));
    b.connection.reply(request.id, Reply::Cancelled).unwrap();
    exchange(&mut a, &mut b);
    assert!(a.connection.is_idle() && b.connection.is_idle());
    assert_eq!((a.connection.held_bytes(), b.connection.held_bytes()), (0, 0));
}

#[test]
fn the_writer_of_a_result_that_nobody_waits_for_is_told() {
    for begun in [false, true] {
        let (mut a, mut b) = pair2(two(), ConnectionConfig { stream_buffer: 1, ..two() });
        let call = a.invoke("m");
        exchange(&mut a, &mut b);
        let request = request(&mut b);
        let id = theirs(&request);
        let begin = |b: &mut Side| b.connection.begin_reply(request.id, false, Metadata::new(), None);
        if begun {
            begin(&mut b).unwrap();
            b.write(id, body(1 << 20)).unwrap();
            assert_eq!(b.connection.send_stream(id).room(), Ok(0));
        }
        a.connection.abandon(call);
        exchange(&mut a, &mut b);
        let cancelled = Event::Stop { request: request.id, reason: StopReason::Cancelled };
        if begun {
            assert_eq!(b.events(), [Event::Writable(id), cancelled]);
        } else {
            assert_eq!(b.events(), [cancelled]);
            begin(&mut b).unwrap();
        }
        assert_eq!(b.write(id, "more"), Err(WriteError::Stopped));
        b.connection.reply(request.id, Reply::Failure(ErrorInfo::new("E", "e").into())).unwrap();
        exchange(&mut a, &mut b);
        assert!(b.connection.is_idle());
    }
}

#[test]
fn a_result_that_comes_after_the_cancellation_does_not_wait_for_credit() {
    for streamed in [false, true] {
        let (mut a, mut b) = pair2(two(), two());
        let key = OrderingKey::text("k");
        let [first, second] =
            [1, 2].map(|_| a.connection.invoke(a.now, Call { key: key.clone(), ..call("m") }).unwrap());
        exchange(&mut a, &mut b);
        let requests = [request(&mut b), request(&mut b)];
        let id = theirs(&requests[0]);
        if streamed {
            b.connection.begin_reply(requests[0].id, false, Metadata::new(), None).unwrap();
            b.connection.send_stream(id).write(body(1 << 20), true).unwrap();
            exchange(&mut a, &mut b);
        }
        a.connection.abandon(first);
        exchange(&mut a, &mut b);
        assert_eq!(
            b.events().last(),
            Some(&Event::Stop { request: requests[0].id, reason: StopReason::Cancelled })
        );
        // The handler had ended by itself.
        let reply = if streamed { Reply::End } else { Reply::result(body(1 << 20)) };
        b.connection.reply(requests[0].id, reply).unwrap();
        b.connection.reply(requests[1].id, ok("2")).unwrap();
        exchange(&mut a, &mut b);
        assert_eq!(a.events().last(), Some(&ended(second, Outcome::Result("2".into()))));
        assert!(b.connection.is_idle() && b.connection.queued_bytes() == 0);
    }
}

#[test]
fn a_result_on_its_way_is_dropped_when_its_call_is_cancelled() {
    let (mut a, mut b) = pair2(two(), two());
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let asked = request(&mut b);
    b.connection.reply(asked.id, Reply::result(body(5 << 20))).unwrap();
    exchange(&mut a, &mut b);
    a.connection.abandon(call);
    exchange(&mut a, &mut b);
    assert!(a.connection.is_idle() && b.connection.is_idle());
    assert_eq!(b.connection.queued_bytes(), 0);
}

/// D-4, C-10: nothing of the answer has been sent, so the call has not been answered.
#[test]
fn a_result_that_is_cancelled_before_it_leaves_is_answered_once() {
    for streamed in [false, true] {
        let mut side = binder(two());
        side.hear_records(&[keyed_open(0, "k"), keyed_open(2, "k")]);
        let [first, second] = [request(&mut side).id, request(&mut side).id];
        if streamed {
            side.connection.begin_reply(first, false, Metadata::new(), None).unwrap();
            side.write(first.into(), body(100 << 10)).unwrap();
        }
        let reply = if streamed { Reply::End } else { Reply::result(body(100 << 10)) };
        side.connection.reply(first, reply).unwrap();
        side.connection.reply(second, ok("2")).unwrap();
        side.hear_records(&[Record::Cancel { call: 0 }]);
        let options = Options::default();
        let cancelled = Record::Fail { call: 0, failure: Failure::Cancelled, options: options.clone() };
        let next = Record::Result { call: 2, options, piece: whole("2") };
        assert_eq!(side.sent_records(), [cancelled, next]);
        assert!(!side.connection.is_acknowledged(), "an answer");
        assert!(side.connection.is_idle() && side.connection.queued_bytes() == 0);
        side.hear_records(&[Record::Cancel { call: 0 }]);
        assert_eq!(side.sent_records(), []);
    }
}

fn keyed_open(call: u64, name: &str) -> Record {
    let (key, options) = (OrderingKey::text(name), Options::default());
    Record::Open { call, method: "m".into(), key, options, piece: whole("") }
}

#[test]
fn an_argument_whose_call_is_withdrawn_before_it_starts_is_dropped_at_once() {
    for (stream_arguments, complete, timed_out) in [
        (StreamArguments::None, false, false),
        (StreamArguments::None, true, true),
        (StreamArguments::All, false, true),
        (StreamArguments::All, true, false),
    ] {
        let (mut a, mut b) = pair2(two(), ConnectionConfig { stream_arguments, ..two() });
        b.endpoint.starts = false;
        let deadline = a.now + SECOND;
        let call = Call { argument: Delivery::Stream, deadline: Some(deadline), ..new_call("m", "") };
        let call = a.connection.invoke(a.now, call).unwrap();
        a.write(call.into(), body(12 * 1024)).unwrap();
        if complete {
            a.connection.send_stream(call).finish().unwrap();
        }
        exchange(&mut a, &mut b);
        match timed_out {
            true => b.pass(SECOND * 3),
            false => {
                a.connection.abandon(call);
                exchange(&mut a, &mut b);
            }
        }
        assert_eq!(b.connection.held_bytes(), 0);
        assert_eq!(b.connection.open_requests(), 1, "its reply waits for its order");
    }
}
