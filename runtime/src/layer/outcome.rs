//! How calls and handlers end, in one word each: values of labels and fields.
//!
//! The idea: the end is reported by a destructor, so also that of a future which is dropped. That of a handler then asks why the handler
//! was stopped.

use std::sync::Arc;

use callosum_proto::{Refusal, Reply};
use futures_util::future::BoxFuture;

use super::CallResult;
use crate::cancel::{CancelReason, Cancellation};
use crate::error::CallError;

/// The outcome of what has not ended by itself.
const DROPPED: &str = "dropped";

/// Learns how a call or a handler has ended.
pub(super) trait Report: Send + 'static {
    /// The outcome, and how many bytes its result has, if there is one; 0 if that is a stream.
    fn end(&mut self, outcome: &'static str, result: Option<usize>);
}

/// A call or a handler that has not ended. Dropping it reports its end.
pub(super) struct Watched<R: Report> {
    report: R,
    /// Of a handler.
    cancellation: Option<Arc<Cancellation>>,
    outcome: &'static str,
    result: Option<usize>,
}

impl<R: Report> Watched<R> {
    /// A call.
    pub(super) fn call(report: R) -> Self {
        Self { report, cancellation: None, outcome: DROPPED, result: None }
    }

    /// A handler that can be stopped with this.
    pub(super) fn handler(report: R, cancellation: &Arc<Cancellation>) -> Self {
        Self { report, cancellation: Some(cancellation.clone()), outcome: DROPPED, result: None }
    }

    pub(super) async fn result(
        mut self,
        calling: BoxFuture<'static, Result<CallResult, CallError>>,
    ) -> Result<CallResult, CallError> {
        let result = calling.await;
        self.outcome = result.as_ref().map_or_else(of_error, |_| "ok");
        self.result = result.as_ref().ok().map(|result| result.body.len());
        result
    }

    pub(super) async fn reply(mut self, handling: BoxFuture<'static, Reply>) -> Reply {
        let reply = handling.await;
        self.outcome = of_reply(&reply);
        self.result = match &reply {
            Reply::Result { body, .. } => Some(body.len()),
            Reply::End => Some(0),
            _ => None,
        };
        reply
    }
}

impl<R: Report> Drop for Watched<R> {
    fn drop(&mut self) {
        let is_dropped = self.outcome == DROPPED;
        // The reply of a handler in its grace period is dropped.
        let stopped = self.cancellation.as_ref().filter(|stop| is_dropped || stop.drops_reply());
        match stopped.and_then(|stop| stop.reason()) {
            Some(reason) => self.report.end(of_reason(reason), None),
            None => self.report.end(self.outcome, self.result),
        }
    }
}

fn of_reason(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::Caller | CancelReason::Shutdown => "cancelled",
        CancelReason::TimedOut => "timed_out",
        CancelReason::Disconnected => "disconnected",
    }
}

fn of_error(error: &CallError) -> &'static str {
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

fn of_reply(reply: &Reply) -> &'static str {
    match reply {
        Reply::Result { .. } | Reply::End => "ok",
        Reply::Failure(_) => "failed",
        Reply::Error(info) if Refusal::of(info) == Some(Refusal::ExecutionTimedOut) => "timed_out",
        Reply::Error(_) => "rejected",
        // `Cancelled`, and no other: the enum may grow.
        _ => "cancelled",
    }
}
