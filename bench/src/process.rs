//! The processes of the peers: a server that stays, and one client per measurement.

use std::{
    fmt::Display,
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;

use crate::{
    executor::WORKERS,
    load::{Case, Sample, Timing},
    peers::{Kind, Peer},
    python,
    upload::{Beside, Length, Upload},
};

/// Makes the processes of a peer.
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
    /// Before the subcommand: a script.
    script: Option<PathBuf>,
    /// After it: which peer.
    peer: Option<String>,
}

impl Launcher {
    /// Prepares what `peer` needs.
    ///
    /// `program` is the built `callosum-bench`; a virtual environment for Python is made in the target directory
    /// that holds it, and the program in C is compiled there.
    ///
    /// # Errors
    /// The virtual environment can't be made, or the program not be compiled.
    pub fn new(peer: &Peer, program: &Path) -> Result<Self> {
        match peer.kind {
            Kind::Rust { .. } => {
                Ok(Self { program: program.to_owned(), script: None, peer: Some(peer.id()) })
            }
            Kind::Python => {
                let python::Environment { interpreter, script } = python::prepare(program)?;
                Ok(Self { program: interpreter, script: Some(script), peer: None })
            }
            Kind::C => Ok(Self { program: python::compile(program)?, script: None, peer: None }),
        }
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env("ASYNC_STD_THREAD_COUNT", WORKERS.to_string());
        command.args(&self.script).arg(subcommand).args(&self.peer);
        command
    }

    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    /// The process can't be started, or ends before it listens.
    pub fn serve(&self) -> Result<Server> {
        let mut command = self.command("serve");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = Server {
            child: command.spawn().with_context(|| format!("can't start {:?}", self.program))?,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
        };
        let stdout = server.child.stdout.take().context("the server's stdout is a pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let port = line.trim().parse().with_context(|| format!("the server said {line:?}, not its port"))?;
        server.address.set_port(port);
        Ok(server)
    }

    /// Runs a client to its end and returns what it measured.
    ///
    /// # Errors
    /// The client fails, or no call ended within the window.
    pub fn load(&self, server: &Server, case: Case, timing: Timing) -> Result<Sample> {
        let Case { in_flight, body_bytes } = case;
        let arguments = [("--in-flight", in_flight as u64), ("--body-bytes", body_bytes as u64)];
        let sample: Sample = self.client("load", server, arguments.into_iter().chain(timing.arguments()))?;
        ensure!(sample.calls() > 0, "no call ended within {} ms", timing.window_ms);
        Ok(sample)
    }

    /// Runs a client that makes an upload to its end.
    ///
    /// # Errors
    /// The client fails.
    pub fn upload(&self, server: &Server, length: Length) -> Result<Upload> {
        self.client("upload", server, [("--upload-bytes", length.upload_bytes)])
    }

    /// Runs a client that makes calls, alone and beside an upload, to its end.
    ///
    /// # Errors
    /// The client fails, or no call ended.
    pub fn beside(
        &self,
        server: &Server,
        body_bytes: usize,
        length: Length,
        timing: Timing,
    ) -> Result<Beside> {
        let arguments = [("--body-bytes", body_bytes as u64), ("--upload-bytes", length.upload_bytes)];
        self.client("beside", server, arguments.into_iter().chain(timing.arguments()))
    }

    fn client<T: DeserializeOwned>(
        &self,
        subcommand: &str,
        server: &Server,
        arguments: impl IntoIterator<Item = (&'static str, impl Display)>,
    ) -> Result<T> {
        let mut command = self.command(subcommand);
        command.arg(server.address.to_string());
        for (name, value) in arguments {
            command.arg(name).arg(value.to_string());
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("the client ended with {}", output.status);
        }
        serde_json::from_slice(&output.stdout).context("the client's output")
    }
}

/// Most memory that a process had at any time, in KiB; `process` is its number, or "self".
///
/// # Errors
/// The system has no such process, or is not Linux.
pub fn peak_kib(process: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("there is no VmHWM")?;
    line.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("VmHWM is {line:?}"))
}

/// A server process; dropping this ends it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Most memory that it had at any time so far, in KiB.
    ///
    /// # Errors
    /// As [`peak_kib`].
    pub fn peak_kib(&self) -> Result<u64> {
        peak_kib(&self.child.id().to_string())
    }

    /// Closes its stdin, and so asks it to end, and waits until it has.
    ///
    /// # Errors
    /// It ends with a failure.
    pub fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
