//! How typed arguments and results become bytes.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A serializer. Both sides must use the same one: the wire does not say which it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// JSON. The default.
    #[default]
    Json,
    /// MessagePack, with structs as maps from field names, as Python's dicts are.
    MsgPack,
}

/// Deepest nesting of MessagePack values that is read, as in the headers of messages.
const MAX_DEPTH: usize = 64;

/// A value that can't be written, or bytes that can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Writing MessagePack.
    #[error("MessagePack: {0}")]
    MsgPackEncode(#[from] rmp_serde::encode::Error),
    /// Reading MessagePack.
    #[error("MessagePack: {0}")]
    MsgPackDecode(#[from] rmp_serde::decode::Error),
}

impl Codec {
    /// Writes a value.
    ///
    /// # Errors
    /// If the value's `Serialize` fails, or the format has no such value (a JSON map key that is no text).
    pub fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes, CodecError> {
        Ok(Bytes::from(match self {
            Self::Json => serde_json::to_vec(value)?,
            Self::MsgPack => rmp_serde::to_vec_named(value)?,
        }))
    }

    /// Reads a value that takes all of `bytes`.
    ///
    /// # Errors
    /// If the bytes are malformed, nest too deeply, or hold something else.
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, CodecError> {
        match self {
            Self::Json => Ok(serde_json::from_slice(bytes)?),
            Self::MsgPack => {
                let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
                // It takes one level less than it is told.
                reader.set_max_depth(MAX_DEPTH + 1);
                Ok(T::deserialize(&mut reader)?)
            }
        }
    }
}
