//! Typed services of Callosum: the echo of the other peers as a method of a trait, in either codec.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use callosum_tokio::{Codec, HandlerResult, service};

use super::{
    callosum::{self, DialectTwo},
    stack::Stack,
};
use crate::{executor::Tokio, load};

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

impl Stack for Typed {
    const NAME: &'static str = "callosum-typed";
    type Runtime = Tokio;
    type Client = EchoClient;

    async fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        callosum::serve(callosum::builder::<Tokio, DialectTwo>().serve(Echo::into_service(Server)), ready)
            .await
    }

    async fn connect(server: SocketAddr) -> Result<EchoClient> {
        let client = callosum::connect::<Tokio, DialectTwo>(callosum::builder::<Tokio, DialectTwo>(), server);
        Ok(EchoClient::new(client.await?.peer()))
    }
}

/// A typed service in MessagePack.
#[derive(Debug)]
pub enum TypedMsgPack {}

impl Stack for TypedMsgPack {
    const NAME: &'static str = "callosum-typed-msgpack";
    type Runtime = Tokio;
    type Client = EchoBytesClient;

    async fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        let service = EchoBytes::into_service(Server);
        callosum::serve(callosum::builder::<Tokio, DialectTwo>().serve(service), ready).await
    }

    async fn connect(server: SocketAddr) -> Result<EchoBytesClient> {
        let client = callosum::connect::<Tokio, DialectTwo>(callosum::builder::<Tokio, DialectTwo>(), server);
        Ok(EchoBytesClient::new(client.await?.peer()))
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
