//! Sockets of the `zeromq` crate as message links, on async-std.
// What the tests call belongs to them.
#![allow(clippy::unwrap_used)]

use callosum_async_std as callosum;

#[path = "../shared/common.rs"]
mod common;
#[path = "../shared/on_async_std.rs"]
mod on_async_std;
#[path = "../shared/zeromq.rs"]
mod zeromq;
use on_async_std::{run, spawn};
