//! `callosum describe`.

use std::time::Duration;

use clap::Args;

use super::{CodecArg, CurveArgs, ExecutorArg};
use crate::target::Target;

/// Show which methods a server has, with their arguments and docs
///
/// A server describes the methods of its typed services if its program calls `Builder::describe_services`; Python servers
/// don't. Arguments in brackets have defaults.
#[derive(Args, Debug)]
#[command(after_long_help = super::epilogue())]
pub(crate) struct Describe {
    /// The server: an endpoint, a name from the config file, or `env`
    #[arg(value_parser = Target::parse)]
    pub(crate) server: Target,
    /// Only this method, and the JSON Schemas of its arguments and its result, if there are
    pub(crate) method: Option<String>,
    /// Print the server's whole description, as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// How long to wait, for the connection and the reply together
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) curve: CurveArgs,
    #[command(flatten)]
    pub(crate) codec: CodecArg,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}
