//! The command line; see the README.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Error, Result, bail, ensure};
use callosum_bench::{
    cases::{self, Case, Order},
    load::Timing,
    neighbours::{self, Host, Trouble},
    peers::{Kind, Peer, Roles},
    plots, report,
    suite::{self, Measure, Outcome, Plan},
    tunnels,
    upload::{self, Length},
};
use clap::{Parser, Subcommand};
use serde::Serialize;

/// Measures Callosum and other RPC stacks side by side
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    /// Take some five minutes on an idle machine
    #[arg(long)]
    quick: bool,
    /// Also write the rows to FILE, as a JSON array
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw the rows, as SVGs in DIR
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Measure nothing; draw the rows that --json has written to FILE
    #[arg(long, value_name = "FILE", requires = "plots")]
    from: Option<PathBuf>,
    /// Measure only this (repeatable)
    #[arg(long = "measure", value_name = "WHAT")]
    measures: Vec<Measure>,
    /// Measure only this peer (repeatable)
    #[arg(long = "peer", value_name = "NAME")]
    peers: Vec<String>,
    /// Measure only the rows of calls whose names this regular expression matches, such as `x128$`; without --measure, nothing but
    /// calls (repeatable)
    #[arg(long = "rows", value_name = "PATTERN")]
    rows: Vec<String>,
}

/// What this program does as a child of itself.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    NeighboursServe { host: Host },
    #[command(hide = true)]
    NeighboursCall {
        host: Host,
        server: SocketAddr,
        #[command(flatten)]
        timing: Timing,
    },
    #[command(hide = true)]
    NeighboursMake { host: Host, trouble: Trouble, server: SocketAddr, leaving: usize },
    #[command(hide = true)]
    Serve {
        #[arg(value_parser = known_peer)]
        peer: Peer,
        #[arg(long)]
        order: Option<Order>,
    },
    #[command(hide = true)]
    Load {
        #[arg(value_parser = known_peer)]
        peer: Peer,
        server: SocketAddr,
        #[command(flatten)]
        case: Case,
        #[command(flatten)]
        timing: Timing,
    },
    #[command(hide = true)]
    Upload {
        #[arg(value_parser = known_peer)]
        peer: Peer,
        server: SocketAddr,
        #[command(flatten)]
        length: Length,
    },
    #[command(hide = true)]
    Beside {
        #[arg(value_parser = known_peer)]
        peer: Peer,
        server: SocketAddr,
        #[arg(long)]
        body_bytes: usize,
        #[command(flatten)]
        length: Length,
        #[command(flatten)]
        timing: Timing,
    },
    #[command(hide = true)]
    Hold {
        #[arg(value_parser = known_peer)]
        peer: Peer,
        server: SocketAddr,
    },
    #[command(hide = true)]
    TunnelEnd {
        #[arg(value_parser = known_peer)]
        peer: Peer,
        target: SocketAddr,
        #[arg(long)]
        far: Option<SocketAddr>,
    },
}

fn known_peer(id: &str) -> Result<Peer> {
    Peer::find(id).context("no such peer")
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.role {
        None => match &cli.from {
            None => measure(&cli),
            Some(file) => draw(&read_rows(file)?, cli.plots.as_deref()),
        },
        Some(role) => run(role),
    }
}

fn run(role: Role) -> Result<()> {
    let unfit = "this peer does no such thing";
    match role {
        Role::NeighboursServe { host } => neighbours::serve(host),
        Role::NeighboursCall { host, server, timing } => neighbours::call(host, server, timing),
        Role::NeighboursMake { host, trouble, server, leaving } => {
            neighbours::make(host, trouble, server, leaving)
        }
        Role::TunnelEnd { peer, target, far } => match peer.kind {
            Kind::Tunnel(way) => tunnels::ends::serve(way, target, far),
            _ => bail!(unfit),
        },
        Role::Serve { peer, order: None } => (roles(peer)?.serve)(),
        Role::Serve { peer, order: Some(order) } => roles(peer)?.ordered.context(unfit)?.0(order),
        Role::Load { peer, server, case, timing } => {
            give_up_after(length_of(timing) + Duration::from_secs(30));
            print(&roles(peer)?.load_for(case).context(unfit)?(server, case, timing)?)
        }
        Role::Hold { peer, server } => roles(peer)?.hold.context(unfit)?(server),
        Role::Upload { peer, server, length } => {
            give_up_after(upload::patience(length));
            print(&roles(peer)?.upload.context(unfit)?(server, length)?)
        }
        Role::Beside { peer, server, body_bytes, length, timing } => {
            give_up_after(length_of(timing) + upload::patience(length));
            print(&roles(peer)?.beside.context(unfit)?(server, body_bytes, length, timing)?)
        }
    }
}

fn roles(peer: Peer) -> Result<Roles> {
    let Kind::Rust(roles) = peer.kind else {
        bail!("this peer is not part of this program");
    };
    Ok(roles)
}

fn print(result: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(result)?);
    Ok(())
}

fn length_of(timing: Timing) -> Duration {
    Duration::from_millis(timing.warm_up_ms + timing.window_ms)
}

fn measure(cli: &Cli) -> Result<()> {
    let begun = Instant::now();
    let peers = suite::select(&cli.peers)?;
    let measures = match (&cli.measures[..], &cli.rows[..]) {
        ([], [_, ..]) => suite::measures(&[Measure::Calls], &peers)?,
        (named, _) => suite::measures(named, &peers)?,
    };
    let (plan, cases) = if cli.quick { (Plan::QUICK, cases::QUICK) } else { (Plan::FULL, cases::ALL) };
    let cases = cases::select(&cli.rows, cases)?;
    let program = env::current_exe()?;
    let mut results = Results { json: cli.json.as_deref(), rows: Vec::new(), failures: Vec::new() };
    // If it can't be written, better now than when all was measured.
    results.write()?;
    for measure in measures {
        match measure {
            Measure::Calls => {
                let calls = results.take(suite::run(&program, &peers, &cases, plan))?;
                println!("{}", report::table(&calls));
                report::ratios(&calls).iter().for_each(|line| println!("{line}"));
                report::call_marks(&calls).iter().for_each(|line| println!("{line}"));
            }
            Measure::Beside => {
                let beside = results.take(suite::beside(&program, &peers, plan))?;
                println!("{}", report::beside_table(&beside));
                report::beside_marks(&beside).iter().for_each(|line| println!("{line}"));
            }
            Measure::Upload => {
                let uploads = results.take(suite::uploads(&program, &peers, plan))?;
                println!("{}", report::upload_table(&uploads));
                report::upload_marks(&uploads).iter().for_each(|line| println!("{line}"));
            }
            Measure::Idle => {
                let idle = results.take(suite::idle(&program, &peers, plan))?;
                println!("{}", report::idle_table(&idle));
            }
            Measure::Layers => {
                let layers = results.take(suite::layers(&program, &peers, plan))?;
                println!("{}", report::table(&layers));
                report::layer_marks(&layers).iter().for_each(|line| println!("{line}"));
            }
            Measure::Neighbours => {
                let rows = results.take(suite::neighbours(&program, &peers, plan))?;
                println!("{}", report::neighbour_table(&rows));
                report::neighbour_marks(&rows).iter().for_each(|line| println!("{line}"));
            }
            Measure::Tunnels => {
                let tunnels = results.take(suite::tunnels(&program, &peers, plan))?;
                println!("{}", report::tunnel_table(&tunnels));
                report::tunnel_marks(&tunnels).iter().for_each(|line| println!("{line}"));
            }
        }
    }
    println!("took {:.0} s", begun.elapsed().as_secs_f64());
    results.failures.iter().for_each(|failure| eprintln!("failed: {failure:#}"));
    draw(&results.rows, cli.plots.as_deref())?;
    ensure!(results.failures.is_empty(), "{} of the peers' measurements failed", results.failures.len());
    Ok(())
}

fn read_rows(file: &Path) -> Result<Vec<serde_json::Value>> {
    let json = fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    serde_json::from_str(&json).with_context(|| format!("{} is no array of rows", file.display()))
}

fn draw(rows: &[serde_json::Value], folder: Option<&Path>) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    plots::draw(rows, folder)?.iter().for_each(|file| println!("{}", file.display()));
    Ok(())
}

/// What was measured so far.
struct Results<'a> {
    json: Option<&'a Path>,
    rows: Vec<serde_json::Value>,
    failures: Vec<Error>,
}

impl Results<'_> {
    /// Adds to the file what is there now: what comes later may fail, or be interrupted.
    fn take<R: Serialize>(&mut self, outcome: Outcome<R>) -> Result<Vec<R>> {
        for row in &outcome.rows {
            self.rows.push(serde_json::to_value(row)?);
        }
        self.failures.extend(outcome.failures);
        self.write()?;
        Ok(outcome.rows)
    }

    fn write(&self) -> Result<()> {
        let Some(file) = self.json else { return Ok(()) };
        let json = serde_json::to_string_pretty(&self.rows)?;
        fs::write(file, json + "\n").with_context(|| format!("can't write {}", file.display()))
    }
}

/// A peer that leaves a call unanswered must not stop the whole run.
fn give_up_after(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("calls were still unanswered after {limit:?}");
        std::process::exit(1);
    });
}
