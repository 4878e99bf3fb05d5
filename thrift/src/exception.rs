//! Exceptions: those that a method declares, and those of Thrift itself.

use std::convert::Infallible;
use std::fmt;

use crate::error::ReadError;
use crate::reader::{Decode, Reader};
use crate::wire_type::WireType;
use crate::writer::{Encode, Writer};

/// The exceptions that a method declares, as fields of its result. [`Infallible`] for one that declares none. Only generated code
/// implements it.
pub trait Exceptions: Sized + Send + 'static {
    /// Writes the one that it is, as a field.
    #[doc(hidden)]
    fn write(&self, to: &mut Writer);

    /// Reads the field of this number, if it is one of them; skips it otherwise.
    ///
    /// # Errors
    /// If the value is malformed.
    #[doc(hidden)]
    fn read(from: &mut Reader<'_>, id: i16, wire_type: WireType) -> Result<Option<Self>, ReadError>;
}

impl Exceptions for Infallible {
    fn write(&self, _: &mut Writer) {
        match *self {}
    }

    fn read(from: &mut Reader<'_>, _: i16, wire_type: WireType) -> Result<Option<Self>, ReadError> {
        from.skip(wire_type)?;
        Ok(None)
    }
}

/// `TApplicationException`: what Thrift answers in place of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApplicationException {
    /// What is wrong.
    pub kind: ExceptionKind,
    /// What the other side says about it. Python's says nothing of an unknown method.
    pub message: Option<String>,
}

/// The kind of an exception, with the number of `TApplicationException`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExceptionKind {
    /// 1: there is no such method.
    UnknownMethod,
    /// 5: the method returned no result.
    MissingResult,
    /// 6: something has failed on the other side.
    InternalError,
    /// 7: the message is malformed.
    ProtocolError,
    /// Any other number.
    Other(i32),
}

impl ExceptionKind {
    fn from_number(number: i32) -> Self {
        match number {
            1 => Self::UnknownMethod,
            5 => Self::MissingResult,
            6 => Self::InternalError,
            7 => Self::ProtocolError,
            other => Self::Other(other),
        }
    }

    fn number(self) -> i32 {
        match self {
            Self::UnknownMethod => 1,
            Self::MissingResult => 5,
            Self::InternalError => 6,
            Self::ProtocolError => 7,
            Self::Other(number) => number,
        }
    }
}

impl fmt::Display for ExceptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownMethod => f.write_str("the other side has no such method"),
            Self::MissingResult => f.write_str("the method returned no result"),
            Self::InternalError => f.write_str("internal error on the other side"),
            Self::ProtocolError => f.write_str("the other side can't read the message"),
            Self::Other(number) => write!(f, "the other side's Thrift answered with exception {number}"),
        }
    }
}

impl fmt::Display for ApplicationException {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{}: {message}", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

impl std::error::Error for ApplicationException {}

impl Encode for ApplicationException {
    const WIRE_TYPE: WireType = WireType::Struct;

    fn encode(&self, to: &mut Writer) {
        to.optional(1, self.message.as_ref());
        to.field(2, &self.kind.number());
        to.stop();
    }
}

impl Decode for ApplicationException {
    const WIRE_TYPE: WireType = WireType::Struct;

    fn decode(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        let (mut message, mut number) = (None, None);
        from.structure(|from, id, wire_type| match id {
            1 => from.field(wire_type, &mut message),
            2 => from.field(wire_type, &mut number),
            _ => from.skip(wire_type),
        })?;
        Ok(Self { kind: ExceptionKind::from_number(number.unwrap_or(0)), message })
    }
}
