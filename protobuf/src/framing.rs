//! How messages travel: a whole one as the body that it is, one of a stream as an item, behind a byte.
//!
//! The byte is there because a message may have no bytes, and an item without bytes can't be told from the end of a stream that came as
//! a whole (B-4 of PROTOCOL.md).

use bytes::{BufMut, Bytes, BytesMut};
use callosum_runtime::{CodecError, FormatError};

use crate::Codec;

/// The first byte of an item. Other values are reserved for later versions, such as for compression.
const PLAIN: u8 = 0;

/// Bytes that most messages have at most, so that the byte before a message costs no allocation of its own.
const USUAL: usize = 256;

/// A message as a body.
pub(crate) fn encode<C: Codec<T>, T>(message: &T) -> Result<Bytes, CodecError> {
    let mut buffer = BytesMut::new();
    C::encode(message, &mut buffer)?;
    Ok(buffer.freeze())
}

/// A message as an item.
pub(crate) fn encode_item<C: Codec<T>, T>(message: &T) -> Result<Bytes, CodecError> {
    let mut buffer = BytesMut::with_capacity(USUAL);
    buffer.put_u8(PLAIN);
    C::encode(message, &mut buffer)?;
    Ok(buffer.freeze())
}

/// The message of an item.
pub(crate) fn decode_item<C: Codec<T>, T>(item: Bytes) -> Result<T, FormatError> {
    C::decode(from_item(item)?)
}

/// The item that an encoded message travels as in a stream, for programs that write their messages themselves.
pub fn to_item(message: &[u8]) -> Bytes {
    let mut buffer = BytesMut::with_capacity(1 + message.len());
    buffer.put_u8(PLAIN);
    buffer.put_slice(message);
    buffer.freeze()
}

/// The encoded message that an item of a stream holds. Not copied.
///
/// # Errors
/// If the item is none of those of B-4.
pub fn from_item(item: Bytes) -> Result<Bytes, FormatError> {
    match item.first() {
        Some(&PLAIN) => Ok(item.slice(1..)),
        Some(other) => Err(format!("an item begins with the reserved byte {other}").into()),
        None => Err("an item is empty, so it holds no message".into()),
    }
}

#[cfg(test)]
mod tests;
