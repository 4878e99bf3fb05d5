//! `callosum ping`.

use std::time::Duration;

use clap::Args;

use super::{CurveArgs, ExecutorArg};
use crate::target::Target;

/// Measure round-trip times
///
/// Each probe is a PING message that the peer answers itself; no handler runs. Exits with 0 if any probe was answered,
/// and with 5 if none was.
#[derive(Args, Debug)]
#[command(after_long_help = super::epilogue())]
pub(crate) struct Ping {
    /// The server: an endpoint, a name from the config file, or `env`
    #[arg(value_parser = Target::parse)]
    pub(crate) server: Target,
    /// How many probes to send; default: until Ctrl-C
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// The time from one probe to the next
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) interval: Duration,
    /// How long to wait for an answer, and for the connection
    #[arg(short = 'W', long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) curve: CurveArgs,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}
