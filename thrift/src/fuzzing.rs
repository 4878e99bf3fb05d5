//! Bodies of the fuzz targets: messages of a peer that may be anything.
//!
//! The idea: what is read through a file that has every type has to come back when it is written and read again, so that reader and
//! writer are held to each other.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::json;

use crate::dynamic::{DynamicMethod, Loader};
use crate::{Decode, Encode, Limits, Message, Protocol, Reader, WireType, Writer};

const IDL: &str = "
    enum Color { RED = 1, BLUE = 5 }
    union Either { 1: i64 number, 2: string text }
    struct Tree { 1: required i32 value, 2: list<Tree> children, 3: optional Tree left, 4: map<i16, set<double>> map,
                  5: binary data, 6: uuid id, 7: Color color, 8: Either either, 9: map<Tree, bool> trees, 10: byte small }
    exception Oops { 1: string message }
    service Forest { Tree plant(1: Tree tree) throws (1: Oops oops) }
";

fn method() -> &'static DynamicMethod {
    static METHOD: OnceLock<DynamicMethod> = OnceLock::new();
    METHOD.get_or_init(|| {
        let schema = Loader::new().parse("forest", IDL).expect("the file is right");
        DynamicMethod::find(Arc::new(schema), None, "plant").expect("it is in the file")
    })
}

/// Reads a message in every way that there is.
pub fn message(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    for protocol in [Protocol::Binary, Protocol::Compact] {
        message_of(protocol, &bytes);
    }
}

fn message_of(protocol: Protocol, bytes: &Bytes) {
    let limits = Limits::DEFAULT.memory(1 << 20);
    if let Ok((_, mut reader)) = Message::read(bytes, protocol, limits) {
        let before = reader.remaining();
        let skipped = reader.skip(WireType::Struct);
        assert!(reader.remaining() <= before);
        if skipped.is_ok() {
            assert!(reader.remaining() < before, "a struct takes a byte at least");
        }
    }
    typed::<BTreeMap<String, Vec<i64>>>(protocol, bytes, limits);
    typed::<Vec<BTreeMap<i16, bool>>>(protocol, bytes, limits);
    typed::<Vec<Bytes>>(protocol, bytes, limits);
    let method = method().clone().protocol(protocol);
    if let Ok(tree) = method.clone().limits(limits).response(1, bytes) {
        let request = method.request(1, &json!({ "tree": tree })).expect("what was read can be written");
        let again = method.response(1, &reply(protocol, &request)).expect("what was written can be read");
        assert_eq!(again, tree);
    }
}

/// A request as a reply: with the field 0 of a result in place of the argument 1.
fn reply(protocol: Protocol, request: &[u8]) -> Bytes {
    let mut reply = request.to_vec();
    match protocol {
        Protocol::Binary => (reply[3], reply[19]) = (2, 0),
        Protocol::Compact => {
            reply[1] = 0x41;
            // No number is below that of the first field by a delta: it stands behind the type.
            reply.splice(9..10, [12, 0]);
        }
    }
    reply.into()
}

/// What is read comes back when it is written and read again, in either protocol.
fn typed<T: Encode + Decode + PartialEq + std::fmt::Debug>(
    protocol: Protocol,
    bytes: &Bytes,
    limits: Limits,
) {
    let decode = |bytes: &Bytes, protocol| T::decode(&mut Reader::new(bytes, protocol, limits)?);
    let Ok(value) = decode(bytes, protocol) else { return };
    for protocol in [Protocol::Binary, Protocol::Compact] {
        let mut writer = Writer::new(protocol);
        value.encode(&mut writer);
        let bytes = writer.finish().expect("it is short");
        assert_eq!(decode(&bytes, protocol).as_ref(), Ok(&value));
    }
}
