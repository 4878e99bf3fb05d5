//! Endpoints on tokio: one program, so that it is linked once.

mod byte_streams;
mod paused_clock;
mod reproducible;
