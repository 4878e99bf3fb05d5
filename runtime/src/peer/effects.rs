//! What a connection's events ask its driver to do, once the connection's lock is released.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use callosum_proto::{Anomaly, Dialect, Replied, ReplyError, Request, RequestId};
use futures_channel::oneshot;

use super::{Answered, PeerShared};
use crate::cancel::CancelReason;

pub(crate) enum Effect {
    Complete(oneshot::Sender<Answered>, Answered),
    /// A call that is streamed has ended well, or not.
    Ended {
        well: bool,
    },
    Wake(Waker),
    /// The streamed reply of a handler may begin.
    MayReply(oneshot::Sender<()>),
    /// The peer is sent something else than a handler's reply, or nothing.
    Altered(Result<Replied, ReplyError>),
    Goodbye,
    Pong(oneshot::Sender<Duration>, Duration),
    Request(Request),
    /// A request that the endpoint has started, and that no handler will see.
    NeverRan(RequestId),
    Stop(RequestId, CancelReason),
    Established(Vec<oneshot::Sender<()>>, Dialect),
    Anomaly(Anomaly),
    /// What nobody needs any more. To drop a sender wakes whoever waits for it, and the bytes of a reply may be anybody's.
    Drop(Box<dyn Send>),
}

/// The effects of a peer's connection that have still to be carried out, in their order.
///
/// Those that are left when this is dropped, because a user's waker, executor or scheduler panicked, are settled as far as callers are
/// concerned, and the slots of requests that no handler has seen are freed.
pub(crate) struct Effects {
    peer: Arc<PeerShared>,
    left: VecDeque<Effect>,
}

impl Effects {
    pub(crate) fn new(peer: Arc<PeerShared>) -> Self {
        Self { peer, left: VecDeque::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.left.push_back(effect);
    }

    /// Drops something once no lock is held.
    pub(crate) fn drop_later<T: Send + 'static>(&mut self, value: Option<T>) {
        self.left.extend(value.map(|value| Effect::Drop(Box::new(value))));
    }

    pub(crate) fn pop(&mut self) -> Option<Effect> {
        self.left.pop_front()
    }
}

impl Extend<Effect> for Effects {
    fn extend<I: IntoIterator<Item = Effect>>(&mut self, effects: I) {
        self.left.extend(effects);
    }
}

impl Drop for Effects {
    fn drop(&mut self) {
        while let Some(effect) = self.pop() {
            let peer = &self.peer;
            let settled = catch_unwind(AssertUnwindSafe(|| {
                if let Some(Effect::Request(Request { id: request, .. }) | Effect::NeverRan(request)) =
                    peer.settle(effect)
                {
                    // It had been started, and never ran.
                    peer.node.dispatcher.finish(request, None);
                }
            }));
            if settled.is_err() {
                tracing::error!(peer = %peer.id, "what a connection's end has woken panicked");
            }
        }
    }
}
