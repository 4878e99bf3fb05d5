//! The processes of a tunnel's two ends.

use std::{
    env,
    fs::DirBuilder,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{openssh, rathole};
use crate::{
    peers::{Peer, Way},
    proc::{anonymous_kib, cpu_time, family},
    process::{ENDS_WITHIN, Launcher, Server, kill, wait},
};

/// The ends of a tunnel, in processes of their own; dropping this ends them.
pub(super) struct Ends {
    near: SocketAddr,
    /// The near end first.
    processes: Vec<End>,
    _scratch: Option<Scratch>,
}

/// A process at one end.
pub(super) enum End {
    /// Ends when its stdin does.
    Server(Server),
    /// Ends when the other has, or has to be killed.
    Program { program: Program, ends_by_itself: bool },
}

/// A program of others; dropping this kills it.
#[derive(Debug)]
pub(super) struct Program(Child);

impl Ends {
    /// Starts both, and waits until the near end accepts.
    pub(super) fn start(
        program: &Path,
        peer: &Peer,
        way: Way,
        workers: usize,
        target: SocketAddr,
    ) -> Result<Self> {
        match way {
            Way::Relay | Way::Callosum { .. } => {
                let launcher = Launcher::new(peer, workers, program)?;
                let far = launcher.tunnel_end(target, None)?;
                let near = launcher.tunnel_end(target, Some(far.address()))?;
                let processes = vec![End::Server(near), End::Server(far)];
                Self::new(processes, None)
            }
            Way::OpenSsh => {
                let scratch = Scratch::new()?;
                let (near, far) = openssh::start(&scratch, target)?;
                let far = End::Program { program: far, ends_by_itself: true };
                Self::new(vec![End::Server(near), far], Some(scratch))
            }
            Way::Rathole { noise } => {
                let scratch = Scratch::new()?;
                let (near, programs) = rathole::start(&scratch, noise, workers, target)?;
                let end = |program| End::Program { program, ends_by_itself: false };
                Ok(Self { near, processes: programs.map(end).into(), _scratch: Some(scratch) })
            }
        }
    }

    fn new(processes: Vec<End>, scratch: Option<Scratch>) -> Result<Self> {
        let near = processes.iter().find_map(|end| match end {
            End::Server(server) => Some(server.address()),
            End::Program { .. } => None,
        });
        Ok(Self { near: near.context("no end accepts")?, processes, _scratch: scratch })
    }

    /// Where connections are accepted.
    pub(super) fn near(&self) -> SocketAddr {
        self.near
    }

    /// Memory of all of them, and of what they have started, that no file backs.
    pub(super) fn anonymous_kib(&self) -> Result<u64> {
        self.each(anonymous_kib)
    }

    /// CPU time of all of them, and of what they have started.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        self.each(cpu_time)
    }

    fn each<T: std::iter::Sum>(&self, look: impl Fn(&str) -> Result<T>) -> Result<T> {
        let mut looks = Vec::new();
        for end in &self.processes {
            let process = match end {
                End::Server(server) => server.id(),
                End::Program { program, .. } => program.0.id(),
            };
            for process in family(process)? {
                looks.push(look(&process.to_string())?);
            }
        }
        Ok(looks.into_iter().sum())
    }

    /// Ends them, the near end first.
    pub(super) fn end(self) -> Result<()> {
        for end in self.processes {
            match end {
                End::Server(server) => server.end()?,
                End::Program { mut program, ends_by_itself: true } => {
                    ensure!(wait(&mut program.0, ENDS_WITHIN)?.is_some(), "the far end did not end");
                }
                End::Program { program, ends_by_itself: false } => drop(program),
            }
        }
        Ok(())
    }
}

impl Program {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("can't start {:?}", command.get_program()))?;
        Ok(Self(child))
    }

    pub(super) fn ensure_runs(&mut self) -> Result<()> {
        let status = self.0.try_wait()?;
        ensure!(status.is_none(), "it ended with {status:?}");
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

/// Where a program is; `install` is the command that installs it.
pub(super) fn find(name: &str, install: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian's daemons are in /usr/sbin, which not every user looks at.
    let mut directories = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = directories.find_map(|directory| Some(directory.join(name)).filter(|path| path.is_file()));
    found.with_context(|| format!("{name} is not installed: {install}"))
}

/// A port that is free now: for programs that say to nobody which one the system has chosen.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A directory for keys and settings, which only its owner sees, and which is removed in the end.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("callosum-bench-{}-{number}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
