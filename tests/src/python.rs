//! Python Callosum as a peer: its virtual environment, and processes that run the scripts of `tests/python`.

use std::io::{BufRead, BufReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::process::ExitStatus;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

mod environment;
mod fork_server;

pub use environment::{python, upstream_examples};
pub use fork_server::{ForkServer, fork_server};

use fork_server::Forked;

/// How long a script may take for a line, or to end, before the test fails. Only a safety net against hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running script of `tests/python`, talked to by lines. Dropping it kills it.
///
/// All methods block: async tests call them from `spawn_blocking` or a thread.
#[derive(Debug)]
pub struct PyProcess {
    name: String,
    server: Arc<ForkServer>,
    process: Forked,
    ended: Option<ExitStatus>,
    stdin: Option<PipeWriter>,
    lines: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    /// Ends when the process has closed its standard error.
    stderr_reader: Option<JoinHandle<()>>,
}

impl PyProcess {
    /// Starts `tests/python/<name>` with these arguments, in a process forked from one that has imported Python Callosum.
    ///
    /// # Panics
    /// When the process can't be started, or [`python`] panics.
    pub fn spawn(name: &str, args: &[&str]) -> Self {
        let server = fork_server();
        let [(their_stdin, stdin), (stdout, their_stdout), (stderr_pipe, their_stderr)] =
            [(); 3].map(|()| pipe().unwrap_or_else(|e| panic!("there is no pipe for {name}: {e}")));
        let streams = [their_stdin.as_fd(), their_stdout.as_fd(), their_stderr.as_fd()];
        let process = server.fork(name, args, streams);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            // Ends with the process, or when this struct is gone.
            BufReader::new(stdout).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok());
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&stderr);
        let stderr_reader = Some(thread::spawn(move || collect(stderr_pipe, &collected)));
        let (name, stdin) = (name.into(), Some(stdin));
        Self { name, server, process, ended: None, stdin, lines, stderr, stderr_reader }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id
    }

    /// Waits for a line that starts with `prefix`, skips others, and returns what follows the prefix, trimmed.
    ///
    /// # Panics
    /// When the process ends before, or says nothing for two minutes.
    pub fn wait_line(&mut self, prefix: &str) -> String {
        loop {
            if let Some(rest) = self.next_line().strip_prefix(prefix) {
                return rest.trim().into();
            }
        }
    }

    /// Sends a command without waiting for its answer: one JSON line.
    ///
    /// # Panics
    /// When the process no longer reads.
    pub fn send(&mut self, command: &Value) {
        let stdin = self.stdin.as_mut().expect("standard input stays open until `finish`");
        if let Err(error) = writeln!(stdin, "{command}").and_then(|()| stdin.flush()) {
            panic!("{} no longer reads: {error}\n{}", self.name, self.stderr());
        }
    }

    /// The answer to the oldest command that has none yet.
    ///
    /// # Panics
    /// Like [`wait_line`](Self::wait_line), and when the line is not JSON.
    pub fn answer(&mut self) -> Value {
        let line = self.next_line();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{} printed {line:?}: {e}", self.name))
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Panics
    /// Like [`send`](Self::send) and [`answer`](Self::answer).
    pub fn request(&mut self, command: &Value) -> Value {
        self.send(command);
        self.answer()
    }

    /// What the process has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the standard input, which tells every script to end, and returns how it ended and what it wrote to
    /// standard error.
    ///
    /// # Panics
    /// When it does not end within two minutes.
    pub fn finish(mut self) -> (ExitStatus, String) {
        self.stdin = None;
        self.wait_exit()
    }

    /// Waits for the process to end by itself; see [`finish`](Self::finish).
    ///
    /// # Panics
    /// When it does not end within two minutes.
    pub fn wait_exit(&mut self) -> (ExitStatus, String) {
        let status = self.ended.or_else(|| self.process.ended.recv_timeout(PATIENCE).ok());
        self.ended = status;
        let status = status.unwrap_or_else(|| panic!("{} does not end\n{}", self.name, self.stderr()));
        if let Some(reader) = self.stderr_reader.take() {
            reader.join().expect("reading standard error does not panic");
        }
        (status, self.stderr())
    }

    fn next_line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} printed nothing for {PATIENCE:?}\n{}", self.name, self.stderr())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let (status, stderr) = self.wait_exit();
                panic!("{} ended: {status}\n{stderr}", self.name)
            }
        }
    }
}

impl Drop for PyProcess {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.server.kill(self.process.id);
            // Fails when the fork server is gone, and all that it has forked with it.
            let _ = self.process.ended.recv_timeout(PATIENCE);
        }
    }
}

fn collect(pipe: impl Read, into: &Mutex<String>) {
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        let mut text = into.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(&line);
        text.push('\n');
    }
}
