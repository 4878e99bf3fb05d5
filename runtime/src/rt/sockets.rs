//! Listeners over an executor's sockets: what every adapter would otherwise write again.
//!
//! An adapter brings a function that polls its socket for the next connection. No `await` comes between the poll that
//! takes a connection and the end of `accept`, so dropping the future of `accept` loses none.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use super::{BoxSocket, ByteStream, Listener, SocketFile, set_up_tcp};
use crate::{Endpoint, SocketOptions};

/// Listens on a TCP socket at `address`, whose next connection `poll` accepts. Connections are [set up](set_up_tcp) with these
/// options.
pub fn tcp_listener<S: ByteStream + AsFd>(
    address: SocketAddr,
    options: SocketOptions,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(S, SocketAddr)>> + Send + 'static,
) -> Box<dyn Listener> {
    let endpoint = Endpoint::Tcp { host: address.ip().to_string(), port: address.port() };
    let poll = move |cx: &mut Context<'_>| {
        poll(cx).map_ok(|(stream, address)| {
            // Fails for a connection that the peer has reset already, which says nothing of the next.
            let _ = set_up_tcp(&stream, &options);
            (Box::new(stream) as BoxSocket, format!("tcp://{address}"))
        })
    };
    Box::new(Polled { poll, endpoint, _file: None })
}

/// Listens on a Unix domain socket that is bound to `file`, whose next connection `poll` accepts.
pub fn ipc_listener<S: ByteStream + AsFd>(
    file: SocketFile,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>> + Send + 'static,
) -> Box<dyn Listener> {
    let endpoint = file.endpoint();
    let address = endpoint.to_string();
    let poll = move |cx: &mut Context<'_>| {
        poll(cx).map_ok(|stream| (Box::new(stream) as BoxSocket, address.clone()))
    };
    Box::new(Polled { poll, endpoint, _file: Some(file) })
}

/// The socket is dropped before its file is removed.
struct Polled<F> {
    poll: F,
    endpoint: Endpoint,
    _file: Option<SocketFile>,
}

impl<F> Listener for Polled<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<io::Result<(BoxSocket, String)>> + Send,
{
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxSocket, String)>> {
        Box::pin(poll_fn(&mut self.poll))
    }

    fn endpoint(&self) -> io::Result<Endpoint> {
        Ok(self.endpoint.clone())
    }
}
