use proptest::prelude::*;

use super::fuzzing::{http_connect, run};
use super::*;

fn target(head: &str) -> Result<String, Error> {
    run([head.as_bytes()]).expect("an end").map(|(target, _)| target.to_string())
}

fn status(reply: &[u8]) -> &str {
    str::from_utf8(reply).unwrap().split(' ').nth(1).unwrap()
}

#[test]
fn the_request_line_names_the_target() {
    for (authority, expected) in [
        ("db.internal:5432", "db.internal:5432"),
        ("DB.internal.:443", "db.internal:443"),
        ("10.1.2.3:80", "10.1.2.3:80"),
        ("[::1]:80", "[::1]:80"),
        ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
    ] {
        for head in [
            format!("CONNECT {authority} HTTP/1.1\r\nHost: elsewhere:1\r\n\r\n"),
            format!("CONNECT {authority} HTTP/1.0\r\n\r\n"),
            format!("CONNECT {authority} HTTP/1.1\nHost: a\n\n"),
            format!(
                "CONNECT {authority} HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
        ] {
            assert_eq!(target(&head), Ok(expected.to_owned()), "{head}");
        }
    }
}

#[test]
fn what_follows_the_head_is_left_over() {
    let bytes = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    let (_, leftover) = run([&bytes[..]]).unwrap().unwrap();
    assert_eq!(leftover, b"\r\n\r\nGET / HTTP/1.1\r\n\r\n");
}

#[test]
fn other_forms_of_targets_are_refused() {
    for form in [
        "/",
        "*",
        "a",
        "a:",
        "a:0",
        "a:65536",
        "a:+80",
        "http://a:80/",
        "a:80/",
        "user@a:80",
        "user:pass@a:80",
        ":80",
        "127.1:80",
        "0x7f000001:80",
        "::1:80",
        "[fe80::1%251]:80",
        "unix:/run/a.sock",
        "a:80?b",
        "[::1]",
    ] {
        let error = target(&format!("CONNECT {form} HTTP/1.1\r\n\r\n")).unwrap_err();
        assert_eq!(status(&error.reply()), "400");
        assert_eq!(error, Error::Target(form.to_owned()));
    }
}

#[test]
fn other_methods_are_not_allowed() {
    for method in ["GET", "POST", "OPTIONS", "connect", "CONNECTX"] {
        let error = target(&format!("{method} http://a/ HTTP/1.1\r\n\r\n")).unwrap_err();
        let reply = String::from_utf8(error.reply()).unwrap();
        assert!(reply.starts_with("HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\n"), "{reply}");
        assert_eq!(error, Error::Method(method.to_owned()));
    }
}

#[test]
fn malformed_heads_are_refused() {
    for head in [
        "CONNECT a:1\r\n\r\n",
        "CONNECT  a:1 HTTP/1.1\r\n\r\n",
        "CONNECT a:1 HTTP/2.0\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nno colon\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost : a\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n folded\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nA: \0\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\rX: y\n\r\n",
        "C\0NNECT a:1 HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\r\n\r\n",
        "\n\n",
    ] {
        let error = target(head).unwrap_err();
        assert!(matches!(error, Error::Malformed(_) | Error::Empty), "{error:?} of {head:?}");
        assert_eq!(status(&error.reply()), "400");
    }
}

/// A head of so many bytes.
fn head(bytes: usize) -> Vec<u8> {
    let (start, end) = ("CONNECT a:1 HTTP/1.1\r\nX: ", "\r\n\r\n");
    [start, &"x".repeat(bytes - start.len() - end.len()), end].concat().into_bytes()
}

#[test]
fn heads_are_bounded() {
    let largest = head(MAX_HEAD);
    assert!(matches!(run([&largest[..], b"more"]), Some(Ok(_))));
    let (most, last) = largest.split_at(MAX_HEAD - 1);
    assert_eq!(run([most]), None);
    assert!(matches!(run([most, last]), Some(Ok(_))));
    let larger = head(MAX_HEAD + 1);
    assert_eq!(run([&larger[..]]), Some(Err(Error::TooLarge)));
    assert_eq!(run(larger.chunks(1)), Some(Err(Error::TooLarge)));
    assert_eq!(run([&larger[..MAX_HEAD]]), Some(Err(Error::TooLarge)));
    assert_eq!(status(&Error::TooLarge.reply()), "431");
    let fields = |count| format!("CONNECT a:1 HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(target(&fields(MAX_HEADERS)), Ok("a:1".to_owned()));
    assert_eq!(target(&fields(MAX_HEADERS + 1)), Err(Error::TooLarge));
}

#[test]
fn reasons_have_status_codes() {
    assert_eq!(reply(Ok(())), b"HTTP/1.1 200 Connection established\r\n\r\n");
    for (reason, code, error) in [
        (Reason::Forbidden, "403", "http_request_denied"),
        (Reason::Refused, "502", "connection_refused"),
        (Reason::Unreachable, "502", "destination_ip_unroutable"),
        (Reason::TimedOut, "504", "connection_timeout"),
        (Reason::UnknownHost, "502", "dns_error"),
        (Reason::Busy, "503", "connection_limit_reached"),
        (Reason::NotConnected, "503", "destination_unavailable"),
        (Reason::Failed, "502", "proxy_internal_error"),
    ] {
        let reply = reply(Err(reason));
        assert_eq!(status(&reply), code);
        let reply = String::from_utf8(reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nProxy-Status: callosum; error={error}\r\n")), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        assert_eq!(body, format!("{reason}\n"));
    }
}

/// Bytes that are mostly near to a request.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("CONNECT "),
        Just("GET "),
        Just("a.b:80"),
        Just("[::1]:80"),
        Just(" HTTP/1.1"),
        Just(" HTTP/1.0"),
        Just("\r\n"),
        Just("\n"),
        Just("\r"),
        Just("\r\n\r\n"),
        Just("Host: a"),
        Just(" "),
        Just("x"),
        Just("\0"),
    ];
    let pieces = proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    let request = ("(CONNECT|GET) ([a-z.]{1,5}|\\[::1\\]|127.1):[0-9]{1,6} HTTP/1.[01]", pieces)
        .prop_map(|(line, rest)| format!("{line}\r\n{rest}\r\n\r\nrest").into_bytes());
    prop_oneof![2 => request, 1 => any::<Vec<u8>>()]
}

proptest! {
    #[test]
    fn pieces_do_not_matter(bytes in requests(), length: u8) {
        http_connect(&[&[length], &bytes[..]].concat());
    }
}
