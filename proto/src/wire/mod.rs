//! The wire format: frames to records and back, for both dialects, and the hello.
//!
//! [`Record`] is the one model of what happens to a call. [`Codec`] decodes frames of either dialect to
//! records, and encodes records to frames. Above this module, only the handshake and the few rules that
//! differ in PROTOCOL.md depend on the dialect. Not responsible for whether a record is allowed in the state
//! of its call.

mod codec;
pub(crate) mod dialect1;
pub(crate) mod dialect2;
mod head;
pub(crate) mod hello;
mod msgpack;
#[cfg(test)]
mod tests;

pub(crate) use codec::{
    Codec, Dropped, Inbound, call_in_dialect_1, is_dialect_1, max_first, max_texts, number_in_dialect_1,
    ordinal,
};
pub(crate) use dialect2::{
    Failure, MAX_CALL, MAX_CHUNK, MAX_FIRST, MAX_PACKET, Options, Piece, RECORD_COST, Record, records,
};
pub use hello::{Credit, Hello, NONCE_LEN};

use bytes::Bytes;

/// The number of a call, as on the wire of dialect 2. The codec assigns numbers that dialect 2 does not use
/// to calls of dialect 1, which have none.
pub(crate) type Number = u64;

/// Largest size of method name and key together, in bytes, so that the header is well below its limit (W-10).
pub(crate) const MAX_NAMES: usize = 32 * 1024;

/// Slices of up to this size are always copied out of their frame.
const COPY_MAX: usize = 2 * 1024;

/// Copy a slice if keeping it would keep a frame alive that has more than twice its size.
const MAX_PIN: usize = 2;

/// Makes a slice of a frame of `frame` bytes one that can be kept: copies it if it would keep a much larger
/// frame alive. A `frame` of 0 means that the bytes have a buffer of their own size.
pub(crate) fn keep(bytes: &Bytes, frame: usize) -> Bytes {
    match is_copied(bytes.len(), frame) {
        true => Bytes::copy_from_slice(bytes),
        false => bytes.clone(),
    }
}

fn is_copied(len: usize, frame: usize) -> bool {
    // A small slice is copied even out of a small frame: kept, it would keep the block of input from being
    // reused, and a new block costs more than the copy.
    frame > 0 && (len <= COPY_MAX || frame / MAX_PIN > len)
}

/// First frame of a PING, which is answered by a [`PONG`] with the same other frames.
pub const PING: Bytes = Bytes::from_static(b"PING");
/// First frame of the answer to a [`PING`].
pub const PONG: Bytes = Bytes::from_static(b"PONG");
/// First frame of an RPC message of dialect 1.
pub const UPPER: Bytes = Bytes::from_static(b"UPPER");

/// The most levels of nested MessagePack values that are read.
pub const MAX_DEPTH: usize = 64;

/// Why received bytes are not a message: always a fault of the peer. In dialect 1, the connection stays open;
/// in dialect 2, a malformed packet closes it (PROTOCOL.md, R-7).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The data ends in the middle of a value.
    #[error("the MessagePack data ends in the middle of a value")]
    Truncated,
    /// This many bytes follow the value.
    #[error("{0} bytes follow the MessagePack value")]
    TrailingBytes(usize),
    /// The value of this field has the wrong MessagePack type.
    #[error("{field} has the wrong MessagePack type")]
    WrongType {
        /// The field.
        field: &'static str,
    },
    /// A map lacks this field.
    #[error("{0} is missing")]
    MissingField(&'static str),
    /// A map has this field more than once.
    #[error("{0} occurs more than once")]
    DuplicateField(&'static str),
    /// The value of this field is out of range.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// An unknown message type of dialect 1, or an unknown record type of dialect 2 that must not be ignored.
    #[error("the message or record type {0} is unknown")]
    UnknownType(i64),
    /// The text of this field is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// Values are nested deeper than 64 levels.
    #[error("MessagePack values are nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A part of the message exceeds its limit. Declared sizes are checked before anything is allocated.
    #[error("{what} of {size} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// The part that is too large.
        what: &'static str,
        /// Its size, or the size it declares, in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Compressed data is not a Snappy block.
    #[error("the compressed data is not a Snappy block")]
    Snappy,
}

/// The uncompressed size that a Snappy block declares. Fails if a block of this length can't contain that
/// much.
fn declared_size(block: &[u8]) -> Result<usize, DecodeError> {
    let size = snap::raw::decompress_len(block).map_err(|_| DecodeError::Snappy)?;
    // W-21: the densest element of Snappy is a copy of 64 bytes, which takes 3.
    if size / 64 > block.len() { Err(DecodeError::Snappy) } else { Ok(size) }
}
