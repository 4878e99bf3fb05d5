//! Files, and those that they include.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{IdlError, Position, Problem};
use crate::model::{File, Schema};
use crate::parser::{Parsed, parse};
use crate::resolve::resolve;

/// So many files may be included, directly or not.
const MAX_FILES: usize = 1_000;

/// Reads a file and everything that it includes.
///
/// ```
/// # use callosum_thrift_idl::Loader;
/// let schema = Loader::new().parse("calculator", "service Calculator { i64 add(1: i64 a, 2: i64 b) }")?;
/// let (service, name) = schema.services().next().expect("there is one");
/// assert_eq!(name, "Calculator");
/// assert_eq!(schema.function(service, "add").map(|function| function.arguments.len()), Some(2));
/// # Ok::<(), callosum_thrift_idl::IdlError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Loader {
    folders: Vec<PathBuf>,
}

impl Loader {
    /// Finds an include beside the file that includes it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks for includes in this folder too, after those that were named before.
    pub fn include_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders.push(folder.into());
        self
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If a file can't be read, or something in it is wrong; only the first mistake is told.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<Schema, IdlError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|error| IdlError::Read { path: path.into(), error })?;
        self.finish(path.into(), &text)
    }

    /// Takes the text of a file, whose includes are looked for in the folder where this program runs. Its name is `stem`.
    ///
    /// # Errors
    /// As those of [`load`](Self::load).
    pub fn parse(&self, stem: &str, text: &str) -> Result<Schema, IdlError> {
        self.finish(PathBuf::from(stem).with_extension("thrift"), text)
    }

    fn finish(&self, path: PathBuf, text: &str) -> Result<Schema, IdlError> {
        let (root, includes) = read(path, text)?;
        let mut files = vec![root];
        let mut pending = vec![(0, includes)];
        while let Some((number, includes)) = pending.pop() {
            for (name, position) in includes {
                let wrong = |problem| IdlError::Wrong { path: files[number].path.clone(), position, problem };
                let path = self
                    .find(&files[number].path, &name)
                    .ok_or_else(|| wrong(Problem::NoSuchInclude(name)))?;
                let known = files.iter().position(|file| same(&file.path, &path));
                let included = match known {
                    Some(included) => included,
                    None if files.len() == MAX_FILES => return Err(wrong(Problem::TooManyFiles)),
                    None => {
                        let text = fs::read_to_string(&path)
                            .map_err(|error| IdlError::Read { path: path.clone(), error })?;
                        let (file, includes) = read(path, &text)?;
                        if files.iter().any(|other| other.stem == file.stem) {
                            return Err(wrong(Problem::SameFileName(file.stem)));
                        }
                        files.push(file);
                        pending.push((files.len() - 1, includes));
                        files.len() - 1
                    }
                };
                files[number].includes.push(included);
            }
        }
        resolve(files)
    }

    /// The file that another names.
    fn find(&self, from: &Path, name: &str) -> Option<PathBuf> {
        let beside = from.parent().map(Path::to_owned);
        beside
            .into_iter()
            .chain(self.folders.iter().cloned())
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    }
}

fn same(one: &Path, other: &Path) -> bool {
    let canonical = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    canonical(one) == canonical(other)
}

/// A file whose names are not resolved, and what it includes.
fn read(path: PathBuf, text: &str) -> Result<(File, Vec<(String, Position)>), IdlError> {
    let parsed =
        parse(text).map_err(|(position, problem)| IdlError::Wrong { path: path.clone(), position, problem });
    let Parsed { includes, definitions } = parsed?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((File { path, stem, includes: Vec::new(), definitions }, includes))
}
