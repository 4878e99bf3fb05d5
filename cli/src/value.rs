//! JSON on the command line, whatever travels on the wire.

use bytes::Bytes;
use callosum_runtime::{CallError, Codec, CodecError};
use serde_json::Value;
use serde_json::value::RawValue;

/// An argument as it was written, checked.
///
/// # Errors
/// If it is not one JSON value. What is wrong with it is the text of the error.
pub(crate) fn parse(text: &[u8]) -> Result<Box<RawValue>, String> {
    serde_json::from_slice(text).map_err(|error| format!("the argument is not JSON: {error}"))
}

/// As JSON it travels as it was written, so that numbers of any size stay what they are.
pub(crate) fn encode(argument: &RawValue, codec: &Codec) -> Result<Bytes, CallError> {
    match codec {
        Codec::Json => Ok(Bytes::copy_from_slice(argument.get().as_bytes())),
        other => other.encode(&to_value(argument)?).map_err(CallError::Encode),
    }
}

/// The value, for codecs other than JSON.
pub(crate) fn to_value(argument: &RawValue) -> Result<Value, CallError> {
    serde_json::from_str(argument.get()).map_err(|error| CallError::Encode(CodecError::Json(error)))
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
        line(&to_json(self))
    }
}

/// A JSON value as one line.
pub(crate) fn line(value: &Value) -> String {
    escape(value.to_string())
}

/// Levels of nesting that are indented: deeper ones are unreadable anyway, and indentation by depth would take quadratic memory.
const MAX_INDENTED_LEVELS: usize = 32;

/// The same JSON value on several lines, indented by two spaces for each of the first 32 levels. It is changed only between its
/// tokens, so that numbers of any size stay what they are, and entries stay in their order. A text that is not JSON stays as it is.
pub(crate) fn indented(json: &str) -> String {
    if parse(json.as_bytes()).is_err() {
        return json.into();
    }
    let mut out = String::with_capacity(2 * json.len());
    let (mut depth, mut text) = (0, Text::Outside);
    let mut rest = json.chars();
    let new_line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth.min(MAX_INDENTED_LEVELS)));
    };
    while let Some(character) = rest.next() {
        let was = text;
        text = text.after(character);
        let is_empty = || matches!(rest.clone().find(|next| !next.is_ascii_whitespace()), Some('}' | ']'));
        match character {
            _ if was != Text::Outside => out.push(character),
            '{' | '[' if is_empty() => {
                out.push(character);
                out.extend(rest.find(|next| !next.is_ascii_whitespace()));
            }
            '{' | '[' => {
                depth += 1;
                out.push(character);
                new_line(&mut out, depth);
            }
            '}' | ']' => {
                // Each closes what was opened before, as the text is JSON.
                depth -= 1;
                new_line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(character);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ if character.is_ascii_whitespace() => {}
            _ => out.push(character),
        }
    }
    out
}

/// Where a character of JSON stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    /// After a backslash.
    Escaped,
}

impl Text {
    fn after(self, character: char) -> Self {
        match (self, character) {
            (Self::Outside, '"') | (Self::Escaped, _) => Self::Inside,
            (Self::Inside, '"') => Self::Outside,
            (Self::Inside, '\\') => Self::Escaped,
            (state, _) => state,
        }
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
        let argument = parse(b"{\"n\": 123456789012345678901234567890,\n \"s\": \"a\\nb\"}").unwrap();
        let body = encode(&argument, &Codec::Json).unwrap();
        let line = to_line(&Codec::Json, &body).unwrap();
        assert_eq!(line, "{\"n\": 123456789012345678901234567890,  \"s\": \"a\\nb\"}");
    }

    #[test]
    fn a_text_that_is_not_json_is_refused() {
        for text in ["", "{", "{} {}", "nul"] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
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
        // A tab between two tokens stays.
        assert_eq!(to_line(&Codec::Json, b"[1,\t2]").unwrap(), "[1,\t2]");
    }

    #[test]
    fn a_json_argument_travels_as_messagepack() {
        let argument = parse(br#"{"a": [1, -2, 2.5, "x", null, true]}"#).unwrap();
        let body = encode(&argument, &Codec::MsgPack).unwrap();
        assert_eq!(to_line(&Codec::MsgPack, &body).unwrap(), r#"{"a":[1,-2,2.5,"x",null,true]}"#);
    }

    #[test]
    fn indentation_changes_nothing_but_the_space_between_tokens() {
        let json = r#"{"n":123456789012345678901234567890,"e":[ ],"o":{},"a" : [1, {"t":"a\\\"b,{[:\\\\"}]}"#;
        let expected = r#"{
  "n": 123456789012345678901234567890,
  "e": [],
  "o": {},
  "a": [
    1,
    {
      "t": "a\\\"b,{[:\\\\"
    }
  ]
}"#;
        assert_eq!(indented(json), expected);
        assert_eq!(indented(expected), expected);
        for json in ["null", "\"a b\"", "[]", "1e5"] {
            assert_eq!(indented(json), json);
        }
    }

    #[test]
    fn a_text_that_is_not_json_is_not_indented() {
        for text in ["]", "{}}", "[", "[}", "{\"a\"", "not JSON, but [1, 2]", ""] {
            assert_eq!(indented(text), text);
        }
    }

    #[test]
    fn deep_nesting_is_indented_up_to_a_limit() {
        const LEVELS: usize = 10_000;
        let json = "[".repeat(LEVELS) + "1" + &"]".repeat(LEVELS);
        let text = indented(&json);
        assert_eq!(text.lines().count(), 2 * LEVELS + 1);
        let width = text.lines().map(str::len).max();
        assert_eq!(width, Some(2 * MAX_INDENTED_LEVELS + 1));
        assert_eq!(text.replace([' ', '\n'], ""), json);
    }
}
