//! JSON on the command line, whatever travels on the wire.

use std::io::Read;

use bytes::Bytes;
use callosum_runtime::{CallError, Codec, CodecError};
use serde_json::Value;
use serde_json::value::RawValue;

/// An argument as it was typed, checked.
pub(crate) struct Argument(Box<RawValue>);

impl Argument {
    /// `-` reads stdin.
    ///
    /// # Errors
    /// If it is not one JSON value. What is wrong with it is the text of the error.
    pub(crate) fn parse(text: String) -> Result<Self, String> {
        let text = if text == "-" {
            let mut input = String::new();
            std::io::stdin().read_to_string(&mut input).map_err(|error| format!("stdin: {error}"))?;
            input
        } else {
            text
        };
        serde_json::from_str(&text).map(Self).map_err(|error| format!("the argument is not JSON: {error}"))
    }

    /// As JSON it travels as it was typed, so that numbers of any size stay what they are.
    pub(crate) fn encode(&self, codec: &Codec) -> Result<Bytes, CallError> {
        match codec {
            Codec::Json => Ok(Bytes::copy_from_slice(self.0.get().as_bytes())),
            other => {
                let value: Value = serde_json::from_str(self.0.get())
                    .map_err(|error| CallError::Encode(CodecError::Json(error)))?;
                other.encode(&value).map_err(CallError::Encode)
            }
        }
    }
}

/// A result as one line of JSON.
///
/// MessagePack has values that JSON has not: bytes become `{"hex": "…"}`, extensions `{"ext": type, "hex": "…"}`,
/// numbers that are not finite become texts, and so do keys that are no text.
pub(crate) fn to_line(codec: &Codec, body: &[u8]) -> Result<String, CallError> {
    match codec {
        Codec::Json => Ok(codec.decode::<Box<RawValue>>(body).map_err(CallError::Decode)?.to_line()),
        other => Ok(other.decode::<rmpv::Value>(body).map_err(CallError::Decode)?.to_line()),
    }
}

/// A value of some codec as one line of JSON.
pub(crate) trait ToLine {
    fn to_line(self) -> String;
}

impl ToLine for Box<RawValue> {
    fn to_line(self) -> String {
        // Texts in JSON hold no bare line breaks, so these stand between its parts.
        escape(self.get().replace(['\n', '\r'], " "))
    }
}

impl ToLine for rmpv::Value {
    fn to_line(self) -> String {
        escape(to_json(self).to_string())
    }
}

/// Terminals obey control characters. JSON has those below U+0020 escaped always; the others stand in texts only.
fn escape(json: String) -> String {
    if !json.contains(char::is_control) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        match character {
            '\u{7f}'..='\u{9f}' => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => escaped.push(character),
        }
    }
    escaped
}

fn to_json(value: rmpv::Value) -> Value {
    use rmpv::Value as MsgPack;
    match value {
        MsgPack::Nil => Value::Null,
        MsgPack::Boolean(value) => value.into(),
        MsgPack::Integer(value) => match (value.as_u64(), value.as_i64()) {
            (Some(value), _) => value.into(),
            (None, value) => value.into(),
        },
        MsgPack::F32(value) => float(value.into()),
        MsgPack::F64(value) => float(value),
        MsgPack::String(value) => match value.into_str() {
            Some(text) => text.into(),
            None => Value::Null,
        },
        MsgPack::Binary(bytes) => serde_json::json!({ "hex": hex(&bytes) }),
        MsgPack::Ext(kind, bytes) => serde_json::json!({ "ext": kind, "hex": hex(&bytes) }),
        MsgPack::Array(items) => items.into_iter().map(to_json).collect(),
        MsgPack::Map(entries) => {
            let entry = |(key, value)| {
                let key = match to_json(key) {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                (key, to_json(value))
            };
            Value::Object(entries.into_iter().map(entry).collect())
        }
    }
}

fn float(value: f64) -> Value {
    if value.is_finite() { value.into() } else { value.to_string().into() }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_numbers_of_any_size_and_takes_one_line() {
        let argument =
            Argument::parse(String::from("{\"n\": 123456789012345678901234567890,\n \"s\": \"a\\nb\"}"));
        let body = argument.unwrap().encode(&Codec::Json).unwrap();
        let line = to_line(&Codec::Json, &body).unwrap();
        assert_eq!(line, "{\"n\": 123456789012345678901234567890,  \"s\": \"a\\nb\"}");
    }

    #[test]
    fn a_text_that_is_not_json_is_refused() {
        for text in ["", "{", "{} {}", "nul"] {
            assert!(Argument::parse(text.into()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn messagepack_values_that_json_lacks_are_written_as_texts() {
        let value = rmpv::Value::Map(vec![
            (1.into(), rmpv::Value::Binary(vec![0, 255])),
            ("x".into(), rmpv::Value::F64(f64::INFINITY)),
            ("y".into(), rmpv::Value::Ext(3, vec![7])),
            ("z".into(), rmpv::Value::Array(vec![(-1).into(), u64::MAX.into(), rmpv::Value::Nil])),
        ]);
        let body = Codec::MsgPack.encode(&value).unwrap();
        let line = to_line(&Codec::MsgPack, &body).unwrap();
        assert_eq!(
            line,
            r#"{"1":{"hex":"00ff"},"x":"inf","y":{"ext":3,"hex":"07"},"z":[-1,18446744073709551615,null]}"#
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        let text = "a\u{7f}\u{80}\u{9b}2J\u{9f}\u{a0}ü";
        for codec in [Codec::Json, Codec::MsgPack] {
            let line = to_line(&codec, &codec.encode(&[text]).unwrap()).unwrap();
            assert_eq!(line, "[\"a\\u007f\\u0080\\u009b2J\\u009f\u{a0}ü\"]");
            assert_eq!(serde_json::from_str::<[String; 1]>(&line).unwrap(), [text]);
        }
        // One that may be a tab between two parts stays one.
        assert_eq!(to_line(&Codec::Json, b"[1,\t2]").unwrap(), "[1,\t2]");
    }

    #[test]
    fn a_json_argument_travels_as_messagepack() {
        let argument = Argument::parse(String::from(r#"{"a": [1, -2, 2.5, "x", null, true]}"#)).unwrap();
        let body = argument.encode(&Codec::MsgPack).unwrap();
        assert_eq!(to_line(&Codec::MsgPack, &body).unwrap(), r#"{"a":[1,-2,2.5,"x",null,true]}"#);
    }
}
