//! Encodes and decodes commands (RFC 23, RFC 37), which are the same in the clear and inside CURVE messages:
//! PING, PONG, ERROR, and READY with its metadata.
//!
//! ```text
//! command  = name-length(1) name body
//! metadata = *( name-length(1) name value-length(4) value )
//! ```

use bytes::Bytes;

use super::framing::Head;
use super::output::OutputQueue;
use super::{LinkError, ZmtpViolation};
use crate::Role;

/// The longest context of a PING (RFC 37).
const MAX_CONTEXT: usize = 16;
/// The most properties in a peer's metadata; real peers send two to five.
const MAX_PROPERTIES: usize = 256;
/// The longest identity (RFC 37).
const MAX_IDENTITY: usize = 255;
/// An error quotes at most this many bytes of an unknown socket type.
const MAX_SHOWN: usize = 32;

/// A command after the handshake.
pub(super) enum Command<'a> {
    Ping {
        context: &'a [u8],
    },
    Pong {
        context: &'a [u8],
    },
    Ready,
    Error {
        reason: String,
    },
    /// A command that a ROUTER or DEALER ignores.
    Other,
}

impl<'a> Command<'a> {
    pub(super) fn parse(payload: &'a [u8]) -> Result<Self, ZmtpViolation> {
        let (name, body) = split(payload)?;
        Ok(match name {
            b"PING" => {
                // Ignore the TTL: when to give up a silent peer is up to the configuration of this end.
                let context = body.get(2..).filter(|context| context.len() <= MAX_CONTEXT);
                Self::Ping { context: context.ok_or(ZmtpViolation::Malformed { command: "PING" })? }
            }
            b"PONG" if body.len() > MAX_CONTEXT => {
                return Err(ZmtpViolation::Malformed { command: "PONG" });
            }
            b"PONG" => Self::Pong { context: body },
            b"READY" => Self::Ready,
            b"ERROR" => Self::Error { reason: reason(body) },
            // Z-10: also SUBSCRIBE, CANCEL, JOIN and LEAVE of RFC 37, which are for other sockets.
            _ => Self::Other,
        })
    }
}

/// Splits a command into its name and its body.
pub(super) fn split(payload: &[u8]) -> Result<(&[u8], &[u8]), ZmtpViolation> {
    let (len, rest) = payload.split_first().ok_or(ZmtpViolation::Name)?;
    let (name, body) = rest.split_at_checked(usize::from(*len)).ok_or(ZmtpViolation::Name)?;
    if name.is_empty() || !name.iter().all(u8::is_ascii_alphabetic) {
        return Err(ZmtpViolation::Name);
    }
    Ok((name, body))
}

/// The reason in the body of an ERROR. A truncated one is accepted, too.
pub(super) fn reason(body: &[u8]) -> String {
    // Lenient, because the link ends in any case, and the text is only for a log.
    let (len, text) = body.split_first().unwrap_or((&0, &[]));
    String::from_utf8_lossy(&text[..text.len().min(usize::from(*len))]).into_owned()
}

/// Queues a command in the clear. `name` includes its length byte; `body` is in parts. Returns the size of
/// the frame.
pub(super) fn queue(output: &mut OutputQueue, name: &[u8], body: &[&[u8]]) -> usize {
    let len = name.len() + body.iter().map(|part| part.len()).sum::<usize>();
    let head = Head::command(len);
    output.copy(head.as_bytes());
    output.copy(name);
    body.iter().for_each(|part| output.copy(part));
    head.as_bytes().len() + len
}

/// Queues an ERROR with the reason for which the link ends.
pub(super) fn queue_error(output: &mut OutputQueue, reason: &str) {
    // Always one of our own constant texts, so it is shorter than 256 bytes.
    queue(output, b"\x05ERROR", &[&[reason.len() as u8], reason.as_bytes()]);
}

/// The metadata of one end, which is sent in READY (NULL and CURVE) and INITIATE.
#[derive(Clone, Debug)]
pub(super) struct Properties {
    /// Determines the socket type: ROUTER or DEALER.
    pub(super) role: Role,
    /// The requested routing id; may be empty.
    pub(super) identity: Bytes,
}

impl Properties {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut metadata = Vec::new();
        let mut put = |name: &[u8], value: &[u8]| {
            metadata.push(name.len() as u8);
            metadata.extend_from_slice(name);
            metadata.extend_from_slice(&(value.len() as u32).to_be_bytes());
            metadata.extend_from_slice(value);
        };
        put(b"Socket-Type", socket_type(self.role).as_bytes());
        if !self.identity.is_empty() {
            put(b"Identity", &self.identity);
        }
        metadata
    }
}

/// Decodes the peer's metadata, checks its socket type, and returns its identity. Other properties are
/// checked for their syntax only.
///
/// The identity is copied, because it lives as long as the link, and would keep the input buffer alive.
pub(super) fn parse_properties(mut metadata: &[u8], ours: Role) -> Result<Bytes, LinkError> {
    let (mut theirs, mut identity) = (None, None);
    for count in 0.. {
        if metadata.is_empty() {
            break;
        }
        if count == MAX_PROPERTIES {
            return Err(ZmtpViolation::TooManyProperties { max: MAX_PROPERTIES }.into());
        }
        let (name, value) = property(&mut metadata).ok_or(ZmtpViolation::Property)?;
        // RFC 23: case is not significant in names. A duplicate is an error, because two readers could take
        // different values.
        if name.eq_ignore_ascii_case(b"Socket-Type") && theirs.replace(value).is_some()
            || name.eq_ignore_ascii_case(b"Identity") && identity.replace(value).is_some()
        {
            return Err(ZmtpViolation::DuplicateProperty.into());
        }
    }
    let theirs = theirs.ok_or(ZmtpViolation::NoSocketType)?;
    // RFC 23, "The Socket-Type Property": a ROUTER and a REP would both wait for a request, a DEALER and a REQ
    // would both make one.
    let fits = match theirs {
        b"ROUTER" | b"DEALER" => true,
        b"REQ" => ours == Role::Binder,
        b"REP" => ours == Role::Connector,
        _ => false,
    };
    if !fits {
        let theirs = theirs[..theirs.len().min(MAX_SHOWN)].escape_ascii().to_string();
        return Err(LinkError::IncompatibleSocket { ours: socket_type(ours), theirs });
    }
    let identity = identity.unwrap_or_default();
    if !is_identity(identity) {
        return Err(ZmtpViolation::Identity.into());
    }
    Ok(Bytes::copy_from_slice(identity))
}

/// Whether a peer may announce this identity. An empty one is none.
pub(super) fn is_identity(identity: &[u8]) -> bool {
    // RFC 37 reserves identities that start with a zero byte. libzmq's ROUTER generates such ones for peers
    // that announce none.
    identity.len() <= MAX_IDENTITY && identity.first() != Some(&0)
}

/// The socket type of an end (RFC 23, RFC 28).
fn socket_type(role: Role) -> &'static str {
    match role {
        Role::Binder => "ROUTER",
        Role::Connector => "DEALER",
    }
}

/// Takes one property off the front of the metadata.
fn property<'a>(metadata: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (len, rest) = metadata.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*len))?;
    if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(byte)) {
        return None;
    }
    let (len, rest) = rest.split_first_chunk()?;
    // A length past the end of the command fails here. Nothing is allocated for it (Z-12).
    let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    *metadata = rest;
    Some((name, value))
}
