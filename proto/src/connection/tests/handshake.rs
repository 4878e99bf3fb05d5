use super::*;
use crate::zmtp::LinkConfig;

fn hello(nonce: u8, max_body: u64) -> Hello {
    Hello { dialects: 1, nonce: [nonce; NONCE_LEN], max_body, credit: None }
}

fn ping(header: Bytes) -> Multipart {
    Multipart::new(PING, header, Bytes::new())
}

fn pong(header: Bytes) -> Multipart {
    Multipart::new(PONG, header, Bytes::new())
}

#[test]
fn two_of_ours_learn_of_each_other() {
    let mut a = Side::connected(Role::Connector, config());
    let mut b = Side::connected(Role::Binder, ConnectionConfig { max_body: 5, ..config() });
    exchange(&mut a, &mut b);
    assert_established(&mut a, &hello(2, 5));
    assert_established(&mut b, &hello(1, 10 << 20));
    assert!(a.connection.is_established() && b.connection.is_established());
    assert_eq!((a.connection.next_deadline(), b.connection.next_deadline()), (None, None));
}

#[test]
fn no_limit_is_a_limit_that_can_be_said() {
    let unlimited = || ConnectionConfig { max_body: usize::MAX, ..config() };
    let (mut side, _) = pair(unlimited(), unlimited());
    // Zeroed memory that is never touched costs nothing.
    let limit = 1 << 30;
    let body = vec![0; limit + 1].into();
    let refused = side.connection.invoke(side.now, Call { body, ..call("m") });
    assert_eq!(refused, Err(InvokeError::BodyTooLarge { size: limit + 1, limit }));
}

#[test]
fn an_echo_is_python() {
    let mut side = Side::connected(Role::Connector, config());
    let [said] = &side.sent()[..] else { panic!("one hello") };
    let [marker, header, body] = said.clone().into_three().unwrap();
    assert_eq!(
        (marker, Hello::decode(&header), &body[..]),
        (PING, Ok(hello(1, 10 << 20)), &[1; NONCE_LEN][..])
    );
    side.hear(Multipart::new(PONG, header, body));
    assert_eq!(side.events(), [Event::Established { max_body: None, dialect: Dialect::One }]);
}

#[test]
fn a_python_connector_says_an_empty_ping() {
    Side::established(config());
}

#[test]
fn a_peer_that_skips_the_ping_or_says_something_else_in_it_is_of_dialect_1() {
    let mut side = Side::connected(Role::Binder, config());
    side.hear_message(0, "m", Payload::Function(Bytes::new()));
    assert!(matches!(
        side.events()[..],
        [Event::Established { max_body: None, dialect: Dialect::One }, Event::Request(_)]
    ));

    let mut side = Side::connected(Role::Binder, config());
    let odd = Multipart::new(PING, Bytes::from_static(b"?"), Bytes::from_static(b"!"));
    side.hear(odd.clone());
    assert_eq!(side.events(), [Event::Established { max_body: None, dialect: Dialect::One }]);
    let [_, header, body] = odd.into_three().unwrap();
    assert_eq!(side.sent(), [Multipart::new(PONG, header, body)]);

    let mut side = Side::connected(Role::Binder, config());
    let call = side.invoke("m");
    assert!(side.sent().is_empty(), "calls wait for the handshake");
    assert_eq!(side.connection.next_deadline(), Some(side.now + SECOND * 10));
    side.pass(SECOND * 10);
    assert_eq!(side.events(), [Event::Established { max_body: None, dialect: Dialect::One }]);
    assert_eq!(side.said(), [(call.0 as u32, Payload::Function(b"1"[..].into()))]);
}

#[test]
fn garbage_does_not_settle_a_handshake() {
    for role in [Role::Connector, Role::Binder] {
        let mut side = Side::connected(role, config());
        side.sent();
        for frames in [&["PONG", "", ""][..], &["PING"], &["HELLO", "", ""], &["UPPER", "x", ""]] {
            let frames = frames.iter().map(|frame| Bytes::from_static(frame.as_bytes()));
            side.hear(Multipart::from_frames(frames).unwrap());
        }
        assert!(!side.connection.is_established());
    }
    let mut side = Side::connected(Role::Connector, config());
    side.hear(pong(Bytes::from_static(b"?")));
    let error = DecodeError::WrongType { field: "hello" };
    assert_eq!(side.events(), [Event::Anomaly(Anomaly::Header(error))]);
    side.hear(pong(hello(9, 1).encode()));
    assert_established(&mut side, &hello(9, 1));
}

#[test]
fn a_connector_gives_an_answer_so_much_time() {
    let mut side =
        Side::connected(Role::Connector, ConnectionConfig { handshake_timeout: SECOND, ..config() });
    let call = side.invoke("m");
    side.pass(SECOND - Duration::from_nanos(1));
    assert_eq!(side.events(), []);
    side.pass(Duration::from_nanos(1));
    let cause = CloseCause::HandshakeTimedOut;
    let outcome = Outcome::Disconnected { cause, sent: false };
    assert_eq!(side.events(), [ended(call, outcome), Event::Closed(cause)]);
    assert!(side.connection.is_closed() && side.connection.next_deadline().is_none());
}

#[test]
fn times_that_never_end_are_no_timers() {
    let never = Duration::MAX;
    let keepalive = Some(Keepalive { idle: never, misses: 1 });
    let config = ConnectionConfig { handshake_timeout: never, write_timeout: never, keepalive, ..config() };
    let mut side = Side::connected(Role::Binder, config);
    assert_eq!(side.connection.next_deadline(), None);
    side.hear(ping(Bytes::new()));
    side.connection.handle_write_blocked(side.now);
    assert_eq!(side.connection.next_deadline(), None);
}

#[test]
fn a_hello_again_is_answered_and_another_one_is_a_restart() {
    let mut side = Side::connected(Role::Binder, config());
    for _ in 0..2 {
        side.hear(ping(hello(9, 1).encode()));
        assert_eq!(side.sent(), [pong(hello(2, 10 << 20).encode())]);
    }
    assert_established(&mut side, &hello(9, 1));
    let call = side.connection.invoke(side.now, call("m")).unwrap();
    assert_eq!(side.sent().len(), 1);
    side.hear(ping(hello(8, 1).encode()));
    let cause = CloseCause::PeerRestarted;
    assert_eq!(
        side.events(),
        [ended(call, Outcome::Disconnected { cause, sent: true }), Event::Closed(cause)]
    );

    let mut side = Side::established(config());
    side.hear(ping(hello(8, 1).encode()));
    assert_eq!(side.events(), [Event::Closed(cause)], "it was of dialect 1 before");
}

#[test]
fn a_connector_echoes_every_ping() {
    let mut side = Side::connected(Role::Connector, config());
    side.sent();
    let probe = hello(9, 1).encode();
    side.hear(ping(probe.clone()));
    assert_eq!(side.sent(), [pong(probe)], "also while it waits for its own answer");
    assert_eq!(side.events(), []);
}

#[test]
fn nothing_but_the_handshake_leaves_before_it_is_complete() {
    let mut side = Side::new(Role::Connector, config());
    side.invoke("m");
    side.connection.ping().unwrap();
    assert!(side.sent().is_empty(), "no link");
    side.connection.handle_connected(side.now);
    side.connection.ping().unwrap();
    let nonce = Bytes::from_static(&[1; NONCE_LEN]);
    assert_eq!(side.sent(), [Multipart::new(PING, hello(1, 10 << 20).encode(), nonce)]);
    side.hear(pong(hello(9, 1).encode()));
    assert_eq!(side.sent().len(), 3, "two probes and a call");
}

#[test]
fn the_answer_to_the_handshake_leaves_before_all_else() {
    for header in [Bytes::new(), hello(9, 1).encode()] {
        let mut side = Side::connected(Role::Binder, config());
        side.connection.ping().unwrap();
        side.invoke("m");
        side.hear(ping(header.clone()));
        let sent = side.sent();
        let answer = if header.is_empty() { header } else { hello(2, 10 << 20).encode() };
        assert_eq!((sent.len(), &sent[0]), (3, &pong(answer)), "a Python connector takes nothing before it");
    }
}

#[test]
fn whatever_a_hello_offers_dialect_1_is_spoken() {
    for dialects in [0, 0b10, u32::MAX] {
        let offer = Hello { dialects, ..hello(9, 1 << 20) };
        for role in [Role::Connector, Role::Binder] {
            let mut side = Side::connected(role, config());
            let call = side.invoke("m");
            side.hear(Multipart::new(
                if role == Role::Binder { PING } else { PONG },
                offer.encode(),
                Bytes::new(),
            ));
            assert_established(&mut side, &offer);
            let said = side.sent();
            assert_eq!(said[1..], [message(call.0 as u32, "m", Payload::Function(b"1"[..].into()))]);
        }
    }
}

#[test]
fn messages_without_a_link_and_a_second_link_are_ignored() {
    let mut side = Side::new(Role::Connector, config());
    side.hear(ping(Bytes::new()));
    side.connection.handle_write_blocked(side.now);
    assert_eq!((side.events(), side.sent(), side.connection.next_deadline()), (vec![], vec![], None));
    side.connection.handle_connected(side.now);
    side.connection.handle_connected(side.now);
    assert_eq!(side.sent().len(), 1);
}

/// A connector and a binder, each with a byte stream.
fn over_bytes() -> (Side, Side) {
    let mut a = Side::new(Role::Connector, config());
    let mut b = Side::new(Role::Binder, config());
    a.connection.open(a.now, &LinkConfig::new(Role::Connector), [0; 32]);
    b.connection.open(b.now, &LinkConfig::new(Role::Binder), [0; 32]);
    (a, b)
}

/// Passes bytes both ways until neither side has any.
fn exchange_bytes(a: &mut Side, b: &mut Side) {
    loop {
        let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
        a.connection.transmit(a.now, &mut from_a).unwrap();
        b.connection.transmit(b.now, &mut from_b).unwrap();
        if from_a.is_empty() && from_b.is_empty() {
            return;
        }
        a.connection.handle_input(a.now, &from_b).unwrap();
        b.connection.handle_input(b.now, &from_a).unwrap();
    }
}

/// Its host may keep it, to transmit what is left.
#[test]
fn a_closed_connection_has_no_timers() {
    for is_established in [true, false] {
        let (mut a, mut b) = over_bytes();
        if is_established {
            exchange_bytes(&mut a, &mut b);
            a.invoke("m");
        }
        for side in [&mut a, &mut b] {
            assert!(side.connection.poll_timeout().is_some());
            side.connection.close(CloseCause::Local);
            assert_eq!(side.connection.poll_timeout(), None);
            let mut left = Vec::new();
            side.connection.transmit(side.now, &mut left).unwrap();
            assert_eq!(left.is_empty(), is_established);
            side.now += SECOND * 1_000;
            side.connection.handle_timeout(side.now).unwrap();
            left.clear();
            side.connection.transmit(side.now, &mut left).unwrap();
            assert_eq!(left, b"");
        }
    }
}

#[test]
fn a_byte_stream_that_has_failed_transmits_what_is_left_and_takes_no_calls() {
    let (mut a, mut b) = over_bytes();
    exchange_bytes(&mut a, &mut b);
    a.events();
    let call = a.invoke("m");
    // A PING command of ZMTP, then a frame with reserved flags.
    let input = b"\x04\x08\x04PING\0\0x\xff\xff";
    assert!(a.connection.handle_input(a.now, input).is_err());
    let mut left = Vec::new();
    a.connection.transmit(a.now, &mut left).unwrap();
    assert_eq!(left, b"\x04\x06\x04PONGx");
    let cause = CloseCause::LinkLost;
    a.connection.close(cause);
    let unsent = Outcome::Disconnected { cause, sent: false };
    assert_eq!(a.events(), [ended(call, unsent), Event::Closed(cause)]);
}

#[test]
fn a_closed_connection_reports_nothing_of_its_byte_stream() {
    let (mut a, mut b) = over_bytes();
    a.connection.close(CloseCause::Local);
    assert_eq!(a.events(), [Event::Closed(CloseCause::Local)]);
    exchange_bytes(&mut a, &mut b);
    assert!(matches!(b.events()[..], [Event::Connected { .. }]), "its peer's ZMTP goes on");
    assert_eq!(a.events(), []);
}

#[test]
fn what_waits_is_held_against_the_limit_that_the_peer_turns_out_to_have() {
    let mut a = Side::connected(Role::Connector, config());
    let mut b = Side::connected(Role::Binder, ConnectionConfig { max_body: 200, ..config() });
    let sized = |len: usize| Call { body: vec![0; len].into(), ..call("m") };
    let small = a.connection.invoke(a.now, sized(200)).unwrap();
    let deadline = Some(a.now + SECOND);
    let large = a.connection.invoke(a.now, Call { deadline, ..sized(201) }).unwrap();
    // H-11: a peer may send requests before it answers the hello.
    let asked = [a.asked(1), a.asked(2), a.asked(3)];
    let reply =
        |len: usize| Reply::Result { body: vec![0; len].into(), compressed: true, metadata: Metadata::new() };
    a.connection.reply(asked[0], reply(200)).unwrap();
    a.connection.reply(asked[1], reply(201)).unwrap();
    let info = ErrorInfo { traceback: "t".repeat(200).into(), ..ErrorInfo::new("n", "r") };
    a.connection.reply(asked[2], Reply::Failure(info.into())).unwrap();

    let [hello] = &a.sent()[..] else { panic!("one hello") };
    b.hear(hello.clone());
    b.sent().into_iter().for_each(|message| a.hear(message));
    let events = a.events();
    assert_eq!(events[1..], [ended(large, Outcome::TooLarge { size: 201, limit: 200 })]);
    assert_eq!(a.connection.next_deadline(), None);
    let said = a.said();
    assert!(matches!(&said[0], (seq, Payload::Function(_)) if *seq == small.0 as u32));
    assert_eq!(said[1], (1, Payload::Result(vec![0; 200].into())));
    assert!(
        matches!(&said[2], (2, Payload::Error(info)) if Refusal::of(info) == Some(Refusal::ReplyTooLarge))
    );
    assert_eq!(said[3], (3, Payload::Failure(ErrorInfo::new("n", "r"))));
    assert_eq!((said.len(), a.connection.queued_bytes()), (4, 0));
}

#[test]
fn the_answer_to_the_hello_of_another_connector_is_ignored() {
    let mut side = Side::connected(Role::Connector, config());
    side.sent();
    let stale = |nonce: u8| Multipart::new(PONG, hello(9, 1).encode(), Bytes::from(vec![nonce; NONCE_LEN]));
    side.hear(stale(5));
    assert!(!side.connection.is_established());
    assert_eq!(side.events(), [], "it is a PONG like any other that this side does not wait for");
    side.hear(stale(1));
    assert_established(&mut side, &hello(9, 1));
}

#[test]
fn a_connection_that_has_a_transport_takes_no_other_byte_stream() {
    let (mut a, mut b) = over_bytes();
    let open = |side: &mut Side| {
        side.connection.open(side.now, &LinkConfig::new(side.connection.role), [7; 32]);
    };
    exchange_bytes(&mut a, &mut b);
    b.events();
    open(&mut a);
    a.invoke("m");
    open(&mut a);
    exchange_bytes(&mut a, &mut b);
    assert!(matches!(b.events()[..], [Event::Request(_)]));

    let mut messages = Side::connected(Role::Connector, config());
    a.connection.close(CloseCause::Local);
    for side in [&mut messages, &mut a] {
        open(side);
        let mut greeting = Vec::new();
        side.connection.transmit(side.now, &mut greeting).unwrap();
        assert_eq!(greeting, b"");
    }
    assert_eq!(messages.sent().len(), 1, "its hello");
}
