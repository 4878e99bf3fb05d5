//! `callosum serve`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use callosum_runtime::{Endpoint, OrderingMode};
use clap::{ArgGroup, Args, ValueEnum};

use super::{CodecArg, ExecutorArg, heading};
use crate::target::endpoint;

/// The group of options of which each is something to serve.
const SERVICES: &str = "services";

const WHAT_TO_SERVE: &str = "What to serve (at least one)";

const LIMITS: &str = "Limits and ordering";

// No line is longer than 70 columns, so that none is broken in a manual page.
const METHODS: &str = "\
Methods of --demo:
  echo {\"sent\": x}          {\"received\": x}
  add {\"a\": 1, \"b\": 2}      {\"result\": 3}
  delay {\"seconds\": s}      {\"waited\": s}, after that time
  long_delay {\"sent\": x}    {\"received\": x}, after 5 seconds
  count {\"to\": n, \"every\": s}
                            a stream of {\"count\": 1} … up to n, s
                            seconds apart; s may be left out
  error                     fails with a ZeroDivisionError
  whoami                    what the server knows of the caller
  set_output {\"enabled\": b} null; from now on each call is a line
                            on stderr, or no longer
  memstat                   null; prints the memory in use to stderr
  print_delim               null; prints a line of dashes to stderr

Methods of --files:
  put, get                  what `callosum file put` and `get` call
  list {\"prefix\": p}        a stream of {\"name\": n, \"size\": bytes,
                            \"modified\": seconds since 1970}

Methods that run long take no slots and have limits of their own, so
that none stops the others; past them, calls are refused as Busy:
delay half of --max-concurrency, and long_delay a quarter; count 100;
put and get 128 each, and 64 for one connection; list 32.

Environment:
  CALLOSUM_SERVE_BIND, CALLOSUM_SERVE_CURVE_KEY, CALLOSUM_SERVE_ALLOW
            what --bind, --curve-key and --allow say, unless given
  RUST_LOG  what to log to stderr, such as `info` or `off`; default:
            warnings of plaintext that others can reach, of allowed
            keys that can't be read, of mistakes in the rules, and of
            connections that can't be accepted";

/// Serve files, tunnels or a demonstration, until SIGTERM or SIGINT
///
/// Prints `listening on ENDPOINT` to stdout once it is ready, one line for each --bind. SIGTERM or SIGINT makes it take
/// no new calls, finish those under way, and exit with 0; a second one ends it at once, with 1.
///
/// With --files every admitted client may read, replace and add files in DIR, and nothing outside of it: names are
/// relative paths in UTF-8 without `.` and `..`, no symbolic link is followed, and only regular files are served.
/// The bytes of an unfinished file are beside it, as .callosum-….part, which is not served. Files that can't be resumed,
/// .callosum-passing-….part, are removed when a server starts.
///
/// With --tunnels, which needs --curve-key, a connection that no rule allows is denied. Users are those of --allow. When a right
/// is withdrawn, the connections that used it are closed; if the file has a mistake, the old rules stay in force, with a warning.
#[derive(Args, Debug)]
#[command(
    // clap does not wrap the line.
    override_usage = "callosum serve [OPTIONS] --bind <ENDPOINT>\n                      <--demo|--files <DIR>|--tunnels <RULES.toml>>",
    after_long_help = METHODS,
    group = ArgGroup::new(SERVICES).required(true).multiple(true)
)]
pub(crate) struct Serve {
    /// Where to listen: tcp://HOST:PORT or ipc:///PATH; port 0 or * for one that the system chooses. Repeatable
    #[arg(
        long,
        required = true,
        value_name = "ENDPOINT",
        value_parser = endpoint,
        env = "CALLOSUM_SERVE_BIND",
        hide_env = true
    )]
    pub(crate) bind: Vec<Endpoint>,
    /// Serve the methods of a demonstration, which --help lists
    #[arg(long, group = SERVICES, help_heading = WHAT_TO_SERVE)]
    pub(crate) demo: bool,
    /// Serve the files in DIR, for `callosum file`
    #[arg(long, value_name = "DIR", group = SERVICES, help_heading = WHAT_TO_SERVE)]
    pub(crate) files: Option<PathBuf>,
    /// Forward the connections that the rules in this file allow, for `callosum tunnel`; read again when it changes
    #[arg(long, value_name = "RULES.toml", requires = "curve_key", group = SERVICES, help_heading = WHAT_TO_SERVE)]
    pub(crate) tunnels: Option<PathBuf>,
    /// How long to wait after a signal until all calls have finished and all clients have received their replies
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) drain: Duration,
    /// How calls with the same key are ordered
    #[arg(long, value_enum, default_value_t = Ordering::ExitOrdered, help_heading = LIMITS)]
    pub(crate) ordering: Ordering,
    /// Handlers that run at a time, for all callers together
    #[arg(long, value_name = "N", default_value = "100", help_heading = LIMITS)]
    pub(crate) max_concurrency: NonZeroUsize,
    /// Speak CURVE only, with the secret key in FILE, which `callosum keygen` makes
    #[arg(
        long,
        value_name = "FILE",
        requires = "allow",
        env = "CALLOSUM_SERVE_CURVE_KEY",
        hide_env = true,
        help_heading = heading::SECURITY
    )]
    pub(crate) curve_key: Option<PathBuf>,
    /// The client keys to admit, read again when they change: a file with one public key a line, a user id after a space,
    /// `#` comments; or a directory, whose *.pub files are named after the users
    #[arg(
        long,
        value_name = "FILE|DIR",
        requires = "curve_key",
        env = "CALLOSUM_SERVE_ALLOW",
        hide_env = true,
        help_heading = heading::SECURITY
    )]
    pub(crate) allow: Option<PathBuf>,
    /// Bind addresses that other machines can reach, without encryption and authentication
    #[arg(long, conflicts_with = "curve_key", help_heading = heading::SECURITY)]
    pub(crate) allow_plaintext: bool,
    #[command(flatten)]
    pub(crate) codec: CodecArg,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Ordering {
    /// Start at once, reply when done
    Unordered,
    /// Start at once; replies leave in the order of the calls
    ExitOrdered,
    /// One at a time, in the order of the calls
    KeySerialized,
}

impl From<Ordering> for OrderingMode {
    fn from(ordering: Ordering) -> Self {
        match ordering {
            Ordering::Unordered => Self::Unordered,
            Ordering::ExitOrdered => Self::ExitOrdered,
            Ordering::KeySerialized => Self::KeySerialized,
        }
    }
}
