//! The processes of a tunnel's two ends.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{
    openssh,
    program::{Program, Scratch},
    rathole,
};
use crate::{
    peers::{Peer, Way},
    proc::{anonymous_kib, cpu_time, family},
    process::{ENDS_WITHIN, Launcher, Server},
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
                End::Program { program, .. } => program.id(),
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
                    ensure!(program.ends_within(ENDS_WITHIN)?, "the far end did not end");
                }
                End::Program { program, ends_by_itself: false } => drop(program),
            }
        }
        Ok(())
    }
}
