//! The command line of Callosum: call, serve and ping peers, move files, forward connections, and a demonstration.
#![forbid(unsafe_code)]

// Files are opened part by part of their names, so that no symbolic link is followed, and standard output by its descriptor.
#[cfg(not(unix))]
compile_error!("callosum-cli needs a Unix; the libraries of Callosum do not");

mod args;
mod call;
mod config;
mod demo;
mod describe;
mod descriptors;
mod executor;
mod exit;
mod files;
mod keygen;
mod link;
mod manual;
mod ping;
mod serve;
mod server;
mod service;
mod signals;
mod stderr;
mod target;
mod tunnel;
mod value;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(&cli.command);
    let result = match cli.command {
        Command::Keygen(args) => keygen::run(&args),
        Command::Tunnel(args) => tunnel::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Call(args) => call::run(args),
        Command::Describe(args) => describe::run(&args),
        Command::File(command) => files::run(&command),
        Command::Ping(args) => ping::run(args),
        Command::Demo(args) => demo::run(args.executor.executor),
        Command::Completions(args) => manual::completions(args.shell),
        Command::Man(args) => manual::pages(args.dir.as_deref()),
    };
    match result {
        Ok(()) => {
            stderr::flush();
            ExitCode::SUCCESS
        }
        Err(failure) => {
            // Make room for the report.
            let is_read = stderr::flush();
            failure.report();
            if is_read {
                stderr::flush();
            }
            ExitCode::from(failure.code())
        }
    }
}

/// Warnings that are logged by default: an endpoint without authentication, a key that is not admitted, a mistake in a rules file.
const WARNINGS: &str =
    "callosum_runtime::auth=warn,callosum_runtime::binder=warn,callosum_tunnel::rule_set=warn";

/// Likewise for a server: a connection that the system does not let a tunnel accept. `callosum tunnel` shows it itself.
const WARNINGS_OF_SERVERS: &str = ",callosum_tunnel::accepting=warn";

/// Logs what `RUST_LOG` asks for; if it is not set, only warnings that concern who may come in, and who can't.
fn log_to_stderr(command: &Command) {
    let more = match command {
        Command::Serve(_) => WARNINGS_OF_SERVERS,
        _ => "",
    };
    let filter = match std::env::var_os(EnvFilter::DEFAULT_ENV) {
        Some(_) => EnvFilter::from_default_env(),
        None => EnvFilter::new(format!("{WARNINGS}{more}")),
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| stderr::Log).init();
}
