//! Connections that do nothing: what memory each costs the server, right after its handshake and after calls, and what CPU time
//! the handshake takes.
//!
//! The client [holds](crate::hold) connections, and makes calls on them, by commands. In between, the process that started
//! it looks at the server in `/proc`. It compares with a server that has one connection already, which has paid for everything that is needed only once.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    hold::Command,
    load::Sample,
    process::{Holder, Launcher, Server},
};

/// Calls that each connection makes before it is idle, one after the other.
pub const CALLS: usize = 3;

/// A server has settled once it takes less CPU time than that in one [`SLICE`].
const SETTLED: Duration = Duration::from_millis(1);
const SLICE: Duration = Duration::from_millis(100);
/// A server that has not settled after so many of them never will.
const SLICES: usize = 100;

/// What is measured of idle connections.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Connections that are opened and make no calls.
    pub connections: usize,
    /// Connections that make calls before they are idle.
    pub used_connections: usize,
    /// How long those are idle until the server's memory is looked at.
    pub idle: Duration,
    /// How often the peers take turns.
    pub rounds: usize,
}

/// What one server showed.
#[derive(Debug, Default)]
pub struct Round {
    /// Anonymous memory for each connection, in KiB.
    pub kib: f64,
    /// CPU time for each connection that was accepted, in microseconds.
    pub handshake_us: f64,
    /// Anonymous memory for each connection that has made calls and then was idle, in KiB.
    pub used_kib: f64,
    /// The calls.
    pub calls: Sample,
}

/// A server and a client that has one connection to it.
#[derive(Debug)]
struct Pair {
    server: Server,
    holder: Holder,
    /// The server's anonymous memory, with the first connection.
    kib: u64,
}

impl Pair {
    fn start(launcher: &Launcher) -> Result<Self> {
        let server = launcher.serve(None)?;
        let mut holder = launcher.hold(&server)?;
        holder.tell(Command::Open(1))?;
        settle(|| server.cpu_time())?;
        let kib = server.anonymous_kib()?;
        Ok(Self { server, holder, kib })
    }

    /// By how many KiB the server has grown, for each of so many connections.
    fn growth(&self, connections: usize) -> Result<f64> {
        Ok((self.server.anonymous_kib()? as f64 - self.kib as f64) / connections as f64)
    }

    fn end(self) -> Result<()> {
        self.holder.end()?;
        self.server.end()
    }
}

/// Waits until a server has done what there is to do: a client may be connected before it was accepted. Returns its CPU time.
pub(crate) fn settle(cpu_time: impl Fn() -> Result<Duration>) -> Result<Duration> {
    let mut before = cpu_time()?;
    for _ in 0..SLICES {
        thread::sleep(SLICE);
        let now = cpu_time()?;
        if now.saturating_sub(before) < SETTLED {
            return Ok(now);
        }
        before = now;
    }
    anyhow::bail!("the server did not come to rest")
}

/// What connections that make no calls cost: memory and CPU time.
///
/// # Errors
/// A process can't be started or fails, or a connection does.
pub fn unused(launcher: &Launcher, connections: usize) -> Result<Round> {
    let mut pair = Pair::start(launcher)?;
    let before = pair.server.cpu_time()?;
    pair.holder.tell(Command::Open(connections))?;
    let cpu = settle(|| pair.server.cpu_time())?.saturating_sub(before);
    let kib = pair.growth(connections)?;
    pair.end()?;
    let handshake_us = cpu.as_secs_f64() * 1e6 / connections as f64;
    Ok(Round { kib, handshake_us, ..Round::default() })
}

/// Connections that have made calls, and a while later nothing more.
#[derive(Debug)]
pub struct Used {
    pair: Pair,
    connections: usize,
    calls: Sample,
}

impl Used {
    /// Opens the connections and makes the calls.
    ///
    /// # Errors
    /// As [`unused`]; a body comes back changed.
    pub fn start(launcher: &Launcher, connections: usize) -> Result<Self> {
        let mut pair = Pair::start(launcher)?;
        pair.holder.tell(Command::Open(connections))?;
        let calls = pair.holder.tell(Command::Call(CALLS))?;
        ensure!(calls.calls() as usize == connections * CALLS, "{} calls were made", calls.calls());
        Ok(Self { pair, connections, calls })
    }

    /// The server's memory for each connection, in KiB, and the calls that were made.
    ///
    /// # Errors
    /// As [`unused`].
    pub fn end(self) -> Result<(f64, Sample)> {
        let kib = self.pair.growth(self.connections)?;
        self.pair.end()?;
        Ok((kib, self.calls))
    }
}
