//! A Protocol Buffers service over Callosum: the echo of the other peers as the method of `echo.proto`.

use anyhow::Result;
use bytes::Bytes;
use callosum_protobuf::{Request, Response, Status};
use callosum_tokio::{Builder, Peer};

use self::generated::{Echo, EchoClient, Message};
use super::layered::Layer;
use crate::load;

#[allow(missing_docs, unreachable_pub, reason = "generated")]
mod generated {
    callosum_protobuf::include_proto!("bench");
}

struct Server;

impl Echo for Server {
    async fn echo(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        Ok(request.into_inner().into())
    }
}

/// A Protocol Buffers service.
#[derive(Debug)]
pub enum Protobuf {}

impl Layer for Protobuf {
    const NAME: &'static str = "callosum-protobuf";
    type Client = EchoClient;

    fn serve(builder: Builder) -> Builder {
        builder.serve(Server.into_service())
    }

    fn client(peer: Peer) -> EchoClient {
        EchoClient::new(peer)
    }
}

impl load::Client for EchoClient {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        Ok(EchoClient::echo(self, &Message { body }).await?.body)
    }
}
