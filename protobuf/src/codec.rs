//! How messages become bytes, and come back.
//!
//! The idea: a codec is a type without values, named by the code that is generated, so that nothing is called through a vtable, and
//! another Protocol Buffers runtime takes prost's place by being named instead.

use bytes::{Bytes, BytesMut};
use callosum_runtime::FormatError;

/// Writes and reads messages of type `T`. [`Prost`] is the usual one; `callosum_protobuf_build::Builder::codec` names another.
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use callosum_protobuf::Codec;
/// use callosum_runtime::FormatError;
///
/// /// The messages of the crate `protobuf`.
/// struct RustProtobuf;
///
/// impl<T: protobuf::Message> Codec<T> for RustProtobuf {
///     fn encode(message: &T, buffer: &mut BytesMut) -> Result<(), FormatError> {
///         buffer.extend_from_slice(&message.write_to_bytes()?);
///         Ok(())
///     }
///
///     fn decode(bytes: Bytes) -> Result<T, FormatError> {
///         Ok(T::parse_from_bytes(&bytes)?)
///     }
/// }
/// ```
pub trait Codec<T>: 'static {
    /// Appends a message to a buffer.
    ///
    /// # Errors
    /// If it can't be written, as one that lacks a required field.
    fn encode(message: &T, buffer: &mut BytesMut) -> Result<(), FormatError>;

    /// Reads a message that takes all of `bytes`.
    ///
    /// The bytes come from the peer. They may be anything, declare any length, and nest as deeply as they are long: both must be bounded by
    /// what is there.
    ///
    /// # Errors
    /// If they are no such message.
    fn decode(bytes: Bytes) -> Result<T, FormatError>;
}

/// The messages of prost. At most 100 levels of nesting are read; a declared length that is more than what is there is an error, and
/// allocates nothing.
#[derive(Debug)]
pub enum Prost {}

impl<T: prost::Message + Default + 'static> Codec<T> for Prost {
    fn encode(message: &T, buffer: &mut BytesMut) -> Result<(), FormatError> {
        buffer.reserve(message.encoded_len());
        Ok(message.encode(buffer)?)
    }

    fn decode(bytes: Bytes) -> Result<T, FormatError> {
        Ok(T::decode(bytes)?)
    }
}
