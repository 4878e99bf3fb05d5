//! Another Protocol Buffers runtime takes prost's place, on either side of a call.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use callosum_protobuf::generated::{Methods, Peer, bidirectional, unary};
use callosum_protobuf::{Codec, Prost, Request, Response, Status, Streaming};
use callosum_runtime::FormatError;
use callosum_runtime::service::Service;
use futures_util::{TryStreamExt, stream};
use protobuf::well_known_types::wrappers::StringValue;

/// The messages of the crate `protobuf`.
enum RustProtobuf {}

impl<T: protobuf::Message> Codec<T> for RustProtobuf {
    fn encode(message: &T, buffer: &mut BytesMut) -> Result<(), FormatError> {
        buffer.extend_from_slice(&message.write_to_bytes()?);
        Ok(())
    }

    fn decode(bytes: Bytes) -> Result<T, FormatError> {
        Ok(T::parse_from_bytes(&bytes)?)
    }
}

/// Only a safety net against hanging.
const PATIENCE: Duration = Duration::from_secs(30);

const SAY: &str = "test.Echo/Say";
const CHAT: &str = "test.Echo/Chat";

/// A service that sends texts back. prost has a `String` for the message `google.protobuf.StringValue`.
fn echo<C, T>() -> Service
where
    C: Codec<T>,
    T: Send + 'static,
{
    let mut methods = Methods::<(), C>::new(());
    methods.unary(SAY, |_, request: Request<T>| async move {
        Ok::<Response<T>, Status>(request.into_inner().into())
    });
    methods.bidirectional(CHAT, |_, request: Request<Streaming<T>>, replying| async move {
        replying.items::<T>(Ok(request.into_inner().into())).await
    });
    methods.finish()
}

async fn call<C, T>(peer: &Peer, text: impl Fn(&str) -> T)
where
    C: Codec<T>,
    T: PartialEq + std::fmt::Debug + Send + Clone + 'static,
{
    assert_eq!(unary::<C, T, T>(peer, SAY, &text("größe")).await.unwrap(), text("größe"));
    let texts = ["", "a", "größe"].map(text);
    let replies = bidirectional::<C, T, T>(peer, CHAT, stream::iter(texts.clone())).await.unwrap();
    assert_eq!(replies.try_collect::<Vec<_>>().await.unwrap(), texts);
}

#[tokio::test]
async fn messages_of_both_are_the_same_on_the_wire() {
    let text = |text: &str| StringValue { value: text.to_owned(), ..StringValue::default() };
    for service in [echo::<Prost, String>(), echo::<RustProtobuf, StringValue>()] {
        let (binder, driver) =
            callosum_tokio::builder().serve(service).bind("inproc://another-runtime").await.unwrap();
        let serving = tokio::spawn(driver);
        let (connector, driver) = callosum_tokio::builder().connect(&binder.endpoints()[0]).unwrap();
        let calling = tokio::spawn(driver);
        call::<Prost, String>(connector.peer(), str::to_owned).await;
        call::<RustProtobuf, StringValue>(connector.peer(), text).await;
        connector.shutdown(PATIENCE).await;
        binder.shutdown(PATIENCE).await;
        calling.await.unwrap().unwrap();
        serving.await.unwrap().unwrap();
    }
}
