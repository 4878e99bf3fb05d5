//! Metrics through the `metrics` facade.
//!
//! Responsible for what is counted; [`Watched`] reports how a call or a handler ends, also if it is dropped.

use std::sync::Arc;
use std::time::Instant;

use callosum_proto::Reply;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics::{Label, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram};
use metrics::{gauge, histogram};

use super::outcome::{Report, Watched};
use super::{CallLayer, CallNext, CallResult, HandlerLayer, HandlerNext, IncomingCall, OutgoingCall};
use crate::error::CallError;
use crate::rt::Runtime;
use crate::stream::Shared;

const CALLS: &str = "callosum_calls_total";
const DURATION: &str = "callosum_call_duration_seconds";
const IN_FLIGHT: &str = "callosum_calls_in_flight";
const ARGUMENT: &str = "callosum_argument_bytes";
const RESULT: &str = "callosum_result_bytes";

/// A layer that counts and measures calls, through the facade of the crate `metrics`: install the recorder of your choice. Given to
/// [`Builder::layer`](crate::Builder::layer), it measures handlers; given to [`Builder::call_layer`](crate::Builder::call_layer) or
/// [`Peer::with_layer`](crate::Peer::with_layer), calls. Needs the feature `metrics`.
///
/// | name | kind | labels |
/// | --- | --- | --- |
/// | `callosum_calls_total` | counter | `side`, `method`, `outcome` |
/// | `callosum_call_duration_seconds` | histogram | `side`, `method`, `outcome` |
/// | `callosum_calls_in_flight` | gauge | `side`, `method` |
/// | `callosum_argument_bytes`, `callosum_result_bytes` | histogram | `side`, `method`, `outcome` |
///
/// - `side` is `client` for calls, `server` for handlers.
/// - `method` is the method's name; `_OTHER` for what a fallback answers, whose names have no bound.
/// - `outcome` is `ok`; `failed`, the handler has; `rejected`, Callosum has; `timed_out`, `disconnected`, `not_sent`; `invalid`, the
///   reply was. `cancelled`: a call by the side that answers, a handler by its caller or a shutdown. `dropped`: a call by the
///   application, or a call or handler by a layer around this one.
///
/// All but `callosum_calls_in_flight` are recorded when a call ends. A call without a result has no `callosum_result_bytes`.
///
/// Streams are counted and timed up to their end. Of a stream that this side writes, the bytes count that were written by then, of one
/// that it reads, those that were read; of a call that ends `ok`, all bytes of its result, although some of them may be read only later.
/// A result that breaks off counts with the outcome of its call, unless no byte of it was written or read.
///
/// Time is that of the endpoint's [runtime](crate::rt::Runtime::now).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Metrics;

impl Metrics {
    /// The layer. Describes its metrics to the recorder that is installed now.
    pub fn new() -> Self {
        describe_counter!(CALLS, Unit::Count, "Calls that have ended.");
        describe_histogram!(DURATION, Unit::Seconds, "Time from the start of a call to its end.");
        describe_gauge!(IN_FLIGHT, Unit::Count, "Calls under way.");
        describe_histogram!(ARGUMENT, Unit::Bytes, "Bytes of arguments.");
        describe_histogram!(RESULT, Unit::Bytes, "Bytes of results.");
        Self
    }
}

/// The streams of a call. They count their bytes, which don't pass the layers.
enum Streams {
    OfCall(Arc<Shared>),
    OfHandler(Arc<Shared>),
}

impl Streams {
    fn argument(&self) -> u64 {
        match self {
            Self::OfCall(streams) => streams.written(),
            Self::OfHandler(streams) => streams.received(),
        }
    }

    fn result(&self) -> u64 {
        match self {
            Self::OfCall(streams) => streams.received(),
            Self::OfHandler(streams) => streams.written(),
        }
    }
}

/// A running call or handler.
struct Measured {
    runtime: Arc<dyn Runtime>,
    begun: Instant,
    labels: Vec<Label>,
    /// Bytes of the argument, unless it is streamed.
    argument: Option<u64>,
    streams: Option<Streams>,
}

impl Measured {
    fn begin(
        runtime: &Arc<dyn Runtime>,
        (side, method): (&'static str, &str),
        argument: Option<u64>,
        streams: Option<Streams>,
    ) -> Self {
        let method = SharedString::from(method.to_owned());
        let labels = vec![Label::from_static_parts("side", side), Label::new("method", method)];
        gauge!(IN_FLIGHT, labels.iter()).increment(1.0);
        Self { runtime: runtime.clone(), begun: runtime.now(), labels, argument, streams }
    }

    fn argument(&self) -> Option<u64> {
        self.argument.or_else(|| self.streams.as_ref().map(Streams::argument))
    }

    /// Bytes of the result, which has `whole` of them if it is a body.
    fn result(&self, whole: Option<usize>) -> Option<u64> {
        let streamed = self.streams.as_ref().map_or(0, Streams::result);
        match whole {
            Some(whole) => Some(whole as u64 + streamed),
            // A stream that did not come to its end.
            None => (streamed > 0).then_some(streamed),
        }
    }
}

impl Report for Measured {
    fn end(&mut self, outcome: &'static str, result: Option<usize>) {
        gauge!(IN_FLIGHT, self.labels.iter()).decrement(1.0);
        let time = self.runtime.now().saturating_duration_since(self.begun);
        let mut labels = std::mem::take(&mut self.labels);
        labels.push(Label::from_static_parts("outcome", outcome));
        counter!(CALLS, labels.iter()).increment(1);
        if let Some(bytes) = self.argument() {
            histogram!(ARGUMENT, labels.iter()).record(bytes as f64);
        }
        if let Some(bytes) = self.result(result) {
            histogram!(RESULT, labels.iter()).record(bytes as f64);
        }
        histogram!(DURATION, labels).record(time);
    }
}

impl CallLayer for Metrics {
    fn call(&self, call: OutgoingCall, next: CallNext) -> BoxFuture<'static, Result<CallResult, CallError>> {
        let runtime = &call.peer().shared.core.runtime;
        let streams = call.streams.clone().map(Streams::OfCall);
        let measured = Measured::begin(runtime, ("client", call.method()), call.argument_size(), streams);
        Watched::call(measured).result(next.run(call)).boxed()
    }
}

impl HandlerLayer for Metrics {
    fn handle(&self, mut call: IncomingCall, next: HandlerNext) -> BoxFuture<'static, Reply> {
        let streams = next.streams(&mut call).map(Streams::OfHandler);
        let runtime = &call.context.peer.shared.core.runtime;
        let argument = call.body().map(|body| body.len() as u64);
        let measured = Measured::begin(runtime, ("server", call.known_method()), argument, streams);
        let watched = Watched::handler(measured, &call.context.cancellation);
        watched.reply(next.run(call)).boxed()
    }
}
