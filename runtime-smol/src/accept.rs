//! Accepting connections by polling.

use std::io;
use std::task::{Context, Poll, ready};

use smol::Async;

/// smol's own `accept` is a future that borrows the socket; a listener polls.
pub(crate) fn poll_accept<L, S>(
    socket: &Async<L>,
    cx: &mut Context<'_>,
    accept: impl Fn(&L) -> io::Result<S>,
) -> Poll<io::Result<S>> {
    loop {
        match accept(socket.get_ref()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_readable(cx))?,
            result => return Poll::Ready(result),
        }
    }
}
