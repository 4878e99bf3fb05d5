#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/README.md\n")]
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod ipc;
mod runtime;
mod socket;

pub use callosum_runtime::*;
pub use runtime::TokioRuntime;

/// Starts to build an endpoint on the tokio runtime that is current when the endpoint's driver runs.
pub fn builder() -> Builder {
    Builder::new(std::sync::Arc::new(TokioRuntime::default()))
}
