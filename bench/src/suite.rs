//! A whole run: every peer in every case, in rounds.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    load::{Case, Sample, Timing},
    peers::{self, Peer},
    process::{Launcher, Server},
    report::Row,
};

/// The loads that every peer carries.
pub const CASES: &[Case] = &[
    Case { in_flight: 1, body_bytes: 64 },
    Case { in_flight: 128, body_bytes: 64 },
    Case { in_flight: 32, body_bytes: 1 << 20 },
];

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often the peers take turns in each case.
    pub rounds: usize,
    /// What each turn takes.
    pub timing: Timing,
}

impl Plan {
    /// Under two minutes, with all peers.
    pub const QUICK: Self = Self { rounds: 5, timing: Timing { warm_up_ms: 200, window_ms: 500 } };
    /// For figures that are to be quoted.
    pub const FULL: Self = Self { rounds: 7, timing: Timing { warm_up_ms: 500, window_ms: 2000 } };
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

/// Measures `peers` in `cases`, with the processes that `program` (the built `callosum-bench`) makes.
///
/// The peers take turns in each round, so that a machine that is slow for a while is slow for all of them.
///
/// # Errors
/// A process that can't be started or fails, a call that fails, a body that comes back changed.
pub fn run(program: &Path, peers: &[Peer], cases: &[Case], plan: Plan) -> Result<Vec<Row>> {
    ensure!(plan.rounds > 0, "nothing to measure without a round");
    let start = |peer: &Peer| -> Result<Turn> {
        let launcher = Launcher::new(peer, program)?;
        let server = launcher.serve()?;
        Ok(Turn { peer: *peer, launcher, server })
    };
    let turns = peers
        .iter()
        .map(|peer| start(peer).with_context(|| format!("starting {}", peer.id())))
        .collect::<Result<Vec<_>>>()?;
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
    for turn in turns {
        turn.server.end().with_context(|| format!("ending {}", turn.peer.id()))?;
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
