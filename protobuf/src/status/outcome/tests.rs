use std::io;

use callosum_runtime::{CloseCause, ErrorInfo};

use super::*;

fn rejected(refusal: Refusal) -> CallError {
    CallError::Rejected(refusal.to_error("why"))
}

fn not_admitted(status: Option<RefusalStatus>) -> CallError {
    NotSent::Disconnected(AuthenticationError::Refused { status }.into()).into()
}

/// The table of `Status`, and whether a handler may have run.
#[test]
fn every_outcome_has_a_code() {
    let lost = || DisconnectCause::from(io::Error::from(io::ErrorKind::ConnectionReset));
    let codec = || CodecError::from("no such message");
    let over_a_limit = MessageTooLarge { size: 2, limit: 1 };
    let full = InvokeError::QueueFull { queued: 2, limit: 1 };
    let large = InvokeError::BodyTooLarge { size: 2, limit: 1 };
    let long = InvokeError::NameTooLong { size: 2, limit: 1 };
    let outcomes = [
        (CallError::TimedOut { sent: true }, Code::DeadlineExceeded, true),
        (CallError::TimedOut { sent: false }, Code::DeadlineExceeded, false),
        (rejected(Refusal::ExecutionTimedOut), Code::DeadlineExceeded, true),
        (CallError::Cancelled, Code::Cancelled, true),
        (rejected(Refusal::NoSuchMethod), Code::Unimplemented, false),
        (rejected(Refusal::Unsupported), Code::Unimplemented, true),
        (NotSent::Refused(InvokeError::NeedsDialect2).into(), Code::Unimplemented, false),
        (CallError::Disconnected(lost()), Code::Unavailable, true),
        (CallError::Disconnected(DisconnectCause::Connection(CloseCause::Local)), Code::Unavailable, true),
        (NotSent::NotConnected.into(), Code::Unavailable, false),
        (NotSent::Disconnected(lost()).into(), Code::Unavailable, false),
        (NotSent::Refused(InvokeError::Draining).into(), Code::Unavailable, false),
        (NotSent::Refused(InvokeError::PeerDraining).into(), Code::Unavailable, false),
        (NotSent::Refused(InvokeError::Closed).into(), Code::Unavailable, false),
        (rejected(Refusal::ShuttingDown), Code::Unavailable, false),
        (not_admitted(Some(RefusalStatus::Denied)), Code::PermissionDenied, false),
        (not_admitted(Some(RefusalStatus::TemporaryFailure)), Code::Unavailable, false),
        (not_admitted(None), Code::Unauthenticated, false),
        (CallError::Disconnected(AuthenticationError::ServerNotProved.into()), Code::Unauthenticated, true),
        (rejected(Refusal::Busy), Code::ResourceExhausted, false),
        (rejected(Refusal::BodyTooLarge), Code::ResourceExhausted, false),
        (rejected(Refusal::ReplyTooLarge), Code::ResourceExhausted, true),
        (NotSent::Refused(full).into(), Code::ResourceExhausted, false),
        (NotSent::Refused(large).into(), Code::ResourceExhausted, false),
        (NotSent::Refused(long).into(), Code::InvalidArgument, false),
        (CallError::Incomplete(ReadError::TooLarge { size: 2, limit: 1 }), Code::ResourceExhausted, true),
        (CallError::Incomplete(ReadError::TimedOut), Code::DeadlineExceeded, true),
        (CallError::Incomplete(ReadError::Aborted), Code::Internal, true),
        (rejected(Refusal::InvalidArgument), Code::InvalidArgument, false),
        (rejected(Refusal::MalformedBody), Code::InvalidArgument, false),
        (CallError::Encode(codec()), Code::Internal, false),
        (CallError::Argument(Box::new(codec().into())), Code::Internal, true),
        (
            CallError::Argument(Box::new(BodyError::ItemTooLarge { size: 2, limit: 1 })),
            Code::ResourceExhausted,
            true,
        ),
        (CallError::Decode(codec()), Code::Internal, true),
        (CallError::Decode(FormatError::from(over_a_limit).into()), Code::ResourceExhausted, true),
        (NotSent::StreamMade.into(), Code::Internal, false),
        (CallError::Rejected(ErrorInfo::new("Other", "why")), Code::Unknown, true),
        (CallError::Remote(ErrorInfo::new("ABORTED", "why")), Code::Aborted, true),
        (CallError::Remote(ErrorInfo::new("Panic", "why")), Code::Unknown, true),
    ];
    for (error, code, may_have_run) in outcomes {
        let text = error.to_string();
        let status = Status::from(error);
        assert_eq!((status.code(), status.may_have_run()), (code, may_have_run), "{text}");
        assert!(status.to_string().contains("why") || status.to_string().contains(&text), "{status}");
    }
}

type Make = fn() -> BodyError;

#[test]
fn bodies_mean_one_thing_to_a_caller_and_another_to_a_handler() {
    let too_large = || BodyError::ItemTooLarge { size: 2, limit: 1 };
    let item = || BodyError::Item(CodecError::from("none"));
    let bodies: [(Make, Code, Code); 4] = [
        (|| BodyError::Read(ReadError::Aborted), Code::Internal, Code::Cancelled),
        (|| CallError::Cancelled.into(), Code::Cancelled, Code::Cancelled),
        (too_large, Code::ResourceExhausted, Code::ResourceExhausted),
        (item, Code::Internal, Code::InvalidArgument),
    ];
    for (error, caller, handler) in bodies {
        assert_eq!(Side::Caller.body_status(error()).code(), caller, "{:?}", error());
        assert_eq!(Side::Handler.body_status(error()).code(), handler, "{:?}", error());
    }
}
