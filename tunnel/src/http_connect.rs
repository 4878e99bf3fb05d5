//! HTTP/1.1 CONNECT (RFC 9110, section 9.3.6), the server's side, up to the end of the request's head.
//!
//! The target is that of the request line, in authority-form: `host:port` or `[v6]:port`. No header field changes it, nor
//! says that there is a body: what follows the head belongs to the target. The head is parsed once its end is there, so
//! that it costs the same in pieces; until then at most 16 KiB of it are kept.

use crate::reason::Reason;
use crate::target::Target;

/// The largest head, in bytes.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 128;

/// A client's head, as far as it has arrived.
#[derive(Debug, Default)]
pub(crate) struct Handshake {
    head: Vec<u8>,
}

/// The progress after some input.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Read more.
    More(Handshake),
    /// A request, to be answered with [`reply`]. `leftover` came behind it, and belongs to the target.
    Request { target: Target, leftover: Vec<u8> },
}

/// A malformed request, or one that is not supported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the head of the HTTP request has more than {MAX_HEAD} bytes or {MAX_HEADERS} header fields")]
    TooLarge,
    #[error("the head of the HTTP request is malformed: {0}")]
    Malformed(httparse::Error),
    #[error("the HTTP request is empty")]
    Empty,
    #[error("HTTP method {0} is not supported; only CONNECT is")]
    Method(String),
    #[error("{0:?} is not a target for CONNECT, which has the form host:port")]
    Target(String),
}

impl Error {
    /// The reply to write before the connection is closed.
    pub(crate) fn reply(&self) -> Vec<u8> {
        match self {
            Self::TooLarge => refusal("431 Request Header Fields Too Large", "", self),
            Self::Method(_) => refusal("405 Method Not Allowed", "Allow: CONNECT\r\n", self),
            Self::Malformed(_) | Self::Empty | Self::Target(_) => refusal("400 Bad Request", "", self),
        }
    }
}

impl Handshake {
    /// Takes the next bytes from the client.
    pub(crate) fn receive(mut self, bytes: &[u8]) -> Result<Progress, Error> {
        // The end of the head may have begun in earlier bytes.
        let from = self.head.len().saturating_sub(b"\n\r".len());
        self.head.extend_from_slice(bytes);
        match end_of_head(&self.head, from) {
            Some(end) if end <= MAX_HEAD => {
                let target = parse(&self.head[..end])?;
                Ok(Progress::Request { target, leftover: self.head.split_off(end) })
            }
            None if self.head.len() < MAX_HEAD => Ok(Progress::More(self)),
            _ => Err(Error::TooLarge),
        }
    }
}

/// Behind the first empty line that ends at or after an offset. Lines may end without CR (RFC 9112, section 2.2).
fn end_of_head(head: &[u8], from: usize) -> Option<usize> {
    (from..head.len()).find_map(|at| match head[at..] {
        [b'\n', b'\n', ..] => Some(at + 2),
        [b'\n', b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// Reads a head to its end.
fn parse(head: &[u8]) -> Result<Target, Error> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Error::Empty),
        Err(httparse::Error::TooManyHeaders) => return Err(Error::TooLarge),
        Err(error) => return Err(Error::Malformed(error)),
    }
    let (Some(method), Some(authority)) = (request.method, request.path) else { return Err(Error::Empty) };
    if method != "CONNECT" {
        return Err(Error::Method(method.to_owned()));
    }
    match Target::parse(authority) {
        Ok(target @ Target::Tcp { .. }) => Ok(target),
        // An authority can't be the path of a Unix socket.
        Ok(Target::Unix(_)) | Err(_) => Err(Error::Target(authority.to_owned())),
    }
}

/// The reply to a request, once the outcome of the connection is known.
///
/// Failures have the error type of RFC 9209 in Proxy-Status, which tells apart what the status code does not.
pub(crate) fn reply(outcome: Result<(), Reason>) -> Vec<u8> {
    let Err(reason) = outcome else { return b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec() };
    let (status, error) = match reason {
        Reason::Forbidden => ("403 Forbidden", "http_request_denied"),
        Reason::Refused => ("502 Bad Gateway", "connection_refused"),
        Reason::Unreachable => ("502 Bad Gateway", "destination_ip_unroutable"),
        Reason::TimedOut => ("504 Gateway Timeout", "connection_timeout"),
        Reason::UnknownHost => ("502 Bad Gateway", "dns_error"),
        Reason::Busy => ("503 Service Unavailable", "connection_limit_reached"),
        Reason::NotConnected | Reason::ShuttingDown => ("503 Service Unavailable", "destination_unavailable"),
        Reason::AddressInUse | Reason::NotOffered | Reason::Failed => {
            ("502 Bad Gateway", "proxy_internal_error")
        }
    };
    refusal(status, &format!("Proxy-Status: callosum; error={error}\r\n"), &reason)
}

fn refusal(status: &str, fields: &str, why: &dyn std::fmt::Display) -> Vec<u8> {
    let body = format!("{why}\n");
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{fields}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
