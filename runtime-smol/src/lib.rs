//! Callosum, an RPC transport over ZeroMQ, on smol.
//!
//! Peers call each other, in both directions, over one connection. This crate has [`builder`], where everything starts,
//! and smol's sockets, timers and tasks; the rest is the API of [`callosum_runtime`], re-exported.
//!
//! ```
//! use std::time::Duration;
//!
//! use callosum_smol::{Context, HandlerResult, builder};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! smol::block_on(async {
//!     let double = |n: i64, _: Context| async move { HandlerResult::Ok(2 * n) };
//!     let (binder, driver) = builder().handle("double", double).bind("tcp://127.0.0.1:0").await?;
//!     let server = smol::spawn(driver);
//!
//!     let (connector, driver) = builder().connect(&binder.endpoints()[0])?;
//!     let client = smol::spawn(driver);
//!     let doubled: i64 = connector.peer().invoke("double", &21).timeout(Duration::from_secs(2)).await?;
//!     assert_eq!(doubled, 42);
//!
//!     connector.shutdown(Duration::from_secs(1)).await;
//!     binder.shutdown(Duration::from_secs(1)).await;
//!     client.await?;
//!     server.await?;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Executors
//! [`builder`] runs tasks on smol's global executor. For an [`Executor`](smol::Executor) of your own, start with
//! `Builder::new(Arc::new(SmolRuntime::on(executor)))`.
//!
//! # One thread, and futures that are not `Send`
//! Handles, drivers and calls can be used from any future, so also from one that holds an `Rc` across an await and runs
//! on a [`LocalExecutor`](smol::LocalExecutor). Handlers must be `Send + Sync`, and their futures `Send`, on every
//! runtime: the API hands them to [`Runtime::spawn`](rt::Runtime::spawn), which executors with many threads implement
//! too. To serve from `Rc` state, let the handler send its argument and a reply channel to a task of the local executor,
//! and await the reply. If the caller cancels, the handler's future is dropped, and the task sees its reply channel
//! closed. `examples/single_thread.rs` does so on one thread: it runs an `Executor` for Callosum's tasks beside the
//! `LocalExecutor`. On tokio, the same goes for a current-thread runtime and a `LocalSet`.
//!
//! # Feature flags
//! - `json`, `msgpack`: the codecs. On by default.
//!
//! # Cancel safety, limits
//! As [`callosum_runtime`] says.
#![forbid(unsafe_code)]

mod runtime;

pub use callosum_runtime::*;
pub use runtime::SmolRuntime;

/// Starts to build an endpoint on smol's global executor.
pub fn builder() -> Builder {
    Builder::new(std::sync::Arc::new(SmolRuntime::default()))
}
