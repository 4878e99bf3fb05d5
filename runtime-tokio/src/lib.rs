//! Callosum, an RPC transport over ZeroMQ, on tokio.
//!
//! Peers call each other, in both directions, over one connection. This crate has [`builder`], where everything starts,
//! and tokio's sockets, timers and tasks; the rest is the API of [`callosum_runtime`], re-exported.
//!
//! ```
//! use std::time::Duration;
//!
//! use callosum_tokio::{Context, HandlerResult, builder};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let double = |n: i64, _: Context| async move { HandlerResult::Ok(2 * n) };
//! let (binder, driver) = builder().handle("double", double).bind("tcp://127.0.0.1:0").await?;
//! let server = tokio::spawn(driver);
//!
//! let (connector, driver) = builder().connect(&binder.endpoints()[0])?;
//! let client = tokio::spawn(driver);
//! let doubled: i64 = connector.peer().invoke("double", &21).timeout(Duration::from_secs(2)).await?;
//! assert_eq!(doubled, 42);
//!
//! connector.shutdown(Duration::from_secs(1)).await;
//! binder.shutdown(Duration::from_secs(1)).await;
//! client.await??;
//! server.await??;
//! # Ok(())
//! # }
//! ```
//!
//! # Feature flags
//! - `json`, `msgpack`: the codecs. On by default.
//! - `zeromq`: sockets of the `zeromq` crate as message links. It can't be on together with the feature of the same name
//!   of `callosum-async-std`. Off by default.
//!
//! # Cancel safety, limits
//! As [`callosum_runtime`] says. Drivers must run within a tokio runtime that has I/O and time enabled.
#![forbid(unsafe_code)]

mod runtime;
mod socket;

pub use callosum_runtime::*;
pub use runtime::TokioRuntime;

/// Starts to build an endpoint on the tokio runtime that is current when the endpoint's driver runs.
pub fn builder() -> Builder {
    Builder::new(std::sync::Arc::new(TokioRuntime::default()))
}
