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
/// The file appears there as a whole, in place of an older one of that name, once its checksum (BLAKE3) was verified; the
/// checksum and the name are printed. It keeps the permissions of the older one. After an interruption, the same command goes
/// on where it was, if the file still begins as it did: by the same user, from the same path of a host of the same name, to
/// the same NAME. What comes from stdin, a pipe or a file whose size the system does not say, as in /proc, begins anew.
#[derive(Args, Debug)]
#[command(after_long_help = super::epilogue())]
pub(crate) struct Put {
    /// The server: an endpoint, a name from the config file, or `env`
    #[arg(value_parser = Target::parse)]
    pub(crate) server: Target,
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

/// Get a file from a server that runs with --files
///
/// The file appears as a whole, in place of an older one, whose permissions it keeps, once its checksum (BLAKE3) was
/// verified; the checksum and FILE are printed. After an interruption, the same command goes on where it was, if the
/// server's file still begins as it did; meanwhile what has come is beside FILE, as .callosum-….part. What goes to stdout
/// has gone before it was verified: it is good only if the exit code is 0.
#[derive(Args, Debug)]
#[command(after_long_help = super::epilogue())]
pub(crate) struct Get {
    /// The server: an endpoint, a name from the config file, or `env`
    #[arg(value_parser = Target::parse)]
    pub(crate) server: Target,
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

/// List the files of a server that runs with --files
///
/// One a line, in no order: size in bytes, time of the last change, name. Directories that the server may not read are left
/// out, and so is what is gone by the time that it is looked at; anything else that can't be told is an error.
#[derive(Args, Debug)]
#[command(after_long_help = super::epilogue())]
pub(crate) struct List {
    /// The server: an endpoint, a name from the config file, or `env`
    #[arg(value_parser = Target::parse)]
    pub(crate) server: Target,
    /// Only those whose names begin so, such as dir/
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    #[command(flatten)]
    pub(crate) curve: CurveArgs,
    #[command(flatten)]
    pub(crate) codec: CodecArg,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}
