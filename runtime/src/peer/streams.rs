//! Events of a peer's connection for the readers and writers of the streams of its calls.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use callosum_proto::{CallId, Dialect, Metadata, Outcome, ReplyError, RequestId, StreamId};
use futures_channel::oneshot;

use super::effects::{Effect, Effects};
use super::state::PeerState;
use crate::error::{CallError, DisconnectCause};
use crate::stream::{Head, Shared, Wakers};

impl PeerState {
    /// Whether the connection that knows a call is still there. Ids of our calls are never used again, and requests end with
    /// their connection.
    pub(crate) fn knows(&self, id: StreamId) -> bool {
        match id {
            StreamId::Call(_) => true,
            StreamId::Request(request) => request.connection() == self.connection.id(),
        }
    }

    /// The reader and the writer of a request of the peer are told from now on, through `shared` if its layers have that already.
    pub(crate) fn follow_streams(&mut self, id: StreamId, shared: Option<Arc<Shared>>) -> Arc<Shared> {
        let shared = shared.unwrap_or_else(|| Arc::new(Shared::of(id)));
        if self.knows(id) {
            self.streams.insert(id, shared.clone());
        }
        shared
    }

    /// Its reader and writer were dropped. Layers may still wait for its end.
    pub(crate) fn forget_streams(&mut self, id: StreamId, shared: &Arc<Shared>) {
        if !shared.leave_to_layers() && self.streams.get(&id).is_some_and(|known| Arc::ptr_eq(known, shared))
        {
            self.streams.remove(&id);
        }
    }

    /// The handler of a request waits until its streamed reply may begin. Gives back who does not wait, to be dropped without the lock: a
    /// former waiter, or this one if the connection is over, so that it would never be woken.
    pub(crate) fn wait_to_reply(
        &mut self,
        request: RequestId,
        waiter: oneshot::Sender<()>,
    ) -> Result<Option<oneshot::Sender<()>>, oneshot::Sender<()>> {
        match self.connection.is_open(request) {
            true => Ok(self.reply_waiters.insert(request, waiter)),
            false => Err(waiter),
        }
    }

    /// The handler waits no more.
    pub(crate) fn stop_waiting_to_reply(&mut self, request: RequestId) -> Option<oneshot::Sender<()>> {
        self.reply_waiters.remove(&request)
    }

    pub(crate) fn set_reply_metadata(&mut self, id: RequestId, metadata: Metadata) -> Result<(), ReplyError> {
        if !self.connection.is_open(id) {
            return Err(ReplyError::NotOpen);
        }
        if self.connection.dialect() == Some(Dialect::One) {
            return Err(ReplyError::NeedsDialect2);
        }
        self.reply_metadata.insert(id, metadata);
        Ok(())
    }

    pub(super) fn tell(&self, id: StreamId, what: impl FnOnce(&Shared) -> Wakers, effects: &mut Effects) {
        if let Some(shared) = self.streams.get(&id) {
            effects.extend(what(shared).into_iter().map(Effect::Wake));
        }
    }

    /// The result of a call of ours is a stream.
    pub(super) fn begin_result(
        &mut self,
        call: CallId,
        metadata: Metadata,
        size: Option<u64>,
        effects: &mut Effects,
    ) {
        self.tell(call.into(), |shared| shared.begin(Head { metadata, size, whole: None }), effects);
    }

    pub(super) fn end_call(
        &mut self,
        call: CallId,
        outcome: Outcome,
        metadata: Metadata,
        effects: &mut Effects,
    ) {
        self.count_call(matches!(outcome, Outcome::Result(_) | Outcome::Complete));
        if let Some(slot) = self.waiting.remove(&call) {
            let result = match outcome {
                Outcome::Result(body) => Ok((body, metadata)),
                other => Err(self.failure(other)),
            };
            effects.extend(slot.put(result).map(Effect::Ended));
            return;
        }
        let id = StreamId::Call(call);
        // Otherwise the caller dropped the call after its end.
        let Some(shared) = self.streams.get(&id) else { return };
        let mut begun = Wakers::default();
        let result = match outcome {
            Outcome::Result(body) => {
                let size = Some(body.len() as u64);
                begun = shared.begin(Head { metadata, size, whole: Some(body) });
                Ok(())
            }
            Outcome::Complete => {
                if shared.is_layered() {
                    shared.complete(self.connection.recv_stream(id).unread());
                }
                Ok(())
            }
            other => Err(self.failure(other)),
        };
        let ended = shared.end(result);
        if shared.is_left_to_layers() {
            self.streams.remove(&id);
        }
        effects.extend(begun.into_iter().chain(ended).map(Effect::Ended));
    }

    /// The connection is over: nothing more is read or written.
    pub(super) fn end_streams(&mut self, cause: &DisconnectCause, now: Instant, effects: &mut Effects) {
        self.reply_metadata.clear();
        effects.drop_later(Some(std::mem::take(&mut self.reply_waiters)));
        for (id, shared) in self.streams.drain() {
            let mut rest = VecDeque::new();
            loop {
                match self.connection.recv_stream(id).read(now) {
                    Ok(Poll::Ready(Some(chunk))) => rest.push_back(chunk),
                    Ok(Poll::Ready(None)) => break shared.leave(rest),
                    // A complete result arrived with its first message; an incomplete one is useless.
                    Ok(Poll::Pending) | Err(_) => break,
                }
            }
            let wakers = shared.end(Err(CallError::Disconnected(cause.clone())));
            effects.extend(wakers.into_iter().map(Effect::Wake));
        }
    }
}
