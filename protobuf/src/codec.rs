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
///
/// There is no budget for the memory that a message takes, as prost has none. An element of a `repeated` field of messages takes
/// two bytes of a body at least, and `size_of` its type in memory, or four times that if it is alone, as a list has room for four then. So
/// a body takes up to 2 × `size_of` the largest such type for each of its bytes. Of a type with eight texts or lists, which has 192 bytes, a
/// body of 10 MiB takes up to 3.75 GiB. Values of a `map` count as such elements; with prost-build's `btree_map`, a map with one entry has
/// room for eleven: up to 3 × the size of an entry for each byte. Have a codec of your own refuse what is larger than your messages:
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use callosum_protobuf::{Codec, Prost};
/// use callosum_runtime::FormatError;
///
/// /// The messages of prost, of at most 64 KiB: those of 192 bytes take up to 24 MiB then.
/// enum Small {}
///
/// impl<T: 'static> Codec<T> for Small
/// where
///     Prost: Codec<T>,
/// {
///     fn encode(message: &T, buffer: &mut BytesMut) -> Result<(), FormatError> {
///         Prost::encode(message, buffer)
///     }
///
///     fn decode(bytes: Bytes) -> Result<T, FormatError> {
///         match bytes.len() {
///             0..=65_536 => Prost::decode(bytes),
///             size => Err(format!("a message has {size} bytes, which are more than 65,536").into()),
///         }
///     }
/// }
///
/// let error = <Small as Codec<String>>::decode(Bytes::from(vec![0; 65_537])).unwrap_err();
/// assert_eq!(error.to_string(), "a message has 65537 bytes, which are more than 65,536");
/// assert_eq!(<Small as Codec<String>>::decode(Bytes::from_static(b"\x0a\x01x")).unwrap(), "x");
/// ```
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
