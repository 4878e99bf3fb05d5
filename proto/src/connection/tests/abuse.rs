//! Hostile peers in dialect 2: how much memory they can make this side hold.

use super::dialect2::{open, part, request, two, whole};
use super::streams::data;
use super::*;
use crate::wire::Credit;
use crate::wire::{Failure, MAX_CALL, MAX_FIRST, RECORD_COST, Record};

/// A binder whose peer grants this much credit.
fn facing(config: ConnectionConfig, stream: u64, link: u64) -> Side {
    let mut side = Side::connected(Role::Binder, config);
    let credit = Some(Credit { stream, link });
    let hello = Hello { dialects: 0b11, nonce: [9; NONCE_LEN], max_body: 10 << 20, credit };
    side.hear(Multipart::new(PING, hello.encode(), Bytes::new()));
    assert!(matches!(side.events()[..], [Event::Established { dialect: Dialect::Two, .. }]));
    assert_eq!(side.sent().len(), 2, "its hello, and a probe");
    side
}

fn large() -> Reply {
    Reply::result(vec![7; 10 * MAX_FIRST])
}

#[test]
fn results_given_up_for_want_of_credit_leave_no_trace() {
    let mut side = facing(two(), 1 << 20, 0);
    for n in 0..2_000 {
        side.hear_records(&[open(2 * n, whole(""))]);
        let request = request(&mut side);
        side.connection.reply(request.id, large()).unwrap();
        assert_eq!(side.sent().len(), 1, "its beginning needs no credit");
        side.hear_records(&[Record::Cancel { call: 2 * n }]);
    }
    assert!(side.connection.is_idle());
    assert!(side.connection.calls.has_no_streams_queued(), "nobody stands in line");
}

#[test]
fn what_a_stream_has_left_counts_once_its_handler_has_ended() {
    let mut side = facing(two(), 1 << 20, 0);
    side.hear_records(&[open(0, whole(""))]);
    let request = request(&mut side);
    side.connection.begin_reply(request.id, false, Metadata::new(), None).unwrap();
    let stream = StreamId::Request(request.id);
    side.connection.send_stream(stream).write(vec![0; 5_000].into(), true).unwrap();
    side.sent();
    assert_eq!(side.connection.queued_bytes(), 0, "it has a limit of its own");
    side.connection.reply(request.id, Reply::End).unwrap();
    assert_eq!(side.connection.queued_bytes(), 5_000);
    side.hear_records(&[Record::LinkCredit { limit: 2_000 }]);
    assert_eq!(side.sent().len(), 1);
    assert!(side.connection.queued_bytes() < 4_000);
    side.hear_records(&[Record::LinkCredit { limit: u64::MAX }]);
    side.sent();
    assert!(side.connection.is_idle() && side.connection.queued_bytes() == 0);
}

#[test]
fn goodbyes_are_one_event() {
    let mut side = facing(two(), 1 << 20, 1 << 20);
    side.hear_records(&vec![Record::Goodbye { next: 1 }; 30_000]);
    assert_eq!(side.events(), [Event::Goodbye]);
    // A second GOODBYE refuses no calls that the first one accepted.
    let mut side = facing(two(), 1 << 20, 1 << 20);
    let taken = side.connection.invoke(side.now, new_call("m", "")).unwrap();
    assert_eq!(side.sent_records(), [open(1, whole(""))]);
    side.hear_records(&[Record::Goodbye { next: 3 }, Record::Goodbye { next: 1 }]);
    assert_eq!(side.events(), [Event::Goodbye]);
    assert!(side.connection.abandon(taken), "it still waits for its answer");
}

#[test]
fn tiny_pieces_cost_more_than_they_hold() {
    let mut side = facing(ConnectionConfig { stream_window: 33_000, ..two() }, 0, 0);
    side.hear_records(&[open(0, part(""))]);
    for n in 0..1_000 {
        side.hear_records(&[data(0, n, part("x"))]);
        assert_eq!(side.connection.held_bytes(), (n + 1) * (RECORD_COST + 1));
    }
    assert!(side.events().iter().all(|event| !matches!(event, Event::Anomaly(_))));
    // Records without bytes cost credit, too, even if they have no effect.
    side.hear_records(&[data(0, 1_000, part(""))]);
    let anomaly = Event::Anomaly(Anomaly::Stream(StreamFault::Credit));
    assert_eq!(side.events(), [anomaly]);
    assert_eq!(side.connection.held_bytes(), 0, "the call is over for its reader");
    assert!(!side.connection.is_closed());
}

#[test]
fn credit_of_the_link_is_kept_to_the_byte() {
    let config = ConnectionConfig { stream_window: 100_000, connection_window: 100_000, ..two() };
    let mut side = facing(config, 0, 0);
    let calls = 3;
    for n in 0..calls {
        side.hear_records(&[open(2 * n, part(""))]);
    }
    let left = 100_000 - 2 * (40_000 + RECORD_COST);
    side.hear_records(&[data(0, 0, part(vec![0; 40_000])), data(2, 0, part(vec![0; 40_000]))]);
    side.hear_records(&[data(4, 0, part(vec![0; (left - RECORD_COST) as usize]))]);
    assert_eq!(side.connection.held_bytes(), 100_000);
    assert!(!side.connection.is_closed());
    side.hear_records(&[data(4, left - RECORD_COST, part(""))]);
    let cause = CloseCause::ProtocolViolation(Violation::Credit);
    assert_eq!(side.connection.close_cause(), Some(cause));
    assert_eq!(side.connection.held_bytes(), 0);
}

#[test]
fn calls_that_are_cancelled_at_once_leave_nothing() {
    let mut side = facing(two(), 1 << 20, 1 << 20);
    for batch in 0..100 {
        let first = batch * 1_000;
        let calls = (first..first + 1_000).map(|n| 2 * n);
        let pair = |call| [open(call, part("")), Record::Cancel { call }];
        side.hear_records(&calls.flat_map(pair).collect::<Vec<_>>());
        for event in side.events() {
            if let Event::Stop { request: id, reason: StopReason::Cancelled } = event {
                side.connection.reply(id, Reply::Cancelled).unwrap();
            }
        }
        // The peer reads.
        side.sent();
        assert!(side.connection.is_idle() && !side.connection.is_closed(), "batch {batch}");
    }
    assert_eq!(side.connection.calls.numbers().next_theirs(), 200_000);
}

#[test]
fn calls_that_are_cancelled_at_once_end_a_link_that_is_not_read() {
    let mut side = facing(two(), 1 << 20, 1 << 20);
    let mut most = 0;
    for n in 0..1_000_000 {
        side.hear_records(&[open(2 * n, part("")), Record::Cancel { call: 2 * n }]);
        for event in side.events() {
            if let Event::Stop { request: id, reason: StopReason::Cancelled } = event {
                side.connection.reply(id, Reply::Cancelled).unwrap();
            }
        }
        most = most.max(side.connection.queued_bytes());
        if side.connection.is_closed() {
            break;
        }
    }
    assert_eq!(side.connection.close_cause(), Some(CloseCause::PeerNotReading));
    assert!(most <= (64 << 20) + (4 << 20) + 1024, "{most}");
}

#[test]
fn streams_that_are_never_complete_are_bounded_in_number_and_bytes() {
    let config = ConnectionConfig { max_requests: 100, connection_window: 1 << 20, ..two() };
    let mut side = facing(config, 0, 0);
    for n in 0..200 {
        side.hear_records(&[open(2 * n, part(vec![0; 1_000])), data(2 * n, 1_000, part(vec![0; 9_000]))]);
        side.sent();
    }
    let collected = side.events().into_iter().filter_map(|event| match event {
        Event::Request(request) => Some(StreamId::Request(request.id)),
        _ => None,
    });
    let collected: Vec<StreamId> = collected.collect();
    assert_eq!((collected.len(), side.connection.open_requests()), (100, 100));
    assert_eq!(side.connection.held_bytes(), 100 * (9_000 + RECORD_COST));
    // Incomplete bodies time out.
    collected.iter().for_each(|id| side.collect(*id));
    let mut dropped = 0;
    while dropped < 100 {
        side.pass(200 * SECOND);
        let events = side.events();
        assert!(!events.is_empty(), "{dropped} are dropped, and no more");
        dropped += events.len();
        let timed_out =
            |event: &Event| matches!(event, Event::Reassembled { body: Err(ReadError::TimedOut), .. });
        assert!(events.iter().all(timed_out), "{events:?}");
    }
    assert_eq!((side.connection.held_bytes(), side.connection.next_deadline()), (0, None));
}

#[test]
fn no_grant_of_credit_does_harm() {
    let mut side = facing(two(), 0, 0);
    let call = side.connection.invoke(side.now, new_call("m", vec![0; 100_000])).unwrap();
    let sent = |side: &mut Side| side.sent().iter().map(Multipart::size).sum::<usize>();
    assert!(sent(&mut side) < MAX_FIRST + 100, "the first piece needs none");
    let credit = |limit| Record::Credit { call: 1, consumed: 0, limit };
    // Credit of either the stream or the connection is not enough.
    side.hear_records(&[credit(u64::MAX)]);
    assert_eq!(sent(&mut side), 0);
    side.hear_records(&[Record::LinkCredit { limit: RECORD_COST }]);
    assert_eq!(sent(&mut side), 0, "for which nothing can be sent");
    side.hear_records(&[Record::LinkCredit { limit: RECORD_COST + 1 }]);
    assert!((1..100).contains(&sent(&mut side)), "one byte");
    // A limit does not shrink.
    side.hear_records(&[credit(0), Record::LinkCredit { limit: 0 }, Record::LinkCredit { limit: 10_000 }]);
    assert!((9_000..10_000).contains(&sent(&mut side)));
    side.hear_records(&[Record::LinkCredit { limit: u64::MAX }]);
    assert!(sent(&mut side) > 70_000);
    assert_eq!(side.connection.queued_bytes(), 0);
    side.hear_records(&[Record::Credit { call: 1, consumed: 100_001, limit: 0 }]);
    let cause = CloseCause::ProtocolViolation(Violation::Acknowledgement);
    assert_eq!(side.connection.close_cause(), Some(cause));
    let disconnected = ended(call, Outcome::Disconnected { cause, sent: true });
    assert!(side.events().contains(&disconnected));
}

#[test]
fn numbers_of_calls_are_neither_jumped_nor_reused_nor_used_up() {
    let last = MAX_CALL - 1;
    for (next, said, fits) in
        [(0, 0, true), (0, 2, false), (2, 0, false), (last, last, true), (last, 0, false)]
    {
        let mut side = facing(two(), 0, 0);
        side.connection.calls.numbers().skip_to(1, next);
        side.hear_records(&[open(said, whole(""))]);
        let cause = (!fits).then_some(CloseCause::ProtocolViolation(Violation::Sequence));
        assert_eq!(side.connection.close_cause(), cause, "{said} after {next}");
    }
    // There is no number after the last.
    let mut side = facing(two(), 0, 0);
    side.connection.calls.numbers().skip_to(1, last);
    side.hear_records(&[open(last, whole("")), open(last + 2, whole(""))]);
    let cause = CloseCause::ProtocolViolation(Violation::Packet);
    assert_eq!(side.connection.close_cause(), Some(cause));
}

#[test]
fn options_and_metadata_are_bounded_by_their_packet_and_their_limits() {
    // Thousands of unknown options that may be ignored.
    let mut packet = vec![0x97, 1, 0, 3, 0xa1, b'm', 0xc4, 0, 0xde, 0x40, 0];
    for _ in 0..0x4000 {
        packet.extend_from_slice(&[40, 0xc0]);
    }
    packet.extend_from_slice(&[0xc4, 0]);
    let mut side = facing(two(), 0, 0);
    side.hear(Multipart::single(packet.into(), Bytes::new()));
    let request = request(&mut side);
    assert_eq!(
        (&*request.method, &request.body, request.metadata.len()),
        ("m", &Body::Whole(Bytes::new()), 0)
    );
    let arrived = side.told();
    assert!(matches!(&arrived[..], [EndpointEvent::Arrived(arrival)] if arrival.bytes == 1), "{arrived:?}");
    // Metadata with too many entries: 65 names of two bytes.
    let mut packet = vec![0x97, 1, 2, 3, 0xa1, b'm', 0xc4, 0, 0x81, 1, 0xde, 0, 65];
    for n in 0..65 {
        packet.extend_from_slice(&[0xa2, b'0' + n / 10, b'0' + n % 10, 0xc4, 0]);
    }
    packet.extend_from_slice(&[0xc4, 0]);
    side.hear(Multipart::single(packet.into(), Bytes::new()));
    assert_eq!(side.connection.close_cause(), Some(CloseCause::ProtocolViolation(Violation::Packet)));
}

#[test]
fn a_peer_that_opens_streams_and_never_reads_holds_what_their_buffers_hold() {
    let config = ConnectionConfig { stream_buffer: 10_000, max_requests: 50, ..two() };
    let mut side = facing(config, 1 << 20, 0);
    for n in 0..100 {
        side.hear_records(&[open(2 * n, whole(""))]);
    }
    for event in side.events() {
        let Event::Request(request) = event else { continue };
        side.connection.begin_reply(request.id, false, Metadata::new(), None).unwrap();
        let stream = StreamId::Request(request.id);
        side.connection.send_stream(stream).write(vec![0; 10_000].into(), true).unwrap();
        assert_eq!(side.connection.send_stream(stream).room(), Ok(0));
        side.sent();
        side.connection.reply(request.id, Reply::End).unwrap();
    }
    assert_eq!((side.connection.open_requests(), side.connection.queued_bytes()), (0, 50 * 10_000));
    // Until these replies have been sent, they count as open requests.
    side.hear_records(&[open(200, whole(""))]);
    assert_eq!(side.events(), []);
    let [Record::Fail { call: 200, failure: Failure::Error(info), .. }] = &side.sent_records()[..] else {
        panic!("a refusal")
    };
    assert_eq!(Refusal::of(info), Some(Refusal::Busy));
}
