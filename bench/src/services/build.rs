//! What the service with tonic needs in a build script: generates its code, without `protoc`.

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["src/services/agent.proto"], ["src/services"])?;
    println!("cargo::rerun-if-changed=src/services/agent.proto");
    Ok(tonic_prost_build::configure().compile_fds(files)?)
}
