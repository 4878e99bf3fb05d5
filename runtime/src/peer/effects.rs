//! Effects of a connection's events, which its driver carries out once the connection's lock is released.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use callosum_proto::{Anomaly, Dialect, Replied, ReplyError, Request, RequestId};
use futures_channel::oneshot;

use crate::cancel::CancelReason;

pub(crate) enum Effect {
    /// A call of this side has ended. Its outcome is there already, and this task waits for it.
    Ended(Waker),
    /// A stream can be read or written on.
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
    /// Is dropped, which wakes the receiver of a sender.
    Drop(Box<dyn Send>),
}

/// Effects in their order.
#[derive(Default)]
pub(crate) struct Effects(VecDeque<Effect>);

impl Effects {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.0.push_back(effect);
    }

    /// Drops something once no lock is held.
    pub(crate) fn drop_later<T: Send + 'static>(&mut self, value: Option<T>) {
        if let Some(value) = value {
            self.push(Effect::Drop(Box::new(value)));
        }
    }

    /// Releases spare memory for later effects.
    pub(crate) fn shrink(&mut self) {
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Effect> {
        self.0.pop_front()
    }
}

impl Extend<Effect> for Effects {
    fn extend<I: IntoIterator<Item = Effect>>(&mut self, effects: I) {
        self.0.extend(effects);
    }
}
