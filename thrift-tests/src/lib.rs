//! What is generated from the files in `idl`, an implementation of it, and random values.

callosum_thrift::include_thrift!("everything");
callosum_thrift::include_thrift!("rust_only");
callosum_thrift::include_thrift!("simple");

/// Names that meet each other, in more than one file.
pub mod names {
    callosum_thrift::include_thrift!("names");
}

mod random;
mod simple_service;
mod store;

pub use random::{everything, random_either};
pub use simple_service::Simple;
pub use store::Memory;
