//! `callosum completions`, `callosum man`, and help that clap does not print by itself: all are made of the definitions in [`crate::args`].

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use clap_mangen::{Man, generate_to};

use crate::args::Cli;
use crate::exit::Failure;

pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    // Not to stdout directly: `generate` panics if writing fails.
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), env!("CARGO_BIN_NAME"), &mut script);
    write(&script)
}

/// Prints the manual page of the whole, or writes one for each command into a directory.
pub(crate) fn pages(directory: Option<&Path>) -> Result<(), Failure> {
    match directory {
        Some(directory) => generate_to(Cli::command(), directory).map_err(|error| {
            let path = directory.display().to_string();
            Failure::Write { path, error }
        }),
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command().disable_help_subcommand(true)).render(&mut page)?;
            write(&page)
        }
    }
}

/// Prints what `--help` of a command prints where clap answers it.
pub(crate) fn help(command: &str) -> Result<(), Failure> {
    let mut cli = Cli::command();
    // Passes global settings to the commands, such as the width.
    cli.build();
    match cli.find_subcommand_mut(command) {
        Some(command) => Ok(command.print_long_help()?),
        None => Ok(()),
    }
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}
