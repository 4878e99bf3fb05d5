//! Errors of the generator.

use std::io;
use std::path::PathBuf;

use callosum_thrift_idl::IdlError;

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A file can't be used.
    #[error(transparent)]
    Idl(#[from] IdlError),
    /// A constant is none of its type.
    #[error("{name} is not {expected}")]
    Constant {
        /// The constant, or the field whose default it is.
        name: String,
        /// What it should be.
        expected: String,
    },
    /// Two names are the same in Rust.
    #[error("{name} would be defined twice in Rust: {what}; rename one of the two")]
    Names {
        /// The name in Rust.
        name: String,
        /// Where.
        what: String,
    },
    /// A constant has a name that generated code uses.
    #[error(
        "the constant {name} of {file} begins with `__`, which is reserved for generated code; rename it"
    )]
    Reserved {
        /// The constant.
        name: String,
        /// The file that it is in.
        file: String,
    },
    /// `OUT_DIR` is not set: this is no build script.
    #[error("OUT_DIR is not set: call this from a build script, or set the output folder")]
    NoOutFolder,
    /// Two files of one build script have the same name, and so would what is made of them.
    #[error(
        "{} is already generated from another file: compile both with one `compile_all`, or under a name of its own",
        .0.display()
    )]
    Overwritten(PathBuf),
    /// The code can't be written.
    #[error("can't write {}: {error}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}
