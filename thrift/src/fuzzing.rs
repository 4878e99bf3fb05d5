//! Bodies of the fuzz targets: messages of a peer that may be anything.
//!
//! The idea: what is read through a file that has every type has to come back when it is written and read again, so that reader and
//! writer are held to each other.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::json;

use crate::dynamic::{DynamicMethod, Loader};
use crate::{Decode, Encode, Limits, Message, Reader, WireType, Writer};

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
    let limits = Limits::DEFAULT.memory(1 << 20);
    if let Ok((_, mut reader)) = Message::read(&bytes, limits) {
        let before = reader.remaining();
        let skipped = reader.skip(WireType::Struct);
        assert!(reader.remaining() <= before);
        if skipped.is_ok() {
            assert!(reader.remaining() < before, "a struct takes a byte at least");
        }
    }
    typed::<BTreeMap<String, Vec<i64>>>(&bytes, limits);
    typed::<Vec<BTreeMap<i16, bool>>>(&bytes, limits);
    typed::<Vec<Bytes>>(&bytes, limits);
    if let Ok(tree) = method().clone().limits(limits).response(1, &bytes) {
        let request = method().request(1, &json!({ "tree": tree })).expect("what was read can be written");
        // The field 0 of a result, in place of the argument 1.
        let mut reply = request.to_vec();
        (reply[3], reply[19]) = (2, 0);
        let again = method().response(1, &reply.into()).expect("what was written can be read");
        assert_eq!(again, tree);
    }
}

/// What is read comes back when it is written and read again.
fn typed<T: Encode + Decode + PartialEq + std::fmt::Debug>(bytes: &Bytes, limits: Limits) {
    let Ok(value) = Reader::new(bytes, limits).and_then(|mut reader| T::decode(&mut reader)) else { return };
    let mut writer = Writer::new();
    value.encode(&mut writer);
    let bytes = writer.finish().expect("it is as short as what was read");
    let again = Reader::new(&bytes, limits).and_then(|mut reader| T::decode(&mut reader));
    assert_eq!(again, Ok(value));
}
