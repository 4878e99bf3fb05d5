//! What a round trip costs in the engine alone: allocations, and nanoseconds of CPU time; and how the instructions of its paths
//! compare with those in the repository.

use std::alloc::System;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use callosum_bench_engine::counts::Counts;
use callosum_bench_engine::pair::{Pair, Speaks};
use clap::{Args, Parser, ValueEnum};
use cpu_time::ThreadTime;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The engine alone.
#[derive(Debug, Parser)]
enum Command {
    /// Round trips: allocations and CPU time. Without a case, all are measured.
    Measure(Measure),
    /// Instructions of the paths beside those in the repository. `bench/instructions` counts them first.
    Compare(Compare),
}

#[derive(Debug, Args)]
struct Measure {
    /// What is spoken.
    #[arg(value_enum)]
    case: Option<Case>,
    /// Bytes of the argument, and of the result.
    #[arg(long, default_value_t = 64)]
    body: usize,
    /// Calls at the same time.
    #[arg(long, default_value_t = 128)]
    in_flight: usize,
    /// Seconds that a call may take, which is for ever by default.
    #[arg(long)]
    timeout: Option<u64>,
    /// Round trips that are measured; a quarter as many go before.
    #[arg(long)]
    calls: Option<usize>,
}

#[derive(Debug, Args)]
struct Compare {
    /// What gungraun has printed, as JSON.
    output: PathBuf,
    /// What `rustc --version` says.
    #[arg(long)]
    compiler: String,
    /// Writes the file in the repository anew.
    #[arg(long)]
    update: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Case {
    #[value(name = "dialect-1")]
    One,
    #[value(name = "dialect-2")]
    Two,
    /// Dialect 2 under CURVE.
    Curve,
}

fn main() -> Result<ExitCode> {
    match Command::parse() {
        Command::Measure(args) => measure_all(&args),
        Command::Compare(args) => return compare(&args),
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(args: &Compare) -> Result<ExitCode> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
    let read =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()));
    let now = Counts::from_gungraun(&read(&args.output)?, &args.compiler)?;
    if args.update {
        fs::write(&file, serde_json::to_string_pretty(&now)? + "\n")?;
        println!("{} is written", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let baseline = serde_json::from_str(&read(&file)?).context("the baseline has another format")?;
    let comparison = now.compare(&baseline);
    print!("{comparison}");
    Ok(if comparison.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn measure_all(args: &Measure) {
    let &Measure { case, body, in_flight, timeout, calls } = args;
    let timeout = timeout.map(Duration::from_secs);
    println!("| case | body | in flight | allocations | allocated bytes | reallocations | CPU ns |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    if let Some(case) = case {
        return measure(case, body, in_flight, timeout, calls.unwrap_or(200_000));
    }
    for case in [Case::One, Case::Two, Case::Curve] {
        for in_flight in [128, 1] {
            measure(case, 64, in_flight, timeout, calls.unwrap_or(200_000));
        }
    }
    for case in [Case::One, Case::Two] {
        measure(case, 1 << 20, 32, timeout, calls.unwrap_or(2_000));
    }
}

fn measure(case: Case, body: usize, in_flight: usize, timeout: Option<Duration>, calls: usize) {
    let speaks = match case {
        Case::One => Speaks::Dialect1,
        Case::Two => Speaks::Dialect2,
        Case::Curve => Speaks::Curve,
    };
    let mut pair = Pair::new(speaks, body);
    pair.timeout = timeout;
    pair.connect();
    pair.call(calls / 4 + 1, in_flight, &mut ());
    let region = Region::new(ALLOCATOR);
    // Other programs on the machine don't count.
    let start = ThreadTime::now();
    pair.call(calls, in_flight, &mut ());
    let (time, made) = (start.elapsed(), region.change());
    let each = |total: usize| total as f64 / calls as f64;
    println!(
        "| {case:?} | {body} | {in_flight} | {:.2} | {:.0} | {:.2} | {:.0} |",
        each(made.allocations),
        each(made.bytes_allocated),
        each(made.reallocations),
        time.as_nanos() as f64 / calls as f64,
    );
}
