//! Dynamic forwards: listens here for SOCKS5 and HTTP CONNECT clients, which name the target.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use callosum_runtime::rt::{BoxSocket, HandshakeSlot, Handshakes};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::future::{Either, select};
use tracing::Instrument;

use super::{Forward, ForwardError, Shared, Tunnel, accepted};
use crate::accepting::{Accepted, accept_loop, answered, until_stopped};
use crate::events::HandshakeError;
use crate::hub::{Guard, Hub};
use crate::proxy::{self, Handshake, Progress, Request};
use crate::relay::Relay;
use crate::stop::Stop;
use crate::time::within;
use crate::timed::{Times, relay};
use crate::{End, ListenAddress, Reason, TunnelEvent, wire};

/// Clients of one forward that are still in their handshake, or refused and not closed. For one more, the oldest of the address
/// with the most is reset, so that silent clients do not exclude others.
const MAX_HANDSHAKES: usize = 1_024;

/// Bytes of a handshake that are read at once.
const READ: usize = 4 * 1024;

/// Bytes that a client may send after it was refused. One that sends more is reset, or it would keep its task busy.
const MAX_UNREAD: usize = 64 * 1024;

impl Tunnel {
    /// Accepts connections of SOCKS5 and HTTP CONNECT clients here, and has the other side resolve and connect to what each names
    /// (`ssh -D`). Both protocols are spoken on the same port.
    ///
    /// A client learns in its own protocol why a connection could not be opened. It needs no password: every client that reaches
    /// the address uses the tunnel with this side's rights.
    ///
    /// Cancel safe: dropped before it returns, it leaves nothing bound.
    ///
    /// # Errors
    /// If the address can't be bound, or the tunnel is shut down.
    pub async fn dynamic(&self, listen: ListenAddress) -> Result<Forward, ForwardError> {
        let shared = self.shared.clone();
        let (listener, bound) = shared.bind(&listen).await?;
        let name: Arc<str> = format!("{bound} → (dynamic)").into();
        let forward = name.clone();
        let accepting = async move {
            let handshakes = Handshakes::new(MAX_HANDSHAKES);
            accept_loop(&shared.hub, &forward, listener, |socket, address, source| {
                let client = Client { forward: forward.clone(), address: address.into(), source };
                let Some(unfinished) = Unfinished::begin(&handshakes, &client) else {
                    return failed(&shared.hub, &client, HandshakeError::Evicted);
                };
                let serving = negotiate(shared.clone(), handshakes.clone(), client, socket, unfinished);
                shared.hub.runtime.spawn(Box::pin(serving));
            })
            .await;
        };
        self.shared.run(name, bound, accepting)
    }
}

/// A client of a forward.
struct Client {
    forward: Arc<str>,
    /// Where it comes from, as its listener says.
    address: Arc<str>,
    source: Option<SocketAddr>,
}

/// A handshake that counts as unfinished until this is dropped.
struct Unfinished {
    _slot: HandshakeSlot,
    evicted: Arc<Stop>,
}

impl Unfinished {
    /// Counts one more, for which another is evicted if there are too many. `None` if there are too many even so.
    fn begin(handshakes: &Handshakes, client: &Client) -> Option<Self> {
        let evicted = Arc::<Stop>::default();
        let evict = evicted.clone();
        let slot = handshakes.begin(&client.address, move || evict.stop(End::Dropped))?;
        Some(Self { _slot: slot, evicted })
    }
}

/// Learns where to, and goes there.
async fn negotiate(
    shared: Arc<Shared>,
    handshakes: Handshakes,
    client: Client,
    mut socket: Accepted,
    unfinished: Unfinished,
) {
    let (hub, timeout) = (&shared.hub, shared.settings.handshake_timeout);
    let asking = within(&*hub.runtime, timeout, hub.unless_over(ask(socket.get())));
    let (error, reply) = match unfinished.evicted.or(asking).await {
        Ok(Some(Some(Ok(request)))) => {
            let wanted = accepted(&client.forward, Some(request.target.clone()), client.source);
            let guard = match shared.begin(wanted) {
                Ok(guard) => guard,
                Err(reason) => {
                    return refuse(&shared, socket, &unfinished, &request.protocol.reply(Err(reason))).await;
                }
            };
            drop(unfinished);
            let span = guard.span.clone();
            let refused = serve(&shared, guard, socket, request, client.source).instrument(span).await;
            if let Some(socket) = refused
                && let Some(unfinished) = Unfinished::begin(&handshakes, &client)
            {
                linger(&shared, socket, &unfinished).await;
            }
            return;
        }
        Ok(Some(Some(Err(Some(error))))) => {
            (HandshakeError::Malformed(error.to_string()), Some(error.reply()))
        }
        // The client has gone, or the tunnel is over.
        Ok(Some(_)) => return,
        Ok(None) => (HandshakeError::TimedOut, None),
        Err(_) => (HandshakeError::Evicted, None),
    };
    failed(hub, &client, error);
    if let Some(reply) = reply {
        refuse(&shared, socket, &unfinished, &reply).await;
    }
}

/// Reports a client that has named no target.
fn failed(hub: &Hub, client: &Client, error: HandshakeError) {
    let Client { forward, source, .. } = client;
    tracing::debug!(%forward, source = source.map(tracing::field::display), %error, "a client's handshake failed");
    if let Some(unreported) = hub.failed_handshakes.take(hub.runtime.now()) {
        let (forward, source) = (forward.clone(), *source);
        hub.events.send(TunnelEvent::HandshakeFailed { forward, source, error, unreported });
    }
}

/// Reads a complete handshake. The error is `None` for a client that has gone.
async fn ask(socket: &mut BoxSocket) -> Result<Request, Option<proxy::Error>> {
    let mut handshake = Handshake::default();
    let mut buffer = vec![0; READ];
    loop {
        let size = read(socket, &mut buffer).await.map_err(|_| None)?;
        if size == 0 {
            return Err(None);
        }
        match handshake.receive(&buffer[..size])? {
            Progress::More { handshake: next, reply } => {
                handshake = next;
                write_all(socket, reply).await.map_err(|_| None)?;
            }
            Progress::Request { request, reply } => {
                write_all(socket, reply).await.map_err(|_| None)?;
                return Ok(request);
            }
        }
    }
}

/// Opens the connection that a client has asked for, and relays to its end. Returns the socket of a client that was refused, once it
/// is told why: the connection has ended then, whenever the client closes its own.
async fn serve(
    shared: &Arc<Shared>,
    mut guard: Guard,
    mut socket: Accepted,
    request: Request,
    source: Option<SocketAddr>,
) -> Option<Accepted> {
    let Request { protocol, target, mut leftover } = request;
    let (runtime, live, opener) = (guard.runtime().clone(), guard.live.clone(), shared.opener());
    let opening = async {
        let metadata = wire::connect(Some(&target), source).map_err(|_| Reason::Failed)?;
        let (writer, answer) = opener.open(wire::CONNECT, metadata).await?;
        let answer = within(&*runtime, opener.open, answer).await.ok_or(Reason::TimedOut)?;
        Ok((writer, answer.map_err(|error| wire::reason(&error))?.body))
    };
    let opening = async {
        match select(pin!(opening), pin!(until_reset(socket.get(), &mut leftover))).await {
            Either::Left((opened, _)) => Some(opened),
            Either::Right(_) => None,
        }
    };
    let opened = match guard.live.stop.or(opening).await {
        Ok(Some(opened)) => opened,
        // The call that opens it is cancelled, and there is nobody to be told.
        Ok(None) => {
            guard.set(Ok(End::ResetHere));
            return None;
        }
        Err(end) => Err(crate::connecting::unopened(end)),
    };
    match opened {
        Ok((mut writer, reader)) => {
            live.open();
            let size = leftover.len();
            // Ready at once, as nothing was written before. If it fails, the relay gets the error, too.
            if writer.write_bytes(leftover.into()).await.is_ok() {
                live.count_up(size);
            }
            let incoming = answered(protocol.reply(Ok(())), reader);
            let relaying = Relay::new(runtime.clone(), live.clone(), socket.take(), writer, incoming);
            let times = Times { open: opener.open, idle: None };
            let outcome = until_stopped(&guard, relay(&*runtime, &live, times, relaying)).await;
            guard.set(outcome);
            None
        }
        Err(reason) => {
            let reply = protocol.reply(Err(reason));
            let telling = within(&*runtime, shared.settings.handshake_timeout, tell(socket.get(), &reply));
            // A client that does not take the reply is reset, and so is one for which a drain has no more time.
            let told = guard.live.stop.or(telling).await;
            guard.set(Err(reason));
            matches!(told, Ok(Some(Ok(())))).then_some(socket)
        }
    }
}

/// Waits until a client resets its connection, which no read would notice otherwise before the target is connected. What it sends
/// meanwhile belongs to the target, and more than [`READ`] of it waits in the socket. A client that has ended its half may still read.
async fn until_reset(socket: &mut BoxSocket, early: &mut Vec<u8>) {
    let mut buffer = vec![0; READ];
    while early.len() < READ {
        match read(socket, &mut buffer).await {
            Ok(0) => break,
            Ok(size) => early.extend_from_slice(&buffer[..size]),
            Err(_) => return,
        }
    }
    pending().await
}

/// Tells a client why it gets no connection.
async fn refuse(shared: &Shared, mut socket: Accepted, unfinished: &Unfinished, reply: &[u8]) {
    let hub = &shared.hub;
    let telling = hub.unless_over(tell(socket.get(), reply));
    let told = within(&*hub.runtime, shared.settings.handshake_timeout, telling);
    if let Ok(Some(Some(Ok(())))) = unfinished.evicted.or(told).await {
        linger(shared, socket, unfinished).await;
    }
}

/// Waits until a client that was told why has closed its connection. A socket with unread bytes would be reset when it is dropped, maybe
/// before the client has read the reply.
async fn linger(shared: &Shared, mut socket: Accepted, unfinished: &Unfinished) {
    let hub = &shared.hub;
    let ending = hub.unless_over(read_to_end(socket.get()));
    let ended = within(&*hub.runtime, shared.settings.handshake_timeout, ending);
    // Not reset if the tunnel is over, since the client may still read.
    if let Ok(Some(Some(Ok(())) | None)) = unfinished.evicted.or(ended).await {
        drop(socket.take());
    }
}

/// Writes the reply, and ends what this side writes.
async fn tell(socket: &mut BoxSocket, reply: &[u8]) -> std::io::Result<()> {
    write_all(socket, reply).await?;
    std::future::poll_fn(|cx| Pin::new(&mut *socket).poll_close(cx)).await
}

async fn read_to_end(socket: &mut BoxSocket) -> std::io::Result<()> {
    let (mut buffer, mut unread) = (vec![0; READ], 0);
    while unread < MAX_UNREAD {
        match read(socket, &mut buffer).await? {
            0 => return Ok(()),
            size => unread += size,
        }
    }
    Err(std::io::ErrorKind::InvalidData.into())
}

async fn read(socket: &mut BoxSocket, buffer: &mut [u8]) -> std::io::Result<usize> {
    std::future::poll_fn(|cx| Pin::new(&mut *socket).poll_read(cx, buffer)).await
}

async fn write_all(socket: &mut BoxSocket, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let size = std::future::poll_fn(|cx| Pin::new(&mut *socket).poll_write(cx, bytes)).await?;
        if size == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[size..];
    }
    Ok(())
}
