//! Unix: permissions of files, inodes, and Unix domain sockets.
#![cfg(all(unix, not(callosum_portable)))]

mod socket_file;

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

pub use self::socket_file::SocketFile;
use super::Readers;

/// Whether there are `ipc://` endpoints.
pub(crate) const HAS_IPC: bool = true;

/// Device, inode, size and time of the last change, in seconds and nanoseconds.
pub(super) type Stamp = (u64, u64, u64, i64, i64);

pub(super) fn stamp(file: &Metadata) -> Stamp {
    (file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec())
}

/// The permissions of a file, or `None` where the system has no such thing.
pub(crate) fn mode(file: &Metadata) -> Option<u32> {
    Some(file.permissions().mode() & 0o7777)
}

/// Creates a file that only these may read. Fails if there is one already.
pub(crate) fn new_file(path: &Path, readers: Readers) -> io::Result<File> {
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::Everybody => 0o644,
    };
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// Opens a file to be read. Non-blocking, as opening a pipe would otherwise block until it has a writer.
pub(crate) fn open_without_waiting(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)
}

/// Whether an error of opening or reading is the file's own, and not the system's, which another attempt may not meet.
pub(crate) fn is_of_the_file(error: &io::Error) -> bool {
    // Only the error "not a regular file" has no number.
    Errno::from_io_error(error).is_none_or(|error| {
        [
            Errno::NOENT,
            Errno::ACCESS,
            Errno::PERM,
            Errno::LOOP,
            Errno::NAMETOOLONG,
            Errno::NOTDIR,
            Errno::ISDIR,
            Errno::NXIO,
            Errno::NODEV,
        ]
        .contains(&error)
    })
}
