//! What can go wrong: with a call, with a handler, with a link, with an endpoint.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use callosum_proto::DecodeError;
use callosum_proto::{CloseCause, InvokeError, ReadError, Refusal, StreamFault};
use callosum_proto::{ErrorInfo, zmtp};

use crate::auth::AuthenticationError;
use crate::codec::CodecError;
use crate::endpoint::ParseEndpointError;

/// How a call failed.
///
/// [`may_have_run`](Self::may_have_run) tells whether the remote handler may have been started, which is what decides
/// whether a call that is not idempotent may be repeated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The remote handler failed.
    #[error("the remote handler failed: {0}")]
    Failure(ErrorInfo),
    /// Callosum on the other side failed, or refused the call; [`Refusal::of`] tells which, if the peer is one of ours.
    #[error("the remote side reported {name}: {0}", name = .0.name)]
    Error(ErrorInfo),
    /// The other side has too much to do; no handler has run.
    #[error("the remote side is busy: {0}")]
    Busy(ErrorInfo),
    /// The other side stopped the call, or never started it.
    #[error("the remote side cancelled the call")]
    Cancelled,
    /// No reply came before the call's timeout.
    #[error("no reply came in time{}", if *.sent { "" } else { "; the request never left" })]
    TimedOut {
        /// Whether the request had left; if so a handler may have run.
        sent: bool,
    },
    /// The connection ended after the request had left; a handler may have run.
    #[error("the connection ended before the reply came: {0}")]
    Disconnected(DisconnectCause),
    /// The request never left.
    #[error("the request was not sent: {0}")]
    NotSent(#[from] NotSent),
    /// The reply can't be read as a message; a handler has run.
    #[error("the reply is malformed: {0}")]
    Malformed(DecodeError),
    /// The peer broke the protocol in its reply; a handler has run.
    #[error("the reply breaks the protocol: {0}")]
    Fault(StreamFault),
    /// The reply could not be received as a whole; a handler has run.
    #[error("the reply is incomplete: {0}")]
    Incomplete(ReadError),
    /// The argument can't be serialized; nothing was sent.
    #[error("the argument can't be encoded: {0}")]
    Encode(#[source] CodecError),
    /// The result is not of the type that was asked for; a handler has run.
    #[error("the result can't be decoded: {0}")]
    Decode(#[source] CodecError),
}

impl CallError {
    /// Whether the remote handler may have been started.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::Busy(_) | Self::NotSent(_) | Self::Encode(_) => false,
            Self::TimedOut { sent } => *sent,
            Self::Error(info) => Refusal::of(info).is_none_or(Refusal::may_have_run),
            Self::Failure(_)
            | Self::Cancelled
            | Self::Disconnected(_)
            | Self::Malformed(_)
            | Self::Fault(_)
            | Self::Incomplete(_)
            | Self::Decode(_) => true,
        }
    }

    /// The remote error with its name, representation and traceback, if there is one.
    pub fn remote(&self) -> Option<&ErrorInfo> {
        match self {
            Self::Failure(info) | Self::Error(info) | Self::Busy(info) => Some(info),
            _ => None,
        }
    }

    /// The same error once more. What can't be repeated are codec errors, which no other side causes.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Failure(info) => Self::Failure(info.clone()),
            Self::Error(info) => Self::Error(info.clone()),
            Self::Busy(info) => Self::Busy(info.clone()),
            Self::Cancelled => Self::Cancelled,
            Self::TimedOut { sent } => Self::TimedOut { sent: *sent },
            Self::Disconnected(cause) => Self::Disconnected(cause.clone()),
            Self::NotSent(why) => Self::NotSent(why.clone()),
            Self::Malformed(error) => Self::Malformed(error.clone()),
            Self::Fault(fault) => Self::Fault(*fault),
            Self::Incomplete(error) => Self::Incomplete(*error),
            Self::Encode(_) | Self::Decode(_) => Self::Incomplete(ReadError::NotOpen),
        }
    }

    pub(crate) fn from_remote(info: ErrorInfo) -> Self {
        match Refusal::of(&info) {
            Some(Refusal::Busy) => Self::Busy(info),
            _ => Self::Error(info),
        }
    }
}

/// Why a request never left.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotSent {
    /// The connection refused it.
    #[error(transparent)]
    Refused(#[from] InvokeError),
    /// There is no connection, and calls were configured not to wait for one.
    #[error("there is no connection at the moment")]
    NotConnected,
    /// Too many probes of this peer are under way.
    #[error("too many probes of this peer are under way")]
    TooManyProbes,
    /// The connection ended, or could not be made, before the request left.
    #[error("{0}")]
    Disconnected(DisconnectCause),
}

/// Why a link ended, or never came to be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectCause {
    /// This side shut down.
    #[error("this endpoint was shut down")]
    Shutdown,
    /// The peer closed its end.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// The connection was closed by the engine, or restarted by the peer.
    #[error(transparent)]
    Connection(CloseCause),
    /// The peer broke ZeroMQ's wire protocol, or refused ours.
    #[error(transparent)]
    Protocol(Arc<zmtp::LinkError>),
    /// One side does not accept the other.
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    /// The operating system reported an error.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// A message link ended.
    #[error("the message link ended: {0}")]
    Link(Arc<dyn std::error::Error + Send + Sync>),
    /// What the user plugged in under the link panicked: a byte stream, a message link or a scheduler.
    #[error("the link panicked")]
    Panicked,
    /// More connections are in their handshake than allowed, and this one made way for a newer one.
    #[error("too many connections are in their handshake")]
    TooManyHandshakes,
    /// A message link has as many peers as allowed.
    #[error("too many peers are on the message link")]
    TooManyPeers,
}

impl DisconnectCause {
    /// Whether one side does not accept the other: trying again helps only when one of them changes its mind.
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

/// Why an endpoint could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The text is no endpoint.
    #[error(transparent)]
    Endpoint(#[from] ParseEndpointError),
    /// The system refused.
    #[error("can't bind {endpoint}: {source}")]
    Io {
        /// The endpoint.
        endpoint: crate::Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever reaches this address could call, read and change everything: without an
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
    Authentication(#[from] AuthenticationError),
    /// The binder is shutting down, or its driver has been dropped: nobody would accept.
    #[error("the binder is shut down")]
    Shutdown,
}

/// Why a driver ended other than by [`shutdown`](crate::Binder::shutdown).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The connection could not be made, or ended, and reconnecting is off.
    #[error("not connected: {0}")]
    Disconnected(DisconnectCause),
    /// An endpoint with an [authenticator](crate::Builder::authenticator) was given a message link, which can neither
    /// encrypt nor authenticate.
    #[error("a message link can't authenticate its peers")]
    LinkWithoutAuthentication,
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everything under way ended by itself, and every reply reached the socket, but for what was on a link that was
    /// lost meanwhile.
    Completely,
    /// The deadline came first; what was still under way was cancelled.
    DeadlinePassed,
}

/// What a handler fails with. Any error converts into it with `?`.
///
/// It travels as a FAILURE: the error's type, its `Display`, and its chain of sources.
#[derive(Debug)]
pub struct HandlerError(pub(crate) ErrorInfo);

/// The result of a handler that fails with [`HandlerError`].
pub type HandlerResult<T> = Result<T, HandlerError>;

impl HandlerError {
    /// An error with a name of your choice, such as that of a Python exception.
    pub fn new(name: &str, message: &str) -> Self {
        Self(ErrorInfo {
            name: name.into(),
            repr: message.into(),
            traceback: format!("{name}: {message}\n").into(),
        })
    }
}

impl<E: std::error::Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let path = std::any::type_name::<E>();
        let mut traceback = format!("{path}: {error}\n");
        let mut source = error.source();
        while let Some(cause) = source {
            traceback.push_str(&format!("caused by: {cause}\n"));
            source = cause.source();
        }
        Self(ErrorInfo {
            name: short_type_name(path).into(),
            repr: error.to_string().into(),
            traceback: traceback.into(),
        })
    }
}

/// `a::b::Name<c::D>` without the path and the parameters: `Name`.
fn short_type_name(path: &str) -> &str {
    let bare = path.split('<').next().unwrap_or(path);
    bare.rsplit("::").next().unwrap_or(bare)
}

/// A timeout that was given as zero where that makes no sense.
pub(crate) fn at_least_one_milli(duration: Duration) -> Duration {
    duration.max(Duration::from_millis(1))
}
