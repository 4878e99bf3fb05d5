//! Compiles the `.proto` files of the tests, and writes their descriptors for Python.

use std::path::PathBuf;
use std::{env, io};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?);
    callosum_protobuf_build::Builder::new()
        .descriptor_set(out.join("descriptors.bin"))
        .compile(["proto/agent.proto", "proto/status.proto"], ["proto"])?;
    callosum_protobuf_build::Builder::new().include_file("packages.rs").compile(
        ["plain", "fleet", "jobs"].map(|name| format!("proto/packages/{name}.proto")),
        ["proto/packages"],
    )?;
    callosum_protobuf_build::Builder::new()
        .codec("::callosum_protobuf::AtMost<64>")
        .compile(["proto/limited.proto"], ["proto"])?;
    Ok(())
}
