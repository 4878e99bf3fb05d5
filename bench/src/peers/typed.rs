//! Typed services of Callosum: the echo of the other peers as a method of a trait, in either codec.

use anyhow::Result;
use bytes::Bytes;
use callosum_tokio::{Builder, Codec, HandlerResult, Peer, service};

use super::layered::Layer;
use crate::load;

/// In JSON, which has strings, and no bytes.
#[service]
pub trait Echo {
    /// Sends it back.
    async fn echo(&self, body: String) -> HandlerResult<String>;
}

/// In MessagePack.
#[service(codec = Codec::MsgPack)]
pub trait EchoBytes {
    /// Sends it back.
    async fn echo(&self, body: Bytes) -> HandlerResult<Bytes>;
}

struct Server;

impl Echo for Server {
    async fn echo(&self, body: String) -> HandlerResult<String> {
        Ok(body)
    }
}

impl EchoBytes for Server {
    async fn echo(&self, body: Bytes) -> HandlerResult<Bytes> {
        Ok(body)
    }
}

/// A typed service in JSON.
#[derive(Debug)]
pub enum Typed {}

impl Layer for Typed {
    const NAME: &'static str = "callosum-typed";
    type Client = EchoClient;

    fn serve(builder: Builder) -> Builder {
        builder.serve(Echo::into_service(Server))
    }

    fn client(peer: Peer) -> EchoClient {
        EchoClient::new(peer)
    }
}

/// A typed service in MessagePack.
#[derive(Debug)]
pub enum TypedMsgPack {}

impl Layer for TypedMsgPack {
    const NAME: &'static str = "callosum-typed-msgpack";
    type Client = EchoBytesClient;

    fn serve(builder: Builder) -> Builder {
        builder.serve(EchoBytes::into_service(Server))
    }

    fn client(peer: Peer) -> EchoBytesClient {
        EchoBytesClient::new(peer)
    }
}

impl load::Client for EchoClient {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        let body = String::from_utf8(body.into())?;
        Ok(EchoClient::echo(self, body).await?.into())
    }
}

impl load::Client for EchoBytesClient {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        Ok(EchoBytesClient::echo(self, body).await?)
    }
}
