//! Spans of `tracing` for calls and handlers, and the trace context that connects them.
//!
//! Responsible for making spans; recording them is up to the program's subscriber. The idea: each span has ids of its own,
//! so that traces connect whatever the subscriber is; or those of a tracing system, through [`SpanContexts`].

use std::fmt;
use std::sync::Arc;

use callosum_proto::{Dialect, Reply};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};

use super::outcome::{Report, Watched};
use super::trace_context::TraceContext;
use super::{CallLayer, CallNext, CallResult, HandlerLayer, HandlerNext, IncomingCall, OutgoingCall};
use crate::error::CallError;
use crate::peer::PeerShared;

/// Gives spans the ids that a tracing system knows them by. For `tracing-opentelemetry`, these are `OpenTelemetrySpanExt::context` and
/// `OpenTelemetrySpanExt::set_parent`.
pub trait SpanContexts: Send + Sync + 'static {
    /// The trace context of calls made in this span.
    fn context(&self, span: &Span) -> Option<TraceContext>;

    /// This span of a handler is a child of that of its caller.
    fn set_parent(&self, span: &Span, parent: &TraceContext);
}

/// A layer that has a span of `tracing`, at level INFO, for each call and each handler, and connects them across peers with W3C's
/// [trace context](TraceContext). Given to [`Builder::layer`](crate::Builder::layer), it is for handlers; given to
/// [`Builder::call_layer`](crate::Builder::call_layer) or [`Peer::with_layer`](crate::Peer::with_layer), for calls.
///
/// The spans are called `rpc.client` and `rpc.server`. Their fields have OpenTelemetry's names:
///
/// | field | value |
/// | --- | --- |
/// | `otel.kind` | `client` or `server` |
/// | `otel.name`, `rpc.method` | the method; `_OTHER` for what a fallback answers |
/// | `rpc.system` | `callosum` |
/// | `rpc.callosum.key`, `rpc.callosum.peer` | the ordering key, the [peer](crate::Peer::id) |
/// | `enduser.id` | on the server, the [identity](crate::Context::identity)'s user, if there is one |
/// | `otel.status_code`, `error.type` | if it failed: `ERROR`, and how, in the words of the metrics' label `outcome` |
/// | `trace_id`, `span_id`, `parent_span_id` | hexadecimal, without [`SpanContexts`] |
///
/// # Trace context
/// A call is sent with the context of its span, unless it has a `traceparent` of its own. Its trace is that of the
/// [handler](TraceContext::current) that makes it, or a new one. It is sent in metadata, so only while a link speaks dialect
/// 2: a call that is made without a link has none, because the peer may speak dialect 1 when it is back.
///
/// The ids are random, from the endpoint's [runtime](crate::rt::Runtime::fill_random).
#[derive(Clone, Default)]
pub struct Tracing {
    contexts: Option<Arc<dyn SpanContexts>>,
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracing").finish_non_exhaustive()
    }
}

impl Tracing {
    /// The layer, with ids of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// The layer, with the ids of a tracing system.
    pub fn with_contexts(contexts: impl SpanContexts) -> Self {
        Self { contexts: Some(Arc::new(contexts)) }
    }

    /// The context of a new span.
    fn enter(&self, span: &Span, parent: Option<TraceContext>, peer: &PeerShared) -> Option<TraceContext> {
        if let Some(contexts) = &self.contexts {
            return contexts.context(span);
        }
        let span_id = non_zero(peer.core.random());
        let context = match &parent {
            Some(parent) => parent.with_span(span_id),
            None => {
                let is_recorded = u8::from(!span.is_disabled());
                TraceContext::new(non_zero(peer.core.random()), span_id, is_recorded)
            }
        };
        let id = |context: &TraceContext| format!("{:016x}", u64::from_be_bytes(context.span_id));
        if !span.is_disabled() {
            span.record("trace_id", format!("{:032x}", u128::from_be_bytes(context.trace_id)));
            span.record("span_id", id(&context));
            parent.as_ref().map(|parent| span.record("parent_span_id", id(parent)));
        }
        Some(context)
    }
}

/// Ids must not be zero.
fn non_zero<const N: usize>(mut bytes: [u8; N]) -> [u8; N] {
    if bytes == [0; N] {
        bytes[N - 1] = 1;
    }
    bytes
}

impl Report for Span {
    fn end(&mut self, outcome: &'static str, _: Option<usize>) {
        if outcome != "ok" {
            self.record("otel.status_code", "ERROR");
            self.record("error.type", outcome);
        }
    }
}

/// A span of this name and kind. Names and fields of spans are constants.
macro_rules! rpc_span {
    ($name:literal, $kind:literal, $method:expr, $key:expr, $peer:expr) => {
        tracing::info_span!(
            $name,
            otel.kind = $kind,
            otel.name = $method,
            rpc.system = "callosum",
            rpc.method = $method,
            rpc.callosum.key = %$key,
            rpc.callosum.peer = %$peer,
            enduser.id = Empty,
            otel.status_code = Empty,
            error.type = Empty,
            trace_id = Empty,
            span_id = Empty,
            parent_span_id = Empty,
        )
    };
}

impl CallLayer for Tracing {
    fn call(
        &self,
        mut call: OutgoingCall,
        next: CallNext,
    ) -> BoxFuture<'static, Result<CallResult, CallError>> {
        let span = rpc_span!("rpc.client", "client", call.method(), call.key(), call.peer().id());
        let peer = call.peer().shared.clone();
        let context = self.enter(&span, TraceContext::current(), &peer);
        let has_own = TraceContext::extract(call.metadata()).is_some();
        let travels = !has_own && peer.lock().dialect() == Some(Dialect::Two);
        if let Some(context) = context.filter(|_| travels) {
            // If the metadata leave no room for the trace context, the call is made without it.
            let _ = context.inject(call.metadata_mut());
        }
        let calling = span.in_scope(|| next.run(call));
        Watched::call(span.clone()).result(calling).instrument(span).boxed()
    }
}

impl HandlerLayer for Tracing {
    fn handle(&self, call: IncomingCall, next: HandlerNext) -> BoxFuture<'static, Reply> {
        let context = call.context();
        let peer = context.peer();
        let span = rpc_span!("rpc.server", "server", call.known_method(), context.key(), peer.id());
        if !span.is_disabled()
            && let Some(identity) = context.identity()
        {
            span.record("enduser.id", display(&identity.user_id));
        }
        let parent = TraceContext::extract(context.metadata());
        if let (Some(contexts), Some(parent)) = (&self.contexts, &parent) {
            contexts.set_parent(&span, parent);
        }
        let current = self.enter(&span, parent, &peer.shared);
        let watched = Watched::handler(span.clone(), &call.context.cancellation);
        let handling = span.in_scope(|| next.run(call));
        let handling = watched.reply(handling).instrument(span);
        match current {
            Some(current) => current.scope(handling).boxed(),
            None => handling.boxed(),
        }
    }
}
