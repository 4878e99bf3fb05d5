//! Callosum, an RPC transport over ZeroMQ, on async-std.
//!
//! Peers call each other, in both directions, over one connection. This crate has [`builder`], where everything starts,
//! and async-std's sockets, timers and tasks; the rest is the API of [`callosum_runtime`], re-exported.
//!
//! ```
//! use std::time::Duration;
//!
//! use callosum_async_std::{Context, HandlerResult, builder};
//!
//! # #[async_std::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let double = |n: i64, _: Context| async move { HandlerResult::Ok(2 * n) };
//! let (binder, driver) = builder().handle("double", double).bind("tcp://127.0.0.1:0").await?;
//! let server = async_std::task::spawn(driver);
//!
//! let (connector, driver) = builder().connect(&binder.endpoints()[0])?;
//! let client = async_std::task::spawn(driver);
//! let doubled: i64 = connector.peer().invoke("double", &21).timeout(Duration::from_secs(2)).await?;
//! assert_eq!(doubled, 42);
//!
//! connector.shutdown(Duration::from_secs(1)).await;
//! binder.shutdown(Duration::from_secs(1)).await;
//! client.await?;
//! server.await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Feature flags
//! - `json`, `msgpack`: the codecs. On by default.
//! - `zeromq`: sockets of the `zeromq` crate as message links. It can't be on together with the feature of the same name
//!   of `callosum-tokio`. Off by default.
//!
//! # async-std is discontinued
//! See RUSTSEC-2025-0052. New programs should take smol and `callosum-smol`: it has the same reactor, whose sockets and
//! timers this crate uses.
//!
//! # Cancel safety, limits
//! As [`callosum_runtime`] says.
#![forbid(unsafe_code)]

mod runtime;

pub use callosum_runtime::*;
pub use runtime::AsyncStdRuntime;

/// Starts to build an endpoint on async-std.
pub fn builder() -> Builder {
    Builder::new(std::sync::Arc::new(AsyncStdRuntime))
}
