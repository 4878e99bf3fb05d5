//! Errors of calls and bodies as those of I/O, for code that knows no others.

use std::io::{self, ErrorKind};

use callosum_proto::{InvokeError, ReadError, Refusal};

use super::{BodyError, CallError, DisconnectCause, NotSent};

impl From<CallError> for io::Error {
    /// An I/O error that holds this one. None is of the kind `Interrupted` or `WouldBlock`, at which much of `std` tries again.
    fn from(error: CallError) -> Self {
        Self::new(of_call(&error), error)
    }
}

impl From<BodyError> for io::Error {
    /// An I/O error that holds this one.
    fn from(error: BodyError) -> Self {
        let kind = match &error {
            BodyError::Call(error) => of_call(error),
            BodyError::Read(error) => of_read(*error),
            BodyError::Write(_) => ErrorKind::BrokenPipe,
            BodyError::ItemTooLarge { .. } | BodyError::Item(_) => ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

fn of_call(error: &CallError) -> ErrorKind {
    match error {
        CallError::Rejected(_) => error.refusal().map_or(ErrorKind::Other, of_refusal),
        CallError::TimedOut { .. } => ErrorKind::TimedOut,
        CallError::Disconnected(cause) => of_cause(cause),
        CallError::NotSent(NotSent::Refused(error)) => of_invoke(error),
        CallError::NotSent(NotSent::Disconnected(cause)) => of_cause(cause),
        CallError::NotSent(NotSent::NotConnected) => ErrorKind::NotConnected,
        CallError::NotSent(NotSent::TooManyProbes) => ErrorKind::ResourceBusy,
        CallError::NotSent(NotSent::StreamMade) => ErrorKind::InvalidInput,
        CallError::Malformed(_) | CallError::Fault(_) | CallError::Decode(_) => ErrorKind::InvalidData,
        CallError::Incomplete(error) => of_read(*error),
        CallError::Encode(_) | CallError::Argument(_) => ErrorKind::InvalidInput,
        CallError::Remote(_) | CallError::Cancelled => ErrorKind::Other,
    }
}

fn of_refusal(refusal: Refusal) -> ErrorKind {
    match refusal {
        Refusal::NoSuchMethod | Refusal::Unsupported => ErrorKind::Unsupported,
        Refusal::Busy => ErrorKind::ResourceBusy,
        Refusal::ShuttingDown => ErrorKind::ConnectionRefused,
        Refusal::MalformedBody => ErrorKind::InvalidData,
        Refusal::BodyTooLarge | Refusal::ReplyTooLarge => ErrorKind::FileTooLarge,
        Refusal::ExecutionTimedOut => ErrorKind::TimedOut,
        Refusal::InvalidArgument => ErrorKind::InvalidInput,
        _ => ErrorKind::Other,
    }
}

fn of_invoke(error: &InvokeError) -> ErrorKind {
    match error {
        InvokeError::Closed | InvokeError::Draining => ErrorKind::NotConnected,
        InvokeError::PeerDraining => ErrorKind::ConnectionRefused,
        InvokeError::NeedsDialect2 => ErrorKind::Unsupported,
        InvokeError::QueueFull { .. } => ErrorKind::ResourceBusy,
        InvokeError::BodyTooLarge { .. } => ErrorKind::FileTooLarge,
        InvokeError::NameTooLong { .. } => ErrorKind::InvalidInput,
        _ => ErrorKind::Other,
    }
}

fn of_cause(cause: &DisconnectCause) -> ErrorKind {
    match cause {
        cause if cause.is_authentication_failure() => ErrorKind::PermissionDenied,
        // Much of `std` retries at these kinds.
        DisconnectCause::Io(error)
            if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) =>
        {
            ErrorKind::Other
        }
        DisconnectCause::Io(error) => error.kind(),
        _ => ErrorKind::ConnectionAborted,
    }
}

fn of_read(error: ReadError) -> ErrorKind {
    match error {
        ReadError::Aborted => ErrorKind::UnexpectedEof,
        ReadError::TimedOut => ErrorKind::TimedOut,
        ReadError::TooLarge { .. } => ErrorKind::FileTooLarge,
        ReadError::Fault(_) => ErrorKind::InvalidData,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callosum_proto::ErrorInfo;

    #[test]
    fn errors_of_calls_have_kinds_and_stay_what_they_are() {
        let rejected = |refusal: Refusal| CallError::Rejected(refusal.to_error("so it is"));
        for (error, kind) in [
            (CallError::Remote(ErrorInfo::new("Busy", "no refusal")), ErrorKind::Other),
            (rejected(Refusal::Busy), ErrorKind::ResourceBusy),
            (rejected(Refusal::NoSuchMethod), ErrorKind::Unsupported),
            (CallError::Rejected(ErrorInfo::new("Strange", "of another peer")), ErrorKind::Other),
            (CallError::Cancelled, ErrorKind::Other),
            (CallError::TimedOut { sent: false }, ErrorKind::TimedOut),
            (CallError::Disconnected(DisconnectCause::PeerClosed), ErrorKind::ConnectionAborted),
            (NotSent::NotConnected.into(), ErrorKind::NotConnected),
            (NotSent::Refused(InvokeError::PeerDraining).into(), ErrorKind::ConnectionRefused),
            (CallError::Incomplete(ReadError::Aborted), ErrorKind::UnexpectedEof),
        ] {
            let text = error.to_string();
            let error = io::Error::from(error);
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.get_ref().is_some_and(|inner| inner.is::<CallError>()));
            assert_eq!(error.to_string(), text);
        }
    }
}
