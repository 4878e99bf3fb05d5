//! JSON to values.
//!
//! The idea: the path to the current value is kept for error messages, whose reader has typed the JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use callosum_thrift_idl::{EnumValue, Field, Flavour, Kind, Requiredness, Schema, Struct, Type};
use serde_json::{Map, Value};

use super::error::JsonError;
use super::read::{is_name, wire_type};
use crate::writer::{Encode, Writer};

type Result<T> = std::result::Result<T, JsonError>;

/// Writes the arguments of a call as a struct. One that the file does not call optional has to be there, unless it has a default.
pub(super) fn arguments(schema: &Schema, fields: &[Field], object: &Value, to: &mut Writer) -> Result<()> {
    let Value::Object(object) = object else {
        return wrong("the argument", "object of arguments by their names");
    };
    let must_be_there =
        |field: &Field| field.requiredness != Requiredness::Optional && field.default.is_none();
    structure(schema, fields, object, "", must_be_there, to)
}

fn wrong<T>(path: &str, expected: impl Into<String>) -> Result<T> {
    Err(JsonError::WrongType { path: path.to_owned(), expected: expected.into() })
}

fn within(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn structure(
    schema: &Schema,
    fields: &[Field],
    object: &Map<String, Value>,
    path: &str,
    must_be_there: impl Fn(&Field) -> bool,
    to: &mut Writer,
) -> Result<()> {
    if let Some(unknown) = object.keys().find(|name| !fields.iter().any(|field| field.name == **name)) {
        return Err(JsonError::UnknownField(within(path, unknown)));
    }
    for field in fields {
        let path = within(path, &field.name);
        match object.get(&field.name) {
            // `null` counts as missing.
            None | Some(Value::Null) if must_be_there(field) => return Err(JsonError::MissingField(path)),
            None | Some(Value::Null) => {}
            Some(given) => {
                to.field_of(field.id, wire_type(schema, &field.ty), |to| {
                    value(schema, &field.ty, given, &path, to)
                })?;
            }
        }
    }
    to.stop();
    Ok(())
}

fn value(schema: &Schema, ty: &Type, given: &Value, path: &str, to: &mut Writer) -> Result<()> {
    match schema.underlying(ty) {
        Type::Bool => match given {
            Value::Bool(given) => given.encode(to),
            _ => return wrong(path, "bool"),
        },
        Type::I8 => number::<i8>(given, path, "byte")?.encode(to),
        Type::I16 => number::<i16>(given, path, "i16")?.encode(to),
        Type::I32 => number::<i32>(given, path, "i32")?.encode(to),
        Type::I64 => number::<i64>(given, path, "i64")?.encode(to),
        Type::Double => double(given, path)?.encode(to),
        Type::String => text(given, path, "text")?.encode(to),
        Type::Binary => match STANDARD.decode(text(given, path, "text in Base64")?) {
            Ok(bytes) => Bytes::from(bytes).encode(to),
            Err(_) => return wrong(path, "text in Base64"),
        },
        Type::Uuid => uuid(text(given, path, "UUID")?, path)?.encode(to),
        Type::List(element) | Type::Set(element) => {
            let Value::Array(items) = given else { return wrong(path, "array") };
            to.elements(wire_type(schema, element), items.len());
            for (place, item) in items.iter().enumerate() {
                value(schema, element, item, &format!("{path}[{place}]"), to)?;
            }
        }
        Type::Map(key, element) => map(schema, (key, element), given, path, to)?,
        Type::Named(reference) => {
            let definition = schema.definition(reference.target());
            match (&definition.kind, given) {
                (Kind::Enum(values), given) => enumeration(values, &definition.name, given, path)?.encode(to),
                (Kind::Struct(content), Value::Object(object)) => named(schema, content, object, path, to)?,
                _ => return wrong(path, format!("object with the fields of {}", definition.name)),
            }
        }
    }
    Ok(())
}

fn named(
    schema: &Schema,
    content: &Struct,
    object: &Map<String, Value>,
    path: &str,
    to: &mut Writer,
) -> Result<()> {
    if content.flavour == Flavour::Union && object.len() != 1 {
        return wrong(path, "union with exactly one field");
    }
    let is_required = |field: &Field| {
        field.requiredness == Requiredness::Required
            || (content.flavour == Flavour::Union && object.contains_key(&field.name))
    };
    structure(schema, &content.fields, object, path, is_required, to)
}

fn number<T: TryFrom<i64>>(given: &Value, path: &str, expected: &str) -> Result<T> {
    match given.as_i64().and_then(|number| T::try_from(number).ok()) {
        Some(number) => Ok(number),
        None => wrong(path, expected),
    }
}

fn double(given: &Value, path: &str) -> Result<f64> {
    match given {
        Value::String(text) if text == "NaN" => Ok(f64::NAN),
        Value::String(text) if text == "Infinity" => Ok(f64::INFINITY),
        Value::String(text) if text == "-Infinity" => Ok(f64::NEG_INFINITY),
        other => other.as_f64().map_or_else(|| wrong(path, "double"), Ok),
    }
}

fn text<'a>(given: &'a Value, path: &str, expected: &str) -> Result<&'a str> {
    given.as_str().map_or_else(|| wrong(path, expected), Ok)
}

fn uuid(text: &str, path: &str) -> Result<[u8; 16]> {
    let digits: String = text.chars().filter(|digit| *digit != '-').collect();
    match u128::from_str_radix(&digits, 16) {
        Ok(number) if digits.len() == 32 && !digits.starts_with('+') => Ok(number.to_be_bytes()),
        _ => wrong(path, "UUID"),
    }
}

fn enumeration(values: &[EnumValue], name: &str, given: &Value, path: &str) -> Result<i32> {
    match given {
        Value::String(text) => match values.iter().find(|value| value.name == *text) {
            Some(value) => Ok(value.number),
            None => wrong(path, format!("value of {name}")),
        },
        other => number(other, path, name),
    }
}

fn map(
    schema: &Schema,
    (key, element): (&Type, &Type),
    given: &Value,
    path: &str,
    to: &mut Writer,
) -> Result<()> {
    let begin =
        |to: &mut Writer, count| to.entries(wire_type(schema, key), wire_type(schema, element), count);
    match given {
        Value::Object(object) if is_name(schema, key) => {
            begin(to, object.len());
            for (name, item) in object {
                let path = format!("{path}[{name:?}]");
                value(schema, key, &key_value(schema, key, name), &path, to)?;
                value(schema, element, item, &path, to)?;
            }
        }
        Value::Array(entries) => {
            begin(to, entries.len());
            for (place, entry) in entries.iter().enumerate() {
                let path = format!("{path}[{place}]");
                let Some([name, item]) = entry.as_array().map(Vec::as_slice) else {
                    return wrong(&path, "array of a key and a value");
                };
                value(schema, key, name, &path, to)?;
                value(schema, element, item, &path, to)?;
            }
        }
        _ => return wrong(path, "map"),
    }
    Ok(())
}

/// The name of an object's entry as a value: a text, or what the text says.
fn key_value(schema: &Schema, key: &Type, name: &str) -> Value {
    match schema.underlying(key) {
        Type::String => name.into(),
        _ => match name.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) if matches!(name, "true" | "false") && matches!(schema.underlying(key), Type::Bool) => {
                (name == "true").into()
            }
            Err(_) => name.into(),
        },
    }
}
