//! Why a call fails, or a body of one: each may be the cause of the other.

use callosum_proto::{
    DecodeError, ErrorInfo, InvokeError, ReadError, Refusal, Reply, StreamFault, WriteError,
};

use super::DisconnectCause;
use crate::codec::CodecError;

/// Why a call failed.
///
/// [`may_have_run`](Self::may_have_run) tells whether the remote handler may have been started: if not, a call can be
/// repeated even if it is not idempotent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The remote handler failed: a FAILURE on the wire.
    #[error("the remote handler failed: {0}")]
    Remote(ErrorInfo),
    /// Callosum on the other side refused the call, or failed: an ERROR on the wire. [`refusal`](Self::refusal) tells why, if the
    /// peer is one of ours.
    #[error("the remote side rejected the call: {0}")]
    Rejected(ErrorInfo),
    /// The other side stopped the call, or never started it.
    #[error("the remote side cancelled the call")]
    Cancelled,
    /// No reply came before the call's timeout.
    #[error("no reply arrived before the timeout{}", if *.sent { "" } else { "; the request was not sent" })]
    TimedOut {
        /// Whether the request was sent; if so, a handler may have run.
        sent: bool,
    },
    /// The connection ended after the request had been sent; a handler may have run.
    #[error("the connection ended before the reply arrived: {0}")]
    Disconnected(DisconnectCause),
    /// The request never left.
    #[error("the request was not sent: {0}")]
    NotSent(NotSent),
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
    Encode(CodecError),
    /// An item of the streamed argument can't be serialized, or is too large; a handler may run, and sees an argument that breaks off.
    #[error("the argument is incomplete: {0}")]
    Argument(Box<BodyError>),
    /// The result is not of the type that was asked for; a handler has run.
    #[error("the result can't be decoded: {0}")]
    Decode(CodecError),
}

impl CallError {
    /// Whether the remote handler may have been started.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Encode(_) => false,
            Self::TimedOut { sent } => *sent,
            Self::Rejected(_) => self.refusal().is_none_or(Refusal::may_have_run),
            Self::Remote(_)
            | Self::Cancelled
            | Self::Disconnected(_)
            | Self::Malformed(_)
            | Self::Fault(_)
            | Self::Incomplete(_)
            | Self::Argument(_)
            | Self::Decode(_) => true,
        }
    }

    /// The remote error with its name, representation and traceback, if there is one.
    pub fn remote(&self) -> Option<&ErrorInfo> {
        match self {
            Self::Remote(info) | Self::Rejected(info) => Some(info),
            _ => None,
        }
    }

    /// Why the other side rejected the call, such as [`Refusal::Busy`]; `None` if it did not, or gave a reason that is none of
    /// Callosum's.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Rejected(info) => Refusal::of(info),
            _ => None,
        }
    }

    /// A copy of the error. Codec errors can't be copied and become `Incomplete`; the other side never causes them.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Remote(info) => Self::Remote(info.clone()),
            Self::Rejected(info) => Self::Rejected(info.clone()),
            Self::Cancelled => Self::Cancelled,
            Self::TimedOut { sent } => Self::TimedOut { sent: *sent },
            Self::Disconnected(cause) => Self::Disconnected(cause.clone()),
            Self::NotSent(why) => Self::NotSent(why.clone()),
            Self::Malformed(error) => Self::Malformed(error.clone()),
            Self::Fault(fault) => Self::Fault(*fault),
            Self::Incomplete(error) => Self::Incomplete(*error),
            Self::Encode(_) | Self::Argument(_) | Self::Decode(_) => Self::Incomplete(ReadError::NotOpen),
        }
    }
}

impl From<NotSent> for CallError {
    fn from(why: NotSent) -> Self {
        Self::NotSent(why)
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
    /// A [layer](crate::layer) has made a call that opens a stream for the second time.
    #[error("the streams of this call belong to an earlier attempt")]
    StreamMade,
    /// Too many probes of this peer are in progress.
    #[error("too many probes of this peer are in progress")]
    TooManyProbes,
    /// The connection ended, or could not be made, before the request left.
    #[error("{0}")]
    Disconnected(DisconnectCause),
}

/// Why a body can't be read or written to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The call has failed, or lost its link.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The other side's part in it.
    #[error("the body can't be read completely: {0}")]
    Read(ReadError),
    /// It takes no more.
    #[error("the body can't be written: {0}")]
    Write(WriteError),
    /// An item is larger than [`Limits::max_body`](crate::Limits::max_body) of the side that reads it.
    #[error("an item has at least {size} bytes; the limit is {limit}")]
    ItemTooLarge {
        /// Bytes of the item. Its reader gives up before it knows them all, and says how many have come.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// An item can't be serialized, or is not of the type that was asked for.
    #[error("an item can't be converted: {0}")]
    Item(CodecError),
}

impl BodyError {
    /// The reply of a handler that needs its whole argument and can't have it: the refusal
    /// [`BodyTooLarge`](Refusal::BodyTooLarge), or [`MalformedBody`](Refusal::MalformedBody) for any other reason. Both tell the caller
    /// that nothing has run.
    pub fn refuse(&self) -> Reply {
        let refusal = match self {
            Self::Read(ReadError::TooLarge { .. }) | Self::ItemTooLarge { .. } => Refusal::BodyTooLarge,
            _ => Refusal::MalformedBody,
        };
        refusal.reply(&self.to_string())
    }
}

// Not by `#[from]`: the text includes the inner error already, so it must not be the source as well.
impl From<ReadError> for BodyError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<WriteError> for BodyError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<CodecError> for BodyError {
    fn from(error: CodecError) -> Self {
        Self::Item(error)
    }
}
