//! A call of a Thrift method, from its options to its result.
//!
//! The idea: it is Callosum's [`Invocation`] of bytes, and the number of the call beside it. The options are passed on.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use callosum_runtime::{Invocation, Metadata, OrderingKey, ResponseWithMetadata, Urgency};

use crate::call_error::ThriftError;
use crate::error::WriteError;
use crate::exception::Exceptions;
use crate::reply::MadeCall;
use crate::value::Output;

/// A call that is about to be made: set its options, which are those of [`Invocation`], then await it.
///
/// # Cancel safety
/// Dropping the future abandons the call, as that of an [`Invocation`] does.
#[must_use = "a call is made when it is awaited"]
pub struct ThriftInvocation<R, E = Infallible> {
    invocation: Invocation<Bytes>,
    /// The expected reply, or the error that prevented the message from being written.
    made: Result<MadeCall, WriteError>,
    result: PhantomData<fn() -> (R, E)>,
}

impl<R, E> ThriftInvocation<R, E> {
    pub(crate) fn new(invocation: Invocation<Bytes>, made: Result<MadeCall, WriteError>) -> Self {
        Self { invocation, made, result: PhantomData }
    }

    /// Makes the call; the future waits for its result and for what the other side sends along.
    pub fn send_with_metadata(self) -> ThriftResponseWithMetadata<R, E> {
        let state = match self.made {
            Ok(made) => State::Made(made, self.invocation.send_with_metadata()),
            Err(error) => State::Failed(error),
        };
        ThriftResponseWithMetadata { state, result: PhantomData }
    }
}

/// Options of an [`Invocation`].
macro_rules! options {
    ($($name:ident($($argument:ident: $ty:ty)?);)*) => {
        impl<R, E> ThriftInvocation<R, E> { $(
            #[doc = concat!("See [`Invocation::", stringify!($name), "`].")]
            pub fn $name(self $(, $argument: $ty)?) -> Self {
                Self { invocation: self.invocation.$name($($argument)?), ..self }
            }
        )* }
    };
}

options! {
    key(key: impl AsRef<str>);
    ordering_key(key: OrderingKey);
    timeout(timeout: Duration);
    no_timeout();
    compress(compress: bool);
    metadata(metadata: Metadata);
    urgency(urgency: Urgency);
}

impl<R, E> fmt::Debug for ThriftInvocation<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ThriftInvocation").field(&self.invocation).finish()
    }
}

impl<R: Output, E: Exceptions> IntoFuture for ThriftInvocation<R, E> {
    type Output = Result<R, ThriftError<E>>;
    type IntoFuture = ThriftResponse<R, E>;

    /// Makes the call; the future only waits for its result.
    fn into_future(self) -> ThriftResponse<R, E> {
        ThriftResponse(self.send_with_metadata())
    }
}

/// The result of a call that has been made. Dropping it abandons the call.
#[must_use = "dropping it abandons the call"]
pub struct ThriftResponse<R, E = Infallible>(ThriftResponseWithMetadata<R, E>);

/// The result of a call that has been made, and what the other side sent along. Dropping it abandons the call.
#[must_use = "dropping it abandons the call"]
pub struct ThriftResponseWithMetadata<R, E = Infallible> {
    state: State,
    result: PhantomData<fn() -> (R, E)>,
}

#[allow(
    clippy::large_enum_variant,
    reason = "the small one is rare: a call has no allocation of its own for it"
)]
enum State {
    Made(MadeCall, ResponseWithMetadata<Bytes>),
    Failed(WriteError),
}

impl<R: Output, E: Exceptions> Future for ThriftResponseWithMetadata<R, E> {
    type Output = Result<(R, Metadata), ThriftError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match &mut self.state {
            State::Failed(error) => Err((*error).into()),
            State::Made(made, response) => match ready!(Pin::new(response).poll(cx)) {
                Ok((message, metadata)) => made.read(&message).map(|result| (result, metadata)),
                Err(error) => Err(error.into()),
            },
        })
    }
}

impl<R: Output, E: Exceptions> Future for ThriftResponse<R, E> {
    type Output = Result<R, ThriftError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_ok(|(result, _)| result)
    }
}

impl<R, E> fmt::Debug for ThriftResponse<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ThriftResponse")
    }
}

impl<R, E> fmt::Debug for ThriftResponseWithMetadata<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ThriftResponseWithMetadata")
    }
}
