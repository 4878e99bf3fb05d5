//! Bodies in one record and in several, and their reassembly.

use super::*;

#[test]
fn a_body_is_one_record_up_to_a_size_and_chunks_past_it() {
    for (len, chunked) in [(MAX_FIRST, false), (MAX_FIRST + 1, true), (3 << 20, true)] {
        let (mut a, mut b) = pair2(two(), two());
        let id = a.connection.invoke(a.now, new_call("m", body(len))).unwrap();
        let events = exchange_collecting(&mut a, &mut b);
        let Event::Request(request) = &events[0] else { panic!("{events:?}") };
        if chunked {
            assert!(matches!(request.body, Body::Stream { size: Some(size), .. } if size == len as u64));
            let collected = Event::Reassembled { stream: theirs(request), body: Ok(body(len)) };
            assert_eq!(events[1..], [collected]);
        } else {
            assert_eq!(request.body, Body::Whole(body(len)));
        }
        b.connection.reply(request.id, Reply::result(body(len))).unwrap();
        let events = exchange_collecting(&mut b, &mut a);
        let last = events.last().unwrap();
        if chunked {
            let size = Some(len as u64);
            assert_eq!(events[0], Event::Response { call: id, metadata: Metadata::new(), size });
            let collected = Event::Reassembled { stream: StreamId::Call(id), body: Ok(body(len)) };
            // The body may have arrived completely before its reassembly is requested.
            assert!(events.len() == 3 && events.contains(&collected));
            assert!(events.contains(&ended(id, Outcome::Complete)));
        } else {
            assert_eq!(last, &ended(id, Outcome::Result(body(len))));
        }
        for side in [&a, &b] {
            assert!(side.connection.is_idle(), "{:?}", side.connection);
            assert_eq!((side.connection.queued_bytes(), side.connection.held_bytes()), (0, 0));
        }
    }
}

#[test]
fn a_declared_size_holds_for_a_body_in_one_piece_too() {
    let options = |size| Options { size: Some(size), ..Options::default() };
    let sized = |call, size| Record::Open {
        call,
        method: "m".into(),
        key: OrderingKey::none(),
        options: options(size),
        piece: whole("four"),
    };
    let mut side = binder(two());
    side.hear_records(&[sized(0, 5), sized(2, 3), sized(4, 4)]);
    let events = side.events();
    let faults = events.iter().filter(|event| **event == Event::Anomaly(Anomaly::Stream(StreamFault::Size)));
    let requests = events.iter().filter(|event| matches!(event, Event::Request(_)));
    assert_eq!((faults.count(), requests.count()), (2, 1));
    let refused = |record: &Record| matches!(record, Record::Fail { failure: Failure::Error(info), .. } if &*info.name == "MalformedBody");
    assert_eq!(side.sent_records().iter().filter(|record| refused(record)).count(), 2);

    let mut side = binder(two());
    let StreamId::Call(call) = side.invoke_streamed() else { unreachable!("it is ours") };
    side.sent();
    side.hear_records(&[Record::Result { call: 1, options: options(5), piece: whole("four") }]);
    assert!(side.events().contains(&ended(call, Outcome::Fault(StreamFault::Size))));
    assert!(side.connection.is_idle() || !side.sent().is_empty(), "the peer is told");
}

#[test]
fn a_stream_begins_with_any_piece_whatever_the_limit_of_bodies() {
    let mut side = binder(ConnectionConfig { max_body: 10, ..two() });
    side.hear_records(&[open(0, part("more than ten bytes"))]);
    assert!(matches!(side.events()[..], [Event::Request(_)]));
    assert_eq!(side.read_all(StreamId::Request(incoming(0))), (b"more than ten bytes".to_vec(), false));
}

#[test]
fn a_body_over_the_limit_is_refused_by_its_declaration_or_where_it_exceeds_it() {
    let (mut a, mut b) = pair2(two(), ConnectionConfig { max_body: 100_000, ..two() });
    let up = a.invoke_streamed();
    a.write(up, body(100_001)).unwrap();
    let events = exchange_collecting(&mut a, &mut b);
    let too_large = |size| ReadError::TooLarge { size, limit: 100_000 };
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Reassembled { body: Err(ReadError::TooLarge { .. }), .. })),
        "{events:?}"
    );
    let mut side = binder(ConnectionConfig { max_body: 100_000, ..two() });
    let options = Options { size: Some(100_001), ..Options::default() };
    let (method, key) = ("m".into(), OrderingKey::none());
    side.hear_records(&[Record::Open { call: 0, method, key, options, piece: part("") }]);
    let asked = request(&mut side);
    side.collect(theirs(&asked));
    assert_eq!(side.collected(), Err(too_large(100_001)));
    // For a result, that ends the call.
    let mut side = binder(ConnectionConfig { max_body: 100_000, ..two() });
    let call = side.invoke("m");
    side.sent();
    let options = Options { size: Some(100_001), ..Options::default() };
    side.hear_records(&[Record::Result { call: 1, options, piece: part("") }]);
    side.events();
    side.collect(StreamId::Call(call));
    let error = DecodeError::TooLarge { what: "a body", size: 100_001, limit: 100_000 };
    assert_eq!(side.events().last(), Some(&ended(call, Outcome::Malformed(error))));
    assert_eq!(side.sent_records(), [Record::Cancel { call: 1 }]);
}

/// The streams that asked for memory, with their bytes, in the order in which they asked.
fn wanted(side: &mut Side) -> Vec<(StreamId, usize)> {
    let told = side.told().into_iter();
    told.filter_map(|event| match event {
        EndpointEvent::ReassemblyWanted { stream, bytes, .. } => Some((stream, bytes)),
        _ => None,
    })
    .collect()
}

/// The streams that no longer need memory.
fn freed(side: &mut Side) -> Vec<StreamId> {
    let told = side.told().into_iter();
    told.filter_map(|event| match event {
        EndpointEvent::ReassemblyEnded { stream, .. } => Some(stream),
        _ => None,
    })
    .collect()
}

fn open_sized(call: u64, size: Option<u64>) -> Record {
    let options = Options { size, ..Options::default() };
    Record::Open { call, method: "m".into(), key: OrderingKey::none(), options, piece: part("") }
}

#[test]
fn bodies_wait_for_memory_and_are_reassembled_when_there_is_some() {
    let (mut a, mut b) = pair2(two(), two());
    b.endpoint.grants = false;
    for _ in 0..4 {
        a.connection.invoke(a.now, new_call("m", body(100_000))).unwrap();
    }
    // Deliver a part of each, so that none is complete.
    let packets = a.sent();
    let (early, late) = packets.split_at(4);
    early.iter().for_each(|packet| b.hear(packet.clone()));
    let requests: Vec<Request> = std::iter::from_fn(|| b.event())
        .filter_map(|event| if let Event::Request(request) = event { Some(request) } else { None })
        .collect();
    assert_eq!(requests.len(), 4);
    let held = b.connection.held_bytes();
    requests.iter().for_each(|request| b.collect(theirs(request)));
    let all: Vec<StreamId> = requests.iter().map(theirs).collect();
    assert_eq!(wanted(&mut b), [0, 1, 2, 3].map(|n| (all[n], 100_000)));
    assert_eq!(b.connection.held_bytes(), held, "none has memory");
    all[..2].iter().for_each(|id| b.decide(ConnectionEvent::Reassemble(*id)));
    assert!(b.connection.held_bytes() < held || held == 0, "two have");
    late.iter().for_each(|packet| b.hear(packet.clone()));
    exchange(&mut a, &mut b);
    let done = |b: &mut Side| -> Vec<StreamId> {
        let bodies = b.events().into_iter().filter_map(|event| match event {
            Event::Reassembled { stream, body: Ok(_) } => Some(stream),
            _ => None,
        });
        bodies.collect()
    };
    assert_eq!(done(&mut b), all[..2]);
    assert_eq!(freed(&mut b), all[..2]);
    assert!(b.connection.held_bytes() > 0, "the others wait");
    all[2..].iter().for_each(|id| b.decide(ConnectionEvent::Reassemble(*id)));
    exchange(&mut a, &mut b);
    assert_eq!(done(&mut b), all[2..]);
    assert_eq!(freed(&mut b), all[2..]);
    b.pass(KEPT_FOR);
    assert_eq!((b.connection.held_bytes(), b.connection.next_deadline()), (0, None));
}

/// The ways in which the reassembly of a body can be given up.
const GIVEN_UP: [&str; 5] = ["cancelled", "answered", "stopped", "answered at length", "aborted"];

#[test]
fn a_body_that_is_given_up_makes_room_for_others() {
    for (gives_up, has_memory) in GIVEN_UP.into_iter().flat_map(|way| [(way, true), (way, false)]) {
        let (mut a, mut b) = pair2(two(), two());
        b.endpoint.grants = false;
        let up = a.invoke_streamed();
        a.connection.invoke(a.now, new_call("m", body(100_000))).unwrap();
        exchange(&mut a, &mut b);
        let [first, second] = [request(&mut b), request(&mut b)];
        b.collect(theirs(&first));
        b.collect(theirs(&second));
        assert_eq!(wanted(&mut b), [(theirs(&first), 10 << 20), (theirs(&second), 100_000)]);
        if has_memory {
            b.decide(ConnectionEvent::Reassemble(theirs(&first)));
        }
        b.events();
        match (gives_up, up) {
            ("cancelled", StreamId::Call(call)) => {
                a.connection.abandon(call);
                exchange(&mut a, &mut b);
                b.connection.reply(first.id, Reply::Cancelled).unwrap();
            }
            ("answered", _) => assert!(b.connection.reply(first.id, ok("1")).is_ok()),
            ("answered at length", _) => {
                assert!(b.connection.reply(first.id, Reply::result(body(1 << 20))).is_ok())
            }
            ("aborted", StreamId::Call(call)) => {
                a.connection.send_stream(call).abort();
                exchange(&mut a, &mut b);
            }
            _ => b.connection.recv_stream(theirs(&first)).stop(),
        }
        exchange(&mut a, &mut b);
        assert_eq!(freed(&mut b), [theirs(&first)], "{gives_up}, {has_memory}: once");
        // Memory that is assigned too late has no effect.
        b.decide(ConnectionEvent::Reassemble(theirs(&first)));
        b.decide(ConnectionEvent::Reassemble(theirs(&second)));
        exchange(&mut a, &mut b);
        let collected = Event::Reassembled { stream: theirs(&second), body: Ok(body(100_000)) };
        assert!(b.events().contains(&collected), "{gives_up}");
        assert_eq!(freed(&mut b), [theirs(&second)], "{gives_up}");
        b.pass(KEPT_FOR);
        assert_eq!(b.connection.next_deadline(), None, "{gives_up}");
    }
}

#[test]
fn any_number_of_bodies_may_wait_for_room_and_be_complete() {
    let waiting = 5_000;
    let mut side = binder(ConnectionConfig { max_requests: waiting, ..two() });
    side.endpoint.grants = false;
    for n in 0..waiting as u64 {
        side.hear_records(&[open(2 * n, part("")), data(2 * n, 0, part("1"))]);
        let asked = request(&mut side);
        side.hear_records(&[data(2 * n, 1, whole("2"))]);
        side.events();
        side.collect(theirs(&asked));
    }
    let all = wanted(&mut side);
    assert_eq!(all.len(), waiting);
    assert!(all.iter().all(|(_, bytes)| *bytes == 2), "all of each has come, so its size is known");
    all.iter().for_each(|(id, _)| side.decide(ConnectionEvent::Reassemble(*id)));
    let events = side.events();
    assert_eq!(events.len(), waiting);
    assert!(events.iter().all(|event| matches!(event, Event::Reassembled { body: Ok(_), .. })));
    assert_eq!(freed(&mut side).len(), waiting);
}

#[test]
fn a_body_that_is_never_complete_is_dropped_by_age() {
    let mut side = binder(two());
    let options = Options { size: Some(128 * 1024), ..Options::default() };
    let (method, key) = ("m".into(), OrderingKey::none());
    side.hear_records(&[Record::Open { call: 0, method, key, options, piece: part("") }]);
    let asked = request(&mut side);
    side.collect(theirs(&asked));
    side.pass(31 * SECOND);
    side.hear_records(&[data(0, 0, part("progress does not extend it"))]);
    assert_eq!(side.events(), []);
    side.pass(SECOND);
    assert_eq!(side.collected(), Err(ReadError::TimedOut));
    side.hear_records(&[data(0, 27, part("too late"))]);
    assert_eq!((side.connection.held_bytes(), side.events()), (0, vec![]));
    // Cancelling a call removes the timer of its body.
    let options = Options { size: Some(128 * 1024), ..Options::default() };
    let (method, key) = ("m".into(), OrderingKey::none());
    side.hear_records(&[Record::Open { call: 2, method, key, options, piece: part("") }]);
    let asked = request(&mut side);
    side.collect(theirs(&asked));
    side.hear_records(&[Record::Cancel { call: 2 }]);
    side.connection.reply(asked.id, Reply::Cancelled).unwrap();
    assert_eq!(side.connection.next_deadline(), None);
}

#[test]
fn a_body_has_its_time_from_its_turn_on() {
    let mut side = binder(ConnectionConfig { max_body: 192 * 1024, ..two() });
    side.endpoint.grants = false;
    for (call, size) in [(0, Some(128 * 1024)), (2, Some(64 * 1024)), (4, None)] {
        side.hear_records(&[open_sized(call, size)]);
        let asked = request(&mut side);
        side.collect(theirs(&asked));
    }
    let waiting = wanted(&mut side);
    assert_eq!(waiting.iter().map(|(_, bytes)| *bytes / 1024).collect::<Vec<_>>(), [128, 64, 192]);
    // A body of unknown size counts with the limit.
    for ((id, _), seconds) in waiting.into_iter().zip([32, 31, 33]) {
        side.pass(100 * SECOND);
        assert_eq!(side.events(), [], "it has no memory");
        side.decide(ConnectionEvent::Reassemble(id));
        side.pass((seconds - 1) * SECOND);
        assert_eq!(side.events(), []);
        side.pass(SECOND);
        assert_eq!(side.collected(), Err(ReadError::TimedOut));
        assert_eq!(freed(&mut side), [id]);
    }
    assert_eq!(side.connection.next_deadline(), None);
}

#[test]
fn a_window_that_was_widened_makes_room_for_others_when_its_body_is_complete() {
    let config = ConnectionConfig { stream_window: 20_000, connection_window: 1_000_000, ..two() };
    let (mut a, mut b) = pair2(two(), config);
    b.connection.calls.flow().set_round_trip(Duration::from_secs(1));
    let room = b.connection.calls.flow().growth_left;
    a.connection.invoke(a.now, new_call("m", body(1 << 20))).unwrap();
    let events = exchange_collecting(&mut a, &mut b);
    assert!(matches!(events[..], [Event::Request(_), Event::Reassembled { body: Ok(_), .. }]));
    assert_eq!(b.connection.calls.flow().growth_left, room);
}

#[test]
fn compressed_bodies_come_out_as_they_were() {
    let (mut a, mut b) = pair2(two(), two());
    let zeros = Bytes::from(vec![0; 1 << 20]);
    a.connection.invoke(a.now, Call { compressed: true, ..new_call("m", zeros.clone()) }).unwrap();
    let sent: usize = {
        let packets = a.sent();
        let sizes = packets.iter().map(Multipart::size).sum();
        packets.into_iter().for_each(|packet| b.hear(packet));
        sizes
    };
    assert!(sent < 100_000, "{sent} bytes for what the window allows");
    let events = exchange_collecting(&mut a, &mut b);
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Reassembled { body: Ok(body), .. } if *body == zeros))
    );
}

#[test]
fn a_body_whose_turn_comes_after_a_quiet_spell_has_all_of_its_time() {
    for gives_up in ["stopped", "answered", "refused"] {
        let mut side = binder(two());
        side.endpoint.grants = false;
        side.hear_records(&[open_sized(0, Some(128 * 1024)), open_sized(2, Some(64 * 1024))]);
        let [first, second] = [request(&mut side), request(&mut side)];
        side.collect(theirs(&first));
        side.collect(theirs(&second));
        side.decide(ConnectionEvent::Reassemble(theirs(&first)));
        side.sent();
        // Nothing happens until the first body is given up, a second before its timeout.
        side.now += 31 * SECOND;
        match gives_up {
            "stopped" => side.connection.recv_stream(theirs(&first)).stop(),
            "answered" => assert!(side.connection.reply(first.id, Reply::Cancelled).is_ok()),
            _ => side.decide(ConnectionEvent::Refuse { request: first.id, reason: busy() }),
        }
        assert_eq!(freed(&mut side), [theirs(&first)], "{gives_up}");
        side.decide(ConnectionEvent::Reassemble(theirs(&second)));
        side.sent();
        let due = side.now + 31 * SECOND;
        assert_eq!(side.connection.next_deadline(), Some(due), "{gives_up}: 30 s, and 1 s for 64 KiB");
        side.pass(31 * SECOND - Duration::from_nanos(1));
        assert_eq!(side.events(), [], "{gives_up}");
        side.pass(Duration::from_nanos(1));
        assert_eq!(side.collected(), Err(ReadError::TimedOut), "{gives_up}");
    }
}

/// A call of this side whose result has begun, with the text "some".
fn begun_result() -> (Side, CallId) {
    let mut side = binder(ConnectionConfig { max_body: 10, ..two() });
    let call = side.invoke("m");
    side.sent();
    side.hear_records(&[Record::Result { call: 1, options: Options::default(), piece: part("some") }]);
    assert_eq!(side.events(), [Event::Response { call, metadata: Metadata::new(), size: None }]);
    (side, call)
}

#[test]
fn what_was_stopped_can_not_be_put_together() {
    let (mut side, call) = begun_result();
    let ours = StreamId::Call(call);
    assert_eq!(side.connection.recv_stream(ours).unread(), 4);
    side.connection.recv_stream(ours).stop();
    assert_eq!(side.connection.recv_stream(ours).unread(), 0);
    assert_eq!(side.connection.recv_stream(ours).reassemble(), Err(ReadError::NotOpen));
    assert_eq!(
        (side.events(), side.connection.open_calls()),
        (vec![], 1),
        "nothing has ended, least of all in time"
    );
    assert_eq!(side.connection.next_deadline(), None);
    assert!(side.connection.abandon(call));

    let mut side = binder(two());
    side.hear_records(&[open(0, part("some"))]);
    let asked = request(&mut side);
    side.connection.recv_stream(theirs(&asked)).stop();
    assert_eq!(side.connection.recv_stream(theirs(&asked)).reassemble(), Err(ReadError::NotOpen));
    assert_eq!((side.events(), side.connection.next_deadline()), (vec![], None));
}

#[test]
fn a_body_comes_before_the_end_of_its_call_whether_it_is_complete_or_not() {
    let collected = |call, body| Event::Reassembled { stream: StreamId::Call(call), body };
    let (mut side, call) = begun_result();
    side.collect(StreamId::Call(call));
    side.hear_records(&[data(1, 4, whole(" more"))]);
    let body = Ok("some more".into());
    assert_eq!(side.events(), [collected(call, body), ended(call, Outcome::Complete)]);

    let (mut side, call) = begun_result();
    side.collect(StreamId::Call(call));
    side.hear_records(&[data(1, 4, whole(" and too much"))]);
    let (size, limit) = (17, 10);
    let error = DecodeError::TooLarge { what: "a body", size, limit };
    let body = Err(ReadError::TooLarge { size: 17, limit });
    assert_eq!(side.events(), [collected(call, body), ended(call, Outcome::Malformed(error))]);

    let (mut side, call) = begun_result();
    side.collect(StreamId::Call(call));
    side.pass(SECOND * 60);
    let outcome = Outcome::TimedOut { sent: true };
    assert_eq!(side.events(), [collected(call, Err(ReadError::TimedOut)), ended(call, outcome)]);
}

/// Each side waits for credit that the other grants once its handler has started.
#[test]
fn arguments_that_wait_for_credit_keep_no_request_from_its_start() {
    let config = || ConnectionConfig { max_outgoing_bytes: 50_000, first_window: 20_000, ..two() };
    let (mut a, mut b) = pair2(config(), config());
    for side in [&mut a, &mut b] {
        side.connection.invoke(side.now, new_call("m", body(200_000))).unwrap();
        assert!(side.connection.is_backlogged(), "it has not begun to leave");
    }
    exchange(&mut a, &mut b);
    for side in [&mut a, &mut b] {
        assert!(side.connection.queued_bytes() > 50_000 && !side.connection.is_backlogged());
        let call = side.connection.invoke(side.now, new_call("m", body(1)));
        assert!(matches!(call, Err(InvokeError::QueueFull { .. })), "{call:?}");
        let Some(Event::Request(request)) = side.event() else { panic!("it starts") };
        assert!(matches!(request.body, Body::Stream { .. }), "{request:?}");
    }
}
