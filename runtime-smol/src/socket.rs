//! smol's stream sockets, which don't read again after a read that has emptied the socket.
//!
//! The idea: a read that gives less than was asked for has emptied the socket, so the next one waits for the reactor at once.
//! smol's own streams read first, and register with the reactor when they are told that there is nothing: one system call more
//! for each wait. What has come since the last read is not missed, since the reactor reports whatever can be read when it is
//! asked.

use std::io::{self, IoSlice, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use callosum_runtime::rt::{AsSystemSocket, SystemSocket};
use smol::Async;
use smol::io::{AsyncRead, AsyncWrite};

/// A stream `S` of smol over a socket `T` of the standard library.
pub(crate) struct Stream<S, T> {
    stream: S,
    /// The same socket, to read from.
    socket: Arc<Async<T>>,
    input: Input,
}

/// What is known of the received bytes.
#[derive(Clone, Copy, PartialEq)]
enum Input {
    Unknown,
    /// The last read has taken all.
    Empty,
    /// The same, and the reactor has been asked to wake the task once there are more.
    Awaited,
}

impl<S: Clone + Into<Arc<Async<T>>>, T> From<S> for Stream<S, T> {
    fn from(stream: S) -> Self {
        Self { socket: stream.clone().into(), stream, input: Input::Unknown }
    }
}

impl<S: AsSystemSocket, T> AsSystemSocket for Stream<S, T> {
    fn as_system_socket(&self) -> SystemSocket<'_> {
        self.stream.as_system_socket()
    }
}

impl<S: Unpin, T> AsyncRead for Stream<S, T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { socket, input, .. } = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            let waits = *input != Input::Unknown && socket.poll_readable(cx)?.is_pending();
            if waits && std::mem::replace(input, Input::Awaited) == Input::Empty {
                return Poll::Pending;
            }
            // Also if the reactor says that nothing has come since the task was registered: it takes what came during the
            // wait of another thread that had begun before for something older.
            match socket.get_ref().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && waits => return Poll::Pending,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => *input = Input::Empty,
                result => {
                    let is_empty = result.as_ref().is_ok_and(|read| *read < buf.len());
                    *input = if is_empty { Input::Empty } else { Input::Unknown };
                    return Poll::Ready(result);
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin, T> AsyncWrite for Stream<S, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::task::Waker;

    use super::*;

    fn poll(
        stream: &mut Stream<smol::net::TcpStream, TcpStream>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        Pin::new(stream).poll_read(cx, &mut [0; 2])
    }

    #[test]
    fn who_has_read_all_waits_without_a_read_and_misses_nothing() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut theirs = TcpStream::connect(listener.local_addr()?)?;
        let ours = smol::net::TcpStream::try_from(listener.accept()?.0)?;
        let mut ours = Stream::from(ours);
        let cx = &mut Context::from_waker(Waker::noop());
        theirs.write_all(&[0; 3])?;
        smol::block_on(ours.socket.readable())?;
        assert!(matches!(poll(&mut ours, cx), Poll::Ready(Ok(2))), "there may be more");
        assert!(matches!(poll(&mut ours, cx), Poll::Ready(Ok(1))));
        theirs.write_all(&[0; 1])?;
        assert!(poll(&mut ours, cx).is_pending(), "it has come, but is not read yet");
        assert_eq!(smol::block_on(poll_fn(|cx| poll(&mut ours, cx)))?, 1);
        drop(theirs);
        assert_eq!(smol::block_on(poll_fn(|cx| poll(&mut ours, cx)))?, 0);
        assert_eq!(smol::block_on(poll_fn(|cx| poll(&mut ours, cx)))?, 0, "the end stays the end");
        Ok(())
    }
}
