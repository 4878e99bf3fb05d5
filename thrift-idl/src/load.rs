//! Files, and those that they include.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{IdlError, Position, Problem};
use crate::model::{File, Schema};
use crate::parser::{Parsed, parse};
use crate::resolve::resolve;

/// Limit of files that may be included, directly or indirectly.
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
    /// If a file can't be read, or something in it is wrong; only the first mistake is reported.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<Schema, IdlError> {
        self.load_all([path])
    }

    /// Reads several files into one schema. What more than one of them includes is there once.
    ///
    /// # Errors
    /// As those of [`load`](Self::load), and if there is no file.
    pub fn load_all(&self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Schema, IdlError> {
        let mut files = Files::default();
        for path in paths {
            if files.known(path.as_ref()).is_none() {
                files.read(path.as_ref())?;
            }
        }
        if files.read.is_empty() {
            return Err(IdlError::NoFile);
        }
        self.finish(files)
    }

    /// Takes the text of a file, whose includes are looked for in the folder where this program runs. Its name is `stem`.
    ///
    /// # Errors
    /// As those of [`load`](Self::load).
    pub fn parse(&self, stem: &str, text: &str) -> Result<Schema, IdlError> {
        let mut files = Files::default();
        files.add(PathBuf::from(stem).with_extension("thrift"), text)?;
        self.finish(files)
    }

    /// Reads what the files include, which are the roots.
    fn finish(&self, mut files: Files) -> Result<Schema, IdlError> {
        let roots = files.read.len();
        while let Some((number, includes)) = files.pending.pop_front() {
            for (name, position) in includes {
                let from = files.read[number].path.clone();
                let wrong = |problem| IdlError::Wrong { path: from.clone(), position, problem };
                let path = self.find(&from, &name).ok_or_else(|| wrong(Problem::NoSuchInclude(name)))?;
                let included = match files.known(&path) {
                    Some(included) => included,
                    None if files.read.len() == MAX_FILES => return Err(wrong(Problem::TooManyFiles)),
                    None => files.read(&path)?,
                };
                let stem = &files.read[included].stem;
                let mut others = files.read[number].includes.iter().filter(|other| **other != included);
                if others.any(|other| files.read[*other].stem == *stem) {
                    return Err(wrong(Problem::SameFileName(stem.clone())));
                }
                files.read[number].includes.push(included);
            }
        }
        resolve(files.read, roots)
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

/// Files that are read, and what they include that is not.
#[derive(Default)]
struct Files {
    read: Vec<File>,
    /// By the numbers of the files that include.
    pending: VecDeque<(usize, Vec<(String, Position)>)>,
}

impl Files {
    /// The number of a file that is read.
    fn known(&self, path: &Path) -> Option<usize> {
        self.read.iter().position(|file| same(&file.path, path))
    }

    /// Reads a file; returns its number.
    fn read(&mut self, path: &Path) -> Result<usize, IdlError> {
        let text = fs::read_to_string(path).map_err(|error| IdlError::Read { path: path.into(), error })?;
        self.add(path.into(), &text)
    }

    /// Adds a file with this text, whose names are not resolved yet.
    fn add(&mut self, path: PathBuf, text: &str) -> Result<usize, IdlError> {
        let parsed = parse(text).map_err(|(position, problem)| IdlError::Wrong {
            path: path.clone(),
            position,
            problem,
        });
        let Parsed { includes, definitions } = parsed?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let name = self.free_name(&path, &stem);
        self.read.push(File { path, stem, name, includes: Vec::new(), definitions });
        let number = self.read.len() - 1;
        self.pending.push_back((number, includes));
        Ok(number)
    }

    /// The stem, with the folder's name before it if another file has that name already.
    fn free_name(&self, path: &Path, stem: &str) -> String {
        let is_taken = |name: &str| self.read.iter().any(|file| file.name == name);
        let mut name = stem.to_owned();
        if is_taken(&name) {
            let folder = fs::canonicalize(path).ok().and_then(|path| {
                let folder = path.parent()?.file_name()?;
                Some(folder.to_string_lossy().into_owned())
            });
            name = format!("{}_{stem}", folder.unwrap_or_default());
        }
        while is_taken(&name) {
            name.push('_');
        }
        name
    }
}

fn same(one: &Path, other: &Path) -> bool {
    let canonical = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    canonical(one) == canonical(other)
}
