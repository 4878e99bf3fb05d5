//! How typed arguments and results become bytes.
//!
//! Two formats are built in, each behind a feature; a [`Format`] makes any other a [`Codec`]. The built-in ones are called directly, and
//! only formats of the application's own go through a vtable: a handle must not be generic over its codec, for a codec is chosen when
//! an endpoint is built.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _};

#[cfg(any(feature = "json", feature = "msgpack"))]
use crate::encode_buffer::EncodeBuffer;

/// A serializer. Cheap to clone. Both sides must use the same one: the wire does not name it.
///
/// The default is JSON. Without the feature `json` there is no default: everything fails with [`CodecError::NoCodec`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// JSON. Feature `json`.
    #[cfg(feature = "json")]
    Json,
    /// MessagePack, with structs as maps from field names, as Python's dicts are. Feature `msgpack`.
    #[cfg(feature = "msgpack")]
    MsgPack,
    /// A format of the application's own; see [`Codec::custom`].
    Custom(CustomCodec),
}

/// A serialization format of your own.
///
/// ```
/// use bytes::Bytes;
/// use callosum_runtime::{Codec, Format, FormatError};
/// use serde::Serialize;
/// use serde::de::DeserializeSeed;
///
/// struct Yaml;
/// # mod yaml {
/// #     pub use serde_json::{to_string, Deserializer};
/// # }
///
/// impl Format for Yaml {
///     fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes, FormatError> {
///         Ok(yaml::to_string(value)?.into())
///     }
///
///     fn decode<'de, S: DeserializeSeed<'de>>(&self, bytes: &'de [u8], seed: S) -> Result<S::Value, FormatError> {
///         Ok(seed.deserialize(&mut yaml::Deserializer::from_slice(bytes))?)
///     }
/// }
///
/// let codec = Codec::custom(Yaml);
/// assert_eq!(codec.decode::<Vec<u8>>(&codec.encode(&[1, 2])?)?, [1, 2]);
/// # Ok::<(), callosum_runtime::CodecError>(())
/// ```
pub trait Format: Send + Sync + 'static {
    /// Writes a value.
    ///
    /// # Errors
    /// If the value's `Serialize` fails, or the format has no such value.
    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes, FormatError>;

    /// Reads a value that takes all of `bytes`: give `seed` a deserializer of them.
    ///
    /// The bytes come from the peer, and may be anything. They may nest as deeply as they are long, so the format has
    /// to limit its recursion: a stack overflow ends the process.
    ///
    /// # Errors
    /// If the bytes are malformed, nest too deeply, hold something else, or hold more.
    fn decode<'de, S: DeserializeSeed<'de>>(
        &self,
        bytes: &'de [u8],
        seed: S,
    ) -> Result<S::Value, FormatError>;
}

/// The error of a [`Format`].
pub type FormatError = Box<dyn Error + Send + Sync>;

/// A [`Format`] as a codec.
#[derive(Clone)]
pub struct CustomCodec(Arc<dyn AnyFormat>);

/// A [`Format`] whose values' types are not known.
trait AnyFormat: Send + Sync {
    fn name(&self) -> &'static str;
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Bytes, FormatError>;
    fn decode(&self, bytes: &[u8], read: &mut Read<'_>) -> Result<(), FormatError>;
}

/// Takes a value of a known type from a deserializer.
type Read<'a> =
    dyn for<'de> FnMut(&mut dyn erased_serde::Deserializer<'de>) -> Result<(), erased_serde::Error> + 'a;

struct Seed<'a, 'b>(&'a mut Read<'b>);

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        (self.0)(&mut <dyn erased_serde::Deserializer<'_>>::erase(deserializer)).map_err(D::Error::custom)
    }
}

impl<F: Format> AnyFormat for F {
    fn name(&self) -> &'static str {
        std::any::type_name::<F>()
    }

    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Bytes, FormatError> {
        Format::encode(self, value)
    }

    fn decode(&self, bytes: &[u8], read: &mut Read<'_>) -> Result<(), FormatError> {
        Format::decode(self, bytes, Seed(read))
    }
}

impl fmt::Debug for CustomCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl PartialEq for CustomCodec {
    /// Whether one is a clone of the other.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for CustomCodec {}

/// Replaces JSON where it is not built in.
#[cfg(not(feature = "json"))]
struct NoFormat;

#[cfg(not(feature = "json"))]
impl Format for NoFormat {
    fn encode<T: Serialize + ?Sized>(&self, _: &T) -> Result<Bytes, FormatError> {
        Err(CodecError::NoCodec.into())
    }

    fn decode<'de, S: DeserializeSeed<'de>>(&self, _: &'de [u8], _: S) -> Result<S::Value, FormatError> {
        Err(CodecError::NoCodec.into())
    }
}

impl Default for Codec {
    #[cfg(feature = "json")]
    fn default() -> Self {
        Self::Json
    }

    #[cfg(not(feature = "json"))]
    fn default() -> Self {
        Self::custom(NoFormat)
    }
}

/// Deepest nesting of MessagePack values that is read, as in the headers of messages.
#[cfg(feature = "msgpack")]
const MAX_DEPTH: usize = 64;

/// A value that can't be written, or bytes that can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// JSON.
    #[cfg(feature = "json")]
    #[error("JSON: {0}")]
    Json(serde_json::Error),
    /// Writing MessagePack.
    #[cfg(feature = "msgpack")]
    #[error("MessagePack: {0}")]
    MsgPackEncode(rmp_serde::encode::Error),
    /// Reading MessagePack.
    #[cfg(feature = "msgpack")]
    #[error("MessagePack: {0}")]
    MsgPackDecode(rmp_serde::decode::Error),
    /// A [`Format`] of the application's own.
    #[error(transparent)]
    Custom(FormatError),
    /// The endpoint was given no codec, and JSON, the default, is not built in.
    #[error("the endpoint has no codec: give it one, or turn on the feature `json`")]
    NoCodec,
}

impl From<FormatError> for CodecError {
    fn from(error: FormatError) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => *error,
            Err(error) => Self::Custom(error),
        }
    }
}

impl From<&str> for CodecError {
    /// An error of a format of the application's own that has only a text.
    fn from(text: &str) -> Self {
        Self::Custom(text.into())
    }
}

// Not by `#[from]`: the text includes the inner error already, so it must not be the source as well.
#[cfg(feature = "json")]
impl From<serde_json::Error> for CodecError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

#[cfg(feature = "msgpack")]
impl From<rmp_serde::encode::Error> for CodecError {
    fn from(error: rmp_serde::encode::Error) -> Self {
        Self::MsgPackEncode(error)
    }
}

#[cfg(feature = "msgpack")]
impl From<rmp_serde::decode::Error> for CodecError {
    fn from(error: rmp_serde::decode::Error) -> Self {
        Self::MsgPackDecode(error)
    }
}

impl Codec {
    /// A codec that reads and writes a format of the application's own.
    pub fn custom(format: impl Format) -> Self {
        Self::Custom(CustomCodec(Arc::new(format)))
    }

    /// Writes a value.
    ///
    /// # Errors
    /// If the value's `Serialize` fails, or the format has no such value (a JSON map key that is no text).
    pub fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes, CodecError> {
        match self {
            #[cfg(feature = "json")]
            Self::Json => {
                let mut buffer = EncodeBuffer::new();
                serde_json::to_writer(&mut *buffer, value)?;
                Ok(buffer.finish())
            }
            #[cfg(feature = "msgpack")]
            Self::MsgPack => {
                let mut buffer = EncodeBuffer::new();
                rmp_serde::encode::write_named(&mut *buffer, value)?;
                Ok(buffer.finish())
            }
            // A reference, as an erased value has to be sized.
            Self::Custom(format) => Ok(format.0.encode(&value)?),
        }
    }

    /// Reads a value that takes all of `bytes`.
    ///
    /// # Errors
    /// If the bytes are malformed, nest too deeply, or hold something else.
    pub fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError> {
        match self {
            #[cfg(feature = "json")]
            Self::Json => Ok(serde_json::from_slice(bytes)?),
            #[cfg(feature = "msgpack")]
            Self::MsgPack => {
                let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
                // The deserializer accepts one level less than its maximum.
                reader.set_max_depth(MAX_DEPTH + 1);
                Ok(T::deserialize(&mut reader)?)
            }
            Self::Custom(format) => {
                let mut value = None;
                format.0.decode(bytes, &mut |deserializer| {
                    value = Some(T::deserialize(deserializer)?);
                    Ok(())
                })?;
                Ok(value.expect("a format can only return what its seed has made, which stores the value"))
            }
        }
    }
}
