//! What the engine costs by itself: instructions, allocations and CPU time, without sockets, tasks or locks.
//!
//! `benches/paths.rs` has the paths whose instructions are counted, [`counts`] compares them with those in the repository, and
//! the program (`main.rs`) prints allocations and time.

pub mod counts;
#[path = "../../../proto/tests/pair/mod.rs"]
pub mod pair;
