//! What goes wrong: reading a message, writing one, a call, a method.

use std::convert::Infallible;

use callosum_runtime::{CallError, HandlerError};

use crate::exception::ApplicationException;
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
    #[error("the message has {size} bytes, and may have {limit}")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// It is over [`Limits::depth`](crate::Limits::depth).
    #[error("the message nests more than {0} deep")]
    TooDeep(usize),
    /// It is over [`Limits::memory`](crate::Limits::memory).
    #[error("the message takes more than {0} bytes of memory")]
    TooMuchMemory(usize),
    /// It does not begin with the version of strict TBinary.
    #[error("the message is not strict TBinary: it begins with {0:#010x}")]
    BadVersion(u32),
    /// Its kind is none that there is, or none that can come here.
    #[error("a message of kind {0} can't come here")]
    BadKind(u8),
    /// A length or a count below zero.
    #[error("the size {0} is negative")]
    NegativeSize(i32),
    /// A type that there is not.
    #[error("{0} is no type")]
    UnknownType(u8),
    /// An element of a container has another type.
    #[error("an element is {found:?}, and should be {expected:?}")]
    WrongType {
        /// The declared type.
        expected: WireType,
        /// The type on the wire.
        found: WireType,
    },
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// A required field, or one of another type than declared.
    #[error("the required field {0} is missing")]
    MissingField(&'static str),
    /// A union without a field that is known, or with more than one.
    #[error("the union {0} has no field that is known, or several")]
    Union(&'static str),
}

/// Why a message can't be written. The fault is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A text or a container has more than 2,147,483,647 bytes or elements.
    #[error("a text or a container is too long for Thrift")]
    TooLong,
}

/// Why a reply is no answer to the call that it came for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// It can't be read.
    #[error("the reply can't be read: {0}")]
    Read(#[from] ReadError),
    /// It is to a call of another method.
    #[error("the reply is to a call of another method")]
    WrongMethod,
    /// It is to another call.
    #[error("the reply is to the call {found}, and not to {expected}")]
    WrongSequence {
        /// The number of the call.
        expected: i32,
        /// That of the reply.
        found: i32,
    },
    /// It has neither a result nor an exception that is declared.
    #[error("the reply has no result")]
    MissingResult,
}

/// How a call of a Thrift method fails. `E` are the exceptions that the method declares.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ThriftError<E = Infallible> {
    /// The method has thrown an exception that it declares.
    #[error("{0}")]
    Exception(E),
    /// The other side's Thrift has answered, and not the method: there is no such method, most often.
    #[error(transparent)]
    Application(ApplicationException),
    /// The call itself has failed, or the handler with something that it does not declare, which is a
    /// [`CallError::Remote`].
    #[error(transparent)]
    Call(#[from] CallError),
    /// The call was not made.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What came is no answer.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

impl<E> ThriftError<E> {
    /// Whether the remote method may have been started; see [`CallError::may_have_run`].
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::Exception(_) | Self::Reply(_) => true,
            Self::Application(exception) => exception.kind != crate::ExceptionKind::UnknownMethod,
            Self::Call(error) => error.may_have_run(),
            Self::Write(_) => false,
        }
    }

    /// The exception that the method declares, if it is that.
    pub fn exception(self) -> Option<E> {
        match self {
            Self::Exception(exception) => Some(exception),
            _ => None,
        }
    }
}

impl<E> From<ReadError> for ThriftError<E> {
    fn from(error: ReadError) -> Self {
        Self::Reply(error.into())
    }
}

/// What a method fails with that declares exceptions. Each of these converts into it with `?`, and so does a [`HandlerError`]; of
/// another error, `HandlerError::from` makes one.
#[derive(Debug)]
pub enum MethodError<E> {
    /// An exception that is declared: the caller has it as the value that it is.
    Exception(E),
    /// Anything else: the caller has a [`CallError::Remote`].
    Undeclared(HandlerError),
}

impl<E> From<HandlerError> for MethodError<E> {
    fn from(error: HandlerError) -> Self {
        Self::Undeclared(error)
    }
}
