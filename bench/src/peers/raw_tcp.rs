//! The floor: TCP and the least framing with which calls can be told apart.
//!
//! A frame is the length of the body and the number of the call (32 and 64 bits, little-endian), then the body.

use std::{
    collections::HashMap,
    mem,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
};

use anyhow::{Context as _, Result};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
    task::yield_now,
};

use super::stack::Stack;
use crate::{executor::Tokio, load::Client};

const HEADER: usize = 12;
const READ_AT_LEAST: usize = 64 << 10;
/// Below this, a body is copied beside others, so that one write takes many.
const SMALL: usize = 4 << 10;
const UNPOISONED: &str = "no code that holds the lock panics";

/// Pipelined calls over plain TCP.
#[derive(Debug)]
pub enum RawTcp {}

impl Stack for RawTcp {
    const NAME: &'static str = "raw-tcp";
    type Runtime = Tokio;
    type Client = Connection;

    async fn serve(ready: impl FnOnce(SocketAddr) + Send + 'static) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        ready(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(send_back(stream));
        }
    }

    async fn connect(server: SocketAddr) -> Result<Connection> {
        Connection::over(TcpStream::connect(server).await?)
    }
}

/// Sends whole frames back, as many at a time as have come.
pub(super) async fn send_back(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    loop {
        let mut whole = 0;
        while let Some(len) = frame_len(&buffer[whole..]) {
            whole += len;
        }
        if whole > 0 {
            stream.write_all(&buffer.split_to(whole)).await?;
        }
        if read_more(&mut stream, &mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// The length of the frame at the start of `bytes`, if all of it is there.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER)?;
    let len = HEADER + (&header[..4]).get_u32_le() as usize;
    (bytes.len() >= len).then_some(len)
}

async fn read_more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> Result<usize> {
    let missing = match buffer.get(..4) {
        Some(mut len) => (HEADER + len.get_u32_le() as usize).saturating_sub(buffer.len()),
        None => 0,
    };
    buffer.reserve(missing.max(READ_AT_LEAST));
    Ok(stream.read_buf(buffer).await?)
}

/// The client's end.
#[derive(Clone, Debug)]
pub struct Connection {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    next_call: u64,
    calls: HashMap<u64, oneshot::Sender<Bytes>>,
    small_frames: BytesMut,
    large_frames: Vec<(Bytes, Bytes)>,
    /// Absent while some call is writing.
    idle_writer: Option<OwnedWriteHalf>,
}

impl Shared {
    fn push(&mut self, body: Bytes) -> oneshot::Receiver<Bytes> {
        let (response, receiver) = oneshot::channel();
        self.calls.insert(self.next_call, response);
        let mut header = BytesMut::with_capacity(HEADER);
        let header = if body.len() < SMALL { &mut self.small_frames } else { &mut header };
        header.put_u32_le(body.len() as u32);
        header.put_u64_le(self.next_call);
        if body.len() < SMALL {
            header.put(body);
        } else {
            let header = header.split().freeze();
            self.large_frames.push((header, body));
        }
        self.next_call += 1;
        receiver
    }
}

impl Connection {
    pub(super) fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let shared = Arc::new(Mutex::new(Shared { idle_writer: Some(writer), ..Shared::default() }));
        tokio::spawn(receive(reader, Arc::clone(&shared)));
        Ok(Self { shared })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect(UNPOISONED)
    }

    /// Writes what this call and others have queued, until nothing is left.
    async fn write(&self, mut writer: OwnedWriteHalf) -> Result<()> {
        loop {
            let (small, large) = {
                let mut shared = self.lock();
                if shared.small_frames.is_empty() && shared.large_frames.is_empty() {
                    shared.idle_writer = Some(writer);
                    return Ok(());
                }
                (mem::take(&mut shared.small_frames), mem::take(&mut shared.large_frames))
            };
            writer.write_all(&small).await?;
            for (header, body) in large {
                writer.write_all_buf(&mut header.chain(body)).await?;
            }
        }
    }
}

impl Client for Connection {
    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        let (response, writer, alone) = {
            let mut shared = self.lock();
            let response = shared.push(body);
            (response, shared.idle_writer.take(), shared.calls.len() == 1)
        };
        if let Some(writer) = writer {
            if !alone {
                // Tasks that the same read has woken add their frames to this write.
                yield_now().await;
            }
            self.write(writer).await?;
        }
        response.await.context("the connection ended")
    }
}

async fn receive(mut reader: OwnedReadHalf, shared: Arc<Mutex<Shared>>) {
    let mut buffer = BytesMut::new();
    while let Ok(1..) = read_more(&mut reader, &mut buffer).await {
        let mut shared = shared.lock().expect(UNPOISONED);
        while let Some(len) = frame_len(&buffer) {
            let mut frame = buffer.split_to(len).freeze();
            frame.advance(4);
            if let Some(response) = shared.calls.remove(&frame.get_u64_le()) {
                // Fails if the receiver was dropped.
                let _ = response.send(frame);
            }
        }
    }
    // Ends the calls that wait.
    shared.lock().expect(UNPOISONED).calls.clear();
}
