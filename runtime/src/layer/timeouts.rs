//! A timeout for each method, on either side.

use std::sync::Arc;
use std::time::Duration;

use callosum_proto::{Refusal, Reply};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustc_hash::FxHashMap;

use super::{CallLayer, CallNext, CallResult, HandlerLayer, HandlerNext, IncomingCall, OutgoingCall};
use crate::cancel::CancelReason;
use crate::error::CallError;
use crate::rt::{from_now, until};

/// A layer that limits how long single methods may take. Given to [`Builder::layer`](crate::Builder::layer), it limits handlers; given to
/// [`Builder::call_layer`](crate::Builder::call_layer) or [`Peer::with_layer`](crate::Peer::with_layer), it limits calls.
///
/// ```
/// # use callosum_runtime::{Builder, layer::MethodTimeouts};
/// # use std::time::Duration;
/// # fn limit(builder: Builder) -> Builder {
/// let timeouts =
///     MethodTimeouts::default().method("pull", Duration::from_secs(600)).others(Duration::from_secs(5));
/// builder.layer(timeouts.clone()).call_layer(timeouts)
/// # }
/// ```
///
/// Timeouts only shorten: a call ends at the earliest of this one, its [own](crate::Invocation::timeout) and the
/// [endpoint's](crate::Builder::call_timeout). So does a handler with this one, the
/// [endpoint's](crate::Builder::execution_timeout) and its caller's; [`Context::deadline`](crate::Context::deadline) tells the
/// earliest.
///
/// A call that takes too long ends with [`CallError::TimedOut`](crate::CallError::TimedOut). A handler that does is dropped at its next
/// await, without a [grace period](crate::Context::set_cancel_grace); [`Context::cancelled`](crate::Context::cancelled) tells what it has
/// spawned, and its caller gets an ERROR named `ExecutionTimedOut`
/// ([`Refusal::ExecutionTimedOut`](crate::Refusal::ExecutionTimedOut)). A handler's time runs from its start, and for a streamed call until
/// its end.
///
/// [`MethodLimits`](crate::MethodLimits) limit how many handlers of a method run.
#[derive(Clone, Debug, Default)]
pub struct MethodTimeouts {
    methods: Arc<FxHashMap<String, Duration>>,
    others: Option<Duration>,
}

impl MethodTimeouts {
    /// The timeout of this method; under [`Duration::MAX`], it has none.
    #[must_use]
    pub fn method(mut self, name: impl Into<String>, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.methods).insert(name.into(), timeout);
        self
    }

    /// The timeout of all methods that have none of their own. Default: none.
    #[must_use]
    pub fn others(mut self, timeout: Duration) -> Self {
        self.others = Some(timeout);
        self
    }

    fn of(&self, method: &str) -> Option<Duration> {
        self.methods.get(method).copied().or(self.others)
    }
}

impl CallLayer for MethodTimeouts {
    fn call(
        &self,
        mut call: OutgoingCall,
        next: CallNext,
    ) -> BoxFuture<'static, Result<CallResult, CallError>> {
        if let Some(timeout) = self.of(call.method()) {
            call.set_timeout(Some(call.timeout().map_or(timeout, |own| own.min(timeout))));
        }
        next.run(call)
    }
}

impl HandlerLayer for MethodTimeouts {
    fn handle(&self, mut call: IncomingCall, next: HandlerNext) -> BoxFuture<'static, Reply> {
        let Some(timeout) = self.of(call.context.method()) else { return next.run(call) };
        let runtime = call.context.peer.shared.core.runtime.clone();
        let at = from_now(&*runtime, timeout);
        call.context.deadline = Some(call.context.deadline.map_or(at, |deadline| deadline.min(at)));
        let cancellation = call.context.cancellation.clone();
        async move {
            let mut handling = next.run(call);
            match until(&*runtime, at, &mut handling).await {
                Some(reply) => reply,
                None => {
                    // First, so that layers inside and what the handler has spawned know the reason.
                    cancellation.tell_dropped(CancelReason::TimedOut);
                    drop(handling);
                    let detail = format!("the handler ran for {timeout:?}, the timeout of its method");
                    Refusal::ExecutionTimedOut.reply(&detail)
                }
            }
        }
        .boxed()
    }
}
