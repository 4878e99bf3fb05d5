//! Public keys in a file or a directory, which is read again when it changes. `files` parses it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};

use self::files::{Look, Problem, Users};
use super::{Admission, Authenticator, Credential, KeySet, ServerIdentity};
use crate::error::at_least_one_milli;
use crate::lock::Mutex;
use crate::rt::{Runtime, from_now, sleep_until};

pub(super) mod files;
#[cfg(test)]
mod tests;

/// How often a file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it may be found changed again before the keys that are gone from it are refused all the same.
const RETRIES: u32 = 3;

/// Admits the public keys in a file or a directory, and reads it again when it changes. All clones share the list.
///
/// - In a file, each line holds a key, and a user id after a space; without one, the key's text is the user id. What
///   follows a `#` at the start of a line or after a space is a comment: though `#` is a digit of Z85, no key begins with
///   it, because it is one of those that are too large to be a first digit.
/// - In a directory, each file `NAME.pub` holds one key, as [`save_keys`](super::save_keys) writes it, and the user id
///   is `NAME`. Other files are ignored.
///
/// A line or a file without a valid key, or with a user id that is not UTF-8, is reported with `tracing` and skipped;
/// so are a duplicate key, and a file that this process may not read or that is not regular. While the file or the
/// directory as a whole can't be read, or reading a file in it fails for lack of file descriptors or the like, the last
/// list that was read stays in force.
///
/// The binder's driver checks once a second whether anything has changed, and reads it when nothing more has changed at
/// the next check, so that a file is not read while it is being written. A removed key is thus rejected within two
/// seconds, and its clients' connections are closed. If the files change all the time, that takes up to four seconds,
/// and new keys are not admitted before the changes stop.
#[derive(Clone, Debug)]
pub struct AllowList {
    pub(super) set: KeySet,
    path: Arc<Path>,
    interval: Duration,
    progress: Arc<Mutex<Progress>>,
}

/// The path can't be read.
#[derive(Debug, thiserror::Error)]
#[error("can't read the allowed keys in {path}: {error}", path = .path.display())]
pub struct AllowListError {
    path: PathBuf,
    error: io::Error,
}

/// State of watching the files.
#[derive(Debug, Default)]
struct Progress {
    /// The stamps when the files were read.
    read: Option<Vec<Look>>,
    /// The stamps at the last check.
    last: Option<Vec<Look>>,
    /// When they were looked at last, by whichever binder of those that share the list.
    looked: Option<Instant>,
    /// How often in a row they have changed since they were looked at before.
    restless: u32,
    /// Whether it was reported that they can't be read.
    failing: bool,
}

impl AllowList {
    /// Reads a file or a directory. Blocks, and so does the driver when it reads it again: use local files.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn open(
        identity: impl Into<ServerIdentity>,
        path: impl Into<PathBuf>,
    ) -> Result<Self, AllowListError> {
        let list = Self {
            set: KeySet::new(identity),
            path: path.into().into(),
            interval: INTERVAL,
            progress: Arc::default(),
        };
        list.reload()?;
        Ok(list)
    }

    /// Sets the interval between checks for changes. Default 1 s; at least 1 ms.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = at_least_one_milli(interval);
        self
    }

    /// Reads the file or the directory now, changed or not. Blocks, also while it is being read already.
    ///
    /// # Errors
    /// If it can't be read; the last list that was read stays in force.
    pub fn reload(&self) -> Result<(), AllowListError> {
        let mut problems = Vec::new();
        let result = {
            // Locked while the files are read: otherwise a thread that read earlier could overwrite the result of a later read.
            let _reading = self.progress.lock();
            self.read_all(&mut problems)
        };
        self.has_looked(problems, None);
        result
    }

    /// Only while the progress is locked.
    fn read_all(&self, problems: &mut Vec<Problem>) -> Result<(), AllowListError> {
        self.set.replace(self.read(problems)?);
        Ok(())
    }

    /// Revokes the keys that are no longer in the files. A file may be half written, so no key is added or renamed here.
    fn revoke_missing(&self, problems: &mut Vec<Problem>) -> Result<(), AllowListError> {
        let present = self.read(problems)?;
        let mut users = self.set.users();
        users.retain(|key, _| present.contains_key(key));
        self.set.replace(users);
        Ok(())
    }

    fn read(&self, problems: &mut Vec<Problem>) -> Result<Users, AllowListError> {
        files::read(&self.path, problems)
            .map_err(|error| AllowListError { path: self.path.to_path_buf(), error })
    }

    /// How many keys it admits.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether it admits no client.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Checks the files, unless another binder did so within the interval.
    fn look_if_due(&self, now: impl Fn() -> Instant) {
        let mut problems = Vec::new();
        let failure = {
            let mut progress = self.progress.lock();
            if progress.looked.is_some_and(|at| now().saturating_duration_since(at) < self.interval) {
                return;
            }
            let failure = self.look_again(&mut progress, &mut problems);
            // The interval begins at the end of the check, which may take long.
            progress.looked = Some(now());
            failure
        };
        self.has_looked(problems, failure);
    }

    /// What the application sees of a look, once nothing is locked.
    fn has_looked(&self, problems: Vec<Problem>, failure: Option<AllowListError>) {
        self.set.tell();
        problems.into_iter().for_each(Problem::log);
        if let Some(error) = failure {
            tracing::warn!(%error, "the allowed keys stay what they were");
        }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn look(&self) {
        let mut problems = Vec::new();
        let failure = self.look_again(&mut self.progress.lock(), &mut problems);
        self.has_looked(problems, failure);
    }

    /// Reads if something has changed, and nothing more since it was looked at before. Only while the progress is locked.
    /// Returns a failure that is new.
    fn look_again(&self, progress: &mut Progress, problems: &mut Vec<Problem>) -> Option<AllowListError> {
        let restless = std::mem::take(&mut progress.restless);
        let looks = files::look_at(&self.path);
        let failure = match looks {
            Ok(looks) if progress.read.as_ref() == Some(&looks) => {
                progress.last = None;
                None
            }
            Ok(looks) if progress.last.as_ref() == Some(&looks) => {
                let result = self.read_all(problems);
                progress.read = progress.last.take().filter(|_| result.is_ok());
                result.err()
            }
            Ok(looks) => {
                progress.last = Some(looks);
                progress.restless = restless + 1;
                if progress.restless <= RETRIES {
                    return None;
                }
                self.revoke_missing(problems).err()
            }
            Err(error) => Some(AllowListError { path: self.path.to_path_buf(), error }),
        };
        let was_failing = std::mem::replace(&mut progress.failing, failure.is_some());
        failure.filter(|_| !was_failing)
    }

    async fn watch(self, runtime: Arc<dyn Runtime>) {
        loop {
            sleep_until(&*runtime, from_now(&*runtime, self.interval)).await;
            self.look_if_due(|| runtime.now());
        }
    }
}

impl Authenticator for AllowList {
    fn server_identity(&self) -> Option<ServerIdentity> {
        self.set.server_identity()
    }

    fn check_client(&self, credential: Credential) -> BoxFuture<'static, Admission> {
        self.set.check_client(credential)
    }

    fn changes(&self, runtime: &Arc<dyn Runtime>) -> Option<BoxStream<'static, ()>> {
        let watching = stream::once(self.clone().watch(runtime.clone()));
        self.set.changes(runtime).map(|changes| stream::select(changes, watching).boxed())
    }
}
