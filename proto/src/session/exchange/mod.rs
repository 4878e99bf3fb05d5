//! Contents of dialect 2: arguments and results that are more than one record.

mod gather;
mod receiving;
mod sending;
mod table;
#[cfg(test)]
mod tests;

use std::time::Instant;

use bytes::Bytes;

pub(super) use receiving::{Next, Receiving};
pub(super) use sending::{Sending, compress};
pub(super) use table::Exchanges;

use super::IncomingId;
use super::outbox::Place;
use crate::{CallId, OrderingKey, Urgency};

/// A call, from either end: one content to write and one to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExchangeId {
    /// A call of ours: its argument is written, its result is read.
    Ours(CallId),
    /// A request of the peer: its argument is read, its result is written.
    Theirs(IncomingId),
}

/// A part of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes.
    pub bytes: Bytes,
    /// An item ends with them.
    pub end_of_item: bool,
}

/// What a peer got wrong with a content. The call ends; the link lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ContentFault {
    /// Bytes are missing before a record.
    #[error("bytes are missing before a record")]
    Gap,
    /// A record has bytes that came before.
    #[error("a record has bytes that came before")]
    Overlap,
    /// A record came after the end.
    #[error("a record came after the end")]
    PastEnd,
    /// A record for which there was no credit.
    #[error("a record for which there was no credit")]
    Credit,
    /// More or fewer bytes than the peer had declared.
    #[error("more or fewer bytes than declared")]
    Size,
    /// A record with more bytes than one may have.
    #[error("a record with more bytes than one may have")]
    Oversize,
    /// What should be a Snappy block is none.
    #[error("a record that is not the Snappy block that it says")]
    Snappy,
    /// A second result for one call.
    #[error("a second result")]
    SecondResult,
    /// More of a result before its beginning.
    #[error("a result that has not begun goes on")]
    NotBegun,
}

/// Why a content can't be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// There is no such content, or its call has ended.
    #[error("the call has ended")]
    NotOpen,
    /// The writer can't go on.
    #[error("the other side could not complete it")]
    Aborted,
    /// It has more bytes than a body that is put together may have.
    #[error("{size} bytes or more are over the limit of {limit}")]
    TooLarge {
        /// Bytes that it has at the least.
        size: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// It took too long to be complete.
    #[error("it was not complete in time")]
    TimedOut,
    /// The peer broke the protocol.
    #[error("the other side broke the protocol: {0}")]
    Fault(#[from] ContentFault),
}

/// Why a content can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// There is no such content, or its call has ended.
    #[error("the call has ended")]
    NotOpen,
    /// It was finished before.
    #[error("it was finished before")]
    Finished,
    /// The reader does not want more of it.
    #[error("the other side reads no more of it")]
    Stopped,
    /// So much waits already that no more is taken until some has left.
    #[error("no more is taken until some has left")]
    Full,
}

/// What one call has to write and to read beyond single records.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Its number on the wire, once it has one.
    pub(super) wire: Option<u64>,
    pub(super) urgency: Urgency,
    pub(super) send: Option<Sending>,
    /// All of what is sent has been given, and counts for the backlog.
    pub(super) whole_body: bool,
    /// Bytes of the whole of it, if they are known.
    pub(super) size: Option<u64>,
    /// The reader does not want more.
    pub(super) stopped: bool,
    pub(super) receive: Option<Receiving>,
    /// The key of a result under way, which results of later calls wait for.
    pub(super) leaving: Option<OrderingKey>,
    /// Where a result waits that has not begun to leave.
    pub(super) queued: Option<Place>,
    /// OPEN or RESULT has left, and what is written may follow.
    pub(super) begun: bool,
    /// When what is put together has to be complete.
    pub(super) collect_deadline: Option<Instant>,
    /// The call is over; what is left is to be read, or to leave.
    pub(super) over: bool,
}

impl Exchange {
    pub(super) fn new(wire: Option<u64>, urgency: Urgency) -> Self {
        Self {
            wire,
            urgency,
            send: None,
            whole_body: false,
            size: None,
            stopped: false,
            receive: None,
            leaving: None,
            queued: None,
            begun: false,
            collect_deadline: None,
            over: false,
        }
    }
}
