//! A whole run: every peer in every case, in rounds.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use crate::{
    load::{Case, Sample, Timing},
    peers::{self, Peer},
    process::{Launcher, Server},
    report::{BesideRow, Row, UploadRow},
    upload::Length,
};

/// The loads that every peer carries.
pub const CASES: &[Case] = &[
    Case { in_flight: 1, body_bytes: 64 },
    Case { in_flight: 128, body_bytes: 64 },
    Case { in_flight: 32, body_bytes: 1 << 20 },
];

/// Length of the calls beside an upload.
pub const BESIDE_BYTES: usize = 64;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Calls of several sizes
    Calls,
    /// Small calls beside an upload on the same connection
    Beside,
    /// Uploads, and the memory that they take
    Upload,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often the peers take turns in each case.
    pub rounds: usize,
    /// What each turn takes.
    pub timing: Timing,
    /// The upload beside which calls are made.
    pub beside: Length,
    /// The uploads by themselves: each in all rounds but the last, which is so long that memory could grow, in one.
    pub uploads: [Length; 2],
}

const fn mib(mib: u64) -> Length {
    Length { upload_bytes: mib << 20 }
}

impl Plan {
    /// Under two minutes, with all peers.
    pub const QUICK: Self = Self {
        rounds: 3,
        timing: Timing { warm_up_ms: 150, window_ms: 400 },
        beside: mib(256),
        uploads: [mib(256), mib(1024)],
    };
    /// For figures that are to be quoted.
    pub const FULL: Self = Self {
        rounds: 7,
        timing: Timing { warm_up_ms: 500, window_ms: 2000 },
        beside: mib(1024),
        uploads: [mib(1024), mib(4096)],
    };
}

/// The peers of these names, or all if there is none.
///
/// # Errors
/// No peer has one of the names.
pub fn select(names: &[String]) -> Result<Vec<Peer>> {
    if let Some(unknown) = names.iter().find(|name| !peers::ALL.iter().any(|peer| peer.name == **name)) {
        let mut known: Vec<_> = peers::ALL.iter().map(|peer| peer.name).collect();
        known.dedup();
        bail!("there is no peer {unknown:?}; there are {}", known.join(", "));
    }
    let selected = |peer: &&Peer| names.is_empty() || names.iter().any(|name| name == peer.name);
    Ok(peers::ALL.iter().filter(selected).copied().collect())
}

struct Turn {
    peer: Peer,
    launcher: Launcher,
    server: Server,
}

impl Turn {
    fn take(&self, case: Case, timing: Timing) -> Result<Sample> {
        let Case { in_flight, body_bytes } = case;
        let context = || format!("{} with {in_flight} calls of {body_bytes} bytes in flight", self.peer.id());
        self.launcher.load(&self.server, case, timing).with_context(context)
    }
}

fn start(peer: &Peer, program: &Path) -> Result<Turn> {
    let begin = || -> Result<Turn> {
        let launcher = Launcher::new(peer, program)?;
        let server = launcher.serve()?;
        Ok(Turn { peer: *peer, launcher, server })
    };
    begin().with_context(|| format!("starting {}", peer.id()))
}

fn start_all(program: &Path, peers: &[Peer], fit: impl Fn(&Peer) -> bool) -> Result<Vec<Turn>> {
    peers.iter().filter(|peer| fit(peer)).map(|peer| start(peer, program)).collect()
}

fn end_all(turns: Vec<Turn>) -> Result<()> {
    turns
        .into_iter()
        .try_for_each(|turn| turn.server.end().with_context(|| format!("ending {}", turn.peer.id())))
}

/// Measures those of `peers` that make calls in `cases`, with the processes that `program` (the built `callosum-bench`)
/// makes.
///
/// The peers take turns in each round, so that a machine that is slow for a while is slow for all of them.
///
/// # Errors
/// A process that can't be started or fails, a call that fails, a body that comes back changed.
pub fn run(program: &Path, peers: &[Peer], cases: &[Case], plan: Plan) -> Result<Vec<Row>> {
    ensure!(plan.rounds > 0, "nothing to measure without a round");
    let turns = start_all(program, peers, Peer::makes_calls)?;
    let mut rows = Vec::new();
    for &case in cases {
        let mut samples: Vec<Vec<Sample>> = turns.iter().map(|_| Vec::new()).collect();
        for _ in 0..plan.rounds {
            for (turn, samples) in turns.iter().zip(&mut samples) {
                samples.push(turn.take(case, plan.timing)?);
            }
        }
        for (turn, samples) in turns.iter().zip(&samples) {
            rows.push(Row::new(&turn.peer, case, samples)?);
        }
    }
    end_all(turns)?;
    Ok(rows)
}

/// Measures small calls of those of `peers` that can make them beside an upload on the same connection.
///
/// # Errors
/// As [`run`].
pub fn beside(program: &Path, peers: &[Peer], plan: Plan) -> Result<Vec<BesideRow>> {
    ensure!(plan.rounds > 0, "nothing to measure without a round");
    let turns = start_all(program, peers, Peer::makes_both)?;
    let mut rounds: Vec<Vec<_>> = turns.iter().map(|_| Vec::new()).collect();
    for _ in 0..plan.rounds {
        for (turn, rounds) in turns.iter().zip(&mut rounds) {
            let context = || format!("{} beside an upload", turn.peer.id());
            let both = turn.launcher.beside(&turn.server, BESIDE_BYTES, plan.beside, plan.timing);
            rounds.push(both.with_context(context)?);
        }
    }
    let rows = turns.iter().zip(&rounds);
    let rows =
        rows.map(|(turn, rounds)| BesideRow::new(&turn.peer, BESIDE_BYTES, plan.beside, rounds)).collect();
    end_all(turns)?;
    rows
}

/// Measures uploads of those of `peers` that make them. Each has a server of its own, whose memory tells of it alone.
///
/// # Errors
/// As [`run`].
pub fn uploads(program: &Path, peers: &[Peer], plan: Plan) -> Result<Vec<UploadRow>> {
    ensure!(plan.rounds > 0, "nothing to measure without a round");
    let peers: Vec<_> = peers.iter().filter(|peer| peer.makes_uploads()).collect();
    let mut rows = Vec::new();
    for (length, rounds) in plan.uploads.into_iter().zip([plan.rounds, 1]) {
        let mut taken: Vec<Vec<_>> = peers.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (peer, taken) in peers.iter().zip(&mut taken) {
                let Turn { launcher, server, .. } = start(peer, program)?;
                let context = || format!("{} with an upload of {} bytes", peer.id(), length.upload_bytes);
                let upload = launcher.upload(&server, length).with_context(context)?;
                taken.push((upload, server.peak_kib()?));
                server.end().with_context(context)?;
            }
        }
        for (peer, taken) in peers.iter().zip(&taken) {
            rows.push(UploadRow::new(peer, length, taken)?);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_by_name() {
        assert_eq!(select(&[]).unwrap().len(), peers::ALL.len());
        let both = select(&["tonic".to_owned(), "raw-tcp".to_owned()]).unwrap();
        assert_eq!(both.iter().map(|peer| peer.name).collect::<Vec<_>>(), ["raw-tcp", "tonic"]);
        let error = select(&["smoke-signals".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("smoke-signals") && error.contains("tarpc"), "{error}");
    }
}
