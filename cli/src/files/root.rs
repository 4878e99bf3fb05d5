//! The served directory, and nothing outside of it.
//!
//! A name is walked part by part, each opened in the directory before it and never through a symbolic link. So there is
//! no moment at which a link could be put in its way, also while others write in the directory.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags, fstat, mkdirat, open, openat, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::FileError;
use super::name::{MAX_PARTS, Name, PASSING, is_part};
use super::partial::{Place, remove_abandoned};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NO_LINK: OFlags = OFlags::NOFOLLOW;

/// The entry of a file in a listing.
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
        // NONBLOCK, as opening a pipe would otherwise block until it has a writer.
        let flags = OFlags::RDONLY | NO_LINK | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&directory, leaf, flags, Mode::empty());
        let file = file.map_err(|error| FileError::io(name.as_str(), error.into()))?;
        let stat = fstat(&file).map_err(|error| FileError::io(name.as_str(), error.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(file.into()),
            FileType::Directory => Err(FileError::io(name.as_str(), Errno::ISDIR.into())),
            _ => Err(FileError::forbidden(
                name.as_str(),
                "it is not a regular file, and only those are served",
            )),
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

    /// Passes all files whose names begin with `prefix` to `tell`, in no order, as long as that returns that it wants more.
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
        let first = open_again(&directory).map_err(|error| FileError::io(prefix, error.into()))?;
        let depth = way.matches('/').count();
        visit(way, first, |directory, path, entry, level| {
            let part = entry.file_name().to_str().ok().filter(|part| is_part(part));
            let Some(part) = part.filter(|part| level > 1 || part.starts_with(start)) else {
                return Ok(Seen::Next);
            };
            let name = format!("{path}{part}");
            if Name::parse(&name).is_err() {
                return Ok(Seen::Next);
            }
            Ok(match look(directory, part, name)? {
                Found::File(entry) => match tell(entry) {
                    true => Seen::Next,
                    false => Seen::Enough,
                },
                Found::Directory(path, inner) if depth + level < MAX_PARTS => Seen::Into(path, inner),
                _ => Seen::Next,
            })
        })
    }

    /// Removes unfinished files that can't be resumed and that no transfer has locked.
    pub(super) fn sweep(&self) -> Result<(), FileError> {
        let first = open_again(&self.0).map_err(|error| FileError::io(".", error.into()))?;
        visit(String::new(), first, |directory, path, entry, level| {
            let part = entry.file_name();
            if part.to_bytes().starts_with(PASSING.as_bytes()) {
                // Otherwise it is in use, gone, or not ours.
                let _ = remove_abandoned(directory, part);
                return Ok(Seen::Next);
            }
            let may_be_one = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            let Some(part) = part.to_str().ok().filter(|part| may_be_one && is_part(part)) else {
                return Ok(Seen::Next);
            };
            Ok(match look(directory, part, format!("{path}{part}"))? {
                Found::Directory(path, inner) if level < MAX_PARTS => Seen::Into(path, inner),
                _ => Seen::Next,
            })
        })
    }
}

/// A directory of its own: what is read of it is not shared with others.
fn open_again(directory: &OwnedFd) -> rustix::io::Result<Dir> {
    Dir::new(openat(directory, ".", DIRECTORY, Mode::empty())?)
}

/// How to go on after an entry of a directory.
enum Seen {
    Next,
    /// On in a directory, whose entries have names that begin so.
    Into(String, Dir),
    Enough,
}

/// Shows `see` all entries of a directory, whose names begin with `path`, and of those in it that it wants to see: with
/// the directory, its path and its level, from one on. As many directories are open as there are levels.
fn visit(
    path: String,
    first: Dir,
    mut see: impl FnMut(BorrowedFd<'_>, &str, &DirEntry, usize) -> Result<Seen, FileError>,
) -> Result<(), FileError> {
    let mut open = vec![(path, first)];
    loop {
        let level = open.len();
        let Some((path, directory)) = open.last_mut() else { return Ok(()) };
        let failed = |error: Errno| FileError::io(path, error.into());
        let Some(entry) = directory.read() else {
            open.pop();
            continue;
        };
        let entry = entry.map_err(failed)?;
        match see(directory.fd().map_err(failed)?, path, &entry, level)? {
            Seen::Next => {}
            Seen::Into(path, inner) => open.push((path, inner)),
            Seen::Enough => return Ok(()),
        }
    }
}

fn no_directory(directory: &OwnedFd, part: &str, name: &Name, make: bool) -> FileError {
    match statat(directory, part, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
            FileError::link(name.as_str())
        }
        _ if make => FileError::forbidden(name.as_str(), "a parent directory is a file; use another name"),
        _ => FileError::NotFound(name.as_str().to_owned()),
    }
}

enum Found {
    File(Entry),
    Directory(String, Dir),
    /// It is gone, is neither file nor directory, or this user may not read it.
    Nothing,
}

/// # Errors
/// What concerns more than this one entry: a list that left it out would say that it is not there.
fn look(directory: BorrowedFd<'_>, part: &str, name: String) -> Result<Found, FileError> {
    let stat = match statat(directory, part, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(error) => return left_out(&name, error),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Found::File(Entry {
            name,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: u64::try_from(stat.st_mtime).unwrap_or(0),
        })),
        FileType::Directory => {
            match openat(directory, part, DIRECTORY | NO_LINK, Mode::empty()).and_then(Dir::new) {
                Ok(inner) => Ok(Found::Directory(name + "/", inner)),
                Err(error) => left_out(&name, error),
            }
        }
        _ => Ok(Found::Nothing),
    }
}

fn left_out(name: &str, error: Errno) -> Result<Found, FileError> {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS => Ok(Found::Nothing),
        error => Err(FileError::io(name, error.into())),
    }
}
