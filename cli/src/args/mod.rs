//! The command line: its commands, and the options that several of them have.
//!
//! This module parses and checks; it does nothing. A command's options are in the module of its name.

mod call;
mod describe;
mod file;
mod man;
mod ping;
mod serve;
mod server;
mod tunnel;

use std::path::PathBuf;

use callosum_runtime::Codec;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::executor::Executor;

pub(crate) use call::{Asked, Call, Output, ThriftArgs};
pub(crate) use describe::Describe;
pub(crate) use file::{File, Get, List, Put};
pub(crate) use man::Man;
pub(crate) use ping::Ping;
pub(crate) use serve::Serve;
pub(crate) use server::CurveArgs;
pub(crate) use tunnel::Tunnel;

/// Groups of options in `--help`, after those of the command itself.
mod heading {
    pub(super) const SECURITY: &str = "Security";
    pub(super) const RUNTIME: &str = "Codec and runtime";
}

// No line is longer than 70 columns, so that none is broken in a manual page.
const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  anything not listed here, as an endpoint that can't be bound
  2  usage, or a mistake in the config file
  3  remote failure: the handler failed; its traceback is on stderr
  4  remote error: the other side's Callosum refused the call, or a
     forward
  5  timed out: no reply arrived before the timeout
  6  cancelled: by Ctrl-C here, or by the other side
  7  could not connect: nothing was sent
  8  connection lost: the handler may have run
  9  not authenticated: the server did not admit this client, could
     not prove its key, or the two don't agree on CURVE";

const SERVERS: &str = "\
Servers and keys:
  SERVER is an endpoint (tcp://HOST:PORT or ipc:///PATH), the name of
  a server in the config file, or `env` for $CALLOSUM_ENDPOINT. Keys
  come from the options, then from the server's entry in the config
  file, then from the environment.

  ~/.config/callosum/config.toml, or under $XDG_CONFIG_HOME:
    [servers.prod]
    endpoint = \"tcp://callosum.example.org:5555\"
    curve_key = \"alice\"         # beside this file
    server_key = \"prod.pub\"     # or the key itself

Environment:
  CALLOSUM_CONFIG      another config file
  CALLOSUM_ENDPOINT    the endpoint of the server `env`
  CALLOSUM_CURVE_KEY   the file with this client's secret key
  CALLOSUM_SERVER_KEY  the server's public key, or the file with it
  RUST_LOG             what to log to stderr, such as `info` or `off`;
                       default: warnings of plaintext that others can
                       reach, and of keys that can't be read
  NO_COLOR             if set, no colours";

/// The end of the `--help` of every command that calls a server.
fn epilogue() -> String {
    format!("{EXIT_CODES}\n\n{SERVERS}")
}

/// Call, serve and ping Callosum peers, written in Rust or in Python, and move files and forward connections between them
#[derive(Debug, Parser)]
#[command(name = "callosum", version, max_term_width = 100, after_long_help = epilogue())]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Call(Call),
    Describe(Describe),
    #[command(subcommand)]
    File(File),
    Ping(Ping),
    Tunnel(Tunnel),
    Serve(Serve),
    Keygen(Keygen),
    Demo(Demo),
    Completions(Completions),
    Man(Man),
}

/// Make a key pair for CURVE
///
/// Writes the secret key to FILE, with mode 0600, and the public key to FILE.pub; each is one line of Z85. Prints the
/// public key. Neither file may exist.
#[derive(Args, Debug)]
pub(crate) struct Keygen {
    /// Where the secret key goes
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Run a demonstration of ten seconds: a manager and its agents, in this process
///
/// A manager and three agents call each other over loopback TCP. Shows calls in both directions, the three
/// ordering modes side by side, a cancellation, a timeout, and a failure with its remote traceback. Exits
/// with 0, or with 1 if a guarantee was broken.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}

/// Print a script that completes commands, options and their values in a shell
///
/// For bash: `callosum completions bash > ~/.local/share/bash-completion/completions/callosum`. For zsh, write it to a
/// file `_callosum` in a directory of $fpath; for fish, to ~/.config/fish/completions/callosum.fish.
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell that runs the script
    pub(crate) shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct QuietArg {
    /// Show no progress: print only errors and the result
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CodecArg {
    /// How arguments and results are serialized; both sides must use the same
    #[arg(long = "codec", value_name = "CODEC", value_enum, default_value_t = CodecName::Json, help_heading = heading::RUNTIME)]
    name: CodecName,
}

impl CodecArg {
    pub(crate) fn codec(&self) -> Codec {
        match self.name {
            CodecName::Json => Codec::Json,
            CodecName::Msgpack => Codec::MsgPack,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CodecName {
    Json,
    Msgpack,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ExecutorArg {
    /// The async runtime to run on
    #[arg(
        long = "runtime",
        value_name = "RUNTIME",
        value_parser = Executor::parser(),
        default_value_t,
        help_heading = heading::RUNTIME
    )]
    pub(crate) executor: Executor,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }
}
