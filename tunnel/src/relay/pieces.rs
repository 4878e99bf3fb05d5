//! Moving the pieces of a stream to a socket: several with one call of the system.
//!
//! What is taken from the stream gives its writer credit for more, so only so much is taken as the socket is about to be given.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use callosum_runtime::proto::Chunk;
use callosum_runtime::rt::BoxSocket;
use callosum_runtime::{BodyError, BodyReader};
use futures_io::AsyncWrite;
use futures_util::Stream;

use super::ROUNDS;

/// Pieces of the stream that one write to the socket gathers.
const GATHER: usize = 16;

/// Bytes of them after which no more are taken. To take a piece gives the other side credit for another, so this bounds what a connection
/// whose socket takes nothing holds besides its window. A piece has at most as many bytes, so fewer than twice as many are held.
const GATHER_BYTES: usize = 64 * 1024;

/// The next event of the stream, after the pieces that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gathered {
    More,
    End,
    /// The end of an item that is not the end of the stream: the other side's socket was reset.
    Mark,
}

/// Takes the received pieces of the stream, up to [`GATHER`] pieces or [`GATHER_BYTES`].
pub(super) fn gather(
    reader: &mut BodyReader,
    pieces: &mut VecDeque<Bytes>,
    cx: &mut Context<'_>,
) -> Result<Gathered, BodyError> {
    let mut held: usize = pieces.iter().map(Bytes::len).sum();
    while pieces.len() < GATHER && held < GATHER_BYTES {
        match reader.poll_chunk(cx) {
            Poll::Ready(Some(Ok(Chunk { bytes, end_of_item }))) => {
                held += bytes.len();
                pieces.extend(Some(bytes).filter(|bytes| !bytes.is_empty()));
                if end_of_item {
                    // A stream that came as a whole is an item too.
                    let ends = matches!(reader.poll_chunk(cx), Poll::Ready(None));
                    return Ok(if ends { Gathered::End } else { Gathered::Mark });
                }
            }
            Poll::Ready(Some(Err(error))) => return Err(error),
            Poll::Ready(None) => return Ok(Gathered::End),
            Poll::Pending => return Ok(Gathered::More),
        }
    }
    Ok(Gathered::More)
}

/// Reads a stream to its end for nothing.
pub(super) fn poll_drop(reader: &mut BodyReader, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
    for _ in 0..ROUNDS {
        match ready!(Pin::new(&mut *reader).poll_next(cx)) {
            Some(piece) => drop(piece?),
            None => return Poll::Ready(Ok(())),
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Writes what there is room for, in one call of the system.
pub(super) fn poll_write_pieces(
    socket: &mut BoxSocket,
    pieces: &mut VecDeque<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); GATHER];
    let filled = pieces.len().min(GATHER);
    for (slice, piece) in slices.iter_mut().zip(&*pieces) {
        *slice = IoSlice::new(piece);
    }
    let size = match ready!(Pin::new(socket).poll_write_vectored(cx, &slices[..filled]))? {
        0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
        size => size,
    };
    let mut left = size;
    while let Some(piece) = pieces.front_mut().filter(|_| left > 0) {
        let part = left.min(piece.len());
        piece.advance(part);
        left -= part;
        if piece.is_empty() {
            pieces.pop_front();
        }
    }
    Poll::Ready(Ok(size))
}
