//! Sockets of the `zeromq` crate as message links, on tokio.
// What the tests call belongs to them.
#![allow(clippy::unwrap_used)]

use callosum_tokio as callosum;

#[path = "../shared/common.rs"]
mod common;
#[path = "../shared/on_tokio.rs"]
mod on_tokio;
#[path = "../shared/zeromq.rs"]
mod zeromq;
use on_tokio::{run, spawn};
