//! Why a message can't be read, or written.

use crate::protocol::Protocol;
use crate::wire_type::WireType;

/// Why a message can't be read. The fault is the peer's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It ends too early, or declares more than it has.
    #[error("the message is truncated")]
    Truncated,
    /// It goes on after its end.
    #[error("{0} bytes follow the message")]
    TrailingBytes(usize),
    /// It is over [`Limits::size`](crate::Limits::size).
    #[error("the message has {size} bytes; the limit is {limit}")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// It is over [`Limits::depth`](crate::Limits::depth).
    #[error("the message nests more than {0} levels deep")]
    TooDeep(usize),
    /// It is over [`Limits::memory`](crate::Limits::memory).
    #[error("the message takes more than {0} bytes of memory")]
    TooMuchMemory(usize),
    /// It does not begin as messages of this protocol do.
    #[error("the message is not {protocol}: it begins with {first:#x}")]
    BadVersion {
        /// What it should be.
        protocol: Protocol,
        /// The four bytes of TBinary's version and kind, or the two of TCompact's.
        first: u32,
    },
    /// Its kind is none that there is, or none that can come here.
    #[error("a message of kind {0} is not expected here")]
    BadKind(u8),
    /// A length or a count below zero.
    #[error("the size {0} is negative")]
    NegativeSize(i32),
    /// An integer has more bits than its type, or a field a number that is out of range.
    #[error("a number is out of range")]
    Number,
    /// A type that there is not.
    #[error("{0} is not a type")]
    UnknownType(u8),
    /// An element of a container has another type.
    #[error("an element is {found:?}; expected {expected:?}")]
    WrongType {
        /// The declared type.
        expected: WireType,
        /// The type on the wire.
        found: WireType,
    },
    /// A text that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A required field, or one of another type than declared.
    #[error("the required field {0} is missing")]
    MissingField(&'static str),
    /// A union without a field that is known, or with more than one.
    #[error("the union {0} does not have exactly one known field")]
    Union(&'static str),
}

/// Why a message can't be written. The fault is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A text or a container has more than 2,147,483,647 bytes or elements.
    #[error("a string or a container is too long for Thrift")]
    TooLong,
}
