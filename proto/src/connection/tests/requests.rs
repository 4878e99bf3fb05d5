use super::dialect2::{binder, open, part, request, two, whole};
use super::*;

#[test]
fn a_request_is_handed_out_as_it_came_and_its_reply_echoes_the_name() {
    for key in [
        OrderingKey::none(),
        OrderingKey::text(""),
        OrderingKey::text("k"),
        OrderingKey::binary(&b"\xff"[..]),
    ] {
        let mut side = Side::established(config());
        side.hear(keyed(5, "m", key.clone(), Payload::Function(b"arg"[..].into())));
        let Some(Event::Request(request)) = side.event() else { panic!("a request") };
        assert_eq!((&*request.method, &request.key), ("m", &key));
        assert_eq!(request.body, Body::Whole("arg".into()));
        let arrival =
            Arrival { request: request.id, key: key.clone(), bytes: 4 + key.as_bytes().len(), ready: true };
        assert_eq!(side.arrival(), arrival);
        assert_eq!(side.connection.open_requests(), 1);
        side.connection.reply(request.id, ok("1")).unwrap();
        assert_eq!(side.connection.reply(request.id, ok("2")), Err(ReplyError::NotOpen));
        assert_eq!(side.sent(), [keyed(5, "m", key, result("1"))]);
        assert!(side.connection.is_idle());
    }
}

#[test]
fn every_reply_travels_as_what_it_is() {
    let mut side = Side::established(config());
    let info = ErrorInfo { traceback: "tb".into(), ..ErrorInfo::new("n", "r") };
    let cases = [
        (ok("1"), result("1"), false),
        (
            Reply::Result { body: b"1"[..].into(), compressed: true, metadata: Metadata::new() },
            result("1"),
            true,
        ),
        (Reply::Failure(info.clone().into()), Payload::Failure(info.clone()), false),
        (Reply::Error(info.clone().into()), Payload::Error(info), false),
        (Reply::Cancelled, Payload::Cancelled, false),
    ];
    for (reply, payload, compressed) in cases {
        let id = side.asked(1);
        side.connection.reply(id, reply).unwrap();
        let message = side.sent().into_iter().find_map(read).unwrap();
        assert_eq!((message.payload, message.compressed), (payload, compressed));
    }
}

#[test]
fn replies_leave_in_the_order_in_which_they_are_given() {
    let mut side = Side::established(config());
    let ids: Vec<_> = (0..5).map(|seq| side.asked(seq)).collect();
    for at in [3, 0, 4, 1, 2] {
        side.connection.reply(ids[at], Reply::Cancelled).unwrap();
    }
    assert_eq!(side.said().into_iter().map(|(seq, _)| seq).collect::<Vec<_>>(), [3, 0, 4, 1, 2]);
}

#[test]
fn a_request_with_the_name_of_an_open_one_is_dropped() {
    let mut side = Side::established(config());
    let id = side.asked(1);
    side.hear_message(1, "m", Payload::Function(b"again"[..].into()));
    assert_eq!(side.events(), [Event::Anomaly(Anomaly::DuplicateRequest)]);
    assert_eq!((side.sent(), side.connection.open_requests()), (vec![], 1));
    // With another method or key, the name is another one.
    side.hear_message(1, "n", Payload::Function(Bytes::new()));
    side.hear(keyed(1, "m", OrderingKey::text(""), Payload::Function(Bytes::new())));
    assert_eq!(side.events().len(), 2);
    side.connection.reply(id, ok("1")).unwrap();
    side.asked(1);
    assert_eq!(side.connection.open_requests(), 3);
}

#[test]
fn a_cancellation_is_reported_once_and_only_for_an_open_request() {
    let mut side = Side::established(config());
    let id = side.asked(1);
    let unknown = [Event::Anomaly(Anomaly::UnknownCancel)];
    for (seq, method) in [(2, "m"), (1, "n")] {
        side.hear_message(seq, method, Payload::Cancel);
        assert_eq!(side.events(), unknown);
    }
    side.hear_message(1, "m", Payload::Cancel);
    assert_eq!(side.events(), [Event::Stop { request: id, reason: StopReason::Cancelled }]);
    side.hear_message(1, "m", Payload::Cancel);
    assert_eq!(side.events(), unknown);
    side.connection.reply(id, Reply::Cancelled).unwrap();
    assert_eq!(side.said(), [(1, Payload::Cancelled)]);
    side.hear_message(1, "m", Payload::Cancel);
    assert_eq!((side.events(), side.sent()), (unknown.to_vec(), vec![]));
}

/// The name of an answered call is free, so the CANCEL comes too late, and the answer leaves as it was given.
#[test]
fn a_long_result_that_is_cancelled_before_it_leaves_is_answered_once() {
    let mut side = Side::established(config());
    let id = side.asked(1);
    let long = Bytes::from(vec![7; 100 << 10]);
    side.connection.reply(id, Reply::result(long.clone())).unwrap();
    side.hear_message(1, "m", Payload::Cancel);
    assert_eq!(side.events(), [Event::Anomaly(Anomaly::UnknownCancel)]);
    assert_eq!(side.said(), [(1, Payload::Result(long))]);
    assert!(side.connection.is_idle());
}

#[test]
fn a_cancelled_call_comes_out_as_cancelled_on_the_other_side() {
    let (mut a, mut b) = pair(config(), config());
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let Some(Event::Request(request)) = b.event() else { panic!("a request") };
    a.connection.abandon(call);
    exchange(&mut a, &mut b);
    assert_eq!(b.events(), [Event::Stop { request: request.id, reason: StopReason::Cancelled }]);
    b.connection.reply(request.id, Reply::Cancelled).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [Event::Anomaly(Anomaly::UnknownReply)]);
    assert!(a.connection.is_idle() && b.connection.is_idle());
}

#[test]
fn what_can_not_be_read_is_answered_where_its_name_can() {
    let mut side = Side::established(ConnectionConfig { max_body: 3, ..config() });
    side.hear_message(1, "m", Payload::Function(b"1234"[..].into()));
    let [marker, header, _] = message(2, "m", Payload::Function(Bytes::new())).into_three().unwrap();
    side.hear(Multipart::new(marker, header, Bytes::from_static(b"\xc1")));
    let too_large = DecodeError::TooLarge { what: "a body", size: 4, limit: 3 };
    let wrong_type = DecodeError::WrongType { field: "body" };
    assert_eq!(
        side.events(),
        [Event::Anomaly(Anomaly::Body(too_large)), Event::Anomaly(Anomaly::Body(wrong_type))]
    );
    let refusals: Vec<_> = side
        .said()
        .into_iter()
        .map(|(seq, payload)| match payload {
            Payload::Error(info) => (seq, Refusal::of(&info)),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(refusals, [(1, Some(Refusal::BodyTooLarge)), (2, Some(Refusal::MalformedBody))]);
    assert_eq!(side.connection.open_requests(), 0);
}

#[test]
fn what_names_no_call_is_dropped_and_the_link_lives_on() {
    let mut side = Side::established(config());
    let header = Bytes::from_static(b"\xc1");
    side.hear(Multipart::new(UPPER, header, Bytes::new()));
    let error = DecodeError::WrongType { field: "header" };
    assert_eq!(side.events(), [Event::Anomaly(Anomaly::Header(error))]);
    for frames in [&["UPPER"][..], &["PING", ""], &["", "", ""], &["upper", "", ""]] {
        let frames = frames.iter().map(|frame| Bytes::from_static(frame.as_bytes()));
        side.hear(Multipart::from_frames(frames).unwrap());
        assert_eq!(side.events(), [Event::Anomaly(Anomaly::NotAMessage)]);
    }
    side.hear(Multipart::default());
    assert_eq!(side.events(), [Event::Anomaly(Anomaly::NotAMessage)]);
    assert!(side.sent().is_empty());
    side.asked(1);
}

#[test]
fn an_execution_has_so_much_time() {
    let mut side = Side::established(ConnectionConfig { execution_timeout: Some(SECOND), ..config() });
    side.endpoint.starts = false;
    for seq in [1, 2] {
        side.hear_message(seq, "m", Payload::Function(Bytes::new()));
    }
    let [EndpointEvent::Arrived(slow), EndpointEvent::Arrived(quick)] = &side.told()[..] else { panic!() };
    let (slow, quick) = (slow.request, quick.request);
    side.pass(SECOND * 100);
    assert_eq!(side.events(), [], "it counts from the start on");
    let at = side.now + SECOND;
    side.decide(ConnectionEvent::Start(slow));
    side.decide(ConnectionEvent::Start(quick));
    let started = side.events();
    assert!(
        matches!(&started[..], [Event::Request(first), Event::Request(second)]
            if first.deadline == Some(at) && second.deadline == Some(at)),
        "{started:?}"
    );
    side.now += SECOND / 2;
    side.decide(ConnectionEvent::Start(slow));
    side.decide(ConnectionEvent::Start(incoming(99)));
    assert_eq!((side.events(), side.connection.next_deadline()), (vec![], Some(at)), "it starts once");
    side.connection.reply(quick, ok("1")).unwrap();
    side.pass(SECOND / 2);
    assert_eq!(side.events(), [Event::Stop { request: slow, reason: StopReason::ExecutionTimedOut }]);
    let told = side.told();
    let [
        EndpointEvent::NeverRan(unknown),
        EndpointEvent::Withdrawn { request, reply: Reply::Error(info), .. },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(*unknown, incoming(99));
    assert_eq!((*request, Refusal::of(info)), (slow, Some(Refusal::ExecutionTimedOut)));
    side.decide(ConnectionEvent::Start(slow));
    assert_eq!(side.connection.next_deadline(), None, "it is reported once");
    side.connection.reply(slow, Refusal::ExecutionTimedOut.reply("after 1 s")).unwrap();
    assert_eq!(side.said().len(), 2);
    assert_eq!(side.events(), []);
}

#[test]
fn a_refusal_is_known_by_its_name() {
    for refusal in Refusal::ALL {
        assert_eq!(Refusal::of(&refusal.to_error("detail")), Some(refusal));
        let ran =
            [Refusal::ReplyTooLarge, Refusal::ExecutionTimedOut, Refusal::Unsupported].contains(&refusal);
        assert_eq!(refusal.may_have_run(), ran);
    }
    assert_eq!(Refusal::of(&ErrorInfo::new("KeyError", "Busy")), None);
}

#[test]
fn the_body_of_a_cancellation_is_not_read() {
    let mut side = Side::established(config());
    let id = side.asked(1);
    let [marker, header, _] = message(1, "m", Payload::Cancel).into_three().unwrap();
    side.hear(Multipart::new(marker, header, Bytes::from_static(b"\xc1")));
    assert_eq!(side.events(), [Event::Stop { request: id, reason: StopReason::Cancelled }]);
}

#[test]
fn a_cancelled_request_may_be_answered_with_what_it_came_to() {
    let mut side = Side::established(config());
    let id = side.asked(1);
    side.hear_message(1, "m", Payload::Cancel);
    assert_eq!(side.events(), [Event::Stop { request: id, reason: StopReason::Cancelled }]);
    side.connection.reply(id, ok("1")).unwrap();
    assert_eq!(side.said(), [(1, result("1"))]);
}

/// Its reply may wait for its order for long, and no limit counts the request in that time.
#[test]
fn a_request_that_is_withdrawn_while_it_waits_keeps_nothing_but_its_name() {
    let mut side = Side::established(config());
    side.endpoint.starts = false;
    let (key, body) = (OrderingKey::text("k"), Bytes::from(vec![b'x'; 1 << 20]));
    let frames = keyed(1, "m", key.clone(), Payload::Function(body)).into_three().unwrap();
    let [_, header, kept] = frames.clone();
    side.hear(Multipart::from_frames(frames).unwrap());
    let id = side.arrival().request;
    assert!(!kept.is_unique(), "the argument waits");
    side.hear(keyed(1, "m", key.clone(), Payload::Cancel));
    assert!(kept.is_unique() && header.is_unique(), "it is gone, and its name is a copy");
    // The endpoint started it before the withdrawal arrived.
    side.decide(ConnectionEvent::Start(id));
    let told = side.told();
    assert!(matches!(told[..], [EndpointEvent::Withdrawn { .. }, EndpointEvent::NeverRan(_)]), "{told:?}");
    assert_eq!(side.events(), []);
    assert_eq!(side.sent(), [keyed(1, "m", key, Payload::Cancelled)]);
    assert!(side.connection.is_idle());
}

/// The endpoint no longer counts it, whether it has started the request meanwhile or not.
#[test]
fn a_request_that_is_answered_before_it_starts_never_starts() {
    for reply in [ok("1"), Reply::result(vec![7; 100_000])] {
        let mut side = binder(ConnectionConfig::default());
        side.endpoint.starts = false;
        for (call, argument, is_ready) in [(0, whole("x"), true), (2, part("x"), false)] {
            side.hear_records(&[open(call, argument)]);
            let EndpointEvent::Arrived(arrival) = side.told().remove(0) else { panic!("it arrives") };
            assert_eq!(arrival.ready, is_ready);
            let id = arrival.request;
            assert_eq!(side.connection.reply(id, reply.clone()), Ok(Replied::AsGiven));
            assert_eq!(side.connection.reply(id, ok("2")), Err(ReplyError::NotOpen));
            // The two events have crossed.
            side.decide(ConnectionEvent::Start(id));
            let told = side.told();
            let never_ran =
                told.iter().filter(|event| matches!(event, EndpointEvent::NeverRan(of) if *of == id));
            assert_eq!(never_ran.count(), 2, "{told:?}");
            assert_eq!(side.events(), []);
        }
    }
}

/// Its result may have been held since before the timeout, and is of no use once the caller has given up.
#[test]
fn the_endpoint_learns_of_a_cancellation_after_an_execution_timeout() {
    let mut side = Side::established(ConnectionConfig { execution_timeout: Some(SECOND), ..config() });
    let id = side.asked(1);
    side.told();
    side.pass(SECOND);
    side.hear_message(1, "m", Payload::Cancel);
    assert_eq!(side.events(), [Event::Stop { request: id, reason: StopReason::ExecutionTimedOut }]);
    let told = side.told();
    let reasons: Vec<_> = told
        .iter()
        .map(|event| match event {
            EndpointEvent::Withdrawn { reason, .. } => *reason,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(reasons, [StopReason::ExecutionTimedOut, StopReason::Cancelled]);
    side.connection.reply(id, Reply::Cancelled).unwrap();
    assert_eq!(side.said(), [(1, Payload::Cancelled)]);
    assert_eq!(side.connection.next_deadline().filter(|at| *at < side.now + SECOND), None);
}

#[test]
fn the_id_of_a_request_of_another_connection_names_none_of_this_one() {
    let mut side = binder(two());
    side.endpoint.starts = false;
    side.hear_records(&[open(0, part("argument"))]);
    let foreign = RequestId::new(ConnectionId(8), 0);
    let reassemble = ConnectionEvent::Reassemble(foreign.into());
    let reply = ConnectionEvent::Reply { request: foreign, reply: ok("1") };
    for event in [
        ConnectionEvent::Start(foreign),
        ConnectionEvent::MayReply(foreign),
        ConnectionEvent::Refuse { request: foreign, reason: busy() },
        reassemble,
        reply,
    ] {
        side.decide(event);
    }
    assert_eq!((side.events(), side.sent_records()), (vec![], vec![]));

    let ours = incoming(0);
    side.decide(ConnectionEvent::Start(ours));
    assert_eq!(request(&mut side).id, ours);
    let connection = &mut side.connection;
    assert!(connection.is_open(ours) && !connection.is_open(foreign));
    assert_eq!(connection.reply(foreign, ok("1")), Err(ReplyError::NotOpen));
    let begun = connection.begin_reply(foreign, false, Metadata::new(), None);
    assert_eq!(begun, Err(ReplyError::NotOpen));
    connection.begin_reply(ours, false, Metadata::new(), None).unwrap();
    let write = connection.send_stream(foreign).write("1".into(), true);
    assert_eq!(write, Err(WriteError::NotOpen));
    assert_eq!(connection.recv_stream(foreign).read(side.now), Err(ReadError::NotOpen));
    assert_eq!(connection.recv_stream(foreign).reassemble(), Err(ReadError::NotOpen));
    connection.recv_stream(foreign).stop();
    let read = connection.recv_stream(ours).read(side.now);
    assert!(matches!(read, Ok(Poll::Ready(Some(chunk))) if chunk.bytes == "argument"));
    connection.send_stream(ours).write("1".into(), true).unwrap();
}
