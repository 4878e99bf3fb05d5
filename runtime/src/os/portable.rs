//! Systems other than Unix: what the standard library has on all of them. There are no permissions of files, and no Unix domain sockets.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::Readers;
use crate::Endpoint;

/// Whether there are `ipc://` endpoints.
pub(crate) const HAS_IPC: bool = false;

/// The size, and the times of the last write and of the creation, where the file system has them.
pub(super) type Stamp = (u64, Option<SystemTime>, Option<SystemTime>);

pub(super) fn stamp(file: &Metadata) -> Stamp {
    (file.len(), file.modified().ok(), file.created().ok())
}

/// The permissions of a file, or `None` where the system has no such thing.
pub(crate) fn mode(_file: &Metadata) -> Option<u32> {
    None
}

/// Creates a file; fails if there is one already. The permissions of its directory decide who may read it.
pub(crate) fn new_file(path: &Path, _readers: Readers) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Opens a file to be read.
pub(crate) fn open_without_waiting(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Whether an error of opening or reading is the file's own, and not the system's, which another attempt may not meet.
pub(crate) fn is_of_the_file(error: &io::Error) -> bool {
    let of_the_file = [
        io::ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::InvalidFilename,
        io::ErrorKind::NotADirectory,
        io::ErrorKind::IsADirectory,
    ];
    // Only the error "not a regular file" has no number.
    error.raw_os_error().is_none() || of_the_file.contains(&error.kind())
}

/// The file of a Unix domain socket. There is none on this system.
#[derive(Debug)]
pub enum SocketFile {}

impl SocketFile {
    /// Where it is.
    pub fn endpoint(&self) -> Endpoint {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scratch::Scratch;

    #[test]
    fn files_are_made_once_and_read() {
        let scratch = Scratch::new();
        let path = scratch.path("secret");
        new_file(&path, Readers::Owner).unwrap();
        assert_eq!(new_file(&path, Readers::Owner).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let metadata = open_without_waiting(&path).unwrap().metadata().unwrap();
        assert_eq!(mode(&metadata), None);
    }

    #[test]
    fn what_the_system_fails_at_is_nothing_of_the_files() {
        let scratch = Scratch::new();
        assert!(is_of_the_file(&open_without_waiting(&scratch.path("none")).unwrap_err()));
        assert!(is_of_the_file(&io::Error::other("not a regular file")));
        // EIO, which has no `ErrorKind` of its own.
        assert!(!is_of_the_file(&io::Error::from_raw_os_error(5)));
    }
}
