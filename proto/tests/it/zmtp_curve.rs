//! Links under CURVE: who gets in, what gets through, and what somebody on the way can do.

#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_proto::zmtp::{
    CurveKeyPair, CurvePublicKey, Link, LinkConfig, LinkError, LinkEvent, Mechanism, RefusalStatus,
    ZmtpViolation,
};
use callosum_proto::{CallId, Connection, ConnectionConfig, Endpoint, Event, Keepalive, Multipart, Role};
use omq_proto::proto::{
    Command, Connection as RawConnection, ConnectionConfig as RawConfig, Role as RawRole,
};
use omq_proto::{CurveKeypair as RawKeys, CurvePublicKey as RawPublic, CurveSecretKey as RawSecret};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::output::{all_written, written};

const OVERHEAD: usize = 33;
const REFUSED: &[u8] = b"\x04\x0a\x05ERROR\x03400";

fn server_keys() -> CurveKeyPair {
    CurveKeyPair::generate([11; 32])
}

fn client_keys() -> CurveKeyPair {
    CurveKeyPair::generate([22; 32])
}

fn server_config() -> LinkConfig {
    let mut config = LinkConfig::new(Role::Binder);
    config.mechanism = Mechanism::CurveServer { keys: server_keys() };
    config
}

fn client_config() -> LinkConfig {
    let mut config = LinkConfig::new(Role::Connector).identity(Bytes::from_static(b"agent"));
    config.mechanism = Mechanism::CurveClient { keys: client_keys(), server: server_keys().public() };
    config
}

/// A link whose seed no other one has.
fn new_link(config: &LinkConfig, now: Instant) -> Link {
    static LINKS: AtomicU64 = AtomicU64::new(0);
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&LINKS.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    Link::new(config, seed, now)
}

fn events(link: &mut Link) -> Vec<LinkEvent> {
    std::iter::from_fn(|| link.poll_event()).collect()
}

fn feed(link: &mut Link, now: Instant, data: impl AsRef<[u8]>) -> Result<(), LinkError> {
    link.handle_input(now, data.as_ref())
}

fn messages(events: &[LinkEvent]) -> Vec<Multipart> {
    let message = |event: &LinkEvent| match event {
        LinkEvent::Message(message) => Some(message.clone()),
        _ => None,
    };
    events.iter().filter_map(message).collect()
}

fn three(body: impl Into<Bytes>) -> Multipart {
    Multipart::new(Bytes::from_static(b"UPPER"), Bytes::from_static(b"header"), body.into())
}

struct Pair {
    now: Instant,
    client: Link,
    server: Link,
}

impl Pair {
    fn new(client: &LinkConfig, server: &LinkConfig) -> Self {
        let now = Instant::now();
        Self { now, client: new_link(client, now), server: new_link(server, now) }
    }

    /// Up to the server's question.
    fn asked() -> Self {
        Self::asked_with(&client_config(), &server_config())
    }

    fn asked_with(client: &LinkConfig, server: &LinkConfig) -> Self {
        let mut pair = Self::new(client, server);
        while pair.up().unwrap() + pair.down().unwrap() > 0 {}
        let public_key = client_keys().public();
        assert_eq!(events(&mut pair.server), [LinkEvent::AuthenticationRequested { public_key }]);
        assert_eq!(events(&mut pair.client), []);
        pair
    }

    fn established() -> Self {
        Self::established_with(&client_config(), &server_config())
    }

    fn established_with(client: &LinkConfig, server: &LinkConfig) -> Self {
        let mut pair = Self::asked_with(client, server);
        pair.server.admit(pair.now);
        pair.down().unwrap();
        assert!(pair.client.is_established() && pair.server.is_established());
        events(&mut pair.client);
        events(&mut pair.server);
        pair
    }

    fn up(&mut self) -> Result<usize, LinkError> {
        let bytes = all_written(&mut self.client);
        feed(&mut self.server, self.now, &bytes).map(|()| bytes.len())
    }

    fn down(&mut self) -> Result<usize, LinkError> {
        let bytes = all_written(&mut self.server);
        feed(&mut self.client, self.now, &bytes).map(|()| bytes.len())
    }

    /// What the client writes for this message.
    fn sealed(&mut self, message: Multipart) -> Vec<u8> {
        self.client.send(message).unwrap();
        all_written(&mut self.client)
    }
}

/// Cuts what was written into frames.
fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some(flags) = bytes.first() {
        let (head, len) = match flags & 2 {
            0 => (2, usize::from(bytes[1])),
            _ => (9, u64::from_be_bytes(bytes[1..9].try_into().unwrap()) as usize),
        };
        let (frame, rest) = bytes.split_at(head + len);
        frames.push(frame.to_vec());
        bytes = rest;
    }
    frames
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[test]
fn both_ends_know_each_other_and_nobody_else_reads() {
    let mut pair = Pair::new(&client_config(), &server_config());
    while pair.up().unwrap() + pair.down().unwrap() > 0 {}
    events(&mut pair.server);
    pair.server.admit(pair.now);
    let [LinkEvent::Established { identity, public_key, .. }] = &events(&mut pair.server)[..] else {
        panic!()
    };
    assert_eq!(*public_key, Some(client_keys().public()));
    assert_eq!(identity, &b"agent"[..]);
    pair.down().unwrap();
    let [LinkEvent::Established { public_key, .. }] = &events(&mut pair.client)[..] else { panic!() };
    assert_eq!(*public_key, Some(server_keys().public()));

    let bytes = pair.sealed(three("secret body"));
    assert!(["UPPER", "header", "secret"].iter().all(|text| !contains(&bytes, text.as_bytes())));
    feed(&mut pair.server, pair.now, bytes).unwrap();
    assert_eq!(messages(&events(&mut pair.server)), [three("secret body")]);
    let tailed =
        Multipart::with_tail(Bytes::new(), Bytes::new(), Bytes::from_static(b"a"), vec![7; 20_000].into());
    pair.server.send(tailed.clone()).unwrap();
    pair.down().unwrap();
    assert_eq!(messages(&events(&mut pair.client)), [tailed]);
}

#[test]
fn wrong_server_key_opens_nothing() {
    let mut config = client_config();
    let server = CurveKeyPair::generate([33; 32]).public();
    config.mechanism = Mechanism::CurveClient { keys: client_keys(), server };
    let mut pair = Pair::new(&config, &server_config());
    pair.down().unwrap();
    let error = pair.up().unwrap_err();
    assert_eq!(error, LinkError::Handshake(ZmtpViolation::Sealed { command: "HELLO" }));
    assert_eq!(events(&mut pair.server), []);
    assert!(all_written(&mut pair.server).is_empty(), "nothing is given away");
}

#[test]
fn impostor_of_a_server_is_found_out() {
    let mut config = server_config();
    config.mechanism = Mechanism::CurveServer { keys: CurveKeyPair::generate([33; 32]) };
    let mut honest = Pair::new(&client_config(), &server_config());
    let mut impostor = Pair::new(&client_config(), &config);
    // The impostor relays a WELCOME that was made for somebody else.
    honest.down().unwrap();
    honest.up().unwrap();
    let welcome = all_written(&mut honest.server);
    impostor.down().unwrap();
    let error = feed(&mut impostor.client, impostor.now, welcome).unwrap_err();
    assert!(matches!(error, LinkError::Handshake { .. }), "{error}");
}

#[test]
fn refused_client_is_told_at_once() {
    let mut pair = Pair::asked();
    let public_key = client_keys().public();
    pair.server.refuse(pair.now);
    let output = all_written(&mut pair.server);
    assert_eq!(output, REFUSED);
    let error = feed(&mut pair.client, pair.now, output).unwrap_err();
    assert!(error.is_authentication_failure());
    assert_eq!(error, LinkError::Refused { reason: "400".into(), status: Some(RefusalStatus::Denied) });
    assert_eq!(events(&mut pair.client), []);
    assert_eq!(events(&mut pair.server), []);
    assert_eq!(pair.server.send(three("no")), Err(LinkError::Closed));
    pair.server.admit(pair.now);
    pair.server.refuse(pair.now);
    assert!(all_written(&mut pair.server).is_empty() && !pair.server.accepts_input());
    // The server's host learns of the end as of any other.
    assert_eq!(pair.server.poll_timeout(), Some(pair.now), "at once");
    let refused = Err(LinkError::NotAdmitted { public_key });
    assert_eq!(pair.server.handle_timeout(pair.now), refused);
    assert_eq!(pair.server.poll_timeout(), None);
    assert_eq!(pair.server.handle_timeout(pair.now), Ok(()));
    assert_eq!(feed(&mut pair.server, pair.now, "x"), Err(LinkError::Closed));

    let mut pair = Pair::asked();
    pair.server.refuse(pair.now);
    assert_eq!(feed(&mut pair.server, pair.now, "x"), refused);
    assert_eq!((pair.server.poll_timeout(), pair.server.handle_timeout(pair.now)), (None, Ok(())));
}

#[test]
fn a_connection_reports_that_it_has_refused_its_client() {
    let (now, public_key) = (Instant::now(), client_keys().public());
    let mut sides = [(client_config(), 1), (server_config(), 2)].map(|(link, seed)| {
        let (id, config) = (Endpoint::default().open(), ConnectionConfig::default());
        let mut connection = Connection::new(id, link.role, config, [seed; 16], CallId::FIRST, now);
        connection.open(now, &link, [seed; 32]);
        connection
    });
    for from in [0, 1, 0, 1, 0, 1, 0] {
        let mut bytes = Vec::new();
        sides[from].transmit(now, &mut bytes).unwrap();
        sides[1 - from].handle_input(now, &bytes).unwrap();
    }
    let [client, server] = &mut sides;
    assert_eq!(server.poll_event(), Some(Event::AuthenticationRequested { public_key }));
    server.refuse(now);
    let mut output = Vec::new();
    server.transmit(now, &mut output).unwrap();
    assert_eq!(output, REFUSED);
    let status = Some(RefusalStatus::Denied);
    assert_eq!(client.handle_input(now, &output), Err(LinkError::Refused { reason: "400".into(), status }));
    assert_eq!(server.poll_timeout(), Some(now));
    assert_eq!(server.handle_timeout(now), Err(LinkError::NotAdmitted { public_key }));
    assert!(server.poll_timeout().is_none_or(|at| at > now));
}

#[test]
fn input_is_held_while_the_application_decides() {
    let mut config = server_config();
    let said = {
        let mut pair = Pair::new(&client_config(), &config);
        let mut said = 0;
        loop {
            let up = pair.up().unwrap();
            said += up;
            if up + pair.down().unwrap() == 0 {
                break said;
            }
        }
    };
    config.max_handshake_bytes = said + 100;
    let mut pair = Pair::asked_with(&client_config(), &config);
    for _ in 0..50 {
        feed(&mut pair.server, pair.now, [0, 1]).unwrap();
    }
    assert!(pair.server.accepts_input());
    assert_eq!(events(&mut pair.server), []);
    assert_eq!(pair.server.send(three("early")), Err(LinkError::NotEstablished));
    // What was held is read then, and is judged as what comes later.
    pair.server.admit(pair.now);
    assert!(matches!(events(&mut pair.server)[..], [LinkEvent::Established { .. }]));
    assert_eq!(pair.server.poll_timeout(), Some(pair.now));
    let result = pair.server.handle_timeout(pair.now);
    assert_eq!(result, Err(LinkError::Violation(ZmtpViolation::NotEncrypted)));

    let mut pair = Pair::asked_with(&client_config(), &config);
    feed(&mut pair.server, pair.now, [0; 100]).unwrap();
    let max = config.max_handshake_bytes;
    assert_eq!(feed(&mut pair.server, pair.now, [0]), Err(LinkError::HandshakeTooLarge { max }));
    pair.server.admit(pair.now);
    assert_eq!((events(&mut pair.server), pair.server.is_established()), (vec![], false));
}

#[test]
fn half_of_a_frame_may_be_held() {
    let mut pair = Pair::asked();
    // Every first box starts so: flags, its length, and its name.
    let start = [1, 5 + OVERHEAD as u8, 7, b'M', b'E'];
    feed(&mut pair.server, pair.now, start).unwrap();
    pair.server.admit(pair.now);
    pair.down().unwrap();
    let bytes = pair.sealed(three("body"));
    assert_eq!(bytes[..start.len()], start);
    feed(&mut pair.server, pair.now, &bytes[start.len()..]).unwrap();
    assert_eq!(messages(&events(&mut pair.server)), [three("body")]);
}

#[test]
fn decision_does_not_stop_the_clock() {
    let mut pair = Pair::asked();
    let deadline = pair.now + Duration::from_secs(10);
    assert_eq!(pair.server.poll_timeout(), Some(deadline));
    pair.server.handle_timeout(deadline - Duration::from_nanos(1)).unwrap();
    assert_eq!(pair.server.handle_timeout(deadline), Err(LinkError::HandshakeTimedOut));
    pair.server.admit(deadline);
    assert!(all_written(&mut pair.server).is_empty() && !pair.server.is_established());
}

#[test]
fn answers_without_a_question_do_nothing() {
    let mut pair = Pair::new(&client_config(), &server_config());
    for link in [&mut pair.server, &mut pair.client] {
        link.admit(pair.now);
        link.refuse(pair.now);
        assert!(link.accepts_input() && !link.is_established());
    }
    let mut pair = Pair::established();
    pair.server.refuse(pair.now);
    assert!(pair.server.is_established());
    let mut null = new_link(&LinkConfig::new(Role::Binder), pair.now);
    null.admit(pair.now);
    assert!(null.accepts_input() && !null.is_established());
}

fn greeting(mechanism: &str, as_server: u8) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    (bytes[0], bytes[9], bytes[10], bytes[11]) = (0xFF, 0x7F, 3, 1);
    bytes[12..12 + mechanism.len()].copy_from_slice(mechanism.as_bytes());
    bytes[32] = as_server;
    bytes
}

#[test]
fn greetings_say_who_is_the_server() {
    for (config, as_server) in [(server_config(), 1), (client_config(), 0)] {
        assert_eq!(all_written(&mut new_link(&config, Instant::now())), greeting("CURVE", as_server));
    }
}

#[test]
fn other_mechanisms_and_versions_do_not_get_in() {
    let now = Instant::now();
    let null = LinkConfig::new(Role::Binder);
    let meet = |config: &LinkConfig, bytes: &[u8]| {
        let mut link = new_link(config, now);
        let error = feed(&mut link, now, bytes).unwrap_err();
        assert_eq!(events(&mut link), []);
        assert_eq!(all_written(&mut link).len(), 64, "only the greeting");
        error
    };
    for config in [server_config(), client_config()] {
        for theirs in ["NULL", "PLAIN", "CURVE2", "curve", "", "GSSAPI"] {
            let mismatch = LinkError::MechanismMismatch { ours: "CURVE", theirs: theirs.to_owned() };
            let early = [greeting(theirs, 0), b"\x00\x01x".to_vec()].concat();
            assert_eq!(meet(&config, &early), mismatch);
        }
        assert_eq!(meet(&config, b"\x01\x00\x00\x01x"), LinkError::NotZmtp, "ZMTP 1");
        let zmtp2 = b"\xFF\0\0\0\0\0\0\0\x01\x7F\x01\x05\0\0";
        assert_eq!(meet(&config, zmtp2), LinkError::UnsupportedVersion { major: 1 });
        assert!(matches!(meet(&config, &greeting("CURVE", 2)), LinkError::Handshake { .. }));
    }
    let theirs = "CURVE".to_owned();
    let mismatch = LinkError::MechanismMismatch { ours: "NULL", theirs };
    assert_eq!(meet(&null, &greeting("CURVE", 0)), mismatch);
    assert_eq!(meet(&null, &greeting("CURVE", 1)), mismatch);
    let two_servers = meet(&server_config(), &greeting("CURVE", 1));
    assert!(matches!(two_servers, LinkError::Handshake { .. }));
}

#[test]
fn two_clients_part() {
    let mut pair = Pair::new(&client_config(), &client_config());
    pair.down().unwrap();
    assert!(matches!(pair.up().unwrap_err(), LinkError::Handshake { .. }));
}

#[test]
fn handshakes_have_one_way_through() {
    let now = Instant::now();
    let ready = [&b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER"[..]].concat();
    let hello =
        |key: [u8; 32]| [&b"\x04\xc8\x05HELLO\x01\0"[..], &[0; 72], &key, &[0; 7], &[1], &[5; 80]].concat();
    let ping = b"\x04\x07\x04PING\0\0".to_vec();
    let initiate = [&b"\x04\xff\x08INITIATE"[..], &[7; 246]].concat();
    let low_order = std::array::from_fn(|at| u8::from(at == 0));
    for first in
        [ready, hello([0; 32]), hello(low_order), hello([9; 32]), ping, initiate, b"\0\x01x".to_vec()]
    {
        let mut server = new_link(&server_config(), now);
        all_written(&mut server);
        feed(&mut server, now, greeting("CURVE", 0)).unwrap();
        let error = feed(&mut server, now, &first).unwrap_err();
        assert!(matches!(error, LinkError::Handshake { .. }), "{error}");
        assert_eq!(events(&mut server), []);
        assert!(all_written(&mut server).is_empty());
    }
}

#[test]
fn handshake_of_another_connection_is_worth_nothing() {
    let mut one = Pair::new(&client_config(), &server_config());
    let mut other = Pair::new(&client_config(), &server_config());
    for pair in [&mut one, &mut other] {
        pair.down().unwrap();
        pair.up().unwrap();
        pair.down().unwrap();
    }
    let initiate = all_written(&mut one.client);
    let error = feed(&mut other.server, other.now, initiate).unwrap_err();
    assert_eq!(error, LinkError::Handshake(ZmtpViolation::Cookie));
    assert_eq!(events(&mut other.server), []);
}

#[test]
fn handshake_bytes_are_bounded_when_announced() {
    for config in [server_config(), client_config()] {
        let now = Instant::now();
        let mut link = new_link(&config, now);
        feed(&mut link, now, greeting("CURVE", 0)).unwrap();
        let max = config.max_handshake_bytes;
        let head = |len: usize| [&[6][..], &(len as u64).to_be_bytes()].concat();
        assert_eq!(feed(&mut link, now, head(max - 64 - 8)), Err(LinkError::HandshakeTooLarge { max }));
        let mut link = new_link(&config, now);
        feed(&mut link, now, greeting("CURVE", 0)).unwrap();
        feed(&mut link, now, head(max - 64 - 9)).unwrap();
    }
}

/// What the server makes of these bytes instead of the client's.
fn injected(change: impl FnOnce(&mut Pair, Vec<Vec<u8>>) -> Vec<u8>) -> LinkError {
    let mut pair = Pair::established();
    let bytes = pair.sealed(three("body"));
    let changed = change(&mut pair, frames(&bytes));
    let error = feed(&mut pair.server, pair.now, changed).unwrap_err();
    assert!(messages(&events(&mut pair.server)).iter().all(|message| *message == three("body")));
    assert_eq!(pair.server.send(three("x")), Err(LinkError::Closed));
    error
}

#[test]
fn messages_come_once_and_in_order() {
    let out_of_order = LinkError::Violation(ZmtpViolation::OutOfOrder);
    let replayed = injected(|_, frames| [frames.concat(), frames.concat()].concat());
    assert_eq!(replayed, out_of_order);
    assert_eq!(injected(|_, frames| [&frames[0][..], &frames[0]].concat()), out_of_order);
    assert_eq!(injected(|_, frames| [&frames[1][..], &frames[0]].concat()), out_of_order);
    assert_eq!(injected(|_, frames| [&frames[0][..], &frames[2]].concat()), out_of_order);
    assert_eq!(injected(|_, frames| frames[1..].concat()), out_of_order, "the first of all is missing");
    // The body of one message can't be put behind the header of another.
    let spliced = injected(|pair, first| {
        let second = frames(&pair.sealed(three("other")));
        [&first[0][..], &first[1], &second[2]].concat()
    });
    assert_eq!(spliced, out_of_order);
}

#[test]
fn clients_miss_the_first_message_too() {
    let mut pair = Pair::established();
    pair.server.send(three("body")).unwrap();
    let written = all_written(&mut pair.server);
    let error = feed(&mut pair.client, pair.now, frames(&written)[1..].concat()).unwrap_err();
    assert_eq!(error, LinkError::Violation(ZmtpViolation::OutOfOrder));
    assert_eq!(events(&mut pair.client), []);
}

#[test]
fn messages_are_the_peers_own() {
    let forged = LinkError::Violation(ZmtpViolation::Forged);
    let elsewhere = injected(|_, _| Pair::established().sealed(three("elsewhere")));
    assert_eq!(elsewhere, forged);
    let reflected = injected(|pair, _| {
        pair.server.send(three("ours")).unwrap();
        // Its second box has the number that is due: READY is one command, HELLO and INITIATE are two.
        frames(&all_written(&mut pair.server)).swap_remove(1)
    });
    assert_eq!(reflected, forged);
    for cut in 0..40 {
        let error = injected(|_, frames| {
            let mut frame = frames[0].clone();
            frame.truncate(frame.len().saturating_sub(cut + 1).max(2));
            frame[1] = (frame.len() - 2) as u8;
            frame
        });
        let short =
            matches!(error, LinkError::Violation(ZmtpViolation::Forged | ZmtpViolation::NotEncrypted));
        assert!(short, "{cut}: {error}");
    }
}

#[test]
fn nothing_passes_in_the_clear() {
    let clear: [&[u8]; 6] = [
        b"\0\0",
        b"\0\x04body",
        b"\x04\x07\x04PING\0\0",
        b"\x04\x0a\x05ERROR\x03400",
        b"\0\x08\x07MESSAG\0",
        b"\x04\x06\x05READY",
    ];
    for bytes in clear {
        let error = injected(|_, _| bytes.to_vec());
        assert_eq!(error, LinkError::Violation(ZmtpViolation::NotEncrypted));
    }
    assert_eq!(injected(|_, _| b"\0\x08\x07MESSAGE".to_vec()), LinkError::Violation(ZmtpViolation::Forged));
}

#[test]
fn no_flipped_bit_changes_a_message() {
    let len = Pair::established().sealed(three("body")).len();
    for bit in 0..8 * len {
        let (at, mut pair) = (bit / 8, Pair::established());
        let mut bytes = pair.sealed(three("body"));
        bytes[at] ^= 1 << (bit % 8);
        let _ = feed(&mut pair.server, pair.now, &bytes);
        let got = messages(&events(&mut pair.server));
        // The flags outside of a box are not the peer's word, so they don't matter.
        assert!(got.is_empty() || got == [three("body")], "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_in_a_message_ends_the_link() {
    for bit in 8 * 2..8 * (OVERHEAD + 5 + 2) {
        let error = injected(|_, frames| {
            let mut frame = frames[0].clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            frame
        });
        assert!(
            matches!(
                error,
                LinkError::Violation(
                    ZmtpViolation::Forged | ZmtpViolation::NotEncrypted | ZmtpViolation::OutOfOrder
                )
            ),
            "{error}"
        );
    }
}

/// A peer that is not held to what a link does.
struct Raw(RawConnection);

impl Raw {
    /// Shakes hands with the server; the raw client's own keys.
    fn established(server: &mut Link, now: Instant) -> Self {
        let keys = RawKeys {
            public: RawPublic(*client_keys().public().as_bytes()),
            secret: RawSecret::from_z85(&client_keys().secret_z85()).unwrap(),
        };
        let mut raw = Self::new(keys);
        while raw.carry(server, now).unwrap() {}
        server.admit(now);
        raw.carry(server, now).unwrap();
        assert!(raw.0.is_ready());
        events(server);
        raw
    }

    fn new(our_keypair: RawKeys) -> Self {
        let server_public = RawPublic(*server_keys().public().as_bytes());
        let setup = omq_proto::MechanismSetup::CurveClient { our_keypair, server_public };
        let config = RawConfig::new(RawRole::Client, omq_proto::SocketType::Dealer).mechanism(setup);
        Self(RawConnection::new(config))
    }

    /// Both ways, once; whether anything moved.
    fn carry(&mut self, server: &mut Link, now: Instant) -> Result<bool, LinkError> {
        let up = self.said();
        feed(server, now, &up)?;
        let down = all_written(server);
        let moved = !up.is_empty() || !down.is_empty();
        self.0.handle_input(down.into()).unwrap();
        Ok(moved)
    }

    fn said(&mut self) -> Vec<u8> {
        let bytes = self.0.poll_transmit().to_vec();
        self.0.advance_transmit(bytes.len());
        bytes
    }

    fn sealed(&mut self, frames: usize, len: usize) -> Vec<u8> {
        let message = omq_proto::Message::multipart((0..frames).map(|_| Bytes::from(vec![3; len])));
        self.0.send_message(&message).unwrap();
        self.said()
    }

    fn command(&mut self, name: &'static str, len: usize) -> Vec<u8> {
        let command = Command::Unknown { name: name.into(), body: vec![0; len].into() };
        self.0.send_command(&command).unwrap();
        self.said()
    }
}

fn raw_pair(max_message_size: usize) -> (Raw, Link, Instant) {
    let now = Instant::now();
    let mut config = server_config();
    config.max_message_size = max_message_size;
    let mut server = new_link(&config, now);
    (Raw::established(&mut server, now), server, now)
}

#[test]
fn keys_have_one_spelling() {
    let now = Instant::now();
    let mut public = *client_keys().public().as_bytes();
    public[31] |= 0x80;
    let secret = RawSecret::from_z85(&client_keys().secret_z85()).unwrap();
    let mut raw = Raw::new(RawKeys { public: RawPublic(public), secret });
    let mut server = new_link(&server_config(), now);
    raw.carry(&mut server, now).unwrap();
    raw.carry(&mut server, now).unwrap();
    let error = raw.carry(&mut server, now).unwrap_err();
    assert!(matches!(error, LinkError::Handshake { .. }), "{error}");
    assert_eq!(events(&mut server), []);
    assert_eq!(all_written(&mut server), REFUSED);
}

#[test]
fn message_size_is_limited_to_the_byte() {
    for (max, frames, len) in [(3_000, 3, 1_000), (90_000, 3, 30_000), (40_000, 4, 10_000), (500, 1, 500)] {
        for (max, fits) in [(max, true), (max - 1, false)] {
            let (mut raw, mut server, now) = raw_pair(max);
            let result = feed(&mut server, now, raw.sealed(frames, len));
            if fits {
                result.unwrap();
                // What came before does not count.
                feed(&mut server, now, raw.sealed(frames, len)).unwrap();
                assert_eq!(events(&mut server).len(), 2);
            } else {
                assert_eq!(result, Err(LinkError::TooLarge { size: max as u64 + 1, max }));
                assert_eq!(events(&mut server), []);
            }
        }
    }
}

#[test]
fn size_is_limited_when_announced() {
    let max = 50_000;
    let head = |len: usize| [&[2][..], &(len as u64).to_be_bytes()].concat();
    let (mut raw, mut server, now) = raw_pair(max);
    let first = frames(&raw.sealed(2, 20_000)).swap_remove(0);
    feed(&mut server, now, first).unwrap();
    let result = feed(&mut server, now, head(30_001 + OVERHEAD));
    assert_eq!(result, Err(LinkError::TooLarge { size: max as u64 + 1, max }));
    let (_, mut server, now) = raw_pair(max);
    feed(&mut server, now, head(max + OVERHEAD)).unwrap();
    let (_, mut server, now) = raw_pair(max);
    let result = feed(&mut server, now, head(max + OVERHEAD + 1));
    assert_eq!(result, Err(LinkError::TooLarge { size: max as u64 + 1, max }));
    let (_, mut server, now) = raw_pair(max);
    let result = feed(&mut server, now, head(usize::MAX));
    assert!(matches!(result, Err(LinkError::TooLarge { max: 50_000, .. })));
    // Behind another frame, no length wraps the sum.
    for len in (15..64).flat_map(|k| [(1_u64 << k) - 1, 1 << k, (1 << k) + 1]).chain(u64::MAX - 64..=u64::MAX)
    {
        let (mut raw, mut server, now) = raw_pair(max);
        let first = frames(&raw.sealed(2, 20_000)).swap_remove(0);
        feed(&mut server, now, first).unwrap();
        let result = feed(&mut server, now, [&[2][..], &len.to_be_bytes()].concat());
        match len <= (30_000 + OVERHEAD) as u64 {
            true => assert_eq!(result, Ok(()), "{len}"),
            false => {
                assert!(matches!(result, Err(LinkError::TooLarge { max: 50_000, .. })), "{len}: {result:?}")
            }
        }
    }
}

#[test]
fn other_numbers_of_frames_are_ignored_up_to_a_limit() {
    let (mut raw, mut server, now) = raw_pair(100_000);
    feed(&mut server, now, raw.sealed(1024, 30)).unwrap();
    feed(&mut server, now, raw.sealed(4, 0)).unwrap();
    let ignored = [LinkEvent::Ignored { frames: 1024 }, LinkEvent::Ignored { frames: 4 }];
    assert_eq!(events(&mut server), ignored);
    for len in [0, 5, 30] {
        let (mut raw, mut server, now) = raw_pair(100_000);
        // The last frame does not come, so nothing else ends it.
        let mut endless = frames(&raw.sealed(1026, len));
        endless.pop();
        let result = feed(&mut server, now, endless.concat());
        assert_eq!(result, Err(LinkError::TooManyFrames { max: 1024 }));
    }
}

#[test]
fn commands_are_small() {
    let (mut raw, mut server, now) = raw_pair(100_000);
    feed(&mut server, now, raw.command("NOVEL", (8 << 10) - 6)).unwrap();
    assert_eq!(events(&mut server), []);
    let result = feed(&mut server, now, raw.command("NOVEL", (8 << 10) - 5));
    let max = 8 << 10;
    assert_eq!(result, Err(LinkError::TooLarge { size: max as u64 + 1, max }));
}

#[test]
fn heartbeats_are_encrypted_and_answered() {
    let mut client = client_config();
    client.keepalive = None;
    let mut server = server_config();
    server.keepalive = Some(Keepalive { idle: Duration::from_secs(5), misses: 2 });
    let mut pair = Pair::established_with(&client, &server);
    for _ in 0..2_000 {
        pair.now = pair.server.poll_timeout().unwrap();
        pair.server.handle_timeout(pair.now).unwrap();
        assert!(pair.down().unwrap() > OVERHEAD);
        assert!(pair.up().unwrap() > OVERHEAD);
        assert_eq!(pair.server.poll_timeout(), Some(pair.now + Duration::from_secs(5)));
    }
    pair.client.send(three("still there")).unwrap();
    pair.up().unwrap();
    assert_eq!(messages(&events(&mut pair.server)), [three("still there")]);
    for _ in 0..2 {
        let now = pair.server.poll_timeout().unwrap();
        pair.server.handle_timeout(now).unwrap();
        assert!(!contains(&all_written(&mut pair.server), b"PING"));
    }
    let now = pair.server.poll_timeout().unwrap();
    assert_eq!(pair.server.handle_timeout(now), Err(LinkError::KeepaliveTimedOut));
}

#[test]
fn input_pauses_while_replies_are_not_written() {
    let (mut raw, mut server, now) = raw_pair(1_000);
    let mut pings = 0;
    while server.accepts_input() {
        raw.0.send_command(&Command::Ping { ttl_deciseconds: 0, context: Bytes::new() }).unwrap();
        feed(&mut server, now, raw.said()).unwrap();
        pings += 1;
        assert!(pings < 10_000);
    }
    assert!(server.pending_output() >= 64 << 10);
    raw.0.handle_input(all_written(&mut server).into()).unwrap();
    assert!(server.accepts_input());
}

#[test]
fn debug_shows_no_secret() {
    let secret = client_keys().secret_z85();
    let config = client_config();
    let pair = Pair::established();
    for shown in [format!("{config:?}"), format!("{:?}", pair.client), format!("{:#?}", config.mechanism)] {
        assert!(!shown.contains(secret.as_str()) && !shown.contains("22, 22"), "{shown}");
    }
}

/// Two links that meet with `first` bytes, then the rest, of what each has said so far, and a few messages.
fn conversation(up: &[usize], down: &[usize]) {
    let now = Instant::now();
    let (mut client, mut server) = (new_link(&client_config(), now), new_link(&server_config(), now));
    let (mut at_client, mut at_server) = (Vec::new(), Vec::new());
    let cut = |cuts: &mut std::slice::Iter<'_, usize>| cuts.next().map_or(usize::MAX, |cut| (*cut).max(1));
    let (mut up, mut down) = (up.iter(), down.iter());
    let mut sent = 0;
    loop {
        let said = written(&mut client, cut(&mut up));
        feed(&mut server, now, &said).unwrap();
        let answer = written(&mut server, cut(&mut down));
        feed(&mut client, now, &answer).unwrap();
        let asked = server.poll_event();
        if matches!(asked, Some(LinkEvent::AuthenticationRequested { .. })) {
            server.admit(now);
        } else {
            at_server.extend(asked);
        }
        at_server.extend(events(&mut server));
        at_client.extend(events(&mut client));
        let mut busy = said.len() + answer.len() + server.pending_output() > 0;
        if client.is_established() && sent < 2 {
            client.send(three(vec![sent; 50])).unwrap();
            server.send(three(vec![sent; 70])).unwrap();
            sent += 1;
            busy = true;
        }
        if !busy {
            break;
        }
    }
    assert!(matches!(at_server[0], LinkEvent::Established { .. }));
    assert!(matches!(at_client[0], LinkEvent::Established { .. }));
    assert_eq!(messages(&at_server), [three(vec![0; 50]), three(vec![1; 50])]);
    assert_eq!(messages(&at_client), [three(vec![0; 70]), three(vec![1; 70])]);
}

#[test]
fn every_split_of_a_conversation_means_the_same() {
    conversation(&vec![1; 2_000], &vec![1; 2_000]);
    // What is said at once is never longer than a message's three boxes or INITIATE.
    for at in 1..400 {
        conversation(&[at; 20], &[]);
        conversation(&[], &[at; 20]);
    }
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let box_start = Just(b"\x01\x40\x07MESSAGE\0\0\0\0\0\0\0\x03".to_vec());
    let text = prop_oneof![
        vec(prop_oneof![0..8_u8, any::<u8>()], 0..60),
        box_start,
        Just(b"\x04\xc8\x05HELLO\x01\0".to_vec()),
        Just(b"\x04\xa8\x07WELCOME".to_vec()),
        Just(b"\x04\xff\x08INITIATE".to_vec()),
        Just(b"\x04\x30\x05READY".to_vec()),
    ];
    vec(text, 0..8).prop_map(|pieces| pieces.concat())
}

/// What becomes of a link that has come this far and then gets these bytes, cut so.
fn outcome(stage: u8, client: bool, input: &[u8], cuts: &[usize]) -> (Vec<LinkEvent>, Result<(), LinkError>) {
    let mut pair = match stage {
        0 | 1 => Pair::new(&client_config(), &server_config()),
        2 => Pair::asked(),
        _ => Pair::established(),
    };
    if stage == 1 {
        feed(&mut pair.server, pair.now, greeting("CURVE", 0)).unwrap();
        feed(&mut pair.client, pair.now, greeting("CURVE", 1)).unwrap();
    }
    let now = pair.now;
    let link = if client { &mut pair.client } else { &mut pair.server };
    let (mut rest, mut result, mut cuts) = (input, Ok(()), cuts.iter());
    let mut got = Vec::new();
    while !rest.is_empty() && result.is_ok() {
        let (piece, after) = rest.split_at(cuts.next().map_or(rest.len(), |cut| (*cut).min(rest.len())));
        rest = after;
        result = feed(link, now, piece);
        got.extend(events(link));
    }
    if stage == 2 && !client && result.is_ok() {
        link.admit(now);
        got.extend(events(link));
        result = link.handle_timeout(now);
    }
    assert!(messages(&got).is_empty());
    (got, result)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_pass_nor_panic(
        stage in 0..4_u8,
        client in any::<bool>(),
        noise in noise(),
        cuts in vec(1..40_usize, 0..60),
    ) {
        let whole = outcome(stage, client, &noise, &[]);
        prop_assert_eq!(outcome(stage, client, &noise, &cuts), whole);
    }

    #[test]
    fn two_links_understand_each_other(
        up in vec(1..400_usize, 0..60),
        down in vec(1..400_usize, 0..60),
    ) {
        conversation(&up, &down);
    }

    #[test]
    fn public_keys_keep_their_text(seed in any::<[u8; 32]>()) {
        let pair = CurveKeyPair::generate(seed);
        let text = pair.public().to_string();
        prop_assert_eq!(text.len(), 40);
        prop_assert_eq!(text.parse::<CurvePublicKey>(), Ok(pair.public()));
        prop_assert_eq!(CurvePublicKey::from_bytes(*pair.public().as_bytes()), Ok(pair.public()));
    }
}
