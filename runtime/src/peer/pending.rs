//! A call that waits for its reply.

use std::sync::Arc;
use std::time::Duration;

use callosum_proto::{Call, CallId};
use futures_channel::oneshot;

use super::effects::Answered;
use super::shared::PeerShared;
use crate::core::Core;
use crate::error::CallError;
use crate::stream::Shared;

/// A call that was accepted. Dropping it abandons the call.
pub(crate) struct PendingCall {
    peer: Arc<PeerShared>,
    call: CallId,
    pub(crate) reply: oneshot::Receiver<Answered>,
    pub(crate) ended: bool,
}

impl PendingCall {
    /// Makes a call for a whole result.
    pub(crate) fn make(
        peer: Arc<PeerShared>,
        call: Call,
        timeout: Option<Duration>,
    ) -> Result<Self, CallError> {
        let (sender, reply) = oneshot::channel();
        let call = peer.make(call, timeout, |state, call| {
            state.waiting.insert(call, sender);
        })?;
        Ok(Self { peer, call, reply, ended: false })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.peer.core
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut state = self.peer.lock();
        if let Some(sender) = state.waiting.remove(&self.call) {
            let abandoned = state.connection.abandon(self.call);
            drop(state);
            // This wakes a waker, which must not happen under a lock.
            drop(sender);
            if abandoned {
                self.peer.count_call(false);
            }
            self.peer.wake();
        }
    }
}

/// Makes a call whose result is a stream.
pub(crate) fn open(
    peer: &PeerShared,
    call: Call,
    timeout: Option<Duration>,
    shared: &Arc<Shared>,
) -> Result<(), CallError> {
    peer.make(call, timeout, |state, call| {
        shared.set_id(call.into());
        state.streams.insert(call.into(), shared.clone());
    })
    .map(drop)
}
