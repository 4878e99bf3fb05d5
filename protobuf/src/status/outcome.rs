//! Converts the transport's outcomes of a call to statuses: the table of [`Status`].

use callosum_runtime::auth::AuthenticationError;
use callosum_runtime::proto::ReadError;
use callosum_runtime::proto::zmtp::RefusalStatus;
use callosum_runtime::{
    BodyError, CallError, CodecError, DisconnectCause, FormatError, InvokeError, NotSent, Refusal,
};

use super::Status;
use crate::{Code, MessageTooLarge};

/// The side that reads a stream. A malformed stream is the caller's fault to a handler, and an internal error to a caller.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Caller,
    Handler,
}

impl Side {
    /// Why a body can't be read or written to its end.
    pub(crate) fn body_status(self, error: BodyError) -> Status {
        let error = match error {
            BodyError::Call(error) => return error.into(),
            other => other,
        };
        let code = match (&error, self) {
            (BodyError::Read(ReadError::Aborted | ReadError::NotOpen), Self::Handler) => Code::Cancelled,
            (BodyError::Read(error), _) => read_code(*error),
            // The reader closed the stream.
            (BodyError::Write(_), _) => Code::Cancelled,
            (BodyError::ItemTooLarge { .. }, _) => Code::ResourceExhausted,
            (_, Self::Handler) => Code::InvalidArgument,
            (_, Self::Caller) => Code::Internal,
        };
        Status::new(code, error.to_string())
    }

    /// A message of a stream can't be decoded.
    pub(crate) fn unreadable(self, error: &FormatError) -> Status {
        let code = match self {
            _ if error.is::<MessageTooLarge>() => Code::ResourceExhausted,
            Self::Handler => Code::InvalidArgument,
            Self::Caller => Code::Internal,
        };
        Status::new(code, format!("a message of the stream can't be decoded: {error}"))
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let code = match &error {
            CallError::Remote(info) => return Self::of_failure(info.clone()),
            CallError::Rejected(_) => error.refusal().map_or(Code::Unknown, refusal_code),
            CallError::Cancelled => Code::Cancelled,
            CallError::TimedOut { .. } => Code::DeadlineExceeded,
            CallError::Disconnected(cause) => disconnect_code(cause),
            CallError::NotSent(why) => not_sent_code(why),
            CallError::Incomplete(error) => read_code(*error),
            CallError::Argument(error) if matches!(**error, BodyError::ItemTooLarge { .. }) => {
                Code::ResourceExhausted
            }
            CallError::Decode(CodecError::Custom(error)) if error.is::<MessageTooLarge>() => {
                Code::ResourceExhausted
            }
            // Bodies that can't be encoded or decoded, and violations of the protocol.
            _ => Code::Internal,
        };
        let message = match &error {
            CallError::Rejected(info) => info.repr.to_string(),
            other => other.to_string(),
        };
        Self { cause: Some(error.into()), ..Self::new(code, message) }
    }
}

fn refusal_code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::NoSuchMethod | Refusal::Unsupported => Code::Unimplemented,
        Refusal::Busy | Refusal::BodyTooLarge | Refusal::ReplyTooLarge => Code::ResourceExhausted,
        Refusal::ShuttingDown => Code::Unavailable,
        Refusal::MalformedBody | Refusal::InvalidArgument => Code::InvalidArgument,
        Refusal::ExecutionTimedOut => Code::DeadlineExceeded,
        _ => Code::Unknown,
    }
}

fn not_sent_code(why: &NotSent) -> Code {
    match why {
        NotSent::Refused(error) => match error {
            InvokeError::NeedsDialect2 => Code::Unimplemented,
            InvokeError::QueueFull { .. } | InvokeError::BodyTooLarge { .. } => Code::ResourceExhausted,
            InvokeError::NameTooLong { .. } => Code::InvalidArgument,
            // The endpoint is closed, or shutting down.
            _ => Code::Unavailable,
        },
        NotSent::Disconnected(cause) => disconnect_code(cause),
        NotSent::NotConnected => Code::Unavailable,
        NotSent::TooManyProbes => Code::ResourceExhausted,
        // A layer that repeats what can't be repeated.
        _ => Code::Internal,
    }
}

fn disconnect_code(cause: &DisconnectCause) -> Code {
    let DisconnectCause::Authentication(error) = cause else { return Code::Unavailable };
    match error {
        AuthenticationError::Refused { status: Some(RefusalStatus::Denied) }
        | AuthenticationError::NotAdmitted { .. }
        | AuthenticationError::Revoked { .. } => Code::PermissionDenied,
        // The check itself has failed, and may succeed later.
        AuthenticationError::Refused {
            status: Some(RefusalStatus::TemporaryFailure | RefusalStatus::InternalError),
        }
        | AuthenticationError::CheckPanicked { .. }
        | AuthenticationError::CheckTimedOut { .. } => Code::Unavailable,
        _ => Code::Unauthenticated,
    }
}

fn read_code(error: ReadError) -> Code {
    match error {
        ReadError::TooLarge { .. } => Code::ResourceExhausted,
        ReadError::TimedOut => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests;
