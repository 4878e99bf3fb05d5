//! Dialect 2: packets of records (PROTOCOL.md, "Dialect 2: packets").

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::time::Duration;

use bytes::Bytes;

pub use read::records;
pub use write::PacketWriter;

use crate::{ErrorInfo, Metadata, OrderingKey, Text, Urgency};

/// Largest packet, in bytes.
pub const MAX_PACKET: usize = 128 * 1024;

/// Longest piece that OPEN or RESULT carries, in bytes before compression.
pub const MAX_FIRST: usize = 16 * 1024;

/// Longest piece that DATA carries, in bytes before compression.
pub const MAX_CHUNK: usize = 64 * 1024;

/// Credit that a DATA record takes besides its piece, in bytes, so that many tiny ones are not free.
pub const RECORD_COST: u64 = 32;

/// Highest number of a call.
pub const MAX_CALL: u64 = (1 << 53) - 1;

/// Most bytes of the three texts of a FAIL.
pub const MAX_TEXTS: usize = 64 * 1024;

/// Record types and option keys below this are critical: a reader that does not know one can't go on.
const CRITICAL: u64 = 32;

/// A part of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A call begins.
    Open {
        /// Its number.
        call: u64,
        /// The method.
        method: Text,
        /// The ordering key, or "no key".
        key: OrderingKey,
        /// What else is known of it.
        options: Options,
        /// The beginning of its argument, or all of it.
        piece: Piece,
    },
    /// The answer to a call begins.
    Result {
        /// The call.
        call: u64,
        /// What else is known of it.
        options: Options,
        /// The beginning of the result, or all of it.
        piece: Piece,
    },
    /// A call has failed; what was said of its result is incomplete.
    Fail {
        /// The call.
        call: u64,
        /// In what way.
        failure: Failure,
        /// Metadata only.
        options: Options,
    },
    /// More of an argument or a result.
    Data {
        /// The call.
        call: u64,
        /// Bytes of the stream before this.
        offset: u64,
        /// The next bytes of the stream.
        piece: Piece,
    },
    /// The requester has lost interest in a call.
    Cancel {
        /// The call.
        call: u64,
    },
    /// The requester can't go on with the argument: it is incomplete.
    Abort {
        /// The call.
        call: u64,
    },
    /// The responder does not read on in the argument.
    Stop {
        /// The call.
        call: u64,
    },
    /// How far the reader of a stream has come, and how far the writer may go.
    Credit {
        /// The call.
        call: u64,
        /// Bytes of the stream that the reader's application has taken.
        consumed: u64,
        /// Credit that DATA may use up from the call's beginning on.
        limit: u64,
    },
    /// How far the writer of all streams together may go.
    LinkCredit {
        /// Credit that DATA may use up from the link's beginning on.
        limit: u64,
    },
    /// No new calls are taken.
    Goodbye {
        /// The first call, by number, that was not taken.
        next: u64,
    },
}

/// The next bytes of a stream, and whether they end an item or the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The bytes, as they travel.
    pub bytes: Bytes,
    /// The stream ends here.
    pub fin: bool,
    /// An item ends here.
    pub item: bool,
    /// The bytes are a Snappy block.
    pub compressed: bool,
}

/// What a call may carry besides, and need not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The application's.
    pub metadata: Metadata,
    /// Time until the requester gives up, in whole microseconds.
    pub remaining: Option<Duration>,
    /// What should leave first.
    pub urgency: Option<Urgency>,
    /// Bytes of the whole stream.
    pub size: Option<u64>,
    /// There was an option that has to be known, and is not.
    pub unsupported: bool,
}

/// How a call failed.
#[allow(clippy::enum_variant_names, reason = "the wire calls one of the kinds FAILURE")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The handler failed.
    Failure(ErrorInfo),
    /// Callosum failed, or refused.
    Error(ErrorInfo),
    /// The handler was stopped, or never started.
    Cancelled,
}

/// Type numbers on the wire.
mod kind {
    pub(super) const OPEN: u64 = 1;
    pub(super) const RESULT: u64 = 2;
    pub(super) const FAIL: u64 = 3;
    pub(super) const DATA: u64 = 4;
    pub(super) const CANCEL: u64 = 5;
    pub(super) const ABORT: u64 = 6;
    pub(super) const STOP: u64 = 7;
    pub(super) const CREDIT: u64 = 8;
    pub(super) const LINK_CREDIT: u64 = 9;
    pub(super) const GOODBYE: u64 = 10;
}

/// Flags of a piece on the wire.
mod flag {
    pub(super) const FIN: u64 = 1;
    pub(super) const ITEM: u64 = 2;
    pub(super) const SNAPPY: u64 = 4;
    pub(super) const ALL: u64 = FIN | ITEM | SNAPPY;
}

/// Option keys on the wire.
mod option {
    pub(super) const METADATA: u64 = 1;
    pub(super) const REMAINING: u64 = 2;
    pub(super) const URGENCY: u64 = 3;
    pub(super) const SIZE: u64 = 4;
}

/// The `kind` of a FAIL, as the `type` of dialect 1.
mod failure {
    pub(super) const FAILURE: u64 = 3;
    pub(super) const ERROR: u64 = 4;
    pub(super) const CANCELLED: u64 = 6;
}

impl Record {
    /// The call that it is about.
    pub(crate) fn call(&self) -> Option<u64> {
        match self {
            Self::Open { call, .. }
            | Self::Result { call, .. }
            | Self::Fail { call, .. }
            | Self::Data { call, .. }
            | Self::Cancel { call }
            | Self::Abort { call }
            | Self::Stop { call }
            | Self::Credit { call, .. } => Some(*call),
            Self::LinkCredit { .. } | Self::Goodbye { .. } => None,
        }
    }
}

impl Failure {
    /// Bytes of its texts.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Failure(info) | Self::Error(info) => info.size(),
            Self::Cancelled => 0,
        }
    }
}

impl Piece {
    /// All of a body, which is one item.
    pub fn whole(bytes: Bytes) -> Self {
        Self { bytes, fin: true, item: true, compressed: false }
    }

    /// Bytes that it has when it is not compressed, at most `limit`; judged by what a Snappy block declares.
    ///
    /// # Errors
    /// If it has more, or is no Snappy block.
    #[inline]
    pub fn declared(&self, limit: usize) -> Result<usize, super::DecodeError> {
        let size = match self.compressed {
            true => super::declared_size(&self.bytes)?,
            false => self.bytes.len(),
        };
        if size > limit {
            return Err(super::DecodeError::TooLarge { what: "a piece of piece", size, limit });
        }
        Ok(size)
    }

    /// The bytes as they were before compression.
    ///
    /// # Errors
    /// As [`declared`](Self::declared), which is checked before anything is allocated.
    #[inline]
    pub fn plain(self, limit: usize) -> Result<Bytes, super::DecodeError> {
        self.declared(limit)?;
        if !self.compressed {
            return Ok(self.bytes);
        }
        snap::raw::Decoder::new()
            .decompress_vec(&self.bytes)
            .map(Bytes::from)
            .map_err(|_| super::DecodeError::Snappy)
    }
}
