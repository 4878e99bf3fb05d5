//! A whole run: every peer in every case, in rounds.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Error, Result, bail, ensure};
use clap::ValueEnum;

use crate::{
    cases::{self, Case, Order},
    idle::{self, Idle, Round, Used},
    load::{Sample, Timing},
    neighbours::{self, Host, Neighbours},
    peers::{self, Peer},
    process::{Launcher, Server},
    report::{BesideRow, IdleRow, NeighbourRow, Row, TunnelRow, UploadRow},
    tunnels::{self, Tunnels},
    upload::Length,
};

/// Worker threads of a runtime, on each side, for calls and for uploads.
pub const WORKERS: usize = 2;

/// Length of the calls beside an upload.
pub const BESIDE_BYTES: usize = 64;

/// Worker threads of a runtime, on each side, for calls beside an upload, which are measured with either number.
///
/// On two cores, one on each side leaves a core to each; with two, calls wait for the kernel to share the cores out.
pub const BESIDE_WORKERS: [usize; 2] = [1, 2];

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Calls of several sizes
    Calls,
    /// Small calls beside an upload on the same connection, and over plain TCP on another
    Beside,
    /// Uploads, and the memory that they take
    Upload,
    /// What connections cost the server that do nothing
    Idle,
    /// Connections through tunnels
    Tunnels,
    /// Small calls through the layers above: typed services and others
    Layers,
    /// Small calls of one peer while others do to the server what must not concern it
    Neighbours,
}

impl Measure {
    /// Whether it can be measured of a peer.
    pub fn fits(self, peer: &Peer) -> bool {
        match self {
            Self::Calls => peer.makes_calls(),
            Self::Beside => peer.makes_both(),
            Self::Upload => peer.makes_uploads(),
            Self::Idle => peer.holds_connections(),
            Self::Tunnels => peer.tunnel().is_some(),
            Self::Layers => peer.is_layer(),
            Self::Neighbours => Host::of(peer).is_some(),
        }
    }
}

/// What is to be measured: `named`, or all if there is none.
///
/// # Errors
/// One that is named can be measured of none of `peers`.
pub fn measures(named: &[Measure], peers: &[Peer]) -> Result<Vec<Measure>> {
    let fits = |measure: &Measure| peers.iter().any(|peer| measure.fits(peer));
    for measure in named {
        ensure!(fits(measure), "none of these peers can be measured so: {measure:?}");
    }
    Ok(Measure::value_variants()
        .iter()
        .copied()
        .filter(|measure| if named.is_empty() { fits(measure) } else { named.contains(measure) })
        .collect())
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
    /// The uploads by themselves, and in how many rounds: ordinary ones, and one that is so long that memory could grow.
    pub uploads: [(Length, usize); 2],
    /// Connections that do nothing.
    pub idle: Idle,
    /// Connections through tunnels.
    pub tunnels: Tunnels,
    /// What other peers do.
    pub neighbours: Neighbours,
}

const fn mib(mib: u64) -> Length {
    Length { upload_bytes: mib << 20 }
}

impl Plan {
    /// For a look.
    pub const QUICK: Self = Self {
        rounds: 3,
        timing: Timing { warm_up_ms: 100, window_ms: 400 },
        beside: mib(256),
        uploads: [(mib(256), 2), (mib(512), 1)],
        idle: Idle { connections: 200, used_connections: 64, idle: Duration::from_secs(3), rounds: 3 },
        tunnels: Tunnels { idle: 100, rounds: 3 },
        neighbours: Neighbours { leaving: 2_000, rounds: 3 },
    };
    /// For figures that are to be quoted.
    pub const FULL: Self = Self {
        rounds: 7,
        timing: Timing { warm_up_ms: 500, window_ms: 2000 },
        beside: mib(1024),
        uploads: [(mib(1024), 7), (mib(4096), 3)],
        idle: Idle { connections: 1_000, used_connections: 64, idle: Duration::from_secs(30), rounds: 3 },
        tunnels: Tunnels { idle: 400, rounds: 7 },
        neighbours: Neighbours { leaving: 8_000, rounds: 5 },
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

/// What a measurement of several peers gave.
#[derive(Debug)]
pub struct Outcome<R> {
    /// A row for each peer and case.
    pub rows: Vec<R>,
    /// Why some are missing: a peer that fails is left out from then on, and the others go on.
    pub failures: Vec<Error>,
}

/// Those of `peers` for which `each` succeeds go on.
fn keep<T>(peers: &mut Vec<T>, failures: &mut Vec<Error>, mut each: impl FnMut(&mut T) -> Result<()>) {
    peers.retain_mut(|peer| each(peer).map_err(|error| failures.push(error)).is_ok());
}

/// A peer with a server that stays, and what it has shown in the rounds so far.
struct Turn<S> {
    peer: Peer,
    workers: usize,
    launcher: Launcher,
    server: Server,
    taken: Vec<S>,
}

fn start(peer: &Peer, workers: usize, program: &Path) -> Result<(Launcher, Server)> {
    let begin = || -> Result<_> {
        let launcher = Launcher::new(peer, workers, program)?;
        let server = launcher.serve(None)?;
        Ok((launcher, server))
    };
    begin().with_context(|| format!("starting {}", peer.id()))
}

/// Every peer that fits takes part once with each number of `workers`.
fn start_all<S>(
    program: &Path,
    peers: &[Peer],
    measure: Measure,
    workers: &[usize],
    failures: &mut Vec<Error>,
) -> Vec<Turn<S>> {
    let mut turns = Vec::new();
    for &workers in workers {
        for &peer in peers.iter().filter(|peer| measure.fits(peer)) {
            match start(&peer, workers, program) {
                Ok((launcher, server)) => {
                    turns.push(Turn { peer, workers, launcher, server, taken: Vec::new() });
                }
                Err(error) => failures.push(error),
            }
        }
    }
    turns
}

fn end_all<S>(turns: Vec<Turn<S>>, failures: &mut Vec<Error>) {
    for turn in turns {
        let ended = turn.server.end().with_context(|| format!("ending {}", turn.peer.id()));
        failures.extend(ended.err());
    }
}

/// What a peer has shown so far in a case.
struct Taken {
    case: Case,
    /// Which of the turns.
    turn: usize,
    samples: Vec<Sample>,
}

/// Measures those of `peers` that make calls in `cases`, with the processes that `program` (the built `callosum-bench`)
/// makes.
///
/// Cases with the same body are measured together: each round runs each case, and each case runs each peer, so that a
/// slow phase of the machine affects all of them. A peer has no row in a case in which it fails: a process can't be
/// started or fails, a call fails, or a body comes back changed.
pub fn run(program: &Path, peers: &[Peer], cases: &[Case], plan: Plan) -> Outcome<Row> {
    in_rounds(program, peers, Measure::Calls, cases, plan)
}

/// Measures the layers among `peers`, and what they are compared with, as [`run`] does.
pub fn layers(program: &Path, peers: &[Peer], plan: Plan) -> Outcome<Row> {
    let mut outcome = in_rounds(program, peers, Measure::Layers, cases::LAYERS, plan);
    outcome.rows.iter_mut().for_each(Row::of_a_layer);
    outcome
}

fn in_rounds(program: &Path, peers: &[Peer], measure: Measure, cases: &[Case], plan: Plan) -> Outcome<Row> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    let mut turns = start_all(program, peers, measure, &[WORKERS], &mut failures);
    // Servers that order calls in another way than by default.
    let mut ordered = HashMap::new();
    for cases in cases.chunk_by(|a, b| a.body_bytes == b.body_bytes) {
        let carry = |case: Case| {
            let turns = turns.iter().enumerate().filter(move |(_, turn)| turn.peer.carries(case));
            turns.map(move |(turn, _)| Taken { case, turn, samples: Vec::new() })
        };
        let mut all: Vec<_> = cases.iter().flat_map(|&case| carry(case)).collect();
        for _ in 0..plan.rounds {
            keep(&mut all, &mut failures, |Taken { case, turn, samples }| {
                let peer = turns[*turn].peer;
                let sample = load(&mut turns[*turn], &mut ordered, *turn, *case, plan.timing);
                samples.push(sample.with_context(|| format!("{} with {case}", peer.id()))?);
                Ok(())
            });
        }
        keep(&mut all, &mut failures, |taken| {
            rows.push(Row::new(&turns[taken.turn].peer, taken.case, &taken.samples)?);
            Ok(())
        });
    }
    for ((turn, _), server) in ordered {
        let ended: Result<()> = server.end();
        failures.extend(ended.with_context(|| format!("ending {}", turns[turn].peer.id())).err());
    }
    end_all(turns, &mut failures);
    Outcome { rows, failures }
}

fn load(
    turn: &mut Turn<Sample>,
    ordered: &mut HashMap<(usize, Order), Server>,
    number: usize,
    case: Case,
    timing: Timing,
) -> Result<Sample> {
    let timing = timing.stretched(case.stretch());
    let Some(order) = case.order else {
        return turn.launcher.load(&turn.server, case, timing);
    };
    let server = match ordered.entry((number, order)) {
        Entry::Occupied(server) => server.into_mut(),
        Entry::Vacant(place) => place.insert(turn.launcher.serve(Some(order))?),
    };
    turn.launcher.load(server, case, timing)
}

/// Measures small calls of those of `peers` that can make them beside an upload on the same connection, as [`run`] does, with
/// each of [`BESIDE_WORKERS`]: all peers with the first have their rows before those with the second.
pub fn beside(program: &Path, peers: &[Peer], plan: Plan) -> Outcome<BesideRow> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    let mut turns = start_all(program, peers, Measure::Beside, &BESIDE_WORKERS, &mut failures);
    for _ in 0..plan.rounds {
        keep(&mut turns, &mut failures, |Turn { peer, workers, launcher, server, taken }| {
            let context = || format!("{} beside an upload (workers a side: {workers})", peer.id());
            let both = launcher.beside(server, BESIDE_BYTES, plan.beside, plan.timing);
            taken.push(both.with_context(context)?);
            Ok(())
        });
    }
    keep(&mut turns, &mut failures, |turn| {
        rows.push(BesideRow::new(&turn.peer, BESIDE_BYTES, plan.beside, &turn.taken)?);
        Ok(())
    });
    end_all(turns, &mut failures);
    Outcome { rows, failures }
}

/// Measures uploads of those of `peers` that make them, as [`run`] does. Each has a server of its own, whose memory tells
/// of it alone.
pub fn uploads(program: &Path, peers: &[Peer], plan: Plan) -> Outcome<UploadRow> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    let peers = peers.iter().filter(|peer| Measure::Upload.fits(peer));
    let mut turns: Vec<(&Peer, Vec<_>)> = peers.map(|peer| (peer, Vec::new())).collect();
    for (length, rounds) in plan.uploads {
        for _ in 0..rounds {
            keep(&mut turns, &mut failures, |(peer, taken)| {
                let (launcher, server) = start(peer, WORKERS, program)?;
                let context = || format!("{} with an upload of {} bytes", peer.id(), length.upload_bytes);
                let upload = launcher.upload(&server, length).with_context(context)?;
                taken.push((upload, server.peak_kib()?));
                server.end().with_context(context)
            });
        }
        keep(&mut turns, &mut failures, |(peer, taken)| {
            rows.push(UploadRow::new(peer, length, taken)?);
            taken.clear();
            Ok(())
        });
    }
    Outcome { rows, failures }
}

/// Measures what idle connections cost the servers of those of `peers` that can hold them. Each measurement has a server of its
/// own. The peers whose connections have made calls are idle at the same time, since none then does anything.
pub fn idle(program: &Path, peers: &[Peer], plan: Plan) -> Outcome<IdleRow> {
    let Idle { connections, used_connections, idle, rounds } = plan.idle;
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    let peers = peers.iter().filter(|peer| Measure::Idle.fits(peer));
    let mut turns: Vec<(&Peer, Vec<Round>, Option<Used>)> =
        peers.map(|peer| (peer, Vec::new(), None)).collect();
    for _ in 0..rounds {
        keep(&mut turns, &mut failures, |(peer, taken, used)| {
            let context = || format!("{} with idle connections", peer.id());
            let launcher = Launcher::new(peer, WORKERS, program).with_context(context)?;
            taken.push(idle::unused(&launcher, connections).with_context(context)?);
            *used = Some(Used::start(&launcher, used_connections).with_context(context)?);
            Ok(())
        });
        thread::sleep(idle);
        keep(&mut turns, &mut failures, |(peer, taken, used)| {
            let context = || format!("{} with connections that were used", peer.id());
            let (round, used) = taken.last_mut().zip(used.take()).with_context(context)?;
            (round.used_kib, round.calls) = used.end().with_context(context)?;
            Ok(())
        });
    }
    keep(&mut turns, &mut failures, |(peer, taken, _)| {
        rows.push(IdleRow::new(peer, plan.idle, taken)?);
        Ok(())
    });
    Outcome { rows, failures }
}

/// Measures those of `peers` that are tunnels, as [`run`] does. Each measurement has processes of its own.
pub fn tunnels(program: &Path, peers: &[Peer], plan: Plan) -> Outcome<TunnelRow> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    let peers = peers.iter().filter(|peer| Measure::Tunnels.fits(peer));
    let mut turns: Vec<(&Peer, Vec<_>)> = peers.map(|peer| (peer, Vec::new())).collect();
    for _ in 0..plan.tunnels.rounds {
        keep(&mut turns, &mut failures, |(peer, taken)| {
            let shown = tunnels::show(program, peer, WORKERS, plan.timing, plan.tunnels);
            taken.push(shown.with_context(|| format!("a tunnel of {}", peer.id()))?);
            Ok(())
        });
    }
    keep(&mut turns, &mut failures, |(peer, taken)| {
        rows.push(TunnelRow::new(peer, plan.tunnels, taken)?);
        Ok(())
    });
    Outcome { rows, failures }
}

/// Measures calls of those of `peers` that have neighbours beside each of their [troubles](Host::troubles), as [`run`] does. Each
/// measurement has processes of its own.
pub fn neighbours(program: &Path, peers: &[Peer], plan: Plan) -> Outcome<NeighbourRow> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    let hosts = peers.iter().filter_map(Host::of);
    let troubles = hosts.flat_map(|host| host.troubles().iter().map(move |trouble| (host, *trouble)));
    let mut turns: Vec<_> = troubles.map(|(host, trouble)| (host, trouble, Vec::new())).collect();
    for _ in 0..plan.neighbours.rounds {
        keep(&mut turns, &mut failures, |(host, trouble, taken)| {
            let shown = neighbours::show(program, *host, *trouble, plan.neighbours, plan.timing);
            let context = || format!("calls of {} beside {}", host.name(), trouble.name());
            taken.push(shown.with_context(context)?);
            Ok(())
        });
    }
    keep(&mut turns, &mut failures, |(host, trouble, taken)| {
        rows.push(NeighbourRow::new(*host, *trouble, taken)?);
        Ok(())
    });
    Outcome { rows, failures }
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

    #[test]
    fn what_none_of_the_peers_can_show_is_an_error_if_it_was_named() {
        let floor = select(&["raw-tcp".to_owned()]).unwrap();
        assert_eq!(measures(&[], &floor).unwrap(), [Measure::Calls, Measure::Idle, Measure::Neighbours]);
        let typed = select(&["callosum-typed".to_owned()]).unwrap();
        assert_eq!(measures(&[], &typed).unwrap(), [Measure::Layers]);
        assert_eq!(measures(&[Measure::Calls], &floor).unwrap(), [Measure::Calls]);
        for named in [&[Measure::Beside][..], &[Measure::Calls, Measure::Upload]] {
            assert!(measures(named, &floor).is_err(), "{named:?}");
        }
        let all = Measure::value_variants();
        assert_eq!(measures(&[], peers::ALL).unwrap(), all);
        assert_eq!(measures(&[Measure::Upload, Measure::Calls], peers::ALL).unwrap(), [all[0], all[2]]);
    }
}
