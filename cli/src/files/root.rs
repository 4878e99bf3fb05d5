//! The served directory, and nothing outside of it.
//!
//! A name is walked part by part, each opened in the directory before it and never through a symbolic link. So there is
//! no moment at which a link could be put in its way, whoever else writes in the directory.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, mkdirat, open, openat, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::FileError;
use super::name::{MAX_PARTS, Name, is_part};
use super::partial::Place;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NO_LINK: OFlags = OFlags::NOFOLLOW;

/// What `list` tells of a file.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Entry {
    pub(super) name: String,
    /// In bytes.
    pub(super) size: u64,
    /// In seconds since 1970.
    pub(super) modified: u64,
}

/// A directory whose files are served.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, DIRECTORY, Mode::empty())?))
    }

    /// Opens a file for reading.
    pub(super) fn file(&self, name: &Name) -> Result<File, FileError> {
        let (directory, leaf) = (self.walk(name, false)?, name.split().1);
        // Nobody waits for the other end of a pipe.
        let flags = OFlags::RDONLY | NO_LINK | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&directory, leaf, flags, Mode::empty());
        let file = file.map_err(|error| FileError::io(name.as_str(), error.into()))?;
        let stat = fstat(&file).map_err(|error| FileError::io(name.as_str(), error.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(file.into()),
            FileType::Directory => Err(FileError::io(name.as_str(), Errno::ISDIR.into())),
            _ => Err(FileError::forbidden(name.as_str(), "it is no regular file, and only those are served")),
        }
    }

    /// Where a file of this name goes. Makes the directories on the way.
    pub(super) fn place(&self, name: &Name) -> Result<Place, FileError> {
        Place::new(self.walk(name, true)?, name.split().1, name.as_str())
    }

    /// The directory that the file is in.
    fn walk(&self, name: &Name, make: bool) -> Result<OwnedFd, FileError> {
        let failed = |error| FileError::io(name.as_str(), error);
        let mut directory = self.0.try_clone().map_err(failed)?;
        for part in name.split().0 {
            if make {
                match mkdirat(&directory, part, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(failed(error.into())),
                }
            }
            directory = match openat(&directory, part, DIRECTORY | NO_LINK, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOTDIR) => return Err(no_directory(&directory, part, name, make)),
                Err(error) => return Err(failed(error.into())),
            };
        }
        Ok(directory)
    }

    /// Tells of all files whose names begin with `prefix`, in no order, for as long as `tell` wants more.
    pub(super) fn list(&self, prefix: &str, mut tell: impl FnMut(Entry) -> bool) -> Result<(), FileError> {
        let (way, start) = match prefix.rsplit_once('/') {
            Some((way, start)) => (Name::parse(way)?.as_str().to_owned() + "/", start),
            None => (String::new(), prefix),
        };
        let directory = match Name::parse(&format!("{way}x")).and_then(|name| self.walk(&name, false)) {
            Ok(directory) => directory,
            Err(FileError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let failed = |error: Errno| FileError::io(prefix, error.into());
        // A directory of its own: what is read of it must not be shared with other lists.
        let directory = openat(&directory, ".", DIRECTORY, Mode::empty()).map_err(failed)?;
        let depth = way.matches('/').count();
        let mut open = vec![(way, Dir::new(directory).map_err(failed)?)];
        loop {
            let level = open.len();
            let Some((path, directory)) = open.last_mut() else { return Ok(()) };
            let entry = match directory.read() {
                Some(entry) => entry.map_err(failed)?,
                None => {
                    open.pop();
                    continue;
                }
            };
            let Some(part) = entry.file_name().to_str().ok().filter(|part| is_part(part)) else { continue };
            let name = format!("{path}{part}");
            if (level == 1 && !part.starts_with(start)) || Name::parse(&name).is_err() {
                continue;
            }
            match look(directory, part, name) {
                Found::File(entry) => {
                    if !tell(entry) {
                        return Ok(());
                    }
                }
                Found::Directory(path, inner) if depth + level < MAX_PARTS => open.push((path, inner)),
                Found::Directory(..) | Found::Nothing => {}
            }
        }
    }
}

fn no_directory(directory: &OwnedFd, part: &str, name: &Name, make: bool) -> FileError {
    match statat(directory, part, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
            FileError::link(name.as_str())
        }
        _ if make => FileError::forbidden(name.as_str(), "a file is where a directory would have to be"),
        _ => FileError::NotFound(name.as_str().to_owned()),
    }
}

enum Found {
    File(Entry),
    Directory(String, Dir),
    /// It is gone, or can't be named or read.
    Nothing,
}

fn look(directory: &Dir, part: &str, name: String) -> Found {
    let Ok(directory) = directory.fd() else { return Found::Nothing };
    let Ok(stat) = statat(directory, part, AtFlags::SYMLINK_NOFOLLOW) else { return Found::Nothing };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Found::File(Entry {
            name,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: u64::try_from(stat.st_mtime).unwrap_or(0),
        }),
        FileType::Directory => {
            let inner = openat(directory.as_fd(), part, DIRECTORY | NO_LINK, Mode::empty());
            match inner.and_then(Dir::new) {
                Ok(inner) => Found::Directory(name + "/", inner),
                Err(_) => Found::Nothing,
            }
        }
        _ => Found::Nothing,
    }
}
