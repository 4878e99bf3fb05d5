//! The side that calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use bytes::Bytes;
use callosum_runtime::Peer;

use crate::error::{ReplyError, ThriftError};
use crate::exception::{ApplicationException, Exceptions};
use crate::invocation::ThriftInvocation;
use crate::limits::Limits;
use crate::message::{Message, MessageKind};
use crate::value::{Decode, Output};
use crate::writer::Writer;

/// Calls the methods of a service that a peer has under an alias. What generated clients are made of. Cheap to clone.
///
/// Calls may overlap: each reply is compared with its own call.
#[derive(Clone, Debug)]
pub struct Client {
    peer: Peer,
    alias: Arc<str>,
    /// The number of the next call.
    next: Arc<AtomicI32>,
    limits: Limits,
}

impl Client {
    /// Calls the service that this peer has under this alias.
    pub fn new(peer: Peer, alias: impl Into<Arc<str>>) -> Self {
        Self { peer, alias: alias.into(), next: Arc::new(AtomicI32::new(1)), limits: Limits::DEFAULT }
    }

    /// Limits the replies that are read.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The peer that is called.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// A call of a method, whose arguments are fields that `arguments` writes.
    pub fn call<R: Output, E: Exceptions>(
        &self,
        method: &'static str,
        arguments: impl FnOnce(&mut Writer),
    ) -> ThriftInvocation<R, E> {
        self.prepare(MessageKind::Call, method, arguments)
    }

    /// The same for a oneway method, whose call ends when the other side has run it.
    pub fn call_oneway(
        &self,
        method: &'static str,
        arguments: impl FnOnce(&mut Writer),
    ) -> ThriftInvocation<(), std::convert::Infallible> {
        self.prepare(MessageKind::Oneway, method, arguments)
    }

    fn prepare<R: Output, E: Exceptions>(
        &self,
        kind: MessageKind,
        method: &'static str,
        arguments: impl FnOnce(&mut Writer),
    ) -> ThriftInvocation<R, E> {
        let call = MadeCall { kind, method, sequence: self.next.fetch_add(1, Relaxed), limits: self.limits };
        let mut writer = Message { kind, method, sequence: call.sequence }.write();
        arguments(&mut writer);
        writer.stop();
        let (message, written) = match writer.finish() {
            Ok(message) => (message, Ok(call)),
            Err(error) => (Bytes::new(), Err(error)),
        };
        ThriftInvocation::new(self.peer.invoke_raw(&self.alias, message), written)
    }
}

/// What a reply is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MadeCall {
    kind: MessageKind,
    method: &'static str,
    sequence: i32,
    limits: Limits,
}

impl MadeCall {
    /// What a reply says.
    pub(crate) fn read<R: Output, E: Exceptions>(self, message: &Bytes) -> Result<R, ThriftError<E>> {
        // What Python's server answers to a oneway call.
        if self.kind == MessageKind::Oneway
            && message.is_empty()
            && let Some(nothing) = R::absent()
        {
            return Ok(nothing);
        }
        let mut reader = match open(message, self.method, self.sequence, self.limits)? {
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
    Result(crate::Reader<'a>),
    Exception(ApplicationException),
}

/// Reads the envelope of a reply, and compares it with the call.
pub(crate) fn open<'a>(
    message: &'a Bytes,
    method: &str,
    expected: i32,
    limits: Limits,
) -> Result<Opened<'a>, ReplyError> {
    let (envelope, mut reader) = Message::read(message, limits)?;
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
        kind => Err(crate::ReadError::BadKind(kind as u8).into()),
    }
}

#[cfg(test)]
mod tests;
