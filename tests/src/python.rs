//! Python Callosum as a peer: its virtual environment, and processes that run the scripts of `tests/python`.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

const REQUIREMENTS: &str = include_str!("../python/requirements.txt");
/// Names the interpreter that makes the virtual environment; `python3` unless set.
const PYTHON_VAR: &str = "CALLOSUM_TEST_PYTHON";
/// How long a script may take for a line before the test fails. Only a safety net against hanging.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a script may take to end once its standard input is closed.
const FAREWELL: Duration = Duration::from_secs(10);

/// The interpreter of a virtual environment that holds Python Callosum and pyzmq.
///
/// Made once per content of `requirements.txt`, under `target/`; a file lock keeps test processes that run at
/// the same time from making it twice.
///
/// # Panics
/// When the environment can't be made, with what failed and what to do about it.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(make_environment)
}

/// The path of a script in `tests/python`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}

/// The folder of the programs that Python Callosum's source package comes with, as they are in the version of `requirements.txt`.
///
/// Fetched once, as [`python`] is made.
///
/// # Panics
/// When they can't be fetched, with what failed and what to do about it.
pub fn upstream_examples() -> PathBuf {
    let requirement = REQUIREMENTS.lines().find(|line| line.starts_with("callosum=="));
    let requirement = requirement.expect("the version of Python Callosum is pinned");
    let folder = once(&requirement.replace("==", "-"), |folder| fetch_source(requirement, folder));
    folder.join("source").join("examples")
}

/// Unpacks the source package into the folder `source` of this one.
fn fetch_source(requirement: &str, folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    let advice = "pip must reach a package index that holds the source package of callosum in tests/python/requirements.txt.";
    run(
        Command::new(python())
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
            .args(["--no-deps", "--no-binary", ":all:", requirement, "--dest"])
            .arg(folder),
        advice,
    );
    let unpack = "import pathlib, sys, tarfile
folder = pathlib.Path(sys.argv[1])
with tarfile.open(next(folder.glob('callosum-*.tar.gz'))) as archive:
    archive.extractall(folder, filter='data')
next(folder.glob('callosum-*/')).rename(folder / 'source')";
    run(Command::new(python()).args(["-c", unpack]).arg(folder), advice);
}

fn make_environment() -> PathBuf {
    let name = format!("python-venv-{:016x}", fnv1a(REQUIREMENTS.as_bytes()));
    let interpreter = |folder: &Path| folder.join("bin").join("python");
    interpreter(&once(&name, |folder| install(folder, &interpreter(folder))))
}

/// A folder under `target/` that is made once, by whichever process is the first to need it.
fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let target = target_directory();
    let (directory, lock) = (target.join(name), target.join(format!("{name}.lock")));
    fs::create_dir_all(&target).unwrap_or_else(|e| panic!("can't create {}: {e}", target.display()));
    let lock_file = File::create(&lock).unwrap_or_else(|e| panic!("can't create {}: {e}", lock.display()));
    // Held until the end of this function; the system releases it when a process dies.
    lock_file.lock().unwrap_or_else(|e| panic!("can't lock {}: {e}", lock.display()));

    let complete = directory.join("complete");
    if !complete.exists() {
        make(&directory);
        fs::write(&complete, "").unwrap_or_else(|e| panic!("can't write {}: {e}", complete.display()));
    }
    directory
}

fn install(directory: &Path, interpreter: &Path) {
    let base = env::var_os(PYTHON_VAR).unwrap_or_else(|| "python3".into());
    run(
        // `--clear` removes what an interrupted attempt has left.
        Command::new(&base).args(["-m", "venv", "--clear"]).arg(directory),
        "Install Python 3.11 or later with its venv module (Debian: apt install python3-venv), or name another \
         interpreter in CALLOSUM_TEST_PYTHON.",
    );
    run(
        Command::new(interpreter)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r"])
            .arg(script("requirements.txt")),
        "pip must reach a package index that holds the versions in tests/python/requirements.txt.",
    );
}

fn run(command: &mut Command, advice: &str) {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "the Python environment of the tests can't be made\ncommand: {command:?}\n{}\nstdout: {}\nstderr: {}\n{advice}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        ),
        Err(error) => panic!(
            "the Python environment of the tests can't be made\ncommand: {command:?}\ncan't be run: {error}\n{advice}"
        ),
    }
}

fn target_directory() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        // Cargo takes a relative one from where it was called; tests run elsewhere, so only an absolute one counts.
        Some(target) if Path::new(&target).is_absolute() => target.into(),
        _ => Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("this crate is a folder of the workspace")
            .join("target"),
    }
}

/// FNV-1a: unlike the standard library's hashes it is the same in every release.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A running script of `tests/python`, talked to by lines. Dropping it kills it.
///
/// All methods block: async tests call them from `spawn_blocking` or a thread.
#[derive(Debug)]
pub struct PyProcess {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    /// Ends when the process has closed its standard error.
    stderr_reader: Option<JoinHandle<()>>,
}

impl PyProcess {
    /// Starts `tests/python/<name>` with these arguments.
    ///
    /// # Panics
    /// When the process can't be started, or [`python`] panics.
    pub fn spawn(name: &str, args: &[&str]) -> Self {
        let mut child = Command::new(python())
            .arg(script(name))
            .args(args)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUTF8", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("can't start {name}: {e}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr_pipe = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            // Ends with the process, or when this struct is gone.
            BufReader::new(stdout).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok());
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&stderr);
        let stderr_reader = Some(thread::spawn(move || collect(stderr_pipe, &collected)));
        Self { name: name.into(), stdin: child.stdin.take(), child, lines, stderr, stderr_reader }
    }

    /// The process id, to send a signal to.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that starts with `prefix`, skips others, and returns what follows the prefix, trimmed.
    ///
    /// # Panics
    /// When the process ends before, or takes more than a minute for a line.
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
    /// When it does not end within ten seconds.
    pub fn finish(mut self) -> (ExitStatus, String) {
        self.stdin = None;
        self.wait_exit()
    }

    /// Waits for the process to end by itself; see [`finish`](Self::finish).
    ///
    /// # Panics
    /// When it does not end within ten seconds.
    pub fn wait_exit(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + FAREWELL;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                if let Some(reader) = self.stderr_reader.take() {
                    reader.join().expect("reading standard error does not panic");
                }
                return (status, self.stderr());
            }
            assert!(Instant::now() < deadline, "{} does not end\n{}", self.name, self.stderr());
            thread::sleep(Duration::from_millis(5));
        }
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
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(pipe: impl Read, into: &Mutex<String>) {
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        let mut text = into.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(&line);
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn python_peers_call_each_other() {
        let mut server = PyProcess::spawn("server.py", &["--codec", "msgpack"]);
        let endpoint = server.wait_line("listening on ");
        let mut client = PyProcess::spawn("client.py", &["--connect", &endpoint, "--codec", "msgpack"]);
        client.wait_line("ready");
        let call =
            json!({"op": "call", "method": "echo", "body": {"sent": "größe"}, "key": "k", "timeout": 30});
        assert_eq!(client.request(&call), json!({"ok": {"received": "größe"}}));
        let error = client.request(&json!({"op": "call", "method": "error", "body": {}, "timeout": 30}));
        assert_eq!(error["error"]["name"], "ZeroDivisionError");
        assert_eq!(client.request(&json!({"op": "quit"})), json!({"ok": null}));
        assert!(client.wait_exit().0.success());
        assert!(server.finish().0.success());
    }
}
