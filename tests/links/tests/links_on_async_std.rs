//! Message links on async-std.
// What the tests call belongs to them.
#![allow(clippy::unwrap_used)]

use callosum_async_std as callosum;

#[path = "../shared/common.rs"]
mod common;
#[path = "../shared/links.rs"]
mod links;
#[path = "../shared/on_async_std.rs"]
mod on_async_std;
use on_async_std::{run, spawn};
