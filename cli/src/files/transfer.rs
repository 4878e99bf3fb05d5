//! Content on its way, hashed as it goes. Memory does not depend on its size.

use std::fs::File;
use std::future::Future;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::SystemTime;

use blake3::{Hash, Hasher};
use blocking::unblock;
use bytes::Bytes;
use callosum_runtime::{BodyReader, BodyWriter};
use futures_util::StreamExt;
use futures_util::future::{join, try_join};

use super::progress::Progress;
use super::{CHECKSUM, FileError, PIECE};

/// A file and the checksum of what was read or written so far.
pub(super) struct Hashed {
    /// Absent while another thread works with it.
    state: Option<State>,
    name: String,
    at: u64,
}

struct State {
    file: Arc<File>,
    hasher: Hasher,
}

impl Hashed {
    pub(super) fn new(file: impl Into<Arc<File>>, name: &str) -> Self {
        Self { state: Some(State { file: file.into(), hasher: Hasher::new() }), name: name.to_owned(), at: 0 }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that the checksum is of.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Does `work` where it may block. After it was dropped in the middle, all further work fails.
    async fn with<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut State) -> io::Result<R> + Send + 'static,
    ) -> Result<R, FileError> {
        let interrupted = || FileError::io(&self.name, ErrorKind::Interrupted.into());
        let mut state = self.state.take().ok_or_else(interrupted)?;
        let (state, result) = unblock(move || {
            let result = work(&mut state);
            (state, result)
        })
        .await;
        self.state = Some(state);
        result.map_err(|error| FileError::io(&self.name, error))
    }

    /// The checksum of what was read or written so far.
    pub(super) fn checksum(&self) -> Hash {
        self.state.as_ref().map_or_else(|| Hasher::new().finalize(), |state| state.hasher.finalize())
    }

    /// The next bytes, up to `limit`; none at the end.
    pub(super) async fn read(&mut self, limit: usize) -> Result<Vec<u8>, FileError> {
        let piece = self
            .with(move |state| {
                let mut piece = vec![0; limit];
                let n = loop {
                    match state.file.read(&mut piece) {
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        other => break other?,
                    }
                };
                piece.truncate(n);
                state.hasher.update(&piece);
                Ok(piece)
            })
            .await?;
        self.at += piece.len() as u64;
        Ok(piece)
    }

    /// Reads on to an offset, for the checksum; not as far if the file ends before.
    pub(super) async fn read_to(&mut self, end: u64, progress: &Progress) -> Result<(), FileError> {
        while self.at < end {
            match self.read(piece_of(end - self.at)).await?.len() {
                0 => break,
                read => progress.advance(read),
            }
        }
        Ok(())
    }

    /// Writes the bytes; gives the buffer back.
    pub(super) async fn write(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, FileError> {
        let written = self
            .with(move |state| {
                state.file.write_all(&bytes)?;
                state.hasher.update(&bytes);
                Ok(bytes)
            })
            .await?;
        self.at += written.len() as u64;
        Ok(written)
    }

    /// Back to the beginning, to read again, or to write in place of all that is there.
    pub(super) async fn restart(&mut self, truncate: bool) -> Result<(), FileError> {
        self.with(move |state| {
            if truncate {
                state.file.set_len(0)?;
            }
            state.file.seek(SeekFrom::Start(0))?;
            state.hasher = Hasher::new();
            Ok(())
        })
        .await?;
        self.at = 0;
        Ok(())
    }

    /// All that was written is on the disk.
    pub(super) async fn sync(&mut self) -> Result<(), FileError> {
        self.with(|state| state.file.sync_all()).await
    }
}

/// How much to read at a time when so much is left.
fn piece_of(left: u64) -> usize {
    usize::try_from(left).map_or(PIECE, |left| left.min(PIECE))
}

/// The source of a transfer.
pub(super) struct Source {
    pub(super) content: Hashed,
    /// Its stamp when it was opened; `None` if it can't be read again, as a pipe.
    known: Option<Known>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Known {
    size: u64,
    modified: Option<SystemTime>,
}

impl Known {
    fn of(file: &File) -> io::Result<Option<Self>> {
        let metadata = file.metadata()?;
        Ok(metadata.is_file().then(|| Self { size: metadata.len(), modified: metadata.modified().ok() }))
    }
}

impl Source {
    pub(super) fn new(file: File, name: &str) -> Result<Self, FileError> {
        let known = Known::of(&file).map_err(|error| FileError::io(name, error))?;
        Ok(Self { content: Hashed::new(file, name), known })
    }

    /// The source as one that can be read only once, to its end.
    pub(super) fn that_goes_by(self) -> Self {
        Self { known: None, ..self }
    }

    pub(super) fn size(&self) -> Option<u64> {
        self.known.map(|known| known.size)
    }

    /// Resumes at `offset` if the bytes before it have this checksum, and starts from the beginning otherwise. It is read while the
    /// checksum may still be to come.
    pub(super) async fn go_on_at(
        &mut self,
        offset: u64,
        checksum: impl Future<Output = Result<Option<Hash>, FileError>>,
        progress: &mut Progress,
    ) -> Result<(), FileError> {
        if offset == 0 || self.size().is_none_or(|size| size < offset) {
            return Ok(());
        }
        progress.check(self.content.name(), Some(offset));
        let ((), checksum) = try_join(self.content.read_to(offset, progress), checksum).await?;
        if self.content.at() != offset || checksum != Some(self.content.checksum()) {
            self.content.restart(false).await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Vec<u8>, FileError> {
        let Some(known) = self.known else { return self.content.read(PIECE).await };
        let left = known.size.saturating_sub(self.content.at());
        // Read one byte past the end: the size may be too small, as it is for files that the kernel generates.
        let piece = self.content.read(piece_of(left).max(1)).await?;
        match piece.is_empty() == (left == 0) {
            true => Ok(piece),
            false => Err(FileError::Changed(self.content.name().to_owned())),
        }
    }

    /// Sends what is left, then the checksum of all of it.
    ///
    /// # Errors
    /// Also if the file has changed since it was opened: the sent bytes may be a mixture of versions then.
    pub(super) async fn send(&mut self, to: &mut BodyWriter, progress: &Progress) -> Result<Hash, FileError> {
        let mut piece = self.next().await?;
        while !piece.is_empty() {
            let sent = piece.len();
            let (written, next) = join(to.write_bytes(piece.into()), self.next()).await;
            written?;
            progress.advance(sent);
            piece = next?;
        }
        if let Some(known) = self.known {
            let now = self.content.with(|state| Known::of(&state.file)).await?;
            if now != Some(known) {
                return Err(FileError::Changed(self.content.name().to_owned()));
            }
        }
        let checksum = self.content.checksum();
        to.write_bytes(Bytes::copy_from_slice(checksum.as_bytes())).await?;
        to.finish()?;
        Ok(checksum)
    }
}

/// Appends the received bytes to `to`, which has those of earlier transfers; returns the checksum that the sender announced.
///
/// # Errors
/// Also if it does not have the size that the sender has said: at once if there is more.
pub(super) async fn receive(
    from: &mut BodyReader,
    first: Vec<u8>,
    to: &mut Hashed,
    size: Option<u64>,
    progress: &Progress,
) -> Result<Hash, FileError> {
    let (mut bytes, mut ended) = fill(from, first).await?;
    let mut spare = Vec::with_capacity(2 * PIECE);
    loop {
        // The last bytes are not the file's.
        let (all, mut next) = (bytes.len(), spare);
        let content = all.checked_sub(CHECKSUM).ok_or(FileError::Incomplete)?;
        if size.is_some_and(|size| to.at() + content as u64 > size) {
            return Err(FileError::InvalidAnswer("the server sent more bytes than it announced"));
        }
        next.clear();
        next.extend_from_slice(&bytes[content..]);
        bytes.truncate(content);
        progress.advance(content);
        if ended {
            to.write(bytes).await?;
            if size.is_some_and(|size| to.at() < size) {
                return Err(FileError::Incomplete);
            }
            return Hash::from_slice(&next).map_err(|_| FileError::Incomplete);
        }
        let (written, filled) = join(to.write(bytes), fill(from, next)).await;
        spare = written?;
        (bytes, ended) = filled?;
    }
}

/// Reads until there is a piece or the end, and tells whether that is the end.
async fn fill(from: &mut BodyReader, mut bytes: Vec<u8>) -> Result<(Vec<u8>, bool), FileError> {
    while bytes.len() < PIECE {
        match from.next().await {
            Some(chunk) => bytes.extend_from_slice(&chunk?),
            None => return Ok((bytes, true)),
        }
    }
    Ok((bytes, false))
}
