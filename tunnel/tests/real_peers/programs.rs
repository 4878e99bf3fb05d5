//! Programs that these tests run, and what they need. What is started is ended by its own process id.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use tokio::io::AsyncWriteExt;

const INSTALL: &str =
    "apt-get install --yes curl redis-server openssh-client openssh-server && mkdir -p /run/sshd";

/// Where a program is.
pub(crate) fn find(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian's daemons are in /usr/sbin, which not every user looks at.
    let mut directories = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = directories.find_map(|directory| Some(directory.join(name)).filter(|path| path.is_file()));
    found.unwrap_or_else(|| panic!("{name} is not installed: {INSTALL}"))
}

/// Fails unless `directory`, which a program needs and its package makes, is there.
pub(crate) fn need_directory(directory: &str) {
    assert!(Path::new(directory).is_dir(), "there is no {directory}: {INSTALL}");
}

/// Runs a program to its end, with `input` at its standard input. Dropping the future kills it.
pub(crate) async fn run(command: Command, input: &[u8]) -> Output {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let write = async move {
        // Fails if the program ends before it has read everything; its status tells why.
        let _ = stdin.write_all(input).await;
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    output.unwrap()
}

/// What a program has printed that must succeed.
#[track_caller]
pub(crate) fn printed(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    output.stdout
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory that is removed with what is in it, and only its owner sees.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        use std::os::unix::fs::DirBuilderExt;
        let path = env::temp_dir().join(format!("callosum-{name}-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).into_os_string().into_string().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that serves until this is dropped.
struct Serving {
    child: Child,
    /// What it says from now on: a log whose reader is gone is an error to some programs.
    log: BufReader<ChildStdout>,
}

impl Serving {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stdout.take().unwrap());
        Self { child, log }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Redis server without files, on a TCP port of loopback and a Unix socket.
pub(crate) struct Redis {
    pub(crate) port: u16,
    pub(crate) socket: String,
    _serving: Serving,
}

impl Redis {
    pub(crate) fn start(scratch: &Scratch) -> Self {
        let socket = scratch.path("redis.sock");
        // Redis does not report the port that the system chose for it. So it gets one that is free, and another if
        // another process takes that first.
        loop {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let mut command = Command::new(find("redis-server"));
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--unixsocket", &socket]);
            command.args(["--save", "", "--appendonly", "no", "--dir", &scratch.path("")]);
            let mut serving = Serving::start(&mut command);
            let mut said = String::new();
            while serving.log.read_line(&mut said).unwrap() > 0 {
                if said.contains("Ready to accept connections") {
                    return Self { port, socket, _serving: serving };
                }
            }
            assert!(said.contains("Address already in use"), "{said}");
        }
    }
}
