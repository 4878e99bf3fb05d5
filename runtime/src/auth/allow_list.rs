//! Public keys in a file or a directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use rustix::io::Errno;

use super::key_file::{KeyFileError, open_regular, read_public_key};
use super::{Admission, Authenticator, Credential, CurvePublicKey, Identity, KeySet, ServerIdentity};
use crate::error::at_least_one_milli;
use crate::lock::Mutex;
use crate::rt::{Runtime, from_now, sleep_until};

/// How often a file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it may be found changed again before the keys that are gone from it are refused all the same.
const RETRIES: u32 = 3;

/// Admits the public keys in a file or a directory, and follows it when it changes. All clones are the same list.
///
/// - In a file, each line holds a key, and a user id after a space; without one, the key's text is the user id. What
///   follows a `#` at the start of a line or after a space is a comment: though `#` is a digit of Z85, no key begins with
///   it, because it is one of those that are too large to be a first digit.
/// - In a directory, each file `NAME.pub` holds one key, as [`save_keys`](super::save_keys) writes it, and the user id
///   is `NAME`. Others are passed over.
///
/// A line or a file in a directory that holds no key, or no user id in UTF-8, is reported with `tracing`, and passed over;
/// so is a key that appears a second time, and a file that this process may not read, or that is no regular one. While
/// the file or the directory as a whole can't be read, or the system fails at a file in it, as when file descriptors have
/// run out, the last state that could be read holds on.
///
/// The binder's driver looks once a second whether anything has changed, and reads it when nothing more has changed
/// until it looks again, so that a file is not taken while it is being written. A key that is removed is thus refused
/// within two seconds, and its clients' connections are closed. Where something changes all the time, that takes up to four seconds, and
/// nobody new is admitted before it ends.
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

/// What has been seen of the files.
#[derive(Debug, Default)]
struct Progress {
    /// What they looked like when they were read.
    read: Option<Vec<Look>>,
    /// What they looked like last.
    last: Option<Vec<Look>>,
    /// When they were looked at last, by whichever binder of those that share the list.
    looked: Option<Instant>,
    /// How often in a row they have changed since they were looked at before.
    restless: u32,
    /// Whether it was reported that they can't be read.
    failing: bool,
}

/// What tells that a file is not what it was.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    path: PathBuf,
    /// Device, inode, size and time of the last change, in seconds and nanoseconds; `None` if it can't be told.
    metadata: Option<(u64, u64, u64, i64, i64)>,
}

pub(super) type Users = BTreeMap<CurvePublicKey, Identity>;

impl AllowList {
    /// Reads a file or a directory. Blocks, and so does the driver when it looks at it; use files that are local.
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

    /// Looks for changes more or less often than once a second; at most once a millisecond.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = at_least_one_milli(interval);
        self
    }

    /// Reads the file or the directory now, changed or not. Blocks, also while it is being read already.
    ///
    /// # Errors
    /// If it can't be read; what was read before holds on.
    pub fn reload(&self) -> Result<(), AllowListError> {
        // Or who has read earlier might be the last to say what he has read.
        let _reading = self.progress.lock();
        self.read_all()
    }

    /// Only while the progress is locked.
    fn read_all(&self) -> Result<(), AllowListError> {
        self.set.replace(self.read()?);
        Ok(())
    }

    /// Refuses those who are gone. What may be half written admits nobody, and makes nobody somebody else.
    fn revoke_missing(&self) -> Result<(), AllowListError> {
        let present = self.read()?;
        let mut users = self.set.users();
        users.retain(|key, _| present.contains_key(key));
        self.set.replace(users);
        Ok(())
    }

    fn read(&self) -> Result<Users, AllowListError> {
        read(&self.path).map_err(|error| AllowListError { path: self.path.to_path_buf(), error })
    }

    /// How many keys it admits.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether it admits nobody.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Looks, unless another binder has done so within the interval: then nothing may seem to have changed since.
    fn look_if_due(&self, now: impl Fn() -> Instant) {
        let mut progress = self.progress.lock();
        if progress.looked.is_none_or(|at| now().saturating_duration_since(at) >= self.interval) {
            self.look_again(&mut progress);
            // Its end counts: it may take long.
            progress.looked = Some(now());
        }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn look(&self) {
        self.look_again(&mut self.progress.lock());
    }

    /// Reads if something has changed, and nothing more since it was looked at before.
    fn look_again(&self, progress: &mut Progress) {
        let restless = std::mem::take(&mut progress.restless);
        let looks = look_at(&self.path);
        let failure = match looks {
            Ok(looks) if progress.read.as_ref() == Some(&looks) => {
                progress.last = None;
                None
            }
            Ok(looks) if progress.last.as_ref() == Some(&looks) => {
                let result = self.read_all();
                progress.read = progress.last.take().filter(|_| result.is_ok());
                result.err()
            }
            Ok(looks) => {
                progress.last = Some(looks);
                progress.restless = restless + 1;
                if progress.restless <= RETRIES {
                    return;
                }
                self.revoke_missing().err()
            }
            Err(error) => Some(AllowListError { path: self.path.to_path_buf(), error }),
        };
        if let Some(error) = &failure
            && !progress.failing
        {
            tracing::warn!(%error, "the allowed keys stay what they were");
        }
        progress.failing = failure.is_some();
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

fn look_at(path: &Path) -> io::Result<Vec<Look>> {
    let look = |path: &Path| -> io::Result<Look> {
        let seen = fs::metadata(path)?;
        let metadata = (seen.dev(), seen.ino(), seen.size(), seen.ctime(), seen.ctime_nsec());
        Ok(Look { path: path.to_owned(), metadata: Some(metadata) })
    };
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![look(path)?]);
    }
    // A file that can't be looked at is one that admits nobody; the others count all the same.
    let unknown = |path: PathBuf| Look { path, metadata: None };
    Ok(key_files(path)?.into_iter().map(|file| look(&file).unwrap_or_else(|_| unknown(file))).collect())
}

/// The `*.pub` of a directory, in the order of their names.
fn key_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pub") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> io::Result<Users> {
    let mut users = Users::new();
    if fs::metadata(path)?.is_dir() {
        for file in key_files(path)? {
            read_one(&file, &mut users)?;
        }
        return Ok(users);
    }
    let mut text = Vec::new();
    open_regular(path)?.read_to_end(&mut text)?;
    for (line, problem) in parse(&text, &mut users) {
        tracing::warn!(path = %path.display(), line, problem, "line of allowed keys passed over");
    }
    Ok(users)
}

/// A file of a directory; one that is gone by now is no longer in it. What the system fails at says nothing of the file.
fn read_one(file: &Path, users: &mut Users) -> io::Result<()> {
    let key = open_regular(file)
        .map_err(|error| KeyFileError::Io { path: file.to_owned(), error })
        .and_then(|open| read_public_key(file, open));
    let problem = match (key, file.file_stem().and_then(OsStr::to_str)) {
        (Ok(key), _) if users.contains_key(&key) => String::from("the key is in another file already"),
        (Ok(key), Some(name)) => {
            users.insert(key, Identity::new(name));
            return Ok(());
        }
        // Two of them could pass for the same user.
        (Ok(_), None) => String::from("the name is not UTF-8"),
        (Err(KeyFileError::Io { error, .. }), _) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(());
        }
        (Err(KeyFileError::Io { error, .. }), _) if !is_of_the_file(&error) => return Err(error),
        (Err(error), _) => error.to_string(),
    };
    tracing::warn!(path = %file.display(), problem, "file of an allowed key passed over");
    Ok(())
}

/// Whether an error is the file's own, and not the system's, which another attempt may not meet.
fn is_of_the_file(error: &io::Error) -> bool {
    // What has no number is that it is not a regular file.
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

/// Takes what it can, and returns what is wrong with which lines, counted from 1.
pub(super) fn parse(text: &[u8], users: &mut Users) -> Vec<(usize, String)> {
    let mut problems = Vec::new();
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let Ok(line) = str::from_utf8(line) else {
            // Two of them could pass for the same user.
            problems.push((at + 1, String::from("not UTF-8")));
            continue;
        };
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match word.parse::<CurvePublicKey>() {
            Ok(key) if users.contains_key(&key) => {
                problems.push((at + 1, String::from("the key stands further up already")));
            }
            Ok(key) => {
                users.insert(key, Identity::new(user_id(rest).unwrap_or_else(|| key.to_string())));
            }
            Err(error) => problems.push((at + 1, error.to_string())),
        }
    }
    problems
}

/// What follows a key, without the comment.
fn user_id(rest: &str) -> Option<String> {
    let rest = rest.trim_start();
    let comment = rest.char_indices().find(|(at, character)| {
        *character == '#' && !rest[..*at].ends_with(|before: char| !before.is_whitespace())
    });
    let user = comment.map_or(rest, |(at, _)| &rest[..at]).trim_end();
    (!user.is_empty()).then(|| user.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::auth::generate_keys;
    use crate::auth::scratch::Scratch;

    const FIRST: &str = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
    const SECOND: &str = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";

    fn users(text: impl AsRef<[u8]>) -> (Vec<(String, String)>, Vec<usize>) {
        let mut users = Users::new();
        let problems = parse(text.as_ref(), &mut users);
        let users = users.into_iter().map(|(key, user)| (key.to_string(), user.user_id)).collect();
        (users, problems.into_iter().map(|(line, _)| line).collect())
    }

    #[test]
    fn lines() {
        let text = format!(
            "# who may come in\n\n{FIRST} alice\n\t{SECOND}   Bob B.#1  # since May\r\n#{FIRST} eve\n# {FIRST} eve\n"
        );
        let (users, problems) = users(&text);
        let expected = [(SECOND, "Bob B.#1"), (FIRST, "alice")];
        let expected = expected.map(|(key, user)| (key.to_owned(), user.to_owned()));
        assert_eq!(users.len(), 2);
        assert!(expected.iter().all(|user| users.contains(user)), "{users:?}");
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn a_key_alone_is_its_own_user() {
        for text in [FIRST.to_owned(), format!("{FIRST} \n"), format!("{FIRST} # alice")] {
            assert_eq!(users(&text), (vec![(FIRST.to_owned(), FIRST.to_owned())], vec![]));
        }
    }

    #[test]
    fn bad_lines_are_passed_over() {
        let text =
            format!("alice\n{FIRST}x alice\n{FIRST} alice\n{FIRST} bob\n{} zero\n\u{FFFD}", "0".repeat(40));
        assert_eq!(users(&text), (vec![(FIRST.to_owned(), "alice".to_owned())], vec![1, 2, 4, 5, 6]));
    }

    #[test]
    fn directory() {
        let scratch = Scratch::new();
        let keys = generate_keys();
        scratch.write("alice.pub", &format!("{FIRST}\n"));
        scratch.write("bob.pub", "not a key");
        scratch.write("eve", SECOND);
        scratch.write("twice.pub", FIRST);
        let list = AllowList::open(keys, scratch.root()).unwrap();
        let users = |list: &AllowList| list.set.users();
        assert_eq!(users(&list), [(FIRST.parse().unwrap(), Identity::new("alice"))].into());
        scratch.write("bob.pub", SECOND);
        fs::remove_file(scratch.path("alice.pub")).unwrap();
        fs::remove_file(scratch.path("twice.pub")).unwrap();
        list.reload().unwrap();
        assert_eq!(users(&list), [(SECOND.parse().unwrap(), Identity::new("bob"))].into());
    }

    #[test]
    fn what_can_be_read_no_longer_holds_on() {
        let scratch = Scratch::new();
        let path = scratch.write("allowed", FIRST);
        let list = AllowList::open(generate_keys(), &path).unwrap();
        fs::remove_file(&path).unwrap();
        list.reload().unwrap_err();
        list.look();
        list.look();
        assert_eq!(list.len(), 1);
        AllowList::open(generate_keys(), &path).unwrap_err();
    }

    #[test]
    fn a_change_is_read_when_it_is_over() {
        let scratch = Scratch::new();
        let path = scratch.write("allowed", FIRST);
        let list = AllowList::open(generate_keys(), &path).unwrap();
        list.look();
        list.look();
        assert!(list.progress.lock().read.is_some());
        scratch.write("allowed", "");
        list.look();
        assert_eq!(list.len(), 1, "the writer may not be done");
        scratch.write("allowed", &format!("{FIRST}\n{SECOND}\n"));
        list.look();
        assert_eq!(list.len(), 1);
        list.look();
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn texts_of_other_encodings() {
        let alice = vec![(FIRST.to_owned(), "alice".to_owned())];
        assert_eq!(users(format!("\u{FEFF}{FIRST} alice\r\n")), (alice, vec![]));
        let not_utf8 = [FIRST.as_bytes(), b" ali\xE7e\n", SECOND.as_bytes(), b" ali\xE8e\n"].concat();
        assert_eq!(users(not_utf8), (vec![], vec![1, 2]), "they could pass for the same user");
    }

    #[test]
    fn what_is_no_file_of_a_user_is_passed_over() {
        let scratch = Scratch::new();
        scratch.write("alice.pub", FIRST);
        fs::create_dir(scratch.path("directory.pub")).unwrap();
        let pipe = scratch.path("pipe.pub");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let not_utf8 = scratch.root().join(OsStr::from_bytes(b"b\xFFb.pub"));
        fs::write(not_utf8, SECOND).unwrap();
        let list = AllowList::open(generate_keys(), scratch.root()).unwrap();
        assert_eq!(list.set.users(), [(FIRST.parse().unwrap(), Identity::new("alice"))].into());
        let error = AllowList::open(generate_keys(), pipe).unwrap_err();
        assert!(error.to_string().ends_with("not a regular file"), "{error}");
    }

    #[test]
    fn one_file_that_cannot_be_read_does_not_keep_the_others_admitted() {
        let scratch = Scratch::new();
        let alice = scratch.write("alice.pub", FIRST);
        std::os::unix::fs::symlink("loop.pub", scratch.path("loop.pub")).unwrap();
        let list = AllowList::open(generate_keys(), scratch.root()).unwrap();
        assert_eq!(list.len(), 1);
        fs::remove_file(alice).unwrap();
        list.look();
        list.look();
        assert!(list.is_empty());
    }

    #[test]
    fn what_the_system_fails_at_is_nothing_of_the_files() {
        let (of_the_file, of_the_system) = (
            [Errno::ACCESS, Errno::LOOP, Errno::NXIO],
            [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO, Errno::STALE, Errno::INTR],
        );
        assert!(of_the_file.into_iter().all(|error| is_of_the_file(&error.into())));
        assert!(!of_the_system.into_iter().any(|error| is_of_the_file(&error.into())));
        assert!(is_of_the_file(&open_regular(Path::new("/")).unwrap_err()), "it is not a regular file");
    }

    /// Another binder's look, a moment after the first, does not take a file that is being written.
    #[test]
    fn binders_that_share_a_list_look_in_turn() {
        let scratch = Scratch::new();
        let path = scratch.write("allowed", FIRST);
        let list = AllowList::open(generate_keys(), &path).unwrap().interval(Duration::from_secs(3_600));
        let other = list.clone();
        scratch.write("allowed", "");
        list.look_if_due(Instant::now);
        assert!(list.progress.lock().last.is_some(), "it was looked at");
        other.look_if_due(Instant::now);
        list.look_if_due(Instant::now);
        assert_eq!(list.len(), 1, "the writer may not be done");
        list.progress.lock().looked = None;
        other.look_if_due(Instant::now);
        assert!(list.is_empty());
    }

    #[test]
    fn a_file_that_never_rests_revokes_all_the_same() {
        let scratch = Scratch::new();
        let path = scratch.write("allowed", &format!("{FIRST} alice\n{SECOND} bob\n"));
        let list = AllowList::open(generate_keys(), &path).unwrap();
        let mut text = format!("{SECOND} eve\n");
        for _ in 0..RETRIES + 1 {
            assert_eq!(list.len(), 2);
            text.push_str("# more\n");
            fs::write(&path, &text).unwrap();
            list.look();
        }
        let bob = (SECOND.parse().unwrap(), Identity::new("bob"));
        assert_eq!(list.set.users(), [bob.clone()].into(), "who is renamed may not be written to the end");
        list.look();
        assert_eq!(list.set.users(), [(bob.0, Identity::new("eve"))].into());
    }
}
