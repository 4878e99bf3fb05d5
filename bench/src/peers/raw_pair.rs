//! What calls beside an upload are compared with: plain TCP, with a connection for either, so that no call waits behind bytes of the upload.
//!
//! What they wait for is the kernel and the runtime. The first byte of a connection says what it is for.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, bail};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::{raw_copy, raw_tcp, stack::Stack};
use crate::{
    executor::Tokio,
    load,
    upload::{self, PIECE},
};

const CALLS: u8 = 1;
const UPLOAD: u8 = 2;

/// Pipelined calls and a copy, each over a connection of its own.
#[derive(Debug)]
pub enum RawPair {}

impl Stack for RawPair {
    const NAME: &'static str = "raw-tcp-pair";
    type Runtime = Tokio;
    type Client = Pair;

    async fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        ready(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve_one(stream));
        }
    }

    async fn connect(server: SocketAddr) -> Result<Pair> {
        Ok(Pair {
            calls: raw_tcp::Connection::over(open(server, CALLS).await?)?,
            upload: raw_copy::Connection::over(open(server, UPLOAD).await?.compat()),
        })
    }
}

async fn open(server: SocketAddr, purpose: u8) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    stream.write_u8(purpose).await?;
    Ok(stream)
}

async fn serve_one(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    match stream.read_u8().await? {
        CALLS => raw_tcp::send_back(stream).await,
        UPLOAD => raw_copy::receive::<PIECE>(stream.compat()).await,
        other => bail!("a connection for {other}"),
    }
}

/// The client's end.
#[derive(Clone, Debug)]
pub struct Pair {
    calls: raw_tcp::Connection,
    upload: raw_copy::Connection<Compat<TcpStream>, PIECE>,
}

impl load::Client for Pair {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        self.calls.echo(body).await
    }
}

impl upload::Client for Pair {
    async fn upload(&self, bytes: u64) -> Result<u64> {
        self.upload.upload(bytes).await
    }
}
