//! One call, from its options to its result.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use callosum_proto::{OrderingKey, session};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dispatch::Loan;
use crate::error::{CallError, DisconnectCause};
use crate::peer::PendingCall;
use crate::{Codec, Peer};

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

    fn make(&self, body: Bytes) -> Result<PendingCall, CallError> {
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.peer.shared.invoke(session::Call {
            key: self.key.clone(),
            compressed: self.compressed,
            deadline,
            ..session::Call::new(self.method, body)
        })
    }
}

/// The result of a call that has been made. See [`Invocation`] for what dropping it does.
#[must_use = "dropping it abandons the call"]
pub struct Response<R> {
    call: Option<Result<PendingCall, CallError>>,
    codec: Codec,
    decode: DecodeFn<R>,
    loan: Option<Loan>,
}

impl<R> Future for Response<R> {
    type Output = Result<R, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let reply = match &mut this.call {
            Some(Ok(pending)) => match Pin::new(&mut pending.reply).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(reply) => {
                    pending.ended = true;
                    // A driver that is dropped settles every call first; this is a driver that panicked.
                    reply.unwrap_or(Err(CallError::Disconnected(DisconnectCause::Shutdown)))
                }
            },
            _ => match this.call.take() {
                Some(Err(error)) => Err(error),
                _ => panic!("a response was polled after it was complete"),
            },
        };
        this.call = None;
        this.loan = None;
        Poll::Ready(reply.and_then(|body| (this.decode)(body, this.codec)))
    }
}

impl<'a, A: ?Sized, R> IntoFuture for Invocation<'a, A, R> {
    type Output = Result<R, CallError>;
    type IntoFuture = Response<R>;

    /// Makes the call; the future only waits for its result.
    fn into_future(self) -> Response<R> {
        let call = (self.encode)(self.argument, self.codec).and_then(|body| self.make(body));
        // The call exists before its place is lent, so that a refused call lends nothing.
        let loan = call
            .is_ok()
            .then(|| self.peer.lender.map(|lender| lender.lend(&self.peer.shared.node)))
            .flatten();
        Response { call: Some(call), codec: self.codec, decode: self.decode, loan }
    }
}
