//! How a command ends: what it says on stderr, and its exit code.

use std::io::{self, Write};

use blocking::{Task, unblock};
use bytes::Bytes;
use callosum_protobuf::Status;
use callosum_runtime::auth::{AllowListError, KeyFileError};
use callosum_runtime::{
    BindError, BodyError, CallError, ConnectError, DisconnectCause, Endpoint, ErrorInfo, NotSent,
};
use callosum_tunnel::{End, ForwardError, Reason, RulesFileError};

use crate::config::ConfigError;
use crate::files::FileError;
use crate::stderr::{note, printable};

/// Why a command did not succeed. The exit codes are those that `--help` lists.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}; see --help")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("remote failure: {}: {}", .0.name, .0.repr)]
    Remote(ErrorInfo),
    #[error("remote failure: {status}{}", lines(.details))]
    Status { status: Status, details: Vec<String> },
    #[error("remote error: {}: {}", .0.name, .0.repr)]
    Refused(ErrorInfo),
    #[error("timed out: {0}")]
    TimedOut(String),
    #[error("cancelled")]
    Cancelled,
    #[error("cancelled by the other side")]
    CancelledRemotely,
    #[error("could not connect to {endpoint}: {cause}")]
    NotConnected { endpoint: String, cause: String },
    #[error("not authenticated to {endpoint}: {cause}")]
    NotAuthenticated { endpoint: String, cause: DisconnectCause },
    #[error("connection lost: {0}")]
    ConnectionLost(DisconnectCause),
    #[error(transparent)]
    Call(CallError),
    #[error(transparent)]
    Body(BodyError),
    #[error("{name}: {0}", name = .0.name())]
    File(FileError),
    #[error("can't serve {path}: {error}")]
    Root { path: String, error: io::Error },
    /// Items of a stream are no value, either.
    #[error("{0}; --stream prints a result that is a stream, item by item")]
    NoValue(CallError),
    #[error("{0}{advice}", advice = forward_advice(.0))]
    Forward(#[from] ForwardError),
    #[error("can't connect to {target} through the tunnel: {reason}{advice}", advice = advice(.reason))]
    TunnelRefused { target: String, reason: Reason },
    #[error("the connection to {target} ended: {end}")]
    TunnelEnded { target: String, end: End },
    #[error(transparent)]
    Rules(#[from] RulesFileError),
    #[error("can't read {name}: {error}")]
    Input { name: String, error: io::Error },
    #[error("can't write to {path}: {error}")]
    Write { path: String, error: io::Error },
    #[error(transparent)]
    Bind(BindError),
    #[error(
        "other machines can reach {0} without encryption or authentication: use --curve-key and --allow, \
         or --allow-plaintext if that is what you want"
    )]
    Plaintext(Endpoint),
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    AllowList(#[from] AllowListError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("stopped before all calls in progress had finished")]
    CutShort,
    #[error("promises broken: {0}")]
    Broken(usize),
}

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Call(_) | Self::NoValue(_) | Self::Bind(_) | Self::Connect(_) | Self::Io(_) => 1,
            Self::Body(_) | Self::File(_) | Self::Root { .. } | Self::Input { .. } | Self::Write { .. } => 1,
            Self::CutShort | Self::Broken(_) => 1,
            Self::Plaintext(_) | Self::Rules(_) | Self::Key(_) | Self::AllowList(_) => 1,
            Self::Forward(ForwardError::Remote { reason, .. }) | Self::TunnelRefused { reason, .. } => {
                if *reason == Reason::NotConnected {
                    7
                } else {
                    4
                }
            }
            Self::TunnelEnded { end: End::LinkLost, .. } => 8,
            Self::Forward(_) | Self::TunnelEnded { .. } => 1,
            Self::Usage(_) | Self::Config(_) => 2,
            Self::Remote(_) | Self::Status { .. } => 3,
            Self::Refused(_) => 4,
            Self::TimedOut(_) => 5,
            Self::Cancelled | Self::CancelledRemotely => 6,
            Self::NotConnected { .. } => 7,
            Self::ConnectionLost(_) => 8,
            Self::NotAuthenticated { .. } => 9,
        }
    }

    /// The failure of a call; if there was no connection, with the endpoint.
    pub(crate) fn towards(self, endpoint: &Endpoint) -> Self {
        match self {
            Self::Call(CallError::NotSent(NotSent::Disconnected(cause))) => Self::no_link(endpoint, cause),
            other => other,
        }
    }

    /// There is no link to a server, for this reason.
    pub(crate) fn no_link(endpoint: &Endpoint, cause: DisconnectCause) -> Self {
        let endpoint = endpoint.to_string();
        match cause.is_authentication_failure() {
            true => Self::NotAuthenticated { endpoint, cause },
            false => Self::NotConnected { endpoint, cause: cause.to_string() },
        }
    }

    /// There was no link to a server in time.
    pub(crate) fn no_answer(endpoint: &Endpoint) -> Self {
        Self::NotConnected {
            endpoint: endpoint.to_string(),
            cause: String::from("no answer before the timeout"),
        }
    }

    /// Reports the failure on stderr, with the remote traceback if there is one.
    pub(crate) fn report(&self) {
        // The reader of stdout closed it, as `head` does: not an error.
        if let Self::Io(error) | Self::File(FileError::Io { error, .. }) = self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            return;
        }
        let mut text = format!("callosum: {self}\n");
        if let Self::Remote(info) | Self::Refused(info) = self {
            let traceback = info.traceback.trim_end();
            if !traceback.is_empty() {
                text.push_str("remote traceback:\n");
                traceback.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
            }
        }
        note(&printable(&text));
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Remote(info) => Self::Remote(info),
            CallError::Rejected(info) => Self::Refused(info),
            CallError::TimedOut { .. } => Self::TimedOut(error.to_string()),
            CallError::Cancelled => Self::CancelledRemotely,
            CallError::Disconnected(cause) => Self::ConnectionLost(cause),
            error => Self::Call(error),
        }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Call(error) => error.into(),
            error => Self::Body(error),
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Body(error) => error.into(),
            error => Self::File(error),
        }
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Plaintext { endpoint } => Self::Plaintext(endpoint),
            error => Self::Bind(error),
        }
    }
}

/// Each on a line of its own, after what there is.
fn lines(details: &[String]) -> String {
    details.iter().map(|detail| format!("\n  {detail}")).collect()
}

/// Advice about a tunnel that could not be opened, if there is any.
pub(crate) fn advice(reason: &Reason) -> &'static str {
    match reason {
        Reason::NotOffered => "; does the server run with --tunnels?",
        Reason::Forbidden => "; the rules of the server's --tunnels say who may have what",
        _ => "",
    }
}

fn forward_advice(error: &ForwardError) -> &'static str {
    match error {
        ForwardError::Remote { reason, .. } => advice(reason),
        _ => "",
    }
}

/// Writes a line to stdout, at once, as it is.
///
/// It blocks while the reader of stdout is slow. A command that has a connection uses [`tell`] or [`Lines`] instead.
pub(crate) fn say(line: &str) -> io::Result<()> {
    write_line(io::stdout().lock(), line)
}

/// Writes a line to stdout, with its styles if stdout is a terminal.
pub(crate) fn show(line: &str) -> io::Result<()> {
    write_line(anstream::stdout().lock(), line)
}

/// Writes a line to stdout as it is, while everything else goes on. Cancel safe: the line may have been written then.
pub(crate) async fn tell(line: String) -> io::Result<()> {
    unblock(move || say(&line)).await
}

/// Writes bytes to stdout as they are, likewise.
pub(crate) async fn tell_bytes(bytes: Bytes) -> io::Result<()> {
    unblock(move || {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&bytes)?;
        stdout.flush()
    })
    .await
}

/// Lines that are written as [`tell`] does, one after the other, also where the writer of one has been dropped.
#[derive(Default)]
pub(crate) struct Lines {
    /// The last one, which may be on its way.
    last: Option<Task<io::Result<()>>>,
}

impl Lines {
    /// Writes one, once those before have been. Cancel safe: it may be written later then.
    pub(crate) async fn tell(&mut self, line: String) -> io::Result<()> {
        self.written().await?;
        self.last = Some(unblock(move || say(&line)));
        self.written().await
    }

    /// Waits until the last one has been written. Cancel safe.
    pub(crate) async fn written(&mut self) -> io::Result<()> {
        let Some(last) = &mut self.last else { return Ok(()) };
        let result = last.await;
        self.last = None;
        result
    }
}

fn write_line(mut to: impl Write, line: &str) -> io::Result<()> {
    writeln!(to, "{line}")?;
    to.flush()
}
