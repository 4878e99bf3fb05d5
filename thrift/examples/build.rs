//! Makes Rust of `simple.thrift`.

fn main() -> Result<(), callosum_thrift_build::BuildError> {
    callosum_thrift_build::compile("simple.thrift")
}
