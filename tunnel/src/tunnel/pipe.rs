//! One connection over an open pair of streams, such as stdin and stdout.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use callosum_runtime::rt::Socket;
use futures_io::{AsyncRead, AsyncWrite};
use tracing::Instrument;

use super::{Tunnel, accepted};
use crate::accepting::{Accepted, serve};
use crate::relay::Transport;
use crate::{End, Reason, Target, wire};

impl Tunnel {
    /// Has the other side connect to `target`, and relays what is read from `input` to it, and what it sends to `output`, which is
    /// closed at its end (`ssh -W`). Returns when both directions have ended.
    ///
    /// Cancel safe: dropping the future resets the connection.
    ///
    /// # Errors
    /// If the connection could not be opened. How one ended that was open is no error: see [`End`].
    pub async fn pipe(
        &self,
        target: Target,
        input: impl AsyncRead + Send + Unpin + 'static,
        output: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Result<End, Reason> {
        let metadata = wire::connect(Some(&target), None).map_err(|_| Reason::Failed)?;
        let forward = format!("stdio → {target}").into();
        let guard = self.shared.hub.begin(accepted(&forward, Some(target), None), Default::default())?;
        let guard = guard.unless_full(self.shared.settings.max_connections)?;
        let socket = Accepted::new(Box::new(Pair { input, output }), Transport::Other);
        let span = guard.span.clone();
        serve(guard, self.shared.opener(), socket, (wire::CONNECT, metadata), None).instrument(span).await
    }
}

/// Two halves as one stream.
struct Pair<R, W> {
    input: R,
    output: W,
}

/// There is no way to reset it.
impl<R, W> Socket for Pair<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
}

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for Pair<R, W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_read(cx, buf)
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> AsyncWrite for Pair<R, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.output).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.output).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_close(cx)
    }
}
