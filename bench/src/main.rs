//! The command line; see the README.

use std::{env, fs, net::SocketAddr, path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use callosum_bench::{
    load::{Case, Timing},
    peers::{Kind, Peer},
    report,
    suite::{self, CASES, Measure, Plan},
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
    /// Take less than two minutes
    #[arg(long)]
    quick: bool,
    /// Also write the rows to FILE, as a JSON array
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure only this (repeatable)
    #[arg(long = "measure", value_name = "WHAT")]
    measures: Vec<Measure>,
    /// Measure only this peer (repeatable)
    #[arg(long = "peer", value_name = "NAME")]
    peers: Vec<String>,
}

/// What this program does as a child of itself.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Serve {
        #[arg(value_parser = known_peer)]
        peer: Peer,
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
}

fn known_peer(id: &str) -> Result<Peer> {
    Peer::find(id).context("no such peer")
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.role {
        None => measure(&cli),
        Some(role) => run(role),
    }
}

fn run(role: Role) -> Result<()> {
    let (Role::Serve { peer }
    | Role::Load { peer, .. }
    | Role::Upload { peer, .. }
    | Role::Beside { peer, .. }) = &role;
    let Kind::Rust { serve, load, upload, beside } = peer.kind else {
        bail!("this peer is not part of this program");
    };
    let unfit = "this peer does no such thing";
    match role {
        Role::Serve { .. } => serve(),
        Role::Load { server, case, timing, .. } => {
            give_up_after(length_of(timing) + Duration::from_secs(30));
            print(&load.context(unfit)?(server, case, timing)?)
        }
        Role::Upload { server, length, .. } => {
            give_up_after(upload::patience(length));
            print(&upload.context(unfit)?(server, length)?)
        }
        Role::Beside { server, body_bytes, length, timing, .. } => {
            give_up_after(length_of(timing) + upload::patience(length));
            print(&beside.context(unfit)?(server, body_bytes, length, timing)?)
        }
    }
}

fn print(result: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(result)?);
    Ok(())
}

fn length_of(timing: Timing) -> Duration {
    Duration::from_millis(timing.warm_up_ms + timing.window_ms)
}

fn measure(cli: &Cli) -> Result<()> {
    let peers = suite::select(&cli.peers)?;
    let plan = if cli.quick { Plan::QUICK } else { Plan::FULL };
    let wanted = |measure| cli.measures.is_empty() || cli.measures.contains(&measure);
    let program = env::current_exe()?;
    let mut rows = Vec::new();
    if wanted(Measure::Calls) {
        let calls = suite::run(&program, &peers, CASES, plan)?;
        println!("{}", report::table(&calls));
        report::ratios(&calls).iter().for_each(|line| println!("{line}"));
        rows.extend(to_json(&calls)?);
    }
    if wanted(Measure::Beside) {
        let beside = suite::beside(&program, &peers, plan)?;
        println!("{}", report::beside_table(&beside));
        rows.extend(to_json(&beside)?);
    }
    if wanted(Measure::Upload) {
        let uploads = suite::uploads(&program, &peers, plan)?;
        println!("{}", report::upload_table(&uploads));
        report::upload_ratios(&uploads).iter().for_each(|line| println!("{line}"));
        rows.extend(to_json(&uploads)?);
    }
    if let Some(file) = &cli.json {
        let json = serde_json::to_string_pretty(&rows)?;
        fs::write(file, json + "\n").with_context(|| format!("can't write {}", file.display()))?;
    }
    Ok(())
}

fn to_json(rows: &[impl Serialize]) -> Result<Vec<serde_json::Value>> {
    Ok(rows.iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
}

/// A peer that leaves a call unanswered must not stop the whole run.
fn give_up_after(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("calls were still unanswered after {limit:?}");
        std::process::exit(1);
    });
}
