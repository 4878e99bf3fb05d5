//! The process of `tests/python/fork_server.py`, which starts the peers of this process's tests.
//!
//! There is one as long as a handle to it exists. It ends with this process at the latest, and its peers with it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Value, json};

use super::environment::{python, script};

/// How long it may take to begin, to fork, and to say that a process has ended. Only a safety net against hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// The process. Dropping it kills the peers that are left, and waits for all of them.
#[derive(Debug)]
pub struct ForkServer {
    process: Child,
    control: Mutex<Control>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Control {
    socket: UnixStream,
    /// One for each that was started, in this order.
    started: Receiver<Forked>,
}

/// A process that was forked.
#[derive(Debug)]
pub(super) struct Forked {
    pub(super) id: u32,
    /// How it ended, once it has.
    pub(super) ended: Receiver<ExitStatus>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Ended { ended: u32, status: i32 },
    Started { started: u32 },
}

/// The fork server of this process, which is started unless there is one.
///
/// # Panics
/// As [`python`] does, and when the system has no process for it.
pub fn fork_server() -> Arc<ForkServer> {
    static RUNNING: Mutex<Weak<ForkServer>> = Mutex::new(Weak::new());
    let mut running = lock(&RUNNING);
    running.upgrade().unwrap_or_else(|| {
        let started = Arc::new(ForkServer::start());
        *running = Arc::downgrade(&started);
        started
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ForkServer {
    fn start() -> Self {
        let (socket, theirs) = UnixStream::pair().expect("the system has sockets");
        let process = Command::new(python())
            .arg(script("fork_server.py"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUTF8", "1")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("can't start Python: {e}"));
        let (start, started) = mpsc::channel();
        let answers = BufReader::new(socket.try_clone().expect("the system has descriptors"));
        let reader = Some(thread::spawn(move || read(answers, &start)));
        Self { process, control: Mutex::new(Control { socket, started }), reader }
    }

    /// Forks a process that runs a script with these standard streams.
    ///
    /// # Panics
    /// When Python fails; it has said why on standard error.
    pub(super) fn fork(&self, name: &str, args: &[&str], streams: [BorrowedFd<'_>; 3]) -> Forked {
        let command = format!("{}\n", json!({"start": name, "args": args}));
        let control = lock(&self.control);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&streams)), "there is space for three");
        let bytes = [IoSlice::new(command.as_bytes())];
        let sent = sendmsg(&control.socket, &bytes, &mut ancillary, SendFlags::NOSIGNAL);
        assert_eq!(sent.unwrap_or_else(|e| panic!("the fork server is gone: {e}")), command.len());
        match control.started.recv_timeout(PATIENCE) {
            Ok(forked) => forked,
            Err(RecvTimeoutError::Timeout) => {
                panic!("the fork server has not started {name} in {PATIENCE:?}")
            }
            Err(RecvTimeoutError::Disconnected) => panic!("the fork server ended instead of starting {name}"),
        }
    }

    /// Kills a process that was forked, unless it has ended.
    pub(super) fn kill(&self, id: u32) {
        let command: Value = json!({"kill": id});
        // Fails when it has gone, and all that it has forked with it.
        let _ = writeln!(&lock(&self.control).socket, "{command}");
    }
}

impl Drop for ForkServer {
    fn drop(&mut self) {
        // These fail only when it has ended already.
        let _ = lock(&self.control).socket.shutdown(Shutdown::Both);
        let _ = self.process.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Passes on what the fork server says, until it is gone.
fn read(answers: impl BufRead, start: &Sender<Forked>) {
    let mut running: BTreeMap<u32, Sender<ExitStatus>> = BTreeMap::new();
    for line in answers.lines().map_while(Result::ok) {
        // The receiver may be gone.
        match serde_json::from_str(&line).unwrap_or_else(|e| panic!("the fork server said {line:?}: {e}")) {
            Answer::Started { started } => {
                let (end, ended) = mpsc::channel();
                running.insert(started, end);
                let _ = start.send(Forked { id: started, ended });
            }
            Answer::Ended { ended, status } => {
                let end = running.remove(&ended).expect("it says first that one has started");
                let _ = end.send(ExitStatus::from_raw(status));
            }
        }
    }
}
