//! Rust's types as Thrift's.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::error::ReadError;
use crate::reader::{Decode, Reader};
use crate::wire_type::WireType;
use crate::writer::{Encode, Writer};

macro_rules! integers {
    ($($number:ty: $wire_type:ident;)*) => { $(
        impl Encode for $number {
            const WIRE_TYPE: WireType = WireType::$wire_type;

            fn encode(&self, to: &mut Writer) {
                to.integer((*self).into(), size_of::<Self>());
            }
        }

        impl Decode for $number {
            const WIRE_TYPE: WireType = WireType::$wire_type;

            fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
                from.integer()
            }
        }
    )* };
}

integers! {
    i16: I16;
    i32: I32;
    i64: I64;
}

impl Encode for i8 {
    const WIRE_TYPE: WireType = WireType::I8;

    fn encode(&self, to: &mut Writer) {
        to.put(&self.to_be_bytes());
    }
}

impl Decode for i8 {
    const WIRE_TYPE: WireType = WireType::I8;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        from.array().map(Self::from_be_bytes)
    }
}

impl Encode for f64 {
    const WIRE_TYPE: WireType = WireType::Double;

    fn encode(&self, to: &mut Writer) {
        to.double(*self);
    }
}

impl Decode for f64 {
    const WIRE_TYPE: WireType = WireType::Double;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        from.double()
    }
}

impl Encode for bool {
    const WIRE_TYPE: WireType = WireType::Bool;

    fn encode(&self, to: &mut Writer) {
        to.flag(*self);
    }
}

impl Decode for bool {
    const WIRE_TYPE: WireType = WireType::Bool;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        from.flag()
    }
}

impl Encode for str {
    const WIRE_TYPE: WireType = WireType::Binary;

    fn encode(&self, to: &mut Writer) {
        to.slice(self.as_bytes());
    }
}

impl Encode for String {
    const WIRE_TYPE: WireType = WireType::Binary;

    fn encode(&self, to: &mut Writer) {
        self.as_str().encode(to);
    }
}

impl Decode for String {
    const WIRE_TYPE: WireType = WireType::Binary;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        from.text()
    }
}

impl Encode for Bytes {
    const WIRE_TYPE: WireType = WireType::Binary;

    fn encode(&self, to: &mut Writer) {
        to.slice(self);
    }
}

impl Decode for Bytes {
    const WIRE_TYPE: WireType = WireType::Binary;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        from.bytes()
    }
}

/// A UUID, in the order of its text.
impl Encode for [u8; 16] {
    const WIRE_TYPE: WireType = WireType::Uuid;

    fn encode(&self, to: &mut Writer) {
        to.put(self);
    }
}

impl Decode for [u8; 16] {
    const WIRE_TYPE: WireType = WireType::Uuid;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        from.array()
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    const WIRE_TYPE: WireType = T::WIRE_TYPE;

    fn encode(&self, to: &mut Writer) {
        (**self).encode(to);
    }
}

impl<T: Encode> Encode for Box<T> {
    const WIRE_TYPE: WireType = T::WIRE_TYPE;

    fn encode(&self, to: &mut Writer) {
        (**self).encode(to);
    }
}

impl<T: Decode> Decode for Box<T> {
    const WIRE_TYPE: WireType = T::WIRE_TYPE;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        from.charge(size_of::<T>())?;
        T::decode(from).map(Box::new)
    }
}

impl<T: Encode> Encode for [T] {
    const WIRE_TYPE: WireType = WireType::List;

    fn encode(&self, to: &mut Writer) {
        to.elements(T::WIRE_TYPE, self.len());
        self.iter().for_each(|element| element.encode(to));
    }
}

impl<T: Encode> Encode for Vec<T> {
    const WIRE_TYPE: WireType = WireType::List;

    fn encode(&self, to: &mut Writer) {
        self.as_slice().encode(to);
    }
}

impl<T: Decode> Decode for Vec<T> {
    const WIRE_TYPE: WireType = WireType::List;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        let mut list = Self::new();
        from.elements(T::WIRE_TYPE, |from| {
            from.charge_element::<T>(list.len())?;
            list.push(T::decode(from)?);
            Ok(())
        })?;
        Ok(list)
    }
}

impl<T: Encode> Encode for BTreeSet<T> {
    const WIRE_TYPE: WireType = WireType::Set;

    fn encode(&self, to: &mut Writer) {
        to.elements(T::WIRE_TYPE, self.len());
        self.iter().for_each(|element| element.encode(to));
    }
}

impl<T: Decode + Ord> Decode for BTreeSet<T> {
    const WIRE_TYPE: WireType = WireType::Set;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        let mut set = Self::new();
        from.elements(T::WIRE_TYPE, |from| {
            from.charge_entry::<T>(set.len())?;
            set.insert(T::decode(from)?);
            Ok(())
        })?;
        Ok(set)
    }
}

impl<K: Encode, V: Encode> Encode for BTreeMap<K, V> {
    const WIRE_TYPE: WireType = WireType::Map;

    fn encode(&self, to: &mut Writer) {
        to.entries(K::WIRE_TYPE, V::WIRE_TYPE, self.len());
        for (key, value) in self {
            key.encode(to);
            value.encode(to);
        }
    }
}

impl<K: Decode + Ord, V: Decode> Decode for BTreeMap<K, V> {
    const WIRE_TYPE: WireType = WireType::Map;

    /// Of entries with the same key, the last counts.
    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        let mut map = Self::new();
        from.entries((K::WIRE_TYPE, V::WIRE_TYPE), |from| {
            from.charge_entry::<(K, V)>(map.len())?;
            let key = K::decode(from)?;
            map.insert(key, V::decode(from)?);
            Ok(())
        })?;
        Ok(map)
    }
}

mod sealed {
    /// Keeps other crates from implementing [`Output`](super::Output), so that it can get further methods.
    pub trait Sealed {}
}

impl<T: Encode + Decode> sealed::Sealed for T {}
impl sealed::Sealed for () {}

/// What a method returns: a value, or nothing. Sealed: every type that is [`Encode`] and [`Decode`] has it, and `()`.
pub trait Output: sealed::Sealed + Sized {
    /// Writes it as the field 0 of a result.
    fn write(&self, to: &mut Writer);

    /// Reads it from the field 0 of a result; `None` if the field is of another type.
    ///
    /// # Errors
    /// If the value is malformed.
    fn read(from: &mut Reader<'_>, wire_type: WireType) -> Result<Option<Self>, ReadError>;

    /// What a result without a field is, if that is a result.
    fn absent() -> Option<Self>;
}

impl<T: Encode + Decode> Output for T {
    fn write(&self, to: &mut Writer) {
        to.field(0, self);
    }

    fn read(from: &mut Reader<'_>, wire_type: WireType) -> Result<Option<Self>, ReadError> {
        let mut place = None;
        from.field(wire_type, &mut place)?;
        Ok(place)
    }

    fn absent() -> Option<Self> {
        None
    }
}

impl Output for () {
    fn write(&self, _: &mut Writer) {}

    fn read(from: &mut Reader<'_>, wire_type: WireType) -> Result<Option<Self>, ReadError> {
        from.skip(wire_type)?;
        Ok(None)
    }

    fn absent() -> Option<Self> {
        Some(())
    }
}
