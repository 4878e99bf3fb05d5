//! Listening for a peer.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use callosum_runtime::rt::Listener;
use callosum_runtime::{BodyReader, BodyWriter, Context, HandlerError, HandlerResult, Responder};
use futures_util::future::select;
use tracing::Instrument;

use super::grants::{Grant, What};
use super::held::Scarce;
use super::shared::Shared;
use crate::accepting::{Accepted, Opener, accept_loop, serve};
use crate::connecting::Call;
use crate::connection::Side;
use crate::hub::Wanted;
use crate::time::within;
use crate::{End, ListenAddress, Permission, Reason, Requester, TunnelEvent, wire};

/// Answers `callosum.tunnel.listen`: listens until the caller gives the call up.
pub(super) async fn listen(
    server: Arc<Shared>,
    body: BodyReader,
    responder: Responder,
    context: Context,
) -> HandlerResult<()> {
    let Call { responder, context, .. } = Call::new(body, responder, context);
    // A listener needs no grace period: it has nothing to clean up.
    context.set_cancel_grace(Duration::ZERO);
    let (address, method) = (wire::address(context.metadata())?, wire::method(context.metadata())?);
    let requester = Requester::of(&context);
    let seen = server.changes.load(Ordering::Acquire);
    let grant = server.grants.begin(requester.clone(), What::Listen(address.clone()));
    let permission = grant.given.ask(&*server.authorizer).await;
    let refuse = |reason| refuse(&requester, &address, reason);
    let permission = permission.ok_or_else(|| refuse(Reason::Forbidden))?;
    // Given up after all that is declared below, the listener and its count: who waits for the address may have a count, too.
    let _held;
    let until_bound = async {
        // What another link of the same client holds is taken over first, and counted then: else it would be over its own limit.
        let taken_over = take_over(&server, &requester, &address).await?;
        let share = server.take_listener(&requester).map_err(refuse)?;
        let (listener, bound) = match taken_over {
            Some(bound) => bound,
            None => bind(&server, &address).await.map_err(|error| failed(&requester, &address, &error))?,
        };
        Ok((share, listener, bound))
    };
    let until_bound = grant.given.stop.or(server.hub.unless_draining(until_bound)).await;
    let (_share, listener, bound) =
        until_bound.map_err(wire::failure)?.unwrap_or_else(|| Err(refuse(Reason::ShuttingDown)))?;
    _held = Scarce::address(&bound).and_then(|address| server.holdings.hold(&requester, address));
    if server.changes.load(Ordering::Acquire) != seen && server.check_again(&grant.given).await.is_none() {
        return Err(refuse(Reason::Forbidden));
    }
    let metadata = wire::listening(&bound)?;
    // A call with an ordering key waits for those before it, and the address must not.
    let beginning =
        within(&*server.hub.runtime, server.settings.connect_timeout, responder.metadata(metadata).begin());
    let begun = grant.given.stop.or(beginning).await.map_err(wire::failure)?;
    let writer: BodyWriter = begun.ok_or_else(|| wire::refusal(Reason::TimedOut))??;
    let forward: Arc<str> = bound.to_string().into();
    server.hub.events.send(TunnelEvent::Listening { forward: forward.clone(), address: bound });
    tracing::info!(user = requester.user(), %forward, "listening for a peer");
    let mut logged =
        Logged { user: requester.user().map(str::to_owned), forward: forward.clone(), end: None };
    let opener = Opener {
        peer: requester.peer.clone(),
        wait: Duration::ZERO,
        open: server.settings.connect_timeout.saturating_mul(2),
    };
    let listening =
        Listening { server: server.clone(), requester, permission, seen, address, method, forward, opener };
    let accepting = pin!(accept_loop(&server.hub, &listening.forward, listener, |socket, _, source| {
        listening.accept(socket, source);
    }));
    let draining = pin!(server.hub.until_draining());
    let stopped = grant.given.stop.or(select(accepting, draining)).await.map(drop);
    drop(writer);
    let end = stopped.err();
    logged.end = Some(end.unwrap_or(End::ShutDown));
    Err(end.map_or_else(|| wire::refusal(Reason::ShuttingDown), wire::failure))
}

/// A listener whose end is logged, also if its handler is dropped because the peer has given it up.
struct Logged {
    user: Option<String>,
    forward: Arc<str>,
    end: Option<End>,
}

impl Drop for Logged {
    fn drop(&mut self) {
        let Self { user, forward, end } = self;
        let end = end.map(tracing::field::display);
        tracing::info!(user = user.as_deref(), %forward, end, "no longer listening for a peer");
    }
}

fn refuse(requester: &Requester, address: &ListenAddress, reason: Reason) -> HandlerError {
    tracing::info!(user = requester.user(), %address, %reason, "refused to listen for a peer");
    wire::refusal(reason)
}

type Bound = (Box<dyn Listener>, ListenAddress);

/// Listens where another link of the same client does or did, which is closed if it is silent. `None` if there is none.
async fn take_over(
    server: &Shared,
    requester: &Requester,
    address: &ListenAddress,
) -> Result<Option<Bound>, HandlerError> {
    let Some(scarce) = Scarce::address(address) else { return Ok(None) };
    if server.holdings.other_links(requester, &scarce).is_empty() {
        return Ok(None);
    }
    let mut bound = bind(server, address).await;
    if bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
        let _waiting =
            server.wait_for_address(requester).map_err(|reason| refuse(requester, address, reason))?;
        server.silent_links.close(requester, &scarce).await;
        bound = bind(server, address).await;
    }
    bound.map(Some).map_err(|error| failed(requester, address, &error))
}

/// Listens, and reports the address, with the port that the system chose.
async fn bind(server: &Shared, address: &ListenAddress) -> io::Result<Bound> {
    let options = server.settings.socket.owner_only();
    let listener = server.hub.runtime.bind(&address.endpoint(), options).await?;
    let bound = address.bound(&listener.endpoint()?);
    Ok((listener, bound))
}

fn failed(requester: &Requester, address: &ListenAddress, error: &io::Error) -> HandlerError {
    tracing::warn!(user = requester.user(), %address, %error, "can't listen for a peer");
    wire::refusal(match error.kind() {
        io::ErrorKind::AddrInUse => Reason::AddressInUse,
        _ => Reason::Failed,
    })
}

/// The peer and the grant of a listener.
struct Listening {
    server: Arc<Shared>,
    requester: Requester,
    permission: Permission,
    /// The number of changes of the rules when the authorizer was asked.
    seen: u64,
    /// As it was asked for.
    address: ListenAddress,
    method: String,
    forward: Arc<str>,
    opener: Opener,
}

impl Listening {
    /// Somebody has connected: the peer is to connect to its target.
    fn accept(&self, socket: Accepted, source: Option<SocketAddr>) {
        let server = &self.server;
        let grant = server.grants.begin(self.requester.clone(), What::Listen(self.address.clone()));
        let wanted = Wanted {
            side: Side::Accepting,
            user: self.requester.user().map(str::to_owned),
            forward: self.forward.clone(),
            target: None,
            source,
        };
        let Ok(guard) = server.hub.begin(wanted, grant.given.stop.clone()) else { return };
        let Ok(mut guard) = guard.unless_full(server.settings.max_connections) else {
            return server.silent_links.start_closing(&self.requester, Scarce::Connection);
        };
        let Ok(metadata) = wire::connect(None, source) else { return guard.set(Err(Reason::Failed)) };
        let (opener, method, granted) = (self.opener.clone(), self.method.clone(), self.permission.clone());
        let (span, seen, server) = (guard.span.clone(), self.seen, server.clone());
        let (runtime, requester) = (server.hub.runtime.clone(), self.requester.clone());
        let serving = async move {
            // A revocation checks the listener, and not the connections that it has accepted since. The limits may have changed, too.
            let permission = match server.changes.load(Ordering::Acquire) == seen {
                true => Ok(granted),
                false => server.check_again(&grant.given).await.ok_or(Reason::Forbidden),
            };
            let counted = permission.and_then(|permission| {
                let by_rule = server.take_of_rule(&requester, &permission)?;
                let by_user = server.take_connection(&requester)?;
                Ok((permission.idle(), by_rule, by_user))
            });
            match counted {
                Ok((idle, by_rule, by_user)) => {
                    serve(guard, opener, socket, (&method, metadata), idle).await.ok();
                    drop::<(_, _, Grant)>((by_rule, by_user, grant));
                }
                Err(reason) => guard.set(Err(reason)),
            }
        };
        runtime.spawn(Box::pin(serving.instrument(span)));
    }
}
