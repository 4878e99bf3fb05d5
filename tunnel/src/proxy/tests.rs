use super::*;

#[test]
fn the_first_byte_tells_the_protocol() {
    assert_eq!(detect(5), Some(Protocol::Socks5));
    assert!([b'C', b'G', b'P', b'x'].iter().all(|&byte| detect(byte) == Some(Protocol::HttpConnect)));
    // SOCKS4, TLS, ends of lines.
    for byte in [0, 4, 0x16, b'\r', b'\n', b' ', b'1', 0xff] {
        assert_eq!(detect(byte), None);
        let error = Handshake::default().receive(&[byte, 5]).unwrap_err();
        assert_eq!(error, Error::Protocol(byte));
        assert!(error.reply().is_empty());
    }
}

/// Gives the bytes one at a time; what was written, and the request.
fn run(bytes: &[u8]) -> Result<(Vec<u8>, Request), Error> {
    let (mut handshake, mut written) = (Handshake::default(), Vec::new());
    for byte in [&[][..]].into_iter().chain(bytes.chunks(1)) {
        match handshake.receive(byte)? {
            Progress::More { handshake: next, reply } => {
                written.extend_from_slice(reply);
                handshake = next;
            }
            Progress::Request { request, reply } => {
                written.extend_from_slice(reply);
                return Ok((written, request));
            }
        }
    }
    panic!("no end");
}

#[test]
fn both_protocols_are_served() {
    let (written, request) = run(b"\x05\x01\x00\x05\x01\x00\x03\x01a\x00\x50").unwrap();
    assert_eq!((&written[..], request.protocol), (&[5, 0][..], Protocol::Socks5));
    assert_eq!((request.target.to_string().as_str(), &request.leftover[..]), ("a:80", &[][..]));
    assert_eq!(request.protocol.reply(Err(Reason::Forbidden)), [5, 2, 0, 1, 0, 0, 0, 0, 0, 0]);

    let (written, request) = run(b"CONNECT a:80 HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!((&written[..], request.protocol), (&[][..], Protocol::HttpConnect));
    assert_eq!(request.target.to_string(), "a:80");
    assert!(request.protocol.reply(Err(Reason::Forbidden)).starts_with(b"HTTP/1.1 403 "));
}

#[test]
fn leftovers_and_errors_are_passed_on() {
    let all_at_once = b"\x05\x01\x00\x05\x01\x00\x03\x01a\x00\x50rest";
    let Ok(Progress::Request { request, reply }) = Handshake::default().receive(all_at_once) else {
        panic!("a request")
    };
    assert_eq!((&request.leftover[..], reply), (&b"rest"[..], &[5, 0][..]));
    let Ok(Progress::Request { request, reply }) =
        Handshake::default().receive(b"CONNECT a:80 HTTP/1.1\r\n\r\nrest")
    else {
        panic!("a request")
    };
    assert_eq!((&request.leftover[..], reply), (&b"rest"[..], &[][..]));
    let socks = run(&[5, 0]).unwrap_err();
    assert_eq!(socks.reply(), [5, 0xff]);
    let bind = Handshake::default().receive(b"\x05\x01\x00\x05\x02\x00\x03\x01a\x00\x50").unwrap_err();
    assert_eq!(bind.reply(), [5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0]);
    let http = run(b"GET / HTTP/1.1\r\n\r\n").unwrap_err();
    assert!(http.reply().starts_with(b"HTTP/1.1 405 "));
}
