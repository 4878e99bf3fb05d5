//! The codec of dialect 1 against what Python Callosum writes, to the byte.
//!
//! `tests/golden/dialect1.json` is made by the Python package; `tests/python/golden.py` says what it holds.

use bytes::Bytes;
use callosum_proto::internals::wire::{CallName, Message, Payload};
use callosum_proto::internals::wire::{Encoder, UPPER, decode_body, decode_header};
use callosum_proto::{ErrorInfo, OrderingKey};
use serde_json::Value;

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value} is text"))
}

fn number(value: &Value, field: &str) -> u32 {
    value[field]
        .as_u64()
        .and_then(|number| number.try_into().ok())
        .unwrap_or_else(|| panic!("{field} of {value}"))
}

fn flag(value: &Value, field: &str) -> bool {
    value[field].as_bool().unwrap_or_else(|| panic!("{field} of {value}"))
}

fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

/// Joins parts, each of which is text or a rule of repetition.
fn join<T: Copy>(parts: &Value, read: impl Fn(&str) -> Vec<T>) -> Vec<T> {
    let part = |part: &Value| match part.as_str() {
        Some(text) => read(text),
        None => read(text(part, "repeat")).repeat(number(part, "count") as usize),
    };
    parts.as_array().expect("parts").iter().flat_map(part).collect()
}

fn bytes(parts: &Value) -> Bytes {
    join(parts, hex).into()
}

fn message(vector: &Value) -> Message {
    let key = match vector["key"].get("str") {
        Some(key) => OrderingKey::text(key.as_str().expect("a key")),
        None => OrderingKey::binary(hex(text(&vector["key"], "bin"))),
    };
    let body = || match &vector["payload"] {
        Value::Null => Bytes::new(),
        payload => bytes(payload.get("bin").unwrap_or(&payload["str"])),
    };
    let info = || {
        let error = &vector["error"];
        let traceback: String =
            join(&error["traceback"], |text| text.chars().collect()).into_iter().collect();
        ErrorInfo { traceback: traceback.into(), ..ErrorInfo::new(text(error, "name"), text(error, "repr")) }
    };
    let payload = match number(vector, "type") {
        1 => Payload::Function(body()),
        2 => Payload::Result(body()),
        3 => Payload::Failure(info()),
        4 => Payload::Error(info()),
        5 => Payload::Cancel,
        6 => Payload::Cancelled,
        other => panic!("type {other}"),
    };
    let id = CallName { seq: number(vector, "seq"), method: text(vector, "method").into(), key };
    Message { id, payload, compressed: flag(vector, "zip") }
}

fn plain(message: &Message, body: Bytes) -> Bytes {
    if !message.compressed {
        return body;
    }
    snap::raw::Decoder::new().decompress_vec(&body).expect("a Snappy block").into()
}

#[test]
fn every_vector_reads_as_python_meant_it_and_is_written_as_python_writes_it() {
    let vectors: Value = serde_json::from_str(include_str!("../golden/dialect1.json")).expect("JSON");
    let vectors = vectors.as_array().expect("an array");
    assert!(vectors.len() > 100, "only {} vectors", vectors.len());
    for vector in vectors {
        let name = text(vector, "name");
        let (header, body) = (bytes(&vector["header"]), bytes(&vector["body"]));
        let expected = message(vector);

        let read = decode_header(&header).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((&read.id, read.compressed), (&expected.id, expected.compressed), "{name}");
        let payload = decode_body(&read, body.clone(), expected.payload.size());
        assert_eq!(payload.as_ref(), Ok(&expected.payload), "{name}");

        let [marker, header_of_ours, body_of_ours] =
            Encoder::default().encode(&expected).into_three().expect("three frames");
        assert_eq!((marker, header_of_ours), (UPPER, header), "{name}");
        let has_body = matches!(expected.payload, Payload::Function(_) | Payload::Result(_));
        if has_body && vector["payload"].get("bin").is_none() {
            // A body is bytes here, and is written as such whatever it was.
            assert_eq!(decode_body(&read, body_of_ours, usize::MAX), payload, "{name}");
        } else if flag(vector, "decode_only") {
            assert_eq!(plain(&expected, body_of_ours), plain(&expected, body), "{name}");
        } else {
            assert_eq!(body_of_ours, body, "{name}");
        }
    }
}
