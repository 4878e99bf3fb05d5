//! The `zeromq` crate by itself: a ROUTER sends back to a DEALER what it gets. No calls, no handlers.
//!
//! A message has three frames, as long as those of Callosum in dialect 1 and of `c/echo.c`: a marker of 5 bytes, a header of 38, which
//! says whose call it is, and the body.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use zeromq::{
    DealerRecvHalf, DealerSendHalf, DealerSocket, Endpoint, RouterSocket, Socket as _, SocketRecv as _,
    SocketSend as _, ZmqMessage,
};

use super::stack::Stack;
use crate::{executor::Tokio, load};

const MARKER: &[u8] = b"UPPER";
const HEADER: usize = 38;
const UNPOISONED: &str = "no code that holds the lock panics";

/// A DEALER and a ROUTER of the `zeromq` crate.
#[derive(Debug)]
pub enum Zeromq {}

impl Stack for Zeromq {
    const NAME: &'static str = "zeromq";
    type Runtime = Tokio;
    type Client = Client;

    async fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        let mut socket = RouterSocket::new();
        match socket.bind("tcp://127.0.0.1:0").await? {
            Endpoint::Tcp(host, port) => ready(SocketAddr::new(host.to_string().parse()?, port)),
            other => bail!("bound to {other} instead of a TCP port"),
        }
        let (mut sender, mut receiver) = socket.split();
        loop {
            // The first frame says which connection it came on, and goes before what is sent there.
            let message = receiver.recv().await?;
            // Fails if the client has left meanwhile.
            let _ = sender.send(message).await;
        }
    }

    async fn connect(server: SocketAddr) -> Result<Client> {
        let mut socket = DealerSocket::new();
        socket.connect(&format!("tcp://{server}")).await?;
        let (sender, receiver) = socket.split();
        let calls = Arc::new(Calls::default());
        tokio::spawn(receive(receiver, calls.clone()));
        Ok(Client { sender: Arc::new(AsyncMutex::new(sender)), calls })
    }
}

#[derive(Default)]
struct Calls {
    made: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Bytes>>>,
}

/// The client's end.
#[derive(Clone)]
pub struct Client {
    sender: Arc<AsyncMutex<DealerSendHalf>>,
    calls: Arc<Calls>,
}

impl load::Client for Client {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        let call = self.calls.made.fetch_add(1, Ordering::Relaxed);
        let (response, receiver) = oneshot::channel();
        self.calls.waiting.lock().expect(UNPOISONED).insert(call, response);
        let mut header = BytesMut::zeroed(HEADER);
        header[..8].copy_from_slice(&call.to_le_bytes());
        let mut message = ZmqMessage::from(Bytes::from_static(MARKER));
        message.push_back(header.freeze());
        message.push_back(body);
        // It only joins the crate's queue: the lock is never held for long.
        self.sender.lock().await.send(message).await?;
        receiver.await.context("the connection ended")
    }
}

async fn receive(mut receiver: DealerRecvHalf, calls: Arc<Calls>) {
    while let Ok(message) = receiver.recv().await {
        let Ok((call, body)) = take_apart(message) else { break };
        let response = calls.waiting.lock().expect(UNPOISONED).remove(&call);
        if let Some(response) = response {
            // Fails if the receiver was dropped.
            let _ = response.send(body);
        }
    }
    // Ends the calls that wait.
    calls.waiting.lock().expect(UNPOISONED).clear();
}

fn take_apart(message: ZmqMessage) -> Result<(u64, Bytes)> {
    let Ok([marker, mut header, body]) = <[Bytes; 3]>::try_from(message.into_vec()) else {
        bail!("not three frames")
    };
    ensure!(marker == MARKER && header.len() == HEADER, "a header came back changed");
    Ok((header.get_u64_le(), body))
}
