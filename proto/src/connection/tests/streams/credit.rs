//! Credit of a stream and of the connection, and windows.

use super::*;

#[test]
fn no_more_leaves_than_the_peer_gives_credit_for() {
    let config = ConnectionConfig { stream_window: 100_000, ..two() };
    let (mut a, mut b) = pair2(two(), config);
    a.connection.invoke(a.now, new_call("m", body(1 << 20))).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    assert!(matches!(request.body, Body::Stream { .. }));
    assert_eq!(b.arrival().bytes, 1 + 100_000 + MAX_FIRST);
    let held = b.connection.held_bytes();
    assert!(held <= 100_000 && held > 100_000 - RECORD_COST, "{held}");
    exchange(&mut a, &mut b);
    assert_eq!(b.connection.held_bytes(), held, "nothing was read");
    let (read, end) = b.read_all(theirs(&request));
    assert_eq!((read.len(), end), (MAX_FIRST + held as usize - 2 * RECORD_COST as usize, false));
    exchange(&mut a, &mut b);
    assert!(b.connection.held_bytes() > 60_000, "then more comes");
}

#[test]
fn the_link_as_a_whole_has_credit_too() {
    let config = ConnectionConfig { connection_window: 300_000, ..two() };
    let (mut a, mut b) = pair2(two(), config);
    for _ in 0..4 {
        a.connection.invoke(a.now, new_call("m", body(1 << 20))).unwrap();
    }
    exchange(&mut a, &mut b);
    let requests = [request(&mut b), request(&mut b), request(&mut b), request(&mut b)];
    let held = b.connection.held_bytes();
    assert!((300_000 - RECORD_COST..=300_000).contains(&held), "{held}");
    // A small call needs no credit.
    a.invoke("small");
    exchange(&mut a, &mut b);
    assert!(
        b.events()
            .iter()
            .any(|event| matches!(event, Event::Request(request) if &*request.method == "small"))
    );
    for request in &requests {
        b.collect(theirs(request));
    }
    exchange(&mut a, &mut b);
    for _ in requests {
        assert_eq!(b.connection.held_bytes(), 0);
    }
    let done = b
        .events()
        .into_iter()
        .filter(|event| matches!(event, Event::Reassembled { body: Ok(_), .. }))
        .count();
    assert_eq!(done, 4);
}

#[test]
fn streams_that_nobody_reads_hold_up_no_other_while_there_is_room() {
    let config = ConnectionConfig { stream_window: 80_000, connection_window: 100_000, ..two() };
    let (mut a, mut b) = pair2(two(), config);
    let unread = a.connection.invoke(a.now, new_call("unread", body(1 << 20))).unwrap();
    exchange(&mut a, &mut b);
    let _ = request(&mut b);
    assert!(b.connection.held_bytes() > 79_000);
    for _ in 0..3 {
        a.connection.invoke(a.now, new_call("read", body(200_000))).unwrap();
        exchange(&mut a, &mut b);
        let read = request(&mut b);
        b.collect(theirs(&read));
        exchange(&mut a, &mut b);
        assert_eq!(b.collected(), Ok(body(200_000)));
        b.connection.reply(read.id, ok("1")).unwrap();
        exchange(&mut a, &mut b);
    }
    a.connection.abandon(unread);
}

#[test]
fn an_argument_whose_call_is_cancelled_holds_no_credit() {
    let (mut a, mut b) = pair2(two(), two());
    let call = a.connection.invoke(a.now, new_call("m", body(400_000))).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    assert!(b.connection.held_bytes() > 250_000);
    a.connection.abandon(call);
    exchange(&mut a, &mut b);
    assert_eq!(b.connection.held_bytes(), 0, "though it is not answered yet");
    assert_eq!(b.read(theirs(&request)), Err(ReadError::Aborted));
    // An answer in one message needs no credit.
    b.connection.reply(request.id, Reply::result(body(100_000))).unwrap();
    let cancelled = |record: &Record| matches!(record, Record::Fail { failure: Failure::Cancelled, .. });
    assert!(b.sent_records().iter().any(cancelled));
    assert!(b.connection.is_idle());
}

/// A configuration with small initial windows.
fn narrow() -> ConnectionConfig {
    ConnectionConfig { first_window: 1_024, stream_window: 50_000, connection_window: 200_000, ..streaming() }
}

#[test]
fn a_window_opens_when_its_stream_is_read() {
    let (mut a, mut b) = pair2(narrow(), narrow());
    let arrived = |b: &Side| b.connection.held_bytes();
    for collects in [false, true] {
        a.connection.invoke(a.now, new_call("m", body(90_000))).unwrap();
        exchange(&mut a, &mut b);
        let request = request(&mut b);
        assert_eq!(request.body, Body::Stream { size: Some(90_000) });
        assert_eq!(b.arrival().bytes, 1 + 1_024 + MAX_FIRST);
        assert_eq!(arrived(&b), 1_024, "as long as nobody reads");
        if collects {
            b.collect(theirs(&request));
            exchange(&mut a, &mut b);
            assert_eq!(b.collected(), Ok(body(90_000)));
        } else {
            // The piece of the OPEN.
            assert!(matches!(b.read(theirs(&request)), Ok(Poll::Ready(Some(_)))));
            exchange(&mut a, &mut b);
            assert_eq!(arrived(&b), 1_024, "nothing of the window has been read");
            assert!(matches!(b.read(theirs(&request)), Ok(Poll::Ready(Some(_)))));
            exchange(&mut a, &mut b);
            assert_eq!(arrived(&b), 50_000);
            let mut rest = 90_000 - MAX_FIRST - (1_024 - RECORD_COST as usize);
            while rest > 0 {
                rest -= b.read_all(theirs(&request)).0.len();
                exchange(&mut a, &mut b);
            }
        }
        b.connection.reply(request.id, ok("1")).unwrap();
        exchange(&mut a, &mut b);
        a.events();
        b.events();
    }
    // A body that fits into the initial window needs no CREDIT.
    a.connection.invoke(a.now, new_call("m", body(MAX_FIRST + 500))).unwrap();
    exchange(&mut a, &mut b);
    let request = request(&mut b);
    b.read_all(theirs(&request));
    let credit = |record: &Record| matches!(record, Record::Credit { .. });
    assert_eq!(b.sent_records().iter().filter(|record| credit(record)).count(), 1, "the last one");
    assert_eq!(b.connection.calls.flow().growth_left, 100_000);
}

#[test]
fn streams_that_carry_little_leave_wide_windows_to_others() {
    let (mut a, mut b) = pair2(narrow(), narrow());
    // Wide windows for all of them would take 4.4 MB of an allowance of 100 KB.
    for _ in 0..90 {
        let up = a.invoke_streamed();
        a.write(up, body(400)).unwrap();
        exchange(&mut a, &mut b);
        let id = theirs(&request(&mut b));
        assert_eq!(b.read_all(id), (body(400).to_vec(), false));
    }
    assert_eq!(b.connection.calls.flow().growth_left, 100_000);
    a.connection.invoke(a.now, new_call("m", body(90_000))).unwrap();
    exchange(&mut a, &mut b);
    let id = theirs(&request(&mut b));
    b.read_all(id);
    exchange(&mut a, &mut b);
    assert_eq!(b.connection.held_bytes(), 50_000);
}

/// The handler may run for long after that, while other streams need wide windows.
#[test]
fn an_argument_that_needs_its_window_no_more_makes_room_for_others() {
    for end in ["read", "reassembled", "stopped", "aborted"] {
        let (mut a, mut b) = pair2(narrow(), narrow());
        let up = a.invoke_streamed();
        a.write(up, body(20_000)).unwrap();
        exchange(&mut a, &mut b);
        let id = theirs(&request(&mut b));
        assert!(matches!(b.read(id), Ok(Poll::Ready(Some(_)))));
        assert_eq!(b.connection.calls.flow().growth_left, 100_000 - (50_000 - 1_024));
        match end {
            "stopped" => b.connection.recv_stream(id).stop(),
            "aborted" => a.connection.send_stream(up).abort(),
            _ => a.connection.send_stream(up).finish().unwrap(),
        }
        if end == "reassembled" {
            b.collect(id);
        }
        exchange(&mut a, &mut b);
        if end == "read" {
            assert!(b.connection.calls.flow().growth_left < 100_000, "unread bytes use the window");
            assert!(b.read_all(id).1);
        }
        assert_eq!(
            (b.connection.calls.flow().growth_left, b.connection.open_requests()),
            (100_000, 1),
            "{end}"
        );
        b.connection.audit();
    }
}

/// Calls whose results have begun, and have not been read.
fn ninety_results(a: &mut Side, b: &mut Side) -> Vec<CallId> {
    let calls = (0..90).map(|_| a.invoke("m")).collect();
    exchange(a, b);
    for event in b.events() {
        let Event::Request(request) = event else { continue };
        b.connection.reply(request.id, Reply::result(body(100_000))).unwrap();
    }
    exchange(a, b);
    calls
}

#[test]
fn streams_are_read_in_any_order() {
    // Far more than the connection's window, of which initial windows take up at most half.
    let (mut a, mut b) = pair2(narrow(), narrow());
    let calls = ninety_results(&mut a, &mut b);
    a.events();
    for call in calls.into_iter().rev() {
        let (id, mut all) = (StreamId::Call(call), Vec::new());
        for turn in 0.. {
            let (more, end) = a.read_all(id);
            all.extend(more);
            exchange(&mut a, &mut b);
            if end {
                break;
            }
            assert!(turn < 200, "{id:?} gets no more: {} bytes", all.len());
        }
        assert!(all == body(100_000));
    }
    exchange(&mut a, &mut b);
    assert!(a.connection.is_idle() && b.connection.is_idle());
    assert_eq!((a.connection.held_bytes(), a.connection.calls.flow().growth_left), (0, 100_000));
}

#[test]
fn streams_that_many_have_begun_to_read_leave_room_for_others() {
    let (mut a, mut b) = pair2(narrow(), narrow());
    let calls = ninety_results(&mut a, &mut b);
    // The first part of each is read.
    for call in &calls[..89] {
        assert!(matches!(a.read(StreamId::Call(*call)), Ok(Poll::Ready(Some(_)))));
        exchange(&mut a, &mut b);
    }
    let (id, mut read, mut turns) = (StreamId::Call(calls[89]), 0, 0);
    while read < 100_000 {
        read += a.read_all(id).0.len();
        exchange(&mut a, &mut b);
        turns += 1;
        assert!(turns < 1_000, "it gets no more: {read}");
    }
    assert!(a.connection.held_bytes() <= 200_000);
}

#[test]
fn credit_that_was_not_given_can_not_be_used() {
    let mut side = binder(ConnectionConfig { stream_window: 1_024, ..two() });
    side.hear_records(&[open(0, part("")), data(0, 0, part(vec![0; 1_024 - RECORD_COST as usize]))]);
    side.hear_records(&[data(0, 1_024 - RECORD_COST, part(""))]);
    assert!(side.events().contains(&Event::Anomaly(Anomaly::Stream(StreamFault::Credit))));
    let mut side = binder(ConnectionConfig { stream_window: 2_048, connection_window: 2_048, ..two() });
    side.hear_records(&[open(0, part("")), open(2, part(""))]);
    side.hear_records(&[data(0, 0, part(vec![0; 1_000])), data(2, 0, part(vec![0; 1_000]))]);
    let violation = CloseCause::ProtocolViolation(Violation::Credit);
    assert_eq!(side.events().last(), Some(&Event::Closed(violation)));
    // Credit that overflows, or acknowledges bytes that were not sent.
    let mut side = binder(two());
    side.invoke_streamed();
    side.sent();
    let credit = |consumed, limit| Record::Credit { call: 1, consumed, limit };
    side.hear_records(&[credit(0, u64::MAX), Record::LinkCredit { limit: u64::MAX }]);
    assert!(!side.connection.is_closed());
    side.hear_records(&[credit(1, 0)]);
    let violation = CloseCause::ProtocolViolation(Violation::Acknowledgement);
    assert_eq!(side.events().last(), Some(&Event::Closed(violation)));
}

#[test]
fn nothing_is_held_once_the_session_is_over() {
    let (mut a, mut b) = pair2(two(), two());
    a.connection.invoke(a.now, new_call("m", body(100_000))).unwrap();
    exchange(&mut a, &mut b);
    assert!(b.connection.held_bytes() > 0);
    b.connection.close(CloseCause::LinkLost);
    assert_eq!(b.connection.held_bytes(), 0);
}

#[test]
fn late_data_gives_its_credit_back() {
    let mut side = binder(ConnectionConfig { connection_window: 300_000, ..two() });
    for call in 0..100 {
        let call = 2 * call;
        side.hear_records(&[open(call, part("")), data(call, 0, part(vec![0; 1_000]))]);
        let asked = request(&mut side);
        side.connection.reply(asked.id, Reply::Cancelled).unwrap();
        for n in 0..3 {
            side.hear_records(&[data(call, 1_000 + 4_000 * n, part(vec![0; 4_000]))]);
        }
        side.events();
        side.sent();
        assert!(!side.connection.is_closed(), "after {call}");
        assert_eq!(side.connection.held_bytes(), 0);
    }
}
