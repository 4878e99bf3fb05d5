//! Callosum, an RPC transport over ZeroMQ, on async-std.
#![forbid(unsafe_code)]

mod runtime;
mod stream;

pub use callosum_runtime::*;
pub use runtime::AsyncStdRuntime;

/// Starts to build an endpoint on async-std.
pub fn builder() -> Builder {
    Builder::new(std::sync::Arc::new(AsyncStdRuntime))
}
