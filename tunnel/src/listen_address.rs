//! Where a side of a tunnel listens.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use callosum_runtime::Endpoint;

/// Where a side of a tunnel listens: `127.0.0.1:5432`, `[::1]:0`, `localhost:80`, `*:80` or `unix:/run/db.sock`.
///
/// `localhost` is `127.0.0.1`, and `*` is `0.0.0.0`: other names are none, so that what a rule allows is what is bound. The port 0 lets
/// the system choose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ListenAddress {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix stream socket, by its absolute path.
    Unix(PathBuf),
}

/// A text that names no [`ListenAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseListenAddressError {
    /// There is no port, or it is not a number up to 65535.
    #[error("{0:?} needs a port up to 65535, as in 127.0.0.1:5432")]
    Port(String),
    /// What stands before the port is no IP address, `localhost` or `*`.
    #[error("{0:?} is no IP address, localhost or *")]
    Address(String),
    /// The path is relative, or has a NUL in it.
    #[error("{0:?} is no absolute path")]
    Path(String),
}

impl ListenAddress {
    /// As what a runtime binds.
    pub(crate) fn endpoint(&self) -> Endpoint {
        match self {
            Self::Tcp(address) => Endpoint::Tcp { host: address.ip().to_string(), port: address.port() },
            Self::Unix(path) => Endpoint::Ipc(path.clone()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ParseListenAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.contains('\0') {
                return Err(ParseListenAddressError::Path(path.to_owned()));
            }
            return Ok(Self::Unix(path.into()));
        }
        let no_port = || ParseListenAddressError::Port(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
        let port = port.parse().map_err(|_| no_port())?;
        let bad = || ParseListenAddressError::Address(host.to_owned());
        let ip = match host {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            _ => match host.strip_prefix('[') {
                Some(rest) => {
                    let inside = rest.strip_suffix(']').ok_or_else(bad)?;
                    IpAddr::V6(inside.parse::<Ipv6Addr>().map_err(|_| bad())?)
                }
                None => IpAddr::V4(host.parse().map_err(|_| bad())?),
            },
        };
        Ok(Self::Tcp(SocketAddr::new(ip, port)))
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
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_were_written() {
        for text in ["127.0.0.1:0", "0.0.0.0:80", "[::1]:65535", "[2001:db8::1]:80", "unix:/run/db.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        assert_eq!("localhost:1".parse::<ListenAddress>().unwrap().to_string(), "127.0.0.1:1");
        assert_eq!("*:1".parse::<ListenAddress>().unwrap().to_string(), "0.0.0.0:1");
    }

    #[test]
    fn what_names_no_address_is_told_apart() {
        use ParseListenAddressError as E;
        for text in ["", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1"] {
            assert!(matches!(text.parse::<ListenAddress>(), Err(E::Port(_))), "{text}");
        }
        for text in [":80", "::1:80", "[::1:80", "[127.0.0.1]:80", "example.com:80", "[*]:80"] {
            assert!(matches!(text.parse::<ListenAddress>(), Err(E::Address(_))), "{text}");
        }
        for text in ["unix:", "unix:run/db.sock", "unix:/run/\0"] {
            assert!(matches!(text.parse::<ListenAddress>(), Err(E::Path(_))), "{text}");
        }
    }
}
