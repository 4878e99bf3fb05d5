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
mod layered;
mod opening;
mod reader;
mod responder;
mod shared;
mod writer;

pub(crate) use call_streams::CallStreams;
pub(crate) use layered::{Layered, Outcome};
pub use opening::{Answer, Opening, Streamed};
pub use reader::{BodyReader, Items, RawItems};
pub use responder::{Responder, StreamHandler};
pub(crate) use shared::{Head, Shared, Wakers};
pub use writer::{BodyWriter, ItemSink};

use callosum_proto::{ReadError, Refusal, Reply, WriteError};

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
    Read(ReadError),
    /// It takes no more.
    #[error("the body can't be written: {0}")]
    Write(WriteError),
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
    Item(CodecError),
}

impl BodyError {
    /// The reply of a handler that needs its whole argument and can't have it: the refusal
    /// [`BodyTooLarge`](Refusal::BodyTooLarge), or [`MalformedBody`](Refusal::MalformedBody) for any other reason. Both tell the caller
    /// that nothing has run.
    pub fn refuse(&self) -> Reply {
        let refusal = match self {
            Self::Read(ReadError::TooLarge { .. }) | Self::ItemTooLarge { .. } => Refusal::BodyTooLarge,
            _ => Refusal::MalformedBody,
        };
        Reply::Error(refusal.to_error(&self.to_string()))
    }
}

// Not by `#[from]`, which would make a source of what the text says already.
impl From<ReadError> for BodyError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<WriteError> for BodyError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<CodecError> for BodyError {
    fn from(error: CodecError) -> Self {
        Self::Item(error)
    }
}
