//! Identifiers: connections, calls of both sides, ordering keys.

use std::fmt;

use bytes::Bytes;

/// One connection, unique within an endpoint and never reused.
///
/// It is assigned locally and never travels, so no peer can claim another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A call that this side makes, unique within a connection and those that replace it, and never reused.
///
/// Its low 32 bits are the `seq` of dialect 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A call that a remote peer makes, unique within an endpoint and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    connection: ConnectionId,
    number: u64,
}

impl RequestId {
    /// The request with this number on a connection. Connections make these; schedulers are tested with them.
    pub const fn new(connection: ConnectionId, number: u64) -> Self {
        Self { connection, number }
    }

    /// The connection that it came on.
    pub const fn connection(self) -> ConnectionId {
        self.connection
    }

    /// Its number on that connection.
    pub const fn number(self) -> u64 {
        self.number
    }
}

/// The streams of a call, its argument and its result, named by the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    /// A call of ours: its argument is written, its result is read.
    Call(CallId),
    /// A request of the peer: its argument is read, its result is written.
    Request(RequestId),
}

impl From<CallId> for StreamId {
    fn from(call: CallId) -> Self {
        Self::Call(call)
    }
}

impl From<RequestId> for StreamId {
    fn from(request: RequestId) -> Self {
        Self::Request(request)
    }
}

/// The MessagePack type in which a key travels; a reply must echo it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// MessagePack `str`: a key that the caller gave.
    Str,
    /// MessagePack `bin`: what Python sends, empty, when the caller gave no key.
    Bin,
}

/// The `okey` field of dialect 1: a key, or an explicit "no key", with its type on the wire.
///
/// Two keys are the same only if both type and bytes are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderingKey {
    kind: KeyKind,
    bytes: Bytes,
}

impl OrderingKey {
    /// No key: an empty `bin`, as Python sends it.
    pub const fn none() -> Self {
        Self { kind: KeyKind::Bin, bytes: Bytes::new() }
    }

    /// A key given as text.
    pub fn text(key: impl Into<String>) -> Self {
        Self { kind: KeyKind::Str, bytes: Bytes::from(key.into()) }
    }

    /// A key given as bytes. An empty one means "no key".
    pub fn binary(key: impl Into<Bytes>) -> Self {
        Self { kind: KeyKind::Bin, bytes: key.into() }
    }

    /// The caller of this checked that a `Str` holds UTF-8.
    pub(crate) fn from_wire(kind: KeyKind, bytes: Bytes) -> Self {
        Self { kind, bytes }
    }

    /// False for an empty `bin`, which asks for no ordering.
    pub fn is_given(&self) -> bool {
        self.kind == KeyKind::Str || !self.bytes.is_empty()
    }

    /// Its type on the wire.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Its text, if it travels as text.
    pub fn as_text(&self) -> Option<&str> {
        match self.kind {
            KeyKind::Str => std::str::from_utf8(&self.bytes).ok(),
            KeyKind::Bin => None,
        }
    }
}

impl fmt::Display for OrderingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.as_text(), self.is_given()) {
            (Some(text), _) => write!(f, "{text:?}"),
            (None, true) => write!(f, "{:?}", self.bytes),
            (None, false) => write!(f, "(no key)"),
        }
    }
}
