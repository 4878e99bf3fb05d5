//! Executors that poll a task, or drop it, while they wake it. If it is woken under a lock that it needs, it waits for that lock for
//! ever. So they test whatever keeps wakers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

/// What an executor does with a task as it is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnWake {
    /// As one does that runs tasks in the thread that wakes them.
    Poll,
    /// As one does that has ended: its queue is gone, and what is put there is dropped.
    Drop,
}

impl OnWake {
    /// Both, for a test that runs with either.
    pub const BOTH: [Self; 2] = [Self::Poll, Self::Drop];
}

/// A task of such an executor.
pub struct Task {
    on_wake: OnWake,
    /// `None` while it is polled, and when it has ended.
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    /// It was woken while it was polled.
    again: AtomicBool,
}

impl Task {
    /// Polls it for the first time.
    ///
    /// # Panics
    /// If it does not wait for anything.
    pub fn start(on_wake: OnWake, future: impl Future<Output = ()> + Send + 'static) -> Arc<Self> {
        let task = Arc::new(Self {
            on_wake,
            future: Mutex::new(Some(Box::pin(future))),
            again: AtomicBool::new(false),
        });
        task.clone().poll();
        assert!(!task.is_gone(), "it waits");
        task
    }

    fn take(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        self.future.lock().expect("nobody panics with it").take()
    }

    fn poll(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        loop {
            let Some(mut future) = self.take() else { return self.again.store(true, Relaxed) };
            self.again.store(false, Relaxed);
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                *self.future.lock().expect("nobody panics with it") = Some(future);
            }
            if !self.again.load(Relaxed) {
                return;
            }
        }
    }

    /// Whether it has ended, or was dropped.
    ///
    /// # Panics
    /// If its future has.
    pub fn is_gone(&self) -> bool {
        self.future.lock().expect("nobody panics with it").is_none()
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        match self.on_wake {
            OnWake::Poll => self.poll(),
            OnWake::Drop => drop(self.take()),
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("on_wake", &self.on_wake).finish_non_exhaustive()
    }
}
