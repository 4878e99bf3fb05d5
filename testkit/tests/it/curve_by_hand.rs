//! CURVE against a peer written by hand from RFC 26, with keys and commands that no honest peer sends.

#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use bytes::Bytes;
use callosum_proto::Role;
use callosum_proto::zmtp::{CurveKeyPair, Link, LinkConfig, LinkError, LinkEvent, Mechanism, ZmtpViolation};
use callosum_testkit::curve_handshake::{FIELD, Plan, shake_hands, written};
use callosum_testkit::curve_peer::{CurvePeer, Half, MORE, SEALED_COMMAND, next_frame};
use salsabox::{SecretBox, hsalsa20};
use x25519_dalek::{PublicKey, StaticSecret};

fn server_keys() -> CurveKeyPair {
    CurveKeyPair::generate([11; 32])
}

fn client_keys() -> CurveKeyPair {
    CurveKeyPair::generate([22; 32])
}

fn link(role: Role) -> Link {
    let mut config = LinkConfig::new(role);
    config.mechanism = match role {
        Role::Binder => Mechanism::CurveServer { keys: server_keys() },
        Role::Connector => Mechanism::CurveClient { keys: client_keys(), server: server_keys().public() },
    };
    // Each has a seed of its own.
    static LINKS: AtomicU8 = AtomicU8::new(0);
    Link::new(&config, [LINKS.fetch_add(1, Ordering::Relaxed); 32], Instant::now())
}

fn by_hand(server: bool) -> CurvePeer {
    let ephemeral = Half::of([5; 32]);
    if server {
        CurvePeer::server(&server_keys(), ephemeral)
    } else {
        CurvePeer::client(&client_keys(), server_keys().public(), ephemeral)
    }
}

/// Runs a link's handshake with a peer that follows this plan.
fn meet(server: bool, plan: &Plan<'_>) -> (Link, CurvePeer, Result<bool, LinkError>) {
    let (mut link, mut peer) = (link(if server { Role::Connector } else { Role::Binder }), by_hand(server));
    let result = shake_hands(&mut link, &mut peer, plan, Instant::now());
    (link, peer, result)
}

/// Every point of low order, in each of its encodings (RFC 7748, section 6.1).
fn low_order() -> Vec<[u8; 32]> {
    let hex =
        |text: &str| std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap());
    let number = |low: u8| std::array::from_fn(|at| if at == 0 { low } else { 0 });
    let near_prime = |low: u8| {
        let mut point = FIELD;
        point[0] = low;
        point
    };
    let mut points = vec![
        number(0),
        number(1),
        near_prime(0xEC),
        near_prime(0xED),
        near_prime(0xEE),
        hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        hex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    ];
    for at in 0..points.len() {
        let mut other = points[at];
        other[31] |= 0x80;
        points.push(other);
    }
    points
}

#[test]
fn honest_peers_by_hand_are_understood() {
    for server in [false, true] {
        let (mut link, mut peer, result) = meet(server, &Plan::honest(server));
        assert_eq!(result, Ok(true));
        let now = Instant::now();
        for (flags, payload) in [(MORE, "UPPER"), (SEALED_COMMAND, "\x04PING\0\0hey"), (0, "body")] {
            link.handle_input(now, &peer.seal(flags, payload.as_bytes())).unwrap();
        }
        let Some(LinkEvent::Message(message)) = link.poll_event() else { panic!("two frames") };
        assert_eq!(message.frames(), ["UPPER", "body"]);
        let said = written(&mut link);
        let (_, pong) = next_frame(&mut &said[..]).unwrap();
        assert_eq!(peer.open(&pong), Some((SEALED_COMMAND, b"\x04PONGhey".to_vec())));
    }
}

#[test]
fn keys_of_low_order_are_worth_nothing_wherever_they_are_said() {
    for point in low_order() {
        for (server, name) in [(false, "HELLO"), (true, "WELCOME")] {
            let plan = Plan { ephemeral: Half::weak(point), ..Plan::honest(server) };
            let (_, _, result) = meet(server, &plan);
            let worthless = |error: &ZmtpViolation| match error {
                ZmtpViolation::LowOrder { command } | ZmtpViolation::NotCanonical { command } => {
                    *command == name
                }
                _ => false,
            };
            let refused = matches!(&result, Err(LinkError::Handshake(error)) if worthless(error));
            assert!(refused, "{name} with {point:?}: {result:?}");
        }
        // If a client's long-term key were of low order, anybody could make its vouch.
        let (_, _, result) = meet(false, &Plan { long: Some(Half::weak(point)), ..Plan::honest(false) });
        assert!(matches!(result, Err(LinkError::Handshake { .. })), "INITIATE with {point:?}: {result:?}");
    }
}

#[test]
fn ephemeral_keys_have_one_spelling_too() {
    for (server, command) in [(false, "HELLO"), (true, "WELCOME")] {
        let plan = Plan { ephemeral: Half::of([5; 32]).noncanonical(), ..Plan::honest(server) };
        let (_, _, result) = meet(server, &plan);
        assert_eq!(result, Err(LinkError::Handshake(ZmtpViolation::NotCanonical { command })));
    }
}

#[test]
fn a_vouch_is_for_one_server_and_one_connection() {
    for at in 0..64 {
        let (_, _, result) = meet(false, &Plan { change: (at, 1), ..Plan::honest(false) });
        assert_eq!(result, Err(LinkError::Handshake(ZmtpViolation::Vouch)), "byte {at}");
    }
}

#[test]
fn a_key_in_another_spelling_is_nobodys() {
    let noncanonical = Half::of(*b"22222222222222222222222222222222").noncanonical();
    let (mut link, _, result) = meet(false, &Plan { long: Some(noncanonical), ..Plan::honest(false) });
    assert!(matches!(result, Err(LinkError::Handshake { .. })), "{result:?}");
    assert!(written(&mut link).ends_with(b"\x05ERROR\x03400"));
}

#[test]
fn a_refusal_in_a_message_is_no_refusal() {
    // ERROR refuses a client only in the handshake; afterwards it is a command like any other.
    for server in [false, true] {
        let (mut link, mut peer, _) = meet(server, &Plan::honest(server));
        let result = link.handle_input(Instant::now(), &peer.seal(SEALED_COMMAND, b"\x05ERROR\x03400"));
        assert!(!matches!(result, Err(LinkError::Refused { .. })), "{result:?}");
    }
}

#[test]
fn messages_of_an_admitted_peer_are_counted_on_by_one() {
    for (skip, expected) in [(1, ZmtpViolation::OutOfOrder), (u64::MAX, ZmtpViolation::OutOfOrder)] {
        let (mut link, mut peer, _) = meet(false, &Plan::honest(false));
        peer.nonce = peer.nonce.wrapping_add(skip);
        let result = link.handle_input(Instant::now(), &peer.seal(0, b"x"));
        assert_eq!(result, Err(LinkError::Violation(expected)));
        assert_eq!(link.poll_event(), None);
    }
}

/// All frames that two links exchanged, without the greetings, and the first CURVE message of the last message.
struct Recorded {
    frames: Vec<Vec<u8>>,
}

fn record() -> Recorded {
    let now = Instant::now();
    let (mut client, mut server) = (link(Role::Connector), link(Role::Binder));
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let mut sent = false;
    loop {
        let (from_client, from_server) = (written(&mut client), written(&mut server));
        if from_client.is_empty() && from_server.is_empty() && sent {
            break;
        }
        up.extend_from_slice(&from_client);
        down.extend_from_slice(&from_server);
        server.handle_input(now, &from_client).unwrap();
        client.handle_input(now, &from_server).unwrap();
        if let Some(LinkEvent::AuthenticationRequested { .. }) = server.poll_event() {
            server.admit(now);
        }
        if client.is_established() && !sent {
            sent = true;
            for link in [&mut client, &mut server] {
                let secret = Bytes::from_static(b"a secret that must stay one");
                link.send(callosum_proto::Multipart::new(secret.clone(), secret.clone(), secret)).unwrap();
            }
        }
    }
    let mut frames = Vec::new();
    for bytes in [up, down] {
        let mut rest = &bytes[64..];
        while let Some((_, payload)) = next_frame(&mut rest) {
            frames.push(payload);
        }
    }
    Recorded { frames }
}

impl Recorded {
    /// The rest of the commands or CURVE messages that begin with this name.
    fn after(&self, name: &[u8]) -> Vec<&[u8]> {
        self.frames.iter().filter_map(|frame| frame.strip_prefix(name)).collect()
    }

    fn client_ephemeral(&self) -> [u8; 32] {
        *self.after(b"\x05HELLO")[0][74..].first_chunk().unwrap()
    }

    /// The server's ephemeral key and the cookie, which the server's long-term secret key decrypts.
    fn welcome(&self) -> ([u8; 32], Vec<u8>) {
        let (nonce, sealed) = self.after(b"\x07WELCOME")[0].split_at(16);
        let key = agreed(&server_keys(), &self.client_ephemeral());
        let inside = open(&key, b"WELCOME-", nonce, sealed).expect("the server's own words");
        (*inside.first_chunk().unwrap(), inside[32..].to_vec())
    }
}

fn agreed(keys: &CurveKeyPair, public: &[u8; 32]) -> SecretBox {
    let bytes = *callosum_proto::internals::secret_bytes(keys);
    let shared = StaticSecret::from(bytes).diffie_hellman(&PublicKey::from(*public));
    SecretBox::new(hsalsa20(shared.as_bytes(), &[0; 16]))
}

fn open(key: &SecretBox, prefix: &[u8], nonce: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let whole: [u8; 24] = [prefix, nonce].concat().try_into().unwrap();
    let (tag, sealed) = sealed.split_first_chunk::<16>()?;
    let mut inside = sealed.to_vec();
    key.decrypt_detached(&whole, &mut inside, tag).ok()?;
    Some(inside)
}

#[test]
fn recorded_traffic_and_both_secret_keys_open_nothing() {
    let recorded = record();
    let (server_ephemeral, cookie) = recorded.welcome();
    let publics =
        [*client_keys().public().as_bytes(), *server_keys().public().as_bytes(), recorded.client_ephemeral()]
            .into_iter()
            .chain([server_ephemeral]);
    let keys: Vec<_> = publics
        .flat_map(|public| [client_keys(), server_keys()].map(|keys| agreed(&keys, &public)))
        .collect();
    let mut tried = 0;
    let mut shut = |prefix: &[u8], nonce: &[u8], sealed: &[u8]| {
        tried += 1;
        assert!(keys.iter().all(|key| open(key, prefix, nonce, sealed).is_none()), "{prefix:?}");
    };
    for sealed in recorded.after(b"\x07MESSAGE") {
        for prefix in [b"CurveZMQMESSAGEC", b"CurveZMQMESSAGES"] {
            shut(prefix, &sealed[..8], &sealed[8..]);
        }
    }
    let initiate = recorded.after(b"\x08INITIATE")[0];
    assert_eq!(initiate[..96], cookie, "it is the one of this connection");
    shut(b"CurveZMQINITIATE", &initiate[96..104], &initiate[104..]);
    let ready = recorded.after(b"\x05READY")[0];
    shut(b"CurveZMQREADY---", &ready[..8], &ready[8..]);
    // The cookie holds the server's ephemeral secret, under a key that the server erases.
    shut(b"COOKIE--", &cookie[..16], &cookie[16..]);
    assert_eq!(tried, 2 * 6 + 3);
}

/// Checks the test above: with one of the ephemeral secrets the same CURVE messages do decrypt.
#[test]
fn an_ephemeral_secret_opens_what_was_recorded() {
    let (mut link, mut peer, _) = meet(false, &Plan::honest(false));
    link.send(callosum_proto::Multipart::new("a".into(), "b".into(), "c".into())).unwrap();
    let said = written(&mut link);
    let (_, payload) = next_frame(&mut &said[..]).unwrap();
    assert_eq!(peer.open(&payload), Some((MORE, b"a".to_vec())));
}

#[test]
fn ephemeral_keys_are_new_for_each_connection() {
    let (one, other) = (record(), record());
    assert_ne!(one.client_ephemeral(), other.client_ephemeral());
    assert_ne!(one.welcome().0, other.welcome().0);
    for recorded in [&one, &other] {
        let ephemeral = [recorded.client_ephemeral(), recorded.welcome().0];
        let long = [client_keys(), server_keys()].map(|keys| *keys.public().as_bytes());
        assert!(ephemeral.iter().all(|key| !long.contains(key)));
    }
}
