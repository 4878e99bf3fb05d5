//! The accepting end of a connection: listeners, and the calls to the other side.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::rt::{BoxSocket, Listener, Runtime};
use callosum_runtime::stream::Answer;
use callosum_runtime::{BodyWriter, Metadata, Peer};

use crate::connecting::unopened;
use crate::hub::{Guard, Hub};
use crate::live::Outcome;
use crate::relay::{Incoming, Relay, Transport};
use crate::time::{sleep, within};
use crate::timed::{Times, relay};
use crate::{Reason, TunnelEvent, wire};

/// How long a listener waits when the system could not accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that a listener accepts before it yields to other tasks.
const ACCEPTED_AT_ONCE: u32 = 64;

/// Everything that is needed to open a connection on the other side.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    pub(crate) peer: Peer,
    /// How long to wait for a link.
    pub(crate) wait: Duration,
    /// How long the other side may take to connect.
    pub(crate) open: Duration,
}

impl Opener {
    /// Makes the call that opens a connection, once the other side is connected.
    pub(crate) async fn open(
        &self,
        method: &str,
        metadata: Metadata,
    ) -> Result<(BodyWriter, Answer), Reason> {
        if !self.peer.is_connected() {
            let ready = within(&**self.peer.runtime(), self.wait, self.peer.ready()).await;
            ready.ok_or(Reason::NotConnected)?.map_err(|_| Reason::NotConnected)?;
        }
        let call = self.peer.open(method).metadata(metadata).no_timeout().stream();
        call.map_err(|error| wire::reason(&error))
    }
}

/// A socket that was accepted, and is reset unless it is taken: its client is to see that it failed.
pub(crate) struct Accepted {
    socket: Option<BoxSocket>,
    transport: Transport,
}

impl Accepted {
    pub(crate) fn new(socket: BoxSocket, transport: Transport) -> Self {
        Self { socket: Some(socket), transport }
    }

    pub(crate) fn get(&mut self) -> &mut BoxSocket {
        self.socket.as_mut().expect("`take` consumes `self`, so the value is still here")
    }

    pub(crate) fn take(mut self) -> (BoxSocket, Transport) {
        let socket = self.socket.take().expect("`take` consumes `self`, so it runs once");
        (socket, self.transport)
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.reset_on_drop();
        }
    }
}

/// Opens a connection on the other side for a socket, and relays to the end. What the socket gives leaves at once, with the call.
pub(crate) async fn serve(
    mut guard: Guard,
    opener: Opener,
    socket: Accepted,
    (method, metadata): (&str, Metadata),
    idle: Option<Duration>,
) -> Outcome {
    let (runtime, live) = (guard.runtime().clone(), guard.live.clone());
    let serving = async {
        let (writer, answer) = opener.open(method, metadata).await?;
        let incoming = Incoming::Answer(answer);
        let relaying = Relay::new(runtime.clone(), live.clone(), socket.take(), writer, incoming);
        relay(&*runtime, &live, Times { open: opener.open, idle }, relaying).await
    };
    let outcome = until_stopped(&guard, serving).await;
    guard.set(outcome);
    outcome
}

/// The output of `serving`, or how it was stopped from outside before.
pub(crate) async fn until_stopped(guard: &Guard, serving: impl Future<Output = Outcome>) -> Outcome {
    let live = &guard.live;
    let stopped = live.stop.or(serving).await;
    live.first_cause(stopped.unwrap_or_else(|end| if live.is_open() { Ok(end) } else { Err(unopened(end)) }))
}

/// Accepts for ever. `each` gets the client's address as the listener gives it, and as a socket address if it is one, and must not
/// block.
pub(crate) async fn accept_loop(
    hub: &Hub,
    forward: &Arc<str>,
    mut listener: Box<dyn Listener>,
    mut each: impl FnMut(Accepted, &str, Option<SocketAddr>),
) {
    let (mut accepted, mut is_failing) = (0_u32, false);
    loop {
        match listener.accept().await {
            Ok((socket, from)) => {
                is_failing = false;
                let source = from.strip_prefix("tcp://").and_then(|from| from.parse().ok());
                each(Accepted::new(socket, Transport::of(&from)), &from, source);
                accepted = accepted.wrapping_add(1);
                if accepted.is_multiple_of(ACCEPTED_AT_ONCE) {
                    yield_now(&*hub.runtime).await;
                }
            }
            // Does not concern the next one.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(error) => {
                // Once until it accepts again, however often it tries.
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%forward, %error, "can't accept");
                    let forward = forward.clone();
                    hub.events.send(TunnelEvent::AcceptFailed { forward, error: Arc::new(error) });
                }
                sleep(&*hub.runtime, ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn yield_now(runtime: &dyn Runtime) {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        runtime.yield_now(cx);
        std::task::Poll::Pending
    })
    .await;
}

/// A connection whose client first gets `reply`, in its own protocol, before anything is relayed.
pub(crate) fn answered(reply: Vec<u8>, reader: callosum_runtime::BodyReader) -> Incoming {
    Incoming::Stream { preface: Bytes::from(reply), reader }
}

#[cfg(test)]
mod tests;
