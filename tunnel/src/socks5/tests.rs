use proptest::prelude::*;

use super::fuzzing::{run, socks5};
use super::*;

const GREETING: [u8; 3] = [5, 1, 0];
const OK: &[u8] = &[5, 0];

fn request(command: u8, kind: u8, address: &[u8], port: u16) -> Vec<u8> {
    [&[5, command, 0, kind], address, &port.to_be_bytes()].concat()
}

/// Everything at once: it is written to the client that no authentication is needed, then the error.
fn connect(kind: u8, address: &[u8], port: u16) -> Result<String, Error> {
    let (written, outcome) = run([&[&GREETING[..], &request(CONNECT, kind, address, port)].concat()[..]]);
    let outcome = outcome.expect("an end");
    let reply = outcome.as_ref().err().map_or(Vec::new(), Error::reply);
    assert_eq!(written, [OK, &reply].concat());
    outcome.map(|(target, _)| target.to_string())
}

fn name(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

#[test]
fn the_method_is_answered_before_the_request() {
    let Ok(Progress::More { handshake, reply }) = Handshake::new().receive(&[5, 2, 2, 0]) else {
        panic!("a greeting")
    };
    assert_eq!(reply, OK);
    let Ok(Progress::Request { target, leftover, reply }) =
        handshake.receive(b"\x05\x01\x00\x03\x0bdb.internal\x15\x38SELECT")
    else {
        panic!("a request")
    };
    assert_eq!(
        (target.to_string().as_str(), &leftover[..], reply),
        ("db.internal:5432", &b"SELECT"[..], &[][..])
    );
}

#[test]
fn each_type_of_address_is_read() {
    assert_eq!(connect(IPV4, &[10, 1, 2, 3], 80), Ok("10.1.2.3:80".to_owned()));
    assert_eq!(connect(IPV6, &Ipv6Addr::LOCALHOST.octets(), 80), Ok("[::1]:80".to_owned()));
    assert_eq!(connect(NAME, &name("DB.internal."), 65535), Ok("db.internal:65535".to_owned()));
    // What is IPv4 is written so.
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
    assert_eq!(connect(IPV6, &mapped, 80), Ok("127.0.0.1:80".to_owned()));
    for (text, target) in [
        ("127.0.0.1", "127.0.0.1:80"),
        ("::1", "[::1]:80"),
        ("[::1]", "[::1]:80"),
        ("::ffff:127.0.0.1", "127.0.0.1:80"),
    ] {
        assert_eq!(connect(NAME, &name(text), 80), Ok(target.to_owned()));
    }
}

#[test]
fn what_is_wrong_is_told_by_its_code() {
    let long = "a".repeat(255);
    let cases = [
        (connect(IPV4, &[10, 1, 2, 3], 0), Error::Port, code::GENERAL_FAILURE),
        (connect(2, &[0; 4], 80), Error::AddressType(2), code::ADDRESS_TYPE_NOT_SUPPORTED),
        (connect(NAME, &name(""), 80), Error::Host(String::new()), code::HOST_UNREACHABLE),
        (connect(NAME, &name("127.1"), 80), Error::Host("127.1".to_owned()), code::HOST_UNREACHABLE),
        (connect(NAME, &name("fe80::1%1"), 80), Error::Host("fe80::1%1".to_owned()), code::HOST_UNREACHABLE),
        (connect(NAME, &name(&long), 80), Error::Host(long.clone()), code::HOST_UNREACHABLE),
        (connect(NAME, &[1, 0xff], 80), Error::Host("\u{fffd}".to_owned()), code::HOST_UNREACHABLE),
    ];
    for (outcome, expected, code) in cases {
        let error = outcome.expect_err("an error");
        assert_eq!((error.reply()[1], error), (code, expected));
    }
}

#[test]
fn only_connect_is_served() {
    for command in [0, 2, 3, 0xff] {
        let whole = request(command, NAME, &name("a"), 80);
        let expected = ([OK, &[5, 7, 0, 1, 0, 0, 0, 0, 0, 0]].concat(), Some(Err(Error::Command(command))));
        assert_eq!(run([&GREETING[..], &whole]), expected);
        assert_eq!(run([&[&GREETING[..], &whole].concat()[..]]), expected);
        // Only once all of it has been read.
        assert_eq!(run([&GREETING[..], &whole[..whole.len() - 1]]).1, None);
    }
}

#[test]
fn clients_that_must_authenticate_are_told_so() {
    for greeting in [&[5, 0][..], &[5, 1, 2], &[5, 3, 1, 2, 0xff]] {
        assert_eq!(run([greeting]), (vec![5, 0xff], Some(Err(Error::NoAcceptableMethod))));
    }
}

#[test]
fn other_versions_are_refused_at_once() {
    for version in [0, 4, 6, b'G'] {
        // One that speaks something else would not understand an answer.
        assert_eq!(run([&[version][..]]), (Vec::new(), Some(Err(Error::Version(version)))));
        let written = [OK, &encode(code::GENERAL_FAILURE)].concat();
        assert_eq!(run([&GREETING[..], &[version]]), (written, Some(Err(Error::RequestVersion(version)))));
    }
    assert_eq!(run([&GREETING[..], &[5, 1, 1]]).1, Some(Err(Error::Reserved(1))));
}

#[test]
fn reasons_have_codes() {
    let reply = |outcome| reply(outcome)[1];
    assert_eq!(super::reply(Ok(())), [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(reply(Err(Reason::Forbidden)), 2);
    assert_eq!(reply(Err(Reason::Refused)), 5);
    assert_eq!(reply(Err(Reason::Unreachable)), 4);
    assert_eq!(reply(Err(Reason::TimedOut)), 6);
    assert_eq!(reply(Err(Reason::UnknownHost)), 4);
    assert_eq!(reply(Err(Reason::Busy)), 1);
    assert_eq!(reply(Err(Reason::NotConnected)), 3);
    assert_eq!(reply(Err(Reason::Failed)), 1);
}

#[test]
fn no_more_than_a_request_is_kept() {
    let longest = request(CONNECT, NAME, &name(&"a".repeat(255)), 80);
    let greeting = [&[5, 255], &[0; 255][..]].concat();
    assert_eq!(greeting.len() + longest.len(), 257 + 262);
    let (_, outcome) = run(greeting.chunks(1).chain(longest[..longest.len() - 1].chunks(1)));
    assert_eq!(outcome, None);
    let (written, outcome) = run([&greeting[..], &longest]);
    assert_eq!(written, [OK, &encode(code::HOST_UNREACHABLE)].concat());
    assert!(matches!(outcome, Some(Err(Error::Host(_)))));
}

/// Bytes that are mostly near to a handshake.
fn handshakes() -> impl Strategy<Value = Vec<u8>> {
    let address = prop_oneof![
        any::<[u8; 4]>().prop_map(|address| [&[IPV4], &address[..]].concat()),
        any::<[u8; 16]>().prop_map(|address| [&[IPV6], &address[..]].concat()),
        "[a-z0-9.:]{0,20}".prop_map(|text| [&[NAME][..], &name(&text)].concat()),
        any::<Vec<u8>>(),
    ];
    let methods = proptest::collection::vec(0..3_u8, 0..5);
    let whole =
        (methods, address, 0..4_u8, any::<(u16, [u8; 3])>()).prop_map(|(methods, address, command, rest)| {
            let greeting = [&[5, u8::try_from(methods.len()).unwrap()], &methods[..]].concat();
            [&greeting[..], &[5, command, 0], &address, &rest.0.to_be_bytes(), &rest.1].concat()
        });
    prop_oneof![4 => whole, 1 => any::<Vec<u8>>()]
}

proptest! {
    #[test]
    fn pieces_do_not_matter(bytes in handshakes(), length: u8) {
        socks5(&[&[length], &bytes[..]].concat());
    }
}
