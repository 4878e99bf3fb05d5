//! How calls end, in one word each: values of labels and fields.

use callosum_proto::{Refusal, Reply};

use super::CallResult;
use crate::error::CallError;

pub(super) fn of_result(result: &Result<CallResult, CallError>) -> &'static str {
    let error = match result {
        Ok(_) => return "ok",
        Err(error) => error,
    };
    match error {
        CallError::Remote(_) => "failed",
        CallError::Rejected(_) => "rejected",
        CallError::Cancelled => "cancelled",
        CallError::TimedOut { .. } => "timed_out",
        CallError::Disconnected(_) => "disconnected",
        CallError::NotSent(_) | CallError::Encode(_) => "not_sent",
        CallError::Malformed(_)
        | CallError::Fault(_)
        | CallError::Incomplete(_)
        | CallError::Argument(_)
        | CallError::Decode(_) => "invalid",
    }
}

pub(super) fn of_reply(reply: &Reply) -> &'static str {
    match reply {
        Reply::Result { .. } | Reply::End => "ok",
        Reply::Failure(_) => "failed",
        Reply::Error(info) if Refusal::of(info) == Some(Refusal::ExecutionTimedOut) => "timed_out",
        Reply::Error(_) => "rejected",
        // `Cancelled`, and no other: the enum may grow.
        _ => "cancelled",
    }
}
