//! The floor for uploads: a copy over plain TCP, on either runtime.
//!
//! Before the bytes goes their number, and after them comes the server's answer, both 64 bits, little-endian.

use std::{
    future::Future,
    io,
    marker::PhantomData,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use futures::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    lock::Mutex,
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::stack::Stack;
use crate::{
    executor::{AsyncStd, Executor, Tokio},
    upload::{self, Checker, LARGEST_PIECE, PIECE},
};

/// A runtime's own TCP.
pub trait Net: Executor {
    /// Accepts connections.
    type Listener: Send;
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Listens on a port of 127.0.0.1 that the system chooses.
    fn listen() -> impl Future<Output = io::Result<(Self::Listener, SocketAddr)>> + Send;
    /// The next connection, without Nagle's delay.
    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<Self::Stream>> + Send;
    /// Connects, without Nagle's delay.
    fn connect(server: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Net for Tokio {
    type Listener = tokio::net::TcpListener;
    type Stream = Compat<tokio::net::TcpStream>;

    async fn listen() -> io::Result<(Self::Listener, SocketAddr)> {
        let listener = Self::Listener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream.compat())
    }

    async fn connect(server: SocketAddr) -> io::Result<Self::Stream> {
        let stream = tokio::net::TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(stream.compat())
    }
}

impl Net for AsyncStd {
    type Listener = async_std::net::TcpListener;
    type Stream = async_std::net::TcpStream;

    async fn listen() -> io::Result<(Self::Listener, SocketAddr)> {
        let listener = Self::Listener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    async fn accept(listener: &Self::Listener) -> io::Result<Self::Stream> {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect(server: SocketAddr) -> io::Result<Self::Stream> {
        let stream = Self::Stream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// A copy over plain TCP, that reads and writes so many bytes at once: [`PIECE`] or [`LARGEST_PIECE`].
#[derive(Debug)]
pub struct RawCopy<N, const AT_ONCE: usize = PIECE>(PhantomData<N>);

impl<N: Net, const AT_ONCE: usize> Stack for RawCopy<N, AT_ONCE> {
    const NAME: &'static str = match AT_ONCE {
        PIECE => "raw-tcp-copy",
        LARGEST_PIECE => "raw-tcp-copy-256k",
        _ => panic!("it has no name"),
    };
    type Runtime = N;
    type Client = Connection<N::Stream, AT_ONCE>;

    async fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        let (listener, address) = N::listen().await?;
        ready(address);
        loop {
            let stream = N::accept(&listener).await?;
            drop(N::spawn(receive::<AT_ONCE>(stream)));
        }
    }

    async fn connect(server: SocketAddr) -> Result<Self::Client> {
        Ok(Connection::over(N::connect(server).await?))
    }
}

/// Takes uploads, one after the other.
pub(super) async fn receive<const AT_ONCE: usize>(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send,
) -> Result<()> {
    let mut buffer = vec![0; AT_ONCE];
    loop {
        let mut number = [0; 8];
        stream.read_exact(&mut number).await?;
        let mut left = u64::from_le_bytes(number);
        let mut checker = Checker::default();
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = stream.read(&mut buffer[..most]).await?;
            if n == 0 {
                return Ok(());
            }
            checker.take(&buffer[..n])?;
            left -= n as u64;
        }
        stream.write_all(&checker.answer()).await?;
    }
}

/// The client's end.
#[derive(Debug)]
pub struct Connection<S, const AT_ONCE: usize> {
    stream: Arc<Mutex<S>>,
}

impl<S, const AT_ONCE: usize> Connection<S, AT_ONCE> {
    pub(super) fn over(stream: S) -> Self {
        Self { stream: Arc::new(Mutex::new(stream)) }
    }
}

impl<S, const AT_ONCE: usize> Clone for Connection<S, AT_ONCE> {
    fn clone(&self) -> Self {
        Self { stream: self.stream.clone() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static, const AT_ONCE: usize> upload::Client
    for Connection<S, AT_ONCE>
{
    async fn upload(&self, bytes: u64) -> Result<u64> {
        let mut stream = self.stream.lock().await;
        stream.write_all(&bytes.to_le_bytes()).await?;
        for piece in upload::pieces_of(bytes, AT_ONCE) {
            stream.write_all(&piece).await?;
        }
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await.context("the server gave up")?;
        upload::read_answer(&answer)
    }
}
