//! Where a tunnelled connection goes, and the one spelling in which a target is compared with rules.
//!
//! A rule about `db.internal` must hold for every text that reaches the same host. So a text is either brought into one
//! form here (lower case, no dot at the end, IPv4-mapped addresses as IPv4), or it is no target: `127.1` and `0x7f000001`,
//! which resolvers take for addresses, and paths that the kernel would resolve to another text.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest path of a Unix socket, in bytes: what `sockaddr_un` takes on Linux, without the NUL at its end.
const MAX_PATH: usize = 107;
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Where a tunnelled connection goes, as the end that opens it names it: `db.internal:5432`, `[::1]:80` or `unix:/run/db.sock`.
///
/// In a text, the host may be in brackets, as an IPv6 address has to be. [`Display`] writes what [`FromStr`] reads. One that
/// was built otherwise than from a text, and has no text of its own (port 0, a name in upper case, a path with `..`), is allowed by
/// no rule.
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
    /// A Unix stream socket, by its absolute path of at most 107 bytes, without `.`, `..` and empty parts.
    Unix(PathBuf),
}

/// A host, by address or by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address, which needs no resolving. IPv4-mapped addresses are written as IPv4.
    Ip(IpAddr),
    /// A name, in lower case and without a dot at its end, that the side resolves that connects to it.
    ///
    /// It has at most 253 bytes and never ends in a number, as the short, octal and hexadecimal forms of IPv4
    /// addresses do.
    Name(String),
}

/// A text that names no [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTargetError {
    /// There is no port, or it is not a number from 1 to 65535.
    #[error("{0:?} needs a port from 1 to 65535, as in host:5432")]
    Port(String),
    /// The host is empty, longer than 253 bytes, has a byte that no host name has, or ends in a number without being an
    /// IPv4 address of four decimal numbers.
    #[error("{0:?} is not a host name or IP address; write IPv6 addresses in brackets, without a zone")]
    Host(String),
    /// The path is relative, longer than 107 bytes, or not in normal form.
    #[error(
        "{0:?} is not an absolute path of at most {MAX_PATH} bytes, without `.`, `..`, empty parts and control characters"
    )]
    Path(String),
}

impl FromStr for Target {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `ssh` takes brackets around every host, and writes them for its `ProxyJump`.
        match without_brackets(text) {
            Some(plain) => Self::parse(&plain),
            None => Self::parse(text),
        }
    }
}

impl Target {
    /// Reads a target as it is written on the wire (U-1): only IPv6 addresses are in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseTargetError> {
        // A host may be called `unix`.
        if let Some(path) = text.strip_prefix("unix:").filter(|path| parse_port(path).is_none()) {
            return parse_path(path).map(Self::Unix);
        }
        let no_port = || ParseTargetError::Port(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
        let port = parse_port(port).filter(|&port| port != 0).ok_or_else(no_port)?;
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
            return Ok(Self::from(IpAddr::V6(address)));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(IpAddr::V4(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if !is_name(name) {
            return Err(bad());
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }
}

impl Target {
    /// Whether it is what its own text says: one that rules can be asked about.
    pub(crate) fn is_normal(&self) -> bool {
        match self {
            Self::Tcp { host: Host::Ip(_), port } => *port != 0,
            Self::Tcp { host: Host::Name(name), port } => {
                *port != 0 && is_name(name) && !name.bytes().any(|byte| byte.is_ascii_uppercase())
            }
            Self::Unix(path) => is_normal_path(path),
        }
    }
}

/// The same without the brackets around a host that needs none.
fn without_brackets(text: &str) -> Option<String> {
    let (host, port) = text.strip_prefix('[')?.rsplit_once("]:")?;
    (parse_port(port).is_some() && !host.contains([':', '[', ']'])).then(|| format!("{host}:{port}"))
}

fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name.len() <= MAX_NAME && name.split('.').all(label) && !ends_in_number(name)
}

/// Whether resolvers would take it for an IPv4 address, or refuse it as a wrong one ("ends in a number" of the URL standard).
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let digits = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A port in decimal, without the sign that [`u16`] would take.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Reads the path of a Unix socket.
pub(crate) fn parse_path(text: &str) -> Result<PathBuf, ParseTargetError> {
    let path = Path::new(text);
    is_normal_path(path).then(|| path.to_owned()).ok_or_else(|| ParseTargetError::Path(text.to_owned()))
}

/// Whether a path is absolute and has no part that the kernel skips or climbs. Symbolic links are not looked at.
pub(crate) fn is_normal_path(path: &Path) -> bool {
    let parts = path.to_str().and_then(|text| text.strip_prefix('/'));
    path.as_os_str().len() <= MAX_PATH
        && parts.is_some_and(|parts| {
            !parts.contains(char::is_control) && !parts.split('/').any(|part| matches!(part, "" | "." | ".."))
        })
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

#[cfg(test)]
mod tests;
