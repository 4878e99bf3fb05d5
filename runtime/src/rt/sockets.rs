//! An executor's sockets, by transport, and listeners over them: what every adapter would otherwise write again.
//!
//! An adapter brings a function that polls its socket for the next connection. No `await` comes between the poll that
//! takes a connection and the end of `accept`, so dropping the future of `accept` loses none.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use super::{AsSystemSocket, BoxSocket, ByteStream, Listener, SocketFile, set_up_tcp, unsupported};
use crate::{Endpoint, SocketOptions};

/// The sockets of an executor, for each transport. [`Runtime::connect`](super::Runtime::connect) is then
/// [`open`](Self::open), and [`Runtime::bind`](super::Runtime::bind) is [`listen`](Self::listen).
pub trait Sockets {
    /// A TCP connection.
    type Tcp: ByteStream + AsSystemSocket;

    /// Connects to a host and a port.
    fn connect_tcp(address: (&str, u16)) -> impl Future<Output = io::Result<Self::Tcp>> + Send;

    /// Listens on a host and a port, with [`tcp_listener`].
    fn listen_tcp(
        address: (&str, u16),
        options: SocketOptions,
    ) -> impl Future<Output = io::Result<Box<dyn Listener>>> + Send;

    /// Connects to the Unix domain socket at a path. Default: [unsupported], as on every system but Unix.
    fn connect_ipc(path: &Path) -> impl Future<Output = io::Result<BoxSocket>> + Send {
        std::future::ready(Err(no_ipc(path)))
    }

    /// Listens on a Unix domain socket at a path, with `SocketFile::listen` and [`ipc_listener`]. Default: [unsupported], as on every system
    /// but Unix. A runtime that creates sockets itself must keep to
    /// [`SocketOptions::owner_only`](crate::SocketOptions::owner_only): tunnels rely on it.
    ///
    /// # Errors
    /// As those of `SocketFile::listen`, or as the executor's.
    fn listen_ipc(path: &Path, _options: SocketOptions) -> io::Result<Box<dyn Listener>> {
        Err(no_ipc(path))
    }

    /// Opens a socket to a `tcp://` or `ipc://` endpoint; what is TCP is [set up](set_up_tcp) with these options.
    /// [Unsupported](unsupported) for others.
    fn open(endpoint: &Endpoint, options: SocketOptions) -> BoxFuture<'_, io::Result<BoxSocket>> {
        Box::pin(async move {
            match endpoint {
                Endpoint::Tcp { host, port } => {
                    let stream = Self::connect_tcp((host, *port)).await?;
                    set_up_tcp(&stream, &options)?;
                    Ok(Box::new(stream) as BoxSocket)
                }
                Endpoint::Ipc(path) => Self::connect_ipc(path).await,
                other => Err(unsupported(other)),
            }
        })
    }

    /// Listens on a `tcp://` or `ipc://` endpoint. [Unsupported](unsupported) for others.
    fn listen(endpoint: &Endpoint, options: SocketOptions) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            match endpoint {
                Endpoint::Tcp { host, port } => Self::listen_tcp((host, *port), options).await,
                Endpoint::Ipc(path) => Self::listen_ipc(path, options),
                other => Err(unsupported(other)),
            }
        })
    }
}

fn no_ipc(path: &Path) -> io::Error {
    unsupported(&Endpoint::Ipc(path.to_owned()))
}

/// Connections that a listener keeps until they are accepted. The system may keep fewer: Linux at most `net.core.somaxconn`, 4,096 by
/// default. Past it Linux drops the SYN of a connection, whose client sends it again after 1 s. The standard library's 128 are too few
/// for a burst of connections.
pub(crate) const BACKLOG: i32 = 4_096;

/// Listens on a TCP socket, whose next connection `poll` accepts. Connections are [set up](set_up_tcp) with these options. Up to 4,096
/// connections wait to be accepted, if the system keeps as many.
///
/// # Errors
/// As the system's, for a socket that is not bound.
pub fn tcp_listener<L: AsSystemSocket + Send + 'static, S: ByteStream + AsSystemSocket>(
    listener: L,
    options: SocketOptions,
    mut poll: impl FnMut(&L, &mut Context<'_>) -> Poll<io::Result<(S, SocketAddr)>> + Send + 'static,
) -> io::Result<Box<dyn Listener>> {
    let socket = listener.as_system_socket().0;
    // Listens already, with the executor's backlog: listening again changes it.
    socket.listen(BACKLOG)?;
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    let endpoint = Endpoint::Tcp { host: address.ip().to_string(), port: address.port() };
    let poll = move |cx: &mut Context<'_>| {
        poll(&listener, cx).map_ok(|(stream, address)| {
            // Fails for a connection that the peer has reset already, which says nothing of the next.
            let _ = set_up_tcp(&stream, &options);
            (Box::new(stream) as BoxSocket, format!("tcp://{address}"))
        })
    };
    Ok(Box::new(Polled { poll, endpoint, _file: None }))
}

/// Listens on a Unix domain socket that is bound to `file`, whose next connection `poll` accepts.
pub fn ipc_listener<S: ByteStream + AsSystemSocket>(
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

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_io::{AsyncRead, AsyncWrite};
    use futures_util::FutureExt;

    use super::super::SystemSocket;
    use super::*;

    /// No connection is ever made.
    enum Never {}

    impl AsSystemSocket for Never {
        fn as_system_socket(&self) -> SystemSocket<'_> {
            match *self {}
        }
    }

    impl AsyncRead for Never {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            match *self {}
        }
    }

    impl AsyncWrite for Never {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            match *self {}
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            match *self {}
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            match *self {}
        }
    }

    struct TcpAlone;

    impl Sockets for TcpAlone {
        type Tcp = Never;

        async fn connect_tcp(_: (&str, u16)) -> io::Result<Never> {
            Err(io::ErrorKind::ConnectionRefused.into())
        }

        async fn listen_tcp(_: (&str, u16), _: SocketOptions) -> io::Result<Box<dyn Listener>> {
            Err(io::ErrorKind::AddrInUse.into())
        }
    }

    /// As on systems other than Unix.
    #[test]
    fn an_executor_without_ipc_says_so() {
        let endpoint = Endpoint::Ipc("/run/manager.sock".into());
        let opened = TcpAlone::open(&endpoint, SocketOptions::default()).now_or_never();
        let listening = TcpAlone::listen(&endpoint, SocketOptions::default()).now_or_never();
        for error in [opened.unwrap().map(drop).unwrap_err(), listening.unwrap().map(drop).unwrap_err()] {
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            assert!(error.to_string().contains("ipc:///run/manager.sock"), "{error}");
        }
        let tcp = Endpoint::Tcp { host: "localhost".to_owned(), port: 1 };
        let opened = TcpAlone::open(&tcp, SocketOptions::default()).now_or_never().unwrap();
        assert_eq!(opened.map(drop).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
