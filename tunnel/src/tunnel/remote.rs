//! Remote forwards: the other side listens, this side connects.
//!
//! The idea: this side adds a method for each forward, under a unique name, and makes the other side listen with a call
//! that lasts as long as the listener does. Each connection that the other side accepts is a call of that method.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::{BodyReader, CallError, HandlerResult, Handlers, Method};
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tracing::Instrument;

use super::{Forward, ForwardError, Shared, Tunnel, name};
use crate::connecting::{Call, Setup, proxy_header, serve};
use crate::connection::Side;
use crate::dial::Dialer;
use crate::events::TunnelEvent;
use crate::hub::Wanted;
use crate::time::{sleep, within};
use crate::{ListenAddress, Reason, Target, wire};

/// How long this side waits before it asks again, when the other side refused to listen: at first, and at most.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Names of methods are used once in a process.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Tunnel {
    /// Has the other side accept connections on `listen`, and connects each to `target` here (`ssh -R`). Returns once the other side
    /// listens.
    ///
    /// From then on the other side is asked again whenever it has stopped listening: at once after a reconnect, after a pause if it has
    /// refused. [`TunnelEvent::Listening`] and [`TunnelEvent::ListenFailed`] tell.
    ///
    /// If the address is in use, the server probes whether by a connection of this same client that was lost without FIN or RST,
    /// which takes 5 s (U-13). So set [`open_timeout`](super::TunnelSettings::open_timeout) to 10 s or more.
    ///
    /// Cancel safe: dropped before it returns, it ends the listener.
    ///
    /// # Errors
    /// If the other side does not listen, or there is no link within [the time that is waited for one](super::TunnelSettings::wait_for_link);
    /// or if the tunnel is shut down.
    pub async fn remote(&self, listen: ListenAddress, target: Target) -> Result<Forward, ForwardError> {
        let shared = self.shared.clone();
        if shared.hub.is_draining() {
            return Err(ForwardError::ShutDown);
        }
        let incoming = Arc::new(Incoming { shared: shared.clone(), target, name: Mutex::default() });
        let method = Registered::new(&shared.handlers, &incoming);
        let asking = Asking { shared, listen, incoming, method };
        let failed = |reason| ForwardError::Remote { address: asking.listen.clone(), reason };
        let listening = asking.ask(asking.shared.settings.wait_for_link).await.map_err(failed)?;
        let address = listening.address.clone();
        let name = asking.name(&address);
        self.shared.run(name, address, asking.stay(listening))
    }
}

/// The state that a forward needs to listen again after a reconnect.
struct Asking {
    shared: Arc<Shared>,
    listen: ListenAddress,
    incoming: Arc<Incoming>,
    method: Registered,
}

/// A listener of the other side, until this is dropped.
struct Listening {
    address: ListenAddress,
    body: BodyReader,
}

impl Asking {
    /// Sets and gives the name of the forward.
    fn name(&self, address: &ListenAddress) -> Arc<str> {
        let name = name(address, &self.incoming.target);
        *self.incoming.name.lock() = Some(name.clone());
        name
    }

    /// Asks the other side to listen, once it is connected.
    async fn ask(&self, wait: Duration) -> Result<Listening, Reason> {
        let (peer, runtime) = (&self.shared.peer, &*self.shared.hub.runtime);
        if !peer.is_connected() {
            let ready = within(runtime, wait, peer.ready()).await.ok_or(Reason::NotConnected)?;
            ready.map_err(|_| Reason::NotConnected)?;
        }
        let metadata = wire::listen(&self.listen, &self.method.name).map_err(|_| Reason::Failed)?;
        let failed = |error: CallError| wire::reason(&error);
        let answer = peer.open(wire::LISTEN).metadata(metadata).no_timeout().send_raw(Bytes::new());
        let answer = within(runtime, self.shared.settings.open_timeout, answer.map_err(failed)?).await;
        let answer = answer.ok_or(Reason::TimedOut)?.map_err(failed)?;
        let address = wire::address(&answer.metadata).map_err(|_| Reason::Failed)?;
        Ok(Listening { address, body: answer.body })
    }

    /// Asks again whenever the other side has stopped listening.
    async fn stay(self, mut listening: Listening) {
        let hub = self.shared.hub.clone();
        loop {
            let mut reason = until_end(&mut listening.body).await;
            drop(listening);
            let mut pause = RETRY[0];
            listening = loop {
                // Without a link, the next one is waited for instead, as long as its connector takes.
                let away = reason == Reason::NotConnected && !self.shared.peer.is_connected();
                let after = if away { Duration::ZERO } else { pause };
                let forward = self.incoming.name();
                tracing::warn!(%forward, %reason, ?after, "the other side does not listen any more");
                hub.events.send(TunnelEvent::ListenFailed { forward, reason, after });
                sleep(&*hub.runtime, after).await;
                if away && self.is_over() {
                    return;
                }
                match self.ask(Duration::MAX).await {
                    Ok(listening) => break listening,
                    Err(again) => reason = again,
                }
                if !away {
                    pause = (pause * 2).min(RETRY[1]);
                }
            };
            let (forward, address) = (self.name(&listening.address), listening.address.clone());
            tracing::info!(%forward, "the other side listens again");
            hub.events.send(TunnelEvent::Listening { forward, address });
        }
    }

    /// Whether there will be no other link. Else it is waited for, also after one that was not accepted.
    fn is_over(&self) -> bool {
        matches!(self.shared.peer.ready().now_or_never(), Some(Err(_)))
    }
}

/// Waits until the other side stops listening; returns the reason.
async fn until_end(body: &mut BodyReader) -> Reason {
    loop {
        match body.next().await {
            Some(Ok(_)) => {}
            Some(Err(callosum_runtime::BodyError::Call(error))) => return wire::reason(&error),
            Some(Err(_)) | None => return Reason::Failed,
        }
    }
}

/// A method, until this is dropped.
struct Registered {
    handlers: Handlers,
    name: String,
}

impl Registered {
    fn new(handlers: &Handlers, incoming: &Arc<Incoming>) -> Self {
        loop {
            let name = format!("{}{}", wire::INCOMING, NEXT.fetch_add(1, Ordering::Relaxed));
            let incoming = incoming.clone();
            let method = Method::stream(move |body, responder, context| {
                connect(incoming.clone(), Call::new(body, responder, context))
            });
            // The application may use the name for another handler.
            if handlers.add_method(name.clone(), method).is_ok() {
                return Self { handlers: handlers.clone(), name };
            }
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.handlers.remove(&self.name);
    }
}

/// The state that the connections of a remote forward share.
struct Incoming {
    shared: Arc<Shared>,
    target: Target,
    /// The forward's, once the other side listens.
    name: Mutex<Option<Arc<str>>>,
}

impl Incoming {
    fn name(&self) -> Arc<str> {
        self.name.lock().clone().unwrap_or_else(|| self.target.to_string().into())
    }
}

/// Connects for a connection that the other side has accepted. Others may not call it.
async fn connect(incoming: Arc<Incoming>, call: Call) -> HandlerResult<()> {
    let Incoming { shared, target, .. } = &*incoming;
    if *call.context.peer() != shared.peer {
        return Err(wire::refusal(Reason::Forbidden));
    }
    let source = wire::source(call.context.metadata());
    let wanted = Wanted {
        side: Side::Connecting,
        user: None,
        forward: incoming.name(),
        target: Some(target.clone()),
        source,
    };
    let guard = shared.begin(wanted).map_err(wire::refusal)?;
    let dialer = Dialer {
        runtime: &*shared.hub.runtime,
        resolver: &*shared.settings.resolver,
        socket: shared.settings.socket,
        timeout: shared.settings.connect_timeout,
    };
    let set_up = |address: Option<SocketAddr>, ()| async move {
        let preface = match shared.settings.proxy_protocol {
            true => proxy_header(source, address, target, None),
            false => Bytes::new(),
        };
        Ok(Setup { preface, idle: None, held: () })
    };
    let span = guard.span.clone();
    serve(guard, call, dialer, target, |_| Ok(|| Ok(())), set_up).instrument(span).await
}
