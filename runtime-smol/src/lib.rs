#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/README.md\n")]
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod accept;
mod ipc;
mod runtime;
mod socket;

pub use callosum_runtime::*;
pub use runtime::SmolRuntime;

/// Starts to build an endpoint on smol's global executor.
pub fn builder() -> Builder {
    Builder::new(std::sync::Arc::new(SmolRuntime::default()))
}
