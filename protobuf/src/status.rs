//! How a call fails: a code, a message, and details, as gRPC has it.

mod outcome;
mod wire;

use std::fmt;
use std::sync::Arc;

use callosum_runtime::CallError;
use prost::{DecodeError, Message, Name};
use prost_types::Any;

use crate::Code;
pub(crate) use outcome::Side;
use wire::Proto;

/// How a call fails: `google.rpc.Status`, with the codes of gRPC.
///
/// A status that a handler returns in `Err` arrives at its caller unchanged. Errors of the transport become statuses, too:
///
/// | outcome | code |
/// | --- | --- |
/// | [`CallError::TimedOut`], `Refusal::ExecutionTimedOut` | [`DeadlineExceeded`](Code::DeadlineExceeded) |
/// | [`CallError::Cancelled`]; an argument that its caller has given up | [`Cancelled`](Code::Cancelled) |
/// | `Refusal::NoSuchMethod`, `Refusal::Unsupported`; dialect 2 is needed, and not there | [`Unimplemented`](Code::Unimplemented) |
/// | [`CallError::Disconnected`], [`CallError::NotSent`] for want of a connection, `Refusal::ShuttingDown` | [`Unavailable`](Code::Unavailable) |
/// | the other side has refused this one's key, or does no longer admit it | [`PermissionDenied`](Code::PermissionDenied) |
/// | any other [`AuthenticationError`](callosum_runtime::auth::AuthenticationError), such as a server with another key | [`Unauthenticated`](Code::Unauthenticated) |
/// | `Refusal::Busy`, a send queue that is full, and whatever is larger than a limit, that of [`AtMost`](crate::AtMost) included | [`ResourceExhausted`](Code::ResourceExhausted) |
/// | `Refusal::InvalidArgument`, `Refusal::MalformedBody`; a message of a streamed argument that is none | [`InvalidArgument`](Code::InvalidArgument) |
/// | a result that is no such message, or breaks the protocol; an argument or a result that can't be encoded | [`Internal`](Code::Internal) |
/// | a failure of a handler that is no status: a panic, a Python exception | [`Unknown`](Code::Unknown) |
///
/// [`call_error`](Self::call_error) has more, and [`may_have_run`](Self::may_have_run) what gRPC can't say: whether a handler may have been
/// started.
///
/// ```
/// use callosum_protobuf::{Code, Status};
/// use prost_types::Duration;
///
/// let status = Status::unavailable("the disk is being mounted").with_detail(&Duration { seconds: 5, nanos: 0 });
/// assert_eq!(status.code(), Code::Unavailable);
/// assert_eq!(status.detail::<Duration>().unwrap().seconds, 5);
/// ```
#[derive(Clone)]
pub struct Status {
    code: Code,
    message: String,
    details: Vec<Any>,
    cause: Option<Arc<CallError>>,
}

impl Status {
    /// An error with a message for developers. With [`Code::Ok`], which is none, it is [`Code::Unknown`].
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code.of_error(), message: message.into(), details: Vec::new(), cause: None }
    }

    /// The code of the error.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The message, for developers.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Details for programs: messages of any type.
    pub fn details(&self) -> &[Any] {
        &self.details
    }

    /// Adds a detail. Code, message and details have at most about 48 KiB together on their way: over that, the details stay behind.
    pub fn with_detail(self, detail: &impl Name) -> Self {
        // Encoding fails only if the buffer is full, which a `Vec` never is.
        let value = detail.encode_to_vec();
        self.with_any(Any { type_url: type_url_of(detail), value })
    }

    /// Adds a detail that is packed already.
    pub fn with_any(mut self, detail: Any) -> Self {
        self.details.push(detail);
        self
    }

    /// The first detail of this type; `None` if there is none that can be read.
    pub fn detail<M: Name + Default>(&self) -> Option<M> {
        self.details.iter().find_map(|detail| detail.to_msg().ok())
    }

    /// The error of the transport, or the failure of a handler that was not a status, if it stands for one.
    pub fn call_error(&self) -> Option<&CallError> {
        self.cause.as_deref()
    }

    /// Whether the remote handler may have been started; see [`CallError::may_have_run`]. `false` means that the call can be made again
    /// even if it is not idempotent.
    pub fn may_have_run(&self) -> bool {
        self.cause.as_ref().is_none_or(|cause| cause.may_have_run())
    }

    /// As the bytes of a `google.rpc.Status`.
    pub fn encode(&self) -> Vec<u8> {
        Proto::from(self).encode_to_vec()
    }

    /// From the bytes of a `google.rpc.Status`. A code that is not known, and [`Code::Ok`], are [`Code::Unknown`].
    ///
    /// # Errors
    /// If they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Proto::decode(bytes).map(Self::from)
    }
}

fn type_url_of<M: Name>(_: &M) -> String {
    M::type_url()
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.message {
            "" => write!(f, "{}", self.code),
            message => write!(f, "{}: {message}", self.code),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<_> = self.details.iter().map(|detail| &detail.type_url).collect();
        f.debug_struct("Status")
            .field("code", &self.code)
            .field("message", &self.message)
            .field("details", &types)
            .field("cause", &self.cause)
            .finish()
    }
}

impl PartialEq for Status {
    /// Whether code, message and details are the same.
    fn eq(&self, other: &Self) -> bool {
        (self.code, &self.message, &self.details) == (other.code, &other.message, &other.details)
    }
}

// Its text contains that of its cause.
impl std::error::Error for Status {}
