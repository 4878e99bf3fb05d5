#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/thrift.md\n")]
#![doc = include_str!("../README.md")]
//!
//! # How the crates share the work
//! `callosum-thrift-build` makes Rust of a `.thrift` file, in a build script. What it makes holds names, numbers and types, and calls
//! what is here: [`Reader`] and [`Writer`] are the encoding, [`Encode`] and [`Decode`] the types, [`Client`] and [`Service`] the two
//! ends of a call. What travels is in `PROTOCOL.md`.
#![forbid(unsafe_code)]

mod call_error;
mod client;
mod containers;
#[cfg(feature = "dynamic")]
pub mod dynamic;
mod error;
mod exception;
mod invocation;
mod limits;
mod message;
mod protocol;
mod reader;
mod reply;
mod server;
mod value;
mod wire_type;
mod writer;

/// Bodies of this repository's fuzz targets. No part of the API.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

pub use bytes::Bytes;
pub use callosum_runtime as runtime;

pub use call_error::{MethodError, ReplyError, ThriftError};
pub use client::Client;
pub use containers::{MapVec, SetVec};
pub use error::{ReadError, WriteError};
pub use exception::{ApplicationException, ExceptionKind, Exceptions};
pub use invocation::{ThriftInvocation, ThriftResponse, ThriftResponseWithMetadata};
pub use limits::Limits;
pub use message::{Message, MessageKind};
pub use protocol::Protocol;
pub use reader::{Decode, Reader};
pub use server::{Registry, Request, Service, method, method_with, register};
pub use value::Output;
pub use wire_type::WireType;
pub use writer::{Encode, Writer};

/// Includes what `callosum-thrift-build` has made of a `.thrift` file, by the file's name without its ending: a module of that name, and
/// one for each file that it includes.
///
/// ```ignore
/// callosum_thrift::include_thrift!("calculator");
/// use calculator::CalculatorClient;
/// ```
#[macro_export]
macro_rules! include_thrift {
    ($stem:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $stem, ".thrift.rs"));
    };
}
