//! The logical model of a message, the same for every dialect.

use bytes::Bytes;

use crate::{OrderingKey, Text};

/// What names one call on the wire of dialect 1; a reply echoes it to the byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallName {
    /// The requester's counter, which wraps at 2^32.
    pub seq: u32,
    /// The method's name.
    pub method: Text,
    /// The ordering key, or "no key".
    pub key: OrderingKey,
}

impl CallName {
    /// Bytes of the method's name and the key.
    pub fn size(&self) -> usize {
        self.method.as_bytes().len() + self.key.as_bytes().len()
    }

    /// The same, in a buffer of its own.
    pub(crate) fn detached(&self) -> Self {
        Self { seq: self.seq, method: Text::from(self.method.as_str()), key: self.key.detached() }
    }
}

/// A message between two peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The call that it belongs to.
    pub id: CallName,
    /// What it says of that call.
    pub payload: Payload,
    /// The body travels compressed with Snappy.
    pub compressed: bool,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Run this method with this argument.
    Function(Bytes),
    /// The method ran and returned this.
    Result(Bytes),
    /// The application's handler failed.
    Failure(ErrorInfo),
    /// Callosum itself, or a library under it, failed.
    Error(ErrorInfo),
    /// The requester has lost interest.
    Cancel,
    /// The handler was stopped, or never started, because of a cancellation or a timeout.
    Cancelled,
}

impl Message {
    /// Bytes of its variable parts: method, key and payload.
    pub fn size(&self) -> usize {
        self.id.size() + self.payload.size()
    }
}

impl Payload {
    /// Bytes of its variable part.
    pub fn size(&self) -> usize {
        match self {
            Self::Function(body) | Self::Result(body) => body.len(),
            Self::Failure(info) | Self::Error(info) => info.size(),
            Self::Cancel | Self::Cancelled => 0,
        }
    }

    /// The body of a call or a result; empty for what has none.
    pub(crate) fn into_body(self) -> Bytes {
        match self {
            Self::Function(body) | Self::Result(body) => body,
            Self::Failure(_) | Self::Error(_) | Self::Cancel | Self::Cancelled => Bytes::new(),
        }
    }

    /// The same, in buffers of its own.
    pub(crate) fn detached(&self) -> Self {
        let copy = Bytes::copy_from_slice;
        match self {
            Self::Function(body) => Self::Function(copy(body)),
            Self::Result(body) => Self::Result(copy(body)),
            Self::Failure(info) => Self::Failure(info.detached()),
            Self::Error(info) => Self::Error(info.detached()),
            Self::Cancel => Self::Cancel,
            Self::Cancelled => Self::Cancelled,
        }
    }
}

/// An error as it travels: three texts, after Python's exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{repr}")]
pub struct ErrorInfo {
    /// The class, such as `ZeroDivisionError`.
    pub name: Text,
    /// One line for people.
    pub repr: Text,
    /// Where it came from; may be empty.
    pub traceback: Text,
}

impl ErrorInfo {
    /// An error without a traceback.
    pub fn new(name: impl Into<Text>, repr: impl Into<Text>) -> Self {
        Self { name: name.into(), repr: repr.into(), traceback: Text::default() }
    }

    pub(crate) fn detached(&self) -> Self {
        let copy = |text: &Text| Text::from(text.as_str());
        Self { name: copy(&self.name), repr: copy(&self.repr), traceback: copy(&self.traceback) }
    }

    /// Bytes of the three texts.
    pub fn size(&self) -> usize {
        self.name.as_bytes().len() + self.repr.as_bytes().len() + self.traceback.as_bytes().len()
    }
}
