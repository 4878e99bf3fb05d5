//! Calls in dialect 2: negotiation, records, and faults of the peer.

use super::*;
use crate::wire::dialect2::PacketWriter;
use crate::wire::{Failure, MAX_CALL, MAX_FIRST, Options, Piece, Record, records};

/// A configuration whose windows have the same size before and after the first read.
pub(super) fn two() -> ConnectionConfig {
    ConnectionConfig { first_window: u64::MAX, ..streaming() }
}

/// Two connections that speak dialect 2.
pub(super) fn pair2(connector: ConnectionConfig, binder: ConnectionConfig) -> (Side, Side) {
    let mut a = Side::connected(Role::Connector, connector);
    let mut b = Side::connected(Role::Binder, binder);
    exchange(&mut a, &mut b);
    for side in [&mut a, &mut b] {
        let events = side.events();
        let [Event::Established { max_body: Some(_), dialect: Dialect::Two }, pongs @ ..] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert!(pongs.len() == 2 && pongs.iter().all(|event| matches!(event, Event::Pong { .. })));
    }
    (a, b)
}

/// A binder of dialect 2 whose peer is played by the test.
pub(super) fn binder(config: ConnectionConfig) -> Side {
    let mut side = Side::connected(Role::Binder, config);
    let credit = Some(crate::wire::Credit { stream: 256 << 10, link: 1 << 30 });
    let hello = Hello { dialects: 0b11, nonce: [9; NONCE_LEN], max_body: 10 << 20, credit };
    side.hear(Multipart::new(PING, hello.encode(), Bytes::new()));
    assert!(matches!(side.events()[..], [Event::Established { dialect: Dialect::Two, .. }]));
    assert_eq!(side.sent().len(), 2, "its hello, and a probe");
    side
}

impl Side {
    pub(super) fn hear_records(&mut self, records: &[Record]) {
        let mut writer = PacketWriter::default();
        for record in records {
            writer.write(record);
            if writer.is_closed() {
                self.hear(writer.take());
            }
        }
        if !writer.is_empty() {
            self.hear(writer.take());
        }
    }

    /// The records of the packets that this side sends.
    pub(super) fn sent_records(&mut self) -> Vec<Record> {
        let packets: Vec<Bytes> = self.sent().into_iter().filter_map(Multipart::into_one).collect();
        packets.iter().flat_map(|packet| records(packet).unwrap()).collect::<Result<_, _>>().unwrap()
    }
}

pub(super) fn whole(bytes: impl Into<Bytes>) -> Piece {
    Piece { bytes: bytes.into(), fin: true, item: true, compressed: false }
}

pub(super) fn part(bytes: impl Into<Bytes>) -> Piece {
    Piece { bytes: bytes.into(), ..Piece::default() }
}

pub(super) fn open(call: u64, piece: Piece) -> Record {
    let (key, options) = (OrderingKey::none(), Options::default());
    Record::Open { call, method: "m".into(), key, options, piece }
}

pub(super) fn request(side: &mut Side) -> Request {
    match side.event() {
        Some(Event::Request(request)) => request,
        other => panic!("{other:?} instead of a request"),
    }
}

#[test]
fn the_highest_dialect_that_both_offer_is_spoken() {
    let (mut a, mut b) = pair2(two(), two());
    assert_eq!((a.connection.dialect(), b.connection.dialect()), (Some(Dialect::Two), Some(Dialect::Two)));
    for (connector, binder) in [(two(), config()), (config(), two()), (config(), config())] {
        let (a, b) = pair(connector, binder);
        assert_eq!(
            (a.connection.dialect(), b.connection.dialect()),
            (Some(Dialect::One), Some(Dialect::One))
        );
    }
    let call = a.invoke("m");
    let records = a.sent_records();
    assert_eq!(records, [open(0, whole("1"))]);
    b.hear_records(&records);
    let request = request(&mut b);
    assert_eq!((&*request.method, &request.body), ("m", &Body::Whole("1".into())));
    b.connection.reply(request.id, ok("2")).unwrap();
    let records = b.sent_records();
    assert_eq!(records, [Record::Result { call: 0, options: Options::default(), piece: whole("2") }]);
    a.hear_records(&records);
    assert_eq!(a.events(), [ended(call, Outcome::Result("2".into()))]);
    assert!(a.connection.is_idle() && b.connection.is_idle());
}

#[test]
fn who_offers_dialect_2_without_credit_speaks_dialect_1() {
    let mut side = Side::connected(Role::Binder, two());
    let hello = Hello { dialects: u32::MAX, nonce: [9; NONCE_LEN], max_body: 1 << 20, credit: None };
    side.hear(Multipart::new(PING, hello.encode(), Bytes::new()));
    assert_established(&mut side, &hello);
}

#[test]
fn many_small_calls_share_a_packet() {
    let (mut a, mut b) = pair2(two(), two());
    let calls: Vec<CallId> = (0..50).map(|_| a.invoke("m")).collect();
    let packets = a.sent();
    assert_eq!(packets.len(), 1);
    packets.into_iter().for_each(|packet| b.hear(packet));
    let requests: Vec<Request> = (0..50).map(|_| request(&mut b)).collect();
    requests.iter().for_each(|request| assert!(b.connection.reply(request.id, ok("x")).is_ok()));
    let packets = b.sent();
    assert_eq!(packets.len(), 1);
    packets.into_iter().for_each(|packet| a.hear(packet));
    let ends: Vec<Event> = calls.into_iter().map(|call| ended(call, Outcome::Result("x".into()))).collect();
    assert_eq!(a.events(), ends);
}

#[test]
fn connectors_count_in_even_numbers_and_binders_in_odd_ones() {
    let (mut a, mut b) = pair2(two(), two());
    for (side, numbers) in [(&mut a, [0, 2]), (&mut b, [1, 3])] {
        side.invoke("m");
        side.invoke("m");
        assert_eq!(side.sent_records(), numbers.map(|call| open(call, whole("1"))));
    }
}

#[test]
fn a_call_of_any_urgency_can_be_read_by_its_peer() {
    let (mut a, mut b) = pair2(two(), two());
    let classes: Vec<Urgency> = (0..=u8::MAX).filter_map(Urgency::new).collect();
    assert_eq!(classes.iter().map(|class| class.get()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(Urgency::new(3), Some(new_call("m", "").urgency));
    for urgency in classes {
        let call = a.connection.invoke(a.now, Call { urgency, ..call("m") }).unwrap();
        let records = a.sent_records();
        let [Record::Open { options, .. }] = &records[..] else { panic!("{records:?}") };
        assert_eq!(options.urgency.unwrap_or_default(), urgency);
        b.hear_records(&records);
        let asked = request(&mut b);
        b.connection.reply(asked.id, ok("1")).unwrap();
        exchange(&mut a, &mut b);
        assert_eq!(a.events(), [ended(call, Outcome::Result("1".into()))]);
    }
}

#[test]
fn a_call_brings_metadata_remaining_time_and_urgency() {
    let (mut a, mut b) = pair2(two(), two());
    let mut metadata = Metadata::new();
    metadata.insert("trace", &b"42"[..]).unwrap();
    let deadline = Some(a.now + Duration::from_micros(1_500));
    let call = Call {
        metadata: metadata.clone(),
        deadline,
        urgency: Urgency::new(1).unwrap(),
        ..new_call("m", "1")
    };
    let id = a.connection.invoke(a.now, call).unwrap();
    a.now += Duration::from_micros(500);
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    assert_eq!(request.metadata, metadata);
    assert_eq!(request.deadline, Some(b.now + Duration::from_millis(1)), "what remained when it left");
    let answer = Reply::Result { body: "2".into(), compressed: false, metadata: metadata.clone() };
    b.connection.reply(request.id, answer).unwrap();
    exchange(&mut a, &mut b);
    let outcome = Outcome::Result("2".into());
    assert_eq!(a.events(), [Event::Ended { call: id, outcome, metadata }]);
}

#[test]
fn metadata_counts_for_the_queue_and_its_limit() {
    let (mut a, _) = pair2(ConnectionConfig { max_outgoing_bytes: 1_000, ..two() }, two());
    let mut metadata = Metadata::new();
    metadata.insert("name", vec![0; 400]).unwrap();
    let call = Call { metadata, ..new_call("m", "") };
    a.connection.invoke(a.now, call.clone()).unwrap();
    let full = InvokeError::QueueFull { queued: 256 + 1 + 404, limit: 1_000 };
    assert_eq!(a.connection.invoke(a.now, call), Err(full));
}

#[test]
fn metadata_does_not_travel_in_dialect_1_and_says_so() {
    let mut metadata = Metadata::new();
    metadata.insert("trace", "42").unwrap();
    let with = || Call { metadata: metadata.clone(), ..call("m") };
    // The dialect was not known yet.
    let mut a = Side::connected(Role::Connector, two());
    let mut b = Side::connected(Role::Binder, config());
    let waiting = a.connection.invoke(a.now, with()).unwrap();
    let streamed = a.connection.invoke(a.now, Call { argument: Delivery::Stream, ..call("m") }).unwrap();
    exchange(&mut a, &mut b);
    let ends = [waiting, streamed].map(|call| ended(call, Outcome::NeedsDialect2));
    assert_eq!(a.events()[1..], ends);
    assert_eq!(a.connection.invoke(a.now, with()), Err(InvokeError::NeedsDialect2));
    let mut d1 = Side::connected(Role::Connector, config());
    assert_eq!(d1.connection.invoke(d1.now, with()), Err(InvokeError::NeedsDialect2));
    a.invoke("m");
    exchange(&mut a, &mut b);
    let request = b.events().into_iter().find_map(|event| match event {
        Event::Request(request) => Some(request),
        _ => None,
    });
    let answer = Reply::Result { body: "2".into(), compressed: false, metadata };
    assert_eq!(b.connection.reply(request.unwrap().id, answer), Ok(Replied::WithoutMetadata));
    exchange(&mut a, &mut b);
    assert!(
        matches!(a.events()[..], [Event::Ended { outcome: Outcome::Result(_), .. }]),
        "sent all the same"
    );
}

#[test]
fn a_requester_that_gives_up_stops_the_handler_in_time() {
    let options = Options { remaining: Some(SECOND), ..Options::default() };
    let (method, key) = ("m".into(), OrderingKey::none());
    let open = Record::Open { call: 0, method, key, options, piece: whole("") };
    // The execution timeout is shorter, or longer, than the requester's deadline.
    for (limit, stops_after, reason) in [
        (SECOND / 2, SECOND / 2, StopReason::ExecutionTimedOut),
        (3 * SECOND, 2 * SECOND, StopReason::DeadlinePassed),
    ] {
        let mut side = binder(ConnectionConfig { execution_timeout: Some(limit), ..two() });
        side.hear_records(std::slice::from_ref(&open));
        let request = request(&mut side);
        assert_eq!(request.deadline, Some(side.now + limit.min(SECOND)));
        side.told();
        side.pass(stops_after - Duration::from_nanos(1));
        assert_eq!(side.events(), [], "the requester is to know first");
        side.pass(Duration::from_nanos(1));
        assert_eq!(side.events(), [Event::Stop { request: incoming(0), reason }]);
        let told = side.told();
        let [EndpointEvent::Withdrawn { reply, .. }] = &told[..] else { panic!("{told:?}") };
        let expected = match reply {
            Reply::Error(info) => Refusal::of(info) == Some(Refusal::ExecutionTimedOut),
            reply => matches!(reply, Reply::Cancelled),
        };
        assert!(expected && matches!(reply, Reply::Error(_)) == (reason == StopReason::ExecutionTimedOut));
    }
    // Whether the handler has started or not.
    let mut side = binder(two());
    side.endpoint.starts = false;
    side.hear_records(&[open]);
    side.arrival();
    side.pass(2 * SECOND - Duration::from_nanos(1));
    assert!(side.told().is_empty());
    side.pass(Duration::from_nanos(1));
    let told = side.told();
    let [EndpointEvent::Withdrawn { request, reply: Reply::Cancelled, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(*request, incoming(0));
    assert_eq!(side.events(), []);
    // The endpoint may have started it before the withdrawal arrived.
    side.decide(ConnectionEvent::Start(incoming(0)));
    let told = side.told();
    assert!(matches!(told[..], [EndpointEvent::NeverRan(request)] if request == incoming(0)), "{told:?}");
    assert_eq!(side.events(), []);
}

#[test]
fn urgent_calls_overtake_but_not_within_a_key() {
    let (mut a, _) = pair2(two(), two());
    let mut make = |method: &str, key: Option<&str>, urgency: u8| {
        let key = key.map_or(OrderingKey::none(), OrderingKey::text);
        a.connection
            .invoke(a.now, Call { key, urgency: Urgency::new(urgency).unwrap(), ..call(method) })
            .unwrap();
    };
    make("slow", None, 7);
    make("first of k", Some("k"), 5);
    make("normal", None, 3);
    make("second of k", Some("k"), 0);
    make("urgent", None, 0);
    let order: Vec<String> = a
        .sent_records()
        .into_iter()
        .map(|record| match record {
            Record::Open { method, .. } => method.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, ["urgent", "normal", "first of k", "second of k", "slow"]);
}

#[test]
fn every_failure_travels_as_what_it_is() {
    let (mut a, mut b) = pair2(two(), two());
    let info = ErrorInfo { traceback: "t".into(), ..ErrorInfo::new("n", "r") };
    let cases = [
        (Reply::Failure(info.clone().into()), Outcome::Failure(info.clone().into())),
        (Reply::Error(info.clone().into()), Outcome::Error(info.into())),
        (Reply::Cancelled, Outcome::Cancelled),
    ];
    for (reply, outcome) in cases {
        let call = a.invoke("m");
        exchange(&mut a, &mut b);
        let request = request(&mut b);
        b.connection.reply(request.id, reply).unwrap();
        exchange(&mut a, &mut b);
        assert_eq!(a.events(), [ended(call, outcome)]);
    }
    let long = ErrorInfo { traceback: "t".repeat(70_000).into(), ..ErrorInfo::new("n", "r") };
    let call = a.invoke("m");
    exchange(&mut a, &mut b);
    let asked = request(&mut b);
    b.connection.reply(asked.id, Reply::Failure(long.into())).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(
        a.events(),
        [ended(call, Outcome::Failure(ErrorInfo::new("n", "r").into()))],
        "without its traceback"
    );
}

#[test]
fn a_cancellation_is_a_record_and_is_answered_or_comes_too_late() {
    let (mut a, mut b) = pair2(two(), two());
    let [first, second] = [a.invoke("m"), a.invoke("m")];
    exchange(&mut a, &mut b);
    let [one, other] = [request(&mut b), request(&mut b)];
    b.connection.reply(other.id, ok("2")).unwrap();
    assert!(a.connection.abandon(first) && a.connection.abandon(second));
    let cancels = a.sent_records();
    assert_eq!(cancels, [Record::Cancel { call: 0 }, Record::Cancel { call: 2 }]);
    b.hear_records(&cancels);
    b.hear_records(&cancels);
    assert_eq!(
        b.events(),
        [Event::Stop { request: one.id, reason: StopReason::Cancelled }],
        "once, and not for what is answered"
    );
    b.connection.reply(one.id, Reply::Cancelled).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!((a.events(), a.connection.is_idle(), b.connection.is_idle()), (vec![], true, true));
}

#[test]
fn a_call_that_has_not_left_never_does_and_takes_no_number() {
    let (mut a, _) = pair2(two(), two());
    let call = a.invoke("m");
    a.connection.abandon(call);
    a.invoke("m");
    assert_eq!(a.sent_records(), [open(0, whole("1"))]);
}

#[test]
fn what_breaks_the_link_is_told_apart() {
    let data = |call| Record::Data { call, offset: 0, piece: part("x") };
    let cases = [
        (vec![open(2, whole(""))], Violation::Sequence),
        (vec![open(0, whole("")), open(0, whole(""))], Violation::Sequence),
        (vec![open(1, whole(""))], Violation::WrongSide),
        (vec![Record::Cancel { call: 0 }], Violation::Sequence),
        (vec![Record::Cancel { call: 1 }], Violation::WrongSide),
        (vec![Record::Abort { call: 1 }], Violation::WrongSide),
        (vec![Record::Stop { call: 0 }], Violation::WrongSide),
        (vec![Record::Stop { call: 1 }], Violation::Sequence),
        (vec![Record::Goodbye { next: 2 }], Violation::WrongSide),
        (vec![data(0)], Violation::Sequence),
        (vec![data(1)], Violation::Sequence),
        (vec![Record::Credit { call: 3, consumed: 0, limit: 9 }], Violation::Sequence),
        (
            vec![Record::Result { call: 0, options: Options::default(), piece: whole("") }],
            Violation::WrongSide,
        ),
        (
            vec![Record::Fail { call: 1, failure: Failure::Cancelled, options: Options::default() }],
            Violation::Sequence,
        ),
    ];
    for (records, violation) in cases {
        let mut side = binder(two());
        side.hear_records(&records);
        let last = side.events().pop();
        assert_eq!(last, Some(Event::Closed(CloseCause::ProtocolViolation(violation))), "{records:?}");
    }
    let mut side = binder(two());
    side.hear(Multipart::single(Bytes::from_static(b"\x91\x00"), Bytes::new()));
    assert_eq!(
        side.events(),
        [
            Event::Anomaly(Anomaly::Packet(DecodeError::UnknownType(0))),
            Event::Closed(CloseCause::ProtocolViolation(Violation::Packet))
        ]
    );
}

#[test]
fn nothing_of_dialect_1_is_understood_but_probes_are() {
    let mut side = binder(two());
    side.hear_message(7, "m", Payload::Function("1".into()));
    side.hear(Multipart::from_frames([b"a", b"b"].map(|frame| Bytes::from_static(frame))).unwrap());
    side.hear(Multipart::new(PING, Bytes::new(), "p".into()));
    assert!(matches!(
        side.events()[..],
        [Event::Anomaly(Anomaly::NotAMessage), Event::Anomaly(Anomaly::NotAMessage)]
    ));
    assert_eq!(side.sent(), [Multipart::new(PONG, Bytes::new(), "p".into())]);
}

#[test]
fn answers_to_what_came_before_the_handshake_are_messages_of_their_own() {
    let mut side = Side::new(Role::Connector, two());
    side.connection.invoke(side.now, Call { urgency: Urgency::MOST, ..call("urgent") }).unwrap();
    side.connection.handle_connected(side.now);
    // A malformed request is refused.
    let id = CallName { seq: 1, method: "m".into(), key: OrderingKey::none() };
    let request = Message { id, payload: Payload::Function("no block".into()), compressed: false };
    let [marker, header, _] = Encoder::default().encode(&request).into_three().unwrap();
    side.hear(Multipart::new(marker, header, Bytes::from_static(b"\xc1")));
    let credit = Some(crate::wire::Credit { stream: 1024, link: 1024 });
    let hello = Hello { dialects: 0b11, nonce: [9; NONCE_LEN], max_body: 1 << 20, credit };
    side.hear(Multipart::new(PONG, hello.encode(), Bytes::new()));
    let sent = side.sent();
    let packets: Vec<usize> = sent.iter().map(|message| message.frames().len()).collect();
    assert_eq!(packets, [3, 3, 1, 3], "hello, probe, the call, the refusal");
    side.hear(Multipart::new(PING, Bytes::new(), Bytes::new()));
    assert_eq!(side.sent().len(), 1, "it is still heard");
}

/// The limit is on the peer's requests of both dialects together.
#[test]
fn names_of_a_request_are_limited_at_the_edge() {
    let limit = 32 * 1024;
    let mut side = binder(two());
    let open = |call, key: usize| {
        let Record::Open { options, piece, .. } = open(call, whole("")) else {
            unreachable!("it is an OPEN")
        };
        Record::Open { call, method: "m".into(), key: OrderingKey::text("k".repeat(key)), options, piece }
    };
    side.hear_records(&[open(0, limit - 1)]);
    side.hear_records(&[open(2, limit)]);
    side.hear_records(&[open(4, 1)]);
    let events = side.events();
    let refused = DecodeError::TooLarge { what: "the method and the key", size: limit + 1, limit };
    let [Event::Request(first), anomaly, Event::Request(last)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((first.id, last.id), (incoming(0), incoming(4)), "the connection lives on");
    assert_eq!(anomaly, &Event::Anomaly(Anomaly::Body(refused)));
    let [Record::Fail { call: 2, failure: Failure::Error(info), .. }] = &side.sent_records()[..] else {
        panic!("only the call that is over the limit is refused")
    };
    assert_eq!(Refusal::of(info), Some(Refusal::BodyTooLarge));
}

#[test]
fn requests_of_both_dialects_count_against_one_limit() {
    let mut side = Side::connected(Role::Connector, ConnectionConfig { max_requests: 3, ..two() });
    let early = [side.asked(1), side.asked(2)];
    let credit = Some(crate::wire::Credit { stream: 1024, link: 1024 });
    let hello = Hello { dialects: 0b11, nonce: [9; NONCE_LEN], max_body: 1 << 20, credit };
    side.hear(Multipart::new(PONG, hello.encode(), Bytes::new()));
    assert!(matches!(side.events()[..], [Event::Established { dialect: Dialect::Two, .. }]));
    side.hear_records(&[open(1, whole("")), open(3, whole(""))]);
    let taken = request(&mut side).id;
    assert_eq!((taken, side.events(), side.connection.open_requests()), (incoming(1), vec![], 3));
    let refused = side.sent_records();
    let refusals = refused.iter().filter_map(|record| match record {
        Record::Fail { call, failure: Failure::Error(info), .. } => Some((*call, Refusal::of(info))),
        _ => None,
    });
    assert_eq!(refusals.collect::<Vec<_>>(), [(3, Some(Refusal::Busy))]);
    // An answer in either dialect makes room for another request.
    side.connection.reply(early[0], ok("1")).unwrap();
    side.hear_records(&[open(5, whole("")), open(7, whole(""))]);
    assert_eq!((request(&mut side).id, side.events()), (incoming(5), vec![]));
}

/// On some message transports, a new connector can take over the routing id of an earlier one, and gets the
/// answers to that one's messages.
#[test]
fn an_answer_to_the_hello_of_another_begins_no_session() {
    let mut former = Side::connected(Role::Connector, two());
    let mut newcomer = Side::new(Role::Connector, two());
    assert!(newcomer.connection.handle_disconnected([7; NONCE_LEN]));
    newcomer.connection.handle_connected(newcomer.now);
    let [hello, another]: [_; 2] = [&mut former, &mut newcomer].map(|side| side.sent().remove(0));

    let mut b = Side::connected(Role::Binder, two());
    b.connection.invoke(b.now, new_call("former", "")).unwrap();
    b.hear(hello);
    b.sent().into_iter().for_each(|message| newcomer.hear(message));
    assert!(!newcomer.connection.is_established());
    assert!(newcomer.events().iter().all(|event| *event == Event::Anomaly(Anomaly::NotAMessage)));
    b.hear(another.clone());
    assert_eq!(b.connection.close_cause(), Some(CloseCause::PeerRestarted));

    let mut b = Side::connected(Role::Binder, two());
    let call = b.connection.invoke(b.now, new_call("later", "")).unwrap();
    b.hear(another);
    exchange(&mut b, &mut newcomer);
    let events = newcomer.events();
    let id = events.iter().find_map(|event| match event {
        Event::Request(request) => Some((request.id, request.method.clone())),
        _ => None,
    });
    let (id, method) = id.unwrap();
    assert_eq!(&*method, "later");
    newcomer.connection.reply(id, ok("to the later one")).unwrap();
    exchange(&mut b, &mut newcomer);
    assert!(b.events().contains(&ended(call, Outcome::Result("to the later one".into()))));
}

#[test]
fn what_is_wrong_with_one_call_costs_only_that_call() {
    let mut side = binder(ConnectionConfig { max_body: 100, max_requests: 2, ..two() });
    let open_with = |call, options: Options, piece| Record::Open {
        call,
        method: "m".into(),
        key: OrderingKey::none(),
        options,
        piece,
    };
    let unsupported = Bytes::from_static(b"\x97\x01\x04\x03\xa1m\xc4\x00\x81\x1f\xc0\xc4\x00");
    side.hear_records(&[
        open(0, whole(vec![0; 101])),
        open(2, Piece { compressed: true, ..whole(&b"\x0a\0"[..]) }),
    ]);
    side.hear(Multipart::single(unsupported, Bytes::new()));
    let good =
        [open_with(6, Options::default(), whole(vec![0; 100])), open(8, whole("")), open(10, whole(""))];
    side.hear_records(&good);
    let refusals: Vec<(u64, Refusal)> = side
        .sent_records()
        .into_iter()
        .map(|record| match record {
            Record::Fail { call, failure: Failure::Error(info), .. } => (call, Refusal::of(&info).unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        (0, Refusal::BodyTooLarge),
        (2, Refusal::MalformedBody),
        (4, Refusal::Unsupported),
        (10, Refusal::Busy),
    ];
    assert_eq!(refusals, expected);
    let requests = side.events().into_iter().filter(|event| matches!(event, Event::Request(_))).count();
    assert_eq!(requests, 2);
}

#[test]
fn what_a_result_gets_wrong_ends_its_call_and_tells_the_peer() {
    let result = |piece| Record::Result { call: 1, options: Options::default(), piece };
    let oversize =
        Piece { compressed: true, ..whole(snap::raw::Encoder::new().compress_vec(&[0; 20_000]).unwrap()) };
    let data = Record::Data { call: 1, offset: 0, piece: part("x") };
    let size = MAX_FIRST + 3_616;
    let cases = [
        (
            vec![result(oversize)],
            Outcome::Malformed(DecodeError::TooLarge { what: "a piece", size, limit: MAX_FIRST }),
        ),
        (vec![data], Outcome::Fault(StreamFault::NotBegun)),
        (vec![result(part("x")), result(part("x"))], Outcome::Fault(StreamFault::SecondResult)),
    ];
    for (records, outcome) in cases {
        let mut side = binder(two());
        let call = side.invoke("m");
        side.sent();
        side.hear_records(&records);
        assert_eq!(side.events().last(), Some(&ended(call, outcome)));
        assert_eq!(side.sent_records(), [Record::Cancel { call: 1 }]);
        assert!(side.connection.is_idle() && !side.connection.is_closed());
    }
}

#[test]
fn a_goodbye_tells_which_calls_were_not_taken() {
    let (mut a, mut b) = pair2(two(), two());
    let taken = a.invoke("m");
    exchange(&mut a, &mut b);
    let asked = request(&mut b);
    let sent = a.invoke("m");
    let on_its_way = a.sent();
    let queued = a.invoke("m");
    b.connection.drain();
    b.connection.drain();
    let goodbye = b.sent_records();
    assert_eq!(goodbye, [Record::Goodbye { next: 2 }], "once");
    a.hear_records(&goodbye);
    let events = a.events();
    for (event, call) in events.iter().zip([sent, queued]) {
        let Event::Ended { call: ended, outcome: Outcome::Error(info), .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!((*ended, Refusal::of(info)), (call, Some(Refusal::ShuttingDown)));
    }
    assert_eq!(events[2..], [Event::Goodbye]);
    assert_eq!(a.connection.invoke(a.now, call("m")), Err(InvokeError::PeerDraining));
    on_its_way.into_iter().for_each(|packet| b.hear(packet));
    assert_eq!((b.events(), b.sent()), (vec![], vec![]), "it was told");
    b.connection.reply(asked.id, ok("1")).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [ended(taken, Outcome::Result("1".into()))]);
    assert!(a.connection.is_idle() && b.connection.is_idle());
}

#[test]
fn who_drains_before_the_handshake_says_so_after_it() {
    let mut a = Side::connected(Role::Connector, two());
    let mut b = Side::connected(Role::Binder, two());
    b.connection.drain();
    exchange(&mut a, &mut b);
    assert!(a.events().contains(&Event::Goodbye));
}

#[test]
fn numbers_of_calls_are_used_once() {
    let (mut a, _) = pair2(two(), two());
    a.connection.calls.numbers().skip_to(MAX_CALL - 1, 1);
    let last = a.invoke("m");
    assert_eq!(a.sent_records(), [open(MAX_CALL - 1, whole("1"))]);
    let past = a.invoke("m");
    assert_eq!(a.sent(), []);
    let cause = CloseCause::CallsExhausted;
    let gone = |call, sent| ended(call, Outcome::Disconnected { cause, sent });
    assert_eq!(a.events(), [gone(last, true), gone(past, false), Event::Closed(cause)]);
}

#[test]
fn a_link_that_ends_ends_every_call_and_says_which_had_left() {
    let (mut a, mut b) = pair2(two(), two());
    let sent = a.invoke("m");
    let answered = a.invoke("m");
    exchange(&mut a, &mut b);
    let [_, second] = [request(&mut b), request(&mut b)];
    b.connection.reply(second.id, ok("1")).unwrap();
    exchange(&mut a, &mut b);
    let unsent = a.invoke("m");
    a.connection.close(CloseCause::LinkLost);
    let cause = CloseCause::LinkLost;
    assert_eq!(
        a.events(),
        [
            ended(answered, Outcome::Result("1".into())),
            ended(sent, Outcome::Disconnected { cause, sent: true }),
            ended(unsent, Outcome::Disconnected { cause, sent: false }),
            Event::Closed(cause)
        ]
    );
}

#[test]
fn what_the_handshake_has_left_behind_is_given_back_at_once() {
    let (a, b) = pair2(two(), two());
    for mut side in [a, b] {
        assert_eq!(side.connection.poll_timeout(), Some(side.now));
        side.pass(Duration::ZERO);
        assert_eq!(side.connection.poll_timeout(), Some(side.now + QUIET), "it was not quiet");
    }
}
