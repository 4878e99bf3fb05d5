use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use super::assembly::MAX_FRAMES_READ;
use super::*;
use crate::{Keepalive, Multipart, Role};

mod output;
mod timing;

const MORE: u8 = 1;
const COMMAND: u8 = 4;

/// Takes the link's whole output.
#[cfg(feature = "curve")]
pub(super) fn written(link: &mut Link) -> Vec<u8> {
    let mut bytes = Vec::new();
    while link.pending_output() > 0 {
        let before = bytes.len();
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = link.output(&mut slices);
        slices[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
        link.advance_output(bytes.len() - before);
    }
    bytes
}

fn greeting(major: u8, minor: u8, mechanism: &str) -> BytesMut {
    let mut bytes = BytesMut::zeroed(64);
    bytes[0] = 0xFF;
    bytes[8] = 1;
    bytes[9] = 0x7F;
    bytes[10] = major;
    bytes[11] = minor;
    bytes[12..12 + mechanism.len()].copy_from_slice(mechanism.as_bytes());
    bytes
}

fn frame(flags: u8, payload: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    if let Ok(len) = u8::try_from(payload.len()) {
        bytes.put_slice(&[flags, len]);
    } else {
        bytes.put_u8(flags | 2);
        bytes.put_u64(payload.len() as u64);
    }
    bytes.put_slice(payload);
    bytes
}

fn announce(len: u64) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(2);
    bytes.put_u64(len);
    bytes.freeze()
}

fn command(name: &str, body: &[u8]) -> BytesMut {
    let mut payload = vec![name.len() as u8];
    payload.extend_from_slice(name.as_bytes());
    payload.extend_from_slice(body);
    frame(COMMAND, &payload)
}

fn ready(socket_type: &str, identity: &[u8]) -> BytesMut {
    let mut body = BytesMut::new();
    for (name, value) in [("Socket-Type", socket_type.as_bytes()), ("Identity", identity)] {
        body.put_u8(name.len() as u8);
        body.put_slice(name.as_bytes());
        body.put_u32(value.len() as u32);
        body.put_slice(value);
    }
    command("READY", &body)
}

fn config() -> LinkConfig {
    LinkConfig::new(Role::Binder)
}

fn feed(link: &mut Link, now: Instant, data: impl AsRef<[u8]>) -> Result<(), LinkError> {
    link.handle_input(now, data.as_ref())
}

fn shake(config: &LinkConfig, now: Instant, minor: u8) -> Link {
    let mut link = Link::new(config, [7; 32], now);
    feed(&mut link, now, greeting(3, minor, "NULL")).unwrap();
    feed(&mut link, now, ready("DEALER", b"me")).unwrap();
    assert!(matches!(link.poll_event(), Some(LinkEvent::Established { .. })));
    flush(&mut link);
    link
}

fn joined(slices: &[IoSlice<'_>]) -> Vec<u8> {
    slices.iter().flat_map(|slice| slice.iter().copied()).collect()
}

fn flush(link: &mut Link) -> Vec<u8> {
    let mut written = Vec::new();
    loop {
        let mut slices = [IoSlice::new(&[]); 3];
        let filled = link.output(&mut slices);
        let piece = joined(&slices[..filled]);
        if piece.is_empty() {
            assert_eq!(link.pending_output(), 0);
            return written;
        }
        link.advance_output(piece.len());
        written.extend(piece);
    }
}

fn messages(link: &mut Link) -> Vec<Vec<Bytes>> {
    std::iter::from_fn(|| link.poll_event())
        .map(|event| match event {
            LinkEvent::Message(message) => message.into_frames().collect(),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn three(marker: &'static [u8], header: Bytes, body: Bytes) -> Multipart {
    Multipart::new(Bytes::from_static(marker), header, body)
}

fn refused_greeting(bytes: impl AsRef<[u8]>) -> LinkError {
    let now = Instant::now();
    feed(&mut Link::new(&config(), [7; 32], now), now, bytes).unwrap_err()
}

fn refused_handshake(commands: impl AsRef<[u8]>) -> (LinkError, Vec<u8>) {
    let now = Instant::now();
    let mut link = Link::new(&config(), [7; 32], now);
    feed(&mut link, now, greeting(3, 1, "NULL")).unwrap();
    let error = feed(&mut link, now, commands).unwrap_err();
    assert_eq!(feed(&mut link, now, Bytes::from_static(b"x")), Err(LinkError::Closed));
    assert_eq!(link.send(three(b"", Bytes::new(), Bytes::new())), Err(LinkError::Closed));
    assert_eq!(link.poll_timeout(), None);
    (error, flush(&mut link))
}

#[test]
fn handshake_tells_who_the_peer_is() {
    let now = Instant::now();
    for (minor, zmtp_minor) in [(0, 0), (1, 1), (9, 1)] {
        let mut link = Link::new(&config(), [7; 32], now);
        assert_eq!(link.send(three(b"", Bytes::new(), Bytes::new())), Err(LinkError::NotEstablished));
        feed(&mut link, now, greeting(3, minor, "NULL")).unwrap();
        assert!(!link.is_established());
        feed(&mut link, now, ready("DEALER", b"me")).unwrap();
        assert!(link.is_established());
        // Only ZMTP 3.1 and later have PINGs.
        assert_eq!(link.poll_timeout().is_some(), zmtp_minor > 0);
        let established = LinkEvent::Established {
            identity: Bytes::from_static(b"me"),
            #[cfg(feature = "curve")]
            public_key: None,
        };
        assert_eq!(link.poll_event(), Some(established));
        assert_eq!(link.poll_event(), None);
    }
}

#[test]
fn greeting_and_ready_are_as_rfc_23_says() {
    let now = Instant::now();
    let config = LinkConfig::new(Role::Connector).identity(Bytes::from_static(b"agent"));
    let mut link = Link::new(&config, [7; 32], now);
    let mut expected = greeting(3, 1, "NULL");
    expected[8] = 0;
    assert_eq!(flush(&mut link), expected);
    feed(&mut link, now, greeting(3, 1, "NULL")).unwrap();
    assert_eq!(flush(&mut link), ready("DEALER", b"agent"));
}

#[test]
fn peers_of_other_protocols_are_told_apart() {
    assert_eq!(refused_greeting(&b"GET / HTTP/1.1\r\n"[..]), LinkError::NotZmtp);
    assert_eq!(refused_greeting(&b"\x01\x00"[..]), LinkError::NotZmtp, "ZMTP 1");
    assert_eq!(refused_greeting(&b"\xFF\0\0\0\0\0\0\0\x01\x70"[..]), LinkError::NotZmtp);
    let zmtp2 = b"\xFF\0\0\0\0\0\0\0\x01\x7F\x01";
    assert_eq!(refused_greeting(&zmtp2[..]), LinkError::UnsupportedVersion { major: 1 });
    let theirs = "CURVE".to_owned();
    assert_eq!(
        refused_greeting(greeting(3, 1, "CURVE")),
        LinkError::MechanismMismatch { ours: "NULL", theirs }
    );
    let mut as_server = greeting(3, 1, "NULL");
    as_server[32] = 1;
    assert!(matches!(refused_greeting(as_server), LinkError::Handshake { .. }));
}

#[test]
fn handshakes_fail_with_the_reason() {
    let (error, output) = refused_handshake(ready("SUB", b""));
    assert!(matches!(error, LinkError::IncompatibleSocket { ours: "ROUTER", .. }), "{error}");
    assert!(output.ends_with(&command("ERROR", b"\x19Incompatible socket types")));
    let (error, output) = refused_handshake(ready("NOVEL", b""));
    let theirs = "NOVEL".to_owned();
    assert_eq!(error, LinkError::IncompatibleSocket { ours: "ROUTER", theirs });
    assert!(output.ends_with(&command("ERROR", b"\x19Incompatible socket types")));
    let (error, _) = refused_handshake(command("ERROR", b"\x03400"));
    assert_eq!(error, LinkError::Refused { reason: "400".into(), status: Some(RefusalStatus::Denied) });
    assert!(error.is_authentication_failure());
    for early in [frame(0, b"too early"), command("HELLO", b""), command("PING", b"\0\0")] {
        let (error, _) = refused_handshake(early);
        assert_eq!(error, LinkError::Handshake(ZmtpViolation::Unexpected { expected: "READY" }));
    }
    let (error, _) = refused_handshake(&[0x10_u8, 0][..]);
    assert_eq!(error, LinkError::Violation(ZmtpViolation::ReservedFlags(0x10)));
    let (error, _) = refused_handshake(frame(COMMAND | MORE, b"x"));
    assert_eq!(error, LinkError::Violation(ZmtpViolation::CommandWithMore));
}

#[test]
fn metadata_is_read_strictly() {
    let socket = b"\x0bSocket-Type\0\0\0\x06DEALER";
    let shouted = b"\x0bSOCKET-TYPE\0\0\0\x06DEALER";
    let other = b"\x05X-Key\0\0\0\x01v";
    let identity = |value: &[u8]| [&b"\x08Identity"[..], &(value.len() as u32).to_be_bytes(), value].concat();
    let metadata = |parts: &[&[u8]]| command("READY", &parts.concat());
    let many = other.repeat(256);
    for fits in [
        &[&socket[..]][..],
        &[shouted],
        &[other, socket, other],
        &[socket, &many[other.len()..]],
        &[socket, &identity(b"")],
    ] {
        let mut link = Link::new(&config(), [7; 32], Instant::now());
        feed(&mut link, Instant::now(), greeting(3, 1, "NULL")).unwrap();
        feed(&mut link, Instant::now(), metadata(fits)).unwrap();
    }
    for (parts, expected) in [
        (&[][..], ZmtpViolation::NoSocketType),
        (&[&other[..]], ZmtpViolation::NoSocketType),
        (&[socket, socket], ZmtpViolation::DuplicateProperty),
        (&[socket, shouted], ZmtpViolation::DuplicateProperty),
        (&[socket, &identity(b"a"), &identity(b"a")], ZmtpViolation::DuplicateProperty),
        (&[socket, &identity(b"\0a")], ZmtpViolation::Identity),
        (&[socket, &identity(&[b'a'; 256])], ZmtpViolation::Identity),
        (&[socket, &many], ZmtpViolation::TooManyProperties { max: 256 }),
        (&[socket, b"\x00\0\0\0\0"], ZmtpViolation::Property),
        (&[socket, b"\x02a b"], ZmtpViolation::Property),
        (&[socket, b"\x02\xC3\xA9\0\0\0\0"], ZmtpViolation::Property),
        (&[socket, b"\x01a\0\0\0"], ZmtpViolation::Property),
        (&[socket, b"\x01a\0\0\0\x02v"], ZmtpViolation::Property),
        (&[socket, b"\x01a\xFF\xFF\xFF\xFFv"], ZmtpViolation::Property),
        (&[&socket[..20]], ZmtpViolation::Property),
    ] {
        let (error, _) = refused_handshake(metadata(parts));
        assert_eq!(error, LinkError::Handshake(expected), "{parts:?}");
    }
    for nameless in [&b""[..], b"\0", b"\x06READY", b"\x05RE DY", b"\x05READ\xC9"] {
        let (error, _) = refused_handshake(frame(COMMAND, nameless));
        assert_eq!(error, LinkError::Handshake(ZmtpViolation::Name), "{nameless:?}");
    }
}

#[test]
fn refusals_are_read_leniently() {
    for (body, expected) in
        [(&b"\x02no"[..], "no"), (b"", ""), (b"\x05no", "no"), (b"\x01no", "n"), (b"\x01\xFF", "\u{FFFD}")]
    {
        let (error, _) = refused_handshake(command("ERROR", body));
        assert_eq!(error, LinkError::Refused { reason: expected.into(), status: None });
    }
}

#[test]
fn commands_after_the_handshake_are_checked() {
    let now = Instant::now();
    for (payload, expected) in [
        (command("PING", b"\0"), ZmtpViolation::Malformed { command: "PING" }),
        (command("PING", &[0; 2 + 17]), ZmtpViolation::Malformed { command: "PING" }),
        (command("PONG", &[0; 17]), ZmtpViolation::Malformed { command: "PONG" }),
        (ready("DEALER", b""), ZmtpViolation::TooLate { command: "READY" }),
        (frame(COMMAND, b""), ZmtpViolation::Name),
    ] {
        let mut link = shake(&config(), now, 1);
        assert_eq!(feed(&mut link, now, payload), Err(LinkError::Violation(expected)));
    }
    let mut link = shake(&config(), now, 1);
    feed(&mut link, now, command("PING", &[0; 2 + 16])).unwrap();
    assert_eq!(flush(&mut link), command("PONG", &[0; 16]));
}

#[test]
fn error_after_the_handshake_is_a_refusal() {
    let now = Instant::now();
    let mut link = shake(&config(), now, 1);
    let error = feed(&mut link, now, command("ERROR", b"\x02no")).unwrap_err();
    assert_eq!(error, LinkError::Refused { reason: "no".into(), status: None });
    assert!(!error.is_authentication_failure());
}

#[test]
fn handshake_bytes_are_bounded_when_announced() {
    let now = Instant::now();
    let ready = ready("DEALER", b"me");
    let used = 64 + ready.len();
    for (max, fits) in [(used, true), (used - 1, false)] {
        let mut config = config();
        config.max_handshake_bytes = max;
        let mut link = Link::new(&config, [7; 32], now);
        feed(&mut link, now, greeting(3, 1, "NULL")).unwrap();
        // Only the head: the limit must be checked before the payload arrives.
        let result = feed(&mut link, now, &ready[..2]);
        assert_eq!(result.is_ok(), fits);
        assert!(fits || result == Err(LinkError::HandshakeTooLarge { max }));
    }
    let mut link = Link::new(&config(), [7; 32], now);
    feed(&mut link, now, greeting(3, 1, "NULL")).unwrap();
    let huge = [&[COMMAND | 2][..], &u64::MAX.to_be_bytes()].concat();
    assert_eq!(feed(&mut link, now, huge), Err(LinkError::HandshakeTooLarge { max: 8 << 10 }));
}

#[test]
fn message_size_is_limited_to_the_byte() {
    let now = Instant::now();
    let mut config = config();
    config.max_message_size = 1000;
    for (last, fits) in [(700, true), (701, false)] {
        let mut link = shake(&config, now, 1);
        feed(&mut link, now, frame(MORE, &[1; 100])).unwrap();
        feed(&mut link, now, frame(MORE, &[2; 200])).unwrap();
        let result = feed(&mut link, now, announce(last));
        if fits {
            result.unwrap();
            feed(&mut link, now, vec![3; 700]).unwrap();
            assert_eq!(messages(&mut link)[0][2].len(), 700);
        } else {
            assert_eq!(result, Err(LinkError::TooLarge { size: 1001, max: 1000 }));
        }
    }
    let mut link = shake(&config, now, 1);
    let result = feed(&mut link, now, announce(u64::MAX));
    let at_most = |error| matches!(error, LinkError::TooLarge { max: 1000, .. });
    assert!(at_most(result.unwrap_err()));
    let mut link = shake(&config, now, 1);
    let max = 8 << 10;
    let announced = [&[COMMAND | 2][..], &(max as u64 + 1).to_be_bytes()].concat();
    assert_eq!(feed(&mut link, now, announced), Err(LinkError::TooLarge { size: max as u64 + 1, max }));
}

/// The sum of sizes must not wrap: a frame can announce any 64-bit length, after others.
#[test]
fn no_announced_length_passes_as_a_small_one() {
    let now = Instant::now();
    for len in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let mut link = shake(&config(), now, 1);
        feed(&mut link, now, frame(MORE, b"PING")).unwrap();
        let refused = feed(&mut link, now, announce(len));
        assert!(matches!(refused, Err(LinkError::TooLarge { .. })), "{len}: {refused:?}");
    }
}

#[test]
fn limit_holds_per_message() {
    let now = Instant::now();
    let mut config = config();
    config.max_message_size = 10;
    let mut link = shake(&config, now, 1);
    for _ in 0..3 {
        feed(&mut link, now, frame(MORE, b"12345")).unwrap();
        feed(&mut link, now, frame(0, b"12345")).unwrap();
    }
    assert_eq!(messages(&mut link).len(), 3);
}

#[test]
fn other_numbers_of_frames_are_ignored_up_to_a_limit() {
    let now = Instant::now();
    let mut link = shake(&config(), now, 1);
    for _ in 0..3 {
        feed(&mut link, now, frame(MORE, b"x")).unwrap();
    }
    feed(&mut link, now, frame(0, b"x")).unwrap();
    feed(&mut link, now, frame(0, b"alone")).unwrap();
    assert_eq!(link.poll_event(), Some(LinkEvent::Ignored { frames: 4 }));
    assert_eq!(messages(&mut link), [[Bytes::from_static(b"alone")]]);

    let most = [frame(MORE, b"x").repeat(MAX_FRAMES_READ - 1), frame(0, b"x").to_vec()].concat();
    feed(&mut link, now, most).unwrap();
    assert_eq!(link.poll_event(), Some(LinkEvent::Ignored { frames: MAX_FRAMES_READ }));
    // One frame more, even if it is the last.
    let mut other = shake(&config(), now, 1);
    let result =
        feed(&mut other, now, [frame(MORE, b"x").repeat(MAX_FRAMES_READ), frame(0, b"x").to_vec()].concat());
    assert_eq!(result, Err(LinkError::TooManyFrames { max: MAX_FRAMES_READ }));

    let endless = frame(MORE, b"").repeat(MAX_FRAMES_READ);
    feed(&mut link, now, endless).unwrap();
    let result = feed(&mut link, now, frame(MORE, b""));
    assert_eq!(result, Err(LinkError::TooManyFrames { max: MAX_FRAMES_READ }));
}

#[test]
fn commands_may_come_between_frames() {
    let now = Instant::now();
    let mut link = shake(&config(), now, 1);
    feed(&mut link, now, frame(MORE, b"a")).unwrap();
    feed(&mut link, now, command("PING", b"\0\0ctx")).unwrap();
    feed(&mut link, now, command("NOVEL", b"?")).unwrap();
    feed(&mut link, now, command("PONG", b"")).unwrap();
    feed(&mut link, now, frame(0, b"b")).unwrap();
    assert_eq!(messages(&mut link), [[Bytes::from_static(b"a"), Bytes::from_static(b"b")]]);
    assert_eq!(flush(&mut link), command("PONG", b"ctx"));
}

#[test]
fn input_pauses_while_replies_are_not_written() {
    let now = Instant::now();
    let mut link = shake(&config(), now, 1);
    let pings = Bytes::from(command("PING", b"\0\0").repeat(1000));
    let mut rounds = 0;
    while link.accepts_input() {
        feed(&mut link, now, pings.clone()).unwrap();
        rounds += 1;
    }
    let pong = command("PONG", b"");
    assert_eq!(link.pending_output(), rounds * 1000 * pong.len());
    assert_eq!(rounds, (64 << 10) / (1000 * pong.len()) + 1);
    link.advance_output(link.pending_output() - 1);
    assert!(!link.accepts_input());
    link.advance_output(1);
    assert!(link.accepts_input());
}

#[test]
fn our_own_output_does_not_pause_input() {
    let now = Instant::now();
    let mut link = shake(&config(), now, 1);
    link.send(three(b"UPPER", Bytes::new(), Bytes::from(vec![0; 1 << 20]))).unwrap();
    assert!(link.accepts_input());
}

#[test]
fn an_identity_that_a_peer_would_refuse_is_none() {
    for (identity, fits) in [
        (vec![b'x'; 255], true),
        (vec![b'x'; 256], false),
        (vec![b'x', 0], true),
        (vec![0, b'x'], false),
        (vec![], true),
    ] {
        let now = Instant::now();
        let mut binder = Link::new(&config(), [7; 32], now);
        feed(&mut binder, now, greeting(3, 1, "NULL")).unwrap();
        assert_eq!(feed(&mut binder, now, ready("DEALER", &identity)).is_ok(), fits);
        let set = std::panic::catch_unwind(|| config().identity(identity.into()));
        assert_eq!(set.is_ok(), fits);
    }
}

#[test]
fn debug_shows_no_body() {
    let config = config().identity(Bytes::from_static(b"sesame"));
    assert!(!format!("{:?}", Link::new(&config, [7; 32], Instant::now())).contains("sesame"));
}

#[test]
fn the_defaults_are_those_of_the_protocol() {
    let config = config();
    assert_eq!((config.max_message_size, config.max_handshake_bytes), (11 << 20, 8 << 10));
    assert_eq!(config.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config.keepalive, Some(Keepalive { idle: Duration::from_secs(30), misses: 2 }));
    assert!(matches!(config.mechanism, Mechanism::Null) && config.identity.is_empty());
}

#[test]
fn a_binder_is_a_router_and_a_connector_a_dealer() {
    let now = Instant::now();
    for (role, ours, fitting) in [
        (Role::Binder, "ROUTER", &["DEALER", "REQ", "ROUTER"][..]),
        (Role::Connector, "DEALER", &["DEALER", "REP", "ROUTER"]),
    ] {
        for theirs in ["DEALER", "PAIR", "PUB", "PULL", "PUSH", "REP", "REQ", "ROUTER", "SUB"] {
            let mut link = Link::new(&LinkConfig::new(role), [7; 32], now);
            flush(&mut link);
            feed(&mut link, now, greeting(3, 1, "NULL")).unwrap();
            let property = [&b"\x0bSocket-Type\0\0\0\x06"[..], ours.as_bytes()].concat();
            assert_eq!(flush(&mut link), command("READY", &property), "no identity unless one is set");
            let result = feed(&mut link, now, ready(theirs, b""));
            assert_eq!(result.is_ok(), fitting.contains(&theirs), "{ours} and {theirs}: {result:?}");
        }
    }
}

#[test]
fn a_later_revision_speaks_ours() {
    let now = Instant::now();
    let mut link = Link::new(&config(), [7; 32], now);
    feed(&mut link, now, greeting(4, 0, "NULL")).unwrap();
    feed(&mut link, now, ready("DEALER", b"")).unwrap();
    assert!(link.is_established());
}
