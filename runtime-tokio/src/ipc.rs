//! tokio's Unix domain sockets.
#![cfg(all(unix, not(callosum_portable)))]

use std::io;
use std::path::Path;

use callosum_runtime::SocketOptions;
use callosum_runtime::rt::{BoxSocket, Listener, SocketFile, ipc_listener};
use tokio::net::{UnixListener, UnixStream};

use crate::socket::Stream;

pub(crate) async fn connect(path: &Path) -> io::Result<BoxSocket> {
    Ok(Box::new(Stream(UnixStream::connect(path).await?)))
}

pub(crate) fn listen(path: &Path, options: &SocketOptions) -> io::Result<Box<dyn Listener>> {
    let (socket, file) = SocketFile::listen(path, options)?;
    let listener = UnixListener::from_std(socket)?;
    Ok(ipc_listener(file, move |cx| listener.poll_accept(cx).map_ok(|(stream, _)| Stream(stream))))
}
