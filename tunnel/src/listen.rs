//! Where connections are accepted.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use callosum_runtime::Endpoint;

use crate::target::{parse_path, parse_port};

/// Where connections are accepted: `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/proxy.sock`.
///
/// As a text, `PORT` alone and `localhost:PORT` are 127.0.0.1, `*:PORT` and `:PORT` are 0.0.0.0 (every IPv4 address;
/// every address is `[::]:PORT`), and a path may stand without `unix:`. The address may be in brackets, as an IPv6 address
/// has to be. Names of hosts are not taken: what they resolve to may change between the check and the listen. [`Display`]
/// writes what [`FromStr`] reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenAddress {
    /// A TCP address and port. Port 0 lets the system choose one.
    Tcp(SocketAddr),
    /// A Unix stream socket, by its absolute path of at most 107 bytes, without `.`, `..` and empty parts. Its file has the mode 0600:
    /// only the user of the process that listens may connect.
    Unix(PathBuf),
}

/// A text that names no [`ListenAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseListenAddressError {
    /// There is no port, or it is no number from 0 to 65535.
    #[error("{0:?} needs a port from 0 to 65535, as in 8080 or 127.0.0.1:8080; 0 lets the system choose")]
    Port(String),
    /// The text is not an address to listen on.
    #[error(
        "{0:?} is not an address to listen on: write an IP address (IPv6 in brackets), localhost, or * for 0.0.0.0"
    )]
    Address(String),
    /// The path is relative, longer than 107 bytes, or not in normal form.
    #[error(
        "{0:?} is not an absolute path of at most 107 bytes, without `.`, `..`, empty parts and control characters"
    )]
    Path(String),
}

impl ListenAddress {
    /// Reads an address as it is written on the wire (U-8), without what users may leave out.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseListenAddressError> {
        let is_complete = text.starts_with("unix:") || text.parse::<SocketAddr>().is_ok();
        match is_complete {
            true => text.parse(),
            false => Err(ParseListenAddressError::Address(text.to_owned())),
        }
    }

    /// As what a runtime binds.
    pub(crate) fn endpoint(&self) -> Endpoint {
        match self {
            Self::Tcp(address) => Endpoint::Tcp { host: address.ip().to_string(), port: address.port() },
            Self::Unix(path) => Endpoint::Ipc(path.clone()),
        }
    }

    /// The same with the port that the system chose.
    pub(crate) fn bound(&self, endpoint: &Endpoint) -> Self {
        match (self, endpoint) {
            (Self::Tcp(address), Endpoint::Tcp { port, .. }) => {
                Self::Tcp(SocketAddr::new(address.ip(), *port))
            }
            _ => self.clone(),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ParseListenAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text));
        if let Some(path) = path {
            let path = parse_path(path).map_err(|_| ParseListenAddressError::Path(path.to_owned()))?;
            return Ok(Self::Unix(path));
        }
        let (bind, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
        let port = parse_port(port).ok_or_else(|| ParseListenAddressError::Port(text.to_owned()))?;
        let address = parse_bind(bind).ok_or_else(|| ParseListenAddressError::Address(bind.to_owned()))?;
        Ok(Self::Tcp(SocketAddr::new(address, port)))
    }
}

fn parse_bind(bind: &str) -> Option<IpAddr> {
    if bind.is_empty() {
        return Some(Ipv4Addr::UNSPECIFIED.into());
    }
    let bind = match bind.strip_prefix('[') {
        Some(inside) => {
            let inside = inside.strip_suffix(']')?;
            if let Ok(address) = inside.parse::<Ipv6Addr>() {
                return Some(IpAddr::V6(address).to_canonical());
            }
            inside
        }
        None => bind,
    };
    match bind {
        "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
        _ if bind.eq_ignore_ascii_case("localhost") => Some(Ipv4Addr::LOCALHOST.into()),
        _ => bind.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

impl Display for ListenAddress {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests;
