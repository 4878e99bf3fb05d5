//! Tests across the crates: one program, so that it is linked once. Those that need a process to themselves, for its allocator or for
//! its subscriber of traces, are beside it.

mod auth;
mod behaviour;
mod blocking_host;
mod descriptors;
mod event_subscribers;
mod fuzz_corpus;
mod golden_is_current;
mod interop_curve;
mod interop_protobuf;
mod interop_python_client;
mod interop_python_server;
mod interop_raw;
mod interop_services;
mod python_peers;
mod real_load;
mod service_types;
mod tunnels;
