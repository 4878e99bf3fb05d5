//! Callosum, an RPC transport over ZeroMQ, on tokio.
#![forbid(unsafe_code)]

mod runtime;
mod stream;

pub use callosum_runtime::*;
pub use runtime::TokioRuntime;

/// Starts to build an endpoint on the tokio runtime that is current when the endpoint's driver runs.
pub fn builder() -> Builder {
    Builder::new(std::sync::Arc::new(TokioRuntime))
}
