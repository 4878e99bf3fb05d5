//! The handlers of one connection that have tasks, and whether more may get one.
//!
//! Apart from the endpoint, with a lock of its own: a handler that does not end at once finds its place here, without the lock that all
//! connections share.

use std::sync::Arc;

use callosum_proto::RequestId;
use rustc_hash::FxHashMap;

use crate::cancel::{CancelReason, Cancellation};
use crate::lock::Mutex;

#[derive(Debug, Default)]
pub(crate) struct Handling(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Why no handler gets a task any more.
    over: Option<CancelReason>,
    tasks: FxHashMap<RequestId, Arc<Cancellation>>,
}

/// The connection is over, or the endpoint is.
pub(crate) struct NotBegun(pub(crate) CancelReason);

impl Handling {
    /// The handlers of a connection that is over.
    pub(super) fn over(reason: CancelReason) -> Self {
        Self(Mutex::new(State { over: Some(reason), tasks: FxHashMap::default() }))
    }

    /// A handler gets a task of its own. It is [ended](super::Dispatcher::end_task) with the dispatcher.
    pub(crate) fn begin(&self, request: RequestId, cancellation: &Arc<Cancellation>) -> Result<(), NotBegun> {
        let mut state = self.0.lock();
        if let Some(reason) = state.over {
            return Err(NotBegun(reason));
        }
        state.tasks.insert(request, cancellation.clone());
        Ok(())
    }

    /// A handler is to be stopped.
    pub(crate) fn stop(&self, request: RequestId, reason: CancelReason) {
        let handler = self.0.lock().tasks.get(&request).cloned();
        handler.iter().for_each(|handler| handler.cancel(reason));
    }

    /// The same as [`begin`](Self::begin) for one that has a grace period left.
    pub(super) fn linger(&self, request: RequestId, cancellation: Arc<Cancellation>) {
        self.0.lock().tasks.insert(request, cancellation);
    }

    /// Cancels the handler, if it had a task. It holds the task's waker, so it must not be dropped under a lock.
    pub(super) fn end(&self, request: RequestId) -> Option<Arc<Cancellation>> {
        self.0.lock().tasks.remove(&request)
    }

    /// No handler gets a task any more. Returns those that have one.
    pub(super) fn close(&self, reason: CancelReason) -> Vec<Arc<Cancellation>> {
        let mut state = self.0.lock();
        state.over.get_or_insert(reason);
        state.tasks.values().cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().tasks.is_empty()
    }
}
