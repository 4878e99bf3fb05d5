//! Programs to copy. They are beside `Cargo.toml`; the tests run them on every runtime.
#![forbid(unsafe_code)]
