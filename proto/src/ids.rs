//! Identifiers: which connection, which call of ours, which request of theirs, which stream, which key.

use std::fmt;

use bytes::Bytes;

use crate::small::SmallBytes;

/// One connection to one remote peer: unique within an endpoint, never reused.
///
/// [`Endpoint::open`](crate::endpoint::Endpoint::open) assigns it, and it never travels, so no peer can claim
/// another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection-{}", self.0)
    }
}

/// One call that this side made, unique within its connection and never reused.
///
/// Its low 32 bits are the `seq` of dialect 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) u64);

impl CallId {
    /// What a connection begins with that replaces no other.
    pub const FIRST: Self = Self(0);
}

/// One request: a call that a remote peer made. Unique within an endpoint, never reused.
///
/// This side assigns the number and counts it up, so a peer has no say in how it is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    connection: ConnectionId,
    number: u64,
}

impl RequestId {
    /// The request of this number among those of a connection.
    pub(crate) const fn new(connection: ConnectionId, number: u64) -> Self {
        Self { connection, number }
    }

    /// The connection that the request came from.
    pub const fn connection(self) -> ConnectionId {
        self.connection
    }

    /// Its number among the requests of its connection, which are counted from 0, in dialect 1 from 2^61.
    pub const fn number(self) -> u64 {
        self.number
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request-{}.{}", self.connection.0, self.number)
    }
}

/// The stream of one call of either side: its argument and its result, each a body or read and written in
/// parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    /// The stream of a call that this side made.
    Call(CallId),
    /// The stream of a request of the peer.
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
pub(crate) enum KeyKind {
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
    bytes: SmallBytes,
}

impl OrderingKey {
    /// No key: an empty `bin`, as Python sends it.
    pub const fn none() -> Self {
        Self { kind: KeyKind::Bin, bytes: SmallBytes::new() }
    }

    /// A key given as text.
    pub fn text(key: impl Into<String>) -> Self {
        Self { kind: KeyKind::Str, bytes: Bytes::from(key.into()).into() }
    }

    /// A key given as bytes. An empty one means "no key".
    pub fn binary(key: impl Into<Bytes>) -> Self {
        Self { kind: KeyKind::Bin, bytes: key.into().into() }
    }

    /// Copies a key whose buffer is shared, or belongs to an [owner](Bytes::from_owner): it pins nothing
    /// then, and dropping it runs no code of the owner's.
    #[inline]
    pub fn detach(&mut self) {
        self.bytes.detach();
    }

    /// The same, in a buffer of its own.
    pub(crate) fn detached(&self) -> Self {
        Self { kind: self.kind, bytes: self.bytes.detached() }
    }

    /// The same, copied if it would pin a much larger frame.
    pub(crate) fn keep(self, frame: usize) -> Self {
        Self { kind: self.kind, bytes: self.bytes.keep(frame) }
    }

    /// The caller of this checked that a `Str` holds UTF-8.
    pub(crate) fn from_wire(kind: KeyKind, bytes: SmallBytes) -> Self {
        Self { kind, bytes }
    }

    /// False for an empty `bin`, which asks for no ordering.
    pub fn is_given(&self) -> bool {
        self.kind == KeyKind::Str || !self.bytes.is_empty()
    }

    /// Its type on the wire.
    pub(crate) fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
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
