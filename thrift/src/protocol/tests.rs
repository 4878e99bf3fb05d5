//! TCompact byte by byte, as thriftpy2 0.7.1 writes it, and malformed input.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::error::ReadError;
use crate::limits::Limits;
use crate::message::{Message, MessageKind};
use crate::reader::{Decode, Reader};
use crate::writer::{Encode, Writer};

const ECHO: &[u8] = b"\x82\x21\x01\x04echo\x18\x02hi\0";
const ADD: &[u8] = b"\x82\x21\xac\x02\x03add\x16\x02\x16\x03\0";
const SUM: &[u8] = b"\x82\x41\xac\x02\x03add\x06\0\x06\0";

fn reader(bytes: &Bytes) -> Reader<'_> {
    Reader::new(bytes, Protocol::Compact, Limits::DEFAULT).expect("it is small")
}

fn decode<T: Decode>(bytes: &'static [u8]) -> Result<T, ReadError> {
    let bytes = Bytes::from_static(bytes);
    let mut reader = reader(&bytes);
    let value = T::decode(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

#[derive(Debug, PartialEq)]
struct Inner {
    a: Option<i32>,
    b: Option<bool>,
}

impl Encode for Inner {
    const WIRE_TYPE: WireType = WireType::Struct;

    fn encode(&self, to: &mut Writer) {
        to.optional(1, self.a.as_ref());
        to.optional(20, self.b.as_ref());
        to.stop();
    }
}

impl Decode for Inner {
    const WIRE_TYPE: WireType = WireType::Struct;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        let (mut a, mut b) = (None, None);
        from.structure(|from, id, wire_type| match id {
            1 => from.field(wire_type, &mut a),
            20 => from.field(wire_type, &mut b),
            _ => from.skip(wire_type),
        })?;
        Ok(Self { a, b })
    }
}

/// The fields of a struct that has every type but a UUID, which thriftpy2 lacks.
fn every_type(to: &mut Writer) {
    to.field(1, &true);
    to.field(2, &false);
    to.field(3, &-1_i8);
    to.field(4, &-300_i16);
    to.field(5, &1.5);
    to.field(6, &vec![true, false]);
    to.field(7, &vec![Inner { a: Some(1), b: Some(true) }, Inner { a: Some(2), b: None }]);
    to.field(30, &Inner { a: None, b: Some(false) });
    to.field(31, &BTreeMap::from([("k".to_owned(), 1_i64 << 40)]));
    to.field(32, &BTreeMap::<i32, bool>::new());
    to.field(-3, &-1_i64);
    to.field(33, &(0..16).collect::<Vec<i32>>());
    to.field(34, &BTreeSet::from(["x".to_owned()]));
    to.stop();
}

const EVERY_TYPE: &[u8] = b"\x11\x12\x13\xff\x14\xd7\x04\x17\0\0\0\0\0\0\xf8\x3f\x19\x21\x01\x02\
    \x19\x2c\x15\x02\x01\x28\0\x15\x04\0\x0c\x3c\x02\x28\0\x1b\x01\x86\x01k\x80\x80\x80\x80\x80\x40\x1b\0\x06\x05\x01\
    \x09\x42\xf5\x10\0\x02\x04\x06\x08\x0a\x0c\x0e\x10\x12\x14\x16\x18\x1a\x1c\x1e\x1a\x18\x01x\0";

#[test]
fn messages_are_those_of_thriftpy2() {
    let (call, reply) = (MessageKind::Call, MessageKind::Reply);
    let mut writer = Message { kind: call, method: "echo", sequence: 1 }.write(Protocol::Compact);
    writer.field(1, "hi");
    writer.stop();
    assert_eq!(writer.finish().unwrap(), ECHO);
    let mut writer = Message { kind: call, method: "add", sequence: 300 }.write(Protocol::Compact);
    writer.field(1, &1_i64);
    writer.field(2, &-2_i64);
    writer.stop();
    assert_eq!(writer.finish().unwrap(), ADD);
    let mut writer = Message { kind: reply, method: "add", sequence: 300 }.write(Protocol::Compact);
    writer.field(0, &3_i64);
    writer.stop();
    assert_eq!(writer.finish().unwrap(), SUM);
    let bytes = Bytes::from_static(SUM);
    let (message, mut reader) = Message::read(&bytes, Protocol::Compact, Limits::DEFAULT).unwrap();
    assert_eq!(message, Message { kind: reply, method: "add", sequence: 300 });
    let mut sum = None::<i64>;
    reader.structure(|reader, _, wire_type| reader.field(wire_type, &mut sum)).unwrap();
    assert_eq!((sum, reader.finish()), (Some(3), Ok(())));
}

#[test]
fn fields_of_every_type_are_those_of_thriftpy2() {
    let mut writer = Writer::new(Protocol::Compact);
    every_type(&mut writer);
    assert_eq!(writer.finish().unwrap(), EVERY_TYPE);
    let bytes = Bytes::from_static(EVERY_TYPE);
    let mut from = reader(&bytes);
    from.skip(WireType::Struct).unwrap();
    assert_eq!(from.finish(), Ok(()));
    let (mut flags, mut inner, mut numbers, mut real) = (None, None, None, None);
    let (mut ids, mut alone) = (Vec::new(), [None; 2]);
    let mut from = reader(&bytes);
    from.structure(|from, id, wire_type| {
        ids.push(id);
        match id {
            1 => from.field(wire_type, &mut alone[0]),
            2 => from.field(wire_type, &mut alone[1]),
            5 => from.field(wire_type, &mut real),
            6 => from.field(wire_type, &mut flags),
            7 => from.field(wire_type, &mut inner),
            33 => from.field(wire_type, &mut numbers),
            _ => from.skip(wire_type),
        }
    })
    .unwrap();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7, 30, 31, 32, -3, 33, 34]);
    assert_eq!((alone, real, flags), ([Some(true), Some(false)], Some(1.5), Some(vec![true, false])));
    assert_eq!(inner, Some(vec![Inner { a: Some(1), b: Some(true) }, Inner { a: Some(2), b: None }]));
    assert_eq!(numbers, Some((0..16).collect::<Vec<i32>>()));
}

#[test]
fn another_beginning_is_refused() {
    let read = |bytes, protocol| {
        let bytes = Bytes::from_static(bytes);
        Message::read(&bytes, protocol, Limits::DEFAULT).map(|(message, _)| message.sequence)
    };
    let (binary, compact) = (Protocol::Binary, Protocol::Compact);
    let other = |protocol, first| Err(ReadError::BadVersion { protocol, first });
    assert_eq!(read(ECHO, binary), other(binary, 0x8221_0104));
    assert_eq!(read(b"\x80\x01\0\x01\0\0\0\x04echo\0\0\0\x01\0", compact), other(compact, 0x8001));
    assert_eq!(read(b"\x82\x22\x01\x04echo", compact), other(compact, 0x8222), "another version");
    assert_eq!(read(b"\x82\xa1\x01\x04echo", compact), Err(ReadError::BadKind(5)));
    assert_eq!(read(b"\x82\x21\xff\xff\xff\xff\x0f\0", compact), Ok(-1));
    assert_eq!(read(b"\x82\x21\xff\xff\xff\xff\x1f\0", compact), Err(ReadError::Number));
    let text = ReadError::BadVersion { protocol: compact, first: 0x8001 }.to_string();
    assert_eq!(text, "the message is not TCompact: it begins with 0x8001");
}

#[test]
fn numbers_have_a_range() {
    assert_eq!(decode::<i16>(b"\xff\xff\x03"), Ok(i16::MIN));
    assert_eq!(decode::<i16>(b"\x80\x80\x04"), Err(ReadError::Number));
    assert_eq!(decode::<i64>(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Ok(i64::MIN));
    assert_eq!(decode::<i64>(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), Err(ReadError::Number));
    assert_eq!(decode::<i64>(b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\0"), Err(ReadError::Number));
    assert_eq!(decode::<i64>(b"\x80"), Err(ReadError::Truncated));
    // A field whose number is above the highest: 15 more than 32,767.
    assert_eq!(decode::<Inner>(b"\x03\xfe\xff\x03\0\xf3\0\0"), Err(ReadError::Number));
    assert_eq!(decode::<Inner>(b"\x1e\0"), Err(ReadError::UnknownType(14)));
    assert_eq!(decode::<Inner>(b"\x10\0"), Err(ReadError::UnknownType(0)));
    // A bool is 1 or not, and one of a field is in its header.
    assert_eq!(decode::<Vec<bool>>(b"\x41\x01\x02\0\x07"), Ok(vec![true, false, false, false]));
    assert_eq!(decode::<Vec<bool>>(b"\x12\x01"), Ok(vec![true]), "either number stands for a bool");
}

#[test]
fn a_declared_size_is_refused_where_it_is_declared() {
    assert_eq!(decode::<String>(b"\xff\xff\xff\xff\x07"), Err(ReadError::Truncated));
    assert_eq!(decode::<String>(b"\xff\xff\xff\xff\x0f"), Err(ReadError::NegativeSize(-1)));
    assert_eq!(decode::<String>(b"\xff\xff\xff\xff\xff\x0f"), Err(ReadError::Number));
    assert_eq!(decode::<Vec<f64>>(b"\x27\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), Err(ReadError::Truncated));
    assert_eq!(decode::<BTreeMap<i8, f64>>(b"\x01\x37\x01\0\0\0\0\0\0\0"), Err(ReadError::Truncated));
    let bytes = Bytes::from_static(b"\xfc\xff\xff\xff\xff\x07\0\0");
    let mut from = reader(&bytes);
    assert_eq!(Vec::<Inner>::decode(&mut from), Err(ReadError::Truncated));
    assert_eq!(from.memory_left(), Limits::DEFAULT.memory, "no element was read");
}

#[test]
fn every_beginning_is_truncated() {
    for end in 0..EVERY_TYPE.len() {
        let bytes = Bytes::from_static(&EVERY_TYPE[..end]);
        assert_eq!(reader(&bytes).skip(WireType::Struct), Err(ReadError::Truncated), "{end}");
    }
}

proptest! {
    #[test]
    fn integers_near_to_zero_are_short(number in any::<i64>()) {
        prop_assert_eq!(unzigzag(zigzag(number)), number);
        prop_assert_eq!(zigzag(number) < 128, (-64..64).contains(&number));
    }
}
