//! The binary as a process, and what it says.

pub(crate) mod gateway;
pub(crate) mod proxy;
pub(crate) mod scratch;
pub(crate) mod terminal;
pub(crate) mod transfer;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use callosum_hosts::Host;
use rustix::event::{PollFd, PollFlags, Timespec, poll as poll_now};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process};

/// Something hangs if a process says nothing, or goes on, for so long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// Of a pipe.
const PAGE: usize = 4096;

pub(crate) const RUNTIMES: [&str; Host::ALL.len()] = Host::NAMES;

/// One that is not the default, for tests that run on one: async-std, if it is there.
pub(crate) const ANOTHER_RUNTIME: &str = RUNTIMES[RUNTIMES.len() - 1];

/// A running process; ended when it is dropped.
pub(crate) struct Process {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

/// Waits until it holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < limit, "{what} does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Tests each case on a thread of its own, so that they wait at the same time.
pub(crate) fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            let test = &test;
            scope.spawn(move || test(case));
        }
    });
}

fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A pipe that is full, and how many bytes that is.
fn full_pipe() -> (PipeReader, PipeWriter, u64) {
    let (reader, mut writer) = std::io::pipe().expect("there are descriptors");
    let mut size = 0;
    while has_room(&writer) {
        writer.write_all(&[b'.'; PAGE]).expect("there is room");
        size += PAGE as u64;
    }
    (reader, writer, size)
}

/// Whether a page can be written without waiting.
fn has_room(pipe: &PipeWriter) -> bool {
    let mut poll = [PollFd::new(pipe, PollFlags::OUT)];
    poll_now(&mut poll, Some(&Timespec::default())).expect("it can be asked") == 1
}

pub(crate) fn command(args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callosum"));
    command.args(args).env_remove("RUST_LOG").env("NO_COLOR", "1");
    // Nothing of the user who runs the tests.
    command.env("XDG_CONFIG_HOME", "/nowhere");
    for variable in
        ["CONFIG", "ENDPOINT", "CURVE_KEY", "SERVER_KEY", "SERVE_BIND", "SERVE_CURVE_KEY", "SERVE_ALLOW"]
    {
        command.env_remove(format!("CALLOSUM_{variable}"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The command with other limits: `limits` are options of the shell's `ulimit`.
pub(crate) fn limited(limits: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit {limits}; exec \"$@\"")).arg("sh");
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

impl Process {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(command(args))
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary has been built");
        let stdout = lines(child.stdout.take().expect("it is piped"));
        let stderr = lines(child.stderr.take().expect("it is piped"));
        Self { child, stdout, stderr }
    }

    /// Stdout is for somebody else to read.
    pub(crate) fn spawn_unread(mut command: Command) -> (Self, ChildStdout) {
        let mut child = command.spawn().expect("the binary has been built");
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = lines(child.stderr.take().expect("it is piped"));
        (Self { child, stdout: channel().1, stderr }, stdout)
    }

    /// Stdout is a pipe that nobody reads. Returns when the process has begun to write, and not a byte more finds room.
    pub(crate) fn spawn_stuck(mut command: Command) -> (Self, PipeReader) {
        let (mut reader, writer, size) = full_pipe();
        let mut full = writer.try_clone().expect("there are descriptors");
        reader.read_exact(&mut [0; PAGE]).expect("it is full");
        let mut child = command.stdout(writer).spawn().expect("the binary has been built");
        drop(command);
        let stderr = lines(child.stderr.take().expect("it is piped"));
        wait_until("output", || !has_room(&full));
        // Other short lines would find room in the rest of the page.
        std::thread::spawn(move || while full.write_all(b".").is_ok() {});
        wait_until("a full pipe", || ioctl_fionread(&reader).expect("it can be asked") == size);
        (Self { child, stdout: channel().1, stderr }, reader)
    }

    /// Stderr is a full pipe that nobody reads.
    pub(crate) fn spawn_unheard(mut command: Command) -> (Self, PipeReader) {
        let (reader, writer, _) = full_pipe();
        let mut child = command.stderr(writer).spawn().expect("the binary has been built");
        let stdout = lines(child.stdout.take().expect("it is piped"));
        (Self { child, stdout, stderr: channel().1 }, reader)
    }

    pub(crate) fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("it is piped")
    }

    /// The next line of stdout.
    pub(crate) fn line(&self) -> String {
        self.stdout.recv_timeout(TIMEOUT).expect("a line on stdout")
    }

    /// Waits for a line on stderr.
    pub(crate) fn wait_for(&self, part: &str) {
        loop {
            let line = self.stderr.recv_timeout(TIMEOUT).unwrap_or_else(|_| panic!("no `{part}` on stderr"));
            if line.contains(part) {
                return;
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("it has an id"), signal).expect("it runs");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had so far, in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
        peak.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// How many files it may open, and how many it could.
    pub(crate) fn open_files(&self) -> [u64; 2] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).expect("it runs");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("Linux tells");
        let mut numbers = line.split_whitespace().map(|number| number.parse().expect("a number"));
        [(); 2].map(|()| numbers.next().expect("there are two"))
    }

    fn status(&mut self) -> ExitStatus {
        let limit = Instant::now() + TIMEOUT;
        while Instant::now() < limit {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the process goes on");
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let code = self.status().code();
        Ended { code, stdout: self.stdout.iter().collect(), stderr: self.stderr.iter().collect() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn expect_stderr(self, part: &str) -> Self {
        assert!(self.stderr.join("\n").contains(part), "{self:?}");
        self
    }
}

/// A running `callosum serve`.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) endpoint: String,
    pub(crate) runtime: &'static str,
    codec: &'static str,
}

impl Server {
    /// One that serves the demonstration; `more` follows.
    pub(crate) fn demo(runtime: &'static str, codec: &'static str, more: &[&str]) -> Self {
        Self::start(runtime, codec, &[&["--demo"], more].concat())
    }

    pub(crate) fn start(runtime: &'static str, codec: &'static str, more: &[&str]) -> Self {
        Self::spawn(runtime, codec, more, Process::spawn)
    }

    /// One whose process starts like this.
    pub(crate) fn spawn(
        runtime: &'static str,
        codec: &'static str,
        more: &[&str],
        spawn: impl FnOnce(Command) -> Process,
    ) -> Self {
        let mut args = vec!["serve", "--bind", "tcp://127.0.0.1:*", "--runtime", runtime, "--codec", codec];
        args.extend(more);
        let process = spawn(command(&args));
        let endpoint = process.line().strip_prefix("listening on ").expect("it listens").to_owned();
        Self { process, endpoint, runtime, codec }
    }

    /// Starts a call; `more` follows the endpoint.
    pub(crate) fn start_call(&self, more: &[&str]) -> Process {
        self.start_call_to(&self.endpoint, more)
    }

    pub(crate) fn start_call_to(&self, endpoint: &str, more: &[&str]) -> Process {
        let mut args = vec!["call", endpoint];
        args.extend(more);
        args.extend(["--runtime", self.runtime, "--codec", self.codec]);
        Process::start(&args)
    }

    pub(crate) fn call(&self, more: &[&str]) -> Ended {
        self.start_call(more).end()
    }

    /// A call that times out once it has left. If the machine was too slow for it to leave before, again with twice the time.
    #[track_caller]
    pub(crate) fn call_until_timeout(&self, more: &[&str]) -> Ended {
        for n in 0.. {
            let timeout = format!("{}ms", 200 << n);
            let ended = self.call(&[more, &["--timeout", &timeout]].concat());
            if ended.code != Some(7) {
                return ended.expect(5);
            }
        }
        unreachable!("a loop without an end")
    }

    /// `callosum file put` and the like; `more` follows the endpoint.
    pub(crate) fn start_file(&self, name: &str, more: &[&str]) -> Process {
        self.start_file_through(&self.endpoint, name, more)
    }

    pub(crate) fn start_file_through(&self, endpoint: &str, name: &str, more: &[&str]) -> Process {
        let mut args = vec!["file", name, endpoint];
        args.extend(more);
        args.extend(["--runtime", self.runtime]);
        Process::start(&args)
    }

    pub(crate) fn file(&self, name: &str, more: &[&str]) -> Ended {
        self.start_file(name, more).end()
    }

    /// From now on, the server says which calls it handles.
    pub(crate) fn show_calls(&self) {
        self.call(&["set_output", r#"{"enabled": true}"#]).expect(0);
    }
}
