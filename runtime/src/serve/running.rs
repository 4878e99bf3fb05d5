//! A handler from its start to its end, wherever it is polled: timed, and with its panics caught.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use callosum_proto::{Body, Refusal, Reply, RequestId, Text};
use futures_util::future::BoxFuture;

use crate::cancel::Cancellation;
use crate::handler::Context;
use crate::handlers::Found;
use crate::layer::{HandlerNext, IncomingCall};
use crate::lock::{assert_unlocked, guard_reply};
use crate::method::panicked;
use crate::method_limits::{MethodLimit, Permit};
use crate::node::Node;
use crate::pace::Spent;

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
    pub(super) fn begin(self, node: &Node, spent: &mut Spent) -> Begun {
        assert_unlocked();
        let Self { request, body, context } = self;
        let Some(Found { method, limit, is_fallback }) = node.handlers.find(&context.method) else {
            let detail = format!("no handler is registered for `{}`", context.method);
            return Begun::Ended(Refusal::NoSuchMethod.reply(&detail));
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
        let now = || node.core.now();
        // Calls that get tasks because the budget is spent don't count towards the method's penalty.
        let begun = (!spent.is_all() && method.pace.is_quick()).then(|| spent.begin(now));
        let made = span.in_scope(|| {
            catch_unwind(AssertUnwindSafe(|| {
                let mut handling = match node.handler_layers.is_empty() {
                    true => method.begin(request, body, context, None),
                    false => HandlerNext::new(node.handler_layers.clone(), method.clone())
                        .run(IncomingCall { request, body, context, is_fallback, streams: None }),
                };
                // The waker does not matter: a handler that is not done is polled again by its task.
                let mut poll = match begun.is_some() {
                    true => handling.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop())),
                    false => Poll::Pending,
                };
                if let Poll::Ready(reply) = &mut poll {
                    guard_reply(reply);
                }
                (handling, poll)
            }))
        });
        if let Some(begun) = begun {
            method.pace.took(spent.end(begun, now()));
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

/// A running handler. Its panic becomes its failure.
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
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut poll = handling.as_mut().poll(cx);
            if let Poll::Ready(reply) = &mut poll {
                guard_reply(reply);
            }
            poll
        }));
        match polled {
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(panicked(&this.name, &*panic, this.exposes_tracebacks)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let handling = self.handling.take();
        // The link's task may drop it, and must survive a panicking destructor.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(handling))) {
            panicked(&self.name, &*panic, self.exposes_tracebacks);
        }
    }
}
