//! Compiles the `.proto` and the `.thrift` file, and makes a module of each program, for `tests/on_every_runtime.rs`.
//!
//! A program is written for tokio, as its reader would write it. The module is the same program with three names
//! replaced: those of the adapter, of `spawn` and of `main`. What the names mean is up to the module around it.

use std::path::Path;
use std::{env, fs, io};

/// Programs on tokio that need nothing else of it.
const PROGRAMS: [&str; 7] =
    ["quickstart", "ordering", "bidirectional", "streams", "typed_service", "protobuf", "thrift"];

const NAMES: [(&str, &str); 3] = [
    ("callosum_tokio::", "super::callosum::"),
    ("tokio::spawn(", "super::spawn("),
    ("#[tokio::main]\nasync fn main(", "pub(super) async fn main("),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    callosum_protobuf_build::compile("proto/agent.proto")?;
    callosum_thrift_build::compile("calculator.thrift")?;
    make_modules()?;
    Ok(())
}

fn make_modules() -> io::Result<()> {
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    for program in PROGRAMS {
        let path = format!("{program}.rs");
        println!("cargo::rerun-if-changed={path}");
        let mut text = fs::read_to_string(&path)?;
        // The docs of a file can't be those of a module that includes it.
        text = text.lines().filter(|line| !line.starts_with("//!")).map(|line| format!("{line}\n")).collect();
        for (name, other) in NAMES {
            if !text.contains(name) {
                return Err(io::Error::other(format!("there is no {name:?} in {path}")));
            }
            text = text.replace(name, other);
        }
        fs::write(Path::new(&out).join(&path), text)?;
    }
    Ok(())
}
