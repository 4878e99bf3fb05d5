//! tarpc over TCP with bincode, its usual fast path.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use bytes::Bytes;
use futures::StreamExt as _;
use tarpc::{
    client, context, serde_transport,
    server::{self, BaseChannel, Channel as _},
    tokio_serde::formats::Bincode,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::stack::{AT_ONCE, MAX_MESSAGE, Stack};
use crate::{executor::Tokio, load};

#[tarpc::service]
trait EchoService {
    async fn echo(body: Bytes) -> Bytes;
}

#[derive(Clone)]
struct Server;

impl EchoService for Server {
    async fn echo(self, _: context::Context, body: Bytes) -> Bytes {
        body
    }
}

/// tarpc over TCP with bincode.
#[derive(Debug)]
pub enum Tarpc {}

impl Stack for Tarpc {
    const NAME: &'static str = "tarpc";
    type Runtime = Tokio;
    type Client = Client;

    async fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        ready(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            let transport = serde_transport::new(framed(stream)?, Bincode::default());
            let config = server::Config { pending_response_buffer: AT_ONCE };
            let requests = BaseChannel::new(config, transport).execute(Server.serve());
            tokio::spawn(requests.for_each(async |response| {
                tokio::spawn(response);
            }));
        }
    }

    async fn connect(server: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(server).await?;
        let transport = serde_transport::new(framed(stream)?, Bincode::default());
        let mut config = client::Config::default();
        config.pending_request_buffer = AT_ONCE;
        Ok(Client(EchoServiceClient::new(config, transport).spawn()))
    }
}

/// Without Nagle's delay, which tarpc's own listener does not turn off.
fn framed(stream: TcpStream) -> Result<Framed<TcpStream, LengthDelimitedCodec>> {
    stream.set_nodelay(true)?;
    Ok(LengthDelimitedCodec::builder().max_frame_length(MAX_MESSAGE).new_framed(stream))
}

/// The client's end.
#[derive(Clone, Debug)]
pub struct Client(EchoServiceClient);

impl load::Client for Client {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        Ok(self.0.echo(context::current(), body).await?)
    }
}
