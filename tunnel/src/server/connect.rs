//! Connecting for a peer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use callosum_runtime::{BodyReader, Context, HandlerResult, Responder};
use tracing::Instrument;

use super::grants::{Grant, What};
use super::held::Scarce;
use super::shared::{Share, Shared};
use crate::connecting::{Call, Setup, proxy_header, serve};
use crate::connection::Side;
use crate::dial::Dialer;
use crate::hub::{Guard, Wanted};
use crate::{Permission, Reason, Requester, Target, wire};

/// The label in metrics of connections to targets that no rule allows.
const FORBIDDEN: &str = "(forbidden)";

/// Answers `callosum.tunnel.connect`.
pub(super) async fn connect(
    server: Arc<Shared>,
    body: BodyReader,
    responder: Responder,
    context: Context,
) -> HandlerResult<()> {
    let call = Call::new(body, responder, context);
    let target = wire::target(call.context.metadata())?;
    let source = wire::source(call.context.metadata());
    let requester = Requester::of(&call.context);
    let user = requester.user().map(str::to_owned);
    let seen = server.changes.load(Ordering::Acquire);
    let grant = server.grants.begin(requester.clone(), What::Connect(target.clone()));
    let permission = grant.given.ask(&*server.authorizer).await;
    let forward = match permission {
        Some(_) => target.to_string().into(),
        None => FORBIDDEN.into(),
    };
    let wanted = Wanted { side: Side::Connecting, user, forward, target: Some(target.clone()), source };
    let mut guard = server.hub.begin(wanted, grant.given.stop.clone()).map_err(wire::refusal)?;
    let Some(permission) = permission else {
        guard.set(Err(Reason::Forbidden));
        return Err(wire::refusal(Reason::Forbidden));
    };
    let mut guard = guard.unless_full(server.settings.max_connections).map_err(|reason| {
        server.silent_links.start_closing(&requester, Scarce::Connection);
        wire::refusal(reason)
    })?;
    let by_user = match server.take_connection(&requester) {
        Ok(share) => share,
        Err(reason) => {
            guard.set(Err(reason));
            return Err(wire::refusal(reason));
        }
    };
    let span = guard.span.clone();
    open(&server, guard, call, Asked { target, source, requester, grant, permission, by_user, seen })
        .instrument(span)
        .await
}

/// A request of a peer that was authorized.
struct Asked {
    target: Target,
    source: Option<SocketAddr>,
    requester: Requester,
    grant: Grant,
    permission: Permission,
    by_user: Share,
    /// The number of changes of the rules when the authorizer was asked.
    seen: u64,
}

async fn open(server: &Arc<Shared>, guard: Guard, call: Call, asked: Asked) -> HandlerResult<()> {
    let Asked { target, source, requester, grant, permission, by_user, seen } = asked;
    let dialer = Dialer {
        runtime: &*server.hub.runtime,
        resolver: &*server.settings.resolver,
        socket: server.settings.socket,
        timeout: server.settings.connect_timeout,
    };
    let admit = |address| {
        let permission = match address {
            Some(address) => permission.at(address).ok_or(Reason::Forbidden)?,
            None => permission.clone(),
        };
        // Counted before it is connected, so that no more are ever connected than may be.
        Ok(|| Ok((server.take_of_rule(&requester, &permission)?, permission)))
    };
    let (user, target) = (guard.live.info.user.clone(), &target);
    serve(guard, call, dialer, target, admit, |address, (counted, permission)| async move {
        grant.given.is_at(address.map(|address| address.ip()));
        // A change of the rules may have rechecked it before its address was known.
        if server.changes.load(Ordering::Acquire) != seen && server.check_again(&grant.given).await.is_none()
        {
            return Err(Reason::Forbidden);
        }
        let preface = match permission.writes_proxy_header() {
            true => proxy_header(source, address, target, user.as_deref()),
            false => Bytes::new(),
        };
        Ok(Setup { preface, idle: permission.idle(), held: (counted, by_user, grant) })
    })
    .await
}
