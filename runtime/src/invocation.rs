//! One call, from its options to its result.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use callosum_proto::Metadata;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call_options::call_options;
use crate::codec::CodecError;
use crate::error::CallError;
use crate::layer::OutgoingCall;
use crate::sending::{Sent, send};
use crate::{Codec, Peer};

impl Peer {
    /// Calls a method with a typed argument, for a typed result, in the endpoint's codec or in
    /// [that of this handle](Self::with_codec).
    ///
    /// This function serializes the argument. The call is made when the returned [`Invocation`] is awaited; set its
    /// options before: `peer.invoke("stop", &args).key("container-1").timeout(limit).await?`.
    pub fn invoke<A, R>(&self, method: &str, argument: &A) -> Invocation<R>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        Invocation::typed(self, method, argument)
    }

    /// Calls a method in a format that is not `serde`'s. The caller encodes the argument, and `read` decodes the bytes
    /// of the result, or the error. `read` also gets the codec of this handle, for errors with data in it.
    ///
    /// If the argument is an error, the call fails with [`CallError::Encode`] when it is awaited.
    ///
    /// ```
    /// # use callosum_runtime::{CallError, Codec, Invocation, Peer};
    /// fn double(peer: &Peer, number: u32) -> Invocation<u32> {
    ///     let argument = Ok(number.to_be_bytes().to_vec().into());
    ///     peer.invoke_encoded("double", argument, |result, _| {
    ///         let bytes = result?[..].try_into();
    ///         bytes.map(u32::from_be_bytes).map_err(|_| CallError::Decode("not four bytes".into()))
    ///     })
    /// }
    /// ```
    pub fn invoke_encoded<R, E>(
        &self,
        method: &str,
        argument: Result<Bytes, CodecError>,
        read: fn(Result<Bytes, CallError>, &Codec) -> Result<R, E>,
    ) -> Invocation<R, E> {
        let (body, encoded) = match argument {
            Ok(body) => (body, Ok(())),
            Err(error) => (Bytes::new(), Err(error)),
        };
        Invocation { new: OutgoingCall::new(self, method, body), encoded, read }
    }

    /// Calls a method with raw bytes, and returns raw bytes; the application serializes them.
    ///
    /// Bytes with an [owner](Bytes::from_owner) are copied up to 1 KiB and shared above, here and in all functions that
    /// take bytes. The owner's destructor may run on any thread, at once or when the bytes have been sent, and may use
    /// this API.
    pub fn invoke_raw(&self, method: &str, body: impl Into<Bytes>) -> Invocation<Bytes> {
        Invocation::raw(self, method, body.into())
    }
}

/// A call that has not been made: set its options, then await it.
///
/// It owns everything it needs, including its serialized argument, so a method of a typed client can return it, and the
/// caller of that method can set options:
///
/// ```
/// # use std::time::Duration;
/// # use callosum_runtime::{CallError, Invocation, Peer};
/// struct Containers(Peer);
///
/// impl Containers {
///     fn start(&self, image: &str) -> Invocation<u64> {
///         self.0.invoke("start", image)
///     }
/// }
///
/// # async fn start(containers: Containers) -> Result<u64, CallError> {
/// containers.start("nginx").key("nginx").timeout(Duration::from_secs(5)).await
/// # }
/// ```
///
/// # Cancel safety
/// Dropping the future cancels the call: a request that has not been sent is removed, and after one that has been sent,
/// a CANCEL stops its handler on the other side.
///
/// `E` is the error of the call: [`CallError`], or [`ServiceError`](crate::service::ServiceError) if the method
/// declares an error of its own, as in [typed services](mod@crate::service).
#[must_use = "a call is made when it is awaited"]
pub struct Invocation<R, E = CallError> {
    new: OutgoingCall,
    /// Whether the argument could be serialized, which the awaited call reports.
    encoded: Result<(), CodecError>,
    read: ReadFn<R, E>,
}

/// Converts the outcome to the type that the caller asked for.
pub(crate) type ReadFn<R, E> = fn(Result<Bytes, CallError>, &Codec) -> Result<R, E>;

impl<R: DeserializeOwned> Invocation<R> {
    fn typed<A: Serialize + ?Sized>(peer: &Peer, method: &str, argument: &A) -> Self {
        peer.invoke_encoded(method, peer.codec().encode(argument), |body, codec| {
            codec.decode(&body?).map_err(CallError::Decode)
        })
    }
}

impl Invocation<Bytes> {
    fn raw(peer: &Peer, method: &str, body: Bytes) -> Self {
        peer.invoke_encoded(method, Ok(body), |body, _| body)
    }
}

impl<R, E> Invocation<R, E> {
    call_options!();

    /// Makes the call; the future waits for its result and the result's metadata.
    pub fn send_with_metadata(self) -> ResponseWithMetadata<R, E> {
        let codec = self.new.peer().codec().clone();
        let call = match self.encoded {
            Ok(()) => send(self.new),
            Err(error) => Sent::Ended(Some(Err(CallError::Encode(error)))),
        };
        ResponseWithMetadata { call, codec, read: self.read }
    }
}

impl<R, E> fmt::Debug for Invocation<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Invocation").field(&self.new).finish()
    }
}

/// The result of a call that has been made. See [`Invocation`] for the effect of dropping it.
#[must_use = "dropping it abandons the call"]
pub struct Response<R, E = CallError>(ResponseWithMetadata<R, E>);

/// The result of a call that has been made, with the result's metadata. See [`Invocation`] for the effect of dropping
/// it.
#[must_use = "dropping it abandons the call"]
pub struct ResponseWithMetadata<R, E = CallError> {
    call: Sent,
    codec: Codec,
    read: ReadFn<R, E>,
}

impl<R, E> Future for ResponseWithMetadata<R, E> {
    type Output = Result<(R, Metadata), E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (body, metadata) = match ready!(Pin::new(&mut this.call).poll(cx)) {
            Ok((body, metadata)) => (Ok(body), metadata),
            Err(error) => (Err(error), Metadata::new()),
        };
        Poll::Ready((this.read)(body, &this.codec).map(|result| (result, metadata)))
    }
}

impl<R, E> Future for Response<R, E> {
    type Output = Result<R, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_ok(|(result, _)| result)
    }
}

impl<R, E> IntoFuture for Invocation<R, E> {
    type Output = Result<R, E>;
    type IntoFuture = Response<R, E>;

    /// Makes the call; the future only waits for its result.
    fn into_future(self) -> Response<R, E> {
        Response(self.send_with_metadata())
    }
}
