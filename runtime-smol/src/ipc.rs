//! smol's Unix domain sockets.
#![cfg(all(unix, not(callosum_portable)))]

use std::io;
use std::path::Path;
use std::task::{Poll, ready};

use callosum_runtime::SocketOptions;
use callosum_runtime::rt::{BoxSocket, Listener, SocketFile, ipc_listener};
use smol::Async;
use smol::net::unix::UnixStream;

use crate::accept::poll_accept;
use crate::socket::Stream;

pub(crate) async fn connect(path: &Path) -> io::Result<BoxSocket> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Box::new(Stream::from(stream))),
        // `async-io` takes the `EAGAIN` of a listener whose queue is full for a connection in progress, and then finds none.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error),
    }
}

pub(crate) fn listen(path: &Path, options: &SocketOptions) -> io::Result<Box<dyn Listener>> {
    let (socket, file) = SocketFile::listen(path, options)?;
    let socket = Async::new_nonblocking(socket)?;
    Ok(ipc_listener(file, move |cx| {
        let (stream, _) = ready!(poll_accept(&socket, cx, |socket| socket.accept()))?;
        Poll::Ready(UnixStream::try_from(stream).map(Stream::from))
    }))
}
