//! Files that have not come as a whole yet. Each is beside the place where it goes, under a name that no file has.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blake3::{Hash, Hasher};
use blocking::unblock;
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, fsync, open, openat, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::FileError;
use super::name::RESERVED;
use super::transfer::Hashed;
use crate::executor::Executor;

/// How often to look whether somebody else is done.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where a file goes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    directory: Arc<OwnedFd>,
    leaf: String,
    /// For people.
    name: String,
}

impl Place {
    /// # Errors
    /// If something other than a regular file is there.
    pub(super) fn new(directory: OwnedFd, leaf: &str, name: &str) -> Result<Self, FileError> {
        let place = Self { directory: Arc::new(directory), leaf: leaf.to_owned(), name: name.to_owned() };
        place.check()?;
        Ok(place)
    }

    /// A place of this user's, where links are followed.
    pub(super) fn local(path: &Path) -> Result<Self, FileError> {
        let name = path.display().to_string();
        let leaf = path.file_name().and_then(|leaf| leaf.to_str());
        let leaf = leaf.ok_or_else(|| FileError::invalid(&name, "name a file, in UTF-8"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let directory = directory.map_err(|error| match error {
            Errno::NOENT => FileError::forbidden(&name, "its directory does not exist; make it first"),
            error => FileError::io(&name, error.into()),
        })?;
        Self::new(directory, leaf, &name)
    }

    fn check(&self) -> Result<(), FileError> {
        let kind = match statat(&self.directory, &self.leaf, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(self.failed(error)),
        };
        match kind {
            FileType::RegularFile => Ok(()),
            FileType::Symlink => Err(FileError::link(&self.name)),
            FileType::Directory => Err(self.failed(Errno::ISDIR)),
            _ => Err(FileError::forbidden(&self.name, "it is no regular file, and is not replaced")),
        }
    }

    fn failed(&self, error: Errno) -> FileError {
        FileError::io(&self.name, error.into())
    }

    /// Opens a file beside it, to read and write.
    fn beside(&self, part: &str, more: OFlags) -> rustix::io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
        Ok(openat(&self.directory, part, flags, Mode::from_raw_mode(0o666))?.into())
    }

    fn remove(&self, part: &str) {
        // Otherwise somebody else has, or the directory is no longer ours to write.
        let _ = unlinkat(&self.directory, part, AtFlags::empty());
    }

    /// Opens a partial file and locks it, unless somebody else has.
    fn lock(&self, part: &str) -> Result<Option<File>, FileError> {
        loop {
            let file = self.beside(part, OFlags::empty()).map_err(|error| self.failed(error))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(self.failed(error)),
            }
            // Whoever had the lock may have moved it to its place: what we opened is then a file that is complete.
            let opened = fstat(&file).map_err(|error| self.failed(error))?;
            match statat(&self.directory, part, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(there) if (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino) => {
                    return Ok(Some(file));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }
}

/// A file that is being written. Nobody else writes it.
pub(super) struct Partial {
    place: Place,
    part: String,
    pub(super) content: Hashed,
    /// Whether somebody may go on with it.
    lasting: bool,
    done: bool,
}

impl Partial {
    /// One that nobody goes on with.
    pub(super) async fn passing(place: Place) -> Result<Self, FileError> {
        let (place, file, part) = unblock(move || {
            loop {
                let part = format!("{RESERVED}{:032x}.part", fastrand::u128(..));
                match place.beside(&part, OFlags::EXCL) {
                    Ok(file) => return Ok((place, file, part)),
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(place.failed(error)),
                }
            }
        })
        .await?;
        let content = Hashed::new(file, &place.name);
        Ok(Self { place, part, content, lasting: false, done: false })
    }

    /// The one for what `identity` says, with what has come of it already.
    ///
    /// # Errors
    /// [`FileError::InUse`] if somebody else writes it, and goes on for longer than `patience`.
    pub(super) async fn lasting(
        place: Place,
        identity: &[&[u8]],
        patience: Duration,
        executor: Executor,
    ) -> Result<Self, FileError> {
        let mut hasher = Hasher::new_derive_key("callosum partial file");
        for part in [place.leaf.as_bytes()].iter().chain(identity) {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        let part = format!("{RESERVED}{}.part", &hasher.finalize().to_hex()[..32]);
        let started = Instant::now();
        let file = loop {
            let (place, part) = (place.clone(), part.clone());
            let name = place.name.clone();
            if let Some(file) = unblock(move || place.lock(&part)).await? {
                break file;
            }
            if started.elapsed() >= patience {
                return Err(FileError::InUse(name));
            }
            executor.sleep(LOOK_AGAIN).await;
        };
        let content = Hashed::new(file, &place.name);
        let mut partial = Self { place, part, content, lasting: true, done: false };
        partial.content.read_to(u64::MAX).await?;
        Ok(partial)
    }

    /// Moves it to its place, if it is what its sender says.
    pub(super) async fn commit(mut self, checksum: Hash) -> Result<(), FileError> {
        if self.content.checksum() != checksum {
            self.lasting = false;
            return Err(FileError::ChecksumMismatch(self.place.name.clone()));
        }
        self.content.sync().await?;
        let (place, part) = (self.place.clone(), self.part.clone());
        // It may be moved even if nobody waits for that any more, and its name may then be somebody else's.
        self.done = self.lasting;
        let moved = unblock(move || {
            place.check()?;
            let moved = renameat(&place.directory, &part, &place.directory, &place.leaf);
            moved.map_err(|error| place.failed(error))?;
            // Some file systems can't.
            match fsync(&place.directory) {
                Ok(()) | Err(Errno::INVAL) => Ok(()),
                Err(error) => Err(place.failed(error)),
            }
        });
        let moved = moved.await;
        self.done = moved.is_ok();
        moved
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done && (!self.lasting || self.content.at() == 0) {
            self.place.remove(&self.part);
        }
    }
}
