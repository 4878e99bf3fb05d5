//! Compiles the code of the README and of the guide, as doctests, and that of the macros, which is about adapters.
//!
//! The guide is in `guide/`: `mdbook build docs` makes a book of it. A chapter with code must be in the list below;
//! `tests/guide/chapters.rs` says which one is missing.
#![forbid(unsafe_code)]

macro_rules! chapters {
    ($($module:ident: $path:literal,)*) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!(concat!("../../", $path))]
            mod $module {}
        )*

        /// Where they are, from the root of the repository.
        pub const CHAPTERS: &[&str] = &[$($path),*];
    };
}

chapters! {
    readme: "README.md",
    macros: "macros/README.md",
    getting_started: "docs/guide/getting-started.md",
    concepts: "docs/guide/concepts.md",
    calls: "docs/guide/calls.md",
    ordering: "docs/guide/ordering.md",
    errors: "docs/guide/errors.md",
    streams: "docs/guide/streams.md",
    services: "docs/guide/services.md",
    protobuf: "docs/guide/protobuf.md",
    security: "docs/guide/security.md",
    thrift: "docs/guide/thrift.md",
    tunnels: "docs/guide/tunnels.md",
    middleware: "docs/guide/middleware.md",
    limits: "docs/guide/limits.md",
    transports: "docs/guide/transports.md",
    hosts: "docs/guide/hosts.md",
    schedulers: "docs/guide/schedulers.md",
    testing: "docs/guide/testing.md",
    from_python: "docs/guide/from-python.md",
    from_grpc: "docs/guide/from-grpc.md",
    from_zeromq: "docs/guide/from-zeromq.md",
}
