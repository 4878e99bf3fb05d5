//! `inproc://`: byte streams within the process.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;

use crate::Endpoint;
use crate::channel::{self, Receiver, Sender};
use crate::lock::Mutex;
use crate::rt::{BoxSocket, BoxStream, Listener, Socket};

/// Bytes that each direction of an in-process stream holds.
const CAPACITY: usize = 64 * 1024;

/// Connections that may wait to be accepted by one listener.
const BACKLOG: usize = 128;

static NAMES: LazyLock<Mutex<BTreeMap<String, Sender<Duplex>>>> = LazyLock::new(Mutex::default);

/// One end of a pair of byte streams in memory, such as [`duplex`] makes. Like a socket it takes what there is room for,
/// and gives what there is.
pub struct Duplex {
    reader: piper::Reader,
    writer: piper::Writer,
}

/// Two ends of a byte stream in memory. Each direction holds up to `capacity` bytes, at least 1.
pub fn duplex(capacity: usize) -> (Duplex, Duplex) {
    let (a_reader, b_writer) = piper::pipe(capacity.max(1));
    let (b_reader, a_writer) = piper::pipe(capacity.max(1));
    (Duplex { reader: a_reader, writer: a_writer }, Duplex { reader: b_reader, writer: b_writer })
}

impl std::fmt::Debug for Duplex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Duplex").finish_non_exhaustive()
    }
}

impl AsyncRead for Duplex {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        // Not `poll_drain_bytes`, which yields now and then, at random.
        loop {
            let n = self.reader.try_drain(buf);
            if n > 0 || buf.is_empty() || !ready!(self.reader.poll(cx)) {
                return Poll::Ready(Ok(n));
            }
        }
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let n = self.writer.try_fill(buf);
            if n > 0 || buf.is_empty() || !ready!(self.writer.poll(cx)) {
                return Poll::Ready(Ok(n));
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_close(cx)
    }
}

impl Socket for Duplex {}

pub(crate) fn bind(name: &str) -> io::Result<Box<dyn Listener>> {
    let (sender, receiver) = channel::bounded(BACKLOG);
    match NAMES.lock().entry(name.to_owned()) {
        std::collections::btree_map::Entry::Occupied(_) => return Err(io::ErrorKind::AddrInUse.into()),
        std::collections::btree_map::Entry::Vacant(free) => free.insert(sender),
    };
    Ok(Box::new(InprocListener { name: name.to_owned(), receiver }))
}

pub(crate) async fn connect(name: &str) -> io::Result<BoxStream> {
    let sender = NAMES.lock().get(name).cloned().ok_or(io::ErrorKind::ConnectionRefused)?;
    let (ours, theirs) = duplex(CAPACITY);
    sender.send(theirs).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
    Ok(Box::new(ours))
}

struct InprocListener {
    name: String,
    receiver: Receiver<Duplex>,
}

impl Listener for InprocListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxSocket, String)>> {
        Box::pin(async {
            let stream = self.receiver.next().await.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(stream) as BoxSocket, Endpoint::Inproc(self.name.clone()).to_string()))
        })
    }

    fn endpoint(&self) -> io::Result<Endpoint> {
        Ok(Endpoint::Inproc(self.name.clone()))
    }
}

impl Drop for InprocListener {
    fn drop(&mut self) {
        let sender = NAMES.lock().remove(&self.name);
        // Without the lock: it wakes the task that accepts, if that still waits.
        drop(sender);
    }
}
