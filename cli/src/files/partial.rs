//! Files that have not come as a whole yet. Each is beside the place where it goes, under a name that no file has.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blake3::{Hash, Hasher};
use blocking::unblock;
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, fchmod, fchown, flock, fstat, fsync, open, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, geteuid};

use super::FileError;
use super::name::{PASSING, RESERVED};
use super::progress::Progress;
use super::transfer::Hashed;
use crate::executor::Executor;

/// How often to check whether another transfer has released its lock.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Permissions of a file that only its owner may read.
const PRIVATE: u32 = 0o600;

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

    /// The file that would be replaced.
    fn check(&self) -> Result<Option<Stat>, FileError> {
        let Some(stat) = self.look(&self.leaf)? else { return Ok(None) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Some(stat)),
            FileType::Symlink => Err(FileError::link(&self.name)),
            FileType::Directory => Err(self.failed(Errno::ISDIR)),
            _ => Err(FileError::forbidden(&self.name, "it is not a regular file, so it is not replaced")),
        }
    }

    fn failed(&self, error: Errno) -> FileError {
        FileError::io(&self.name, error.into())
    }

    fn look(&self, name: &str) -> Result<Option<Stat>, FileError> {
        match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Whether the name is still that of the file that is held.
    fn names(&self, part: &str, held: &File) -> Result<bool, FileError> {
        let held = fstat(held).map_err(|error| self.failed(error))?;
        let there = self.look(part)?;
        Ok(there.is_some_and(|there| (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)))
    }

    /// Opens a file beside it, to read and write; `None` if it came or went in this moment.
    ///
    /// A file that will replace another one is readable by its owner only, until it gets the permissions of the replaced file.
    fn beside(&self, part: &str) -> Result<Option<File>, FileError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let replaces = self.check()?.is_some();
        let mode = Mode::from_raw_mode(if replaces { PRIVATE } else { 0o666 });
        match openat(&self.directory, part, flags | OFlags::CREATE | OFlags::EXCL, mode) {
            Ok(made) => return Ok(Some(made.into())),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(self.failed(error)),
        }
        let file: File = match openat(&self.directory, part, flags, Mode::empty()) {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => return Err(self.not_ours(part)),
            Err(error) => return Err(self.failed(error)),
        };
        let stat = fstat(&file).map_err(|error| self.failed(error))?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !regular || stat.st_uid != geteuid().as_raw() || stat.st_nlink > 1 {
            return Err(self.not_ours(part));
        }
        if replaces {
            // Some file systems don't support permissions.
            let _ = fchmod(&file, mode);
        }
        Ok(Some(file))
    }

    /// Something else has the name of a partial file: what it leads to is not to be written.
    fn not_ours(&self, part: &str) -> FileError {
        let name = Path::new(&self.name).with_file_name(part).display().to_string();
        FileError::forbidden(&name, "it is not the unfinished file that this name is for; remove it")
    }

    /// Gives a file the permissions of the one that it replaces. If its group can't be set too, the group gets no permissions.
    fn permit(&self, file: &File, replaced: &Stat) -> Result<(), FileError> {
        let mut mode = replaced.st_mode & 0o777;
        let own = fstat(file).map_err(|error| self.failed(error))?;
        if own.st_gid != replaced.st_gid && fchown(file, None, Some(Gid::from_raw(replaced.st_gid))).is_err()
        {
            mode &= !0o070;
        }
        // Some file systems don't support permissions: all files have the same.
        match own.st_mode & 0o777 == mode {
            true => Ok(()),
            false => fchmod(file, Mode::from_raw_mode(mode)).map_err(|error| self.failed(error)),
        }
    }

    /// Removes a partial file, unless its name belongs to another file by now.
    fn remove(&self, part: &str, held: &File) {
        if matches!(self.names(part, held), Ok(true)) {
            // Otherwise the directory is no longer ours to write.
            let _ = unlinkat(&self.directory, part, AtFlags::empty());
        }
    }

    /// Opens and locks a partial file; `None` if another transfer has locked it.
    fn lock(&self, part: &str) -> Result<Option<File>, FileError> {
        loop {
            let Some(file) = self.beside(part)? else { continue };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(self.failed(error)),
            }
            // The last holder of the lock may have moved it to its place: what we opened is then a file that is complete.
            if self.names(part, &file)? {
                return Ok(Some(file));
            }
        }
    }

    /// Moves a partial file to its place, if it still has its name.
    fn fill(&self, part: &str, held: &File) -> Result<(), FileError> {
        if let Some(replaced) = self.check()? {
            self.permit(held, &replaced)?;
        }
        if !self.names(part, held)? {
            return Err(FileError::PartialLost(self.name.clone()));
        }
        let moved = renameat(&self.directory, part, &self.directory, &self.leaf);
        moved.map_err(|error| self.failed(error))?;
        // Some file systems can't.
        match fsync(&self.directory) {
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }
}

/// Removes an unfinished file, unless a transfer has locked it.
pub(super) fn remove_abandoned(directory: BorrowedFd<'_>, part: &CStr) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(directory, part, flags, Mode::empty())?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let (held, there) = (fstat(&file)?, statat(directory, part, AtFlags::SYMLINK_NOFOLLOW)?);
    let regular = FileType::from_raw_mode(held.st_mode) == FileType::RegularFile;
    match regular && (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino) {
        true => unlinkat(directory, part, AtFlags::empty()),
        false => Ok(()),
    }
}

/// A file that is being written. It is locked, so that no other transfer writes it.
pub(super) struct Partial {
    place: Place,
    part: String,
    /// The lock lasts as long as this.
    held: Arc<File>,
    pub(super) content: Hashed,
    /// Whether it is kept when the transfer fails, so that a later one can resume it.
    lasting: bool,
    done: bool,
}

impl Partial {
    fn new(place: Place, part: String, file: File, lasting: bool) -> Self {
        let held = Arc::new(file);
        let content = Hashed::new(held.clone(), &place.name);
        Self { place, part, held, content, lasting, done: false }
    }

    /// A partial file that is never resumed.
    pub(super) async fn passing(place: Place) -> Result<Self, FileError> {
        unblock(move || {
            loop {
                let part = format!("{PASSING}{:032x}.part", fastrand::u128(..));
                if place.look(&part)?.is_none()
                    && let Some(file) = place.lock(&part)?
                {
                    return Ok(Self::new(place, part, file, false));
                }
            }
        })
        .await
    }

    /// The partial file of this `identity`, with the bytes that earlier transfers wrote, which have to be [read](Self::read_again) first.
    ///
    /// # Errors
    /// [`FileError::InUse`] if another transfer keeps it locked for longer than `timeout`.
    pub(super) async fn lasting(
        place: Place,
        identity: &[&[u8]],
        timeout: Duration,
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
            if started.elapsed() >= timeout {
                return Err(FileError::InUse(name));
            }
            executor.sleep(LOOK_AGAIN).await;
        };
        Ok(Self::new(place, part, file, true))
    }

    /// Bytes that have come already.
    pub(super) fn size(&self) -> Result<u64, FileError> {
        let stat = fstat(&self.held).map_err(|error| self.place.failed(error))?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Hashes the bytes that earlier transfers wrote.
    pub(super) async fn read_again(&mut self, progress: &mut Progress) -> Result<(), FileError> {
        let there = self.size()?;
        if there > 0 {
            progress.check(&self.place.name, Some(there));
        }
        self.content.read_to(u64::MAX, progress).await
    }

    /// Deletes it when it is dropped, so that no later transfer resumes it.
    pub(super) fn discard(&mut self) {
        self.lasting = false;
    }

    /// Moves it to its place, if it is what its sender says.
    ///
    /// # Errors
    /// Also if its name belongs to another file by now, which must not be moved.
    pub(super) async fn commit(mut self, checksum: Hash) -> Result<(), FileError> {
        if self.content.checksum() != checksum {
            self.discard();
            return Err(FileError::ChecksumMismatch(self.place.name.clone()));
        }
        self.content.sync().await?;
        // The rename goes on if this future is dropped. The file stays locked until then, so that no transfer resumes it;
        // afterwards its name may belong to another file.
        let (place, part, held) = (self.place.clone(), self.part.clone(), self.held.clone());
        self.done = self.lasting;
        let moved = unblock(move || place.fill(&part, &held)).await;
        self.done = moved.is_ok();
        moved
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // An empty file is useless for resuming. If its size is unknown, keep it.
        let of_use = || self.lasting && fstat(&self.held).map_or(true, |stat| stat.st_size > 0);
        if !self.done && !of_use() {
            self.place.remove(&self.part, &self.held);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_one_that_is_empty_goes_when_it_is_dropped() {
        let directory = std::env::temp_dir().join(format!("callosum-partial-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let place = Place::local(&directory.join("x")).unwrap();
        for (content, stays) in [("", false), ("half", true)] {
            let part = String::from(".callosum-test.part");
            fs::write(directory.join(&part), content).unwrap();
            let file = place.lock(&part).unwrap().unwrap();
            // Nothing of it has been read again.
            drop(Partial::new(place.clone(), part.clone(), file, true));
            assert_eq!(directory.join(&part).exists(), stays);
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
