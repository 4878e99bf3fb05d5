//! Message links on tokio.
// What the tests call belongs to them.
#![allow(clippy::unwrap_used)]

use callosum_tokio as callosum;

#[path = "../shared/common.rs"]
mod common;
#[path = "../shared/links.rs"]
mod links;
#[path = "../shared/on_tokio.rs"]
mod on_tokio;
use on_tokio::{run, spawn};
