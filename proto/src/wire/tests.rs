use bytes::Bytes;

use super::dialect1::{
    CallName, Encoder, Header, MAX_HEADER, Message, MessageType, Payload, decode_body, decode_header,
};
use super::hello::MAX_HELLO;
use super::*;
use crate::{ErrorInfo, KeyKind, Multipart, OrderingKey, Text};

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect::<Vec<u8>>()
        .into()
}

fn message(seq: u32, method: &str, key: OrderingKey, payload: Payload) -> Message {
    Message { id: CallName { seq, method: method.into(), key }, payload, compressed: false }
}

fn frames(message: &Message) -> [Bytes; 3] {
    Encoder::default().encode(message).into_three().unwrap()
}

fn decode(header: &Bytes, body: Bytes, limit: usize) -> Result<Message, DecodeError> {
    let header = decode_header(header)?;
    let payload = decode_body(&header, body, limit)?;
    Ok(Message { id: header.id, payload, compressed: header.compressed })
}

/// A header whose fields are given as hex, in any order.
fn header_of(fields: &[(&str, &str)]) -> Result<Header, DecodeError> {
    let mut bytes = vec![0x80 | fields.len() as u8];
    for (name, value) in fields {
        bytes.push(0xa0 | name.len() as u8);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&hex(value));
    }
    decode_header(&bytes.into())
}

const GOOD: [(&str, &str); 5] =
    [("type", "01"), ("meth", "a26f6b"), ("okey", "c400"), ("seq", "01"), ("zip", "c2")];

/// A valid header, except for one field.
fn header_with(name: &str, value: &str) -> Result<Header, DecodeError> {
    header_of(&GOOD.map(|(field, good)| (field, if field == name { value } else { good })))
}

fn header_without(name: &str) -> Result<Header, DecodeError> {
    header_of(&GOOD.into_iter().filter(|(field, _)| *field != name).collect::<Vec<_>>())
}

fn header(kind: MessageType, compressed: bool) -> Header {
    Header { kind, id: message(1, "m", OrderingKey::none(), Payload::Cancel).id, compressed }
}

fn body_of(kind: MessageType, text: &str) -> Result<Payload, DecodeError> {
    decode_body(&header(kind, false), hex(text), 1024)
}

const META: &str = "a46d657461";
const BODY: &str = "a4626f6479";

#[test]
fn the_examples_of_the_specification_are_met_to_the_byte() {
    let function = message(1, "ok", OrderingKey::none(), Payload::Function(b"{\"a\": 1}"[..].into()));
    let result = message(0, "echo", OrderingKey::text("k"), Payload::Result(b"{\"x\": 1}"[..].into()));
    let examples = [
        (
            function,
            "85 a474797065 01 a46d657468 a26f6b a46f6b6579 c400 a3736571 01 a37a6970 c2",
            "82 a46d657461 c400 a4626f6479 c408 7b2261223a20317d",
        ),
        (
            result,
            "85 a474797065 02 a46d657468 a46563686f a46f6b6579 a16b a3736571 00 a37a6970 c2",
            "82 a46d657461 c40190 a4626f6479 c408 7b2278223a20317d",
        ),
    ];
    for (message, header, body) in examples {
        assert_eq!(frames(&message), [UPPER, hex(header), hex(body)]);
        assert_eq!(decode(&hex(header), hex(body), 8), Ok(message));
    }
}

#[test]
fn every_kind_of_message_has_the_meta_of_its_type() {
    let info =
        ErrorInfo { name: "KeyError".into(), repr: "KeyError('k')".into(), traceback: "line 1\n".into() };
    let error = "c420 93 a8 4b65794572726f72 ad 4b65794572726f7228276b2729 a7 6c696e6520310a";
    let cases = [
        (Payload::Function(b"1"[..].into()), 1, format!("82{META} c400 {BODY} c40131")),
        (Payload::Result(b"1"[..].into()), 2, format!("82{META} c40190 {BODY} c40131")),
        (Payload::Failure(info.clone()), 3, format!("82{META} {error} {BODY} c0")),
        (Payload::Error(info), 4, format!("82{META} {error} {BODY} c0")),
        (Payload::Cancel, 5, format!("82{META} c40190 {BODY} c0")),
        (Payload::Cancelled, 6, format!("82{META} c40190 {BODY} c0")),
    ];
    for (payload, kind, body) in cases {
        let message = message(7, "m", OrderingKey::binary(&b"\xff"[..]), payload);
        let header = hex(&format!(
            "85 a474797065 {kind:02x} a46d657468 a16d a46f6b6579 c401ff a3736571 07 a37a6970 c2"
        ));
        assert_eq!(frames(&message), [UPPER, header.clone(), hex(&body)], "{:?}", message.payload);
        assert_eq!(decode(&header, hex(&body), 1024), Ok(message));
    }
}

#[test]
fn a_header_is_read_in_any_order_and_with_unknown_fields() {
    let fields = [
        ("zip", "c3"),
        ("later", "82 a161 93 01 c0 cb 3ff0000000000000 01 c7 02 05 aabb"),
        ("seq", "ce ffffffff"),
        ("okey", "d9 02 c3a9"),
        ("meth", "da 0001 6d"),
        ("type", "d0 02"),
    ];
    let header = header_of(&fields).unwrap();
    assert_eq!((header.kind, header.compressed, header.id.seq), (MessageType::Result, true, u32::MAX));
    assert_eq!((&*header.id.method, header.id.key), ("m", OrderingKey::text("é")));
    // A key that is not text, or not UTF-8, is unknown, too.
    for odd in ["01", "c4 04 74797065", "a1 ff", "91 a474797065"] {
        let frame = hex(&format!(
            "86 {odd} a9 6e6f742061207479 65 a474797065 01 a46d657468 a26f6b a46f6b6579 c400 a3736571 01 a37a6970 c2"
        ));
        assert_eq!(decode_header(&frame).unwrap().kind, MessageType::Function, "{odd}");
    }
}

#[test]
fn a_key_keeps_its_type_and_bytes() {
    let cases = [
        ("c400", KeyKind::Bin, &b""[..], false),
        ("a0", KeyKind::Str, b"", true),
        ("a16b", KeyKind::Str, b"k", true),
        ("c4016b", KeyKind::Bin, b"k", true),
        ("c5 0002 00ff", KeyKind::Bin, b"\x00\xff", true),
        ("db 00000001 6b", KeyKind::Str, b"k", true),
    ];
    for (wire, kind, bytes, given) in cases {
        let key = header_with("okey", wire).unwrap().id.key;
        assert_eq!((key.kind(), key.as_bytes(), key.is_given()), (kind, bytes, given), "{wire}");
        let sent = frames(&message(1, "m", key.clone(), Payload::Cancelled));
        assert_eq!(decode_header(&sent[1]).unwrap().id.key, key);
    }
    assert_ne!(OrderingKey::text("k"), OrderingKey::binary(&b"k"[..]));
}

#[test]
fn a_header_must_have_every_field_once() {
    for field in ["type", "meth", "okey", "seq", "zip"] {
        assert_eq!(header_without(field), Err(DecodeError::MissingField(field)));
        let twice: Vec<_> =
            GOOD.into_iter().chain(GOOD.into_iter().filter(|(name, _)| *name == field)).collect();
        assert_eq!(header_of(&twice), Err(DecodeError::DuplicateField(field)));
    }
}

#[test]
fn a_header_refuses_values_of_other_types_and_ranges() {
    let wrong = |field| Err(DecodeError::WrongType { field });
    for (field, values) in [
        ("type", &["a131", "c0", "ca 3f800000", "c2"][..]),
        ("meth", &["c4 02 6f6b", "01", "c0", "90"]),
        ("okey", &["c0", "01", "80"]),
        ("seq", &["a131", "ca 3f800000", "c0", "c403313131"]),
        ("zip", &["00", "c0", "a0"]),
    ] {
        for value in values {
            assert_eq!(header_with(field, value), wrong(field), "{value}");
        }
    }
    for kind in [0, 7, 127] {
        assert_eq!(header_with("type", &format!("{kind:02x}")), Err(DecodeError::UnknownType(kind)));
    }
    assert_eq!(header_with("type", "ff"), Err(DecodeError::UnknownType(-1)));
    assert_eq!(header_with("type", "cf ffffffffffffffff"), Err(DecodeError::OutOfRange("type")));
    assert_eq!(header_with("seq", "cf 0000000100000000"), Err(DecodeError::OutOfRange("seq")));
    assert_eq!(header_with("seq", "ff"), Err(DecodeError::OutOfRange("seq")));
    assert_eq!(header_with("seq", "cf 00000000ffffffff").unwrap().id.seq, u32::MAX);
    assert_eq!(header_with("meth", "a1 ff"), Err(DecodeError::NotUtf8("meth")));
    assert_eq!(header_with("okey", "a1 ff"), Err(DecodeError::NotUtf8("okey")));
    assert_eq!(decode_header(&hex("93 01 02 03")), Err(DecodeError::WrongType { field: "header" }));
}

#[test]
fn a_frame_holds_one_whole_value() {
    let [_, whole, body] =
        frames(&message(1, "ok", OrderingKey::none(), Payload::Function(b"12"[..].into())));
    for end in 0..whole.len() {
        assert_eq!(decode_header(&whole.slice(..end)), Err(DecodeError::Truncated), "{end}");
    }
    let of = header(MessageType::Function, false);
    for end in 0..body.len() {
        assert_eq!(decode_body(&of, body.slice(..end), 9), Err(DecodeError::Truncated), "{end}");
    }
    let longer = |frame: &Bytes| Bytes::from([&frame[..], b"\xc0\xc0"].concat());
    assert_eq!(decode_header(&longer(&whole)), Err(DecodeError::TrailingBytes(2)));
    assert_eq!(decode_body(&of, longer(&body), 9), Err(DecodeError::TrailingBytes(2)));
}

#[test]
fn what_a_frame_promises_it_must_hold() {
    // Lengths of 4 GiB, without any bytes.
    for value in ["db ffffffff", "c6 ffffffff", "dd ffffffff", "df ffffffff", "c9 ffffffff 01"] {
        let extra = format!("86 a161 {value}");
        assert_eq!(decode_header(&hex(&extra)), Err(DecodeError::Truncated), "{value}");
    }
    assert_eq!(decode_header(&hex("df ffffffff")), Err(DecodeError::Truncated));
    assert_eq!(header_with("meth", "db ffffffff"), Err(DecodeError::Truncated));
    assert_eq!(
        body_of(MessageType::Function, &format!("82 {META} c6 ffffffff")),
        Err(DecodeError::Truncated)
    );
}

#[test]
fn unknown_values_nest_only_so_deep() {
    let nested = |depth: usize| {
        let fields: Vec<_> = GOOD.into_iter().collect();
        let deep = format!("{} c0", "91".repeat(depth));
        header_of(&[&fields[..], &[("deep", deep.as_str())]].concat())
    };
    assert!(nested(MAX_DEPTH).is_ok());
    assert_eq!(nested(MAX_DEPTH + 1), Err(DecodeError::TooDeep));
    assert_eq!(nested(10_000), Err(DecodeError::TooDeep));
}

#[test]
fn every_type_of_messagepack_is_passed_over() {
    for value in [
        "00",
        "7f",
        "e0",
        "c0",
        "c2",
        "c3",
        "cc ff",
        "cd ffff",
        "ce ffffffff",
        "cf ffffffffffffffff",
        "d0 80",
        "d1 8000",
        "d2 80000000",
        "d3 8000000000000000",
        "ca 00000000",
        "cb 0000000000000000",
        "a0",
        "a161",
        "d9 01 61",
        "da 0001 61",
        "db 00000001 61",
        "c4 01 61",
        "c5 0001 61",
        "c6 00000001 61",
        "d4 01 00",
        "d5 01 0000",
        "d6 01 00000000",
        "d7 01 0000000000000000",
        "d8 01 00000000000000000000000000000000",
        "c7 01 05 00",
        "c8 0001 05 00",
        "c9 00000001 05 00",
        "90",
        "92 01 90",
        "dc 0002 01 02",
        "dd 00000002 01 02",
        "80",
        "81 01 02",
        "de 0001 01 02",
        "df 00000001 01 02",
        "c1",
    ] {
        let fields: Vec<_> = [("any", value)].into_iter().chain(GOOD).collect();
        assert_eq!(header_of(&fields).unwrap().id.seq, 1, "{value}");
    }
}

#[test]
fn a_header_is_limited_and_gives_back_what_nobody_reads() {
    let of = |len: usize| {
        let fixed = frames(&message(1, "", OrderingKey::none(), Payload::Cancel))[1].len();
        // A text of 64 KiB has a length of two bytes more than an empty one.
        let method = "m".repeat(len - fixed - 2);
        frames(&message(1, &method, OrderingKey::none(), Payload::Cancel))[1].clone()
    };
    assert_eq!(of(MAX_HEADER).len(), MAX_HEADER);
    assert!(decode_header(&of(MAX_HEADER)).is_ok());
    assert_eq!(
        decode_header(&of(MAX_HEADER + 1)),
        Err(DecodeError::TooLarge { what: "a header", size: MAX_HEADER + 1, limit: MAX_HEADER })
    );

    let inside = |frame: &Bytes, part: &[u8]| frame.as_ptr_range().contains(&part.as_ptr());
    let plain = of(64);
    assert!(!inside(&plain, decode_header(&plain).unwrap().id.method.as_bytes()), "a long name");
    let extra = format!(
        "86 {} a178 c5 1000 {}",
        &"a474797065 01 a46d657468 a26f6b a46f6b6579 a16b",
        "00".repeat(4096)
    );
    let padded = hex(&format!("{extra} a3736571 01 a37a6970 c2"));
    let id = decode_header(&padded).unwrap().id;
    assert!(!inside(&padded, id.method.as_bytes()) && !inside(&padded, id.key.as_bytes()));
    assert_eq!(id, message(1, "ok", OrderingKey::text("k"), Payload::Cancel).id);
}

#[test]
fn a_body_may_be_bin_str_or_nil() {
    for (wire, body) in [("c4 02 6869", "hi"), ("a2 6869", "hi"), ("c0", "")] {
        for (kind, meta) in [(MessageType::Function, "c400"), (MessageType::Result, "c40190")] {
            let body = Bytes::from_static(body.as_bytes());
            let payload = body_of(kind, &format!("82 {META} {meta} {BODY} {wire}"));
            let expected = match kind {
                MessageType::Function => Payload::Function(body),
                _ => Payload::Result(body),
            };
            assert_eq!(payload, Ok(expected));
        }
    }
    let reordered = format!("83 {BODY} c0 a178 c0 {META} c40190");
    assert_eq!(body_of(MessageType::Cancel, &reordered), Ok(Payload::Cancel));
}

#[test]
fn a_body_refuses_what_it_can_not_be() {
    use MessageType::{Failure, Function};
    let cases = [
        (Function, format!("82 {META} c400 {BODY} 01"), DecodeError::WrongType { field: "body" }),
        (Function, format!("82 {META} 90 {BODY} c0"), DecodeError::WrongType { field: "meta" }),
        (Function, format!("81 {META} c400"), DecodeError::MissingField("body")),
        (Function, format!("81 {BODY} c400"), DecodeError::MissingField("meta")),
        (Function, format!("83 {BODY} c0 {META} c0 {BODY} c0"), DecodeError::DuplicateField("body")),
        (Function, format!("83 {META} c0 {BODY} c0 {META} c0"), DecodeError::DuplicateField("meta")),
        (Function, format!("82 {META} c400 {BODY} a1 ff"), DecodeError::NotUtf8("body")),
        (Function, "90".into(), DecodeError::WrongType { field: "body" }),
        (Failure, format!("82 {META} c400 {BODY} c0"), DecodeError::Truncated),
        (Failure, format!("82 {META} c40190 {BODY} c0"), DecodeError::MissingField("meta")),
        (Failure, format!("82 {META} c40180 {BODY} c0"), DecodeError::WrongType { field: "meta" }),
        (
            Failure,
            format!("82 {META} c404 93a0a001 {BODY} c0"),
            DecodeError::WrongType { field: "traceback" },
        ),
        (Failure, format!("82 {META} c403 93a0a0 {BODY} c0"), DecodeError::Truncated),
        (Failure, format!("82 {META} c405 93a1ffa0a0 {BODY} c0"), DecodeError::NotUtf8("name")),
    ];
    for (kind, wire, error) in cases {
        assert_eq!(body_of(kind, &wire), Err(error), "{wire}");
    }
}

#[test]
fn a_body_is_limited_at_the_edge() {
    let text = "t".repeat(10);
    let info = |traceback: &str| ErrorInfo { traceback: traceback.into(), ..ErrorInfo::new("n", &*text) };
    let cases = [
        (Payload::Function(vec![1; 100].into()), 100),
        (Payload::Result(vec![1; 70_000].into()), 70_000),
        (Payload::Failure(info("")), 11),
        (Payload::Error(info("tb")), 13),
    ];
    for (payload, size) in cases {
        for compressed in [false, true] {
            let message = Message { compressed, ..message(1, "m", OrderingKey::none(), payload.clone()) };
            let [_, header, body] = frames(&message);
            assert_eq!(decode(&header, body.clone(), size), Ok(message));
            assert_eq!(
                decode(&header, body, size - 1),
                Err(DecodeError::TooLarge { what: "a body", size, limit: size - 1 })
            );
        }
    }
}

#[test]
fn an_uncompressed_body_is_not_copied() {
    let body = Bytes::from(vec![7; 100_000]);
    let sent =
        Encoder::default().encode(&message(1, "m", OrderingKey::none(), Payload::Result(body.clone())));
    assert_eq!(sent.tail().as_ptr(), body.as_ptr());
    let [_, header, frame] = sent.into_three().unwrap();
    let Ok(Payload::Result(read)) = decode_body(&decode_header(&header).unwrap(), frame.clone(), 100_000)
    else {
        panic!("a result");
    };
    assert!(frame.as_ptr_range().contains(&read.as_ptr()));
}

/// A waiting body must not keep megabytes alive that no limit counts.
#[test]
fn a_body_gives_back_what_nobody_reads() {
    let cases = [
        (MessageType::Function, "c4023132", Payload::Function(Bytes::from_static(b"12"))),
        (MessageType::Result, "a23132", Payload::Result(Bytes::from_static(b"12"))),
        (MessageType::Cancelled, "c0", Payload::Cancelled),
    ];
    for (kind, body, payload) in cases {
        for unread in
            [format!("{META} c5 0200 {}", "00".repeat(512)), format!("{META} c0 a178 {}", nils(512))]
        {
            let entries = if unread.contains("a178") { 83 } else { 82 };
            let frame = hex(&format!("{entries} {unread} {BODY} {body}"));
            let read = decode_body(&header(kind, false), frame.clone(), 1024).unwrap();
            assert!(frame.is_unique(), "{read:?} shares the frame");
            assert_eq!(read, payload);
        }
    }
    let texts = "a16e a172 a174";
    let frame = hex(&format!("82 {META} c5 0207 9f {texts} {} {BODY} c0", "c0".repeat(512)));
    let read = decode_body(&header(MessageType::Failure, false), frame.clone(), 1024).unwrap();
    assert!(frame.is_unique(), "{read:?} shares the frame");
    let info = ErrorInfo { traceback: "t".into(), ..ErrorInfo::new("n", "r") };
    assert_eq!(read, Payload::Failure(info));
}

/// An array of this many nils, up to 2^16 - 1.
fn nils(len: usize) -> String {
    format!("dc {len:04x} {}", "c0".repeat(len))
}

#[test]
fn a_compressed_body_is_a_raw_snappy_block_of_the_whole_map() {
    let message = Message {
        compressed: true,
        ..message(1, "m", OrderingKey::none(), Payload::Function(vec![b'a'; 5_000].into()))
    };
    let [_, header, body] = frames(&message);
    assert!(body.len() < 1_000);
    let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    assert_eq!(plain, frames(&Message { compressed: false, ..message.clone() })[2]);
    assert_eq!(decode(&header, body, 5_000), Ok(message));
}

#[test]
fn a_snappy_block_can_not_promise_more_than_the_limit_or_than_it_can_hold() {
    let of = header(MessageType::Function, true);
    // The declared size is a varint at the start: 4 GiB - 1, then just over and just under limit and
    // envelope.
    let read = |bytes: &[u8], limit| decode_body(&of, Bytes::copy_from_slice(bytes), limit);
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    assert_eq!(
        read(&huge, 1_000),
        Err(DecodeError::TooLarge { what: "a compressed body", size: u32::MAX as usize, limit: 1_000 })
    );
    assert_eq!(read(&huge, usize::MAX), Err(DecodeError::Snappy), "declares what so few bytes can't hold");
    let declared = |size: u32| {
        let mut block = vec![size as u8 | 0x80, (size >> 7) as u8 | 0x80, (size >> 14) as u8];
        block.resize(4_096, 0);
        block
    };
    let limit = 100_000;
    let edge = (limit + 64 * 1024) as u32;
    assert_eq!(read(&declared(edge), limit), Err(DecodeError::Snappy));
    let size = edge as usize + 1;
    assert_eq!(
        read(&declared(edge + 1), limit),
        Err(DecodeError::TooLarge { what: "a compressed body", size, limit })
    );
    for garbage in [&b""[..], b"\xff", b"\x05hello", b"\x80\x80\x80\x80\x80\x80"] {
        assert!(read(garbage, limit).is_err(), "{garbage:?}");
    }
}

#[test]
fn small_messages_share_a_buffer_and_large_ones_do_not_need_one() {
    let mut encoder = Encoder::default();
    for size in [0, 1, 255, 256, 4_095, 4_096, 65_535, 65_536, 1 << 20] {
        let message =
            message(size, "m", OrderingKey::text("k"), Payload::Result(vec![1; size as usize].into()));
        let sent = encoder.encode(&message);
        assert_eq!(sent.size(), sent.clone().into_frames().map(|frame| frame.len()).sum::<usize>());
        let [_, header, body] = sent.into_three().unwrap();
        assert_eq!(decode(&header, body, size as usize), Ok(message));
    }
}

#[test]
fn multipart_holds_one_to_three_frames() {
    let frame = Bytes::from_static(b"x");
    for count in 1..=3 {
        let message = Multipart::from_frames(vec![frame.clone(); count]).unwrap();
        assert_eq!((message.frames().len(), message.size()), (count, count));
        assert_eq!(message.into_three().is_some(), count == 3);
    }
    assert_eq!(Multipart::from_frames([]), None);
    assert_eq!(Multipart::from_frames(std::iter::repeat(frame.clone())), None);
    let split = Multipart::with_tail(PING, frame.clone(), frame.clone(), frame.clone());
    assert_eq!(split, Multipart::new(PING, frame, Bytes::from_static(b"xx")));
}

#[test]
fn keys_and_texts_are_shown_for_people() {
    assert_eq!(OrderingKey::text("a\nb").to_string(), "\"a\\nb\"");
    assert_eq!(OrderingKey::binary(&b"\xff"[..]).to_string(), "b\"\\xff\"");
    assert_eq!(OrderingKey::none().to_string(), "(no key)");
    assert_eq!(format!("{:?} {}", Text::from("é"), Text::from("é")), "\"é\" é");
    assert!(Text::from_utf8(b"\xff").is_err());
}

fn hello() -> Hello {
    Hello { dialects: 0b101, nonce: *b"0123456789abcdef", max_body: 1 << 20, credit: None }
}

#[test]
fn a_hello_is_a_map_of_three() {
    let wire = hex("83 a863616c6c6f73756d 92 01 03 a56e6f6e6365 c410 30313233343536373839616263646566
        a86d61785f626f6479 ce 00100000");
    assert_eq!(hello().encode(), wire);
    assert_eq!(Hello::decode(&wire), Ok(hello()));
    for max_body in [0, u64::from(u32::MAX), i64::MAX as u64, u64::MAX] {
        let hello = Hello { max_body, dialects: u32::MAX, ..hello() };
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    }
}

#[test]
fn a_hello_of_a_later_version_is_read() {
    let wire =
        hex("84 a3616464 9201a0 a86d61785f626f6479 05 a56e6f6e6365 c410 30313233343536373839616263646566
        a863616c6c6f73756d 95 00 03 21 01 cf ffffffffffffffff");
    assert_eq!(Hello::decode(&wire), Ok(Hello { max_body: 5, ..hello() }));
}

#[test]
fn a_hello_of_dialect_2_gives_credit() {
    let hello = Hello { credit: Some(Credit { stream: 256, link: 70_000 }), dialects: 0b11, ..hello() };
    let wire = hello.encode();
    assert_eq!(wire[0], 0x84);
    assert!(wire.ends_with(&hex("a6 637265646974 92 cd0100 ce00011170")));
    assert_eq!(Hello::decode(&wire), Ok(hello));
    let with = |credit: &str| {
        let rest = format!(
            "a863616c6c6f73756d 92 01 02 a56e6f6e6365 c410 {} a86d61785f626f6479 05",
            "00".repeat(16)
        );
        Hello::decode(&hex(&format!("84 {rest} a6637265646974 {credit}"))).map(|hello| hello.credit)
    };
    let credit = Credit { stream: 1, link: 2 };
    assert_eq!(with("93 01 02 c0"), Ok(Some(credit)), "later versions may add some");
    assert_eq!(with("91 01"), Err(DecodeError::MissingField("credit")));
    assert_eq!(with("92 01 ff"), Err(DecodeError::OutOfRange("credit")));
    assert!(matches!(with("c0"), Err(DecodeError::WrongType { .. })));
}

#[test]
fn what_is_no_hello_is_refused() {
    let nonce = "a56e6f6e6365 c410 30313233343536373839616263646566";
    let dialects = "a863616c6c6f73756d 91 01";
    let max_body = "a86d61785f626f6479 05";
    let credit = "a6637265646974 92 01 02";
    let cases = [
        (String::new(), DecodeError::Truncated),
        ("90".into(), DecodeError::WrongType { field: "hello" }),
        ("80".into(), DecodeError::MissingField("callosum")),
        (format!("81 {dialects}"), DecodeError::MissingField("nonce")),
        (format!("82 {dialects} {nonce}"), DecodeError::MissingField("max_body")),
        (format!("83 {dialects} {nonce} {max_body} 00"), DecodeError::TrailingBytes(1)),
        (format!("84 {dialects} {nonce} {max_body} {dialects}"), DecodeError::DuplicateField("callosum")),
        (format!("84 {dialects} {nonce} {max_body} {nonce}"), DecodeError::DuplicateField("nonce")),
        (format!("84 {dialects} {nonce} {max_body} {max_body}"), DecodeError::DuplicateField("max_body")),
        (
            format!("85 {dialects} {nonce} {max_body} {credit} {credit}"),
            DecodeError::DuplicateField("credit"),
        ),
        ("81 a56e6f6e6365 c401 30".into(), DecodeError::OutOfRange("nonce")),
        ("81 a56e6f6e6365 a130".into(), DecodeError::WrongType { field: "nonce" }),
        ("81 a86d61785f626f6479 ff".into(), DecodeError::OutOfRange("max_body")),
        ("81 a86d61785f626f6479 a0".into(), DecodeError::WrongType { field: "max_body" }),
        ("81 a863616c6c6f73756d 80".into(), DecodeError::WrongType { field: "callosum" }),
        ("81 a863616c6c6f73756d dd ffffffff 01".into(), DecodeError::Truncated),
    ];
    for (wire, error) in cases {
        assert_eq!(Hello::decode(&hex(&wire)), Err(error), "{wire}");
    }
    let padded = |len: usize| {
        let head = hex(&format!("84 {dialects} {nonce} {max_body} a178 c5"));
        let pad = len - head.len() - 2;
        Bytes::from([&head[..], &(pad as u16).to_be_bytes(), &vec![0; pad][..]].concat())
    };
    assert!(Hello::decode(&padded(MAX_HELLO)).is_ok());
    assert_eq!(
        Hello::decode(&padded(MAX_HELLO + 1)),
        Err(DecodeError::TooLarge { what: "a hello", size: MAX_HELLO + 1, limit: MAX_HELLO })
    );
}

#[test]
fn what_an_error_says_is_its_first_three_texts() {
    let info = ErrorInfo { traceback: "t".into(), ..ErrorInfo::new("n", "r") };
    // Three texts; two more elements; bytes after the array.
    for meta in ["c407 93 a16e a172 a174", "c409 95 a16e a172 a174 01 c0", "c409 93 a16e a172 a174 ffff"] {
        for (kind, payload) in [
            (MessageType::Failure, Payload::Failure(info.clone())),
            (MessageType::Error, Payload::Error(info.clone())),
        ] {
            assert_eq!(body_of(kind, &format!("82 {META} {meta} {BODY} c0")), Ok(payload), "{meta}");
        }
    }
}

#[test]
fn what_a_type_has_no_use_for_is_not_interpreted() {
    let info = ErrorInfo::new("n", "r");
    let cases = [
        (MessageType::Failure, "c406 93 a16e a172 a0", Payload::Failure(info)),
        (MessageType::Cancelled, "c0", Payload::Cancelled),
        (MessageType::Cancel, "a178", Payload::Cancel),
    ];
    for (kind, meta, payload) in cases {
        for body in ["c0", "c4017b", "a17b"] {
            assert_eq!(
                body_of(kind, &format!("82 {META} {meta} {BODY} {body}")),
                Ok(payload.clone()),
                "{body}"
            );
        }
    }
    for (kind, payload) in [
        (MessageType::Function, Payload::Function(Bytes::new())),
        (MessageType::Result, Payload::Result(Bytes::new())),
    ] {
        for meta in ["c0", "a178", "c402ffff"] {
            assert_eq!(body_of(kind, &format!("82 {META} {meta} {BODY} c0")), Ok(payload.clone()), "{meta}");
        }
    }
}
