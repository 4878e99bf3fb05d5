//! Streamed calls through layers.
//!
//! A layer sees a call as a future of its outcome. A stream has no such future: it is read and written in parts, by the application.
//! So the layers have a task of their own, and reader and writer are there before the call is made. The call's future in the innermost
//! layer, [`Outcome`], only watches how it ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use callosum_proto::{Metadata, StreamId};

use super::shared::{Head, Shared};
use crate::error::CallError;
use crate::loan::Loan;
use crate::lock::guarded;
use crate::peer::{Answered, PeerShared};

/// How a streamed call ends. Dropping it before gives the call up.
pub(crate) struct Outcome {
    peer: Arc<PeerShared>,
    shared: Arc<Shared>,
    _loan: Option<Loan>,
}

impl Outcome {
    /// The call is made.
    pub(crate) fn new(peer: Arc<PeerShared>, shared: Arc<Shared>, loan: Option<Loan>) -> Self {
        let (wakers, is_finished) = shared.opened();
        let outcome = Self { peer, shared, _loan: loan };
        if outcome.shared.has_ended() {
            // It was cancelled before the call was made.
            outcome.abandon();
            if let Some(id) = outcome.shared.id() {
                outcome.peer.lock().forget_streams(id, &outcome.shared);
            }
        } else if is_finished && let Some(id) = outcome.shared.id() {
            // The call was just opened. If it has ended since, its argument is not read, so errors don't matter.
            let _ = outcome.peer.lock().connection.send_stream(id).finish();
            outcome.peer.wake();
        }
        wakers.wake();
        outcome
    }

    fn abandon(&self) {
        if let Some(StreamId::Call(call)) = self.shared.id() {
            self.peer.abandon(call);
        }
    }
}

impl Future for Outcome {
    type Output = Result<Metadata, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.shared.watch_outcome(cx);
        self.shared.outcome().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if !self.shared.has_ended() {
            // The layer that dropped the call returns the reason.
            self.abandon();
        }
    }
}

/// The layers of a streamed call. When they have ended, so has the call.
pub(crate) struct Layered<F> {
    calling: F,
    shared: Arc<Shared>,
}

impl<F> Layered<F> {
    pub(crate) fn new(calling: F, shared: Arc<Shared>) -> Self {
        Self { calling, shared }
    }

    /// A layer has answered in place of the other side.
    fn answer(&self, body: Bytes, metadata: Metadata) {
        let (size, body) = (Some(body.len() as u64), guarded(body));
        self.shared.answer(Head { metadata, size, whole: Some(body) }).wake();
    }
}

impl<F: Future<Output = Answered> + Unpin> Future for Layered<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.id().is_none() {
            // If the call is cancelled before a layer makes it, it is never made.
            self.shared.watch_end(cx);
            if self.shared.has_ended() {
                return Poll::Ready(());
            }
        }
        match ready!(Pin::new(&mut self.calling).poll(cx)) {
            Ok((body, metadata)) => self.answer(body, metadata),
            // Ignored if the call has ended itself.
            Err(error) => self.shared.end(Err(error)).wake(),
        }
        Poll::Ready(())
    }
}

impl<F> Drop for Layered<F> {
    fn drop(&mut self) {
        // A layer has panicked, or the endpoint is over.
        self.shared.end_unmade();
        self.shared.end(Err(CallError::Cancelled)).wake();
    }
}
