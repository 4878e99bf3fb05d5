//! Deadlines and probes.

use super::*;

#[test]
fn handshake_has_a_deadline() {
    let start = Instant::now();
    let config = config();
    let mut link = Link::new(&config, [7; 32], start);
    let deadline = start + Duration::from_secs(10);
    assert_eq!(link.poll_timeout(), Some(deadline));
    feed(&mut link, deadline - Duration::from_millis(1), greeting(3, 1, "NULL")).unwrap();
    link.handle_timeout(deadline - Duration::from_millis(1)).unwrap();
    assert_eq!(link.poll_timeout(), Some(deadline), "progress does not extend it");
    assert_eq!(link.handle_timeout(deadline), Err(LinkError::HandshakeTimedOut));
    assert_eq!(link.poll_timeout(), None);
    assert_eq!(link.handle_timeout(deadline), Ok(()));
}

#[test]
fn silent_peer_is_pinged_and_then_given_up() {
    let start = Instant::now();
    let mut link = shake(&config(), start, 1);
    let second = Duration::from_secs(1);
    for at in [30, 60] {
        assert_eq!(link.poll_timeout(), Some(start + at * second));
        link.handle_timeout(start + at * second - Duration::from_nanos(1)).unwrap();
        assert_eq!(link.pending_output(), 0);
        link.handle_timeout(start + at * second).unwrap();
        assert_eq!(flush(&mut link), ping_after(0));
        link.handle_timeout(start + at * second).unwrap();
        assert_eq!(link.pending_output(), 0);
    }
    assert_eq!(link.handle_timeout(start + 90 * second), Err(LinkError::KeepaliveTimedOut));
}

/// The PING of a link that has sent so many messages.
fn ping_after(messages: u64) -> BytesMut {
    command("PING", &[&b"\0\0"[..], &messages.to_be_bytes()].concat())
}

#[test]
fn a_pong_acknowledges_the_messages_before_its_ping() {
    let now = Instant::now();
    let mut link = shake(&config(), now, 1);
    let ping = |link: &mut Link, sent: usize| {
        for _ in 0..sent {
            link.send(three(b"UPPER", Bytes::new(), Bytes::new())).unwrap();
        }
        flush(link);
        link.handle_timeout(link.poll_timeout().unwrap()).unwrap();
        flush(link)
    };
    let pong = |link: &mut Link, context: &[u8]| {
        feed(link, now, command("PONG", context)).unwrap();
        link.poll_event()
    };
    let acknowledged = |messages| Some(LinkEvent::Acknowledged { messages });
    assert_eq!(ping(&mut link, 2), ping_after(2));
    // Of a peer that repeats no context, or another one.
    for context in [&b""[..], b"\x02", &3_u64.to_be_bytes(), &[0xff; 8], &[0; 16]] {
        assert_eq!(pong(&mut link, context), None, "{context:?}");
    }
    assert_eq!(ping(&mut link, 1), ping_after(3));
    assert_eq!(pong(&mut link, &2_u64.to_be_bytes()), acknowledged(2), "the third is not");
    for messages in 0..=2_u64 {
        assert_eq!(pong(&mut link, &messages.to_be_bytes()), None, "known already");
    }
    assert_eq!(pong(&mut link, &3_u64.to_be_bytes()), acknowledged(3));
    assert_eq!(ping(&mut link, 0), ping_after(3));
    assert_eq!(pong(&mut link, &3_u64.to_be_bytes()), None);
}

#[test]
fn any_input_is_life() {
    let start = Instant::now();
    let mut link = shake(&config(), start, 1);
    let mut now = start;
    for _ in 0..20 {
        now = link.poll_timeout().unwrap();
        link.handle_timeout(now).unwrap();
        // A single byte of an incomplete frame.
        feed(&mut link, now, vec![2]).unwrap();
        feed(&mut link, now, &announce(1)[1..]).unwrap();
        feed(&mut link, now, vec![0]).unwrap();
        assert_eq!(link.poll_timeout(), Some(now + Duration::from_secs(30)));
    }
    assert!(now > start);
}

#[test]
fn old_peers_and_an_absent_keepalive_are_not_timed() {
    let now = Instant::now();
    assert_eq!(shake(&config(), now, 0).poll_timeout(), None);
    let mut config = config();
    config.keepalive = None;
    assert_eq!(shake(&config, now, 1).poll_timeout(), None);
}

#[test]
fn extreme_timing_neither_spins_nor_overflows() {
    let now = Instant::now();
    let mut config = config();
    config.keepalive = Some(Keepalive { idle: Duration::ZERO, misses: 0 });
    let mut link = shake(&config, now, 1);
    let due = link.poll_timeout().unwrap();
    assert!(due > now);
    link.handle_timeout(due).unwrap();
    assert!(link.poll_timeout().unwrap() > due);
    config.keepalive = Some(Keepalive { idle: Duration::MAX, misses: 1 });
    config.handshake_timeout = Duration::MAX;
    assert_eq!(Link::new(&config, [7; 32], now).poll_timeout(), None);
    assert_eq!(shake(&config, now, 1).poll_timeout(), None);
}
