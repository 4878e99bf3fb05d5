//! The processes of the peers: a server that stays, and one client per measurement.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    executor::WORKERS,
    load::{Case, Sample, Timing},
    peers::{Kind, Peer},
    python,
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
        let arguments = [
            ("--in-flight", case.in_flight as u64),
            ("--body-bytes", case.body_bytes as u64),
            ("--warm-up-ms", timing.warm_up_ms),
            ("--window-ms", timing.window_ms),
        ];
        let mut command = self.command("load");
        command.arg(server.address.to_string());
        for (name, value) in arguments {
            command.arg(name).arg(OsStr::new(&value.to_string()));
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("the client ended with {}", output.status);
        }
        let sample: Sample = serde_json::from_slice(&output.stdout).context("the client's output")?;
        ensure!(sample.calls() > 0, "no call ended within {} ms", timing.window_ms);
        Ok(sample)
    }
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
