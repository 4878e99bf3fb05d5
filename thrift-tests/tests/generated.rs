//! What is generated of every kind of definition.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::collections::BTreeMap;

use callosum_thrift::{Bytes, Decode, Encode, Limits, MapVec, Protocol, ReadError, Reader, SetVec, Writer};
use callosum_thrift_tests::everything::{self, Color, Either, Everything};
use callosum_thrift_tests::rust_only::{self, Cycle, Inner, Key, Odd, RealKey, Roomy, Tree};
use callosum_thrift_tests::shared::{Busy, PORT, Point};
use fastrand::Rng;

const PROTOCOLS: [Protocol; 2] = [Protocol::Binary, Protocol::Compact];

fn encode(value: &impl Encode) -> Bytes {
    encode_as(Protocol::Binary, value)
}

fn encode_as(protocol: Protocol, value: &impl Encode) -> Bytes {
    let mut writer = Writer::new(protocol);
    value.encode(&mut writer);
    writer.finish().unwrap()
}

fn decode<T: Decode>(bytes: &Bytes) -> Result<T, ReadError> {
    decode_as(Protocol::Binary, bytes)
}

fn decode_as<T: Decode>(protocol: Protocol, bytes: &Bytes) -> Result<T, ReadError> {
    let mut reader = Reader::new(bytes, protocol, Limits::DEFAULT)?;
    let value = T::decode(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

#[test]
fn random_values_come_back() {
    let mut random = Rng::with_seed(7);
    for _ in 0..500 {
        let value = callosum_thrift_tests::everything(&mut random);
        for protocol in PROTOCOLS {
            assert_eq!(decode_as(protocol, &encode_as(protocol, &value)).as_ref(), Ok(&value), "{protocol}");
        }
    }
}

#[test]
fn a_message_that_is_cut_anywhere_is_truncated() {
    let mut random = Rng::with_seed(8);
    for _ in 0..20 {
        let value = callosum_thrift_tests::everything(&mut random);
        for protocol in PROTOCOLS {
            let bytes = encode_as(protocol, &value);
            for end in 0..bytes.len() {
                let cut = decode_as::<Everything>(protocol, &bytes.slice(..end));
                assert_eq!(cut, Err(ReadError::Truncated), "{end} of {bytes:?}");
            }
        }
    }
}

#[test]
fn a_message_that_is_changed_anywhere_is_read_or_refused() {
    let mut random = Rng::with_seed(9);
    for protocol in [Protocol::Binary, Protocol::Compact].repeat(200) {
        let mut bytes = encode_as(protocol, &callosum_thrift_tests::everything(&mut random)).to_vec();
        let place = random.usize(..bytes.len());
        bytes[place] = random.u8(..);
        if let Ok(value) = decode_as::<Everything>(protocol, &bytes.into()) {
            // What was read is a value: written again, it is read as itself, but for doubles that are not.
            let again = decode_as::<Everything>(protocol, &encode_as(protocol, &value)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{value:?}"));
        }
    }
}

#[test]
fn required_fields_are_missed_and_others_are_not() {
    assert_eq!(
        decode::<Everything>(&Bytes::from_static(b"\0")),
        Err(ReadError::MissingField("Everything.needed"))
    );
    let needed = Bytes::from_static(b"\x08\0\x17\0\0\0\x01\0");
    let expected = Everything { needed: 1, ..Everything::default() };
    assert_eq!(decode::<Everything>(&needed), Ok(expected));
    // A field of another type is as good as missing.
    let wrong = Bytes::from_static(b"\x0a\0\x17\0\0\0\0\0\0\0\x01\0");
    assert_eq!(decode::<Everything>(&wrong), Err(ReadError::MissingField("Everything.needed")));
    let unknown = Bytes::from_static(b"\x08\0\x17\0\0\0\x01\x0c\x7f\xff\x0b\0\x01\0\0\0\0\0\0");
    assert!(decode::<Everything>(&unknown).is_ok(), "a field of a later version");
}

/// A struct without fields takes a byte on the wire; its defaults may take any memory.
#[test]
fn defaults_take_memory_out_of_the_budget() {
    const COUNT: usize = 1000;
    let heap = 100 + (2 * size_of::<String>() + 3) + 11 * size_of::<i64>() + size_of::<(f64, i8)>() + 2;
    let inner = size_of::<Inner>() + 5;
    let memory = (COUNT + 3) * size_of::<Roomy>() + COUNT * (heap + inner);
    let mut list = vec![12, 0, 0, 3, 232];
    list.resize(5 + COUNT, 0);
    let list = Bytes::from(list);
    let read = |memory| {
        Vec::<Roomy>::decode(&mut Reader::new(&list, Protocol::Binary, Limits::DEFAULT.memory(memory))?)
    };
    assert_eq!(read(memory), Ok(vec![Roomy::default(); COUNT]));
    assert_eq!(read(memory - 1), Err(ReadError::TooMuchMemory(memory - 1)));
}

#[test]
fn defaults_are_those_of_the_file() {
    let all = Everything::default();
    assert_eq!((all.defaulted, &*all.greeting, all.maybe), (Some(5), "gr\"üß\tdich", None));
    assert_eq!(Point::default(), Point { x: 0, y: 7 });
    let odd = Odd::default();
    assert_eq!(odd.id, rust_only::NIL);
    assert_eq!(odd.data, b"bytes".as_slice());
    assert_eq!(odd.eithers, [rust_only::Either::Leaf(7), rust_only::Either::Leaf(8)]);
    assert_eq!(odd.key, Key { name: "it".into(), number: 3 });
    assert_eq!(Color::default(), Color::RED);
}

#[test]
fn constants_are_those_of_the_file() {
    assert_eq!(
        (everything::ANSWER, everything::FAR, everything::PI, everything::YES),
        (42, i64::MIN, 3.25, true)
    );
    assert_eq!((everything::FAVOURITE, everything::ITS_PORT, PORT), (Color::BLUE, 5030, 5030));
    assert_eq!(*everything::PRIMES, [2, 3, 5, 42]);
    assert_eq!(
        *everything::COLORS,
        BTreeMap::from([("sky".into(), Color::BLUE), ("blood".into(), Color::RED)])
    );
    assert!(everything::WORDS.contains("two"));
    assert_eq!(*everything::ORIGIN, Point { x: 0, y: 0 });
    assert_eq!(rust_only::TABLE[&Key { name: "a".into(), number: 1 }], [1, 2]);
    assert_eq!(rust_only::NIL[..3], [0, 0x11, 0x22]);
}

#[test]
fn enums_keep_numbers_without_a_name() {
    assert_eq!(
        (Color::GREEN.0, Color::GREEN.variant_name(), Color(3).variant_name()),
        (2, Some("GREEN"), None)
    );
    assert_eq!(decode(&encode(&Color(77))), Ok(Color(77)));
}

#[test]
fn unions_have_one_field() {
    let refused = Err(ReadError::Union("Either"));
    assert_eq!(decode::<Either>(&Bytes::from_static(b"\0")), refused);
    let two = Bytes::from_static(b"\x0a\0\x01\0\0\0\0\0\0\0\x01\x0b\0\x02\0\0\0\0\0");
    assert_eq!(decode::<Either>(&two), refused);
    let unknown = Bytes::from_static(b"\x08\0\x63\0\0\0\x01\0");
    assert_eq!(decode::<Either>(&unknown), refused);
    let with_unknown = Bytes::from_static(b"\x08\0\x63\0\0\0\x01\x0b\0\x02\0\0\0\x01x\0");
    assert_eq!(decode::<Either>(&with_unknown), Ok(Either::Text("x".into())));
}

#[test]
fn exceptions_are_errors() {
    let missing = everything::NotFound { message: Some("it is gone".into()), code: None };
    assert_eq!(missing.to_string(), "NotFound: it is gone");
    let error: Box<dyn std::error::Error> = Box::new(Busy { again: 1 });
    assert_eq!(error.to_string(), "Busy");
    assert_eq!(everything::StoreFailException::from(missing).to_string(), "NotFound: it is gone");
}

fn tree(depth: i32) -> Tree {
    let twin = (depth > 0).then(|| Box::new(tree(depth - 1)));
    let cycle = Cycle { tree: None, either: Some(Box::new(rust_only::Either::Leaf(depth))) };
    Tree { value: depth, children: Some(vec![]), twin, cycle: Some(Box::new(cycle)) }
}

#[test]
fn types_that_hold_themselves_nest_up_to_the_limit() {
    let deep = tree(60);
    assert_eq!(decode(&encode(&deep)), Ok(deep));
    assert_eq!(decode::<Tree>(&encode(&tree(64))), Err(ReadError::TooDeep(64)));
}

#[test]
fn what_has_no_order_is_in_a_list() {
    let odd = Odd {
        by_key: Some(BTreeMap::from([(Key { name: "x".into(), number: 1 }, "y".into())])),
        keys: Some([Key::default()].into()),
        by_real_key: Some(MapVec(vec![(RealKey { real: 0.5 }, 1), (RealKey { real: f64::INFINITY }, 2)])),
        sets: Some(SetVec(vec![SetVec(vec![1.0, 1.0]), SetVec(vec![])])),
        implicit: Some("first".into()),
        second_implicit: Some(-2),
        ..Odd::default()
    };
    let bytes = encode(&odd);
    assert_eq!(decode::<Odd>(&bytes), Ok(odd));
    let implicit = b"\x0b\xff\xff\0\0\0\x05first\x08\xff\xfe\xff\xff\xff\xfe";
    assert!(
        bytes.windows(implicit.len()).any(|window| window == implicit),
        "numbers are -1 and -2: {bytes:?}"
    );
}
