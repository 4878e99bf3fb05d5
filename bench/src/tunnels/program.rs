//! Programs of others: where they are, and what they need to run.

use std::{
    env,
    fs::DirBuilder,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    process::{Child, Command},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::process::{kill, wait};

/// A program of others; dropping this kills it.
#[derive(Debug)]
pub(super) struct Program(Child);

impl Program {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("can't start {:?}", command.get_program()))?;
        Ok(Self(child))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it ends by itself in so long.
    pub(super) fn ends_within(&mut self, limit: Duration) -> Result<bool> {
        Ok(wait(&mut self.0, limit)?.is_some())
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

/// A port that is free now: for programs that don't report which port the system chose.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A directory for keys and settings, which only its owner sees, and which is removed in the end.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self> {
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
