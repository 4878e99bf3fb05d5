use super::*;

fn sized(len: usize) -> Call {
    Call { body: vec![0; len].into(), ..call("m") }
}

#[test]
fn a_call_is_limited_at_the_edge() {
    let (mut a, mut b) = pair(config(), ConnectionConfig { max_body: 100, ..config() });
    assert_eq!(
        a.connection.invoke(a.now, sized(101)),
        Err(InvokeError::BodyTooLarge { size: 101, limit: 100 })
    );
    a.connection.invoke(a.now, sized(100)).unwrap();
    exchange(&mut a, &mut b);
    assert!(matches!(b.events()[..], [Event::Request(_)]));

    let named = |method: usize, key: usize| Call {
        method: "m".repeat(method).into(),
        key: OrderingKey::text("k".repeat(key)),
        ..call("")
    };
    let limit = 32 * 1024;
    a.connection.invoke(a.now, named(limit - 5, 5)).unwrap();
    exchange(&mut a, &mut b);
    assert!(matches!(b.events()[..], [Event::Request(_)]));
    assert_eq!(
        a.connection.invoke(a.now, named(limit, 1)),
        Err(InvokeError::NameTooLong { size: limit + 1, limit })
    );
}

#[test]
fn a_peer_that_has_not_said_takes_what_we_take() {
    let mut side = Side::established(ConnectionConfig { max_body: 10, ..config() });
    side.connection.invoke(side.now, sized(10)).unwrap();
    assert_eq!(
        side.connection.invoke(side.now, sized(11)),
        Err(InvokeError::BodyTooLarge { size: 11, limit: 10 })
    );
}

#[test]
fn a_reply_is_limited_at_the_edge() {
    let (mut a, mut b) = pair(ConnectionConfig { max_body: 100, ..config() }, config());
    let info = |traceback: usize| ErrorInfo {
        traceback: "t".repeat(traceback).into(),
        ..ErrorInfo::new("name", "r".repeat(46))
    };
    let long = ErrorInfo::new("name", "r".repeat(97));
    let body = |len: usize| Bytes::from(vec![0; len]);
    let sized = |len| Reply::result(body(len));
    let too_large = Replied::TooLarge { size: 101, limit: 100 };
    let replies = [
        (sized(100), Replied::AsGiven, Some(Outcome::Result(body(100)))),
        (sized(101), too_large, None),
        (Reply::Failure(info(50).into()), Replied::AsGiven, Some(Outcome::Failure(info(50).into()))),
        (Reply::Failure(info(51).into()), Replied::AsGiven, Some(Outcome::Failure(info(0).into()))),
        (Reply::Error(long.into()), too_large, None),
    ];
    for (reply, told, outcome) in replies {
        let id = a.invoke("m");
        exchange(&mut a, &mut b);
        let Some(Event::Request(request)) = b.event() else { panic!("a request") };
        assert_eq!(b.connection.reply(request.id, reply), Ok(told));
        exchange(&mut a, &mut b);
        let events = a.events();
        match (outcome, &events[..]) {
            (Some(outcome), _) => assert_eq!(events, [ended(id, outcome)]),
            (None, [Event::Ended { call, outcome: Outcome::Error(info), .. }]) => {
                assert_eq!((*call, Refusal::of(info)), (id, Some(Refusal::ReplyTooLarge)));
            }
            (None, other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_queue_is_limited() {
    let mut side = Side::established(ConnectionConfig { max_outgoing_bytes: 1_000, ..config() });
    side.connection.invoke(side.now, sized(2_000)).unwrap();
    assert!(side.connection.queued_bytes() >= 2_000, "the first one always goes");
    assert!(side.connection.is_backlogged());
    let full = side.connection.invoke(side.now, sized(0));
    assert!(matches!(full, Err(InvokeError::QueueFull { limit: 1_000, .. })), "{full:?}");
    side.sent();
    assert_eq!(side.connection.queued_bytes(), 0);

    // Up to the limit, counting the method, the key and the overhead of each message.
    side.connection.invoke(side.now, sized(100)).unwrap();
    let queued = side.connection.queued_bytes();
    let room = 1_000 - queued - (queued - 100);
    let full = Err(InvokeError::QueueFull { queued, limit: 1_000 });
    assert_eq!(side.connection.invoke(side.now, sized(room + 1)), full);
    let key = OrderingKey::text("k".repeat(room + 1));
    assert_eq!(side.connection.invoke(side.now, Call { key, ..sized(0) }), full);
    side.connection.invoke(side.now, sized(room)).unwrap();
    assert_eq!(side.connection.queued_bytes(), 1_000);
    assert!(!side.connection.is_backlogged());
}

#[test]
fn replies_count_for_the_backlog_with_their_names() {
    let mut side = Side::established(ConnectionConfig { max_outgoing_bytes: 10_000, ..config() });
    let method = "m".repeat(10_000);
    side.hear_message(1, &method, Payload::Function(Bytes::new()));
    let Some(Event::Request(request)) = side.event() else { panic!("a request") };
    assert!(!side.connection.is_backlogged());
    side.connection.reply(request.id, Reply::Cancelled).unwrap();
    assert!(side.connection.is_backlogged());
    side.sent();
    assert!(!side.connection.is_backlogged());
}

#[test]
fn requests_past_the_limit_are_refused() {
    let mut side = Side::established(ConnectionConfig { max_requests: 2, ..config() });
    let first = side.asked(1);
    side.asked(2);
    side.hear_message(3, "m", Payload::Function(Bytes::new()));
    assert_eq!(side.events(), []);
    let [(3, Payload::Error(info))] = &side.said()[..] else { panic!("a refusal") };
    assert_eq!(Refusal::of(info), Some(Refusal::Busy));
    side.connection.reply(first, ok("1")).unwrap();
    side.asked(4);
}

/// Receives messages until the connection closes; returns their number.
fn flood(side: &mut Side, mut next: impl FnMut(u32) -> Multipart) -> u32 {
    for count in 0..100_000 {
        if side.connection.is_closed() {
            let events = side.events();
            assert_eq!(events.last(), Some(&Event::Closed(CloseCause::PeerNotReading)));
            assert_eq!((side.connection.queued_bytes(), side.sent().len()), (0, 0));
            return count;
        }
        side.hear(next(count));
    }
    panic!("no end to it");
}

#[test]
fn a_peer_that_probes_and_does_not_read_is_cut_off() {
    let mut side = Side::established(config());
    let large = Bytes::from(vec![0; 64 * 1024]);
    let count = flood(&mut side, |_| Multipart::new(PING, Bytes::new(), large.clone()));
    assert!((60..66).contains(&count), "{count}: 4 MiB");
    let mut side = Side::established(config());
    let count = flood(&mut side, |_| Multipart::new(PING, Bytes::new(), Bytes::new()));
    assert!(count < 20_000, "{count}: small ones count as well");
}

#[test]
fn a_peer_that_has_requests_refused_and_does_not_read_is_cut_off() {
    let refusing = || ConnectionConfig { max_requests: 0, ..config() };
    let mut side = Side::established(refusing());
    let request = |seq| message(seq, "m", Payload::Function(Bytes::new()));
    assert!(flood(&mut side, request) < 20_000);

    let mut side = Side::established(refusing());
    let method = "m".repeat(60 * 1024);
    let count = flood(&mut side, |seq| message(seq, &method, Payload::Function(Bytes::new())));
    assert!((60..72).contains(&count), "{count}: names count");

    let mut side = Side::established(config());
    let [_, header, _] = message(1, &method, Payload::Function(Bytes::new())).into_three().unwrap();
    flood(&mut side, |_| Multipart::new(UPPER, header.clone(), Bytes::new()));
}

/// A frame may be a small slice of a large block. A queue that counts the frame must not keep the block
/// alive.
#[test]
fn what_waits_unasked_does_not_pin_the_block_that_it_came_in() {
    let within = |frame: &[u8]| {
        let mut block = vec![0; 8 * 1024];
        block[..frame.len()].copy_from_slice(frame);
        let block = Bytes::from(block);
        (block.slice(..frame.len()), block)
    };
    let mut side = Side::established(ConnectionConfig { max_requests: 0, ..config() });
    let (body, block) = within(b"x");
    side.hear(Multipart::new(PING, body.clone(), body));
    assert!(block.is_unique());
    let [_, header, body] = message(1, "m", Payload::Function(Bytes::new())).into_three().unwrap();
    let (header, block) = within(&header);
    side.hear(Multipart::new(UPPER, header, body));
    assert!(block.is_unique());
    assert_eq!(side.sent().len(), 2);
}

#[test]
fn replies_that_pile_up_do_not_pin_the_blocks_that_their_names_came_in() {
    let mut side = Side::established(config());
    let mut blocks = Vec::new();
    for seq in 0..10_000 {
        let [_, header, body] = message(seq, "m", Payload::Function(Bytes::new())).into_three().unwrap();
        blocks.push(header.clone());
        side.hear(Multipart::new(UPPER, header, body));
        let Some(Event::Request(Request { id, .. })) = side.event() else { panic!("a request") };
        side.connection.reply(id, ok("1")).unwrap();
    }
    assert!(blocks.iter().filter(|block| !block.is_unique()).count() < 5_000);
    assert_eq!(side.said().len(), 10_000);
}

#[test]
fn a_burst_of_events_leaves_no_memory_behind() {
    let mut side = Side::established(config());
    for _ in 0..10_000 {
        side.hear(Multipart::default());
    }
    assert_eq!(side.events().len(), 10_000);
    assert!(side.connection.calls.events().capacity() <= crate::kept::kept_capacity::<Event>());
    side.pass(QUIET);
    assert_eq!(side.connection.calls.events().capacity(), 0);
}

#[test]
fn debug_shows_no_body() {
    let mut side = Side::established(config());
    side.hear_message(1, "secret", Payload::Function(b"secret"[..].into()));
    side.invoke("secret");
    let shown = format!("{:?}", side.connection);
    assert!(shown.contains("open_requests: 1") && !shown.contains("secret"), "{shown}");
}

#[test]
fn a_peer_that_is_backlogged_and_has_more_calls_refused_is_cut_off() {
    for reply in [Refusal::Busy.reply("later"), Reply::Cancelled] {
        let mut side = Side::established(ConnectionConfig { max_outgoing_bytes: 1_000, ..config() });
        let held = side.asked(0);
        let mut count = 0;
        while !side.connection.is_closed() {
            count += 1;
            let id = side.asked(count);
            side.connection.reply(id, reply.clone()).unwrap();
            assert!(side.connection.queued_bytes() < 5 << 20 && count < 20_000);
        }
        let stop = Event::Stop { request: held, reason: StopReason::Disconnected };
        assert_eq!(side.events(), [stop, Event::Closed(CloseCause::PeerNotReading)]);
        assert_eq!(side.connection.reply(held, ok("1")), Err(ReplyError::NotOpen));
    }
}

#[test]
fn a_peer_that_has_more_calls_refused_behind_a_result_that_does_not_leave_is_cut_off() {
    use super::dialect2::{binder, two, whole};
    let mut side = binder(ConnectionConfig { max_outgoing_bytes: 1_000, ..two() });
    let key = || OrderingKey::text("k");
    let open = |call| {
        let (method, options) = ("m".into(), wire::Options::default());
        wire::Record::Open { call, method, key: key(), options, piece: whole("") }
    };
    side.hear_records(&[open(0), open(2)]);
    side.connection.begin_reply(incoming(0), false, Metadata::new(), None).unwrap();
    side.connection.reply(incoming(2), Reply::result(vec![0; 1_000])).unwrap();
    assert!(side.connection.is_backlogged(), "it waits for the first one");
    let mut count = 1;
    while !side.connection.is_closed() {
        count += 1;
        side.hear_records(&[open(2 * count)]);
        side.connection.reply(incoming(2 * count), Reply::Cancelled).ok();
        side.sent();
        assert!(side.connection.queued_bytes() < 5 << 20 && count < 20_000);
    }
    assert_eq!(side.connection.close_cause(), Some(CloseCause::PeerNotReading));
    assert_eq!(side.connection.queued_bytes(), 0);

    // They no longer count once the result that they wait for has been sent.
    let mut side = binder(ConnectionConfig { max_outgoing_bytes: 1_000, ..two() });
    for round in 0..100 {
        let first = 200 * round;
        side.hear_records(&[open(first), open(first + 2)]);
        side.connection.begin_reply(incoming(first), false, Metadata::new(), None).unwrap();
        side.connection.reply(incoming(first + 2), Reply::result(vec![0; 1_000])).unwrap();
        for call in 2..100 {
            side.hear_records(&[open(first + 2 * call)]);
            side.connection.reply(incoming(first + 2 * call), Reply::Cancelled).unwrap();
        }
        side.connection.reply(incoming(first), Reply::End).unwrap();
        side.sent();
        side.hear_records(&[wire::Record::LinkCredit { limit: u64::MAX }]);
        side.sent();
        assert!(side.connection.is_idle() && side.connection.queued_bytes() == 0, "round {round}");
    }
}

/// The callers have given up, so the answers are sent at once (O-18).
#[test]
fn calls_that_are_given_up_do_not_wait_for_a_result_that_does_not_leave() {
    use super::dialect2::{binder, two, whole};
    let mut side = binder(ConnectionConfig { max_requests: 3, ..two() });
    let open = |call| {
        let options = wire::Options { remaining: Some(SECOND), ..wire::Options::default() };
        wire::Record::Open {
            call,
            method: "m".into(),
            key: OrderingKey::text("k"),
            options,
            piece: whole(""),
        }
    };
    side.hear_records(&[open(0), open(2)]);
    side.connection.begin_reply(incoming(0), false, Metadata::new(), None).unwrap();
    side.connection.reply(incoming(2), ok("two")).unwrap();
    side.events();
    side.sent();
    for call in (4..20_000).step_by(2) {
        side.hear_records(&[open(call)]);
        let is_cancelled = call % 4 == 0;
        if call % 8 == 0 {
            // The streamed reply waits for the one before, with its written bytes.
            side.connection.begin_reply(incoming(call), false, Metadata::new(), None).unwrap();
            side.connection.send_stream(incoming(call)).write("in vain".into(), true).unwrap();
        }
        match is_cancelled {
            true => side.hear_records(&[wire::Record::Cancel { call }]),
            false => side.pass(2 * SECOND),
        }
        assert_eq!(
            (side.connection.open_requests(), side.events().len()),
            (2, 2 + usize::from(call == 6 || call % 8 == 0))
        );
        // This result would wait for credit that the caller never grants.
        side.connection.reply(incoming(call), Reply::result(vec![0; 100_000])).unwrap();
        let sent = side.sent_records();
        let [wire::Record::Fail { call: of, failure, .. }] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((*of, failure), (call, &wire::Failure::Cancelled));
        assert!(side.connection.queued_bytes() < 1_000);
    }
    side.connection.reply(incoming(0), Reply::End).unwrap();
    side.hear_records(&[wire::Record::LinkCredit { limit: u64::MAX }]);
    let sent = side.sent_records();
    assert!(sent.iter().any(|record| matches!(record, wire::Record::Result { call: 2, .. })), "{sent:?}");
}

#[test]
fn a_peer_that_reads_may_go_on_for_ever() {
    let mut side = Side::established(ConnectionConfig { max_requests: 0, ..config() });
    let (large, method) = (Bytes::from(vec![0; 64 * 1024]), "m".repeat(32 * 1024));
    for seq in 0..1_000 {
        side.hear(Multipart::new(PING, Bytes::new(), large.clone()));
        side.hear_message(seq, &method, Payload::Function(Bytes::new()));
        assert_eq!(side.sent().len(), 2);
    }
    assert_eq!(side.events(), []);
}

#[test]
fn a_ping_is_answered_up_to_a_size() {
    let mut side = Side::established(config());
    let of = |len: usize| Bytes::from(vec![0; len]);
    side.hear(Multipart::new(PING, of(1_000), of(64 * 1024 - 1_000)));
    assert_eq!(side.sent(), [Multipart::new(PONG, of(1_000), of(64 * 1024 - 1_000))]);
    side.hear(Multipart::new(PING, of(1_000), of(64 * 1024 - 999)));
    assert_eq!(side.events(), [Event::Anomaly(Anomaly::OversizePing(64 * 1024 + 1))]);
    assert!(side.sent().is_empty());
    // The hello in the answer may be longer.
    for (more, answers) in [(0, 1), (1, 0)] {
        let mut side = Side::connected(Role::Binder, config());
        let hello = Hello { dialects: 1, nonce: [9; NONCE_LEN], max_body: 1, credit: None }.encode();
        let body = of(64 * 1024 - hello.len() + more);
        side.hear(Multipart::new(PING, hello, body));
        assert!(side.connection.is_established());
        assert_eq!(side.sent().len(), answers);
        let oversize = side.events().contains(&Event::Anomaly(Anomaly::OversizePing(64 * 1024 + 1)));
        assert_eq!(oversize, more == 1);
    }
}

#[test]
fn probes_of_our_own_are_forgotten_from_the_oldest_on() {
    let mut side = Side::established(config());
    let probes: Vec<_> = (0..1_000).map(|_| side.connection.ping().unwrap()).collect();
    let sent = side.sent();
    assert_eq!(sent.len(), 64);
    let last = probes[999].to_be_bytes();
    assert_eq!(sent[63], Multipart::new(PING, Bytes::new(), Bytes::copy_from_slice(&last)));
    side.connection.ping().unwrap();
    assert_eq!(side.sent().len(), 1, "one that has left stays away");
}

#[test]
fn the_defaults_are_those_of_the_protocol() {
    let session = config();
    assert_eq!((session.max_body, session.max_requests), (10 << 20, 1_100));
    assert_eq!((session.max_outgoing_bytes, session.keepalive), (64 << 20, None));
    assert_eq!(
        (session.first_window, session.stream_window, session.connection_window),
        (16 << 10, 256 << 10, 96 << 20)
    );
    assert_eq!(session.stream_buffer, 256 << 10);
    assert_eq!((session.handshake_timeout, session.write_timeout), (SECOND * 10, SECOND * 10));
    assert_eq!(Keepalive::default(), Keepalive { idle: SECOND * 30, misses: 2 });
    assert_eq!(
        (wire::dialect1::MAX_HEADER, wire::hello::MAX_HELLO, wire::MAX_DEPTH),
        (64 << 10, 4 << 10, 64)
    );
}
