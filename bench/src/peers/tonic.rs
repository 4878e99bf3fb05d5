//! tonic: gRPC over HTTP/2 with prost messages: unary calls, and uploads as client-streaming calls.
//!
//! HTTP/2's windows are tonic's defaults for all, as 64 MiB for a connection and 4 MiB for a stream made 1 MiB bodies slower,
//! and smaller ones besides where an upload and calls share a connection.
//! What `tonic-build` would generate is written by hand, so that building needs no `protoc`.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::{Ipv4Addr, SocketAddr},
    task::{Context, Poll},
};

use anyhow::Result;
use bytes::Bytes;
use futures::stream;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client,
    codegen::{BoxFuture, Service, http},
    server::{self, NamedService},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use super::stack::{MAX_MESSAGE, Stack};
use crate::{
    executor::Tokio,
    load,
    upload::{self, Checker},
};

const SERVICE: &str = "bench.Echo";
const METHOD: &str = "/bench.Echo/Echo";
const UPLOAD: &str = "/bench.Echo/Upload";

/// Calls that the server takes at a time on one connection; more wait in the client. There is no limit by default, and then h2 closes
/// a connection with 4,000 small calls in flight, as a flood (`too_many_data_frames`).
const MOST_STREAMS: u32 = 1_024;

#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(bytes = "bytes", tag = "1")]
    body: Bytes,
}

/// tonic's unary calls and client-streaming ones.
#[derive(Debug)]
pub enum Tonic {}

impl Stack for Tonic {
    const NAME: &'static str = "tonic";
    type Runtime = Tokio;
    type Client = Client;

    async fn serve(announce: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        serve(Server::builder(), announce).await
    }

    async fn connect(server: SocketAddr) -> Result<Client> {
        connect(server).await
    }
}

/// The same with a stream's window as large as Callosum's, and room for many in the connection's, so that an upload alone
/// uses up little of it.
#[derive(Debug)]
pub enum TonicWindows {}

impl Stack for TonicWindows {
    const NAME: &'static str = "tonic-256k";
    type Runtime = Tokio;
    type Client = Client;

    async fn serve(announce: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        let windows =
            Server::builder().initial_stream_window_size(256 << 10).initial_connection_window_size(4 << 20);
        serve(windows, announce).await
    }

    async fn connect(server: SocketAddr) -> Result<Client> {
        connect(server).await
    }
}

async fn serve(server: Server, announce: impl FnOnce(SocketAddr)) -> Result<()> {
    let mut server = server.max_concurrent_streams(MOST_STREAMS);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    announce(listener.local_addr()?);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    server.add_service(EchoService).serve_with_incoming(incoming).await?;
    Ok(())
}

async fn connect(server: SocketAddr) -> Result<Client> {
    let channel = Endpoint::from_shared(format!("http://{server}"))?.tcp_nodelay(true).connect().await?;
    Ok(Client(client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE)))
}

#[derive(Clone)]
struct EchoService;

impl NamedService for EchoService {
    const NAME: &'static str = SERVICE;
}

impl Service<http::Request<Body>> for EchoService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let codec = ProstCodec::<Message, Message>::default();
            let mut grpc = server::Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE);
            Ok(match request.uri().path() {
                METHOD => grpc.unary(EchoMethod, request).await,
                UPLOAD => grpc.client_streaming(UploadMethod, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

struct EchoMethod;

impl Service<Request<Message>> for EchoMethod {
    type Response = Response<Message>;
    type Error = Status;
    type Future = Ready<Result<Response<Message>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Message>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

struct UploadMethod;

impl Service<Request<Streaming<Message>>> for UploadMethod {
    type Response = Response<Message>;
    type Error = Status;
    type Future = BoxFuture<Self::Response, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<Message>>) -> Self::Future {
        Box::pin(async move {
            let mut messages = request.into_inner();
            let mut checker = Checker::default();
            while let Some(Message { body }) = messages.message().await? {
                checker.take(&body)?;
            }
            Ok(Response::new(Message { body: checker.answer() }))
        })
    }
}

/// The client's end.
#[derive(Clone, Debug)]
pub struct Client(client::Grpc<Channel>);

impl load::Client for Client {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        let mut grpc = self.0.clone();
        grpc.ready().await?;
        let path = http::uri::PathAndQuery::from_static(METHOD);
        let codec = ProstCodec::<Message, Message>::default();
        Ok(grpc.unary(Request::new(Message { body }), path, codec).await?.into_inner().body)
    }
}

impl upload::Client for Client {
    async fn upload(&self, bytes: u64) -> Result<u64> {
        let mut grpc = self.0.clone();
        grpc.ready().await?;
        let path = http::uri::PathAndQuery::from_static(UPLOAD);
        let codec = ProstCodec::<Message, Message>::default();
        let messages = stream::iter(upload::pieces(bytes).map(|body| Message { body }));
        let answer = grpc.client_streaming(Request::new(messages), path, codec).await?;
        upload::read_answer(&answer.into_inner().body)
    }
}
