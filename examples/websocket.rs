//! Callosum over WebSocket: each message of the link is a binary message, and the server knows its clients by the token
//! that they sent with the HTTP request.
//!
//! `cargo run -p callosum-examples --example websocket`

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use callosum_tokio::link::{LinkFailure, MessageReceiver, MessageSender, Received};
use callosum_tokio::proto::Multipart;
use callosum_tokio::{Binder, Context, Event, HandlerResult, builder};
use futures_util::future::BoxFuture;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{StatusCode, header::AUTHORIZATION};
use tokio_tungstenite::tungstenite::{self, Message, protocol::WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config, client_async_with_config};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Who may come in, by token. A real server has them from elsewhere, and takes TLS.
const CLIENTS: [(&str, &str); 2] = [("Bearer 1234", "alice"), ("Bearer 5678", "bob")];

/// A link brings limits of its own in front of the connection: here, how large a message may be.
fn limits() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(32 << 20)).max_frame_size(Some(32 << 20))
}

/// Frames, each behind its length.
fn encode(message: Multipart) -> Message {
    let mut bytes = BytesMut::new();
    for frame in message.into_frames() {
        bytes.put_u32(u32::try_from(frame.len()).expect("a frame is smaller than 4 GiB"));
        bytes.put(frame);
    }
    Message::Binary(bytes.freeze())
}

/// A message that makes no sense is given as an empty one, which the connection counts.
fn decode(mut bytes: Bytes) -> Multipart {
    let mut frames = Vec::new();
    while bytes.has_remaining() {
        match bytes.try_get_u32() {
            Ok(len) if len as usize <= bytes.len() => frames.push(bytes.split_to(len as usize)),
            _ => return Multipart::default(),
        }
    }
    Multipart::from_frames(frames).unwrap_or_default()
}

fn failure(error: tungstenite::Error) -> LinkFailure {
    Arc::new(error)
}

/// The lock is never waited for: a link is handed one message for a peer at a time.
struct Outgoing(Mutex<SplitSink<WebSocketStream<TcpStream>, Message>>);

impl MessageSender for Outgoing {
    fn send<'a>(&'a self, _to: &'a Bytes, message: Multipart) -> BoxFuture<'a, Result<(), LinkFailure>> {
        async { self.0.lock().await.send(encode(message)).await.map_err(failure) }.boxed()
    }
}

struct Incoming(SplitStream<WebSocketStream<TcpStream>>);

impl MessageReceiver for Incoming {
    fn receive(&mut self) -> BoxFuture<'_, Result<Received, LinkFailure>> {
        async {
            loop {
                match self.0.next().await.transpose().map_err(failure)? {
                    Some(Message::Binary(bytes)) => {
                        return Ok(Received::Message { from: Bytes::new(), message: decode(bytes) });
                    }
                    Some(Message::Close(_)) | None => return Ok(Received::Gone { peer: Bytes::new() }),
                    // The library answers pings.
                    Some(_) => {}
                }
            }
        }
        .boxed()
    }
}

/// Both ends are the same kind of link.
fn link(socket: WebSocketStream<TcpStream>) -> (Outgoing, Incoming) {
    let (outgoing, incoming) = socket.split();
    (Outgoing(Mutex::new(outgoing)), Incoming(incoming))
}

/// The server's end: a client is who its token says, before its first message.
async fn accept(server: Binder, socket: TcpStream) -> Result<(), Box<dyn Error + Send + Sync>> {
    let address = format!("tcp://{}", socket.peer_addr()?);
    let mut name = None;
    #[allow(clippy::result_large_err, reason = "the library's type")]
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let token = request.headers().get(AUTHORIZATION);
        let client = CLIENTS.iter().find(|(known, _)| token.is_some_and(|token| token == known));
        name = client.map(|(_, name)| *name);
        if name.is_some() {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = StatusCode::UNAUTHORIZED;
        Err(refusal)
    };
    let socket = accept_hdr_async_with_config(socket, check, Some(limits())).await?;
    let (outgoing, incoming) = link(socket);
    server.accept_link(outgoing, incoming, address, name.ok_or("it was refused")?)?;
    Ok(())
}

/// The client's end.
async fn open(address: &str, token: &str) -> Result<(Outgoing, Incoming), Box<dyn Error>> {
    let mut request = format!("ws://{address}/callosum").into_client_request()?;
    request.headers_mut().insert(AUTHORIZATION, token.parse()?);
    let socket = TcpStream::connect(address).await?;
    let (socket, _) = client_async_with_config(request, socket, Some(limits())).await?;
    Ok(link(socket))
}

/// The server's method.
async fn whoami((): (), context: Context) -> HandlerResult<Option<String>> {
    Ok(context.identity().map(|identity| identity.user_id.clone()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (server, driver) = builder().handle("whoami", whoami).binder();
    let serving = tokio::spawn(driver);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let binder = server.clone();
    let accepting = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(accept(binder.clone(), socket));
        }
    });

    assert!(open(&address, "Bearer guessed").await.is_err(), "unknown clients are turned down with 401");

    let mut events = server.events();
    let (outgoing, incoming) = open(&address, "Bearer 1234").await?;
    let (client, driver) = builder()
        .call_timeout(TIMEOUT)
        .handle_raw("echo", |body: Bytes, _: Context| async move { HandlerResult::Ok(body) })
        .connect_link(outgoing, incoming);
    let calling = tokio::spawn(driver);

    // To the server.
    let name: Option<String> = client.peer().invoke("whoami", &()).await?;
    println!("the server calls me {name:?}");
    assert_eq!(name.as_deref(), Some("alice"));

    // And back.
    let alice = loop {
        match events.next().await {
            Some(Event::Connected(peer)) => break peer,
            Some(_) => {}
            None => return Err("the server has ended".into()),
        }
    };
    let large = Bytes::from(vec![7; 3 << 20]);
    assert!(alice.invoke_raw("echo", large.clone()).timeout(TIMEOUT).await? == large);

    client.shutdown(TIMEOUT).await;
    calling.await??;
    accepting.abort();
    server.shutdown(TIMEOUT).await;
    serving.await??;
    Ok(())
}
