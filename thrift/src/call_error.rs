//! Errors of calls and of methods.

use std::convert::Infallible;

use callosum_runtime::{CallError, HandlerError};

use crate::error::{ReadError, WriteError};
use crate::exception::ApplicationException;

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
    #[error("the reply is to the call {found}; expected {expected}")]
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
    /// The response is not a valid reply.
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

/// The error of a method that declares exceptions. Each of these converts into it with `?`, and so does a [`HandlerError`]; of
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
