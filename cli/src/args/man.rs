//! `callosum man`.

use std::path::PathBuf;

use clap::Args;

/// Print the manual page, or write that of each command
///
/// `callosum man | man -l -` shows it. To install all of them: `callosum man --dir /usr/local/share/man/man1`.
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Write callosum.1, callosum-call.1 and so on into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}
