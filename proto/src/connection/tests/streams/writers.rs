//! What a writer learns: room, acknowledgements, and that its reader has stopped.

use super::*;

/// Bytes written, and bytes acknowledged.
fn progress(side: &mut Side, id: StreamId) -> (u64, u64) {
    let mut stream = side.connection.send_stream(id);
    (stream.written().unwrap(), stream.acknowledged().unwrap())
}

#[test]
fn a_writer_learns_what_its_reader_has_taken() {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    a.write(up, body(200_000)).unwrap();
    a.connection.send_stream(up).finish().unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    assert_eq!(progress(&mut a, up), (200_000, 0));
    a.events();
    let Ok(Poll::Ready(Some(_))) = b.read(theirs(&request)) else { panic!("a chunk") };
    let Ok(Poll::Ready(Some(_))) = b.read(theirs(&request)) else { panic!("a chunk") };
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [Event::Writable(up)]);
    let (_, some) = progress(&mut a, up);
    assert!(some > 60_000 && some < 200_000, "{some}");
    assert!(b.read_all(theirs(&request)).1);
    exchange(&mut a, &mut b);
    assert_eq!(progress(&mut a, up), (200_000, 200_000));
}

#[test]
fn a_writer_learns_once_that_all_was_taken() {
    for collect in [false, true] {
        let (mut a, mut b) = pair2(two(), two());
        let up = a.invoke_streamed();
        a.write(up, body(20_000)).unwrap();
        a.connection.send_stream(up).finish().unwrap();
        exchange(&mut a, &mut b);
        let request = request(&mut b);
        if collect {
            b.collect(theirs(&request));
        } else {
            assert!(b.read_all(theirs(&request)).1 && b.read_all(theirs(&request)).1);
        }
        let said = b.sent();
        assert_eq!(said.len(), 1);
        said.into_iter().for_each(|packet| a.hear(packet));
        assert_eq!(progress(&mut a, up), (20_000, 20_000));
        if !collect {
            assert_eq!(b.read(theirs(&request)), Ok(Poll::Ready(None)));
            assert_eq!(b.sent_records(), []);
        }
    }
}

#[test]
fn what_a_call_begins_with_counts_as_written_before_it_leaves() {
    let (mut a, mut b) = pair2(two(), two());
    let call = Call { argument: Delivery::Stream, ..new_call("m", body(20_000)) };
    let up = StreamId::Call(a.connection.invoke(a.now, call).unwrap());
    let written = |a: &mut Side| a.connection.send_stream(up).written().unwrap();
    assert_eq!(written(&mut a), 20_000);
    a.write(up, "more").unwrap();
    assert_eq!(written(&mut a), 20_004);
    exchange(&mut a, &mut b);
    assert_eq!(written(&mut a), 20_004);
}

#[test]
fn a_writer_is_held_up_at_its_buffer_and_told_when_there_is_room() {
    let config = ConnectionConfig { stream_buffer: 1_000, ..two() };
    let (mut a, mut b) = pair2(config, two());
    let up = a.invoke_streamed();
    a.write(up, body(999)).unwrap();
    assert_eq!(a.connection.send_stream(up).room(), Ok(1));
    a.write(up, body(5_000)).unwrap();
    assert_eq!(a.connection.send_stream(up).room(), Ok(0));
    assert_eq!(a.write(up, "x"), Err(WriteError::Full));
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [Event::Writable(up)]);
    assert_eq!(a.connection.send_stream(up).room(), Ok(1_000));
}

/// Otherwise, a relay of items could be made to queue any number of them.
#[test]
fn a_writer_of_items_without_bytes_is_held_up_at_its_buffer_too() {
    let config = ConnectionConfig { stream_buffer: 1_000, ..two() };
    let (mut a, mut b) = pair2(config, two());
    let up = a.invoke_streamed();
    let mut items = 0;
    while a.write(up, "").is_ok() {
        items += 1;
        assert!(items < 1_000, "there is no end to it");
    }
    assert_eq!(items, 32, "each counts as 32 bytes");
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [Event::Writable(up)]);
    assert_eq!(a.connection.send_stream(up).room(), Ok(1_000));

    // The same once its handler has ended: it counts for the backlog.
    let call = b.invoke("m");
    exchange(&mut a, &mut b);
    let asked = a.events().into_iter().find_map(|event| match event {
        Event::Request(request) => Some(request.id),
        _ => None,
    });
    let asked = asked.expect("a request");
    a.connection.begin_reply(asked, false, Metadata::new(), None).unwrap();
    (0..10).for_each(|_| a.write(asked.into(), "").unwrap());
    a.connection.reply(asked, Reply::End).unwrap();
    assert!(a.connection.queued_bytes() >= 10 * 32);
    exchange(&mut a, &mut b);
    assert_eq!(a.connection.queued_bytes(), 0);
    assert_eq!(b.events().last(), Some(&ended(call, Outcome::Complete)));
}

#[test]
fn what_the_reader_does_not_want_is_not_sent() {
    let (mut a, mut b) = pair2(two(), two());
    let up = a.invoke_streamed();
    a.write(up, body(1 << 20)).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.connection.recv_stream(theirs(&request)).stop();
    assert_eq!(b.read(theirs(&request)), Err(ReadError::NotOpen));
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [Event::Writable(up)]);
    assert_eq!(a.write(up, "x"), Err(WriteError::Stopped));
    assert_eq!((b.connection.held_bytes(), a.sent()), (0, vec![]));
    b.connection.reply(request.id, ok("enough")).unwrap();
    exchange(&mut a, &mut b);
    assert!(matches!(a.events()[..], [Event::Ended { outcome: Outcome::Result(_), .. }]));
    assert!(a.connection.is_idle() && b.connection.is_idle());
}

#[test]
fn a_writer_that_has_finished_is_not_told_of_room() {
    let config = ConnectionConfig { stream_buffer: 1_000, ..two() };
    for is_refused in [false, true] {
        let (mut a, mut b) = pair2(config.clone(), two());
        let up = a.invoke_streamed();
        a.write(up, body(1_000)).unwrap();
        if is_refused {
            assert_eq!(a.write(up, "x"), Err(WriteError::Full));
        }
        a.connection.send_stream(up).finish().unwrap();
        exchange(&mut a, &mut b);
        assert_eq!(a.events(), []);
        // A writer that waits for acknowledgements still gets them.
        assert_eq!(progress(&mut a, up), (1_000, 0));
        let request = request(&mut b);
        assert!(b.read_all(theirs(&request)).1);
        exchange(&mut a, &mut b);
        assert_eq!(a.events(), [Event::Writable(up)]);
    }
}

#[test]
fn a_writer_that_waits_for_an_acknowledgement_is_told_after_the_end_too() {
    let config = ConnectionConfig { stream_buffer: 1_000, ..two() };
    let (mut a, mut b) = pair2(config, two());
    let up = a.invoke_streamed();
    a.write(up, body(1_000)).unwrap();
    a.connection.send_stream(up).acknowledged().unwrap();
    a.connection.send_stream(up).finish().unwrap();
    exchange(&mut a, &mut b);
    a.events();
    let request = request(&mut b);
    assert!(b.read_all(theirs(&request)).1);
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [Event::Writable(up)]);
}

/// A socket with large buffers may accept nothing for long, although the peer reads all the time.
#[test]
fn what_the_peer_has_read_puts_off_the_write_timeout() {
    let mut side = binder(two());
    let stream = side.invoke_streamed();
    for _ in 0..2 {
        side.invoke("m");
    }
    side.write(stream, body(1_000)).unwrap();
    let ping = side.connection.ping().unwrap();
    side.sent();
    side.connection.handle_write_blocked(side.now);
    let credit = |consumed, limit| Record::Credit { call: 1, consumed, limit };
    let result = Record::Result { call: 3, options: Options::default(), piece: whole("done") };
    let failed = Record::Fail { call: 5, failure: Failure::Cancelled, options: Options::default() };
    for shown in [credit(1, 10_000), credit(1_000, 10_000), result, failed] {
        side.pass(SECOND * 9);
        side.hear_records(&[shown]);
        assert_eq!(side.connection.next_deadline(), Some(side.now + SECOND * 10));
    }
    side.pass(SECOND * 9);
    side.hear(Multipart::new(PONG, Bytes::new(), Bytes::copy_from_slice(&ping.to_be_bytes())));
    assert_eq!(side.connection.next_deadline(), Some(side.now + SECOND * 10));
    side.pass(SECOND * 9);
    side.hear_records(&[credit(1_000, 20_000), Record::LinkCredit { limit: u64::MAX }, open(0, whole("x"))]);
    assert_eq!(side.connection.next_deadline(), Some(side.now + SECOND), "that shows nothing new");
    side.pass(SECOND);
    assert!(side.connection.is_closed());
}

#[test]
fn nobody_is_told_that_an_argument_which_is_a_body_is_not_read() {
    let (mut a, mut b) = pair2(two(), two());
    let call = a.connection.invoke(a.now, new_call("m", body(1 << 20))).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.connection.recv_stream(request.id).stop();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [], "the host writes no stream");
    b.connection.reply(request.id, ok("1")).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [ended(call, Outcome::Result("1".into()))]);
    assert!(a.connection.is_idle() && b.connection.is_idle());
}
