//! Sockets of the `zeromq` crate as message links, on tokio.

use callosum_tokio as callosum;

#[path = "../../tests/shared/common.rs"]
mod common;
#[path = "../../tests/shared/on_tokio.rs"]
mod on_tokio;
#[path = "../../tests/shared/zeromq.rs"]
mod zeromq;
use on_tokio::{run, spawn};
