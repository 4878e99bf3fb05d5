//! The wire format: names of methods, metadata, and names of failures. `PROTOCOL.md` has the rules.
//!
//! Responsible for reading and writing these, not for acting on them. The idea: a tunnelled connection is one call
//! whose argument and result are streams, so the tunnel needs no framing; it adds only metadata of the call, and the
//! name of the failure that ends it.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;

use callosum_runtime::{CallError, HandlerError, Metadata, MetadataTooLarge, NotSent, Refusal};

use crate::{End, ListenAddress, Reason, Target};

/// Opens a connection to a target (U-1).
pub(crate) const CONNECT: &str = "callosum.tunnel.connect";

/// Listens, for as long as the call lasts (U-8).
pub(crate) const LISTEN: &str = "callosum.tunnel.listen";

/// With a number behind it: a connection that was accepted by a listener (U-9).
pub(crate) const INCOMING: &str = "callosum.tunnel.incoming.";

const TARGET: &str = "target";
const SOURCE: &str = "source";
const ADDRESS: &str = "address";
const METHOD: &str = "method";

/// Malformed metadata of a call. The error's name is sent to the other side (U-3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata {name:?}: {problem}")]
pub(crate) struct TunnelMalformed {
    name: &'static str,
    problem: String,
}

/// The metadata of a call that opens a connection: where to, unless the method says so, and from where.
pub(crate) fn connect(
    target: Option<&Target>,
    source: Option<SocketAddr>,
) -> Result<Metadata, MetadataTooLarge> {
    let mut metadata = Metadata::new();
    if let Some(target) = target {
        metadata.insert(TARGET, target.to_string())?;
    }
    if let Some(source) = source {
        metadata.insert(SOURCE, source.to_string())?;
    }
    Ok(metadata)
}

/// Where a connection is to go.
pub(crate) fn target(metadata: &Metadata) -> Result<Target, TunnelMalformed> {
    parse(metadata, TARGET, Target::parse)
}

/// The client's address, as the other side reports it. If it is malformed, it counts as absent: no decision depends on it.
pub(crate) fn source(metadata: &Metadata) -> Option<SocketAddr> {
    parse(metadata, SOURCE, SocketAddr::from_str).ok()
}

/// The metadata of a call that listens: where, and which method is to be called for each connection.
pub(crate) fn listen(address: &ListenAddress, method: &str) -> Result<Metadata, MetadataTooLarge> {
    let mut metadata = listening(address)?;
    metadata.insert(METHOD, method.to_owned())?;
    Ok(metadata)
}

/// The metadata of its result: where it really listens.
pub(crate) fn listening(address: &ListenAddress) -> Result<Metadata, MetadataTooLarge> {
    let mut metadata = Metadata::new();
    metadata.insert(ADDRESS, address.to_string())?;
    Ok(metadata)
}

/// Where to listen, or where the other side listens.
pub(crate) fn address(metadata: &Metadata) -> Result<ListenAddress, TunnelMalformed> {
    parse(metadata, ADDRESS, ListenAddress::parse)
}

/// The method to call for each connection. Its name has to have the prefix of such methods.
pub(crate) fn method(metadata: &Metadata) -> Result<String, TunnelMalformed> {
    let method: String = parse(metadata, METHOD, String::from_str)?;
    let number = method.strip_prefix(INCOMING).unwrap_or_default();
    match (1..=20).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Ok(method),
        false => Err(TunnelMalformed {
            name: METHOD,
            problem: format!("{method:?} is not {INCOMING} and a number"),
        }),
    }
}

fn parse<T, E: Display>(
    metadata: &Metadata,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, TunnelMalformed> {
    let malformed = |problem: String| TunnelMalformed { name, problem };
    let value = metadata.get(name).ok_or_else(|| malformed("it is missing".into()))?;
    let text = std::str::from_utf8(value).map_err(|error| malformed(error.to_string()))?;
    parse(text).map_err(|error| malformed(error.to_string()))
}

/// The names of failures, and what each means before a connection is open (U-5), or of a listener. Of several names of one reason, the
/// first is sent.
const REASONS: [(&str, Reason); 10] = [
    ("TunnelForbidden", Reason::Forbidden),
    ("TunnelRefused", Reason::Refused),
    ("TunnelUnreachable", Reason::Unreachable),
    ("TunnelTimedOut", Reason::TimedOut),
    ("TunnelUnknownHost", Reason::UnknownHost),
    ("TunnelBusy", Reason::Busy),
    ("TunnelAddressInUse", Reason::AddressInUse),
    ("TunnelShuttingDown", Reason::ShuttingDown),
    ("TunnelFailed", Reason::Failed),
    // A listener whose right was withdrawn (U-8).
    ("TunnelRevoked", Reason::Forbidden),
];

/// The same once it is open (U-7).
const ENDS: [(&str, End); 4] = [
    ("TunnelReset", End::ResetHere),
    ("TunnelIdle", End::Idle),
    ("TunnelRevoked", End::Revoked),
    ("TunnelShuttingDown", End::ShutDown),
];

/// The failure of a call whose connection is not opened.
pub(crate) fn refusal(reason: Reason) -> HandlerError {
    let name = REASONS.iter().find(|(_, of)| *of == reason).map_or("TunnelFailed", |(name, _)| name);
    HandlerError::new(name, &reason.to_string())
}

/// The failure of a call whose connection did not end with both FINs.
pub(crate) fn failure(end: End) -> HandlerError {
    let name = ENDS.iter().find(|(_, of)| *of == end).map_or("TunnelReset", |(name, _)| name);
    HandlerError::new(name, &end.to_string())
}

/// Why the other side does not open a connection.
pub(crate) fn reason(error: &CallError) -> Reason {
    match error {
        CallError::Remote(info) => REASONS
            .iter()
            .find(|(name, _)| &*info.name == *name)
            .map_or(Reason::Failed, |(_, reason)| *reason),
        CallError::Rejected(_) => match error.refusal() {
            Some(Refusal::Busy) => Reason::Busy,
            Some(Refusal::ShuttingDown) => Reason::ShuttingDown,
            Some(Refusal::ExecutionTimedOut) => Reason::TimedOut,
            Some(Refusal::NoSuchMethod) => Reason::NotOffered,
            _ => Reason::Failed,
        },
        CallError::TimedOut { .. } => Reason::TimedOut,
        CallError::Disconnected(_) => Reason::NotConnected,
        CallError::NotSent(NotSent::Refused(error)) => match error {
            callosum_runtime::InvokeError::QueueFull { .. } => Reason::Busy,
            callosum_runtime::InvokeError::PeerDraining => Reason::ShuttingDown,
            callosum_runtime::InvokeError::NeedsDialect2 => Reason::NotOffered,
            _ => Reason::NotConnected,
        },
        CallError::NotSent(_) => Reason::NotConnected,
        _ => Reason::Failed,
    }
}

/// The end of a connection as the other side reported it.
pub(crate) fn end(error: &CallError) -> End {
    match error {
        CallError::Remote(info) => match ENDS.iter().find(|(name, _)| &*info.name == *name) {
            Some((_, End::ResetHere)) | None => End::ResetThere,
            Some((_, end)) => *end,
        },
        CallError::Disconnected(_) | CallError::NotSent(_) => End::LinkLost,
        CallError::Rejected(_) if error.refusal() == Some(Refusal::ExecutionTimedOut) => End::TimeLimit,
        _ => End::ResetThere,
    }
}

#[cfg(test)]
mod tests;
