//! Arguments that are not read by derived code: those of a method that has none, and those in the shape
//! `{"args": […], "kwargs": {…}}`, which some Python services use.
//!
//! The idea of the latter: `args` and `kwargs` are both read as the same struct, whose fields may all be missing, `args` by position
//! and `kwargs` by name, and then merged.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{Error as ValueError, MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};

/// The arguments of a method that has none: a map, whose names are all unknown, or "nothing".
#[derive(Debug)]
pub struct NoArguments {}

impl<'de> Deserialize<'de> for NoArguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct_or_nothing(deserializer, &[], Nothing)
    }
}

/// Reads a struct of these fields, or "nothing".
fn struct_or_nothing<'de, D: Deserializer<'de>, V: Visitor<'de>>(
    deserializer: D,
    fields: &'static [&'static str],
    visitor: V,
) -> Result<V::Value, D::Error> {
    // JSON's reader refuses a `null` if it is asked for a struct, and a format that does not tell types can't be asked for anything.
    match deserializer.is_human_readable() {
        true => deserializer.deserialize_any(visitor),
        false => deserializer.deserialize_struct("Arguments", fields, visitor),
    }
}

struct Nothing;

impl<'de> Visitor<'de> for Nothing {
    type Value = NoArguments;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an empty map, or nothing, as there are no arguments")
    }

    fn visit_unit<E: Error>(self) -> Result<NoArguments, E> {
        Ok(NoArguments {})
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NoArguments, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(NoArguments {})
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<NoArguments, A::Error> {
        match list.next_element::<IgnoredAny>()? {
            None => Ok(NoArguments {}),
            Some(_) => Err(A::Error::invalid_length(1, &self)),
        }
    }
}

/// The argument on the wire. "Nothing" is read as no arguments.
#[derive(Debug, Default, Serialize)]
pub struct ArgsKwargs<A, K> {
    /// By position.
    pub args: A,
    /// By name.
    pub kwargs: K,
}

/// The same, as derived code reads it.
#[derive(Deserialize)]
#[serde(remote = "ArgsKwargs")]
struct Both<A, K> {
    #[serde(default)]
    args: A,
    #[serde(default)]
    kwargs: K,
}

impl<'de, A, K> Deserialize<'de> for ArgsKwargs<A, K>
where
    A: Deserialize<'de> + Default,
    K: Deserialize<'de> + Default,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct_or_nothing(deserializer, &["args", "kwargs"], BothOrNothing(PhantomData))
    }
}

struct BothOrNothing<A, K>(PhantomData<(A, K)>);

impl<'de, A, K> Visitor<'de> for BothOrNothing<A, K>
where
    A: Deserialize<'de> + Default,
    K: Deserialize<'de> + Default,
{
    type Value = ArgsKwargs<A, K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of `args` and `kwargs`")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(ArgsKwargs::default())
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
        Both::deserialize(MapAccessDeserializer::new(map))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, list: S) -> Result<Self::Value, S::Error> {
        Both::deserialize(SeqAccessDeserializer::new(list))
    }
}

/// An argument that may be missing, which is not the same as one that is `null`.
#[derive(Debug)]
pub struct Given<T>(Option<T>);

impl<T> Default for Given<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|argument| Self(Some(argument)))
    }
}

/// An argument that was given by position, by name, or not at all.
///
/// # Errors
/// If it was given twice; or not at all, has no default, and is no `Option`.
pub fn merge<T: DeserializeOwned>(
    name: &'static str,
    positional: Given<T>,
    named: Given<T>,
    default: Option<fn() -> T>,
) -> Result<T, String> {
    match (positional.0, named.0, default) {
        (Some(_), Some(_), _) => Err(format!("the argument `{name}` is given by position and by name")),
        (Some(argument), None, _) | (None, Some(argument), _) => Ok(argument),
        (None, None, Some(default)) => Ok(default()),
        (None, None, None) => T::deserialize(Missing(name)).map_err(|error| error.to_string()),
    }
}

/// Stands for a missing argument: `None` for an `Option`, as serde's derived code has it.
struct Missing(&'static str);

impl<'de> Deserializer<'de> for Missing {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ValueError> {
        Err(ValueError::custom(format_args!("the argument `{}` is missing", self.0)))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Codec;

    #[test]
    fn no_arguments_are_a_map_or_nothing() {
        for codec in [Codec::Json, Codec::MsgPack] {
            let read = |bytes: Result<bytes::Bytes, _>| {
                codec.decode::<NoArguments>(&bytes.expect("it can be written"))
            };
            read(codec.encode(&())).expect("nothing");
            read(codec.encode(&serde_json::json!({}))).expect("a map");
            read(codec.encode(&serde_json::json!({"unknown": [1, {}]}))).expect("what is unknown is ignored");
            read(codec.encode(&[7])).expect_err("there is no argument for that");
            let error = read(codec.encode(&7)).expect_err("no map").to_string();
            assert!(error.contains("there are no arguments"), "{error}");
        }
    }
}
