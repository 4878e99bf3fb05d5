//! The processes of the peers: a server that stays, and one client per measurement.

use std::{
    fmt::Display,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;

use crate::{
    cases::{Case, Order},
    executor::{AsyncStd, Executor, Tokio},
    hold::Command as HolderCommand,
    load::{Sample, Timing},
    peers::{Kind, Peer},
    proc::{anonymous_kib, cpu_time, peak_kib, workers},
    python,
    upload::{Beside, Length, Upload},
};

/// How long a server may take until it listens: Python has much to load.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// How long a server may take to end when it was asked to.
pub(crate) const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// How long a holder may take to carry out a command: 1,000 handshakes, or 64 calls of 256 KiB at a time.
const HOLDS_WITHIN: Duration = Duration::from_secs(60);

/// The longest window of a load in which calls are so slow that none ends, as a multiple of the one asked for.
const LONGEST_WINDOW: u64 = 64;

/// Makes the processes of a peer.
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
    /// Before the subcommand: a script.
    script: Option<PathBuf>,
    /// After it: which peer, or for the program in C whether to encrypt.
    peer: Option<String>,
    /// Worker threads of each process, if its runtime is one of Rust's.
    workers: usize,
}

impl Launcher {
    /// Prepares what `peer` needs. Its processes, servers and clients, have so many `workers` each, if they run on a
    /// runtime of Rust's; the others have threads of their own choice.
    ///
    /// `program` is the built `callosum-bench`; a virtual environment for Python is made in the target directory
    /// that holds it, and the program in C is compiled there.
    ///
    /// # Errors
    /// The virtual environment can't be made, or the program not be compiled.
    pub fn new(peer: &Peer, workers: usize, program: &Path) -> Result<Self> {
        let (program, script, peer) = match peer.kind {
            Kind::Rust { .. } | Kind::Tunnel(_) => (program.to_owned(), None, Some(peer.id())),
            Kind::Python => {
                let python::Environment { interpreter, script } = python::prepare(program)?;
                (interpreter, Some(script), None)
            }
            Kind::C => {
                let security = if peer.encrypted { "curve" } else { "null" };
                (python::compile(program)?, None, Some(security.to_owned()))
            }
        };
        Ok(Self { program, script, peer, workers })
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        for variable in [Tokio::WORKERS_VARIABLE, AsyncStd::WORKERS_VARIABLE] {
            command.env(variable, self.workers.to_string());
        }
        command.args(&self.script).arg(subcommand).args(&self.peer);
        command
    }

    /// Starts a server, which orders calls so or as it does by default, and waits until it listens.
    ///
    /// # Errors
    /// The process can't be started, ends before it listens, or does not listen within a minute.
    pub fn serve(&self, order: Option<Order>) -> Result<Server> {
        let mut command = self.command("serve");
        command.args(order.map(|order| format!("--order={}", order.name())));
        Starting::new(command)?.listening()
    }

    /// Starts one end of a tunnel to `target`, the near one if there is a `far` one already, and waits until it listens.
    ///
    /// # Errors
    /// As [`Launcher::serve`].
    pub fn tunnel_end(&self, target: SocketAddr, far: Option<SocketAddr>) -> Result<Server> {
        let mut command = self.command("tunnel-end");
        command.arg(target.to_string()).args(far.map(|far| format!("--far={far}")));
        Starting::new(command)?.listening()
    }

    /// Runs a client to its end and returns what it measured. Where no call ends within the window, because the peer or
    /// the machine is slow, another client has one twice as long, up to [`LONGEST_WINDOW`] times.
    ///
    /// # Errors
    /// The client fails, or no call ended within the longest window either.
    pub fn load(&self, server: &Server, case: Case, timing: Timing) -> Result<Sample> {
        let mut times = 1;
        loop {
            let timing = Timing { window_ms: timing.window_ms * times, ..timing };
            let sample = self.load_once(server, case, timing)?;
            if sample.calls() > 0 {
                return Ok(sample);
            }
            ensure!(times < LONGEST_WINDOW, "no call ended within {} ms", timing.window_ms);
            times *= 2;
        }
    }

    fn load_once(&self, server: &Server, case: Case, timing: Timing) -> Result<Sample> {
        let Case { in_flight, body_bytes, connections, order } = case;
        let arguments = [
            ("--in-flight", in_flight.to_string()),
            ("--body-bytes", body_bytes.to_string()),
            ("--connections", connections.to_string()),
        ];
        let order = order.map(|order| ("--order", order.name().to_owned()));
        let timing = timing.arguments().map(|(name, value)| (name, value.to_string()));
        self.client("load", server, arguments.into_iter().chain(order).chain(timing))
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
    /// The client fails, or no call ended; one of the two processes has not as many workers as it was to have.
    pub fn beside(
        &self,
        server: &Server,
        body_bytes: usize,
        length: Length,
        timing: Timing,
    ) -> Result<Beside> {
        let arguments = [("--body-bytes", body_bytes as u64), ("--upload-bytes", length.upload_bytes)];
        let both: Beside = self.client("beside", server, arguments.into_iter().chain(timing.arguments()))?;
        let found = [both.workers, server.workers()?];
        ensure!(found == [self.workers; 2], "{found:?} workers (client, server) instead of {}", self.workers);
        Ok(both)
    }

    /// Starts a client that opens connections, and holds them, when told to.
    ///
    /// # Errors
    /// The process can't be started.
    pub fn hold(&self, server: &Server) -> Result<Holder> {
        let mut command = self.command("hold");
        command.arg(server.address.to_string());
        Talker::new(command).map(Holder)
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

/// What a process says, line by line.
fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (say, said) = mpsc::channel();
    // It ends with the process, which is killed if it says nothing in time, or when the receiver is dropped.
    thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).all(|line| say.send(line).is_ok())
    });
    said
}

/// The next line that a process says.
fn next_line(said: &Receiver<String>, limit: Duration) -> Result<String> {
    said.recv_timeout(limit).with_context(|| format!("the process ended, or said nothing within {limit:?}"))
}

/// Closes a process's stdin, and so asks it to end, and waits until it has.
fn end_within(child: &mut Child, limit: Duration) -> Result<()> {
    drop(child.stdin.take());
    let status = wait(child, limit)?.context("the process did not end when asked to")?;
    ensure!(status.success(), "the process ended with {status}");
    Ok(())
}

pub(crate) fn kill(child: &mut Child) {
    // Both fail if it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits for a process to end, `None` if it does not in time.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        match child.try_wait()? {
            None if begun.elapsed() < limit => thread::sleep(Duration::from_millis(1)),
            status => return Ok(status),
        }
    }
}

/// A server process that does not listen yet; dropping this ends it.
#[derive(Debug)]
pub(crate) struct Starting(Server);

impl Starting {
    /// # Errors
    /// The process can't be started.
    pub(crate) fn new(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().with_context(|| format!("can't start {:?}", command.get_program()))?;
        Ok(Self(Server { child, address: (Ipv4Addr::LOCALHOST, 0).into() }))
    }

    /// # Errors
    /// The process has ended.
    pub(crate) fn ensure_runs(&mut self) -> Result<()> {
        let status = self.0.child.try_wait()?;
        ensure!(status.is_none(), "the process ended with {status:?} before it listened");
        Ok(())
    }

    /// Waits until it says at which port of 127.0.0.1 it listens.
    ///
    /// # Errors
    /// The process ends before it listens, or does not listen within a minute.
    pub(crate) fn listening(mut self) -> Result<Server> {
        let stdout = self.0.child.stdout.take().context("the server's stdout is a pipe")?;
        let line = next_line(&lines(stdout), STARTS_WITHIN)?;
        let port = line.trim().parse().with_context(|| format!("the server said {line:?}, not its port"))?;
        self.0.address.set_port(port);
        Ok(self.0)
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

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Most memory that it had at any time so far, in KiB.
    ///
    /// # Errors
    /// As [`peak_kib`].
    pub fn peak_kib(&self) -> Result<u64> {
        peak_kib(&self.child.id().to_string())
    }

    /// The number of its threads that are workers of a runtime.
    ///
    /// # Errors
    /// As [`peak_kib`].
    pub fn workers(&self) -> Result<usize> {
        workers(&self.child.id().to_string())
    }

    /// Memory that it has now and that no file backs, in KiB.
    ///
    /// # Errors
    /// As [`anonymous_kib`].
    pub fn anonymous_kib(&self) -> Result<u64> {
        anonymous_kib(&self.child.id().to_string())
    }

    /// CPU time that its threads have taken so far.
    ///
    /// # Errors
    /// As [`cpu_time`].
    pub fn cpu_time(&self) -> Result<Duration> {
        cpu_time(&self.child.id().to_string())
    }

    /// Closes its stdin, and so asks it to end, and waits until it has.
    ///
    /// # Errors
    /// It ends with a failure, or not within ten seconds; then it is killed.
    pub fn end(mut self) -> Result<()> {
        end_within(&mut self.child, ENDS_WITHIN)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// A process that says something, line by line, until its stdin ends; dropping this ends it.
#[derive(Debug)]
pub(crate) struct Talker {
    child: Child,
    said: Receiver<String>,
}

impl Talker {
    /// # Errors
    /// The process can't be started.
    pub(crate) fn new(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            command.spawn().with_context(|| format!("can't start {:?}", command.get_program()))?;
        let stdout = child.stdout.take().context("its stdout is a pipe")?;
        Ok(Self { child, said: lines(stdout) })
    }

    /// The next line that it says.
    ///
    /// # Errors
    /// It ends first, or says nothing within `limit`.
    pub(crate) fn line(&self, limit: Duration) -> Result<String> {
        next_line(&self.said, limit)
    }

    /// Closes its stdin, and waits until it has ended.
    ///
    /// # Errors
    /// As [`Server::end`].
    pub(crate) fn end(mut self) -> Result<()> {
        end_within(&mut self.child, ENDS_WITHIN)
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// A client process that holds connections; dropping this ends it.
#[derive(Debug)]
pub struct Holder(Talker);

impl Holder {
    /// Has it carry out `command`; returns how long that took, and the calls that were made.
    ///
    /// # Errors
    /// It fails, or has not done so within a minute.
    pub fn tell(&mut self, command: HolderCommand) -> Result<Sample> {
        let stdin = self.0.child.stdin.as_mut().context("the client's stdin is a pipe")?;
        writeln!(stdin, "{}", serde_json::to_string(&command)?)?;
        let answer = self.0.line(HOLDS_WITHIN)?;
        serde_json::from_str(&answer).with_context(|| format!("the client answered {answer:?}"))
    }

    /// Ends it, and with it its connections.
    ///
    /// # Errors
    /// As [`Server::end`].
    pub fn end(self) -> Result<()> {
        self.0.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_is_not_waited_for() {
        let mut silent = Command::new("sleep").arg("600").stdout(Stdio::piped()).spawn().unwrap();
        let stdout = silent.stdout.take().unwrap();
        assert!(next_line(&lines(stdout), Duration::from_millis(1)).is_err());
        silent.kill().unwrap();
        assert!(wait(&mut silent, ENDS_WITHIN).unwrap().is_some());
    }

    #[test]
    fn a_server_that_does_not_end_is_killed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 7; exec sleep 600"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        assert_eq!(next_line(&lines(child.stdout.take().unwrap()), STARTS_WITHIN).unwrap(), "7");
        let process = child.id().to_string();
        let mut server = Server { child, address: (Ipv4Addr::LOCALHOST, 0).into() };
        assert!(end_within(&mut server.child, Duration::ZERO).is_err());
        drop(server);
        assert!(peak_kib(&process).is_err(), "it is gone");
    }
}
