//! Tests across the crates: one suite of behaviour for every runtime, and peers in Python.
#![forbid(unsafe_code)]

pub mod gate;
pub mod interop;
pub mod proto;
pub mod python;
pub mod raw;
pub mod rig;
pub mod suite;
