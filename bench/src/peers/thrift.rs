//! A Thrift service over Callosum: the echo of the other peers as the method of `echo.thrift`.

use anyhow::Result;
use bytes::Bytes;
use callosum_tokio::{Builder, Context, HandlerResult, Peer};

use self::echo::{Echo, EchoClient, EchoServer};
use super::layered::Layer;
use crate::load;

callosum_thrift::include_thrift!("echo");

/// The method of Callosum that is the service.
const ALIAS: &str = "Echo";

struct Server;

impl Echo for Server {
    async fn echo(&self, body: Bytes, _: &Context) -> HandlerResult<Bytes> {
        Ok(body)
    }
}

/// A Thrift service.
#[derive(Debug)]
pub enum Thrift {}

impl Layer for Thrift {
    const NAME: &'static str = "callosum-thrift";
    type Client = EchoClient;

    fn serve(builder: Builder) -> Builder {
        callosum_thrift::register(builder, ALIAS, EchoServer::new(Server))
    }

    fn client(peer: Peer) -> EchoClient {
        EchoClient::new(peer, ALIAS)
    }
}

impl load::Client for EchoClient {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        Ok(EchoClient::echo(self, &body).await?)
    }
}
