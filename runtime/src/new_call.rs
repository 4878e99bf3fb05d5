//! A call that has not been made: its peer, its argument and its options.
//!
//! [`Invocation`](crate::Invocation) and [`Opening`](crate::stream::Opening) differ in how argument and result travel. What they have in
//! common is here: one value that owns everything the call needs, and one set of setters.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::Call;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};

use crate::error::{CallError, NotSent};
use crate::loan::Loan;
use crate::lock::guard_call;
use crate::peer::{self, Answered, PendingCall};
use crate::stream::{Outcome, Shared};
use crate::{Codec, Peer};

/// A call that can still be changed.
#[derive(Clone, Debug)]
pub(crate) struct NewCall {
    peer: Peer,
    pub(crate) call: Call,
    pub(crate) timeout: Option<Duration>,
    /// The streams of a call that goes through layers.
    pub(crate) streams: Option<Arc<Shared>>,
}

impl NewCall {
    pub(crate) fn new(peer: &Peer, method: &str, body: Bytes) -> Self {
        let timeout = peer.shared.core.config.call_timeout;
        Self { peer: peer.clone(), call: Call::new(method, body), timeout, streams: None }
    }

    /// The codec of its argument and its result.
    pub(crate) fn codec(&self) -> &Codec {
        self.peer.codec()
    }

    /// The called peer.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Makes the call. A handler's slot is lent from then on; a refused call lends nothing.
    pub(crate) fn make(mut self) -> PendingReply {
        guard_call(&mut self.call);
        let call = PendingCall::make(self.peer.shared, self.call, self.timeout);
        let loan = match (&call, self.peer.lender) {
            (Ok(pending), Some(lender)) => Some(lender.lend(pending.core())),
            _ => None,
        };
        PendingReply { call: Some(call), loan }
    }

    /// Makes the call inside of all layers.
    pub(crate) fn carry_out(mut self) -> BoxFuture<'static, Answered> {
        let Some(shared) = self.streams.take() else { return self.make().boxed() };
        if shared.id().is_some() {
            return ready(Err(NotSent::StreamMade.into())).boxed();
        }
        if shared.has_ended() {
            // Its reader and writer were dropped.
            return ready(Err(CallError::Cancelled)).boxed();
        }
        let peer = self.peer.shared.clone();
        match self.make_streams(&shared) {
            Ok(loan) => Outcome::new(peer, shared, loan).map_ok(|metadata| (Bytes::new(), metadata)).boxed(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    /// Makes the call for a streamed result. Lends the slot as [`make`](Self::make) does.
    pub(crate) fn make_streams(mut self, shared: &Arc<Shared>) -> Result<Option<Loan>, CallError> {
        guard_call(&mut self.call);
        let Peer { shared: peer, lender, .. } = self.peer;
        peer::open(&peer, self.call, self.timeout, shared)?;
        Ok(lender.map(|lender| lender.lend(&peer.core)))
    }
}

/// The reply to a call that was made, or why it was not. Dropping it abandons the call.
pub(crate) struct PendingReply {
    call: Option<Result<PendingCall, CallError>>,
    loan: Option<Loan>,
}

impl Future for PendingReply {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Answered> {
        let this = self.get_mut();
        let reply = match this.call.as_mut().expect("a response is not polled after completion") {
            Ok(pending) => task::ready!(pending.poll_outcome(cx)),
            Err(_) => match this.call.take() {
                Some(Err(error)) => Err(error),
                _ => unreachable!("it was an error"),
            },
        };
        this.call = None;
        this.loan = None;
        Poll::Ready(reply)
    }
}

/// The setters of a type whose field `new` is a [`NewCall`].
macro_rules! call_options {
    () => {
        /// Sets the ordering key: the other side orders calls with the same key by its ordering mode.
        pub fn key(self, key: impl AsRef<str>) -> Self {
            self.ordering_key(callosum_proto::OrderingKey::text(key))
        }

        /// Like [`key`](Self::key), with any kind of key.
        pub fn ordering_key(mut self, key: callosum_proto::OrderingKey) -> Self {
            self.new.call.key = key;
            self
        }

        /// Ends the call with [`CallError::TimedOut`](crate::CallError::TimedOut) this long after it is made, streams
        /// included, and cancels it on the other side.
        pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
            self.new.timeout = Some(timeout);
            self
        }

        /// Sets no timeout, also if the endpoint has a default.
        pub fn no_timeout(mut self) -> Self {
            self.new.timeout = None;
            self
        }

        /// Compresses the argument with Snappy; a stream piece by piece, if that makes the piece shorter. A Python peer
        /// without python-snappy can't read such a call.
        pub fn compress(mut self, compress: bool) -> Self {
            self.new.call.compressed = compress;
            self
        }

        /// Sends metadata with the call. If the peer speaks dialect 1, as Python peers do, the call fails with
        /// [`InvokeError::NeedsDialect2`](crate::InvokeError::NeedsDialect2).
        pub fn metadata(mut self, metadata: callosum_proto::Metadata) -> Self {
            self.new.call.metadata = metadata;
            self
        }

        /// The priority of sending the call here, and its result on the other side. Calls with the same key keep their
        /// order.
        pub fn urgency(mut self, urgency: callosum_proto::Urgency) -> Self {
            self.new.call.urgency = urgency;
            self
        }
    };
}
pub(crate) use call_options;
