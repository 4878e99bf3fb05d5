//! Generates the code of the service with tonic, and of the echoes of Callosum's upper layers.

#[path = "src/services/build.rs"]
mod services;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    services::main()?;
    callosum_thrift_build::compile("src/peers/echo.thrift")?;
    let protobuf = callosum_protobuf_build::Builder::new().messages(|prost| {
        prost.bytes(["."]);
    });
    Ok(protobuf.compile(["src/peers/echo.proto"], ["src/peers"])?)
}
