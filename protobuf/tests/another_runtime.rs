//! Another Protocol Buffers runtime takes prost's place, on either side of a call.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use callosum_protobuf::generated::{Description, Methods, Peer, unary};
use callosum_protobuf::{Codec, Prost, Request, Response, Status, Streaming};
use callosum_runtime::FormatError;
use callosum_runtime::layer::{HandlerNext, IncomingCall};
use callosum_runtime::service::Service;
use callosum_tokio::Builder;
use futures_util::{Stream, TryStreamExt, stream};
use generated::{Echo, EchoClient};
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
const TIMEOUT: Duration = Duration::from_secs(30);

/// What `callosum-protobuf-build` makes of its `tests/echo.proto` for this codec.
#[rustfmt::skip]
#[allow(unreachable_pub, reason = "it is generated to be included anywhere")]
#[path = "generated/test.rs"]
mod generated;

/// Sends texts back.
struct Back;

impl Echo for Back {
    async fn say(&self, request: Request<StringValue>) -> Result<Response<StringValue>, Status> {
        Ok(request.into_inner().into())
    }

    async fn count(
        &self,
        request: Request<StringValue>,
    ) -> Result<Response<impl Stream<Item = Result<StringValue, Status>>>, Status> {
        let texts: Vec<_> = request.into_inner().value.split(' ').map(|word| Ok(text(word))).collect();
        Ok(stream::iter(texts).into())
    }

    async fn join(&self, request: Request<Streaming<StringValue>>) -> Result<Response<StringValue>, Status> {
        let texts: Vec<_> = request.into_inner().map_ok(|text| text.value).try_collect().await?;
        Ok(text(&texts.join(" ")).into())
    }

    async fn chat(
        &self,
        request: Request<Streaming<StringValue>>,
    ) -> Result<Response<impl Stream<Item = Result<StringValue, Status>>>, Status> {
        Ok(request.into_inner().into())
    }
}

fn text(text: &str) -> StringValue {
    StringValue { value: text.to_owned(), ..StringValue::default() }
}

/// The same service, whose messages are prost's: a `String` for a `StringValue`.
fn echo_of_prost() -> Service {
    let mut methods = Methods::<(), Prost>::new(());
    let text = "google.protobuf.StringValue";
    let description = Description { docs: "", argument: text, result: text };
    methods.unary("test.Echo/Say", description, |_, request: Request<String>| async move {
        Ok(request.into_inner().into())
    });
    methods.bidirectional(
        "test.Echo/Chat",
        description,
        |_, request: Request<Streaming<String>>, replying| async move {
            replying.items::<String>(Ok(request.into_inner().into())).await
        },
    );
    methods.finish()
}

#[tokio::test]
async fn messages_of_both_are_the_same_on_the_wire() {
    for service in [Back.into_service(), echo_of_prost()] {
        connected(service, async |peer| {
            let reply =
                unary::<Prost, String, String>(peer, "test.Echo/Say", &"größe".to_owned()).await.unwrap();
            assert_eq!(reply, "größe");
            let echo = EchoClient::new(peer.clone());
            assert_eq!(echo.say(&text("größe")).await.unwrap(), text("größe"));
            let texts = ["", "a", "größe"];
            let replies = echo.chat(stream::iter(texts.map(text))).await.unwrap();
            assert_eq!(replies.try_collect::<Vec<_>>().await.unwrap(), texts.map(text));
        })
        .await;
    }
}

#[tokio::test]
async fn a_service_is_generated_for_another_runtime() {
    connected(Back.into_service(), async |peer| {
        let echo = EchoClient::new(peer.clone());
        let words = echo.count(&text("a b")).await.unwrap();
        assert_eq!(words.try_collect::<Vec<_>>().await.unwrap(), ["a", "b"].map(text));
        assert_eq!(echo.join(stream::iter(["a", "b"].map(text))).await.unwrap(), text("a b"));
    })
    .await;
}

/// prost's messages, of which it is counted how many are read.
enum Counted {}

static READ: AtomicUsize = AtomicUsize::new(0);

impl Codec<String> for Counted {
    fn encode(message: &String, buffer: &mut BytesMut) -> Result<(), FormatError> {
        Prost::encode(message, buffer)
    }

    fn decode(bytes: Bytes) -> Result<String, FormatError> {
        READ.fetch_add(1, Relaxed);
        Prost::decode(bytes)
    }
}

/// So that a large message holds up no connection once the method has been slow.
#[tokio::test]
async fn a_message_is_read_where_the_method_is_polled() {
    let mut methods = Methods::<(), Counted>::new(());
    let description = Description { docs: "", argument: "", result: "" };
    methods.unary("Say", description, |_, request: Request<String>| async move {
        Ok(request.into_inner().into())
    });
    let layer = |call: IncomingCall, next: HandlerNext| {
        let handling = next.run(call);
        assert_eq!(READ.load(Relaxed), 0, "it is not polled yet");
        handling
    };
    let builder = callosum_tokio::builder().layer(layer);
    connected_to(builder, methods.finish(), async |peer| {
        assert_eq!(unary::<Prost, String, String>(peer, "Say", &"a".to_owned()).await.unwrap(), "a");
        assert_eq!(READ.load(Relaxed), 1);
    })
    .await;
}

/// Serves, connects, and runs the body with the server.
async fn connected(service: Service, body: impl AsyncFnOnce(&Peer)) {
    connected_to(callosum_tokio::builder(), service, body).await;
}

async fn connected_to(builder: Builder, service: Service, body: impl AsyncFnOnce(&Peer)) {
    let (binder, driver) = builder.serve(service).bind("tcp://127.0.0.1:0").await.unwrap();
    let serving = tokio::spawn(driver);
    let (connector, driver) = callosum_tokio::builder().connect(&binder.endpoints()[0]).unwrap();
    let calling = tokio::spawn(driver);
    body(connector.peer()).await;
    connector.shutdown(TIMEOUT).await;
    binder.shutdown(TIMEOUT).await;
    calling.await.unwrap().unwrap();
    serving.await.unwrap().unwrap();
}
