//! Where a tunnelled connection goes.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a tunnelled connection goes, as whoever opens it names it: `db.internal:5432`, `[::1]:80` or `unix:/run/db.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// A TCP port of a host.
    Tcp {
        /// The host.
        host: Host,
        /// The port.
        port: u16,
    },
    /// A Unix stream socket, by its absolute path.
    Unix(PathBuf),
}

/// A host, by address or by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address, which needs no resolving.
    Ip(IpAddr),
    /// A name, in lower case and without a dot at its end, that the side resolves that connects to it.
    Name(String),
}

/// A text that names no [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTargetError {
    /// There is no port, or it is not a number from 1 to 65535.
    #[error("{0:?} needs a port from 1 to 65535, as in host:5432")]
    Port(String),
    /// The host is empty, longer than 253 bytes, or has a byte that no host name has.
    #[error("{0:?} is no host name or IP address")]
    Host(String),
    /// The path is relative, or has a NUL in it.
    #[error("{0:?} is no absolute path")]
    Path(String),
}

impl FromStr for Target {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.contains('\0') {
                return Err(ParseTargetError::Path(path.to_owned()));
            }
            return Ok(Self::Unix(path.into()));
        }
        let no_port = || ParseTargetError::Port(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
        let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(no_port)?;
        Ok(Self::Tcp { host: host.parse()?, port })
    }
}

impl FromStr for Host {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseTargetError::Host(text.to_owned());
        if let Some(inside) = text.strip_prefix('[') {
            let address =
                inside.strip_suffix(']').and_then(|address| address.parse().ok()).ok_or_else(bad)?;
            return Ok(Self::Ip(IpAddr::V6(address)));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(IpAddr::V4(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(bad());
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Display for Host {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Ip(address) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}
