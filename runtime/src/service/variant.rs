//! The name of an enum's variant, or of a struct, as serde has it.
//!
//! The idea: a serializer that stops at the first name that it receives. It reads no data.

use std::fmt;

use serde::ser::{Error, Impossible, Serialize, Serializer};

/// The name of a value's variant, if it is an externally tagged enum, or of its type, if that is a struct.
pub(super) fn variant_of<T: Serialize + ?Sized>(value: &T) -> Option<&'static str> {
    match value.serialize(Names) {
        Err(Name(name)) => name,
        Ok(never) => match never {},
    }
}

enum Never {}

/// The name, or `None` if the value has none. An error, for it ends the serialization.
#[derive(Debug)]
struct Name(Option<&'static str>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.unwrap_or("a value without a name"))
    }
}

impl std::error::Error for Name {}

impl Error for Name {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(None)
    }
}

type Found<T = Never> = Result<T, Name>;

struct Names;

macro_rules! nameless {
    ($($method:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $method(self, $(_: $argument),*) -> nameless!(@ $($result)?) {
            Err(Name(None))
        })*
    };
    (@) => { Found };
    (@ $result:ty) => { Found<$result> };
}

impl Serializer for Names {
    type Ok = Never;
    type Error = Name;
    type SerializeSeq = Impossible<Never, Name>;
    type SerializeTuple = Impossible<Never, Name>;
    type SerializeTupleStruct = Impossible<Never, Name>;
    type SerializeTupleVariant = Impossible<Never, Name>;
    type SerializeMap = Impossible<Never, Name>;
    type SerializeStruct = Impossible<Never, Name>;
    type SerializeStructVariant = Impossible<Never, Name>;

    nameless! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_map(Option<usize>) -> Self::SerializeMap;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Found {
        value.serialize(self)
    }

    fn serialize_unit_struct(self, name: &'static str) -> Found {
        Err(Name(Some(name)))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, _: &T) -> Found {
        Err(Name(Some(name)))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Found<Self::SerializeTupleStruct> {
        Err(Name(Some(name)))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Found<Self::SerializeStruct> {
        Err(Name(Some(name)))
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Found {
        Err(Name(Some(variant)))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Found {
        Err(Name(Some(variant)))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Found<Self::SerializeTupleVariant> {
        Err(Name(Some(variant)))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Found<Self::SerializeStructVariant> {
        Err(Name(Some(variant)))
    }
}
