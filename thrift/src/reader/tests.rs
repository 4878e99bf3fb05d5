//! Malformed and hostile input.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::containers::{MapVec, SetVec};
use crate::writer::{Encode, Writer};

const PROTOCOLS: [Protocol; 2] = [Protocol::Binary, Protocol::Compact];

fn decode<T: Decode>(bytes: &[u8], limits: Limits) -> Result<T, ReadError> {
    decode_as(Protocol::Binary, bytes, limits)
}

fn decode_as<T: Decode>(protocol: Protocol, bytes: &[u8], limits: Limits) -> Result<T, ReadError> {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut reader = Reader::new(&bytes, protocol, limits)?;
    let value = T::decode(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

fn encode(value: &impl Encode) -> Bytes {
    encode_as(Protocol::Binary, value)
}

fn encode_as(protocol: Protocol, value: &impl Encode) -> Bytes {
    let mut writer = Writer::new(protocol);
    value.encode(&mut writer);
    writer.finish().expect("it is short")
}

/// A struct that takes one byte on the wire if it is empty, and itself in lists.
#[derive(Debug, Default, PartialEq)]
struct Tree {
    large: [Option<String>; 16],
    children: Vec<Tree>,
}

impl Decode for Tree {
    const WIRE_TYPE: WireType = WireType::Struct;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        let mut children = None;
        from.structure(|from, id, wire_type| match id {
            1 => from.field(wire_type, &mut children),
            _ => from.skip(wire_type),
        })?;
        Ok(Self { children: children.unwrap_or_default(), ..Self::default() })
    }
}

/// A tree that is a line.
fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = b"\x0f\0\x01\x0c\0\0\0\x01".repeat(depth);
    bytes.extend(std::iter::repeat_n(0, depth + 1));
    bytes
}

#[test]
fn a_declared_size_is_refused_where_it_is_declared() {
    let default = Limits::DEFAULT;
    assert_eq!(decode::<String>(b"\x7f\xff\xff\xff", default), Err(ReadError::Truncated));
    assert_eq!(decode::<Bytes>(b"\x80\0\0\0", default), Err(ReadError::NegativeSize(i32::MIN)));
    // Each list has exactly the bytes that so many elements take at least, or one byte less.
    assert_eq!(decode::<Vec<i64>>(b"\x0a\0\0\0\x01\0\0\0\0\0\0\0\x07", default), Ok(vec![7]));
    let mut memory = None;
    let bytes = Bytes::from_static(b"\x0a\x7f\xff\xff\xff\0\0\0\0\0\0\0\x07");
    let mut reader = Reader::new(&bytes, Protocol::Binary, default).unwrap();
    assert_eq!(Vec::<i64>::decode(&mut reader), Err(ReadError::Truncated));
    memory.replace(reader.memory_left());
    assert_eq!(memory, Some(default.memory), "no element was read");
    assert_eq!(
        decode::<BTreeMap<i8, String>>(b"\x03\x0b\0\0\0\x02\x01\0\0\0\0\x01\0\0\0", default),
        Err(ReadError::Truncated)
    );
    assert_eq!(decode::<Vec<Tree>>(b"\x0c\xff\xff\xff\xff", default), Err(ReadError::NegativeSize(-1)));
}

#[test]
fn elements_take_memory_out_of_a_budget() {
    let count = 1000_usize;
    let mut bytes = b"\x0c\0\0\x03\xe8".to_vec();
    bytes.extend(std::iter::repeat_n(0, count));
    // The first makes room for four.
    let memory = (count + 3) * size_of::<Tree>();
    assert_eq!(decode::<Vec<Tree>>(&bytes, Limits::DEFAULT.memory(memory)).map(|list| list.len()), Ok(count));
    let less = Limits::DEFAULT.memory(memory - 1);
    assert_eq!(decode::<Vec<Tree>>(&bytes, less), Err(ReadError::TooMuchMemory(memory - 1)));
    // A text takes its length.
    let text = encode(&"x".repeat(100));
    assert!(decode::<String>(&text, Limits::DEFAULT.memory(100)).is_ok());
    assert_eq!(decode::<String>(&text, Limits::DEFAULT.memory(99)), Err(ReadError::TooMuchMemory(99)));
}

/// A map of one entry has the memory of a node, which is that of eleven.
#[test]
fn small_maps_take_what_they_allocate() {
    let one: Vec<_> = (0..100).map(|n| BTreeMap::from([(n, 1_i64)])).collect();
    let bytes = encode(&one);
    let nodes = 100 * 11 * size_of::<(i32, i64)>();
    let budget = nodes + 103 * size_of::<BTreeMap<i32, i64>>();
    assert_eq!(decode::<Vec<BTreeMap<i32, i64>>>(&bytes, Limits::DEFAULT.memory(budget)), Ok(one));
    let less = decode::<Vec<BTreeMap<i32, i64>>>(&bytes, Limits::DEFAULT.memory(budget - 1));
    assert_eq!(less, Err(ReadError::TooMuchMemory(budget - 1)));
}

#[test]
fn nesting_has_a_limit_whether_it_is_read_or_skipped() {
    // The struct, and a list and a struct for each level.
    let limits = Limits::DEFAULT.depth(21);
    assert!(decode::<Tree>(&nested(10), limits).is_ok());
    assert_eq!(decode::<Tree>(&nested(11), limits), Err(ReadError::TooDeep(21)));
    let skip = |depth: usize| {
        let bytes = Bytes::from(nested(depth));
        let mut reader = Reader::new(&bytes, Protocol::Binary, limits).unwrap();
        reader.skip(WireType::Struct).and_then(|()| reader.finish())
    };
    assert_eq!(skip(10), Ok(()));
    assert_eq!(skip(11), Err(ReadError::TooDeep(21)));
    assert_eq!(skip(1_000_000), Err(ReadError::TooDeep(21)), "and the stack is as deep as the limit");
}

#[test]
fn a_message_has_a_size_limit() {
    let bytes = Bytes::from_static(b"1234");
    assert!(Reader::new(&bytes, Protocol::Binary, Limits::DEFAULT.size(4)).is_ok());
    let error = Reader::new(&bytes, Protocol::Binary, Limits::DEFAULT.size(3)).err();
    assert_eq!(error, Some(ReadError::TooLarge { size: 4, limit: 3 }));
}

#[test]
fn types_are_checked() {
    let default = Limits::DEFAULT;
    let wrong = ReadError::WrongType { expected: WireType::I64, found: WireType::I32 };
    assert_eq!(decode::<Vec<i64>>(b"\x08\0\0\0\x01\0\0\0\x07", default), Err(wrong));
    assert_eq!(decode::<Vec<i64>>(b"\x07\0\0\0\x01\0\0\0\x07", default), Err(ReadError::UnknownType(7)));
    assert_eq!(decode::<Vec<i64>>(b"\0\0\0\0\0", default), Ok(vec![]), "an empty list may be of any type");
    assert_eq!(decode::<String>(b"\0\0\0\x01\xff", default), Err(ReadError::NotUtf8));
    assert_eq!(decode::<bool>(b"\x02", default), Ok(true));
    assert_eq!(decode::<bool>(b"\0\0", default), Err(ReadError::TrailingBytes(1)));
    assert_eq!(decode::<Tree>(b"\x09\0\x01\0", default), Err(ReadError::UnknownType(9)));
    // A field of another type is as good as unknown.
    assert_eq!(decode::<Tree>(b"\x08\0\x01\0\0\0\x07\0", default), Ok(Tree::default()));
}

#[test]
fn binaries_are_kept_without_a_copy_unless_they_pin_much_more() {
    let large = encode(&Bytes::from(vec![1; 100]));
    let mut reader = Reader::new(&large, Protocol::Binary, Limits::DEFAULT).unwrap();
    assert_eq!(Bytes::decode(&mut reader).unwrap().as_ptr(), large[4..].as_ptr());
    let small = encode(&vec![Bytes::from_static(b"x"), Bytes::from(vec![1; 100])]);
    let mut reader = Reader::new(&small, Protocol::Binary, Limits::DEFAULT).unwrap();
    let list = Vec::<Bytes>::decode(&mut reader).unwrap();
    assert_ne!(list[0].as_ptr(), small[9..].as_ptr());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn values_come_back(
        numbers in prop::collection::vec((any::<i8>(), any::<i16>(), any::<i32>(), any::<i64>(), any::<bool>()), 0..8),
        doubles in prop::collection::vec(prop::num::f64::NORMAL, 0..8),
        map in prop::collection::btree_map("\\PC*", prop::collection::btree_set(any::<i64>(), 0..4), 0..4),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        uuid in any::<[u8; 16]>(),
    ) {
        fn same<T: Encode + Decode + PartialEq + std::fmt::Debug>(value: T) -> Result<(), TestCaseError> {
            for protocol in PROTOCOLS {
                let back = decode_as::<T>(protocol, &encode_as(protocol, &value), Limits::DEFAULT);
                prop_assert_eq!(back.as_ref(), Ok(&value), "{}", protocol);
            }
            Ok(())
        }
        for (byte, short, int, long, flag) in numbers {
            same(byte)?;
            same(short)?;
            same(int)?;
            same(long)?;
            same(flag)?;
            same(Box::new(int))?;
        }
        same(doubles.clone())?;
        same(SetVec(doubles.clone()))?;
        same(MapVec(doubles.into_iter().map(|double| (double, uuid)).collect()))?;
        same(map.clone())?;
        same(map.into_keys().collect::<BTreeSet<_>>())?;
        same(Bytes::from(bytes))?;
        same(uuid)?;
    }

    #[test]
    fn what_is_cut_is_truncated(map in prop::collection::btree_map("[a-z]*", any::<i64>(), 1..4), cut in any::<prop::sample::Index>()) {
        for protocol in PROTOCOLS {
            let bytes = encode_as(protocol, &map);
            let cut = cut.index(bytes.len());
            let truncated = decode_as::<BTreeMap<String, i64>>(protocol, &bytes[..cut], Limits::DEFAULT);
            prop_assert_eq!(truncated, Err(ReadError::Truncated), "{}", protocol);
        }
    }

    #[test]
    fn whatever_is_read_can_be_skipped(bytes in prop::collection::vec(prop_oneof![Just(0), Just(1), Just(11), Just(12), Just(15), any::<u8>()], 0..64)) {
        for protocol in PROTOCOLS {
            if decode_as::<Tree>(protocol, &bytes, Limits::DEFAULT).is_ok() {
                let bytes = Bytes::from(bytes.clone());
                let mut reader = Reader::new(&bytes, protocol, Limits::DEFAULT).expect("it is small");
                prop_assert_eq!(reader.skip(WireType::Struct), Ok(()));
                prop_assert_eq!(reader.finish(), Ok(()));
            }
        }
    }
}
