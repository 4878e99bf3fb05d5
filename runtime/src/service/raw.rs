//! Calls whose argument or result is streamed, in a format that is not `serde`'s: what the clients of upper layers are made of.
//!
//! Responsible only for the bytes: their meaning is up to the layer, and [`StreamInvocation`] sends and receives them.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt};

use super::client::{ResultStream, Sends, StreamInvocation, stream, whole};
use super::error::CallFailure;
use super::framing::Piece;
use crate::Peer;
use crate::codec::CodecError;
use crate::stream::{BodyReader, RawItems};

/// The argument of a call that is made by [`StreamInvocation::raw`] or [`StreamInvocation::raw_items`].
///
/// An argument that could not be encoded fails the call with [`CallError::Encode`](crate::CallError::Encode), and an item with
/// [`CallError::Argument`](crate::CallError::Argument), as the call has been made by then.
pub enum Outgoing {
    /// An argument that is whole.
    Whole(Result<Bytes, CodecError>),
    /// An argument that is a stream of items, each written once there is room.
    Items(BoxStream<'static, Result<Bytes, CodecError>>),
}

impl Outgoing {
    /// An argument that is a stream of these items.
    pub fn items(items: impl Stream<Item = Result<Bytes, CodecError>> + Send + 'static) -> Self {
        Self::Items(items.boxed())
    }
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Items(_) => "Items",
        })
    }
}

impl From<Outgoing> for Sends {
    fn from(outgoing: Outgoing) -> Self {
        match outgoing {
            Outgoing::Whole(argument) => Self::Whole(argument),
            Outgoing::Items(items) => Self::Stream(items.map(|item| item.map(Piece::Item)).boxed()),
        }
    }
}

impl<E: CallFailure> StreamInvocation<Bytes, E> {
    /// A call whose result is whole: its bytes, of at most [`Limits::max_body`](crate::Limits::max_body).
    pub fn raw(peer: &Peer, method: &str, outgoing: Outgoing) -> Self {
        Self::reading(peer, method, outgoing.into(), |result, uploading, codec| {
            async move { whole(result, uploading, &codec).await }.boxed()
        })
    }
}

impl<E: CallFailure> StreamInvocation<ResultStream<RawItems, E>, E> {
    /// A call whose result is a stream of items: their bytes, each of at most [`Limits::max_body`](crate::Limits::max_body). A result of
    /// no bytes has no items.
    pub fn raw_items(peer: &Peer, method: &str, outgoing: Outgoing) -> Self {
        Self::reading(peer, method, outgoing.into(), |result, uploading, codec| {
            stream(result, uploading, codec, BodyReader::raw_items)
        })
    }
}
