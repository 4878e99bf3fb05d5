//! Dialect 2: packets of records, and their numbers on the wire (PROTOCOL.md, "Dialect 2: packets").
//!
//! Stateless, except for a buffer of the writer: whether a record is allowed is checked in `call/inbound.rs`.

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

/// Largest piece of an OPEN or RESULT, in bytes before compression.
pub const MAX_FIRST: usize = 16 * 1024;

/// Largest piece of a DATA, in bytes before compression.
pub const MAX_CHUNK: usize = 64 * 1024;

/// Credit that a DATA costs in addition to the bytes of its piece, so that many tiny ones are not free.
pub const RECORD_COST: u64 = 32;

/// Highest number of a call.
pub const MAX_CALL: u64 = (1 << 53) - 1;

/// Largest size of the three texts of a FAIL together, in bytes.
pub const MAX_TEXTS: usize = 64 * 1024;

/// A reader must know all record types and option keys below this number, and ignores unknown ones from it on
///
const CRITICAL: u64 = 32;

/// One event of a call or of the connection: the unit of which packets consist.
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
        /// Deadline, urgency, metadata, and the size of the argument.
        options: Options,
        /// The beginning of its argument, or all of it.
        piece: Piece,
    },
    /// The result of a call begins.
    Result {
        /// The call.
        call: u64,
        /// Metadata, and the size of the result.
        options: Options,
        /// The beginning of the result, or all of it.
        piece: Piece,
    },
    /// A call has failed. If its result had begun, it is incomplete.
    Fail {
        /// The call.
        call: u64,
        /// How it failed.
        failure: Failure,
        /// Metadata only.
        options: Options,
    },
    /// More of an argument or a result.
    Data {
        /// The call.
        call: u64,
        /// Uncompressed bytes of the stream before this piece.
        offset: u64,
        /// The next bytes of the stream.
        piece: Piece,
    },
    /// The requester cancels a call.
    Cancel {
        /// The call.
        call: u64,
    },
    /// The requester aborts the argument, which is incomplete.
    Abort {
        /// The call.
        call: u64,
    },
    /// The responder stops reading the argument.
    Stop {
        /// The call.
        call: u64,
    },
    /// The reader of a stream acknowledges bytes, and grants credit.
    Credit {
        /// The call.
        call: u64,
        /// Bytes of the stream that the reader's application has read.
        consumed: u64,
        /// The most that all DATA of the stream may cost, since its beginning.
        limit: u64,
    },
    /// Grants credit for all streams together.
    LinkCredit {
        /// The most that all DATA of the connection may cost, since its beginning.
        limit: u64,
    },
    /// The sender drains, and accepts no new calls.
    Goodbye {
        /// The lowest number of a call that was not accepted.
        next: u64,
    },
}

/// The next bytes of a stream, with their flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The bytes, as on the wire.
    pub bytes: Bytes,
    /// The stream ends with this piece.
    pub fin: bool,
    /// An item ends with this piece.
    pub item: bool,
    /// The bytes are a Snappy block.
    pub compressed: bool,
}

/// The optional fields of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The application's metadata.
    pub metadata: Metadata,
    /// Time until the requester's deadline; microseconds on the wire.
    pub remaining: Option<Duration>,
    /// The priority class of the call.
    pub urgency: Option<Urgency>,
    /// The size of the whole stream in bytes.
    pub size: Option<u64>,
    /// There was an unknown option with a key below 32, so the call must be refused.
    // A flag, not an error, because it concerns one call: the rest of the packet is readable.
    pub unsupported: bool,
}

/// How a call failed.
#[allow(clippy::enum_variant_names, reason = "the wire calls one of the kinds FAILURE")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The handler failed.
    Failure(ErrorInfo),
    /// Callosum failed, or refused the call.
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

/// The `kind` of a FAIL: the same numbers as the `type` of dialect 1.
mod failure {
    pub(super) const FAILURE: u64 = 3;
    pub(super) const ERROR: u64 = 4;
    pub(super) const CANCELLED: u64 = 6;
}

impl Record {
    /// The number of the call, if the record is about one.
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
    /// A whole body, which is one item.
    pub fn whole(bytes: Bytes) -> Self {
        Self { bytes, fin: true, item: true, compressed: false }
    }

    /// The uncompressed size, at most `limit` bytes: for a Snappy block, the one that it declares.
    ///
    /// # Errors
    /// If it is larger, or is not a Snappy block.
    #[inline]
    pub fn declared(&self, limit: usize) -> Result<usize, super::DecodeError> {
        // What the block declares, not what it holds: a false size fails when the block is decompressed.
        let size = match self.compressed {
            true => super::declared_size(&self.bytes)?,
            false => self.bytes.len(),
        };
        if size > limit {
            return Err(super::DecodeError::TooLarge { what: "a piece", size, limit });
        }
        Ok(size)
    }

    /// The uncompressed bytes.
    ///
    /// # Errors
    /// As [`declared`](Self::declared). The declared size is checked before anything is allocated.
    #[inline]
    pub fn plain(self, limit: usize) -> Result<Bytes, super::DecodeError> {
        self.declared(limit)?;
        if !self.compressed {
            return Ok(self.bytes);
        }
        // Allocates the declared size, which the first line has checked.
        snap::raw::Decoder::new()
            .decompress_vec(&self.bytes)
            .map(Bytes::from)
            .map_err(|_| super::DecodeError::Snappy)
    }
}
