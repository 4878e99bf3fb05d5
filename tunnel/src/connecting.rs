//! The connecting end of a connection: a handler that connects to the target.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::rt::Runtime;
use callosum_runtime::{BodyReader, CancelReason, Context, HandlerResult, Responder};
use futures_util::future::{Either, select};

use crate::dial::{Dialer, Dialled};
use crate::hub::Guard;
use crate::live::Outcome;
use crate::proxy_protocol::{Addresses, Tlv, encode};
use crate::relay::{Incoming, Relay, Transport};
use crate::time::within;
use crate::timed::{Times, relay};
use crate::{End, Host, Reason, Target, wire};

/// How long a handler may go on when its call has been cancelled: to reset its socket, and to say why.
const GRACE: Duration = Duration::from_secs(1);

/// The call of the accepting end.
pub(crate) struct Call {
    pub(crate) body: BodyReader,
    pub(crate) responder: Responder,
    pub(crate) context: Context,
}

impl Call {
    /// From now on it holds no slot, however long it lasts, and sees why it is cancelled.
    pub(crate) fn new(body: BodyReader, responder: Responder, context: Context) -> Self {
        context.release_slot();
        context.set_cancel_grace(GRACE);
        Self { body, responder, context }
    }
}

/// The PROXY protocol header for the target. Unknown addresses, and those that a header can't hold, are left out.
pub(crate) fn proxy_header(
    source: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    target: &Target,
    user: Option<&str>,
) -> Bytes {
    let addresses = match (source, destination, target) {
        (Some(source), Some(destination), _) => Addresses::Tcp { source, destination },
        (None, _, Target::Unix(path)) => Addresses::Unix { source: None, destination: path.clone() },
        _ => Addresses::Unspecified,
    };
    let host = match target {
        Target::Tcp { host: Host::Name(name), .. } => Some(Tlv::Authority(name.clone())),
        _ => None,
    };
    let user = user.map(|user| Tlv::User(user.to_owned()));
    let tlvs: Vec<_> = host.into_iter().chain(user).collect();
    let header = encode(&addresses, &tlvs).or_else(|_| encode(&addresses, &[]));
    header.unwrap_or_default().into()
}

/// How a connection is relayed that has been made.
pub(crate) struct Setup<T> {
    /// Bytes that are sent to the target first.
    pub(crate) preface: Bytes,
    pub(crate) idle: Option<Duration>,
    /// A guard that is held until the connection ends.
    pub(crate) held: T,
}

/// Connects, and relays to the end.
pub(crate) async fn serve<A, T, U, F>(
    mut guard: Guard,
    call: Call,
    dialer: Dialer<'_>,
    target: &Target,
    admit: impl Fn(Option<IpAddr>) -> Result<A, Reason>,
    set_up: impl FnOnce(Option<SocketAddr>, T) -> F,
) -> HandlerResult<()>
where
    A: FnOnce() -> Result<T, Reason>,
    F: Future<Output = Result<Setup<U>, Reason>>,
{
    let Call { body, responder, context } = call;
    let (runtime, live) = (guard.runtime().clone(), guard.live.clone());
    let connecting = async {
        let (Dialled { socket, address }, admitted) = dialer.dial(target, admit).await?;
        let Setup { preface, idle, held } = set_up(address, admitted).await?;
        // A call with an ordering key waits for those before it, and its target must not.
        let begun = within(&*runtime, dialer.timeout, responder.begin()).await.ok_or(Reason::TimedOut)?;
        let writer = begun.map_err(|_| Reason::NotConnected)?;
        live.open();
        let incoming = Incoming::Stream { preface, reader: body };
        let times = Times { open: Duration::MAX, idle };
        let transport = if address.is_some() { Transport::Tcp } else { Transport::Other };
        let relaying = Relay::new(runtime.clone(), live.clone(), (socket, transport), writer, incoming);
        let outcome = relay(&*runtime, &live, times, relaying).await;
        drop(held);
        outcome
    };
    let stop = live.stop.clone();
    let outcome = unless_cancelled(&*runtime, &context, async {
        stop.or(connecting)
            .await
            .unwrap_or_else(|end| if live.is_open() { Ok(end) } else { Err(unopened(end)) })
    })
    .await;
    let outcome = live.first_cause(outcome);
    guard.set(outcome);
    match outcome {
        Ok(End::Closed) => Ok(()),
        Ok(end) => Err(wire::failure(end)),
        Err(reason) => Err(wire::refusal(reason)),
    }
}

/// The output of `future`, or how the call was cancelled before.
async fn unless_cancelled(
    runtime: &dyn Runtime,
    context: &Context,
    future: impl Future<Output = Outcome>,
) -> Outcome {
    let cancelled = pin!(context.cancelled());
    match select(cancelled, pin!(future)).await {
        Either::Left((why, _)) => Ok(cancelled_by(why)),
        // The streams of a call end a moment before its handler learns the reason.
        Either::Right((Ok(End::ResetThere), cancelled)) => {
            Ok(within(runtime, GRACE, cancelled).await.map_or(End::ResetThere, cancelled_by))
        }
        Either::Right((outcome, _)) => outcome,
    }
}

fn cancelled_by(why: CancelReason) -> End {
    match why {
        CancelReason::Disconnected => End::LinkLost,
        CancelReason::TimedOut => End::TimeLimit,
        CancelReason::Shutdown => End::Dropped,
        _ => End::ResetThere,
    }
}

/// Why a connection was not opened that was stopped before.
pub(crate) fn unopened(end: End) -> Reason {
    match end {
        End::Revoked => Reason::Forbidden,
        End::ShutDown | End::Dropped => Reason::ShuttingDown,
        End::LinkLost => Reason::NotConnected,
        _ => Reason::Failed,
    }
}
