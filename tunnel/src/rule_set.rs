//! Rules as an authorizer: swapped as a whole, and read again when their file changes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use callosum_runtime::FileStamp;
use callosum_runtime::rt::{Runtime, Waiters};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use parking_lot::{Mutex, RwLock};

use crate::time::sleep;
use crate::{Authorizer, ListenAddress, Permission, Requester, Rules, RulesError, Target};

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often in a row it may be found changed again before it is read all the same.
const RETRIES: u32 = 3;

/// [`Rules`] that can change while they are in use. All clones are the same set.
///
/// The server's driver checks once a second whether the file has changed, and reads it when nothing more has changed at
/// the next check, so that a file is not read while it is being written. If it changes all the time, it is read at every fourth
/// check, since a withdrawn right must not stay in force. Then all its rules apply at once, and
/// connections that they no longer allow are closed; the others keep the limits with which they were opened. While the
/// file is missing, can't be read or has a mistake, the last rules that were read stay in force, and a warning says what is
/// wrong with it. A file that the system does not let this process read, as for lack of file descriptors, is tried again at
/// each check.
///
/// The user is the identity that the peer was admitted as. A peer without an identity is refused whatever the rules
/// say, unless [`anonymous`](Self::anonymous) gives it a name.
#[derive(Clone, Debug)]
pub struct RuleSet {
    shared: Arc<Shared>,
    anonymous: Option<Arc<str>>,
    proxy_protocol: bool,
    interval: Duration,
}

#[derive(Debug)]
struct Shared {
    rules: RwLock<Arc<Rules>>,
    changed: Waiters,
    file: Option<Mutex<Watched>>,
}

impl Shared {
    /// Waits until other rules are in force.
    async fn other_than(&self, known: &Arc<Rules>) -> Arc<Rules> {
        loop {
            let changed = self.changed.listen();
            let rules = self.rules.read().clone();
            if !Arc::ptr_eq(&rules, known) {
                return rules;
            }
            changed.await;
        }
    }
}

/// A file, and what has been seen of it.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// The file's stamp when it was read.
    read: Option<FileStamp>,
    /// The file's stamp at the last check.
    last: Option<FileStamp>,
    /// How often in a row it has changed since the check before.
    changes_in_a_row: u32,
    /// The last error that was logged, of what the file was then.
    problem: Option<String>,
}

/// Why rules can't be taken from a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesFileError {
    /// The system refused.
    #[error("can't read the rules in {path}: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file has a mistake.
    #[error("{path}: {error}", path = .path.display())]
    Rules {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: RulesError,
    },
}

impl RuleSet {
    /// Rules without a file; [`replace`](Self::replace) changes them.
    pub fn new(rules: Rules) -> Self {
        Self::with(rules, None)
    }

    /// The rules in a file. Blocks, and so does the driver when it reads the file again: use a local file.
    ///
    /// # Errors
    /// If it can't be read, or has a mistake.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, RulesFileError> {
        let path = path.into();
        // Before it is read: what changes after this is seen.
        let look = FileStamp::of(&path).ok();
        let rules = read(&path)?;
        Ok(Self::with(
            rules,
            Some(Watched { path, read: look, last: None, changes_in_a_row: 0, problem: None }),
        ))
    }

    fn with(rules: Rules, file: Option<Watched>) -> Self {
        let rules = RwLock::new(Arc::new(rules));
        let shared = Shared { rules, changed: Waiters::default(), file: file.map(Mutex::new) };
        Self { shared: Arc::new(shared), anonymous: None, proxy_protocol: false, interval: INTERVAL }
    }

    /// Sets the interval between checks of the file. Default 1 s; at least 1 ms.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(Duration::from_millis(1));
        self
    }

    /// Treats peers without an identity as this user. Every peer of an endpoint without an authenticator is then this
    /// user.
    pub fn anonymous(mut self, user: impl Into<Arc<str>>) -> Self {
        self.anonymous = Some(user.into());
        self
    }

    /// Writes a PROXY protocol header, version 2, to each target, which must all expect one. Default: to those of rules with
    /// `proxy_protocol = true`.
    pub fn proxy_protocol(mut self, write: bool) -> Self {
        self.proxy_protocol = write;
        self
    }

    /// The current rules.
    pub fn rules(&self) -> Arc<Rules> {
        self.shared.rules.read().clone()
    }

    /// Replaces all rules. Connections that the new rules do not allow are closed.
    pub fn replace(&self, rules: Rules) {
        self.put(rules);
        self.shared.changed.wake_all();
    }

    /// The same, but wakes no task.
    fn put(&self, rules: Rules) {
        *self.shared.rules.write() = Arc::new(rules);
    }

    /// Reads the file now, changed or not. Does nothing without one.
    ///
    /// # Errors
    /// If it can't be read, or has a mistake; the current rules stay in force.
    pub fn reload(&self) -> Result<(), RulesFileError> {
        // Locked while the file is read: otherwise a thread that read earlier could overwrite the result of a later read.
        let Some(mut file) = self.shared.file.as_ref().map(|file| file.lock()) else { return Ok(()) };
        let look = FileStamp::of(&file.path).ok();
        self.put(read(&file.path)?);
        (file.read, file.last, file.changes_in_a_row, file.problem) = (look, None, 0, None);
        drop(file);
        self.shared.changed.wake_all();
        Ok(())
    }

    /// Applies what is new in the file.
    fn look_again(&self, file: &Mutex<Watched>) {
        let mut file = file.lock();
        let stamp = FileStamp::of(&file.path);
        let news = file.look(stamp, read).map(|rules| rules.map(|rules| self.put(rules)));
        let path = file.path.clone();
        // The tasks that are woken, and a subscriber of `tracing`, may come back here.
        drop(file);
        match news {
            Some(Ok(())) => {
                self.shared.changed.wake_all();
                tracing::info!(path = %path.display(), "tunnel rules read again");
            }
            Some(Err(error)) => tracing::warn!(%error, "the tunnel rules stay what they were"),
            None => {}
        }
    }

    async fn watch(self, runtime: Arc<dyn Runtime>) {
        loop {
            sleep(&*runtime, self.interval).await;
            if let Some(file) = &self.shared.file {
                self.look_again(file);
            }
        }
    }

    fn permission(
        &self,
        requester: &Requester,
        grant: impl Fn(&Rules, &str) -> Option<crate::Grant>,
    ) -> Option<Permission> {
        let user = requester.user().or(self.anonymous.as_deref())?;
        let grant = grant(&self.rules(), user)?;
        let permission = Permission::from(grant);
        Some(if self.proxy_protocol { permission.proxy_protocol(true) } else { permission })
    }
}

impl Watched {
    /// Reads the file if it has changed, and not again since it was looked at before, or too often in a row. Returns the rules, or an
    /// error that is new.
    ///
    /// A mistake stays until the file changes. What the system refused is read at each look: a descriptor may be free a
    /// second later, and a withdrawn right must not stay in force for lack of one.
    fn look(
        &mut self,
        stamp: io::Result<FileStamp>,
        read: impl FnOnce(&Path) -> Result<Rules, RulesFileError>,
    ) -> Option<Result<Rules, RulesFileError>> {
        let rules = match stamp {
            Ok(stamp) if self.read == Some(stamp) => {
                self.changes_in_a_row = 0;
                return None;
            }
            Ok(stamp) => {
                if self.last.replace(stamp) != Some(stamp) {
                    self.problem = None;
                    self.changes_in_a_row += 1;
                    if self.changes_in_a_row <= RETRIES {
                        return None;
                    }
                }
                self.changes_in_a_row = 0;
                let rules = read(&self.path);
                self.read = Some(stamp).filter(|_| !matches!(rules, Err(RulesFileError::Io { .. })));
                rules
            }
            Err(error) => {
                self.read = None;
                Err(RulesFileError::Io { path: self.path.clone(), error })
            }
        };
        let problem = rules.as_ref().err().map(ToString::to_string);
        let is_new = problem.is_none() || problem != self.problem;
        self.problem = problem;
        Some(rules).filter(|_| is_new)
    }
}

impl Authorizer for RuleSet {
    fn connect<'a>(
        &'a self,
        requester: &'a Requester,
        target: &'a Target,
    ) -> BoxFuture<'a, Option<Permission>> {
        let permission = self.permission(requester, |rules, user| rules.connect(user, target));
        Box::pin(std::future::ready(permission))
    }

    fn listen<'a>(
        &'a self,
        requester: &'a Requester,
        address: &'a ListenAddress,
    ) -> BoxFuture<'a, Option<Permission>> {
        let permission = self.permission(requester, |rules, user| rules.listen(user, address));
        Box::pin(std::future::ready(permission))
    }

    fn changes(&self, runtime: &Arc<dyn Runtime>) -> Option<BoxStream<'static, ()>> {
        // What is in force now is known, so that no change from now on is missed.
        let changes = stream::unfold((self.shared.clone(), self.rules()), |(shared, known)| async move {
            let rules = shared.other_than(&known).await;
            Some(((), (shared, rules)))
        });
        let watching = stream::once(self.clone().watch(runtime.clone()));
        Some(stream::select(changes, watching).boxed())
    }
}

fn read(path: &Path) -> Result<Rules, RulesFileError> {
    let text = fs::read(path).map_err(|error| RulesFileError::Io { path: path.to_owned(), error })?;
    Rules::parse_bytes(&text).map_err(|error| RulesFileError::Rules { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests;
