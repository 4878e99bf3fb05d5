//! Limits of single methods.
//!
//! Responsible for how many handlers of a method run. Not for the concurrency limit of the endpoint and the share of a peer: those
//! are the engine's, which knows no methods. So a call past the limit of its method can't wait without a slot that others could
//! use, or without memory for its argument that nothing bounds; it is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use callosum_proto::{Refusal, Reply};

/// Limits of one method. The default is none. See [`Handlers::set_limits`](crate::Handlers::set_limits).
///
/// ```
/// # use callosum_runtime::{Handlers, MethodLimits};
/// # fn limit(handlers: &Handlers) {
/// handlers.set_limits("follow", MethodLimits::default().max_concurrency(500));
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "limits hold for the method that they are given to"]
pub struct MethodLimits {
    max_concurrency: Option<usize>,
}

impl MethodLimits {
    /// Handlers of this method that run at a time, for all peers together, those that have
    /// [released their slot](crate::Context::release_slot) included. Those that had started before the method was first given a limit are not
    /// counted.
    ///
    /// A call past it is refused when its handler would start, with an ERROR named `Busy`: it has not run, and
    /// [`CallError::may_have_run`](crate::CallError::may_have_run) says so. It does not wait: it would keep a slot from calls of other
    /// methods.
    pub fn max_concurrency(mut self, handlers: usize) -> Self {
        self.max_concurrency = Some(handlers);
        self
    }

    pub(crate) fn concurrency(self) -> Option<usize> {
        self.max_concurrency
    }
}

/// A limit, and what counts against it.
#[derive(Debug, Default)]
pub(crate) struct MethodLimit {
    max: AtomicUsize,
    running: AtomicUsize,
}

impl MethodLimit {
    pub(crate) fn set(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// A handler starts, or its call is refused with this reply.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Permit, Reply> {
        let max = self.max.load(Relaxed);
        let entered =
            self.running.fetch_update(Relaxed, Relaxed, |running| (running < max).then_some(running + 1));
        match entered {
            Ok(_) => Ok(Permit(self.clone())),
            Err(running) => {
                let detail = format!("{running} calls of this method run; the limit is {max}");
                Err(Refusal::Busy.reply(&detail))
            }
        }
    }
}

/// A running handler of a limited method, until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<MethodLimit>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_counted_whatever_the_limit_is_meanwhile() {
        let limit = Arc::new(MethodLimit::default());
        assert!(limit.enter().is_err(), "none is allowed");
        limit.set(2);
        let (first, second) = (limit.enter(), limit.enter());
        assert!(first.is_ok() && second.is_ok() && limit.enter().is_err());
        limit.set(1);
        drop(first);
        assert!(limit.enter().is_err(), "one runs");
        drop(second);
        assert!(limit.enter().is_ok());
    }
}
