#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/thrift.md\n")]
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod lexer;
mod load;
mod model;
mod parser;
mod resolve;

pub use error::{IdlError, Position, Problem};
pub use load::Loader;
pub use model::{
    DefId, Definition, EnumValue, Field, File, Flavour, Function, Kind, Name, Reference, Requiredness,
    Schema, Service, Struct, Type, Value,
};
