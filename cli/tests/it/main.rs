//! The command line, as a process: one program for all of its tests, so that it is linked once.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod calls;
mod commands;
mod common;
mod curve;
mod demo;
mod describe;
mod files;
mod files_attacks;
mod files_hostile;
mod files_lists;
mod files_partials;
mod files_progress;
mod files_sources;
mod help;
mod limits;
mod profiles;
mod protobuf;
mod streams;
mod thrift;
mod tunnels;
mod tunnels_real_peers;
