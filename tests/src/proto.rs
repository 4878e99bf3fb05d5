//! The messages and the service of `proto/`, and an agent that serves them.
#![allow(missing_docs, reason = "its docs are the comments of the .proto files")]

use std::future::pending;
use std::time::Duration;

use callosum_protobuf::prost_types::{Any, Timestamp};
use callosum_protobuf::{Code, Request, Response, Status, Streaming};
use callosum_runtime::Metadata;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

pub use generated::*;

/// What the files' descriptors are, imports included: a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

mod generated {
    callosum_protobuf::include_proto!("tests.agent.v1");
}

/// The packages of `proto/packages`, each in a module of its own.
pub mod packages {
    callosum_protobuf::include_proto!("packages");
}

/// `proto/limited.proto`, whose messages are read up to 64 bytes.
pub mod limited {
    callosum_protobuf::include_proto!("tests.limited.v1");
}

/// The only image that there is.
pub const IMAGE: &str = "nginx";

/// An agent that answers without doing anything.
#[derive(Debug)]
pub struct Docker;

/// That there is no such image, but others.
pub fn no_such_image(image: &str) -> Status {
    let similar = vec![IMAGE.to_owned(), "größe".to_owned()];
    Status::not_found(format!("there is no image {image}"))
        .with_detail(&NoSuchImage { image: image.to_owned(), similar })
        .with_detail(&callosum_protobuf::prost_types::Duration { seconds: 5, nanos: 7 })
}

impl Agent for Docker {
    async fn start(&self, request: Request<StartRequest>) -> Result<Response<Container>, Status> {
        let key = request.context().key().as_text().unwrap_or_default().to_owned();
        let has_deadline = request.deadline().is_some();
        let sent = request.metadata().get("request-id").cloned();
        let StartRequest { container, image } = request.into_inner();
        match &*image {
            IMAGE => {}
            // Until it is cancelled.
            "slow" => pending().await,
            _ => return Err(no_such_image(&image)),
        }
        let started = Some(Timestamp { seconds: 7, nanos: 0 });
        let mut response = Response::new(Container { name: container, image, key, has_deadline, started });
        if let Some(id) = sent {
            insert(response.metadata_mut(), "answers", id);
        }
        Ok(response)
    }

    async fn logs(
        &self,
        request: Request<LogsRequest>,
    ) -> Result<Response<impl Stream<Item = Result<Line, Status>>>, Status> {
        let LogsRequest { container, lines, fail } = request.into_inner();
        if container.is_empty() {
            return Err(Status::invalid_argument("which container?"));
        }
        let lines = stream::iter(0..lines).map(move |n| Ok(Line { text: format!("{container} {n}") }));
        let end = fail.then(|| Err(no_such_image("the log")));
        let mut response = Response::new(lines.chain(stream::iter(end)));
        insert(response.metadata_mut(), "format", "text");
        Ok(response)
    }

    async fn upload(&self, request: Request<Streaming<Piece>>) -> Result<Response<Uploaded>, Status> {
        let mut pieces = request.into_inner();
        let mut uploaded = Uploaded::default();
        while let Some(piece) = pieces.message().await? {
            if piece.data == b"stop" {
                return Err(Status::aborted("stopped"));
            }
            uploaded.bytes += piece.data.len() as u64;
            uploaded.pieces += 1;
        }
        let mut response = Response::new(uploaded);
        insert(response.metadata_mut(), "stored", "yes");
        Ok(response)
    }

    async fn shout(
        &self,
        request: Request<Streaming<Line>>,
    ) -> Result<Response<impl Stream<Item = Result<Line, Status>>>, Status> {
        let louder = |line: Line| Line { text: line.text.to_uppercase() };
        Ok(request.into_inner().map_ok(louder).into())
    }

    async fn beat(
        &self,
        request: Request<Streaming<()>>,
    ) -> Result<Response<impl Stream<Item = Result<(), Status>>>, Status> {
        Ok(request.into_inner().into())
    }

    async fn pack(&self, request: Request<Everything>) -> Result<Response<Any>, Status> {
        let packed = Any::from_msg(request.get_ref());
        packed.map(Response::new).map_err(|error| Status::internal(error.to_string()))
    }

    async fn fail(&self, request: Request<Failure>) -> Result<Response<()>, Status> {
        let Failure { code, message, details, panic } = request.into_inner();
        assert!(!panic, "{message}");
        let status = Status::new(Code::from_number(code), message);
        Err(details.into_iter().fold(status, Status::with_any))
    }
}

fn insert(metadata: &mut Metadata, name: &'static str, value: impl Into<bytes::Bytes>) {
    metadata.insert(name, value).expect("it is small");
}

/// A message in which each field has a value that is not its default.
pub fn everything() -> Everything {
    let inner =
        Everything { a_string: "größe".into(), packed: vec![-1, 0, 1 << 30], ..Everything::default() };
    Everything {
        a_double: f64::MIN_POSITIVE,
        a_float: -1.5,
        an_int64: i64::MIN,
        an_uint64: u64::MAX,
        a_sint32: -7,
        a_fixed32: 7,
        a_sfixed64: -1 << 40,
        a_bool: true,
        a_string: "a \u{1f980}".into(),
        some_bytes: vec![0, 255],
        packed: (0..300).collect(),
        by_name: [("one".to_owned(), inner.clone())].into(),
        kind: Kind::Large.into(),
        either: Some(everything::Either::That(0)),
        maybe: Some(0),
        duration: Some(Duration::from_millis(1_500).try_into().expect("it is short")),
        json: Some(json()),
        nested: Some(Box::new(inner)),
    }
}

fn json() -> callosum_protobuf::prost_types::Struct {
    use callosum_protobuf::prost_types::{ListValue, Struct, Value, value::Kind};
    let value = |kind| Value { kind: Some(kind) };
    let list = vec![value(Kind::NumberValue(1.5)), value(Kind::BoolValue(true)), value(Kind::NullValue(0))];
    let fields = [
        ("list".to_owned(), value(Kind::ListValue(ListValue { values: list }))),
        ("text".to_owned(), value(Kind::StringValue("x".into()))),
    ];
    Struct { fields: fields.into() }
}
