//! `callosum tunnel`.

use std::time::Duration;

use callosum_tunnel::{ForwardSpec, ListenAddress};
use clap::{ArgGroup, Args};

use super::{CurveArgs, ExecutorArg, QuietArg};
use crate::target::Target;

/// The group of options of which each is a forward.
const FORWARDS: &str = "forwards";

const WHAT_TO_FORWARD: &str = "What to forward (at least one)";

const ADDRESSES: &str = "\
Addresses:
  BIND is an IP address, `localhost` (the default) or `*`; port 0 lets
  the system choose. IPv6 addresses stand in brackets, and the absolute
  path of a Unix socket may stand for [BIND:]PORT and for HOST:PORT:
    -L 5432:db.internal:5432       -L [::1]:8080:[fd00::1]:80
    -L 8080:/run/app.sock          -R /run/app.sock:localhost:3000";

/// Forward TCP and Unix connections through a server that runs with --tunnels
///
/// All forwards share one connection to the server, on which each forwarded connection is a stream of its own: one that stalls
/// delays no other. Prints `forwarding LISTEN → TARGET` to stdout for each forward once it accepts, and again if -R with port 0
/// has another port after a reconnect, also with -q. Then stderr shows a live table on a terminal, and a line for each
/// connection elsewhere.
///
/// Listeners stay while the server is away; a new connection waits for --wait. SIGTERM or SIGINT makes it accept no new
/// connections, let those that are open end, and exit with 0; a second one ends it at once, with 1.
#[derive(Args, Debug)]
#[command(
    // clap's text for the group is longer than a line, and is not wrapped.
    override_usage = "callosum tunnel [OPTIONS] <SERVER> <-L FORWARD|-R FORWARD|-D LISTEN>...\n       \
                      callosum tunnel [OPTIONS] <SERVER> -W TARGET",
    after_long_help = format!("{ADDRESSES}\n\n{}", super::epilogue()),
    group = ArgGroup::new(FORWARDS).required(true).multiple(true)
)]
pub(crate) struct Tunnel {
    /// The server: an endpoint, a name from the config file, or `env`
    #[arg(value_parser = Target::parse)]
    pub(crate) server: Target,
    /// Accept connections here, and have the server connect each to HOST:PORT. Repeatable
    #[arg(short = 'L', long, value_name = "[BIND:]PORT:HOST:PORT", group = FORWARDS, help_heading = WHAT_TO_FORWARD)]
    pub(crate) local: Vec<ForwardSpec>,
    /// Have the server accept connections, and connect each to HOST:PORT from here. Repeatable
    #[arg(short = 'R', long, value_name = "[BIND:]PORT:HOST:PORT", group = FORWARDS, help_heading = WHAT_TO_FORWARD)]
    pub(crate) remote: Vec<ForwardSpec>,
    /// Accept SOCKS5 and HTTP CONNECT clients here, and have the server connect to what each names. Repeatable
    #[arg(short = 'D', long, value_name = "[BIND:]PORT", group = FORWARDS, help_heading = WHAT_TO_FORWARD)]
    pub(crate) dynamic: Vec<ListenAddress>,
    /// Have the server connect to HOST:PORT, and relay stdin and stdout, as for `ssh -o ProxyCommand`
    #[arg(
        short = 'W',
        long,
        value_name = "HOST:PORT",
        value_parser = target,
        group = FORWARDS,
        conflicts_with_all = ["local", "remote", "dynamic"],
        help_heading = WHAT_TO_FORWARD
    )]
    pub(crate) stdio: Option<callosum_tunnel::Target>,
    /// How long to wait for the server at the start
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
    /// How long a new connection waits while there is no connection to the server
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) wait: Duration,
    /// How long open connections may take to end after a signal
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) drain: Duration,
    /// Write a PROXY protocol header (version 2) to the targets of -R, which says who has connected
    #[arg(long)]
    pub(crate) proxy_protocol: bool,
    #[command(flatten)]
    pub(crate) quiet: QuietArg,
    #[command(flatten)]
    pub(crate) curve: CurveArgs,
    #[command(flatten)]
    pub(crate) executor: ExecutorArg,
}

/// The target of -W: as those of the other forwards, a path needs no `unix:`.
fn target(text: &str) -> Result<callosum_tunnel::Target, callosum_tunnel::ParseTargetError> {
    match text.starts_with('/') {
        true => format!("unix:{text}").parse(),
        false => text.parse(),
    }
}
