//! `callosum file put`, `get` and `ls`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CodecArg, CurveArgs, ExecutorArg, QuietArg};
use crate::target::Target;

/// Put files on a server that runs with --files, get them, and list them
#[derive(Debug, Subcommand)]
pub(crate) enum File {
    Put(Put),
    Get(Get),
    #[command(name = "ls")]
    List(List),
}

/// Put a file on a server that runs with --files
///
/// The file appears there as a whole, and replaces an older one of that name, once its checksum (BLAKE3) is verified; the
/// checksum and the name are printed. It keeps the permissions of the older one. After an interruption, the same command
/// resumes the transfer, if the bytes sent so far have not changed, and the user, the name of the host, the path and NAME are
/// the same. Input from stdin, a pipe or a file without a size, as in /proc, can't be resumed.
#[derive(Args, Debug)]
#[command(after_long_help = super::epilogue())]
pub(crate) struct Put {
    /// The server: an endpoint, a name from the config file, or `env`
    #[arg(value_parser = Target::parse)]
    pub(crate) server: Target,
    /// The file; `-` reads stdin
    pub(crate) file: PathBuf,
    /// The name on the server, such as dir/file; missing directories are created. Default: the name of FILE
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) quiet: QuietArg,
    #[command(flatten)]
    pub(crate) curve: CurveArgs,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}

/// Get a file from a server that runs with --files
///
/// The file appears as a whole, and replaces an older one, whose permissions it keeps, once its checksum (BLAKE3) is
/// verified; the checksum and FILE are printed. After an interruption, the same command resumes the transfer, if the bytes
/// so far have not changed on the server; until then they are beside FILE, as .callosum-….part. Output to stdout is written
/// before it is verified: use it only if the exit code is 0.
#[derive(Args, Debug)]
#[command(after_long_help = super::epilogue())]
pub(crate) struct Get {
    /// The server: an endpoint, a name from the config file, or `env`
    #[arg(value_parser = Target::parse)]
    pub(crate) server: Target,
    /// The name on the server
    pub(crate) name: String,
    /// The destination: a file, a directory, or `-` for stdout. Default: the last part of NAME, in this directory
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) quiet: QuietArg,
    #[command(flatten)]
    pub(crate) curve: CurveArgs,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}

/// List the files of a server that runs with --files
///
/// Prints one file a line, unordered: size in bytes, time of the last change, name. Omits directories that the server may not
/// read, and files that are removed meanwhile; fails on any other error.
#[derive(Args, Debug)]
#[command(after_long_help = super::epilogue())]
pub(crate) struct List {
    /// The server: an endpoint, a name from the config file, or `env`
    #[arg(value_parser = Target::parse)]
    pub(crate) server: Target,
    /// Only files whose names begin with this, such as dir/
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    #[command(flatten)]
    pub(crate) curve: CurveArgs,
    #[command(flatten)]
    pub(crate) codec: CodecArg,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}
