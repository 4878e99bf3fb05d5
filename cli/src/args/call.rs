//! `callosum call`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{CodecArg, CurveArgs, ExecutorArg};
use crate::target::Target;

const INPUT_AND_OUTPUT: &str = "Input and output";

/// Call a method, and print its result as JSON
///
/// Ctrl-C cancels the call on the server too. --input, --stream and --metadata take a server of this library: Python's has
/// neither streams nor metadata.
#[derive(Args, Debug)]
#[command(after_long_help = super::epilogue())]
pub(crate) struct Call {
    /// The server: an endpoint, a name from the config file, or `env`
    #[arg(value_parser = Target::parse)]
    pub(crate) server: Target,
    /// The method's name; with --thrift, ALIAS.METHOD
    pub(crate) method: String,
    /// The argument, as JSON; `-` reads it from stdin
    #[arg(value_name = "JSON", default_value = "null", allow_hyphen_values = true)]
    pub(crate) argument: String,
    /// Order this call among those with the same key, as the server's ordering promises
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// How long to wait, for the connection and the reply together, such as 2s or 500ms; default: as long as it takes
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Send metadata along, such as a request id. Repeatable
    #[arg(short = 'H', long, value_name = "NAME=VALUE", value_parser = entry)]
    pub(crate) metadata: Vec<(String, String)>,
    /// Compress the argument with Snappy
    #[arg(long)]
    pub(crate) compress: bool,
    /// Stream the argument from FILE, item by item as they come: JSON values; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "argument", help_heading = INPUT_AND_OUTPUT)]
    pub(crate) input: Option<PathBuf>,
    /// Print the items of a streamed result as they come
    #[arg(long, help_heading = INPUT_AND_OUTPUT)]
    pub(crate) stream: bool,
    /// Call a method of a service that FILE defines: the argument is an object of its arguments by their names
    #[arg(long, value_name = "FILE", conflicts_with_all = ["input", "stream", "raw"], help_heading = INPUT_AND_OUTPUT)]
    pub(crate) thrift: Option<PathBuf>,
    /// The service in FILE, if several have such a method
    #[arg(long, value_name = "NAME", requires = "thrift", help_heading = INPUT_AND_OUTPUT)]
    pub(crate) thrift_service: Option<String>,
    /// Send the argument and print the result as the bytes that they are, whatever the codec
    #[arg(long, conflicts_with = "output", help_heading = INPUT_AND_OUTPUT)]
    pub(crate) raw: bool,
    /// How the result, or each of its items, is printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Output::Json, help_heading = INPUT_AND_OUTPUT)]
    pub(crate) output: Output,
    /// Show metadata and timing on stderr
    #[arg(short, long, help_heading = INPUT_AND_OUTPUT)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) curve: CurveArgs,
    #[command(flatten)]
    pub(crate) codec: CodecArg,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// In one line
    Json,
    /// Indented, for people
    Pretty,
}

/// An entry of the metadata.
fn entry(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name is missing: write NAME=VALUE"),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err("the value is missing: write NAME=VALUE"),
    }
}
