//! What belongs to one operating system: sockets as the system knows them, Unix domain sockets, files that only their owner may read, and
//! what a file looks like.
//!
//! Everything else of this crate is the same on all systems, and calls the functions of `unix` or of `portable`, which have the same
//! signatures. `portable` is what the standard library has on every system. So that it is compiled where the system is Unix, `.ci/portable`
//! checks this crate and its adapters with `--cfg callosum_portable`, which puts `portable` in the place of `unix`.

mod socket;

mod unix;
#[cfg(all(unix, not(callosum_portable)))]
use unix as system;

// The tests of Unix run it too.
#[cfg(any(test, not(unix), callosum_portable))]
#[cfg_attr(
    all(test, unix, not(callosum_portable)),
    allow(dead_code, unreachable_pub, reason = "`unix` is what the crate uses")
)]
mod portable;
#[cfg(any(not(unix), callosum_portable))]
use portable as system;

use std::io;
use std::path::Path;

pub use self::socket::{AsSystemSocket, SystemSocket};
pub use self::system::SocketFile;
pub(crate) use self::system::{HAS_IPC, is_of_the_file, mode, new_file, open_without_waiting};

/// Who may read a created file, on systems with file modes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Readers {
    /// Only its owner.
    Owner,
    /// Everybody; only the owner may write to it.
    Everybody,
}

/// A stamp of a file: two stamps of a path differ if its file was written to or replaced in between.
///
/// On Unix it is the device, the inode, the size and the time of the last change of the inode. Elsewhere it is the size, and the times of
/// the last write and of the creation: a change that keeps the size and restores both times goes unnoticed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp(system::Stamp);

impl FileStamp {
    /// Looks at a file, or at the one that a symbolic link leads to. Blocks.
    ///
    /// # Errors
    /// If there is none, or as the system's.
    pub fn of(path: impl AsRef<Path>) -> io::Result<Self> {
        std::fs::metadata(path).map(|metadata| Self(system::stamp(&metadata)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Metadata};

    use super::*;
    use crate::auth::scratch::Scratch;

    fn writing_shows<T: PartialEq>(stamp: impl Fn(&Metadata) -> T) {
        let scratch = Scratch::new();
        let look = || stamp(&fs::metadata(scratch.path("file")).unwrap());
        scratch.write("file", "one");
        let first = look();
        assert!(look() == first, "nothing has changed");
        scratch.write("file", "three");
        let longer = look();
        assert!(longer != first);
        let file = fs::File::options().write(true).open(scratch.path("file")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(look() != longer, "it is as long, and was written to at another time");
    }

    #[test]
    fn a_stamp_tells_that_a_file_was_written_to() {
        writing_shows(system::stamp);
        writing_shows(portable::stamp);
    }

    /// The other file has the same size and the same time of the last write.
    #[test]
    fn a_stamp_tells_that_another_file_is_in_its_place() {
        let scratch = Scratch::new();
        let path = scratch.write("file", "three");
        assert_eq!(FileStamp::of(scratch.path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let (before, new) = (FileStamp::of(&path).unwrap(), scratch.write("new", "seven"));
        let file = fs::File::options().write(true).open(&new).unwrap();
        file.set_modified(fs::metadata(&path).unwrap().modified().unwrap()).unwrap();
        fs::rename(new, &path).unwrap();
        assert_ne!(FileStamp::of(&path).unwrap(), before);
    }
}
