//! Tunnels of TCP connections: what one costs beside what else carries connections over two hops.
//!
//! The near end accepts and the far end connects, each a process of its own, and all the connections between them that are measured
//! share whatever the two have between them. Both what connects and what is connected to are in this process, so that bytes are counted
//! where they arrive:
//!
//! ```text
//! load ──► near end ══► far end ──► target
//! ```
//!
//! [`ends`] is what the ends do that this program has itself, [`start`] starts the processes, and [`measure`] and [`target`] are the two
//! sides of a measurement.

pub mod ends;
mod measure;
mod openssh;
mod program;
mod rathole;
mod start;
mod target;

use std::path::Path;

use anyhow::{Context as _, Result};

use self::{measure::Bench, start::Ends};
use crate::{
    load::{Sample, Timing},
    peers::Peer,
};

/// Connections that carry bytes at the same time, where there are several.
pub const SEVERAL: usize = 16;

/// Length of what is sent and comes back.
pub const ECHO_BYTES: usize = 64;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Tunnels {
    /// Connections that do nothing.
    pub idle: usize,
    /// How often the ways take turns, each time with new processes.
    pub rounds: usize,
}

/// What one tunnel showed.
#[derive(Debug)]
pub struct Shown {
    /// Memory of both ends for a connection that does nothing, in KiB.
    pub idle_kib: f64,
    /// Connections that are opened, carry a byte each way, and end: several at a time.
    pub opened: Sample,
    /// Echoes on a connection that is alone.
    pub alone: Sample,
    /// Echoes while another connection is not read, and a third uploads.
    pub beside: Sample,
    /// To the target on one connection and on several, then from it.
    pub carried: [Carried; 4],
}

/// What was carried in a window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carried {
    /// MiB/s that arrived.
    pub mib_per_s: f64,
    /// Seconds of CPU time that both ends took for each GiB: what limits the rate where they share the cores with all else, and what
    /// other programs on the machine change least.
    pub cpu_s_per_gib: f64,
}

/// Starts the ends of a tunnel, each with so many `workers` if its runtime is one of Rust's, and measures it.
///
/// # Errors
/// `peer` is no tunnel; a process can't be started or fails, or a connection does.
pub fn show(program: &Path, peer: &Peer, workers: usize, timing: Timing, tunnels: Tunnels) -> Result<Shown> {
    let way = peer.tunnel().context("it carries no connections")?;
    let bench = Bench::new()?;
    let ends = Ends::start(program, peer, way, workers, bench.target())?;
    // First: memory that was allocated before would be used again.
    let idle_kib = bench.idle_kib(&ends, tunnels.idle)?;
    let opened = bench.opened(ends.near(), timing)?;
    let alone = bench.echoes(ends.near(), timing)?;
    let mut carried = [Carried::default(); 4];
    for (at, (to_target, connections)) in
        [(true, 1), (true, SEVERAL), (false, 1), (false, SEVERAL)].into_iter().enumerate()
    {
        carried[at] = bench.carried(&ends, to_target, connections, timing)?;
    }
    let beside = bench.echoes_beside(ends.near(), timing)?;
    drop(bench);
    ends.end()?;
    Ok(Shown { idle_kib, opened, alone, beside, carried })
}
