//! Making calls, through the layers of their peer if it has any.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use futures_util::future::{BoxFuture, FutureExt, TryFutureExt};

use crate::error::CallError;
use crate::peer::{Answered, CallNext, CallResult, OutgoingCall, PendingReply};
use crate::stream::{CallStreams, Layered, Shared};

/// Makes a call for a whole result.
pub(crate) fn send(new: OutgoingCall) -> Sent {
    let Some(layers) = new.peer().layers().clone() else { return Sent::Made(new.make()) };
    let mut call = CallNext::new(layers).run(new);
    // Most layers make the call during this first poll, which keeps the order of calls. The awaiting task brings a waker later.
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Sent::Ended(Some(result)),
        Poll::Pending => Sent::Layered(call),
    }
}

/// Makes a call for a streamed result. Through layers, its streams are there before it is made.
pub(crate) fn open(mut new: OutgoingCall) -> Result<CallStreams, CallError> {
    let peer = new.peer().shared.clone();
    let Some(layers) = new.peer().layers().clone() else {
        let shared = Arc::default();
        let loan = new.make_streams(&shared)?;
        return Ok(CallStreams::new(peer, shared, loan));
    };
    let shared = Arc::new(Shared::layered());
    new.streams = Some(shared.clone());
    let streams = CallStreams::new(peer.clone(), shared.clone(), None);
    let calling = CallNext::new(layers).run(new).map_ok(into_parts);
    let mut calling = Box::pin(Layered::new(calling, shared.clone()));
    // As for a call whose result is whole.
    if calling.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        // Dropping the layers that have panicked ends the call.
        let calling = AssertUnwindSafe(calling).catch_unwind().map(|ended| {
            if ended.is_err() {
                tracing::error!("a layer around a streamed call panicked");
            }
        });
        peer.core.tasks.spawn(&*peer.core.runtime, Some(shared), calling);
    } else if let (None, Some(error)) = (shared.id(), shared.failure()) {
        return Err(error);
    }
    Ok(streams)
}

fn into_parts(result: CallResult) -> (bytes::Bytes, callosum_proto::Metadata) {
    (result.body, result.metadata)
}

/// A call that has been sent, until it ends.
pub(crate) enum Sent {
    /// Without layers.
    Made(PendingReply),
    Layered(BoxFuture<'static, Result<CallResult, CallError>>),
    /// `None` once the result was taken.
    Ended(Option<Result<CallResult, CallError>>),
}

impl Future for Sent {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let result = match self.get_mut() {
            Self::Made(pending) => return Pin::new(pending).poll(cx),
            Self::Layered(call) => ready!(call.as_mut().poll(cx)),
            Self::Ended(result) => result.take().expect("a response is not polled after completion"),
        };
        Poll::Ready(result.map(into_parts))
    }
}
