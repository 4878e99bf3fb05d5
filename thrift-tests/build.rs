//! Makes Rust of the files in `idl`.

use callosum_thrift_build::{BuildError, Builder};

fn main() -> Result<(), BuildError> {
    let builder = Builder::new().include_folder("idl/included");
    builder.compile("idl/everything.thrift")?;
    builder.compile("idl/rust_only.thrift")?;
    builder.compile_all("names", ["idl/names/beside.thrift", "idl/names/meeting.thrift"])?;
    builder.compile("../thrift/examples/simple.thrift")
}
