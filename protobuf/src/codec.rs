//! How messages become bytes, and come back.
//!
//! The idea: a codec is a type without values, named by the code that is generated, so that nothing is called through a vtable, and
//! another Protocol Buffers runtime takes prost's place by being named instead.

use std::fmt;
use std::marker::PhantomData;

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
    /// If they are no such message; [`MessageTooLarge`] if they are over a limit.
    fn decode(bytes: Bytes) -> Result<T, FormatError>;
}

/// The messages of prost. At most 100 levels of nesting are read; a declared length that is more than what is there is an error, and
/// allocates nothing.
///
/// There is no budget for the memory that a message takes, as prost has none. An element of a `repeated` field of messages takes
/// two bytes of a body at least, and `size_of` its type in memory, or four times that if it is alone, as a list has room for four then. So
/// a body takes up to 2 × `size_of` the largest such type for each of its bytes. Of a type with eight texts or lists, which has 192 bytes, a
/// body of 10 MiB takes up to 3.75 GiB. Values of a `map` count as such elements; with prost-build's `btree_map`, a map with one entry has
/// room for eleven: up to 3 × the size of an entry for each byte. [`AtMost`] refuses messages that are larger than those of a service
/// can be. prost could not count elements before it makes them: it has no limit for that, and without the `.proto` file, bytes of a text
/// can't be told from those of a message.
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

/// A message has more bytes than its [`Codec`] reads. What a codec's `decode` fails with then is
/// [`ResourceExhausted`](crate::Code::ResourceExhausted) to the caller; every other error says that there is no such message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageTooLarge {
    /// Its bytes.
    pub size: usize,
    /// How many are read at most.
    pub limit: usize,
}

impl fmt::Display for MessageTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message has {} bytes; the limit is {}", self.size, self.limit)
    }
}

impl std::error::Error for MessageTooLarge {}

/// The messages of another codec, of at most `BYTES` bytes each: larger ones are refused with [`MessageTooLarge`] before they are decoded.
/// What is sent is not limited.
///
/// ```
/// use callosum_protobuf::{AtMost, Codec};
///
/// // In a build script: `callosum_protobuf_build::Builder::new().codec("::callosum_protobuf::AtMost<65_536>")`.
/// let refused = <AtMost<65_536> as Codec<String>>::decode(vec![0; 65_537].into()).unwrap_err();
/// assert_eq!(refused.to_string(), "a message has 65537 bytes; the limit is 65536");
/// assert_eq!(<AtMost<65_536> as Codec<String>>::decode("\x0a\x01x".into()).unwrap(), "x");
/// ```
#[derive(Debug)]
pub struct AtMost<const BYTES: usize, C = Prost>(PhantomData<fn() -> C>);

impl<T, C: Codec<T>, const BYTES: usize> Codec<T> for AtMost<BYTES, C> {
    fn encode(message: &T, buffer: &mut BytesMut) -> Result<(), FormatError> {
        C::encode(message, buffer)
    }

    fn decode(bytes: Bytes) -> Result<T, FormatError> {
        match bytes.len() {
            size if size > BYTES => Err(MessageTooLarge { size, limit: BYTES }.into()),
            _ => C::decode(bytes),
        }
    }
}
