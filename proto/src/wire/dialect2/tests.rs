use std::time::Duration;

use super::*;
use crate::wire::DecodeError;

fn written(records: &[Record]) -> Bytes {
    let mut writer = PacketWriter::default();
    records.iter().for_each(|record| writer.write(record));
    writer.take().into_one().unwrap()
}

fn read(packet: &Bytes) -> Result<Vec<Record>, DecodeError> {
    records(packet)?.collect()
}

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| pair.iter().collect::<String>());
    pairs.map(|pair| u8::from_str_radix(&pair, 16).unwrap()).collect::<Vec<_>>().into()
}

fn piece(text: &'static str) -> Piece {
    Piece { bytes: text.into(), fin: true, item: true, compressed: false }
}

fn open() -> Record {
    let options = Options::default();
    Record::Open { call: 2, method: "ok".into(), key: OrderingKey::none(), options, piece: piece("{}") }
}

fn everything() -> Vec<Record> {
    let mut metadata = Metadata::new();
    metadata.insert("trace", &b"1"[..]).unwrap();
    let remaining = Some(Duration::from_micros(1_500));
    let options =
        Options { metadata, remaining, urgency: Some(Urgency::MOST), size: Some(70_000), unsupported: false };
    let info = ErrorInfo { traceback: "t".into(), ..ErrorInfo::new("n", "r") };
    let none = Options::default;
    vec![
        open(),
        Record::Open {
            call: MAX_CALL,
            method: "m".into(),
            key: OrderingKey::text("k"),
            options: options.clone(),
            piece: Piece { bytes: "half".into(), ..Piece::default() },
        },
        Record::Result { call: 3, options: options.clone(), piece: piece("1") },
        Record::Fail { call: 5, failure: Failure::Failure(info.clone()), options: options.clone() },
        Record::Fail { call: 5, failure: Failure::Error(info), options: none() },
        Record::Fail { call: 5, failure: Failure::Cancelled, options: none() },
        Record::Data { call: 1, offset: 1 << 40, piece: Piece { compressed: true, ..piece("x") } },
        Record::Cancel { call: 7 },
        Record::Abort { call: 8 },
        Record::Stop { call: 9 },
        Record::Credit { call: 1, consumed: 300, limit: u64::MAX },
        Record::LinkCredit { limit: 1 << 20 },
        Record::Goodbye { next: 4 },
    ]
}

#[test]
fn the_examples_of_the_protocol_are_met_to_the_byte() {
    // OPEN, RESULT, DATA, CREDIT as in PROTOCOL.md.
    let examples = [
        (open(), "97 01 02 03 a26f6b c400 80 c4027b7d"),
        (Record::Result { call: 2, options: Options::default(), piece: piece("1") }, "95 02 02 03 80 c40131"),
        (
            Record::Data { call: 2, offset: 16_384, piece: Piece { item: false, ..piece("end") } },
            "95 04 02 01 cd4000 c403656e64",
        ),
        (Record::Credit { call: 2, consumed: 16_387, limit: 300_000 }, "94 08 02 cd4003 ce000493e0"),
    ];
    for (record, hex) in examples {
        assert_eq!(written(std::slice::from_ref(&record)), bytes(hex), "{record:?}");
        assert_eq!(read(&bytes(hex)), Ok(vec![record]));
    }
}

#[test]
fn a_packet_reads_as_it_was_written() {
    assert_eq!(read(&written(&everything())), Ok(everything()));
}

#[test]
fn a_large_piece_is_not_copied_and_ends_the_packet() {
    let bytes = Bytes::from(vec![7; MAX_CHUNK]);
    let mut writer = PacketWriter::default();
    writer.write(&open());
    let piece = Piece { bytes: bytes.clone(), ..Piece::default() };
    writer.write(&Record::Data { call: 2, offset: 0, piece });
    assert!(writer.is_closed());
    let message = writer.take();
    assert_eq!(message.tail().as_ptr(), bytes.as_ptr());
    assert_eq!((writer.len(), writer.is_closed()), (0, false));
    let packet = message.into_one().unwrap();
    assert_eq!(read(&packet).unwrap().len(), 2);
}

#[test]
fn a_packet_is_limited_at_the_edge() {
    let padding = |len: usize| {
        let mut packet = written(&[open()]).to_vec();
        // A record of an unknown type that may be ignored, with a bin.
        packet.extend_from_slice(&[0x92, 32, 0xc6]);
        let rest = len - packet.len() - 4;
        packet.extend_from_slice(&(rest as u32).to_be_bytes());
        packet.resize(len, 0);
        Bytes::from(packet)
    };
    assert_eq!(read(&padding(MAX_PACKET)), Ok(vec![open()]));
    let size = MAX_PACKET + 1;
    assert_eq!(
        read(&padding(size)),
        Err(DecodeError::TooLarge { what: "a packet", size, limit: MAX_PACKET })
    );
    assert_eq!(read(&Bytes::new()), Err(DecodeError::Truncated));
}

#[test]
fn what_may_be_ignored_is_and_what_may_not_is_not() {
    let ignorable = bytes("92 20 c401ff  91 cd0100  9a 02 02 03 80 c40131 01 02 03 c0 a178");
    let result = Record::Result { call: 2, options: Options::default(), piece: piece("1") };
    assert_eq!(read(&ignorable), Ok(vec![result]), "types from 32 on, and further fields");
    assert_eq!(read(&bytes("91 1f")), Err(DecodeError::UnknownType(31)));
    assert_eq!(read(&bytes("91 00")), Err(DecodeError::UnknownType(0)));
}

#[test]
fn unknown_options_are_ignored_or_make_the_call_unsupported() {
    let options = |hex: &str| match &read(&bytes(&format!("95 02 02 03 {hex} c40131")))?[..] {
        [Record::Result { options, .. }] => Ok(options.clone()),
        other => panic!("{other:?}"),
    };
    let supported = Options::default();
    assert_eq!(options("81 20 c0"), Ok(supported.clone()), "from 32 on");
    assert_eq!(options("82 a178 01 cb0000000000000000 01"), Ok(supported.clone()), "of another type");
    assert_eq!(options("83 ff 08 d3ffffffffffffff00 08 cfffffffffffffffff 08"), Ok(supported), "of no type");
    assert!(options("81 1f c0").unwrap().unsupported);
    assert_eq!(options("82 04 01 04 01"), Err(DecodeError::DuplicateField("option")));
    assert_eq!(options("81 03 08"), Err(DecodeError::OutOfRange("urgency")));
}

#[test]
fn a_record_must_have_its_fields_and_they_their_types() {
    let wrong = [
        ("", DecodeError::Truncated),
        ("01", DecodeError::WrongType { field: "record" }),
        ("90", DecodeError::MissingField("type")),
        ("91 05", DecodeError::MissingField("call")),
        ("92 05 ff", DecodeError::OutOfRange("call")),
        ("92 05 cf0020000000000000", DecodeError::OutOfRange("call")),
        ("92 05", DecodeError::Truncated),
        ("95 02 02 08 80 c40131", DecodeError::OutOfRange("flags")),
        ("95 02 02 03 80 a131", DecodeError::WrongType { field: "piece" }),
        ("95 04 02 03 00 c6ffffffff", DecodeError::Truncated),
        ("97 01 02 03 c4026f6b c400 80 c400", DecodeError::WrongType { field: "meth" }),
        ("97 01 02 03 a2ff6b c400 80 c400", DecodeError::NotUtf8("method")),
        ("97 03 02 05 a0 a0 a0 80", DecodeError::OutOfRange("kind")),
        ("95 02 02 03 81 01 82 a161 c400 a161 c400 c400", DecodeError::DuplicateField("metadata")),
        ("91 05 05", DecodeError::MissingField("call")),
    ];
    for (hex, error) in wrong {
        let found = read(&bytes(hex)).expect_err(hex);
        let field = |error: &DecodeError| matches!(error, DecodeError::WrongType { .. });
        assert!(found == error || (field(&found) && field(&error)), "{hex}: {found:?}");
    }
}

#[test]
fn metadata_is_limited_when_it_is_read() {
    let with = |entries: usize, value: usize| {
        let mut packet = bytes("95 02 02 03 81 01").to_vec();
        packet.extend_from_slice(&[0xde, 0, entries as u8]);
        for n in 0..entries {
            packet.extend_from_slice(&[0xa2, b'a' + (n / 26) as u8, b'a' + (n % 26) as u8, 0xc5]);
            packet.extend_from_slice(&(value as u16).to_be_bytes());
            packet.resize(packet.len() + value, 0);
        }
        packet.extend_from_slice(&[0xc4, 0]);
        read(&packet.into())
    };
    assert!(with(Metadata::MAX_ENTRIES, 0).is_ok());
    let limit = Metadata::MAX_BYTES;
    assert_eq!(
        with(Metadata::MAX_ENTRIES + 1, 0),
        Err(DecodeError::TooLarge { what: "metadata", size: 130, limit })
    );
    assert!(with(1, limit - 2).is_ok());
    assert_eq!(with(1, limit - 1), Err(DecodeError::TooLarge { what: "metadata", size: limit + 1, limit }));
}

#[test]
fn a_compressed_piece_can_not_promise_more_than_the_limit_or_than_it_can_hold() {
    let block = |plain: &[u8]| Piece {
        bytes: snap::raw::Encoder::new().compress_vec(plain).unwrap().into(),
        compressed: true,
        ..Piece::default()
    };
    assert_eq!(block(&[0; 100]).plain(100), Ok(Bytes::from(vec![0; 100])));
    let past = DecodeError::TooLarge { what: "a piece", size: 101, limit: 100 };
    assert_eq!(block(&[0; 101]).plain(100), Err(past));
    let declares = |hex| Piece { bytes: bytes(hex), compressed: true, ..Piece::default() };
    assert_eq!(declares("ffffffff0f").plain(MAX_CHUNK), Err(DecodeError::Snappy), "4 GiB in no bytes");
    assert_eq!(declares("0a 00").plain(MAX_CHUNK), Err(DecodeError::Snappy));
}
