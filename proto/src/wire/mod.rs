//! The wire format: frames to records and back, for both dialects, and the hello.
//!
//! [`Record`] is the one model of what happens to a call. [`Codec`] turns frames of either dialect into
//! records and records into frames; nothing above this module asks which dialect that is, but the handshake,
//! and where rules of PROTOCOL.md differ.

mod codec;
pub(crate) mod dialect1;
pub(crate) mod dialect2;
mod head;
pub(crate) mod hello;
mod msgpack;
#[cfg(test)]
mod tests;

pub(crate) use codec::{
    Codec, Dropped, Inbound, call_in_dialect_1, is_dialect_1, max_first, number_in_dialect_1, ordinal,
};
pub(crate) use dialect2::{
    Failure, MAX_CALL, MAX_CHUNK, MAX_FIRST, MAX_PACKET, MAX_TEXTS, Options, Piece, RECORD_COST, Record,
    records,
};
pub use hello::{Credit, Hello, NONCE_LEN};

use bytes::Bytes;

/// The number of a call on the wire. Dialect 1 has none; the codec gives its calls numbers that dialect 2
/// does not use.
pub(crate) type Number = u64;

/// Slices up to this size are copied out of the frame that they came in.
const COPY_MAX: usize = 2 * 1024;

/// Copy a slice if keeping it would pin more than twice its own size.
const MAX_PIN: usize = 2;

/// Bytes of a frame of `frame` bytes that are kept: copied, unless they are a good part of it. With a `frame`
/// of 0 they fill theirs.
pub(crate) fn keep(bytes: &Bytes, frame: usize) -> Bytes {
    match is_copied(bytes.len(), frame) {
        true => Bytes::copy_from_slice(bytes),
        false => bytes.clone(),
    }
}

fn is_copied(len: usize, frame: usize) -> bool {
    frame > 0 && (len <= COPY_MAX || frame / MAX_PIN > len)
}

/// First frame of a liveness probe, answered at once with [`PONG`] and the same other frames.
pub const PING: Bytes = Bytes::from_static(b"PING");
/// First frame of the answer to [`PING`].
pub const PONG: Bytes = Bytes::from_static(b"PONG");
/// First frame of an RPC message of dialect 1.
pub const UPPER: Bytes = Bytes::from_static(b"UPPER");

/// Deepest nesting of MessagePack values that is read.
pub const MAX_DEPTH: usize = 64;

/// Why the bytes of a remote peer are not a message. Always the peer's fault; the link lives on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame ends in the middle of a value.
    #[error("the MessagePack data ends in the middle of a value")]
    Truncated,
    /// The frame goes on after its value.
    #[error("{0} bytes follow the MessagePack value")]
    TrailingBytes(usize),
    /// A value of another MessagePack type than this field takes.
    #[error("{field} has a MessagePack type it can't have")]
    WrongType {
        /// The field.
        field: &'static str,
    },
    /// A map lacks this field.
    #[error("{0} is missing")]
    MissingField(&'static str),
    /// A map has this field twice.
    #[error("{0} is there twice")]
    DuplicateField(&'static str),
    /// An integer that the field can't hold.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// `type` names no message of dialect 1, or no record of dialect 2 that may be ignored.
    #[error("message type {0} does not exist")]
    UnknownType(i64),
    /// Text that is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// Values nested deeper than 64 levels.
    #[error("MessagePack values nest deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Larger than the limit, judged by the declared size before anything is allocated.
    #[error("{what} of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// The part that is too large.
        what: &'static str,
        /// Its size, or the size it declares, in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The body says that it is compressed but is not a Snappy block.
    #[error("the body is not a Snappy block")]
    Snappy,
}

/// The size that a Snappy block declares; one that it could not hold is refused.
fn declared_size(block: &[u8]) -> Result<usize, DecodeError> {
    let size = snap::raw::decompress_len(block).map_err(|_| DecodeError::Snappy)?;
    // Snappy's copies yield at most 64 bytes from 3, so a short block can't honestly declare much.
    if size / 64 > block.len() { Err(DecodeError::Snappy) } else { Ok(size) }
}
