//! The two halves of a stream: windows, acknowledgement, reassembly.
//!
//! A call has one bidirectional stream, whose directions are its argument and its result. Each end writes one
//! direction, with a [`SendHalf`], and reads the other, with a [`RecvHalf`]. Not responsible for calls, nor
//! for other streams: [`Flow`] counts the credit that all streams of a connection share, and `send/` decides
//! which stream sends next.
//!
//! Flow control is credit-based, as in QUIC (RFC 9000, section 4): the reader grants the writer a limit, and
//! raises it as the application reads. The unit is cost: a DATA costs 32 plus its bytes, so that many tiny
//! ones are not free (PROTOCOL.md, F-5). Example: with a window of 16,384, a writer can send one DATA of
//! 16,352 bytes, or 496 of 1 byte.

mod error;
mod flow;
mod reassembly;
mod recv;
mod send;
mod spares;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use error::{ReadError, StreamFault, WriteError};
pub(crate) use flow::Flow;
pub(crate) use recv::{Next, RecvHalf};
pub(crate) use send::{FULL_PIECE, Order, SendHalf};
pub(crate) use spares::{KEPT_FOR, Spares};

/// A part of a stream, as [`RecvStream::read`](crate::RecvStream::read) returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes.
    pub bytes: Bytes,
    /// Whether an item ends with these bytes.
    pub end_of_item: bool,
}
