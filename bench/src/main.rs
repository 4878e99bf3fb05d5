//! The command line; see the README.

use std::{env, fs, net::SocketAddr, path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use callosum_bench::{
    load::{Case, Timing},
    peers::{Kind, Peer},
    report,
    suite::{self, CASES, Plan},
};
use clap::{Parser, Subcommand};

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
}

fn known_peer(id: &str) -> Result<Peer> {
    Peer::find(id).context("no such peer")
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.role {
        None => measure(&cli),
        Some(Role::Serve { peer: Peer { kind: Kind::Rust { serve, .. }, .. } }) => serve(),
        Some(Role::Load { peer: Peer { kind: Kind::Rust { load, .. }, .. }, server, case, timing }) => {
            give_up_after(timing);
            let sample = load(server, case, timing)?;
            println!("{}", serde_json::to_string(&sample)?);
            Ok(())
        }
        Some(_) => bail!("this peer is not part of this program"),
    }
}

fn measure(cli: &Cli) -> Result<()> {
    let peers = suite::select(&cli.peers)?;
    let plan = if cli.quick { Plan::QUICK } else { Plan::FULL };
    let rows = suite::run(&env::current_exe()?, &peers, CASES, plan)?;
    println!("{}", report::table(&rows));
    for line in report::ratios(&rows) {
        println!("{line}");
    }
    if let Some(file) = &cli.json {
        let json = serde_json::to_string_pretty(&rows)?;
        fs::write(file, json + "\n").with_context(|| format!("can't write {}", file.display()))?;
    }
    Ok(())
}

/// A peer that leaves a call unanswered must not stop the whole run.
fn give_up_after(timing: Timing) {
    let limit = Duration::from_millis(timing.warm_up_ms + timing.window_ms) + Duration::from_secs(30);
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("calls were still unanswered after {limit:?}");
        std::process::exit(1);
    });
}
