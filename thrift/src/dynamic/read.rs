//! Values to JSON. The bytes are a peer's: they go through the same [`Reader`] and the same limits as those of generated types.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use callosum_thrift_idl::{EnumValue, Flavour, Kind, Requiredness, Schema, Struct, Type};
use serde_json::{Map, Value};

use crate::error::ReadError;
use crate::reader::{Decode, Reader};
use crate::wire_type::WireType;

/// The type on the wire.
pub(super) fn wire_type(schema: &Schema, ty: &Type) -> WireType {
    match schema.underlying(ty) {
        Type::Bool => WireType::Bool,
        Type::I8 => WireType::I8,
        Type::I16 => WireType::I16,
        Type::I32 => WireType::I32,
        Type::I64 => WireType::I64,
        Type::Double => WireType::Double,
        Type::String | Type::Binary => WireType::Binary,
        Type::Uuid => WireType::Uuid,
        Type::List(_) => WireType::List,
        Type::Set(_) => WireType::Set,
        Type::Map(..) => WireType::Map,
        Type::Named(reference) => match schema.definition(reference.target()).kind {
            Kind::Enum(_) => WireType::I32,
            _ => WireType::Struct,
        },
    }
}

/// Reads a value of a type.
pub(super) fn value(schema: &Schema, ty: &Type, from: &mut Reader<'_>) -> Result<Value, ReadError> {
    match schema.underlying(ty) {
        Type::Bool => bool::decode(from).map(Value::from),
        Type::I8 => i8::decode(from).map(Value::from),
        Type::I16 => i16::decode(from).map(Value::from),
        Type::I32 => i32::decode(from).map(Value::from),
        Type::I64 => i64::decode(from).map(Value::from),
        Type::Double => f64::decode(from).map(double),
        Type::String => String::decode(from).map(Value::from),
        Type::Binary => Bytes::decode(from).map(|bytes| STANDARD.encode(bytes).into()),
        Type::Uuid => <[u8; 16]>::decode(from).map(|bytes| uuid(bytes).into()),
        Type::List(element) | Type::Set(element) => {
            let mut items = Vec::new();
            from.elements(wire_type(schema, element), |from| {
                from.charge(size_of::<Value>())?;
                items.push(value(schema, element, from)?);
                Ok(())
            })?;
            Ok(items.into())
        }
        Type::Map(key, element) => map(schema, key, element, from),
        Type::Named(reference) => match &schema.definition(reference.target()).kind {
            Kind::Enum(values) => i32::decode(from).map(|number| enumeration(values, number)),
            Kind::Struct(content) => structure(schema, content, from),
            _ => unreachable!("a named type that is not a typedef is an enum or a struct"),
        },
    }
}

fn double(number: f64) -> Value {
    match number {
        _ if number.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        number => number.into(),
    }
}

fn uuid(bytes: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

fn enumeration(values: &[EnumValue], number: i32) -> Value {
    match values.iter().find(|value| value.number == number) {
        Some(value) => value.name.clone().into(),
        None => number.into(),
    }
}

/// Whether keys of this type are the names of an object's entries.
pub(super) fn is_name(schema: &Schema, key: &Type) -> bool {
    match schema.underlying(key) {
        Type::Bool | Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::String => true,
        Type::Named(reference) => matches!(schema.definition(reference.target()).kind, Kind::Enum(_)),
        _ => false,
    }
}

fn map(schema: &Schema, key: &Type, element: &Type, from: &mut Reader<'_>) -> Result<Value, ReadError> {
    let mut entries = Vec::new();
    from.entries((wire_type(schema, key), wire_type(schema, element)), |from| {
        from.charge_element::<(Value, Value)>(entries.len())?;
        from.charge_entry::<(String, Value)>(entries.len())?;
        entries.push((value(schema, key, from)?, value(schema, element, from)?));
        Ok(())
    })?;
    if !is_name(schema, key) {
        return Ok(entries.into_iter().map(|(key, value)| Value::from(vec![key, value])).collect());
    }
    let named = entries.into_iter().map(|(key, value)| match key {
        Value::String(text) => (text, value),
        other => (other.to_string(), value),
    });
    Ok(Value::Object(named.collect()))
}

fn structure(schema: &Schema, content: &Struct, from: &mut Reader<'_>) -> Result<Value, ReadError> {
    let (mut object, mut known) = (Map::new(), 0);
    from.structure(|from, number, found| {
        match content.fields.iter().find(|field| field.id == number) {
            Some(field) if wire_type(schema, &field.ty) == found => {
                from.charge(field.name.len())?;
                from.charge_entry::<(String, Value)>(object.len())?;
                known += 1;
                object.insert(field.name.clone(), value(schema, &field.ty, from)?);
            }
            _ => from.skip(found)?,
        }
        Ok(())
    })?;
    let is_missing = |field: &callosum_thrift_idl::Field| {
        field.requiredness == Requiredness::Required && !object.contains_key(&field.name)
    };
    if content.fields.iter().any(is_missing) {
        return Err(ReadError::MissingField("of a struct"));
    }
    if content.flavour == Flavour::Union && known != 1 {
        return Err(ReadError::Union("of the file"));
    }
    Ok(object.into())
}
