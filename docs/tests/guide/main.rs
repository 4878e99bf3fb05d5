//! The README, the guide and the other documents say what is so. One program, so that it is linked once.

mod chapters;
mod common;
mod crates;
mod limits;
mod links;
