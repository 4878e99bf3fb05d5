//! `callosum call`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use super::{CodecArg, CurveArgs, Describe, ExecutorArg};
use crate::target::Target;

const USAGE: &str = "\
callosum call [OPTIONS] <SERVER> <METHOD> [JSON]
       callosum call [OPTIONS] <SERVER> --help <METHOD>";

/// How long a server may take to tell of a method, without `--timeout`.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

const INPUT_AND_OUTPUT: &str = "Input and output";
const PROTOCOL_BUFFERS: &str = "Protocol Buffers";
const THRIFT: &str = "Thrift";

/// Call a method, and print its result as JSON
///
/// Ctrl-C cancels the call on the server too. --input, --stream and --metadata need a server of this library: Python servers
/// have neither streams nor metadata.
#[derive(Args, Debug)]
#[command(after_long_help = super::epilogue(), override_usage = USAGE, disable_help_flag = true)]
pub(crate) struct Call {
    /// The server: an endpoint, a name from the config file, or `env`
    #[arg(value_parser = Target::parse, required_unless_present = "help")]
    server: Option<Target>,
    /// The method's name; with --proto, `package.Service/Method`; with --thrift, `ALIAS.METHOD`
    #[arg(required_unless_present = "help")]
    method: Option<String>,
    /// The argument, as JSON; `-` reads it from stdin
    #[arg(value_name = "JSON", default_value = "null", allow_hyphen_values = true)]
    pub(crate) argument: String,
    /// The ordering key: the server orders the calls with the same key
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// How long to wait, for the connection and the reply together, such as 2s or 500ms; default: without limit
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Send metadata along, such as a request id. Repeatable
    #[arg(short = 'H', long, value_name = "NAME=VALUE", value_parser = entry)]
    pub(crate) metadata: Vec<(String, String)>,
    /// Compress the argument with Snappy
    #[arg(long)]
    pub(crate) compress: bool,
    /// Stream the argument from the JSON values in FILE, as they arrive, each an item; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "argument", help_heading = INPUT_AND_OUTPUT)]
    pub(crate) input: Option<PathBuf>,
    /// Print the items of a streamed result as they arrive
    #[arg(long, help_heading = INPUT_AND_OUTPUT)]
    pub(crate) stream: bool,
    /// Send the argument and print the result as bytes, without a codec
    #[arg(long, conflicts_with = "output", help_heading = INPUT_AND_OUTPUT)]
    pub(crate) raw: bool,
    /// How the result, or each of its items, is printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Output::Json, help_heading = INPUT_AND_OUTPUT)]
    pub(crate) output: Output,
    /// Show metadata and timing on stderr
    #[arg(short, long, help_heading = INPUT_AND_OUTPUT)]
    pub(crate) verbose: bool,
    /// Print a summary of the options
    #[arg(short = 'h', action = ArgAction::HelpShort)]
    summary: Option<bool>,
    /// Print help; or, after SERVER, the server's description of METHOD, as `callosum describe` does
    #[arg(long, value_name = "METHOD", num_args = 0..=1)]
    help: Option<Option<String>>,
    /// A folder with files that the file of --proto or --thrift includes, and with that of --proto itself. Repeatable
    #[arg(short = 'I', long = "include", visible_alias = "proto-path", value_name = "FOLDER", help_heading = INPUT_AND_OUTPUT)]
    pub(crate) includes: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) protobuf: ProtobufArgs,
    #[command(flatten)]
    pub(crate) thrift: ThriftArgs,
    #[command(flatten)]
    pub(crate) curve: CurveArgs,
    #[command(flatten)]
    pub(crate) codec: CodecArg,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}

#[derive(Args, Debug)]
pub(crate) struct ProtobufArgs {
    /// Call a method of this .proto file, with JSON for its messages. The file determines what is streamed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["raw", "stream"], help_heading = PROTOCOL_BUFFERS)]
    pub(crate) proto: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ThriftArgs {
    /// Call a function of a service in this .thrift file, with a JSON object of its arguments by name
    #[arg(long, value_name = "FILE", conflicts_with_all = ["input", "stream", "raw", "proto"], help_heading = THRIFT)]
    pub(crate) thrift: Option<PathBuf>,
    /// The service in the file, if several have such a function
    #[arg(long, value_name = "NAME", requires = "thrift", help_heading = THRIFT)]
    pub(crate) thrift_service: Option<String>,
    /// Use TCompact instead of strict TBinary, as the server does
    #[arg(long, requires = "thrift", help_heading = THRIFT)]
    pub(crate) thrift_compact: bool,
}

/// The requested action.
pub(crate) enum Asked {
    /// To call this method.
    Call { server: Target, method: String },
    /// Show the server's description of a method.
    Describe(Describe),
    /// Show the help of this command.
    Help,
}

impl Call {
    /// The requested action: to call, unless there is `--help`.
    pub(crate) fn asked(&mut self) -> Asked {
        match (self.server.take(), self.method.take(), self.help.take()) {
            (Some(server), Some(method), None) => Asked::Call { server, method },
            (Some(server), _, Some(Some(method))) => Asked::Describe(Describe {
                server,
                method: Some(method),
                json: false,
                timeout: self.timeout.unwrap_or(DESCRIBE_TIMEOUT),
                curve: self.curve.clone(),
                codec: self.codec.clone(),
                executor: self.executor.clone(),
            }),
            _ => Asked::Help,
        }
    }
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
