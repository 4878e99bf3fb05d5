//! Reads from sockets, into memory that is used again.
//!
//! The bytes of a read become a piece of a stream without a copy, so their memory is in use until that piece has been
//! sent. New memory has to be zeroed, and costs a page fault for every 4 KiB. So each thread keeps references to the
//! last memory that it has read into, and uses it again once the pieces have been dropped. A socket without input holds
//! no memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use callosum_runtime::rt::BoxSocket;
use futures_io::AsyncRead;

/// Bytes that are read from a socket at once. They travel as one piece of a stream, of which 64 KiB is the most, and with its heads and
/// what CURVE adds it is one segment of loopback, which has 65,483 bytes, or one packet for a network card that segments by itself
/// (64 KiB). With 64 KiB, a segment of some hundred bytes followed each piece, and was as much work for the kernel: both ends of a
/// tunnel with 16 uploads took a quarter more CPU time for the same bytes (measured on loopback, two cores).
const READ: usize = 64 * 1024 - 128;

/// Fewer bytes are copied out of the memory that they were read into: giving it away for them would waste the rest.
const KEPT: usize = READ / 2;

/// Reads whose memory a thread remembers: 2 MiB at most.
const SPARES: usize = 32;

thread_local! {
    /// The newest first.
    static SPARE: RefCell<VecDeque<Bytes>> = const { RefCell::new(VecDeque::new()) };
}

/// Reads available bytes, at most [`READ`]. No bytes are the end.
pub(crate) fn poll_read(socket: &mut BoxSocket, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    // Taken, not borrowed: the socket may be of any type, and its `poll` may call this function.
    let mut spare = SPARE.take();
    let mut buffer = reuse(&mut spare).unwrap_or_else(|| BytesMut::zeroed(READ));
    let read = Pin::new(socket).poll_read(cx, &mut buffer);
    let whole = buffer.freeze();
    let bytes = read.map_ok(|size| match size {
        ..KEPT => Bytes::copy_from_slice(&whole[..size]),
        _ => whole.slice(..size),
    });
    spare.push_front(whole);
    spare.truncate(SPARES);
    SPARE.set(spare);
    bytes
}

/// The first buffer that no piece refers to any more: the newest, as it may still be in the CPU's cache.
fn reuse(spare: &mut VecDeque<Bytes>) -> Option<BytesMut> {
    let at = spare.iter().position(Bytes::is_unique)?;
    spare.remove(at)?.try_into_mut().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields so many bytes of one value, and then is pending.
    struct Giving(VecDeque<(usize, u8)>);

    impl AsyncRead for Giving {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let Some((size, value)) = self.0.pop_front() else { return Poll::Pending };
            buf[..size].fill(value);
            Poll::Ready(Ok(size))
        }
    }

    impl futures_io::AsyncWrite for Giving {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl callosum_runtime::rt::Socket for Giving {
        fn reset_on_drop(&mut self) {}
    }

    #[test]
    fn memory_is_used_again_once_nobody_has_it() {
        let sizes = [(READ, 1), (READ, 2), (READ, 3), (10, 4), (READ / 2, 5)];
        let mut socket: BoxSocket = Box::new(Giving(VecDeque::from(sizes)));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut read = || match poll_read(&mut socket, &mut cx) {
            Poll::Ready(read) => read.expect("it gives"),
            Poll::Pending => Bytes::new(),
        };
        let (first, second) = (read(), read());
        assert!(first == vec![1; READ] && second == vec![2; READ], "each has memory of its own");
        let at = first.as_ptr();
        drop(first);
        let third = read();
        assert!(third.as_ptr() == at && third == vec![3; READ] && second == vec![2; READ]);
        drop(second);
        assert_eq!(read(), vec![4; 10], "few bytes are copied");
        let fifth = read();
        assert!(fifth == vec![5; READ / 2] && third == vec![3; READ]);
        assert!(read().is_empty(), "it waits");
    }

    #[test]
    fn what_a_thread_remembers_is_limited() {
        let sizes = (0..2 * SPARES).map(|_| (READ, 7)).collect();
        let mut socket: BoxSocket = Box::new(Giving(sizes));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let held: Vec<_> = (0..2 * SPARES).map(|_| poll_read(&mut socket, &mut cx)).collect();
        assert_eq!((held.len(), SPARE.with_borrow(VecDeque::len)), (2 * SPARES, SPARES));
    }
}
