//! Tests of message links on tokio and on async-std, in `tests/`.
#![forbid(unsafe_code)]
