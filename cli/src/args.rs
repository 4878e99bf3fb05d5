//! What can be said on the command line.

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use callosum_runtime::auth::{CurveClient, CurvePublicKey, KeyFileError, load_keys, load_public_key};
use callosum_runtime::{Builder, Codec, Endpoint, OrderingMode};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::executor::Executor;

const EXIT_CODES: &str = "\
Exit codes:
   0  success
   1  anything that is not listed here, such as an endpoint that can't be bound
   2  usage
   3  remote failure: the handler failed; its traceback is on stderr
   4  remote error: Callosum on the other side refused the call, as for an unknown method
   5  timed out: no reply came in time
   6  cancelled: by Ctrl-C here, or by the other side
   7  could not connect: nothing was sent
   8  connection lost: the request had been sent, and its handler may have run
   9  not authenticated: the server did not admit this client, could not prove its key, or speaks no CURVE or nothing else

Environment:
  RUST_LOG  what to log to stderr, such as `info`, `callosum_runtime=debug` or `off`; default: warnings of plaintext that
            others can reach, and of allowed keys that can't be read
  NO_COLOR  if set, no colours";

/// Serve, call and ping Callosum peers, written in Rust or in Python, and move files between them.
#[derive(Debug, Parser)]
#[command(name = "callosum", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Keygen(Keygen),
    Serve(Serve),
    Call(Call),
    Put(Put),
    Get(Get),
    List(List),
    Ping(Ping),
    Demo(Demo),
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

/// Serve a demonstration service until SIGTERM or SIGINT
///
/// Prints `listening on ENDPOINT` to stdout once it is ready, one line for each --bind. SIGTERM or SIGINT makes it take
/// no new calls, finish those under way, and exit with 0; a second one ends it at once, with 1.
///
/// Methods:
///   echo {"sent": x}          {"received": x}
///   add {"a": 1, "b": 2}      {"result": 3}
///   delay {"seconds": s}      {"waited": s}, after that time
///   long_delay {"sent": x}    {"received": x}, after 5 seconds
///   count {"to": n, "every": s}
///                             a stream of {"count": 1}, {"count": 2} … up to n, s seconds apart; s may be left out
///   error {}                  fails with a ZeroDivisionError
///   whoami {}                 what the server knows of the caller
///   set_output {"enabled": b} null; from now on each call is a line on stderr, or no longer
///   memstat {}                null; prints the memory in use to stderr
///   print_delim {}            null; prints a line of dashes to stderr
///
/// Methods with --root:
///   put, get                  what `callosum put` and `callosum get` call
///   list {"prefix": p}        a stream of {"name": n, "size": bytes, "modified": seconds since 1970}
///
/// With --root whoever may call may also read, replace and add files in DIR, and nothing outside of it: names are
/// relative paths in UTF-8 without `.` and `..`, no symbolic link is followed, and only regular files are served.
/// What has come of a file that is being put is beside it, as .callosum-….part, which is not served. Those that a server has
/// left with which nobody can go on, .callosum-passing-….part, are removed when one starts.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Serve {
    /// Where to listen: tcp://HOST:PORT or ipc:///PATH; port 0 or * for one that the system chooses. Repeatable
    #[arg(long, required = true, value_name = "ENDPOINT", value_parser = endpoint)]
    pub(crate) bind: Vec<Endpoint>,
    /// How calls with the same key are ordered
    #[arg(long, value_enum, default_value_t = Ordering::ExitOrdered)]
    pub(crate) ordering: Ordering,
    /// Handlers that run at a time, for all callers together
    #[arg(long, value_name = "N", default_value = "100")]
    pub(crate) max_concurrency: NonZeroUsize,
    /// How long calls under way may take to finish after a signal
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) drain: Duration,
    /// Speak CURVE only, with the secret key in FILE, which `callosum keygen` makes
    #[arg(long, value_name = "FILE", requires = "allow")]
    pub(crate) curve_key: Option<PathBuf>,
    /// Whom to admit, followed as it changes: a file with one public key a line, a user id after a space, `#` comments; or
    /// a directory, whose *.pub files are named after the users
    #[arg(long, value_name = "FILE|DIR", requires = "curve_key")]
    pub(crate) allow: Option<PathBuf>,
    /// Serve the files in DIR with the methods put, get and list
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Bind addresses that other machines can reach, though nothing is encrypted and everybody is let in
    #[arg(long, conflicts_with = "curve_key")]
    pub(crate) allow_plaintext: bool,
    #[command(flatten)]
    pub(crate) codec: CodecArg,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}

/// Call a method, and print its result as one line of JSON
///
/// Ctrl-C cancels the call on the server too. With --stream, each item of the result is a line, printed as it comes; that
/// takes a server of this library, Python's has no streams.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Call {
    /// Where the server listens: tcp://HOST:PORT or ipc:///PATH
    #[arg(value_parser = endpoint)]
    pub(crate) endpoint: Endpoint,
    /// The method's name
    pub(crate) method: String,
    /// The argument, as JSON; `-` reads it from stdin
    #[arg(value_name = "JSON", default_value = "{}", allow_hyphen_values = true)]
    pub(crate) argument: String,
    /// Order this call among those with the same key, as the server's ordering promises
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Print the items of a streamed result as they come
    #[arg(long)]
    pub(crate) stream: bool,
    /// How long to wait, for the connection and the reply together, such as 2s or 500ms; default: as long as it takes
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) curve: CurveArgs,
    #[command(flatten)]
    pub(crate) codec: CodecArg,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}

/// Put a file on a server that runs with --root
///
/// The file appears there as a whole, in place of an older one of that name, once its checksum (BLAKE3) was verified; the
/// checksum and the name are printed. It keeps the permissions of the older one. After an interruption, the same command goes
/// on where it was, if the file still begins as it did: by the same user, from the same path of a host of the same name, to
/// the same NAME. What comes from stdin, a pipe or a file whose size the system does not say, as in /proc, begins anew.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Put {
    /// Where the server listens: tcp://HOST:PORT or ipc:///PATH
    #[arg(value_parser = endpoint)]
    pub(crate) endpoint: Endpoint,
    /// The file; `-` reads stdin
    pub(crate) file: PathBuf,
    /// What to call it there, such as dir/file; missing directories are made. Default: the name of FILE
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) quiet: QuietArg,
    #[command(flatten)]
    pub(crate) curve: CurveArgs,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}

/// Get a file from a server that runs with --root
///
/// The file appears as a whole, in place of an older one, whose permissions it keeps, once its checksum (BLAKE3) was
/// verified; the checksum and FILE are printed. After an interruption, the same command goes on where it was, if the
/// server's file still begins as it did; meanwhile what has come is beside FILE, as .callosum-….part. What goes to stdout
/// has gone before it was verified: it is good only if the exit code is 0.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Get {
    /// Where the server listens: tcp://HOST:PORT or ipc:///PATH
    #[arg(value_parser = endpoint)]
    pub(crate) endpoint: Endpoint,
    /// What it is called there
    pub(crate) name: String,
    /// Where it goes: a file, a directory, or `-` for stdout. Default: the last part of NAME, here
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) quiet: QuietArg,
    #[command(flatten)]
    pub(crate) curve: CurveArgs,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}

/// List the files of a server that runs with --root
///
/// One a line, in no order: size in bytes, time of the last change, name. Directories that the server may not read are left
/// out, and so is what is gone by the time that it is looked at; anything else that can't be told is an error.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct List {
    /// Where the server listens: tcp://HOST:PORT or ipc:///PATH
    #[arg(value_parser = endpoint)]
    pub(crate) endpoint: Endpoint,
    /// Only those whose names begin so, such as dir/
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    #[command(flatten)]
    pub(crate) curve: CurveArgs,
    #[command(flatten)]
    pub(crate) codec: CodecArg,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}

#[derive(Args, Debug)]
pub(crate) struct QuietArg {
    /// Show no progress, and say nothing but what goes wrong and the result
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Measure round-trip times
///
/// Each probe is a PING message that the peer answers itself; no handler runs. Exits with 0 if any probe was answered,
/// and with 5 if none was.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Ping {
    /// Where the peer listens: tcp://HOST:PORT or ipc:///PATH
    #[arg(value_parser = endpoint)]
    pub(crate) endpoint: Endpoint,
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

/// See it all in ten seconds: a manager and its agents, in this process
///
/// A manager and three agents call each other over loopback TCP. Shows calls in both directions, the three ordering
/// modes side by side, a cancellation, a timeout, and a failure with its remote traceback. Exits with 0, or with 1 if
/// anything did not happen as promised.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}

#[derive(Args, Debug)]
pub(crate) struct CurveArgs {
    /// Speak CURVE only, with the secret key in FILE, which `callosum keygen` makes
    #[arg(long, value_name = "FILE", requires = "server_key")]
    curve_key: Option<PathBuf>,
    /// The server's public key, or the file that holds it
    #[arg(long, value_name = "Z85|FILE", requires = "curve_key", allow_hyphen_values = true)]
    server_key: Option<String>,
}

impl CurveArgs {
    /// Gives the builder what it needs to connect.
    pub(crate) fn secure(&self, builder: Builder) -> Result<Builder, KeyFileError> {
        let (Some(file), Some(server_key)) = (&self.curve_key, &self.server_key) else { return Ok(builder) };
        let server_key = match server_key.parse::<CurvePublicKey>() {
            Ok(key) => key,
            Err(not_a_key) => load_public_key(server_key).map_err(|error| match error {
                // The text may be meant as either.
                KeyFileError::Io { path, error: io } => KeyFileError::Io {
                    path,
                    error: io::Error::new(
                        io.kind(),
                        format!("not a public key ({not_a_key}), nor a file: {io}"),
                    ),
                },
                error => error,
            })?,
        };
        Ok(builder.authenticator(CurveClient::new(load_keys(file)?, server_key)))
    }
}

#[derive(Args, Debug)]
pub(crate) struct CodecArg {
    /// How arguments and results are serialized; both sides must use the same
    #[arg(long = "codec", value_name = "CODEC", value_enum, default_value_t = CodecName::Json)]
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

#[derive(Args, Debug)]
pub(crate) struct ExecutorArg {
    /// The async runtime to run on
    #[arg(long = "runtime", value_name = "RUNTIME", value_parser = Executor::parser(), default_value_t)]
    pub(crate) executor: Executor,
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

fn endpoint(text: &str) -> Result<Endpoint, String> {
    match text.parse().map_err(|error| format!("{error}"))? {
        Endpoint::Inproc(_) => Err("inproc:// reaches nobody outside of this process".into()),
        endpoint => Ok(endpoint),
    }
}
