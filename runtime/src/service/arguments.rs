//! Arguments in the shape `{"args": […], "kwargs": {…}}`, which some Python services use.
//!
//! The idea: `args` and `kwargs` are both read as the same struct of arguments that may be missing, `args` by position and `kwargs` by
//! name, and then put together.

use serde::de::value::Error as ValueError;
use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};

/// What travels.
#[derive(Debug, Serialize, Deserialize)]
pub struct ArgsKwargs<A, K> {
    /// By position.
    #[serde(default)]
    pub args: A,
    /// By name.
    #[serde(default)]
    pub kwargs: K,
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

/// What is read in place of an argument that is missing: `None` for an `Option`, as serde's derived code has it.
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
