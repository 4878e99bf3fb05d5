//! A handler from its start to its end, wherever it is polled: timed, and with its panics caught.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use callosum_proto::{Body, Refusal, Reply, RequestId, Text};
use futures_util::future::BoxFuture;

use crate::cancel::Cancellation;
use crate::handler::Context;
use crate::handlers::Found;
use crate::layer::{HandlerNext, IncomingCall};
use crate::lock::{assert_unlocked, guarded_reply};
use crate::method::panicked;
use crate::method_limits::{MethodLimit, Permit};
use crate::node::Node;

/// What handlers may take together that are polled on the spot, one after the other, before the rest of them get tasks.
const INLINE_BUDGET: Duration = Duration::from_micros(500);

/// Times handlers that run one after the other, with one reading of the clock each.
#[derive(Default)]
pub(crate) struct Clock(Option<Laps>);

struct Laps {
    begun: Instant,
    last: Instant,
}

impl Laps {
    fn is_spent(&self) -> bool {
        self.last.saturating_duration_since(self.begun) > INLINE_BUDGET
    }

    /// Time since the last lap, or since the start.
    fn lap(&mut self, now: Instant) -> Duration {
        now.saturating_duration_since(std::mem::replace(&mut self.last, now))
    }
}

impl Clock {
    fn laps(&mut self, node: &Node) -> &mut Laps {
        self.0.get_or_insert_with(|| {
            let now = node.core.now();
            Laps { begun: now, last: now }
        })
    }
}

/// A request that has been started and that no handler has seen.
pub(super) struct Started {
    pub(super) request: RequestId,
    pub(super) body: Body,
    pub(super) context: Context,
}

pub(super) enum Begun {
    Ended(Reply),
    Goes(Running),
}

impl Started {
    pub(super) fn begin(self, node: &Node, clock: Option<&mut Clock>) -> Begun {
        assert_unlocked();
        let Self { request, body, context } = self;
        let Some(Found { method, limit, is_fallback }) = node.handlers.find(&context.method) else {
            let detail = format!("no handler is registered for `{}`", context.method);
            return Begun::Ended(Reply::Error(Refusal::NoSuchMethod.to_error(&detail)));
        };
        let permit = match limit.as_ref().map(MethodLimit::enter).transpose() {
            Ok(permit) => permit,
            Err(refusal) => return Begun::Ended(refusal),
        };
        let span = if tracing::enabled!(tracing::Level::DEBUG) {
            let (key, peer) = (&context.key, context.peer.id());
            let identity = context.identity();
            let user = identity.as_ref().map(|identity| &*identity.user_id);
            tracing::debug_span!("call", method = &*context.method, %key, %peer, user)
        } else {
            tracing::Span::none()
        };
        let name = context.method.clone();
        let cancellation = context.cancellation.clone();
        let exposes = node.core.config.expose_tracebacks;
        let laps =
            clock.filter(|_| method.is_quick()).map(|clock| clock.laps(node)).filter(|laps| !laps.is_spent());
        let inline = laps.is_some();
        let made = span.in_scope(|| {
            catch_unwind(AssertUnwindSafe(|| {
                let mut handling = match node.handler_layers.is_empty() {
                    true => method.begin(request, body, context),
                    false => HandlerNext::new(node.handler_layers.clone(), method.clone())
                        .run(IncomingCall { request, body, context, is_fallback }),
                };
                // The waker does not matter: a handler that is not done is polled again by its task.
                let poll = match inline {
                    true => handling.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop())),
                    false => Poll::Pending,
                };
                let poll = poll.map(guarded_reply);
                (handling, poll)
            }))
        });
        if let Some(laps) = laps {
            method.took(laps.lap(node.core.now()));
        }
        let (handling, poll) = match made {
            Err(panic) => return Begun::Ended(panicked(&name, &*panic, exposes)),
            Ok(made) => made,
        };
        let handling = Some(handling);
        let running =
            Running { handling, name, span, exposes_tracebacks: exposes, cancellation, _permit: permit };
        match poll {
            Poll::Ready(reply) => Begun::Ended(reply),
            Poll::Pending => Begun::Goes(running),
        }
    }
}

/// A handler under way. Its panic is its failure.
pub(super) struct Running {
    /// There until this is dropped.
    handling: Option<BoxFuture<'static, Reply>>,
    name: Text,
    span: tracing::Span,
    exposes_tracebacks: bool,
    pub(super) cancellation: Arc<Cancellation>,
    /// Given back once the handler has been dropped.
    _permit: Option<Permit>,
}

impl Future for Running {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Reply> {
        let this = self.get_mut();
        assert_unlocked();
        let _entered = this.span.enter();
        let Some(handling) = &mut this.handling else { return Poll::Pending };
        match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx).map(guarded_reply))) {
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(panicked(&this.name, &*panic, this.exposes_tracebacks)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let handling = self.handling.take();
        // It may be the link's task that drops it, which must go on.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(handling))) {
            panicked(&self.name, &*panic, self.exposes_tracebacks);
        }
    }
}
