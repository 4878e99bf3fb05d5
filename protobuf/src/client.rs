//! Calls of a service's methods: what the methods of a generated client return.

use callosum_runtime::service::{Outgoing, ResultStream, StreamInvocation};
use callosum_runtime::stream::RawItems;
use callosum_runtime::{CallError, FormatError, Peer};
use futures_util::{Stream, StreamExt};

use crate::framing::{encode, encode_item};
use crate::{Call, Codec, Status, StreamCall, Streaming};

/// One message for one message.
pub fn unary<C, A, R>(peer: &Peer, method: &str, request: &A) -> Call<R>
where
    C: Codec<A> + Codec<R>,
{
    peer.invoke_encoded(method, encode::<C, A>(request), |result, _| {
        <C as Codec<R>>::decode(result?).map_err(undecodable)
    })
}

/// One message for a stream of messages.
pub fn server_streaming<C, A, R>(peer: &Peer, method: &str, request: &A) -> StreamCall<Streaming<R>>
where
    C: Codec<A> + Codec<R>,
    R: 'static,
{
    streaming::<C, R>(peer, method, Outgoing::Whole(encode::<C, A>(request)))
}

/// A stream of messages for one message.
pub fn client_streaming<C, A, R>(
    peer: &Peer,
    method: &str,
    requests: impl Stream<Item = A> + Send + 'static,
) -> StreamCall<R>
where
    C: Codec<A> + Codec<R>,
    R: 'static,
{
    let call = StreamInvocation::raw(peer, method, items::<C, A>(requests));
    call.and_then(|body| <C as Codec<R>>::decode(body).map_err(undecodable))
}

/// A stream of messages for a stream of messages.
pub fn bidirectional<C, A, R>(
    peer: &Peer,
    method: &str,
    requests: impl Stream<Item = A> + Send + 'static,
) -> StreamCall<Streaming<R>>
where
    C: Codec<A> + Codec<R>,
    R: 'static,
{
    streaming::<C, R>(peer, method, items::<C, A>(requests))
}

fn streaming<C: Codec<R>, R: 'static>(
    peer: &Peer,
    method: &str,
    outgoing: Outgoing,
) -> StreamCall<Streaming<R>> {
    let call: StreamInvocation<ResultStream<RawItems, Status>, Status> =
        StreamInvocation::raw_items(peer, method, outgoing);
    call.and_then(|items| Ok(Streaming::result::<C>(items)))
}

fn items<C: Codec<A>, A>(requests: impl Stream<Item = A> + Send + 'static) -> Outgoing {
    Outgoing::items(requests.map(|request| encode_item::<C, A>(&request)))
}

fn undecodable(error: FormatError) -> Status {
    CallError::Decode(error.into()).into()
}
