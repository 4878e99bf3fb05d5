//! SOCKS5 (RFC 1928), the server's side, up to the request: bytes in, target and replies out.
//!
//! A client sends a greeting with the authentication methods that it supports, gets the answer "none needed", and sends a
//! request. Whether the method's answer was read first does not matter: clients may send both at once. Only CONNECT is
//! served. Names are not resolved here, but by the side that connects. At most 262 bytes are kept, beside what the last
//! input had behind the request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::reason::Reason;
use crate::target::{Host, Target};

pub(crate) const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Codes of a reply (RFC 1928, section 6).
mod code {
    pub(super) const SUCCEEDED: u8 = 0;
    pub(super) const GENERAL_FAILURE: u8 = 1;
    pub(super) const NOT_ALLOWED: u8 = 2;
    pub(super) const NETWORK_UNREACHABLE: u8 = 3;
    pub(super) const HOST_UNREACHABLE: u8 = 4;
    pub(super) const CONNECTION_REFUSED: u8 = 5;
    /// TTL expired; the RFC has no code for a timeout, and servers use this one.
    pub(super) const TTL_EXPIRED: u8 = 6;
    pub(super) const COMMAND_NOT_SUPPORTED: u8 = 7;
    pub(super) const ADDRESS_TYPE_NOT_SUPPORTED: u8 = 8;
}

/// A client's greeting or request, as far as it has arrived.
#[derive(Debug)]
pub(crate) enum Handshake {
    Greeting(Vec<u8>),
    Request(Vec<u8>),
}

/// The progress after some input. `reply` has the bytes to write now, if it is not empty.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Read more.
    More { handshake: Handshake, reply: &'static [u8] },
    /// A request, to be answered with [`reply`]. `leftover` came behind it, and belongs to the target.
    Request { target: Target, leftover: Vec<u8>, reply: &'static [u8] },
}

/// The end of a handshake that comes to no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Refusal {
    pub(crate) error: Error,
    /// The reply to write before the connection is closed, if it is not empty. The answer to the greeting goes before, if it has
    /// not been written yet.
    pub(crate) reply: Vec<u8>,
}

/// A malformed handshake, or a request that is not supported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("SOCKS version {0} is not 5")]
    Version(u8),
    #[error("the client offers no SOCKS5 method without authentication")]
    NoAcceptableMethod,
    #[error("SOCKS version {0} in a request is not 5")]
    RequestVersion(u8),
    #[error("SOCKS5 command {0} is not supported; only CONNECT is")]
    Command(u8),
    #[error("the reserved byte of a SOCKS5 request is {0}, not 0")]
    Reserved(u8),
    #[error("SOCKS5 address type {0} is not supported")]
    AddressType(u8),
    #[error("{0:?} in a SOCKS5 request is not a host name or IP address")]
    Host(String),
    #[error("the port in a SOCKS5 request is 0")]
    Port,
}

impl Error {
    /// The reply. Empty for a client that does not speak SOCKS5.
    fn reply(&self) -> Vec<u8> {
        let code = match self {
            Self::Version(_) => return Vec::new(),
            Self::NoAcceptableMethod => return vec![VERSION, NO_ACCEPTABLE_METHOD],
            Self::RequestVersion(_) | Self::Reserved(_) | Self::Port => code::GENERAL_FAILURE,
            Self::Command(_) => code::COMMAND_NOT_SUPPORTED,
            Self::AddressType(_) => code::ADDRESS_TYPE_NOT_SUPPORTED,
            Self::Host(_) => code::HOST_UNREACHABLE,
        };
        encode(code).to_vec()
    }
}

impl Handshake {
    pub(crate) fn new() -> Self {
        Self::Greeting(Vec::new())
    }

    /// Takes the next bytes from the client.
    pub(crate) fn receive(self, bytes: &[u8]) -> Result<Progress, Refusal> {
        match self {
            Self::Greeting(mut greeting) => {
                greeting.extend_from_slice(bytes);
                match parse_greeting(&greeting).map_err(|error| Refusal { reply: error.reply(), error })? {
                    Some(end) => request(greeting.split_off(end), &[VERSION, NO_AUTHENTICATION]),
                    None => Ok(Progress::More { handshake: Self::Greeting(greeting), reply: &[] }),
                }
            }
            Self::Request(mut start) => {
                start.extend_from_slice(bytes);
                request(start, &[])
            }
        }
    }
}

/// Where the greeting ends, once all of it is there.
fn parse_greeting(bytes: &[u8]) -> Result<Option<usize>, Error> {
    match *bytes {
        [version, ..] if version != VERSION => Err(Error::Version(version)),
        [_, count, ref rest @ ..] if rest.len() >= usize::from(count) => {
            let methods = &rest[..usize::from(count)];
            if !methods.contains(&NO_AUTHENTICATION) {
                return Err(Error::NoAcceptableMethod);
            }
            Ok(Some(2 + methods.len()))
        }
        _ => Ok(None),
    }
}

/// Reads a request, after a reply that is still to be written.
fn request(mut bytes: Vec<u8>, reply: &'static [u8]) -> Result<Progress, Refusal> {
    match parse_request(&bytes) {
        Ok(Some((target, end))) => Ok(Progress::Request { target, leftover: bytes.split_off(end), reply }),
        Ok(None) => Ok(Progress::More { handshake: Handshake::Request(bytes), reply }),
        Err(error) => Err(Refusal { reply: [reply, &error.reply()].concat(), error }),
    }
}

/// The target, and where the request ends, once all of it is there.
///
/// A command or host that is refused is refused then only: what is still to be read when the connection is closed could
/// reset it before the client has the reply.
fn parse_request(bytes: &[u8]) -> Result<Option<(Target, usize)>, Error> {
    let (kind, rest) = match *bytes {
        [version, ..] if version != VERSION => return Err(Error::RequestVersion(version)),
        [_, _, reserved, ..] if reserved != 0 => return Err(Error::Reserved(reserved)),
        [_, _, _, kind, ref rest @ ..] => (kind, rest),
        _ => return Ok(None),
    };
    let length = match (kind, rest.first()) {
        (IPV4, _) => size_of::<Ipv4Addr>(),
        (IPV6, _) => size_of::<Ipv6Addr>(),
        (NAME, Some(&length)) => 1 + usize::from(length),
        (NAME, None) => return Ok(None),
        (other, _) => return Err(Error::AddressType(other)),
    };
    let (Some(address), Some(&[high, low])) = (rest.get(..length), rest.get(length..length + 2)) else {
        return Ok(None);
    };
    if bytes[1] != CONNECT {
        return Err(Error::Command(bytes[1]));
    }
    let host = parse_host(kind, address)?;
    let port = u16::from_be_bytes([high, low]);
    if port == 0 {
        return Err(Error::Port);
    }
    Ok(Some((Target::Tcp { host, port }, 4 + length + 2)))
}

fn parse_host(kind: u8, address: &[u8]) -> Result<Host, Error> {
    if let (IPV4, Ok(octets)) = (kind, <[u8; 4]>::try_from(address)) {
        return Ok(Host::from(IpAddr::from(octets)));
    }
    if let (IPV6, Ok(octets)) = (kind, <[u8; 16]>::try_from(address)) {
        return Ok(Host::from(IpAddr::from(octets)));
    }
    // Behind the length. Some clients write addresses as names, those of IPv6 without brackets.
    let name = String::from_utf8_lossy(&address[1..]);
    let host = name.parse().ok().or_else(|| name.parse::<IpAddr>().ok().map(Host::from));
    host.ok_or_else(|| Error::Host(name.into_owned()))
}

/// The reply to a request, once the outcome of the connection is known.
pub(crate) fn reply(outcome: Result<(), Reason>) -> [u8; 10] {
    encode(match outcome {
        Ok(()) => code::SUCCEEDED,
        Err(Reason::Forbidden) => code::NOT_ALLOWED,
        Err(Reason::Refused) => code::CONNECTION_REFUSED,
        Err(Reason::Unreachable | Reason::UnknownHost) => code::HOST_UNREACHABLE,
        Err(Reason::TimedOut) => code::TTL_EXPIRED,
        Err(Reason::NotConnected | Reason::ShuttingDown) => code::NETWORK_UNREACHABLE,
        Err(Reason::Busy | Reason::AddressInUse | Reason::NotOffered | Reason::Failed) => {
            code::GENERAL_FAILURE
        }
    })
}

/// With 0.0.0.0:0 as the bound address: the far side's is nothing to the client.
fn encode(code: u8) -> [u8; 10] {
    [VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
