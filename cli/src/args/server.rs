//! Options of every command that calls a server.

use std::path::PathBuf;

use clap::Args;

use super::heading;

#[derive(Args, Clone, Debug)]
pub(crate) struct CurveArgs {
    /// Speak CURVE only, with the secret key in FILE, which `callosum keygen` makes
    #[arg(long, value_name = "FILE", help_heading = heading::SECURITY)]
    pub(crate) curve_key: Option<PathBuf>,
    /// The server's public key, or the file that holds it
    #[arg(long, value_name = "Z85|FILE", allow_hyphen_values = true, help_heading = heading::SECURITY)]
    pub(crate) server_key: Option<String>,
}
