#![doc = concat!("[guide]: ", env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/protobuf.md\n")]
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod generator;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{env, fs, io};

use prost_build::{Config, Module};
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use protox::Compiler;

pub use ::prost_build;
pub use generator::Services;

/// Compiles a `.proto` file, and what it imports, to Rust: for each package a file in `OUT_DIR`, which
/// `callosum_protobuf::include_proto!` includes.
///
/// Imports are looked for beside the file, and among the well-known types. All files of a package have to be compiled at once:
/// [`Builder`] takes several, and has more options.
///
/// # Errors
/// See [`Error`].
pub fn compile(proto: impl AsRef<Path>) -> Result<(), Error> {
    let proto = proto.as_ref();
    let beside = match proto.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    Builder::new().compile([proto], [beside])
}

/// The options of a compilation.
///
/// ```no_run
/// # fn main() -> Result<(), callosum_protobuf_build::Error> {
/// callosum_protobuf_build::Builder::new()
///     .messages(|prost| {
///         prost.bytes(["."]);
///     })
///     .compile(["proto/agent.proto"], ["proto"])
/// # }
/// ```
#[derive(Debug)]
pub struct Builder {
    messages: Config,
    services: Services,
    descriptors: Option<PathBuf>,
    out: Option<PathBuf>,
    include: Option<PathBuf>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// Clients and services of all files, for messages of prost.
    pub fn new() -> Self {
        let mut messages = Config::new();
        messages
            .prost_path("::callosum_protobuf::prost")
            .prost_types_path("::callosum_protobuf::prost_types")
            .enable_type_names()
            // As other languages have it, so that they can unpack what is packed into an `Any`.
            .type_name_domain(["."], "type.googleapis.com");
        Self { messages, services: Services::default(), descriptors: None, out: None, include: None }
    }

    /// Writes to this folder, in place of `OUT_DIR`.
    pub fn out_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        self.messages.out_dir(&folder);
        self.out = Some(folder);
        self
    }

    /// Also writes a file that includes all packages, each in modules like its name.
    pub fn include_file(mut self, name: impl Into<PathBuf>) -> Self {
        let name = name.into();
        self.messages.include_file(&name);
        self.include = Some(name);
        self
    }

    /// Changes how messages are generated: all options of [`prost_build::Config`].
    pub fn messages(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.messages);
        self
    }

    /// Takes another codec than prost's: the path of a type that implements `callosum_protobuf::Codec` for all messages of the services.
    pub fn codec(mut self, path: impl Into<String>) -> Self {
        self.services = self.services.codec(path);
        self
    }

    /// Whether there are clients. Default: yes.
    pub fn clients(mut self, generate: bool) -> Self {
        self.services = self.services.clients(generate);
        self
    }

    /// Whether there are traits to implement. Default: yes.
    pub fn servers(mut self, generate: bool) -> Self {
        self.services = self.services.servers(generate);
        self
    }

    /// Also writes the files' descriptors, imports included, as a `google.protobuf.FileDescriptorSet`.
    pub fn descriptor_set(mut self, path: impl Into<PathBuf>) -> Self {
        self.descriptors = Some(path.into());
        self
    }

    /// Compiles files, and tells cargo to do so again when one of them changes, or one that they import. Imports are looked for in the
    /// folders of `includes`, and among the well-known types; the files themselves must be in one of these folders.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn compile(
        mut self,
        protos: impl IntoIterator<Item = impl AsRef<Path>>,
        includes: impl IntoIterator<Item = impl AsRef<Path>>,
    ) -> Result<(), Error> {
        let mut compiler = Compiler::new(includes)?;
        compiler.include_imports(true).include_source_info(true).open_files(protos)?;
        for path in compiler.files().filter_map(|file| file.path()) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
        let files = compiler.file_descriptor_set();
        let (mut paths, include) = self.paths(&files);
        if let Some(include) = include
            && !paths.insert(include.clone())
        {
            return Err(Error::Overwritten(include));
        }
        if let Some(path) = &self.descriptors {
            fs::write(path, compiler.encode_file_descriptor_set())
                .map_err(|error| Error::Write { path: path.clone(), error })?;
        }
        self.messages.service_generator(Box::new(self.services.beside(&files)));
        let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier: Vec<_> =
            written.intersection(&paths).filter_map(|path| Some((path, fs::read(path).ok()?))).collect();
        self.messages.compile_fds(files).map_err(Error::Generate)?;
        for (path, before) in earlier {
            if fs::read(path).is_ok_and(|now| now != before) {
                return Err(Error::Overwritten(path.clone()));
            }
        }
        written.extend(paths);
        Ok(())
    }

    /// The files that are written: one for each package that has something in it, and the one that includes them.
    fn paths(&self, files: &FileDescriptorSet) -> (BTreeSet<PathBuf>, Option<PathBuf>) {
        let Some(folder) = self.out.clone().or_else(|| env::var_os("OUT_DIR").map(PathBuf::from)) else {
            return (BTreeSet::new(), None);
        };
        let has_items = |file: &&FileDescriptorProto| {
            !(file.message_type.is_empty() && file.enum_type.is_empty() && file.service.is_empty())
        };
        let with_items = files.file.iter().filter(has_items);
        let packages = with_items.map(|file| Module::from_protobuf_package_name(file.package()));
        let paths = packages.map(|package| folder.join(package.to_file_name_or("_")));
        (paths.collect(), self.include.as_ref().map(|name| folder.join(name)))
    }
}

/// Files that this process has written. Files of earlier builds may be overwritten, those of this build may not.
static WRITTEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The error of a compilation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The files can't be read, or are not valid Protocol Buffers.
    #[error("{}", report(.0))]
    Compile(protox::Error),
    /// No Rust code could be generated or written, as outside of a build script.
    #[error("can't generate code: {0}")]
    Generate(io::Error),
    /// A file would be overwritten, or was: two calls of one build script generate different code for one package, or different include
    /// files of one name, or the include file has the name of a package's file.
    #[error(
        "{} is generated twice: give all files of a package, and all packages of an include file, to one `Builder::compile`, and \
         name the include file unlike a package",
        .0.display()
    )]
    Overwritten(PathBuf),
    /// The descriptors could not be written.
    #[error("can't write {path}: {error}", path = .path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

// Not by `#[from]`: the text includes the inner error already, so it must not be the source as well.
impl From<protox::Error> for Error {
    fn from(error: protox::Error) -> Self {
        Self::Compile(error)
    }
}

/// The text, which names no file if it is about one.
fn report(error: &protox::Error) -> String {
    match error.file() {
        Some(file) => format!("{file}: {error}"),
        None => error.to_string(),
    }
}
