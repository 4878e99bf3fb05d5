//! Messages as Python Callosum sends them, byte by byte.

use super::*;
use crate::wire_type::WireType;

const ECHO: &[u8] = b"\x80\x01\x00\x01\0\0\0\x04echo\0\0\0\x01\x0b\0\x01\0\0\0\x02hi\0";
const ADD: &[u8] =
    b"\x80\x01\x00\x01\0\0\0\x03add\0\0\0\x02\x0a\0\x01\0\0\0\0\0\0\0\x01\x0a\0\x02\0\0\0\0\0\0\0\x02\0";

fn read(bytes: &'static [u8]) -> Result<(MessageKind, String, i32), ReadError> {
    let bytes = Bytes::from_static(bytes);
    Message::read(&bytes, Protocol::Binary, Limits::DEFAULT)
        .map(|(message, _)| (message.kind, message.method.to_owned(), message.sequence))
}

#[test]
fn calls_are_written_as_python_writes_them() {
    let mut writer = Message { kind: MessageKind::Call, method: "echo", sequence: 1 }.write(Protocol::Binary);
    writer.field(1, "hi");
    writer.stop();
    assert_eq!(writer.finish().unwrap(), ECHO);
    let mut writer = Message { kind: MessageKind::Call, method: "add", sequence: 2 }.write(Protocol::Binary);
    writer.field(1, &1_i64);
    writer.field(2, &2_i64);
    writer.stop();
    assert_eq!(writer.finish().unwrap(), ADD);
}

#[test]
fn envelopes_are_read() {
    assert_eq!(read(ECHO), Ok((MessageKind::Call, "echo".into(), 1)));
    let bytes = Bytes::from_static(ADD);
    let (message, mut reader) = Message::read(&bytes, Protocol::Binary, Limits::DEFAULT).unwrap();
    assert_eq!((message.method, message.sequence), ("add", 2));
    let mut fields = Vec::new();
    let place = |reader: &mut Reader<'_>, id, wire_type| {
        let mut number = None::<i64>;
        reader.field(wire_type, &mut number)?;
        fields.push((id, wire_type, number));
        Ok(())
    };
    reader.structure(place).unwrap();
    assert_eq!(fields, [(1, WireType::I64, Some(1)), (2, WireType::I64, Some(2))]);
    reader.finish().unwrap();
}

#[test]
fn what_is_not_strict_is_refused() {
    let other = |first| ReadError::BadVersion { protocol: Protocol::Binary, first };
    // The envelope of TBinary that is not strict: the name comes first.
    assert_eq!(read(b"\0\0\0\x04echo\x01\0\0\0\x01\0"), Err(other(4)));
    assert_eq!(read(b"\x82\x21\x01\x04echo"), Err(other(0x8221_0104)), "TCompact");
    assert_eq!(read(b"\x80\x01\0\x05\0\0\0\x04echo\0\0\0\x01\0"), Err(ReadError::BadKind(5)));
    assert_eq!(read(b"\x80\x01\0\x01\xff\xff\xff\xffecho"), Err(ReadError::NegativeSize(-1)));
    assert_eq!(read(b"\x80\x01\0\x01\0\0\0\x01\xff\0\0\0\x01\0"), Err(ReadError::NotUtf8));
}

#[test]
fn every_beginning_of_an_envelope_is_truncated() {
    for end in 0..16 {
        assert_eq!(read(&ECHO[..end]), Err(ReadError::Truncated), "{end}");
    }
    assert!(read(&ECHO[..16]).is_ok(), "the envelope is complete");
}
