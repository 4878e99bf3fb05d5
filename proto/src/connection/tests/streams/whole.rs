//! Arguments and results that are delivered as a whole: one event, however they arrive and end.

use super::*;
use crate::endpoint::{Endpoint, EndpointConfig};

/// A configuration without streamed arguments, whose windows have the same size before and after the first
/// read.
fn plain() -> ConnectionConfig {
    ConnectionConfig { first_window: u64::MAX, ..ConnectionConfig::default() }
}

/// A call that takes its result as a whole.
fn plain_call(body: impl Into<Bytes>) -> Call {
    Call::new("m", body)
}

fn sized(size: Option<u64>) -> Options {
    Options { size, ..Options::default() }
}

fn open_sized(call: u64, size: Option<u64>, piece: Piece) -> Record {
    Record::Open { call, method: "m".into(), key: OrderingKey::none(), options: sized(size), piece }
}

/// The events for the endpoint, as text.
fn told(side: &mut Side) -> Vec<String> {
    let words = |event: EndpointEvent| match event {
        EndpointEvent::Arrived(arrival) if arrival.ready => "arrived ready".to_owned(),
        EndpointEvent::Arrived(_) => "arrived".to_owned(),
        EndpointEvent::Ready { bytes, .. } => format!("ready {bytes}"),
        EndpointEvent::Withdrawn { reply: Reply::Error(info), .. } => format!("withdrawn {}", &*info.name),
        EndpointEvent::Withdrawn { reply, .. } => format!("withdrawn {reply:?}"),
        EndpointEvent::NeverRan(_) => "never ran".to_owned(),
        EndpointEvent::ReassemblyWanted { bytes, .. } => format!("wants {bytes}"),
        EndpointEvent::ReassemblyEnded { .. } => "freed".to_owned(),
        EndpointEvent::Closed(_) => "closed".to_owned(),
        other => format!("{other:?}"),
    };
    side.told().into_iter().map(words).collect()
}

#[track_caller]
fn assert_nothing_is_left(side: &mut Side) {
    side.sent();
    side.pass(KEPT_FOR);
    let connection = &mut side.connection;
    assert!(connection.is_idle(), "{connection:?}");
    assert_eq!(
        (connection.held_bytes(), connection.queued_bytes(), connection.next_deadline()),
        (0, 0, None)
    );
    assert_eq!(connection.calls.flow().growth_left, connection.config.connection_window / 2);
    assert_eq!((side.events(), told(side)), (vec![], vec![]));
}

#[test]
fn large_bodies_come_as_one_event_each_way() {
    let (mut a, mut b) = pair2(plain(), plain());
    let mut metadata = Metadata::new();
    metadata.insert("trace", &b"42"[..]).unwrap();
    let call = Call { metadata: metadata.clone(), ..plain_call(body(300_000)) };
    let id = a.connection.invoke(a.now, call).unwrap();
    exchange(&mut a, &mut b);
    let events = b.events();
    let [Event::Request(request)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&request.body, &request.metadata), (&Body::Whole(body(300_000)), &metadata));
    assert_eq!(
        told(&mut b),
        ["arrived", "wants 300000", "freed", "ready 300000"],
        "it takes memory until it starts"
    );
    let reply = Reply::Result { body: body(500_000), compressed: true, metadata: metadata.clone() };
    b.connection.reply(request.id, reply).unwrap();
    exchange(&mut b, &mut a);
    assert_eq!(a.events(), [Event::Ended { call: id, outcome: Outcome::Result(body(500_000)), metadata }]);
    assert_eq!(told(&mut a), ["wants 500000", "freed"]);
    assert_nothing_is_left(&mut a);
    assert_nothing_is_left(&mut b);
}

#[test]
fn the_memory_of_a_body_is_used_again_for_a_second() {
    let (mut a, mut b) = pair2(plain(), plain());
    let mut next = |waits: Duration| {
        b.pass(waits);
        a.connection.invoke(a.now, plain_call(body(300_000))).unwrap();
        exchange(&mut a, &mut b);
        let events = b.events();
        let [Event::Request(Request { id, body: Body::Whole(came), .. })] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(*came, body(300_000));
        let at = came.as_ptr();
        b.connection.reply(*id, Reply::result("")).unwrap();
        exchange(&mut b, &mut a);
        assert_eq!((a.events().len(), told(&mut b).len()), (1, 4));
        at
    };
    let first = next(Duration::ZERO);
    assert_eq!(next(Duration::ZERO), first);
    assert_eq!(next(KEPT_FOR / 2), first);
    next(KEPT_FOR / 2);
    assert_eq!(b.connection.calls.spares_len(), 1, "it was forgotten, and this is a new one");
    b.pass(KEPT_FOR);
    assert_eq!(b.connection.calls.spares_len(), 0);
    assert_nothing_is_left(&mut a);
    assert_nothing_is_left(&mut b);
}

#[test]
fn a_small_argument_needs_no_memory() {
    let (mut a, mut b) = pair2(plain(), plain());
    a.connection.invoke(a.now, plain_call(body(MAX_FIRST))).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(request(&mut b).body, Body::Whole(body(MAX_FIRST)));
    assert_eq!(told(&mut b), ["arrived ready"]);
}

#[test]
fn a_streamed_argument_is_reassembled_where_it_is_not_asked_for_as_a_stream() {
    let streams = StreamArguments::Of(std::sync::Arc::new(|method| method == "streams"));
    let (mut a, mut b) = pair2(two(), ConnectionConfig { stream_arguments: streams, ..plain() });
    for (method, streams) in [("m", false), ("streams", true)] {
        let call = Call { argument: Delivery::Stream, ..new_call(method, "a") };
        let up = StreamId::Call(a.connection.invoke(a.now, call).unwrap());
        exchange(&mut a, &mut b);
        a.write(up, "b").unwrap();
        exchange(&mut a, &mut b);
        assert_eq!(b.connection.open_requests(), 1);
        let events = b.events();
        assert_eq!(events.len(), usize::from(streams), "{events:?}");
        a.connection.send_stream(up).finish().unwrap();
        exchange(&mut a, &mut b);
        let request = match streams {
            true => {
                let Event::Request(request) = &events[0] else { panic!("{events:?}") };
                assert_eq!(b.read_all(theirs(request)), (b"ab".to_vec(), true));
                request.clone()
            }
            false => request(&mut b),
        };
        assert_eq!(
            request.body,
            if streams { Body::Stream { size: None } } else { Body::Whole("ab".into()) }
        );
        b.connection.reply(request.id, ok("1")).unwrap();
        exchange(&mut a, &mut b);
        a.events();
        b.events();
    }
    assert!(a.connection.is_idle() && b.connection.is_idle());
}

/// A request whose argument has begun, and whose arrival was reported. `has_memory` is whether its reassembly
/// has begun.
fn begun_argument(has_memory: bool) -> Side {
    begun_argument_of(None, has_memory)
}

fn begun_argument_of(size: Option<u64>, has_memory: bool) -> Side {
    let mut side = binder(ConnectionConfig { max_body: 100_000, ..plain() });
    side.endpoint.grants = false;
    side.hear_records(&[open_sized(0, size, part("some")), data(0, 4, part(" more"))]);
    assert_eq!(told(&mut side), ["arrived".to_owned(), format!("wants {}", size.unwrap_or(100_000))]);
    if has_memory {
        side.decide(ConnectionEvent::Reassemble(incoming(0).into()));
    }
    assert_eq!((side.events(), told(&mut side)), (vec![], vec![]));
    side
}

/// The reply to a withdrawn request: the endpoint sends it, unless it has done so because the request never
/// ran.
fn replied(side: &mut Side) -> Record {
    if let Some(reply) = side.endpoint.withdrawn.remove(&incoming(0)) {
        side.decide(ConnectionEvent::Reply { request: incoming(0), reply });
    }
    side.sent_records().into_iter().find(|record| matches!(record, Record::Fail { .. })).expect("an answer")
}

#[test]
fn an_argument_that_can_not_be_completed_is_no_request() {
    let past = || vec![0; 60_000];
    let cases: [(&str, Vec<Record>, &str); 5] = [
        (
            "too large by what comes",
            vec![data(0, 9, part(past())), data(0, 60_009, part(past()))],
            "BodyTooLarge",
        ),
        ("aborted", vec![Record::Abort { call: 0 }], "MalformedBody"),
        ("out of place", vec![data(0, 8, part("x"))], "MalformedBody"),
        ("no Snappy", vec![data(0, 9, Piece { compressed: true, ..part("x") })], "MalformedBody"),
        ("cancelled", vec![Record::Cancel { call: 0 }], "Cancelled"),
    ];
    for (why, records, refusal) in cases {
        for (has_memory, is_cancelled) in [(true, false), (false, false), (true, true), (false, true)] {
            // Without memory, received bytes are not checked against the limit.
            if !has_memory && refusal == "BodyTooLarge" {
                continue;
            }
            let mut side = begun_argument(has_memory);
            side.hear_records(&records);
            let mut told = told(&mut side);
            told.sort_unstable();
            assert_eq!(told, ["freed".to_owned(), format!("withdrawn {refusal}")], "{why}");
            assert!(side.events().iter().all(|event| matches!(event, Event::Anomaly(_))), "{why}");
            assert_eq!(side.connection.held_bytes(), 0, "{why}: before it is answered");
            // Its answer waits for its order, until the caller gives up.
            if is_cancelled {
                side.hear_records(&[Record::Cancel { call: 0 }]);
                let again =
                    if refusal == "Cancelled" { vec![] } else { vec!["withdrawn Cancelled".to_owned()] };
                assert_eq!(self::told(&mut side), again, "{why}");
            }
            // Data, memory and a start that are still on their way arrive too late.
            side.decide(ConnectionEvent::Reassemble(incoming(0).into()));
            side.decide(ConnectionEvent::Start(incoming(0)));
            assert_eq!(side.events(), [], "{why}");
            assert!(matches!(side.told()[..], [EndpointEvent::NeverRan(_)]), "{why}");
            let Record::Fail { call: 0, failure, .. } = replied(&mut side) else { panic!() };
            match failure {
                Failure::Cancelled => assert!(is_cancelled || refusal == "Cancelled", "{why}"),
                Failure::Error(info) => assert_eq!((&*info.name, is_cancelled), (refusal, false), "{why}"),
                Failure::Failure(info) => panic!("{info:?}"),
            }
            assert_nothing_is_left(&mut side);
        }
    }
}

#[test]
fn an_argument_over_the_limit_by_its_declaration_never_is_a_request() {
    for (size, fits) in [(100_000, true), (100_001, false)] {
        let mut side = binder(ConnectionConfig { max_body: 100_000, ..plain() });
        side.hear_records(&[open_sized(0, Some(size), part("some"))]);
        if fits {
            assert_eq!(told(&mut side), ["arrived", "wants 100000"]);
            continue;
        }
        assert_eq!(told(&mut side), ["arrived", "wants 100000", "freed", "withdrawn BodyTooLarge"]);
        // Data that is still on its way is dropped.
        side.hear_records(&[data(0, 4, part(vec![0; 50_000]))]);
        assert_eq!((side.events(), side.connection.held_bytes()), (vec![], 0));
        replied(&mut side);
        side.hear_records(&[data(0, 50_004, part(vec![0; 50_000]))]);
        assert_nothing_is_left(&mut side);
    }
}

#[test]
fn an_argument_that_takes_too_long_is_no_request() {
    let mut side = begun_argument(false);
    side.pass(100 * SECOND);
    assert_eq!(told(&mut side), [] as [&str; 0], "its time counts from the memory on");
    side.decide(ConnectionEvent::Reassemble(incoming(0).into()));
    side.pass(31 * SECOND - Duration::from_nanos(1));
    assert_eq!(told(&mut side), [] as [&str; 0]);
    side.pass(Duration::from_nanos(1));
    assert_eq!(
        (side.events(), told(&mut side)),
        (vec![], vec!["freed".into(), "withdrawn MalformedBody".into()])
    );
    replied(&mut side);
    assert_nothing_is_left(&mut side);

    // Or longer than the caller's deadline.
    for has_memory in [true, false] {
        let mut side = binder(plain());
        side.endpoint.grants = has_memory;
        let options = Options { remaining: Some(SECOND), ..Options::default() };
        let (method, key) = ("m".into(), OrderingKey::none());
        side.hear_records(&[Record::Open { call: 0, method, key, options, piece: part("some") }]);
        told(&mut side);
        side.pass(2 * SECOND);
        let expected = vec!["freed".to_owned(), "withdrawn Cancelled".to_owned()];
        assert_eq!((side.events(), told(&mut side)), (vec![], expected));
        side.hear_records(&[data(0, 4, whole(" more"))]);
        replied(&mut side);
        assert_nothing_is_left(&mut side);
    }
}

#[test]
fn a_complete_argument_that_waits_for_memory_is_held_until_then() {
    let mut side = begun_argument_of(Some(13), false);
    side.hear_records(&[data(0, 9, whole(" all"))]);
    assert_eq!((side.events(), told(&mut side)), (vec![], vec![]));
    assert_eq!(side.connection.held_bytes(), 9 - 4 + 4 + 2 * RECORD_COST);
    side.decide(ConnectionEvent::Start(incoming(0)));
    assert_eq!(side.events(), [], "it is not ready");
    side.decide(ConnectionEvent::Reassemble(incoming(0).into()));
    side.endpoint.starts = false;
    let ready = vec!["freed".to_owned(), "ready 13".to_owned()];
    assert_eq!((side.connection.held_bytes(), told(&mut side)), (0, ready));
    assert_eq!(side.read(incoming(0).into()), Err(ReadError::NotOpen), "nobody knows of it yet");
    side.decide(ConnectionEvent::Start(incoming(0)));
    assert_eq!(request(&mut side).body, Body::Whole("some more all".into()));
    assert_eq!(told(&mut side), [""; 0]);
    side.connection.reply(incoming(0), ok("1")).unwrap();
    assert_nothing_is_left(&mut side);
}

/// It has asked for the memory of the largest body, but has arrived completely, in its window.
#[test]
fn a_body_of_unknown_size_that_is_complete_needs_no_memory() {
    let mut side = begun_argument(false);
    side.endpoint.starts = false;
    side.hear_records(&[data(0, 9, whole(" all"))]);
    assert_eq!(told(&mut side), ["freed", "ready 13"]);
    assert_eq!(side.connection.held_bytes(), 0);
    // The endpoint assigned memory before this was reported.
    side.decide(ConnectionEvent::Reassemble(incoming(0).into()));
    assert_eq!((side.events(), told(&mut side)), (vec![], vec![]));
    side.decide(ConnectionEvent::Start(incoming(0)));
    assert_eq!(request(&mut side).body, Body::Whole("some more all".into()));
    side.connection.reply(incoming(0), ok("1")).unwrap();
    assert_nothing_is_left(&mut side);

    let (mut side, call) = begun_result(None, false);
    side.hear_records(&[data(1, 9, whole(" all"))]);
    let result = ended(call, Outcome::Result("some more all".into()));
    assert_eq!((side.events(), told(&mut side)), (vec![result], vec!["freed".to_owned()]));
    side.decide(ConnectionEvent::Reassemble(call.into()));
    assert_nothing_is_left(&mut side);
}

#[test]
fn a_complete_argument_that_finds_no_place_is_refused_and_dropped() {
    let mut side = begun_argument(true);
    side.endpoint.starts = false;
    side.hear_records(&[data(0, 9, whole(" all"))]);
    assert_eq!(told(&mut side), ["freed", "ready 13"]);
    side.decide(ConnectionEvent::Refuse { request: incoming(0), reason: busy() });
    let answers = side.sent_records();
    let refusal = answers.iter().find_map(|record| match record {
        Record::Fail { failure: Failure::Error(info), .. } => Refusal::of(info),
        _ => None,
    });
    assert_eq!(refusal, Some(Refusal::Busy), "{answers:?}");
    assert_nothing_is_left(&mut side);
}

#[test]
fn a_request_that_is_cancelled_between_its_argument_and_its_start_never_runs() {
    for started in [false, true] {
        let mut side = begun_argument(true);
        side.endpoint.starts = false;
        side.hear_records(&[data(0, 9, whole(" all"))]);
        assert_eq!(told(&mut side), ["freed", "ready 13"]);
        if started {
            side.decide(ConnectionEvent::Start(incoming(0)));
            request(&mut side);
        }
        side.hear_records(&[Record::Cancel { call: 0 }]);
        let stop = Event::Stop { request: incoming(0), reason: StopReason::Cancelled };
        if started {
            assert_eq!(
                (side.events(), told(&mut side)),
                (vec![stop], vec!["withdrawn Cancelled".to_owned()])
            );
        } else {
            assert_eq!(side.events(), []);
            assert_eq!(told(&mut side), ["withdrawn Cancelled"]);
            // The endpoint started it before this was reported.
            side.decide(ConnectionEvent::Start(incoming(0)));
            assert_eq!((side.events(), told(&mut side)), (vec![], vec!["never ran".to_owned()]));
        }
        side.decide(ConnectionEvent::Reply { request: incoming(0), reply: Reply::Cancelled });
        let answers = side.sent_records();
        let answer = answers.iter().filter(|record| matches!(record, Record::Fail { .. })).count();
        assert_eq!(answer, 1, "{answers:?}");
        assert_nothing_is_left(&mut side);
    }
}

#[test]
fn an_incomplete_request_may_be_refused_or_lose_its_connection() {
    for has_memory in [true, false] {
        let mut side = begun_argument(has_memory);
        side.decide(ConnectionEvent::Refuse { request: incoming(0), reason: busy() });
        let [Record::Fail { call: 0, failure: Failure::Error(info), .. }] = &side.sent_records()[..] else {
            panic!("an ERROR")
        };
        assert_eq!(Refusal::of(info), Some(Refusal::Busy));
        assert_eq!(told(&mut side), ["freed"]);
        side.hear_records(&[data(0, 9, part("late"))]);
        assert_nothing_is_left(&mut side);

        let mut side = begun_argument(has_memory);
        side.connection.close(CloseCause::LinkLost);
        assert_eq!(side.events(), [Event::Closed(CloseCause::LinkLost)]);
        assert_eq!(told(&mut side), ["closed"]);
        side.decide(ConnectionEvent::Reassemble(incoming(0).into()));
        assert_nothing_is_left(&mut side);
        side.decide(ConnectionEvent::Start(incoming(0)));
        assert_eq!((side.events(), told(&mut side)), (vec![], vec!["never ran".to_owned()]));
    }
}

/// A call of this side whose result has begun, with the text "some".
fn begun_result(size: Option<u64>, has_memory: bool) -> (Side, CallId) {
    let mut side = binder(ConnectionConfig { max_body: 100_000, ..plain() });
    side.endpoint.grants = false;
    let deadline = Some(side.now + 600 * SECOND);
    let call = side.connection.invoke(side.now, Call { deadline, ..plain_call("1") }).unwrap();
    side.sent();
    let begin = Record::Result { call: 1, options: sized(size), piece: part("some") };
    side.hear_records(&[begin, data(1, 4, part(" more"))]);
    assert_eq!(told(&mut side), [format!("wants {}", size.unwrap_or(100_000))]);
    if has_memory {
        side.decide(ConnectionEvent::Reassemble(call.into()));
    }
    assert_eq!((side.events(), told(&mut side)), (vec![], vec![]));
    (side, call)
}

#[test]
fn a_result_that_can_not_be_completed_is_one_event() {
    let info = || ErrorInfo::new("E", "e");
    let too_large = DecodeError::TooLarge { what: "a body", size: 120_009, limit: 100_000 };
    let again = Record::Result { call: 1, options: Options::default(), piece: part("x") };
    let past = || vec![0; 60_000];
    let fail = Record::Fail { call: 1, failure: Failure::Failure(info()), options: Options::default() };
    let cases = [
        (vec![data(1, 9, part(past())), data(1, 60_009, part(past()))], Outcome::Malformed(too_large), true),
        (vec![fail], Outcome::Failure(info().into()), false),
        (vec![data(1, 8, part("x"))], Outcome::Fault(StreamFault::Overlap), true),
        (vec![again], Outcome::Fault(StreamFault::SecondResult), true),
    ];
    for (records, outcome, cancels) in cases {
        for has_memory in [true, false] {
            if !has_memory && matches!(outcome, Outcome::Malformed(_)) {
                continue;
            }
            let (mut side, call) = begun_result(None, has_memory);
            side.hear_records(&records);
            let events = side.events();
            assert_eq!(events.last(), Some(&ended(call, outcome.clone())));
            let anomalies = events.iter().filter(|event| matches!(event, Event::Anomaly(_))).count();
            assert_eq!(events.len(), anomalies + 1, "{events:?}");
            assert_eq!(told(&mut side), ["freed"]);
            let sent = side.sent_records();
            assert_eq!(sent.contains(&Record::Cancel { call: 1 }), cancels, "{sent:?}");
            side.decide(ConnectionEvent::Reassemble(call.into()));
            assert_nothing_is_left(&mut side);
        }
    }
}

#[test]
fn a_result_over_the_limit_by_its_declaration_is_one_event() {
    let mut side = binder(ConnectionConfig { max_body: 100_000, ..plain() });
    let call = side.connection.invoke(side.now, plain_call("1")).unwrap();
    side.sent();
    side.hear_records(&[Record::Result { call: 1, options: sized(Some(100_001)), piece: part("") }]);
    let error = DecodeError::TooLarge { what: "a body", size: 100_001, limit: 100_000 };
    assert_eq!(side.events(), [ended(call, Outcome::Malformed(error))]);
    assert_eq!(told(&mut side), ["wants 100000", "freed"]);
    assert_eq!(side.sent_records(), [Record::Cancel { call: 1 }]);
    assert_nothing_is_left(&mut side);
}

#[test]
fn a_result_that_takes_too_long_or_is_abandoned_frees_its_memory() {
    let (mut side, call) = begun_result(None, true);
    side.pass(31 * SECOND);
    assert_eq!(side.events(), [ended(call, Outcome::TimedOut { sent: true })]);
    assert_eq!(
        (side.sent_records().pop(), told(&mut side)),
        (Some(Record::Cancel { call: 1 }), vec!["freed".into()])
    );
    assert_nothing_is_left(&mut side);
    for has_memory in [true, false] {
        for abandons in [true, false] {
            let (mut side, call) = begun_result(None, has_memory);
            if abandons {
                assert!(side.connection.abandon(call));
                assert_eq!(side.events(), []);
            } else {
                // Its reassembly may time out first.
                side.pass(600 * SECOND);
                assert_eq!(side.events(), [ended(call, Outcome::TimedOut { sent: true })]);
            }
            assert_eq!(told(&mut side), ["freed"]);
            assert_eq!(side.sent_records().pop(), Some(Record::Cancel { call: 1 }));
            side.hear_records(&[data(1, 9, whole("late"))]);
            assert_nothing_is_left(&mut side);
        }
    }
}

#[test]
fn a_complete_result_that_waits_for_memory_comes_once_there_is_some() {
    for closes in [false, true] {
        let (mut side, call) = begun_result(Some(13), false);
        side.hear_records(&[data(1, 9, whole(" all"))]);
        assert_eq!((side.events(), told(&mut side)), (vec![], vec![]));
        assert_eq!((side.connection.open_calls(), side.connection.is_idle()), (1, false));
        let result = ended(call, Outcome::Result("some more all".into()));
        if closes {
            // Complete results are here, and incomplete ones no longer count.
            side.connection.close(CloseCause::LinkLost);
            assert_eq!(side.events(), [result, Event::Closed(CloseCause::LinkLost)]);
            assert_eq!(told(&mut side), ["closed"]);
        } else {
            side.decide(ConnectionEvent::Reassemble(call.into()));
            assert_eq!((side.events(), told(&mut side)), (vec![result], vec!["freed".to_owned()]));
        }
        assert_nothing_is_left(&mut side);
    }
}

#[test]
fn a_result_that_has_begun_ends_with_its_connection() {
    for has_memory in [true, false] {
        let (mut side, call) = begun_result(None, has_memory);
        let cause = CloseCause::LinkLost;
        side.connection.close(cause);
        let disconnected = ended(call, Outcome::Disconnected { cause, sent: true });
        assert_eq!(side.events(), [disconnected, Event::Closed(cause)]);
        assert_eq!(told(&mut side), ["closed"]);
        assert_nothing_is_left(&mut side);
    }
}

#[test]
fn a_result_that_is_owed_as_a_whole_is_not_read_as_a_stream() {
    let (mut side, call) = begun_result(None, true);
    let stream = StreamId::Call(call);
    assert_eq!(side.read(stream), Err(ReadError::NotOpen));
    assert_eq!(side.connection.recv_stream(stream).reassemble(), Err(ReadError::NotOpen));
    side.connection.recv_stream(stream).stop();
    side.hear_records(&[data(1, 9, whole(" all"))]);
    assert_eq!(side.events(), [ended(call, Outcome::Result("some more all".into()))]);
}

#[test]
fn a_whole_result_ends_an_argument_that_has_not_left() {
    let (mut a, mut b) = pair2(plain(), two());
    let call = Call { argument: Delivery::Stream, ..plain_call("") };
    let call = a.connection.invoke(a.now, call).unwrap();
    a.write(call.into(), body(1 << 20)).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.connection.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    b.write(theirs(&request), "done").unwrap();
    b.connection.send_stream(theirs(&request)).finish().unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.events(), [ended(call, Outcome::Result("done".into()))]);
    assert_eq!(a.write(call.into(), "more"), Err(WriteError::NotOpen));
    b.read(theirs(&request)).ok();
    assert_eq!(b.read_to_failure(theirs(&request)), ReadError::Aborted);
    b.connection.reply(request.id, Reply::End).unwrap();
    exchange(&mut a, &mut b);
    assert!(a.connection.is_idle() && b.connection.is_idle());
}

/// Passes events between a connection and its endpoint, and answers requests that start; returns their
/// number.
fn host(side: &mut Side, endpoint: &mut Endpoint) -> usize {
    let mut started = 0;
    loop {
        let told = side.told();
        let nothing_new = told.is_empty();
        told.into_iter().for_each(|event| endpoint.handle_event(event));
        while let Some((connection, event)) = endpoint.poll_event() {
            assert_eq!(connection, side.connection.id());
            side.decide(event);
        }
        for event in side.events() {
            if let Event::Request(request) = event {
                let Body::Whole(body) = request.body else { panic!("{request:?}") };
                endpoint.finish(request.id, Some(Reply::result(body)));
                started += 1;
            }
        }
        if nothing_new && side.endpoint.told.is_empty() {
            return started;
        }
    }
}

#[test]
fn bodies_past_the_memory_of_an_endpoint_take_turns() {
    let mut config = EndpointConfig::default();
    (config.max_reassembly, config.ordering.max_running) = (250_000, 1);
    let mut endpoint = Endpoint::new(config);
    while endpoint.open() != ConnectionId(7) {}
    let (mut a, mut b) = pair2(plain(), plain());
    (b.endpoint.starts, b.endpoint.grants) = (false, false);
    host(&mut b, &mut endpoint);
    let key = || OrderingKey::text("k");
    let sizes = [100_000, 200_000, 10, 400_000, 100_000, 100_000];
    let calls =
        sizes.map(|size| a.connection.invoke(a.now, Call { key: key(), ..plain_call(body(size)) }).unwrap());
    let abandoned = a.connection.invoke(a.now, plain_call(body(300_000))).unwrap();
    let (mut ended, mut rounds) = (Vec::new(), 0);
    while ended.len() < calls.len() {
        a.sent().into_iter().for_each(|message| b.hear(message));
        host(&mut b, &mut endpoint);
        if rounds == 0 {
            a.connection.abandon(abandoned);
        }
        b.sent().into_iter().for_each(|message| a.hear(message));
        for event in a.events() {
            let Event::Ended { call, outcome: Outcome::Result(body), .. } = event else {
                panic!("{event:?}")
            };
            ended.push((call, body.len()));
        }
        rounds += 1;
        assert!(rounds < 1_000, "it hangs: {ended:?}");
    }
    let order: Vec<CallId> = ended.iter().map(|(call, _)| *call).collect();
    assert_eq!(order, calls, "in their order");
    assert!(ended.into_iter().zip(sizes).all(|((_, len), size)| len == size));
    exchange(&mut a, &mut b);
    host(&mut b, &mut endpoint);
    a.told();
    endpoint.audit();
    assert!(endpoint.is_idle() && endpoint.audit_empty());
    assert_nothing_is_left(&mut a);
    assert_nothing_is_left(&mut b);
}
