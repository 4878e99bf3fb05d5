use super::*;

#[test]
fn a_call_ends_as_the_peer_says() {
    let mut side = Side::established(config());
    let info = ErrorInfo { traceback: "tb".into(), ..ErrorInfo::new("ZeroDivisionError", "by zero") };
    let cases = [
        (result("2"), Outcome::Result(b"2"[..].into())),
        (Payload::Failure(info.clone()), Outcome::Failure(info.clone().into())),
        (Payload::Error(info.clone()), Outcome::Error(info.into())),
        (Payload::Cancelled, Outcome::Cancelled),
    ];
    for (payload, outcome) in cases {
        let call = side.invoke_for("m", 1);
        let seq = call.0 as u32;
        assert_eq!(side.said(), [(seq, Payload::Function(b"1"[..].into()))]);
        side.hear_message(seq, "m", payload.clone());
        assert_eq!(side.events(), [ended(call, outcome)]);
        assert!(side.connection.is_idle() && side.connection.next_deadline().is_none());
        side.hear_message(seq, "m", payload);
        assert_eq!(side.events(), [Event::Anomaly(Anomaly::UnknownReply)], "a second reply");
    }
}

#[test]
fn calls_leave_in_the_order_in_which_they_were_made() {
    let mut side = Side::established(config());
    let calls: Vec<_> = (0..100).map(|_| side.invoke("m").0 as u32).collect();
    assert_eq!(side.said().into_iter().map(|(seq, _)| seq).collect::<Vec<_>>(), calls);
}

#[test]
fn a_reply_must_name_seq_method_and_key() {
    let mut side = Side::established(config());
    let keyed_call = Call { key: OrderingKey::text("k"), ..call("m") };
    let id = side.connection.invoke(side.now, keyed_call).unwrap();
    let seq = id.0 as u32;
    let key = OrderingKey::text("k");
    side.hear(keyed(seq, "m", key.clone(), result("too early")));
    assert_eq!(side.events(), [Event::Anomaly(Anomaly::UnknownReply)], "the request has not left");
    side.sent();
    for (seq, method, key) in [
        (seq + 1, "m", key.clone()),
        (seq, "n", key.clone()),
        (seq, "m", OrderingKey::none()),
        (seq, "m", OrderingKey::binary(&b"k"[..])),
        (seq, "m", OrderingKey::text("l")),
    ] {
        side.hear(keyed(seq, method, key, result("1")));
        assert_eq!(side.events(), [Event::Anomaly(Anomaly::UnknownReply)]);
    }
    side.hear(keyed(seq, "m", key, result("1")));
    assert_eq!(side.events(), [ended(id, Outcome::Result(b"1"[..].into()))]);
}

#[test]
fn a_reply_that_can_not_be_read_ends_the_call() {
    let mut side = Side::established(ConnectionConfig { max_body: 3, ..config() });
    let (large, broken) = (side.invoke("m"), side.invoke("m"));
    side.sent();
    side.hear_message(large.0 as u32, "m", result("1234"));
    let error = DecodeError::TooLarge { what: "a body", size: 4, limit: 3 };
    assert_eq!(side.events(), [ended(large, Outcome::Malformed(error))]);
    let [marker, header, _] = message(broken.0 as u32, "m", result("")).into_three().unwrap();
    side.hear(Multipart::new(marker, header, Bytes::new()));
    assert_eq!(side.events(), [ended(broken, Outcome::Malformed(DecodeError::Truncated))]);
}

#[test]
fn a_call_abandoned_before_it_left_never_leaves() {
    let mut side = Side::established(config());
    let call = side.invoke_for("m", 1);
    assert!(side.connection.abandon(call));
    assert!(!side.connection.abandon(call));
    assert_eq!((side.sent(), side.events()), (vec![], vec![]));
    assert!(side.connection.is_idle() && side.connection.next_deadline().is_none());
    assert_eq!(side.connection.queued_bytes(), 0);
}

#[test]
fn a_call_abandoned_after_it_left_is_cancelled_once_and_not_waited_for() {
    let mut side = Side::established(config());
    let (call, other) = (side.invoke_for("m", 1), side.invoke("n"));
    let seq = call.0 as u32;
    assert_eq!(side.said().len(), 2);
    assert!(side.connection.abandon(call));
    assert_eq!((side.connection.open_calls(), side.connection.next_deadline()), (1, None));
    assert!(!side.connection.abandon(call));
    assert_eq!(side.said(), [(seq, Payload::Cancel)]);
    for late in [Payload::Cancelled, result("late")] {
        side.hear_message(seq, "m", late);
        assert_eq!(side.events(), [Event::Anomaly(Anomaly::UnknownReply)]);
    }
    assert!(side.connection.abandon(other));
    assert!(!side.connection.is_idle(), "the CANCEL waits");
    assert_eq!(side.said(), [(other.0 as u32, Payload::Cancel)]);
    assert!(side.connection.is_idle());
}

#[test]
fn a_cancel_overtakes_what_waits() {
    let mut side = Side::established(config());
    let first = side.invoke("m");
    side.sent();
    let second = side.invoke("m");
    side.connection.abandon(first);
    let order: Vec<_> = side.said().into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(order, [first.0 as u32, second.0 as u32]);
}

#[test]
fn a_deadline_ends_a_call_once() {
    let mut side = Side::established(config());
    let sent = side.invoke_for("sent", 2);
    side.said();
    let queued = side.invoke_for("queued", 1);
    assert_eq!(side.connection.next_deadline(), Some(side.now + SECOND));
    side.pass(SECOND);
    assert_eq!(side.events(), [ended(queued, Outcome::TimedOut { sent: false })]);
    assert!(side.sent().is_empty(), "nothing to cancel");
    side.pass(SECOND - Duration::from_nanos(1));
    assert_eq!(side.events(), []);
    side.pass(Duration::from_nanos(1));
    assert_eq!(side.events(), [ended(sent, Outcome::TimedOut { sent: true })]);
    assert_eq!(side.said(), [(sent.0 as u32, Payload::Cancel)]);
    side.hear_message(sent.0 as u32, "sent", result("late"));
    assert_eq!(side.events(), [Event::Anomaly(Anomaly::UnknownReply)]);
    assert!(!side.connection.abandon(sent) && side.connection.is_idle());
}

#[test]
fn a_deadline_that_has_passed_ends_a_call_at_once() {
    let mut side = Side::established(config());
    let call = side.invoke_for("m", 0);
    assert_eq!(side.events(), [ended(call, Outcome::TimedOut { sent: false })]);
    assert!(side.connection.is_idle() && side.sent().is_empty());
    assert_ne!(side.invoke("m"), call);
}

#[test]
fn many_deadlines_at_once_all_end() {
    let mut side = Side::established(config());
    let calls: Vec<_> = (0..50).map(|_| side.invoke_for("m", 1)).collect();
    side.pass(SECOND * 9);
    let expected: Vec<_> =
        calls.into_iter().map(|call| ended(call, Outcome::TimedOut { sent: false })).collect();
    assert_eq!(side.events(), expected);
}

#[test]
fn the_counter_wraps_and_passes_over_calls_that_live() {
    let first = CallId((7 << 32) | (u64::from(u32::MAX) - 1));
    let mut side = Side::starting_at(Role::Binder, config(), first);
    side.connection.handle_connected(side.now);
    side.hear(Multipart::new(PING, Bytes::new(), Bytes::new()));
    side.events();
    let calls: Vec<_> = (0..4).map(|_| side.invoke("m")).collect();
    assert_eq!(calls, [first, CallId(first.0 + 1), CallId(8 << 32), CallId((8 << 32) + 1)]);
    let seqs: Vec<_> = side.said().into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, [u32::MAX - 1, u32::MAX, 0, 1]);

    // After a wrap, `seq` 0 and 1 are still in use, and then the next one is.
    let mut side = Side::starting_at(Role::Binder, config(), CallId(0));
    side.connection.handle_connected(side.now);
    side.hear(Multipart::new(PING, Bytes::new(), Bytes::new()));
    let old: Vec<_> = (0..3).map(|_| side.invoke("old")).collect();
    side.sent();
    side.events();
    side.connection.calls.skip_to(CallId(u64::from(u32::MAX)));
    side.connection.abandon(old[1]);
    let new: Vec<_> = (0..3).map(|_| side.invoke("new")).collect();
    assert_eq!(new, [CallId(u64::from(u32::MAX)), CallId((1 << 32) + 1), CallId((1 << 32) + 3)]);
    assert_eq!(side.connection.next_call(), CallId((1 << 32) + 4));
    assert!(!side.connection.abandon(old[1]), "its successor is another call");
    side.sent();
    side.hear_message(1, "old", Payload::Cancelled);
    side.hear_message(0, "old", result("0"));
    side.hear_message(1, "new", result("1"));
    assert_eq!(
        side.events(),
        [
            Event::Anomaly(Anomaly::UnknownReply),
            ended(old[0], Outcome::Result(b"0"[..].into())),
            ended(new[1], Outcome::Result(b"1"[..].into())),
        ]
    );
}

#[test]
fn calls_outlive_a_link_whose_handshake_never_was_complete() {
    let mut side = Side::connected(Role::Connector, config());
    let nonces = |sent: Vec<Multipart>| -> Vec<_> {
        sent.iter().map(|ping| wire::Hello::decode(&ping.frames()[1]).unwrap().nonce).collect()
    };
    assert_eq!(nonces(side.sent()), [[1; NONCE_LEN]]);
    let call = side.invoke_for("m", 1);
    assert!(side.connection.handle_disconnected([8; NONCE_LEN]));
    assert!(side.connection.handle_disconnected([9; NONCE_LEN]), "it has no link now");
    assert_eq!((side.events(), side.sent()), (vec![], vec![]));
    side.connection.handle_connected(side.now);
    assert_eq!(nonces(side.sent()), [[9; NONCE_LEN]], "a new one for a new link");
    side.hear(Multipart::new(PONG, Bytes::from_static(b"x"), Bytes::new()));
    let error = DecodeError::WrongType { field: "hello" };
    assert_eq!(side.events(), [Event::Anomaly(Anomaly::Header(error))]);
    side.pass(SECOND);
    assert_eq!(side.events(), [ended(call, Outcome::TimedOut { sent: false })]);
    assert!(side.connection.is_idle());

    let mut side = Side::established(config());
    side.invoke("m");
    assert!(!side.connection.handle_disconnected([9; NONCE_LEN]), "it may have left");
    assert!(side.connection.is_established());
}

#[test]
fn closing_ends_every_call_and_says_which_had_left() {
    for cause in [CloseCause::Local, CloseCause::LinkLost] {
        let mut side = Side::established(config());
        let sent = side.invoke_for("m", 1);
        side.sent();
        let queued = side.invoke("m");
        let asked = side.asked(1);
        side.connection.close(cause);
        side.connection.close(CloseCause::Local);
        let outcome = |sent| Outcome::Disconnected { cause, sent };
        let stop = Event::Stop { request: asked, reason: StopReason::Disconnected };
        let expected =
            [ended(sent, outcome(true)), ended(queued, outcome(false)), stop, Event::Closed(cause)];
        assert_eq!(side.events(), expected);
        assert_eq!((side.connection.open_calls(), side.connection.open_requests()), (0, 0));
        assert!(
            side.connection.is_idle()
                && side.connection.is_closed()
                && side.connection.next_deadline().is_none()
        );

        assert_eq!(side.connection.invoke(side.now, call("m")), Err(InvokeError::Closed));
        assert_eq!(side.connection.ping(), Err(InvokeError::Closed));
        assert_eq!(side.connection.reply(asked, ok("1")), Err(ReplyError::NotOpen));
        assert!(!side.connection.abandon(sent));
        side.connection.handle_connected(side.now);
        side.connection.handle_write_blocked(side.now);
        side.hear_message(2, "m", Payload::Function(Bytes::new()));
        side.pass(SECOND * 100);
        assert_eq!((side.events(), side.sent()), (vec![], vec![]));
        assert_eq!(side.connection.next_call(), CallId(2), "what replaces it carries on");
    }
}

#[test]
fn draining_takes_no_new_calls_and_lets_the_others_end() {
    let (mut a, mut b) = pair(config(), config());
    let running = a.invoke("running");
    exchange(&mut a, &mut b);
    let Some(Event::Request(request)) = b.event() else { panic!("a request") };
    let queued = b.invoke("queued");
    b.connection.drain();
    assert_eq!(b.connection.invoke(b.now, call("m")), Err(InvokeError::Draining));
    let late = a.invoke("late");
    exchange(&mut a, &mut b);
    let events = a.events();
    let [Event::Request(asked), Event::Ended { call, outcome: Outcome::Error(info), .. }] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((*call, Refusal::of(info)), (late, Some(Refusal::ShuttingDown)));
    assert!(!b.connection.is_idle());
    a.connection.reply(asked.id, ok("1")).unwrap();
    b.connection.reply(request.id, ok("2")).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [ended(running, Outcome::Result(b"2"[..].into()))]);
    assert_eq!(b.events(), [ended(queued, Outcome::Result(b"1"[..].into()))]);
    assert!(a.connection.is_idle() && b.connection.is_idle());
}

#[test]
fn a_call_is_compressed_only_where_the_caller_asks_for_it() {
    let mut side = Side::established(config());
    for compressed in [false, true] {
        side.connection.invoke(side.now, Call { compressed, ..call("m") }).unwrap();
        let message = side.sent().into_iter().find_map(read).unwrap();
        assert_eq!((message.compressed, message.payload), (compressed, Payload::Function(b"1"[..].into())));
    }
}

#[test]
fn a_deadline_does_not_travel() {
    let sent = |deadline: Option<u32>| {
        let mut side = Side::established(config());
        let deadline = deadline.map(|seconds| side.now + SECOND * seconds);
        side.connection.invoke(side.now, Call { deadline, ..call("m") }).unwrap();
        side.sent()
    };
    assert_eq!(sent(Some(7)), sent(None));
}
