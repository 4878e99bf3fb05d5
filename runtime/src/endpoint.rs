//! Where a peer binds or connects: `tcp://`, `ipc://` and `inproc://`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address in ZeroMQ's notation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `tcp://host:port`. The host is a name, an IPv4 address, or an IPv6 address in brackets. To bind, `*` as host
    /// means every IPv4 address, and `*` or 0 as port one that the system chooses.
    Tcp {
        /// Without brackets.
        host: String,
        /// 0 for one that the system chooses.
        port: u16,
    },
    /// `ipc:///path`: a Unix domain socket.
    Ipc(PathBuf),
    /// `inproc://name`: in this process, whatever the executor.
    Inproc(String),
}

/// Why a text is not an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an endpoint: {problem}")]
pub struct ParseEndpointError {
    text: String,
    problem: &'static str,
}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |problem| Err(ParseEndpointError { text: text.to_owned(), problem });
        let Some((scheme, rest)) = text.split_once("://") else {
            return fail("it must start with tcp://, ipc:// or inproc://");
        };
        match scheme {
            "tcp" => match parse_tcp(rest) {
                Ok((host, port)) => Ok(Self::Tcp { host, port }),
                Err(problem) => fail(problem),
            },
            "ipc" if rest.is_empty() => fail("ipc:// needs a path, as in ipc:///run/manager.sock"),
            "ipc" => Ok(Self::Ipc(PathBuf::from(rest))),
            "inproc" if rest.is_empty() => fail("inproc:// needs a name"),
            "inproc" => Ok(Self::Inproc(rest.to_owned())),
            _ => fail("the scheme must be tcp, ipc or inproc"),
        }
    }
}

impl Endpoint {
    /// Whether only this machine can reach it; `None` if that shows only once the host's name is resolved.
    pub(crate) fn is_local(&self) -> Option<bool> {
        match self {
            Self::Ipc(_) | Self::Inproc(_) => Some(true),
            // RFC 6761, section 6.3.
            Self::Tcp { host, .. } if host.eq_ignore_ascii_case("localhost") => Some(true),
            Self::Tcp { host, .. } => {
                host.parse::<IpAddr>().ok().map(|address| address.to_canonical().is_loopback())
            }
        }
    }
}

fn parse_tcp(rest: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = rest.rsplit_once(':').ok_or("tcp:// needs a port, as in tcp://127.0.0.1:5555")?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or("the `]` after the IPv6 address is missing")?,
        None if host.contains(':') => {
            return Err("an IPv6 address needs brackets, as in tcp://[::1]:5555");
        }
        None => host,
    };
    let host = match host {
        "" => return Err("the host is missing"),
        "*" => "0.0.0.0",
        host => host,
    };
    let port = match port {
        "*" => 0,
        port => port.parse().map_err(|_| "the port must be a number up to 65535, or *")?,
    };
    Ok((host.to_owned(), port))
}

impl TryFrom<&str> for Endpoint {
    type Error = ParseEndpointError;
    fn try_from(text: &str) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = ParseEndpointError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl TryFrom<&String> for Endpoint {
    type Error = ParseEndpointError;
    fn try_from(text: &String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl TryFrom<&Endpoint> for Endpoint {
    type Error = ParseEndpointError;
    fn try_from(endpoint: &Endpoint) -> Result<Self, Self::Error> {
        Ok(endpoint.clone())
    }
}

impl From<std::convert::Infallible> for ParseEndpointError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Ipc(path) => write!(f, "ipc://{}", path.display()),
            Self::Inproc(name) => write!(f, "inproc://{name}"),
        }
    }
}
