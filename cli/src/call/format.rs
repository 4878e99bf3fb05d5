//! Conversion of the command line's JSON to the wire: a value of a codec, or a message.
//!
//! The idea: the code that makes a call asks its format for bytes, and for a line of what comes back, and knows no format.

use bytes::Bytes;
use callosum_runtime::{BodyError, CallError, Codec};
use serde_json::value::RawValue;

use super::protobuf::Protobuf;
use super::thrift::Thrift;
use crate::args::Call;
use crate::exit::Failure;
use crate::value;

pub(super) enum Format {
    /// A serializer that needs to know nothing of the method.
    Codec(Codec),
    /// The messages of a `.proto` file.
    Protobuf(Protobuf),
    /// The messages of a `.thrift` file.
    Thrift(Thrift),
}

impl Format {
    /// # Errors
    /// If a file can't be read, has no such method, or one that takes its argument in another way.
    pub(super) fn of(method: &str, args: &Call) -> Result<Self, Failure> {
        if let Some(file) = &args.thrift.thrift {
            return Thrift::open(method, file, &args.includes, &args.thrift).map(Self::Thrift);
        }
        match &args.protobuf.proto {
            Some(file) => {
                let protobuf = Protobuf::open(method, file, &args.includes)?;
                protobuf.check_input(args.input.is_some())?;
                Ok(Self::Protobuf(protobuf))
            }
            None => Ok(Self::Codec(args.codec.codec())),
        }
    }

    /// The method of Callosum that `name` means.
    pub(super) fn method<'a>(&'a self, name: &'a str) -> &'a str {
        match self {
            Self::Codec(_) | Self::Protobuf(_) => name,
            Self::Thrift(thrift) => thrift.alias(),
        }
    }

    /// Whether the result is a stream, of which `asked` is what the command line says.
    pub(super) fn streams_result(&self, asked: bool) -> bool {
        match self {
            Self::Codec(_) => asked,
            Self::Protobuf(protobuf) => protobuf.streams_result(),
            Self::Thrift(_) => false,
        }
    }

    /// An argument that is whole.
    pub(super) fn argument(&self, json: &RawValue) -> Result<Bytes, Failure> {
        match self {
            Self::Codec(codec) => value::encode(json, codec).map_err(Failure::Call),
            Self::Protobuf(protobuf) => protobuf.argument(json),
            Self::Thrift(thrift) => thrift.request(json.get()),
        }
    }

    /// An item of a streamed argument.
    pub(super) fn item(&self, json: &RawValue) -> Result<Bytes, Failure> {
        match self {
            // A method without streams reads all items as one value, and must not take 1 and 2 for 12.
            Self::Codec(Codec::Json) => Ok([&self.argument(json)?[..], b"\n"].concat().into()),
            // Thrift has no streams; the command line says so before.
            Self::Codec(_) | Self::Thrift(_) => self.argument(json),
            Self::Protobuf(protobuf) => protobuf.item(json),
        }
    }

    /// A result that is whole, as one line of JSON.
    pub(super) fn line(&self, body: Bytes) -> Result<String, Failure> {
        match self {
            Self::Codec(codec) => value::to_line(codec, &body).map_err(|error| match error {
                CallError::Decode(_) => Failure::NoValue(error),
                other => Failure::Call(other),
            }),
            Self::Protobuf(protobuf) => protobuf.line(body),
            Self::Thrift(thrift) => thrift.result(&body),
        }
    }

    /// An item of a streamed result, as one line of JSON.
    pub(super) fn item_line(&self, item: Bytes) -> Result<String, Failure> {
        match self {
            Self::Codec(codec) => value::to_line(codec, &item).map_err(|error| match error {
                CallError::Decode(error) => Failure::Body(BodyError::Item(error)),
                other => Failure::Call(other),
            }),
            Self::Protobuf(protobuf) => protobuf.item_line(item),
            Self::Thrift(thrift) => thrift.result(&item),
        }
    }

    /// Converts a failure, where the format has errors of its own.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        match self {
            Self::Codec(_) | Self::Thrift(_) => failure,
            Self::Protobuf(protobuf) => protobuf.explain(failure),
        }
    }
}
