#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/thrift.md\n")]
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod analysis;
mod constants;
mod derived;
mod error;
mod generate;
mod names;
mod services;
mod structs;
mod text;
mod types;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use callosum_thrift_idl::Loader;

pub use error::BuildError;
pub use generate::generate;

/// Makes Rust of a `.thrift` file and of those that it includes, in a build script. The code goes to cargo's `OUT_DIR`, from where
/// `callosum_thrift::include_thrift!` takes it by the file's name, and is made again when one of the files changes. Of several files that
/// include the same ones, or have the same name, [`Builder::compile_all`] makes one module each.
///
/// ```no_run
/// // build.rs
/// fn main() -> Result<(), callosum_thrift_build::BuildError> {
///     callosum_thrift_build::compile("idl/calculator.thrift")
/// }
/// ```
///
/// # Errors
/// If a file can't be read or something in it is wrong, if this is no build script, or if it has compiled another file of that name.
pub fn compile(path: impl AsRef<Path>) -> Result<(), BuildError> {
    Builder::new().compile(path)
}

/// Files that this process has written. Files of earlier builds may be overwritten, those of this build may not.
static WRITTEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

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
        let path = path.as_ref();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        self.compile_all(&stem, [path])
    }

    /// Makes Rust of several files, to be included together under this name: what more than one of them includes is the same module, with
    /// the same types, for all. Of files with the same name, the first gives its module that name; those of the others have the
    /// names of their folders before it, as in `shared_types` for `shared/types.thrift`.
    ///
    /// ```no_run
    /// // build.rs, of files that both include `shared.thrift`
    /// # fn main() -> Result<(), callosum_thrift_build::BuildError> {
    /// callosum_thrift_build::Builder::new().compile_all("services", ["idl/store.thrift", "idl/shop.thrift"])
    /// # }
    /// // The program: `callosum_thrift::include_thrift!("services")` includes the modules `store`, `shop` and `shared`.
    /// ```
    ///
    /// # Errors
    /// As [`compile`], and if there is no file.
    pub fn compile_all(
        &self,
        name: &str,
        paths: impl IntoIterator<Item = impl AsRef<Path>>,
    ) -> Result<(), BuildError> {
        let schema = self.loader.load_all(paths)?;
        for file in schema.files() {
            println!("cargo::rerun-if-changed={}", file.path().display());
        }
        let folder = match &self.out {
            Some(folder) => folder.clone(),
            None => env::var_os("OUT_DIR").ok_or(BuildError::NoOutFolder)?.into(),
        };
        let path = folder.join(format!("{name}.thrift.rs"));
        let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        let code = generate(&schema)?;
        if !written.insert(path.clone()) && fs::read(&path).is_ok_and(|before| before != code.as_bytes()) {
            return Err(BuildError::Overwritten(path));
        }
        fs::write(&path, code).map_err(|error| BuildError::Write { path, error })
    }
}
