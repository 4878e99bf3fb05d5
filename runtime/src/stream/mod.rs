//! Arguments and results that are read and written as streams.
//!
//! A caller opens a call with [`Peer::open`](crate::Peer::open), a handler that streams is added with
//! [`Handlers::add_stream`](crate::Handlers::add_stream). Both sides then have a [`BodyReader`] and a [`BodyWriter`], as
//! byte streams ([`AsyncRead`](futures_io::AsyncRead), [`AsyncWrite`](futures_io::AsyncWrite)), or as streams of typed
//! items ([`Items`], [`ItemSink`]).
//!
//! Streams travel in dialect 2 only, that is between peers of this library. They are bounded by credit: a writer waits
//! when its reader does not keep up, and nobody else waits with it.

mod call_streams;
mod opening;
mod reader;
mod responder;
mod writer;

pub(crate) use call_streams::{CallStreams, Head, Shared, Wakers, incomplete};
pub use opening::{Answer, Opening, Streamed};
pub use reader::{BodyReader, Items};
pub use responder::{Responder, StreamHandler};
pub use writer::{BodyWriter, ItemSink};

use std::io;

use callosum_proto::{ReadError, WriteError};

use crate::codec::CodecError;
use crate::error::CallError;

/// Why a body can't be read or written to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The call has failed, or lost its link.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The other side's part in it.
    #[error("the body can't be read to its end: {0}")]
    Read(#[from] ReadError),
    /// It takes no more.
    #[error("the body can't be written: {0}")]
    Write(#[from] WriteError),
    /// An item is larger than [`Limits::max_body`](crate::Limits::max_body) of the side that reads it.
    #[error("an item has at least {size} bytes; the limit is {limit}")]
    ItemTooLarge {
        /// Bytes of the item. Its reader gives up before it knows them all, and says how many have come.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// An item can't be serialized, or is not of the type that was asked for.
    #[error("an item can't be converted: {0}")]
    Item(#[from] CodecError),
}

impl From<BodyError> for io::Error {
    fn from(error: BodyError) -> Self {
        let kind = match &error {
            BodyError::Write(_) => io::ErrorKind::BrokenPipe,
            BodyError::Read(ReadError::Aborted) => io::ErrorKind::UnexpectedEof,
            BodyError::Read(ReadError::TimedOut) | BodyError::Call(CallError::TimedOut { .. }) => {
                io::ErrorKind::TimedOut
            }
            BodyError::Call(CallError::Disconnected(_) | CallError::NotSent(_)) => {
                io::ErrorKind::ConnectionAborted
            }
            BodyError::ItemTooLarge { .. } | BodyError::Item(_) => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
