//! async-std's sockets, with a `close` that tells the peer.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_std::net::TcpStream;
use async_std::os::unix::net::UnixStream;
use futures_io::{AsyncRead, AsyncWrite};

/// async-std's own `close` only flushes: without an end of stream from this side the peer does not close its own, and
/// every shutdown would wait in vain for that.
pub(crate) struct Stream<S>(pub(crate) S);

pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin {
    fn shutdown_write(&self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Socket for UnixStream {
    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl<S: Socket> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: Socket> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.0).poll_flush(cx))?;
        Poll::Ready(self.0.shutdown_write())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream as PlainUnixStream;
    use std::time::Duration;

    use async_std::task::block_on;

    use super::*;

    /// Only a safety net against hanging.
    const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

    fn close(stream: &mut (impl AsyncWrite + Unpin)) {
        block_on(std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_close(cx))).unwrap();
    }

    #[test]
    fn close_ends_a_tcp_stream() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = Stream(block_on(TcpStream::connect(listener.local_addr().unwrap())).unwrap());
        let (mut peer, _) = listener.accept().unwrap();
        close(&mut stream);
        peer.set_read_timeout(PATIENCE).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the stream is closed, though not dropped");
        drop(stream);
    }

    #[test]
    fn close_ends_a_unix_stream() {
        let (ours, mut peer) = PlainUnixStream::pair().unwrap();
        let mut stream = Stream(UnixStream::from(ours));
        close(&mut stream);
        peer.set_read_timeout(PATIENCE).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the stream is closed, though not dropped");
        drop(stream);
    }
}
