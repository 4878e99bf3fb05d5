//! Codecs of one's own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use callosum_runtime::layer::{HandlerNext, IncomingCall};
use callosum_runtime::{
    BodyReader, CallError, Codec, CodecError, Context, Format, FormatError, HandlerResult, Method, Refusal,
    Responder,
};
use futures_util::StreamExt;
use serde::de::DeserializeSeed;
use serde::{Deserialize, Serialize};

use crate::rig::Rig;

/// A format that says nothing of the types of its values.
struct Postcard;

impl Format for Postcard {
    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes, FormatError> {
        Ok(postcard::to_allocvec(value)?.into())
    }

    fn decode<'de, S: DeserializeSeed<'de>>(
        &self,
        bytes: &'de [u8],
        seed: S,
    ) -> Result<S::Value, FormatError> {
        let mut deserializer = postcard::Deserializer::from_bytes(bytes);
        let value = seed.deserialize(&mut deserializer)?;
        match deserializer.finalize()? {
            [] => Ok(value),
            rest => Err(format!("{} bytes too many", rest.len()).into()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle { radius: f64, name: Option<String> },
    Polygon(Vec<(i32, i32)>),
}

fn shapes() -> Vec<Shape> {
    let circle = Shape::Circle { radius: 0.5, name: Some("größe".into()) };
    vec![Shape::Point, circle, Shape::Polygon(vec![(1, -1), (i32::MIN, 0)])]
}

fn decoding_error(error: &CallError) -> String {
    match error {
        CallError::Decode(CodecError::Custom(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Both ends with a codec of their own: calls, streams, and a handler that decodes by hand.
pub async fn own_codec(rig: Rig) {
    let codec = Codec::custom(Postcard);
    assert_eq!(codec, codec.clone());
    assert_ne!(codec, Codec::custom(Postcard), "another one");
    assert!(fmt::format(format_args!("{codec:?}")).contains("Postcard"));
    let mirror = |shapes: Vec<Shape>, _: Context| async move { HandlerResult::Ok(shapes) };
    let stream = |body: BodyReader, responder: Responder, context: Context| async move {
        let shapes: Vec<Shape> = context.codec().decode(&body.collect().await?)?;
        let mut result = responder.begin().await?;
        for shape in shapes {
            result.write_item(&shape).await?;
        }
        HandlerResult::Ok(())
    };
    let binder = rig.builder().codec(codec.clone()).handle("mirror", mirror).handle_stream("stream", stream);
    let pair = rig.pair(binder, rig.builder().codec(codec.clone())).await;
    let same: Vec<Shape> = pair.peer().invoke("mirror", &shapes()).await.expect("both use it");
    assert_eq!(same, shapes());
    let raw = pair.peer().invoke_raw("mirror", codec.encode(&shapes()).expect("it fits")).await;
    assert_eq!(raw.expect("the bytes are the same"), postcard::to_allocvec(&shapes()).expect("it fits"));
    let answer = pair.peer().open("stream").send(&shapes()).expect("it is made").await.expect("it begins");
    let items: Vec<_> = answer.body.items::<Shape>().map(|shape| shape.expect("a shape")).collect().await;
    assert_eq!(items, shapes());
    pair.end().await;
}

/// JSON that says when it is read.
struct Watched(Arc<AtomicUsize>);

impl Format for Watched {
    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes, FormatError> {
        Ok(serde_json::to_vec(value)?.into())
    }

    fn decode<'de, S: DeserializeSeed<'de>>(
        &self,
        bytes: &'de [u8],
        seed: S,
    ) -> Result<S::Value, FormatError> {
        self.0.fetch_add(1, Relaxed);
        Ok(seed.deserialize(&mut serde_json::Deserializer::from_slice(bytes))?)
    }
}

/// An argument is read where its handler is polled, so that a large one holds up no connection once the method has been slow.
pub async fn arguments_are_read_where_they_are_polled(rig: Rig) {
    let read = Arc::<AtomicUsize>::default();
    let reads = read.clone();
    let layer = move |call: IncomingCall, next: HandlerNext| {
        let before = reads.load(Relaxed);
        let handling = next.run(call);
        assert_eq!(reads.load(Relaxed), before, "it is not polled yet");
        handling
    };
    let handler = |n: u8, _: Context| async move { HandlerResult::Ok(n) };
    let binder =
        rig.builder().codec(Codec::custom(Watched(read.clone()))).layer(layer).handle("same", handler);
    let pair = rig.pair(binder, rig.builder()).await;
    assert_eq!(pair.peer().invoke::<_, u8>("same", &7).await.expect("it answers"), 7);
    assert_eq!(read.load(Relaxed), 1);
    pair.end().await;
}

/// A value that a custom codec can't decode fails the call as with the built-in codecs.
pub async fn own_codec_errors(rig: Rig) {
    let postcard = Codec::custom(Postcard);
    let handler = |n: u16, _: Context| async move { HandlerResult::Ok(n) };
    let pair = rig.pair(rig.builder(), rig.builder()).await;
    let method = Method::typed_with_codec(postcard.clone(), handler);
    pair.binder.handlers().add_method("same", method).expect("a new name");
    let peer = pair.peer().with_codec(postcard);
    assert_eq!(peer.invoke::<_, u16>("same", &300_u16).await.expect("both use it"), 300);
    let error = peer.invoke::<_, u16>("same", &u64::MAX).await.expect_err("it is no u16");
    assert_eq!(error.refusal(), Some(Refusal::InvalidArgument));
    let error = peer.invoke::<_, (u64, u64)>("same", &300_u16).await.expect_err("it is no pair");
    assert!(!decoding_error(&error).is_empty());
    let error = peer.invoke::<_, ()>("same", &7_u16).await.expect_err("something is left");
    assert_eq!(decoding_error(&error), "1 bytes too many");
    pair.end().await;
}
