//! How arguments, results and their calls end.

use super::*;

#[test]
fn streams_go_both_ways_at_once_and_end_one_by_one() {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    a.write(up, "one").unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    assert_eq!(request.body, Body::Stream { size: None });
    assert_eq!(b.arrival().bytes, 1 + (256 << 10) + MAX_FIRST);
    let id = theirs(&request);
    let chunk = |text: &'static str| Poll::Ready(Some(Chunk { bytes: text.into(), end_of_item: true }));
    assert_eq!(b.read(id), Ok(chunk("one")));
    assert_eq!(b.read(id), Ok(Poll::Pending));
    b.connection.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    b.write(id, "eins").unwrap();
    a.write(up, "two").unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(b.events(), [Event::Readable(id)]);
    assert_eq!((b.read(id), b.read(id)), (Ok(chunk("two")), Ok(Poll::Pending)));
    let StreamId::Call(call) = up else { unreachable!() };
    assert_eq!(a.events(), [Event::Response { call, metadata: Metadata::new(), size: None }]);
    assert_eq!((a.read(up), a.read(up)), (Ok(chunk("eins")), Ok(Poll::Pending)));
    a.connection.send_stream(up).finish().unwrap();
    exchange(&mut a, &mut b);
    assert_eq!((b.events(), b.read(id)), (vec![Event::Readable(id)], Ok(Poll::Ready(None))));
    b.write(id, "zwei").unwrap();
    b.connection.reply(request.id, Reply::End).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [Event::Readable(up), ended(call, Outcome::Complete)]);
    assert_eq!(a.connection.recv_stream(up).unread(), 4, "also after the end of its call");
    assert_eq!((a.read(up), a.read(up)), (Ok(chunk("zwei")), Ok(Poll::Ready(None))));
    assert_eq!(a.connection.recv_stream(up).unread(), 0);
    assert_eq!(a.read(up), Err(ReadError::NotOpen));
    exchange(&mut a, &mut b);
    assert!(a.connection.is_idle() && b.connection.is_idle());
}

#[test]
fn a_result_ends_the_argument() {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.connection.reply(request.id, Reply::result(body(100_000))).unwrap();
    a.write(up, body(300_000)).unwrap();
    let events = exchange_collecting(&mut b, &mut a);
    assert!(events.iter().any(|event| matches!(event, Event::Reassembled { body: Ok(_), .. })), "{events:?}");
    assert_eq!(a.write(up, "x"), Err(WriteError::NotOpen));
    exchange(&mut a, &mut b);
    assert!(a.connection.is_idle() && b.connection.is_idle());
    assert_eq!(b.connection.held_bytes(), 0);
}

/// A call whose handler has finished its result, "done", and still reads the argument.
fn half_closed() -> (Side, Side, StreamId, RequestId) {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    a.write(up, "some").unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    let id = theirs(&request);
    assert_eq!(b.read_all(id), (b"some".to_vec(), false));
    b.connection.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    b.write(id, "done").unwrap();
    b.connection.send_stream(id).finish().unwrap();
    exchange(&mut a, &mut b);
    assert!(matches!(a.events()[..], [Event::Response { .. }, ..]));
    (a, b, up, request.id)
}

fn assert_idle(a: &mut Side, b: &mut Side) {
    exchange(a, b);
    exchange(b, a);
    assert!(a.connection.is_idle() && b.connection.is_idle());
}

fn call_of(up: StreamId) -> CallId {
    let StreamId::Call(call) = up else { unreachable!("it is ours") };
    call
}

#[test]
fn a_handler_reads_on_when_its_result_is_complete() {
    for read_first in [true, false] {
        let (mut a, mut b, up, incoming) = half_closed();
        let id = StreamId::Request(incoming);
        let read = |a: &mut Side| assert_eq!(a.read_all(up), (b"done".to_vec(), true));
        if read_first {
            read(&mut a);
        }
        // More than a window.
        let rest = body(600_000);
        for part in rest.chunks(100_000) {
            a.write(up, Bytes::copy_from_slice(part)).unwrap();
            exchange(&mut a, &mut b);
            assert_eq!(b.read_all(id), (part.to_vec(), false));
            exchange(&mut a, &mut b);
        }
        assert!(!a.events().iter().any(|event| matches!(event, Event::Ended { .. })));
        assert!(!a.connection.is_idle());
        a.connection.send_stream(up).finish().unwrap();
        exchange(&mut a, &mut b);
        assert_eq!(b.read_all(id), (vec![], true));
        assert!(a.events().contains(&ended(call_of(up), Outcome::Complete)));
        if !read_first {
            read(&mut a);
        }
        b.connection.reply(incoming, Reply::End).unwrap();
        exchange(&mut a, &mut b);
        assert!(a.connection.is_idle() && b.connection.is_idle());
        assert_eq!((a.connection.held_bytes(), b.connection.held_bytes()), (0, 0));
        assert!(
            !b.events()
                .iter()
                .any(|event| matches!(event, Event::Stop { request: _, reason: StopReason::Cancelled }))
        );
    }
}

#[test]
fn a_call_whose_result_is_complete_ends_in_all_ways() {
    // The handler ends, and stops reading.
    let (mut a, mut b, up, incoming) = half_closed();
    b.connection.reply(incoming, Reply::End).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [Event::Writable(up), ended(call_of(up), Outcome::Complete)]);
    assert_eq!(a.write(up, "more"), Err(WriteError::Stopped));
    assert_eq!(a.read_all(up), (b"done".to_vec(), true), "it stays readable");
    assert_eq!(a.write(up, "more"), Err(WriteError::NotOpen));
    assert_idle(&mut a, &mut b);

    // The handler fails.
    let (mut a, mut b, up, incoming) = half_closed();
    let info = ErrorInfo::new("Disk", "full");
    b.connection.reply(incoming, Reply::Failure(info.clone().into())).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [ended(call_of(up), Outcome::Failure(info.into()))]);
    assert_idle(&mut a, &mut b);

    // The argument is aborted.
    let (mut a, mut b, up, incoming) = half_closed();
    a.connection.send_stream(call_of(up)).abort();
    assert_eq!(a.events(), [ended(call_of(up), Outcome::Complete)]);
    exchange(&mut a, &mut b);
    assert_eq!(b.read(StreamId::Request(incoming)), Err(ReadError::Aborted));
    b.connection.reply(incoming, Reply::End).unwrap();
    assert_eq!(a.read_all(up), (b"done".to_vec(), true));
    assert_idle(&mut a, &mut b);

    // The caller abandons the call without reading the result.
    let (mut a, mut b, up, incoming) = half_closed();
    assert!(a.connection.abandon(call_of(up)));
    exchange(&mut a, &mut b);
    assert!(b.events().contains(&Event::Stop { request: incoming, reason: StopReason::Cancelled }));
    b.connection.reply(incoming, Reply::Cancelled).unwrap();
    assert_idle(&mut a, &mut b);
    assert_eq!(a.connection.held_bytes(), 0);

    // The caller has read the result, and finished the argument, which has not been sent: it is not
    // truncated.
    let (mut a, mut b, up, incoming) = half_closed();
    assert_eq!(a.read_all(up), (b"done".to_vec(), true));
    a.write(up, body(500_000)).unwrap();
    a.connection.send_stream(up).finish().unwrap();
    exchange(&mut a, &mut b);
    assert!(!a.connection.abandon(call_of(up)) && !a.connection.is_idle());
    let (mut all, mut end) = (0, false);
    while !end {
        let (more, ended) = b.read_all(StreamId::Request(incoming));
        (all, end) = (all + more.len(), ended);
        exchange(&mut a, &mut b);
    }
    assert_eq!(all, 500_000);
    assert!(a.events().contains(&ended(call_of(up), Outcome::Complete)));
    b.connection.reply(incoming, Reply::End).unwrap();
    assert_idle(&mut a, &mut b);

    // The connection ends before the argument has been sent.
    let (mut a, _b, up, _) = half_closed();
    a.connection.close(CloseCause::LinkLost);
    assert!(
        a.events()
            .iter()
            .any(|event| matches!(event, Event::Ended { outcome: Outcome::Disconnected { .. }, .. }))
    );
    assert_eq!(a.read(up), Err(ReadError::NotOpen));
}

#[test]
fn a_body_that_was_given_as_a_whole_ends_with_its_result() {
    let (mut a, mut b) = pair2(two(), two());
    let call = a.connection.invoke(a.now, new_call("m", body(600_000))).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.connection.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    b.connection.send_stream(theirs(&request)).finish().unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events().last(), Some(&ended(call, Outcome::Complete)));
    let mut last = b.read(theirs(&request));
    while let Ok(Poll::Ready(Some(_))) = last {
        last = b.read(theirs(&request));
    }
    assert_eq!(last, Err(ReadError::Aborted), "the handler learns that it is incomplete");
    b.connection.reply(request.id, Reply::End).unwrap();
    assert_eq!(a.read_all(StreamId::Call(call)), (vec![], true));
    assert_idle(&mut a, &mut b);
}

#[test]
fn a_reader_that_refuses_an_argument_and_goes_on_tells_its_writer() {
    let (mut a, mut b) = pair2(two(), ConnectionConfig { max_body: 1_000, ..two() });
    let up = a.invoke_streamed();
    a.write(up, body(2_000)).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.connection.recv_stream(theirs(&request)).reassemble().unwrap();
    exchange(&mut a, &mut b);
    assert!(b.events().iter().any(|event| matches!(event, Event::Reassembled { body: Err(_), .. })));
    b.connection.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    b.connection.reply(request.id, Reply::End).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.write(up, "more"), Err(WriteError::Stopped));
    assert!(a.events().contains(&ended(call_of(up), Outcome::Complete)));
    assert_eq!(a.read_all(up), (vec![], true));
    assert_idle(&mut a, &mut b);
}

#[test]
fn an_argument_that_can_not_be_completed_is_no_argument() {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    let StreamId::Call(call) = up else { unreachable!() };
    a.write(up, "half").unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    a.connection.send_stream(call).abort();
    exchange(&mut a, &mut b);
    assert_eq!(b.read(theirs(&request)), Err(ReadError::Aborted));
    assert_eq!(b.events(), []);
    b.connection.reply(request.id, Reply::Cancelled).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [ended(call, Outcome::Cancelled)]);
    // Abandoned before it was sent.
    let up = a.invoke_streamed();
    let StreamId::Call(call) = up else { unreachable!() };
    a.connection.send_stream(call).abort();
    exchange(&mut a, &mut b);
    let request = super::dialect2::request(&mut b);
    assert_eq!(b.read(theirs(&request)), Err(ReadError::Aborted));
}

#[test]
fn a_result_may_fail_when_it_has_begun() {
    let (mut a, mut b) = pair2(two(), two());
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.connection.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    assert_eq!(
        b.connection.begin_reply(request.id, false, Metadata::new(), None),
        Err(ReplyError::AlreadyBegun)
    );
    b.write(theirs(&request), body(100_000)).unwrap();
    exchange(&mut a, &mut b);
    let info = ErrorInfo::new("Disk", "full");
    b.connection.reply(request.id, Reply::Failure(info.clone().into())).unwrap();
    exchange(&mut a, &mut b);
    let events = a.events();
    assert_eq!(events.last(), Some(&ended(call, Outcome::Failure(info.into()))));
    assert_eq!(a.read(StreamId::Call(call)), Err(ReadError::NotOpen));
    assert_eq!((a.connection.held_bytes(), a.connection.is_idle(), b.connection.is_idle()), (0, true, true));
}

#[test]
fn a_whole_result_can_not_follow_one_that_has_begun() {
    let (mut a, mut b) = pair2(two(), two());
    a.invoke("m");
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.connection.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    assert_eq!(b.connection.reply(request.id, ok("whole")), Ok(Replied::AlreadyBegun));
    exchange(&mut a, &mut b);
    assert!(matches!(a.events().last(), Some(Event::Ended { outcome: Outcome::Error(_), .. })));
}

#[test]
fn a_streamed_result_needs_dialect_2() {
    let mut side = Side::established(config());
    let id = side.asked(1);
    let result = side.connection.begin_reply(id, false, Metadata::new(), None);
    assert_eq!(result, Err(ReplyError::NeedsDialect2));
    assert_eq!(side.said(), [], "it is open");
    side.connection.reply(id, Refusal::Unsupported.reply("")).unwrap();
    let [(1, Payload::Error(info))] = &side.said()[..] else { panic!("an ERROR") };
    assert_eq!(Refusal::of(info), Some(Refusal::Unsupported));
    assert!(Refusal::Unsupported.may_have_run(), "its handler has run");
}

#[test]
fn a_result_is_read_after_its_call_has_ended() {
    let (mut a, mut b) = pair2(two(), two());
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let asked = request(&mut b);
    b.connection.reply(asked.id, Reply::result(body(100_000))).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events().last(), Some(&ended(call, Outcome::Complete)));
    assert!(!a.connection.is_idle(), "it has not been read");
    let (read, end) = a.read_all(StreamId::Call(call));
    assert_eq!((Bytes::from(read), end), (body(100_000), true));
    exchange(&mut a, &mut b);
    assert!(a.connection.is_idle());
    // Or after the connection has ended.
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let asked = request(&mut b);
    b.connection.reply(asked.id, Reply::result(body(100_000))).unwrap();
    exchange(&mut a, &mut b);
    let (mut c, mut d) = pair2(two(), two());
    std::mem::swap(&mut a, &mut c);
    c.connection.close(CloseCause::LinkLost);
    assert!(c.events().contains(&ended(call, Outcome::Complete)));
    assert_eq!(c.read_all(StreamId::Call(call)), (body(100_000).to_vec(), true));
    assert_eq!((c.read(StreamId::Call(call)), c.sent()), (Err(ReadError::NotOpen), vec![]));
    std::mem::swap(&mut b, &mut d);
    // Or dropped unread.
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let asked = request(&mut b);
    b.connection.reply(asked.id, Reply::result(body(100_000))).unwrap();
    exchange(&mut a, &mut b);
    a.connection.recv_stream(StreamId::Call(call)).stop();
    assert_eq!(a.sent_records(), [Record::Cancel { call: 0 }], "its writer may wait for it to be read");
    assert!(a.connection.is_idle() && a.connection.held_bytes() == 0);
}

#[test]
fn a_result_that_is_put_together_after_the_link_has_ended_leaves_nothing_to_send() {
    let mut side = binder(two());
    let call = side.invoke("m");
    side.sent();
    let options = Options { size: Some(8), ..Options::default() };
    side.hear_records(&[Record::Result { call: 1, options, piece: part("half") }, data(1, 4, whole("half"))]);
    assert_eq!(side.events().last(), Some(&ended(call, Outcome::Complete)));
    side.connection.close(CloseCause::LinkLost);
    assert_eq!(side.events(), [Event::Closed(CloseCause::LinkLost)]);
    side.collect(StreamId::Call(call));
    let collected = Event::Reassembled { stream: StreamId::Call(call), body: Ok("halfhalf".into()) };
    assert_eq!(side.events(), [collected]);
    assert!(side.connection.is_idle(), "an acknowledgement waits that can't leave");
    assert_eq!((side.connection.next_deadline(), side.sent()), (None, vec![]));
}

#[test]
fn a_result_that_is_stopped_when_it_is_complete_does_not_keep_its_call() {
    for reassembles in [false, true] {
        let (mut a, mut b, up, incoming) = half_closed();
        if reassembles {
            a.endpoint.grants = false;
            a.collect(up);
        }
        a.connection.recv_stream(up).stop();
        assert_eq!(a.read(up), Err(ReadError::NotOpen));
        assert_eq!(a.connection.held_bytes(), 0);
        a.write(up, " more").unwrap();
        a.connection.send_stream(up).finish().unwrap();
        exchange(&mut a, &mut b);
        assert!(a.events().contains(&ended(call_of(up), Outcome::Complete)));
        assert!(a.connection.is_idle(), "nothing is left to be read");
        assert_eq!(b.read_all(incoming.into()), (b" more".to_vec(), true));
        b.connection.reply(incoming, Reply::End).unwrap();
        assert_idle(&mut a, &mut b);
    }
}

/// The result waits for memory, and the argument has been sent.
#[test]
fn a_complete_result_that_is_stopped_before_it_is_reassembled_ends_its_call() {
    let (mut a, mut b) = pair2(two(), two());
    a.endpoint.grants = false;
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.connection.begin_reply(request.id, false, Metadata::new(), Some(4)).unwrap();
    b.write(theirs(&request), "some").unwrap();
    exchange(&mut a, &mut b);
    a.collect(call.into());
    b.connection.reply(request.id, Reply::End).unwrap();
    exchange(&mut a, &mut b);
    a.events();
    a.connection.recv_stream(call).stop();
    assert_eq!(a.events(), [ended(call, Outcome::Complete)]);
    assert_idle(&mut a, &mut b);
}
