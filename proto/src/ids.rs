//! Identifiers of connections, calls of this side, requests of the peer, streams, and ordering keys.

use std::fmt;

use crate::small::SmallBytes;

/// One connection to one remote peer: unique within an endpoint, never reused.
///
/// [`Endpoint::open`](crate::endpoint::Endpoint::open) assigns it. It is never sent, so a peer can't claim
/// the id of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection-{}", self.0)
    }
}

/// A call that this side made. Unique within its connection, and never reused.
///
/// Its low 32 bits are the `seq` of dialect 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) u64);

impl CallId {
    /// The first id of a connection that does not replace an earlier one.
    pub const FIRST: Self = Self(0);
}

/// A request: a call that a remote peer made. Unique within an endpoint, and never reused.
///
/// This side assigns consecutive numbers, so a peer can't choose values that collide in a hash table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    connection: ConnectionId,
    number: u64,
}

impl RequestId {
    /// The request with this number on a connection.
    pub(crate) const fn new(connection: ConnectionId, number: u64) -> Self {
        Self { connection, number }
    }

    /// The connection on which the request arrived.
    pub const fn connection(self) -> ConnectionId {
        self.connection
    }

    /// Its number on its connection. Requests are counted from 0 in dialect 2, and from 2^61 in dialect 1.
    pub const fn number(self) -> u64 {
        self.number
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request-{}.{}", self.connection.0, self.number)
    }
}

/// The stream of a call of either side. Its two halves are the argument and the result, each either one body
/// or read and written in parts.
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

/// The MessagePack type of a key on the wire; the reply must echo it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum KeyKind {
    /// MessagePack `str`: a key that the caller gave.
    Str,
    /// MessagePack `bin`. Python sends an empty one if the caller gave no key.
    Bin,
}

/// An ordering key, or "no key", with its MessagePack type on the wire: the `okey` field of dialect 1.
///
/// Two keys are equal if both their types and their bytes are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderingKey {
    kind: KeyKind,
    bytes: SmallBytes,
}

impl OrderingKey {
    /// No key: an empty `bin`, as Python sends.
    pub const fn none() -> Self {
        Self { kind: KeyKind::Bin, bytes: SmallBytes::new() }
    }

    /// A key given as text.
    pub fn text(key: impl AsRef<str>) -> Self {
        Self { kind: KeyKind::Str, bytes: SmallBytes::copy_from_slice(key.as_ref().as_bytes()) }
    }

    /// A key given as bytes. An empty one means "no key".
    pub fn binary(key: impl AsRef<[u8]>) -> Self {
        Self { kind: KeyKind::Bin, bytes: SmallBytes::copy_from_slice(key.as_ref()) }
    }

    /// The caller must have checked that a `Str` is UTF-8.
    pub(crate) fn from_wire(kind: KeyKind, bytes: &[u8]) -> Self {
        Self { kind, bytes: SmallBytes::copy_from_slice(bytes) }
    }

    /// Whether there is a key: false only for an empty `bin`.
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

    /// The text of a key whose type on the wire is `str`; `None` for a `bin`.
    pub fn as_text(&self) -> Option<&str> {
        match self.kind {
            // Never `None`: the text was checked when the key was made.
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
