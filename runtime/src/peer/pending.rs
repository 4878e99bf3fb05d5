//! A call that waits for its reply.

use std::sync::Arc;

use callosum_proto::CallId;
use futures_channel::oneshot;

use super::{Answered, PeerShared};
use crate::node::Node;

/// A call that was accepted. Dropping it abandons the call.
pub(crate) struct PendingCall {
    peer: Arc<PeerShared>,
    call: CallId,
    pub(crate) reply: oneshot::Receiver<Answered>,
    pub(crate) ended: bool,
}

impl PendingCall {
    pub(super) fn new(peer: Arc<PeerShared>, call: CallId, reply: oneshot::Receiver<Answered>) -> Self {
        Self { peer, call, reply, ended: false }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.peer.node
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
            // That wakes a waker, which is not to happen under a lock.
            drop(sender);
            if abandoned {
                self.peer.count_call(false);
            }
            self.peer.waker.wake();
        }
    }
}
