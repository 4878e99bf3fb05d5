//! How the items of a stream travel: each serialized and marked as an item, or as the bytes that they are.

use std::marker::PhantomData;

use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Codec;
use crate::codec::CodecError;
use crate::stream::{BodyError, BodyReader, BodyWriter, Items};

/// Whether a stream is one of items or of bytes. The macro chooses by the type that the trait names.
pub trait Framing: 'static {
    /// The items that the application writes.
    type Item: Send + 'static;
    /// The reader that the application gets.
    type Reader: Stream<Item = Result<Self::Item, BodyError>> + Unpin + Send + 'static;

    /// Reads what is left of a body.
    fn read(body: BodyReader) -> Self::Reader;

    /// Serializes an item.
    ///
    /// # Errors
    /// If it can't be.
    fn encode(item: Self::Item, codec: &Codec) -> Result<Piece, CodecError>;
}

/// A unit of writing.
#[derive(Debug)]
pub enum Piece {
    /// An item.
    Item(Bytes),
    /// Bytes of a stream without items.
    Bytes(Bytes),
}

impl Piece {
    pub(super) async fn write(self, writer: &mut BodyWriter) -> Result<(), BodyError> {
        match self {
            Self::Item(item) => writer.write_raw_item(item).await,
            Self::Bytes(bytes) => writer.write_bytes(bytes).await,
        }
    }
}

/// A stream of `T`, each in the codec of the service.
#[derive(Debug)]
pub struct InItems<T>(PhantomData<T>);

impl<T: Serialize + DeserializeOwned + Send + 'static> Framing for InItems<T> {
    type Item = T;
    type Reader = Items<T>;

    fn read(body: BodyReader) -> Items<T> {
        body.items()
    }

    fn encode(item: T, codec: &Codec) -> Result<Piece, CodecError> {
        codec.encode(&item).map(Piece::Item)
    }
}

/// A stream of bytes. The pieces in which they are written mean nothing.
#[derive(Debug)]
pub struct InPieces;

impl Framing for InPieces {
    type Item = Bytes;
    type Reader = BodyReader;

    fn read(body: BodyReader) -> BodyReader {
        body
    }

    fn encode(bytes: Bytes, _: &Codec) -> Result<Piece, CodecError> {
        Ok(Piece::Bytes(bytes))
    }
}
