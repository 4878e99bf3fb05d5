//! The common parts of the services of `callosum serve`: the runtime, the notes on calls, and the rule that no method
//! that runs long stops the others.
//!
//! Handlers share the slots of `--max-concurrency`. A method that waits for its caller, for time or for a disk could take
//! all of them, so each such method is [`Long`]: it gives its slot back when it starts, and there is a limit to how many of
//! its handlers run. Past it, its calls are refused as `Busy`.

mod demo;

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use callosum_runtime::{BodyReader, Builder, Context, HandlerError, HandlerResult, MethodLimits, Responder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::executor::Executor;
use crate::stderr::note;

pub(crate) use demo::add_methods as add_demo;

/// The limit of a method that runs long: so many of its handlers run at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Long(pub(crate) usize);

impl Long {
    /// One of `parts` equal parts of the number of slots, and at least one.
    pub(crate) fn part_of(slots: NonZeroUsize, parts: usize) -> Self {
        Self((slots.get() / parts).max(1))
    }

    fn limit(self, builder: Builder, method: &str) -> Builder {
        builder.method_limits(method, MethodLimits::default().max_concurrency(self.0))
    }
}

/// The state that the handlers of a server share.
#[derive(Clone)]
pub(crate) struct Service {
    executor: Executor,
    /// Whether each call is a line on stderr.
    output: Arc<AtomicBool>,
}

impl Service {
    pub(crate) fn new(executor: Executor) -> Self {
        Self { executor, output: Arc::default() }
    }

    pub(crate) fn executor(&self) -> Executor {
        self.executor
    }

    /// Adds a method that answers at once.
    fn add<A, R, F, Fut>(&self, builder: Builder, method: &'static str, handler: F) -> Builder
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(A, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = HandlerResult<R>> + Send + 'static,
    {
        let service = self.clone();
        builder.handle(method, move |args: A, context: Context| {
            service.show(method, &context);
            handler(args, context)
        })
    }

    /// Adds a method that runs long.
    fn add_long<A, R, F, Fut>(
        &self,
        builder: Builder,
        method: &'static str,
        long: Long,
        handler: F,
    ) -> Builder
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(A, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = HandlerResult<R>> + Send + 'static,
    {
        self.add(long.limit(builder, method), method, move |args, context: Context| {
            context.release_slot();
            handler(args, context)
        })
    }

    /// Adds a method that streams, and so runs for as long as its caller likes.
    pub(crate) fn add_stream<E, F, Fut>(
        &self,
        builder: Builder,
        method: &'static str,
        long: Long,
        handler: F,
    ) -> Builder
    where
        E: Into<HandlerError> + Send + 'static,
        F: Fn(BodyReader, Responder, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
    {
        let service = self.clone();
        long.limit(builder, method).handle_stream(method, move |body, responder, context: Context| {
            service.show(method, &context);
            context.release_slot();
            handler(body, responder, context)
        })
    }

    fn show(&self, method: &str, context: &Context) {
        if self.output.load(Ordering::Relaxed) {
            let (peer, address) = (context.peer().id(), context.peer().info().address);
            note(&format!("{method} called by {peer} at {address}, key {}\n", context.key()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_slots_is_at_least_one() {
        let part = |slots, parts| Long::part_of(NonZeroUsize::new(slots).unwrap(), parts);
        assert_eq!([part(100, 4), part(3, 4), part(1, 2)], [25, 1, 1].map(Long));
    }
}
