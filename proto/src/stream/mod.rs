//! Arguments and results that are more than one message: byte streams with flow control.
//!
//! A call has two streams, its argument and its result; each end of the call writes one ([`SendHalf`]) and
//! reads the other ([`RecvHalf`]). Not responsible for calls, sockets or other streams: [`Flow`] counts the
//! credit that all streams of a connection share, and `send/` decides which stream may send next.
//!
//! Flow control is credit-based, as in QUIC (RFC 9000, section 4): the reader names the highest offset, in
//! units of cost, up to which the writer may send, and raises it as the application reads. A DATA costs 32
//! bytes besides its bytes.

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

/// A part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes.
    pub bytes: Bytes,
    /// An item ends with them.
    pub end_of_item: bool,
}
