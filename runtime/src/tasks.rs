//! The tasks under a driver: none outlives it.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::{AbortHandle, Abortable};

use crate::lock::Mutex;
use crate::rt::Runtime;
use crate::stream::Shared;
use crate::waiters::Waiters;

/// Spawned tasks: how many live, and how to end them.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    links: Mutex<Links>,
    live: AtomicUsize,
    none_left: Waiters,
}

#[derive(Debug, Default)]
struct Links {
    closed: bool,
    next: u64,
    spawned: BTreeMap<u64, Task>,
}

#[derive(Debug)]
struct Task {
    handle: AbortHandle,
    /// What the layers of a streamed call, if the task runs them, will open.
    streams: Option<Arc<Shared>>,
}

/// Counts a task as living until it is dropped.
#[derive(Debug)]
pub(crate) struct TaskGuard {
    tasks: Arc<Tasks>,
    /// Of one that was spawned here.
    id: Option<u64>,
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        // With it goes the waker of the task.
        let ended = self.id.and_then(|id| self.tasks.links.lock().spawned.remove(&id));
        drop(ended);
        if self.tasks.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.tasks.none_left.wake_all();
        }
    }
}

impl Tasks {
    /// Counts a task that is not [spawned](Self::spawn) here.
    pub(crate) fn guard(self: &Arc<Self>) -> TaskGuard {
        self.live.fetch_add(1, Ordering::AcqRel);
        TaskGuard { tasks: self.clone(), id: None }
    }

    /// Spawns a task that [`abort_all`](Self::abort_all) ends; drops it instead if that was called already. `streams` are those of a
    /// call, if the task runs its layers.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        runtime: &dyn Runtime,
        streams: Option<Arc<Shared>>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let (handle, registration) = AbortHandle::new_pair();
        // Take the guard before the task can be aborted, or `wait_until_none` could miss it.
        let mut guard = self.guard();
        {
            let mut links = self.links.lock();
            if links.closed {
                return;
            }
            let id = links.next;
            links.next += 1;
            links.spawned.insert(id, Task { handle, streams });
            guard.id = Some(id);
        }
        // No `async` block, which would have room for the task twice: where it is captured and where it is awaited.
        runtime.spawn(Box::pin(Abortable::new(task, registration).map(move |_| drop(guard))));
    }

    /// Ends every task at its next poll, and lets none start any more. Returns the streams of the calls whose layers are thereby ended:
    /// those that are not opened yet have no peer that ends them.
    pub(crate) fn abort_all(&self) -> Vec<Arc<Shared>> {
        let spawned = {
            let mut links = self.links.lock();
            links.closed = true;
            std::mem::take(&mut links.spawned)
        };
        spawned
            .into_values()
            .filter_map(|task| {
                // This wakes the task. Its executor may panic, and the other tasks must end.
                let _ = catch_unwind(AssertUnwindSafe(|| task.handle.abort()));
                task.streams
            })
            .collect()
    }

    /// Waits until no task lives.
    pub(crate) async fn wait_until_none(&self) {
        loop {
            let listener = self.none_left.listen();
            if self.live.load(Ordering::Acquire) == 0 {
                return;
            }
            listener.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::by_hand::Pair;

    #[test]
    fn a_task_that_the_executor_drops_leaves_no_entry() {
        let runtime = Pair::new().runtime;
        let tasks = Arc::<Tasks>::default();
        tasks.spawn(&*runtime, None, std::future::pending());
        assert_eq!(tasks.links.lock().spawned.len(), 1);
        assert!(tasks.wait_until_none().now_or_never().is_none());
        runtime.drop_tasks();
        assert!(tasks.links.lock().spawned.is_empty());
        assert!(tasks.wait_until_none().now_or_never().is_some());
    }
}
