//! Compiles and runs the code of the repository's README. The programs are beside `Cargo.toml`.
#![forbid(unsafe_code)]
#![cfg_attr(doctest, doc = include_str!("../../README.md"))]
