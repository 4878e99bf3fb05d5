//! The handshake of a client that brings its own target: SOCKS5 or HTTP CONNECT, told apart by the first byte.
//!
//! Read, give the bytes to [`Handshake::receive`], write the reply of what it returns, and so on until there is a request
//! or an error. Then write [`Protocol::reply`], or [`Error::reply`] and close. Limiting the time is up to the caller.

use crate::reason::Reason;
use crate::target::Target;
use crate::{http_connect, socks5};

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Socks5,
    HttpConnect,
}

/// The protocol of a client whose first byte this is: `None` for neither.
pub(crate) fn detect(first: u8) -> Option<Protocol> {
    match first {
        socks5::VERSION => Some(Protocol::Socks5),
        // Methods are words, and none begins with another character of RFC 9110's tokens.
        _ if first.is_ascii_alphabetic() => Some(Protocol::HttpConnect),
        _ => None,
    }
}

/// A client's handshake, as far as it has arrived: at most 16 KiB are kept.
#[derive(Debug, Default)]
pub(crate) enum Handshake {
    /// No byte was received yet.
    #[default]
    First,
    Socks5(socks5::Handshake),
    HttpConnect(http_connect::Handshake),
}

/// The progress after some input. `reply` has the bytes to write now, if it is not empty.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Read more.
    More { handshake: Handshake, reply: &'static [u8] },
    /// A request, to be answered with [`Protocol::reply`].
    Request { request: Request, reply: &'static [u8] },
}

/// The request of a client.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) protocol: Protocol,
    pub(crate) target: Target,
    /// Bytes received behind the request, which belong to the target.
    pub(crate) leftover: Vec<u8>,
}

/// A malformed handshake, or a request that is not supported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("neither SOCKS5 nor HTTP: the first byte is {0:#04x}")]
    Protocol(u8),
    #[error(transparent)]
    Socks5(#[from] socks5::Refusal),
    #[error(transparent)]
    HttpConnect(#[from] http_connect::Error),
}

impl Error {
    /// The reply to write before the connection is closed, if it is not empty.
    pub(crate) fn reply(&self) -> Vec<u8> {
        match self {
            Self::Protocol(_) => Vec::new(),
            Self::Socks5(refusal) => refusal.reply.clone(),
            Self::HttpConnect(error) => error.reply(),
        }
    }
}

impl Protocol {
    /// The reply to a request, once the outcome of the connection is known.
    pub(crate) fn reply(self, outcome: Result<(), Reason>) -> Vec<u8> {
        match self {
            Self::Socks5 => socks5::reply(outcome).to_vec(),
            Self::HttpConnect => http_connect::reply(outcome),
        }
    }
}

impl Handshake {
    /// Takes the next bytes from the client.
    pub(crate) fn receive(self, bytes: &[u8]) -> Result<Progress, Error> {
        match self {
            Self::First => {
                let Some(&first) = bytes.first() else {
                    return Ok(Progress::More { handshake: self, reply: &[] });
                };
                match detect(first).ok_or(Error::Protocol(first))? {
                    Protocol::Socks5 => Self::Socks5(socks5::Handshake::new()),
                    Protocol::HttpConnect => Self::HttpConnect(http_connect::Handshake::default()),
                }
                .receive(bytes)
            }
            Self::Socks5(handshake) => Ok(match handshake.receive(bytes)? {
                socks5::Progress::More { handshake, reply } => {
                    Progress::More { handshake: Self::Socks5(handshake), reply }
                }
                socks5::Progress::Request { target, leftover, reply } => Progress::Request {
                    request: Request { protocol: Protocol::Socks5, target, leftover },
                    reply,
                },
            }),
            Self::HttpConnect(handshake) => Ok(match handshake.receive(bytes)? {
                http_connect::Progress::More(handshake) => {
                    Progress::More { handshake: Self::HttpConnect(handshake), reply: &[] }
                }
                http_connect::Progress::Request { target, leftover } => Progress::Request {
                    request: Request { protocol: Protocol::HttpConnect, target, leftover },
                    reply: &[],
                },
            }),
        }
    }
}

#[cfg(test)]
mod tests;
