//! Types, as Rust writes them.

use callosum_thrift_idl::{DefId, Kind, Reference, Schema, Type};

use crate::analysis::has_order;
use crate::names;

/// The path of the module that a definition is in, from within a module beside it.
pub(crate) fn module(schema: &Schema, id: DefId) -> String {
    format!("super::{}", names::of_module(schema.files()[id.file()].name()))
}

/// The path of a definition from within a module beside its own.
pub(crate) fn path(schema: &Schema, id: DefId) -> String {
    format!("{}::{}", module(schema, id), names::of_type(&schema.definition(id).name))
}

fn named(schema: &Schema, reference: &Reference) -> String {
    path(schema, reference.target())
}

/// A type as values of it are kept.
pub(crate) fn owned(schema: &Schema, ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".into(),
        Type::I8 => "i8".into(),
        Type::I16 => "i16".into(),
        Type::I32 => "i32".into(),
        Type::I64 => "i64".into(),
        Type::Double => "f64".into(),
        Type::String => "::std::string::String".into(),
        Type::Binary => "::callosum_thrift::Bytes".into(),
        Type::Uuid => "[u8; 16]".into(),
        Type::List(element) => format!("::std::vec::Vec<{}>", owned(schema, element)),
        Type::Set(element) => {
            let set = if has_order(schema, element) {
                "::std::collections::BTreeSet"
            } else {
                "::callosum_thrift::SetVec"
            };
            format!("{set}<{}>", owned(schema, element))
        }
        Type::Map(key, value) => {
            let map = if has_order(schema, key) {
                "::std::collections::BTreeMap"
            } else {
                "::callosum_thrift::MapVec"
            };
            format!("{map}<{}, {}>", owned(schema, key), owned(schema, value))
        }
        Type::Named(reference) => named(schema, reference),
    }
}

/// A type as a client is given it: what is small as it is, everything else borrowed.
pub(crate) fn borrowed(schema: &Schema, ty: &Type) -> String {
    match schema.underlying(ty) {
        Type::Bool | Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Double | Type::Uuid => {
            owned(schema, ty)
        }
        Type::String => "&str".into(),
        Type::List(element) => format!("&[{}]", owned(schema, element)),
        Type::Named(reference) if matches!(schema.definition(reference.target()).kind, Kind::Enum(_)) => {
            owned(schema, ty)
        }
        _ => format!("&{}", owned(schema, ty)),
    }
}

/// A type as a file has it.
pub(crate) fn written(ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".into(),
        Type::I8 => "i8".into(),
        Type::I16 => "i16".into(),
        Type::I32 => "i32".into(),
        Type::I64 => "i64".into(),
        Type::Double => "double".into(),
        Type::String => "string".into(),
        Type::Binary => "binary".into(),
        Type::Uuid => "uuid".into(),
        Type::List(element) => format!("list<{}>", written(element)),
        Type::Set(element) => format!("set<{}>", written(element)),
        Type::Map(key, value) => format!("map<{}, {}>", written(key), written(value)),
        Type::Named(reference) => reference.name.clone(),
    }
}
