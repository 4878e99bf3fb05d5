//! The numbers (nonces) of CURVE messages, up to the last one.

#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::time::Instant;

use super::*;
use crate::Role;
use crate::zmtp::link::Link;
use crate::zmtp::tests::written;
use crate::zmtp::{CurveKeyPair, LinkConfig, LinkError, Mechanism};

/// An established client and server.
fn pair(now: Instant) -> [Link; 2] {
    let [client, server] = [[1; 32], [2; 32]].map(CurveKeyPair::generate);
    let mut configs = [Role::Connector, Role::Binder].map(LinkConfig::new);
    configs[0].mechanism = Mechanism::CurveClient { keys: client, server: server.public() };
    configs[1].mechanism = Mechanism::CurveServer { keys: server };
    let [mut client, mut server] = configs.map(|config| Link::new(&config, [config.role as u8; 32], now));
    while !client.is_established() {
        server.handle_input(now, &written(&mut client)).expect("our own handshake");
        server.admit(now);
        client.handle_input(now, &written(&mut server)).expect("our own handshake");
    }
    [client, server]
}

fn three() -> Multipart {
    Multipart::new("a".into(), "b".into(), "c".into())
}

fn last_sent(link: &mut Link) -> &mut u64 {
    match &mut link.traffic().expect("it is established").protection {
        Protection::Curve(cipher) => cipher.last_sent(),
        Protection::None => panic!("it is under CURVE"),
    }
}

/// Makes the link send a PING, as after a silence of the peer.
fn ping(link: &mut Link) -> Result<(), LinkError> {
    let due = link.poll_timeout().expect("it has a keepalive");
    link.handle_timeout(due)
}

/// The number of the last message in `written`, whose payload has `inside` bytes.
fn last_number(written: &[u8], inside: usize) -> u64 {
    let number = written.len() - 16 - 1 - inside - 8;
    u64::from_be_bytes(*written[number..].first_chunk().expect("a number"))
}

#[test]
fn every_message_that_is_sealed_is_counted() {
    let now = Instant::now();
    let [mut client, mut server] = pair(now);
    while server.poll_event().is_some() || client.poll_event().is_some() {}
    for (from, to) in [(0, 1), (1, 0)] {
        let links = [&mut client, &mut server];
        links[from].send(three()).unwrap();
        let said = written(links[from]);
        assert_eq!(last_number(&said, 1), *last_sent(links[from]));
        links[to].handle_input(now, &said).unwrap();
        assert_eq!(links[to].poll_event(), Some(LinkEvent::Message(three())));
        ping(links[from]).unwrap();
        let said = written(links[from]);
        assert_eq!(last_number(&said, b"\x04PING\0\0".len() + 8), *last_sent(links[from]));
        links[to].handle_input(now, &said).unwrap();
        let said = written(links[to]);
        assert_eq!(last_number(&said, b"\x04PONG".len() + 8), *last_sent(links[to]));
        links[from].handle_input(now, &said).unwrap();
        assert_eq!(links[from].poll_event(), Some(LinkEvent::Acknowledged { messages: 1 }));
    }
}

#[test]
fn a_link_ends_before_a_number_comes_twice() {
    let now = Instant::now();
    let [mut client, mut server] = pair(now);
    for link in [&mut client, &mut server] {
        *last_sent(link) = u64::MAX - 5;
        link.send(three()).unwrap();
        assert!(!written(link).is_empty());
        assert_eq!(link.send(three()), Err(LinkError::Exhausted), "only two numbers are left");
        assert_eq!(link.pending_output(), 0, "no part of it leaves");
        assert_eq!(link.send(three()), Err(LinkError::Closed));
        assert_eq!(link.handle_input(now, b"x"), Err(LinkError::Closed));
    }
}

#[test]
fn pings_and_pongs_have_numbers_too() {
    let now = Instant::now();
    let [mut client, mut server] = pair(now);
    *last_sent(&mut server) = u64::MAX - 1;
    ping(&mut client).unwrap();
    server.handle_input(now, &written(&mut client)).unwrap();
    // Any byte shows that the peer is alive; the PONG itself would have an unexpected number.
    client.handle_input(now, &[0]).unwrap();
    ping(&mut client).unwrap();
    assert_eq!(server.handle_input(now, &written(&mut client)), Err(LinkError::Exhausted));
    *last_sent(&mut client) = u64::MAX;
    assert_eq!(ping(&mut client), Err(LinkError::Exhausted));
    assert!(!client.is_established());
}

#[test]
fn large_bodies_are_decrypted_where_they_are_and_their_buffers_used_again() {
    let now = Instant::now();
    let [mut client, mut server] = pair(now);
    while server.poll_event().is_some() || client.poll_event().is_some() {}
    let mut take = |len: usize, fill: u8| {
        client.send(Multipart::single(Bytes::new(), vec![fill; len].into())).unwrap();
        server.handle_input(now, &written(&mut client)).unwrap();
        let Some(LinkEvent::Message(message)) = server.poll_event() else { panic!("a message") };
        let body = message.frames()[0].clone();
        assert!(body == vec![fill; len]);
        body
    };
    let first = take(60_000, 1);
    let at = first.as_ptr();
    let second = take(60_000, 2);
    assert!(second.as_ptr() != at, "the first is still held");
    drop(first);
    let third = take(60_000, 3);
    assert_eq!(third.as_ptr(), at);
    assert!(second == vec![2; 60_000]);
    for len in [0, 1, 1_000, 2_048 - 33, 2_049 - 33, 70_000, 3_000_000] {
        drop(take(len, 4));
    }
}

#[test]
fn messages_around_the_size_of_a_run_of_output_arrive_whole() {
    let now = Instant::now();
    let [mut client, mut server] = pair(now);
    for len in [10, 60_000, 70_000, 2_000_000, 10] {
        let message = Multipart::single("a".into(), vec![7; len].into());
        server.send(message.clone()).unwrap();
        let said = written(&mut server);
        client.handle_input(now, &said).unwrap();
        let got = std::iter::from_fn(|| client.poll_event()).last();
        assert!(got == Some(LinkEvent::Message(message)), "{len} bytes");
    }
}

/// Clients are refused in the handshake, and after that only by the end of the link.
#[test]
fn an_encrypted_error_is_no_refusal() {
    let now = Instant::now();
    let [mut client, mut server] = pair(now);
    let mut output = OutputQueue::default();
    let traffic = server.traffic().expect("it is established");
    traffic.send_command(b"\x05ERROR", b"\x03400", &mut output).expect("it has numbers");
    let mut slices = [std::io::IoSlice::new(&[])];
    assert_eq!(output.slices(&mut slices), 1);
    let violation = ZmtpViolation::TooLate { command: "ERROR" };
    assert_eq!(client.handle_input(now, &slices[0]), Err(LinkError::Violation(violation)));
}
