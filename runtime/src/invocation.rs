//! One call, from its options to its result.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use callosum_proto::{Call, Metadata, OrderingKey};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dispatch::Loan;
use crate::error::{CallError, DisconnectCause};
use crate::peer::PendingCall;
use crate::{Codec, Peer, Urgency};

/// A call that is about to be made: set its options, then await it.
///
/// # Cancel safety
/// Dropping the future abandons the call: a request that has not left never will, and for one that has, the other
/// side is told to stop its handler.
#[must_use = "a call is made when it is awaited"]
#[derive(Debug)]
pub struct Invocation<'a, A: ?Sized, R> {
    peer: &'a Peer,
    method: &'a str,
    argument: &'a A,
    key: OrderingKey,
    timeout: Option<Duration>,
    codec: Codec,
    compressed: bool,
    metadata: Metadata,
    urgency: Urgency,
    encode: EncodeFn<A>,
    decode: DecodeFn<R>,
}

type EncodeFn<A> = fn(&A, Codec) -> Result<Bytes, CallError>;
type DecodeFn<R> = fn(Bytes, Codec) -> Result<R, CallError>;

impl<'a, A: Serialize + ?Sized, R: DeserializeOwned> Invocation<'a, A, R> {
    pub(crate) fn typed(peer: &'a Peer, method: &'a str, argument: &'a A) -> Self {
        Self::new(
            peer,
            method,
            argument,
            |argument, codec| codec.encode(argument).map_err(CallError::Encode),
            |body, codec| codec.decode(&body).map_err(CallError::Decode),
        )
    }
}

impl<'a> Invocation<'a, Bytes, Bytes> {
    pub(crate) fn raw(peer: &'a Peer, method: &'a str, body: &'a Bytes) -> Self {
        Self::new(peer, method, body, |body, _| Ok(body.clone()), |body, _| Ok(body))
    }
}

impl<'a, A: ?Sized, R> Invocation<'a, A, R> {
    fn new(
        peer: &'a Peer,
        method: &'a str,
        argument: &'a A,
        encode: EncodeFn<A>,
        decode: DecodeFn<R>,
    ) -> Self {
        let config = &peer.shared.node.config;
        Self {
            peer,
            method,
            argument,
            key: OrderingKey::none(),
            timeout: config.call_timeout,
            codec: config.codec,
            compressed: false,
            metadata: Metadata::new(),
            urgency: Urgency::DEFAULT,
            encode,
            decode,
        }
    }

    /// Orders the call among those with the same key, as the other side's ordering mode promises.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = OrderingKey::text(key);
        self
    }

    /// Like [`key`](Self::key), with any kind of key.
    pub fn ordering_key(mut self, key: OrderingKey) -> Self {
        self.key = key;
        self
    }

    /// Ends the call with [`CallError::TimedOut`] after this long, and cancels it on the other side.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Waits as long as it takes, whatever the endpoint's default.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// Serializes argument and result in this codec.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Compresses the argument with Snappy. A Python peer without python-snappy can't read such a call.
    pub fn compress(mut self, compress: bool) -> Self {
        self.compressed = compress;
        self
    }

    /// Sends this along, to a peer of dialect 2. Towards one of dialect 1, such as Python's, the call fails with
    /// [`InvokeError::NeedsDialect2`](crate::InvokeError::NeedsDialect2).
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// What leaves first, here and, of the result, there. Calls with the same key keep their order.
    pub fn urgency(mut self, urgency: Urgency) -> Self {
        self.urgency = urgency;
        self
    }

    /// Makes the call; the future waits for its result and for what the other side sends along.
    pub fn with_metadata(mut self) -> WithMetadata<R> {
        let metadata = std::mem::take(&mut self.metadata);
        let call = (self.encode)(self.argument, self.codec).and_then(|body| self.make(body, metadata));
        // The call exists before its place is lent, so that a refused call lends nothing.
        let loan = call
            .is_ok()
            .then(|| self.peer.lender.map(|lender| lender.lend(&self.peer.shared.node)))
            .flatten();
        WithMetadata { call: Some(call), codec: self.codec, decode: self.decode, loan }
    }

    fn make(&self, body: Bytes, metadata: Metadata) -> Result<PendingCall, CallError> {
        let deadline = self.timeout.and_then(|timeout| self.peer.shared.node.now().checked_add(timeout));
        let mut call = Call::new(self.method, body);
        call.key = self.key.clone();
        call.compressed = self.compressed;
        call.deadline = deadline;
        call.metadata = metadata;
        call.urgency = self.urgency;
        self.peer.shared.invoke(call)
    }
}

/// The result of a call that has been made. See [`Invocation`] for what dropping it does.
#[must_use = "dropping it abandons the call"]
pub struct Response<R>(WithMetadata<R>);

/// The result of a call that has been made, and what the other side sent along. See [`Invocation`] for what dropping it
/// does.
#[must_use = "dropping it abandons the call"]
pub struct WithMetadata<R> {
    call: Option<Result<PendingCall, CallError>>,
    codec: Codec,
    decode: DecodeFn<R>,
    loan: Option<Loan>,
}

impl<R> WithMetadata<R> {
    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Bytes, Metadata), CallError>> {
        let reply = match self.call.as_mut().expect("a response is not polled after it was complete") {
            Ok(pending) => {
                let reply = ready!(Pin::new(&mut pending.reply).poll(cx));
                pending.ended = true;
                // A driver that is dropped settles every call first; this is a driver that panicked.
                reply.unwrap_or(Err(CallError::Disconnected(DisconnectCause::Shutdown)))
            }
            Err(_) => match self.call.take() {
                Some(Err(error)) => Err(error),
                _ => unreachable!("it was an error"),
            },
        };
        self.call = None;
        Poll::Ready(reply)
    }
}

impl<R> Future for WithMetadata<R> {
    type Output = Result<(R, Metadata), CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let reply = ready!(this.poll_reply(cx));
        this.loan = None;
        Poll::Ready(reply.and_then(|(body, metadata)| Ok(((this.decode)(body, this.codec)?, metadata))))
    }
}

impl<R> Future for Response<R> {
    type Output = Result<R, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_ok(|(result, _)| result)
    }
}

impl<'a, A: ?Sized, R> IntoFuture for Invocation<'a, A, R> {
    type Output = Result<R, CallError>;
    type IntoFuture = Response<R>;

    /// Makes the call; the future only waits for its result.
    fn into_future(self) -> Response<R> {
        Response(self.with_metadata())
    }
}
