#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/protobuf.md\n")]
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod client;
mod code;
mod codec;
pub mod framing;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod request;
mod serve;
mod status;
mod streaming;

/// The Protocol Buffers runtime that the generated code uses.
pub use ::prost;
/// Its well-known types: `Any`, `Timestamp`, `Duration`, `Struct` and others.
pub use ::prost_types;

pub use code::Code;
pub use codec::{AtMost, Codec, MessageTooLarge, Prost};
pub use request::{Request, Response};
pub use status::Status;
pub use streaming::Streaming;

/// A call whose argument and result are one message each: set its options, then await it. Its errors are [`Status`]es.
pub type Call<R> = callosum_runtime::Invocation<R, Status>;

/// A call whose argument, result, or both, are streams of messages: set its options, then await it. Its errors are [`Status`]es.
///
/// It resolves to the result's message or, if that is a stream, to a [`Streaming`] as soon as it begins. The messages of a streamed
/// argument are taken from their stream, and written, while it or the `Streaming` is polled.
pub type StreamCall<R> = callosum_runtime::service::StreamInvocation<R, Status>;

/// Includes what `callosum_protobuf_build` has made of a package's `.proto` files: `include_proto!("agent.v1")`. A part of its
/// name that is a keyword has `r#` before it, as prost-build names the file: `include_proto!("my.r#type")`.
#[macro_export]
macro_rules! include_proto {
    ($package:tt) => {
        include!(concat!(env!("OUT_DIR"), concat!("/", $package, ".rs")));
    };
}

/// Functions for generated code. Not part of the API: they change together with `callosum-protobuf-build`.
#[doc(hidden)]
pub mod generated {
    pub use callosum_runtime::Peer;
    pub use callosum_runtime::service::Service;
    pub use futures_util::Stream;

    pub use crate::client::{bidirectional, client_streaming, server_streaming, unary};
    pub use crate::serve::{Description, Methods};
}
