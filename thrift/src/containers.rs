//! Sets and maps of what has no order, and so can be in no `BTreeSet` or `BTreeMap`: a double, or a struct that holds one.

use crate::error::ReadError;
use crate::reader::{Decode, Reader};
use crate::wire_type::WireType;
use crate::writer::{Encode, Writer};

/// A set whose elements have no order, as doubles. Which of them are the same is up to you: it is written and read as it is.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub struct SetVec<T>(pub Vec<T>);

/// A map whose keys have no order, as doubles. Which of them are the same is up to you: it is written and read as it is.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub struct MapVec<K, V>(pub Vec<(K, V)>);

impl<T> Default for SetVec<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Default for MapVec<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Encode> Encode for SetVec<T> {
    const WIRE_TYPE: WireType = WireType::Set;

    fn encode(&self, to: &mut Writer) {
        self.0.encode(to);
    }
}

impl<T: Decode> Decode for SetVec<T> {
    const WIRE_TYPE: WireType = WireType::Set;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        Vec::decode(from).map(Self)
    }
}

impl<K: Encode, V: Encode> Encode for MapVec<K, V> {
    const WIRE_TYPE: WireType = WireType::Map;

    fn encode(&self, to: &mut Writer) {
        to.entries(K::WIRE_TYPE, V::WIRE_TYPE, self.0.len());
        for (key, value) in &self.0 {
            key.encode(to);
            value.encode(to);
        }
    }
}

impl<K: Decode, V: Decode> Decode for MapVec<K, V> {
    const WIRE_TYPE: WireType = WireType::Map;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        let mut entries = Vec::new();
        from.entries((K::WIRE_TYPE, V::WIRE_TYPE), |from| {
            from.charge_element::<(K, V)>(entries.len())?;
            entries.push((K::decode(from)?, V::decode(from)?));
            Ok(())
        })?;
        Ok(Self(entries))
    }
}
