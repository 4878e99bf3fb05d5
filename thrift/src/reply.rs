//! Reads the reply to a call.

use bytes::Bytes;

use crate::call_error::{ReplyError, ThriftError};
use crate::error::ReadError;
use crate::exception::{ApplicationException, Exceptions};
use crate::limits::Limits;
use crate::message::{Message, MessageKind};
use crate::protocol::Protocol;
use crate::reader::{Decode, Reader};
use crate::value::Output;

/// The method and the sequence number that a reply has to have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MadeCall {
    pub(crate) kind: MessageKind,
    pub(crate) method: &'static str,
    pub(crate) sequence: i32,
    pub(crate) protocol: Protocol,
    pub(crate) limits: Limits,
}

impl MadeCall {
    /// Reads the result or the exception of a reply.
    pub(crate) fn read<R: Output, E: Exceptions>(self, message: &Bytes) -> Result<R, ThriftError<E>> {
        // Python's server answers a oneway call with this.
        if self.kind == MessageKind::Oneway
            && message.is_empty()
            && let Some(nothing) = R::absent()
        {
            return Ok(nothing);
        }
        let mut reader = match open(message, self.method, self.sequence, (self.protocol, self.limits))? {
            Opened::Result(reader) => reader,
            Opened::Exception(exception) => return Err(ThriftError::Application(exception)),
        };
        let (mut result, mut thrown) = (None, None);
        reader.structure(|reader, id, wire_type| {
            match id {
                0 => result = R::read(reader, wire_type)?,
                id => thrown = E::read(reader, id, wire_type)?.or(thrown.take()),
            }
            Ok(())
        })?;
        reader.finish()?;
        match (thrown, result.or_else(R::absent)) {
            (Some(exception), _) => Err(ThriftError::Exception(exception)),
            (None, Some(result)) => Ok(result),
            (None, None) => Err(ReplyError::MissingResult.into()),
        }
    }
}

/// A reply, opened.
pub(crate) enum Opened<'a> {
    /// At the struct of the result.
    Result(Reader<'a>),
    Exception(ApplicationException),
}

/// Reads the envelope of a reply, and compares it with the call.
pub(crate) fn open<'a>(
    message: &'a Bytes,
    method: &str,
    expected: i32,
    (protocol, limits): (Protocol, Limits),
) -> Result<Opened<'a>, ReplyError> {
    let (envelope, mut reader) = Message::read(message, protocol, limits)?;
    if envelope.sequence != expected {
        return Err(ReplyError::WrongSequence { expected, found: envelope.sequence });
    }
    if envelope.method != method {
        return Err(ReplyError::WrongMethod);
    }
    match envelope.kind {
        MessageKind::Reply => Ok(Opened::Result(reader)),
        MessageKind::Exception => {
            let exception = ApplicationException::decode(&mut reader)?;
            reader.finish()?;
            Ok(Opened::Exception(exception))
        }
        kind => Err(ReadError::BadKind(kind as u8).into()),
    }
}

#[cfg(test)]
mod tests;
