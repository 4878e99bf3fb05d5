//! Tunnels in a process: one program for all of these tests, so that it is linked once.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod authorization;
mod dynamic;
mod local;
mod loopback;
mod observation;
mod remote;
mod silent_links;
mod support;
mod wakers;
