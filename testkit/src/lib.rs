#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/testing.md\n")]
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
// Tests start virtual time somewhere; testkit/clippy.toml is about the kit itself.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types))]

mod admitted;
mod carry;
mod curve;
pub mod curve_handshake;
pub mod curve_peer;
mod curve_side;
pub mod fuzz;
pub mod history;
mod hostile;
mod hostile2;
pub mod pair;
mod readable;
pub mod sim;
pub mod unit;
pub mod wake;
pub mod world;
pub mod wrapped;
mod zmtp;
