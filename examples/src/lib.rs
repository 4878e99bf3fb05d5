//! Compiles and runs the code of the repository's README, and of that of the macros. The programs are beside `Cargo.toml`.
#![forbid(unsafe_code)]
#![cfg_attr(doctest, doc = include_str!("../../README.md"))]
#![cfg_attr(doctest, doc = include_str!("../../macros/README.md"))]
