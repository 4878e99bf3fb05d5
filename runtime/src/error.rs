//! Errors of calls, handlers, connections and endpoints.
//!
//! The text of an error contains the text of its cause, so `to_string` is complete; `source` then returns `None`,
//! because a report of an error with its sources would otherwise print the cause twice.

mod call;
mod handler;
mod io_kind;

pub use call::{BodyError, CallError, NotSent};
pub(crate) use handler::name_of;
pub use handler::{HandlerError, HandlerResult};

use std::io;
use std::sync::Arc;
use std::time::Duration;

use callosum_proto::{CloseCause, zmtp};

use crate::auth::AuthenticationError;
use crate::endpoint::ParseEndpointError;

/// Why a connection ended, or could not be made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectCause {
    /// This side shut down.
    #[error("this endpoint was shut down")]
    Shutdown,
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// The connection was closed: by [`Peer::disconnect`](crate::Peer::disconnect) ([`CloseCause::Local`]), by the
    /// engine, or because the peer was restarted.
    #[error(transparent)]
    Connection(CloseCause),
    /// The peer broke ZeroMQ's wire protocol, or refused this side's.
    #[error(transparent)]
    Protocol(Arc<zmtp::LinkError>),
    /// One side rejected the other.
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    /// The operating system reported an error.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// A message link ended.
    #[error("the message link ended: {0}")]
    Link(Arc<dyn std::error::Error + Send + Sync>),
    /// A byte stream, a message link or a scheduler of the application panicked.
    #[error("the link panicked")]
    Panicked,
    /// More connections are in their handshake than allowed, and this one was evicted for a newer one.
    #[error("too many connections are in their handshake")]
    TooManyHandshakes,
    /// A message link has as many peers as allowed.
    #[error("too many peers are on the message link")]
    TooManyPeers,
}

impl DisconnectCause {
    /// Whether one side rejected the other: trying again helps only after a change of keys or of the admitted clients.
    pub fn is_authentication_failure(&self) -> bool {
        matches!(self, Self::Authentication(_))
    }

    pub(crate) fn close_cause(&self) -> CloseCause {
        match self {
            Self::Shutdown => CloseCause::Local,
            Self::Connection(cause) => *cause,
            _ => CloseCause::LinkLost,
        }
    }
}

impl From<io::Error> for DisconnectCause {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::PeerClosed,
            _ => Self::Io(Arc::new(error)),
        }
    }
}

impl From<zmtp::LinkError> for DisconnectCause {
    fn from(error: zmtp::LinkError) -> Self {
        match error {
            zmtp::LinkError::NotAdmitted { public_key } => {
                AuthenticationError::NotAdmitted { public_key }.into()
            }
            zmtp::LinkError::MechanismMismatch { ours, theirs } => {
                AuthenticationError::Mechanism { ours, theirs }.into()
            }
            error => Self::Protocol(Arc::new(error)),
        }
    }
}

/// A handler with this name exists already, or a service has a method with this name twice.
/// [`Handlers::replace`](crate::Handlers::replace) replaces one that exists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a handler named `{name}` already exists")]
pub struct HandlerExists {
    pub(crate) name: String,
}

impl HandlerExists {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Why an endpoint can't be connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The text is no endpoint.
    #[error(transparent)]
    Endpoint(#[from] ParseEndpointError),
    /// Two handlers of one name were given to the builder.
    #[error(transparent)]
    HandlerExists(#[from] HandlerExists),
}

/// Why an endpoint could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The text is no endpoint.
    #[error(transparent)]
    Endpoint(#[from] ParseEndpointError),
    /// The system refused.
    #[error("can't bind {endpoint}: {error}")]
    Io {
        /// The endpoint.
        endpoint: crate::Endpoint,
        /// What the system said.
        error: io::Error,
    },
    /// Every machine that reaches this address could call, read and change everything: without an
    /// [authenticator](crate::Builder::authenticator), only the loopback interface, `ipc://` and `inproc://` are bound.
    #[error(
        "{endpoint} can be reached from other machines, and nothing would be encrypted or authenticated: give the \
         endpoint an authenticator, bind a loopback or ipc:// address, or allow plaintext explicitly"
    )]
    Plaintext {
        /// The endpoint.
        endpoint: crate::Endpoint,
    },
    /// The authenticator has no server identity to bind with.
    #[error("can't bind: {0}")]
    Authentication(AuthenticationError),
    /// Two handlers of one name were given to the builder.
    #[error(transparent)]
    HandlerExists(#[from] HandlerExists),
    /// The binder is shutting down, or its driver has been dropped, so no connection would be accepted.
    #[error("the binder is shut down")]
    Shutdown,
}

impl From<AuthenticationError> for BindError {
    fn from(error: AuthenticationError) -> Self {
        Self::Authentication(error)
    }
}

/// Why a driver ended without [`shutdown`](crate::Binder::shutdown).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The connection could not be made, or ended, and the connector does not reconnect.
    #[error("not connected: {0}")]
    Disconnected(DisconnectCause),
    /// An endpoint with an [authenticator](crate::Builder::authenticator) was given a message link, which can neither
    /// encrypt nor authenticate.
    #[error("a message link can't authenticate its peers")]
    LinkWithoutAuthentication,
    /// Two handlers of one name were given to the [`Builder`](crate::Builder).
    #[error(transparent)]
    HandlerExists(#[from] HandlerExists),
}

/// The result of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All calls ended by themselves, and the peers have received all replies and streams, except those whose connections
    /// were lost meanwhile.
    Completely,
    /// The grace period was over. The remaining calls were cancelled, a peer has not acknowledged its replies, or a connection was
    /// still being closed.
    DeadlinePassed,
}

/// A timeout that was given as zero where that makes no sense.
pub(crate) fn at_least_one_milli(duration: Duration) -> Duration {
    duration.max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use callosum_proto::{ErrorInfo, InvokeError, ReadError, StreamFault};

    use super::*;
    use crate::auth::{KeyFileError, load_keys};
    use crate::codec::CodecError;

    fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
        std::iter::successors(Some(error), |error| (*error).source()).map(ToString::to_string).collect()
    }

    /// As anyhow's `{:#}`, eyre and log lines print errors: the text, then that of each source.
    #[test]
    fn no_cause_is_printed_twice() {
        let io = || io::Error::other("the disk is on fire");
        let codec = || CodecError::from(crate::FormatError::from(io()));
        let violation = || zmtp::LinkError::from(zmtp::ZmtpViolation::Forged);
        let handshake = || zmtp::LinkError::from(zmtp::ZmtpViolation::PeerIsServer);
        let errors: Vec<Box<dyn Error>> = vec![
            Box::new(CallError::Remote(ErrorInfo::new("MountError", "no such volume"))),
            Box::new(CallError::NotSent(NotSent::Refused(InvokeError::Draining))),
            Box::new(CallError::NotSent(NotSent::Disconnected(io().into()))),
            Box::new(CallError::Disconnected(violation().into())),
            Box::new(CallError::Incomplete(ReadError::Fault(StreamFault::Size))),
            Box::new(CallError::Encode(codec())),
            Box::new(CallError::Argument(Box::new(codec().into()))),
            Box::new(BodyError::from(CallError::Decode(codec()))),
            Box::new(BodyError::from(codec())),
            Box::new(BodyError::from(ReadError::Aborted)),
            Box::new(io::Error::from(BodyError::from(CallError::Decode(codec())))),
            Box::new(DisconnectCause::from(handshake())),
            Box::new(DisconnectCause::from(io())),
            Box::new(DisconnectCause::Link(Arc::new(io()))),
            Box::new(DriverError::Disconnected(violation().into())),
            Box::new(BindError::from(AuthenticationError::NoIdentity)),
            Box::new(BindError::Io { endpoint: "inproc://a".parse().expect("an endpoint"), error: io() }),
            Box::new(load_keys("/nowhere").expect_err("there is no such file")),
            Box::new(KeyFileError::NotAKey { path: "/key".into(), error: crate::auth::KeyError::NotZ85 }),
            #[cfg(feature = "json")]
            Box::new(CodecError::from(serde_json::from_str::<u8>("many").expect_err("no number"))),
        ];
        for error in errors {
            let texts = chain(&*error);
            for (above, below) in texts.iter().zip(texts.iter().skip(1)) {
                assert!(!above.contains(below), "{texts:?}");
            }
        }
    }
}
