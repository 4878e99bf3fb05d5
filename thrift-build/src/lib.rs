#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod analysis;
mod constants;
mod error;
mod generate;
mod names;
mod services;
mod structs;
mod text;
mod types;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use callosum_thrift_idl::Loader;

pub use error::BuildError;
pub use generate::generate;

/// Makes Rust of a `.thrift` file and of those that it includes, in a build script. The code goes to cargo's `OUT_DIR`, from where
/// `callosum_thrift::include_thrift!` takes it, and is made again when one of the files changes.
///
/// ```no_run
/// // build.rs
/// fn main() -> Result<(), callosum_thrift_build::BuildError> {
///     callosum_thrift_build::compile("idl/calculator.thrift")
/// }
/// ```
///
/// # Errors
/// If a file can't be read or something in it is wrong, or if this is no build script.
pub fn compile(path: impl AsRef<Path>) -> Result<(), BuildError> {
    Builder::new().compile(path)
}

/// [`compile`] with settings.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    loader: Loader,
    out: Option<PathBuf>,
}

impl Builder {
    /// As [`compile`] has it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks for includes in this folder too.
    pub fn include_folder(self, folder: impl Into<PathBuf>) -> Self {
        Self { loader: self.loader.include_folder(folder), ..self }
    }

    /// Writes to this folder, in place of `OUT_DIR`.
    pub fn out_folder(self, folder: impl Into<PathBuf>) -> Self {
        Self { out: Some(folder.into()), ..self }
    }

    /// Makes Rust of a file.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn compile(&self, path: impl AsRef<Path>) -> Result<(), BuildError> {
        let schema = self.loader.load(path)?;
        for file in schema.files() {
            println!("cargo::rerun-if-changed={}", file.path().display());
        }
        let folder = match &self.out {
            Some(folder) => folder.clone(),
            None => env::var_os("OUT_DIR").ok_or(BuildError::NoOutFolder)?.into(),
        };
        let path = folder.join(format!("{}.thrift.rs", schema.root().stem()));
        let code = generate(&schema)?;
        fs::write(&path, code).map_err(|error| BuildError::Write { path, error })
    }
}
