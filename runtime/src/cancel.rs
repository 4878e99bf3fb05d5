//! Cancellation of handlers: its reason, and the grace period.
//!
//! Responsible for one cell per request, which the handler's [`Context`](crate::Context), its task and the dispatcher
//! share; not for the reply to the caller, which the engine decides when the request is withdrawn. The idea: a
//! cancelled handler is dropped at its next await, unless it has asked for a grace period before. Until it has ended,
//! it keeps its slot and its key.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use callosum_proto::StopReason;
use futures_util::task::AtomicWaker;

use crate::lock::Mutex;
use crate::rt::{Runtime, Timer, from_now};
use crate::waiters::{self, Waiters};

/// Why a handler is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// The caller has cancelled the call, or can't complete its argument.
    Caller,
    /// The handler has exceeded [`Builder::execution_timeout`](crate::Builder::execution_timeout) or, in dialect 2, its
    /// caller's deadline, or the timeout of its method, if it has one by [`MethodTimeouts`](crate::layer::MethodTimeouts).
    TimedOut,
    /// The connection to the caller has ended.
    Disconnected,
    /// The grace period of the endpoint's shutdown is over; or its driver, or the task of this link, was dropped.
    Shutdown,
}

impl From<StopReason> for CancelReason {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::DeadlinePassed | StopReason::ExecutionTimedOut => Self::TimedOut,
            StopReason::Disconnected => Self::Disconnected,
            _ => Self::Caller,
        }
    }
}

/// Whether the handler of a request may continue.
#[derive(Debug, Default)]
pub(crate) struct Cancellation {
    state: Mutex<State>,
    /// Wakes the tasks that wait for the cancellation.
    cancelled: Waiters,
    /// The task of the handler.
    task: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    grace: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    Running,
    /// A layer drops the handler. The task goes on, with the layers around that one.
    Dropped(CancelReason),
    /// The handler has its grace period left.
    Cancelled(CancelReason),
    /// The handler has no grace period, or it is over.
    Aborted(CancelReason),
}

impl Cancellation {
    /// Cancels the handler, unless it is cancelled already. Wakes those who wait for it, so never do this under a lock.
    pub(crate) fn cancel(&self, reason: CancelReason) {
        let mut state = self.state.lock();
        state.phase = match state.phase {
            Phase::Running => Phase::Cancelled(reason),
            Phase::Dropped(earlier) => Phase::Cancelled(earlier),
            Phase::Cancelled(_) | Phase::Aborted(_) => return,
        };
        drop(state);
        self.wake();
    }

    /// Ends the handler at its next await, whatever grace period it has. Wakes like [`cancel`](Self::cancel).
    pub(crate) fn abort(&self, reason: CancelReason) {
        let mut state = self.state.lock();
        state.phase = match state.phase {
            Phase::Running => Phase::Aborted(reason),
            Phase::Dropped(earlier) | Phase::Cancelled(earlier) | Phase::Aborted(earlier) => {
                Phase::Aborted(earlier)
            }
        };
        drop(state);
        self.wake();
    }

    /// A layer is about to drop the handler, for this reason. Wakes those who wait for the cancellation like [`cancel`](Self::cancel), and
    /// does not stop the task.
    pub(crate) fn tell_dropped(&self, reason: CancelReason) {
        let mut state = self.state.lock();
        let Phase::Running = state.phase else { return };
        state.phase = Phase::Dropped(reason);
        drop(state);
        self.cancelled.wake_all();
    }

    fn wake(&self) {
        self.cancelled.wake_all();
        self.task.take().into_iter().for_each(waiters::wake);
    }

    pub(crate) fn set_grace(&self, grace: Duration) {
        self.state.lock().grace = grace;
    }

    /// Whether the handler would go on if it were cancelled now.
    pub(crate) fn has_grace(&self) -> bool {
        !self.state.lock().grace.is_zero()
    }

    /// Why the handler is cancelled, or dropped by a layer, if it is.
    pub(crate) fn reason(&self) -> Option<CancelReason> {
        match self.state.lock().phase {
            Phase::Running => None,
            Phase::Dropped(reason) | Phase::Cancelled(reason) | Phase::Aborted(reason) => Some(reason),
        }
    }

    /// Whether its reply is dropped. That of a layer which has dropped the handler is not.
    pub(crate) fn drops_reply(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Cancelled(_) | Phase::Aborted(_))
    }

    /// Waits until the handler is cancelled.
    pub(crate) async fn cancelled(&self) -> CancelReason {
        loop {
            let cancelled = self.cancelled.listen();
            if let Some(reason) = self.reason() {
                return reason;
            }
            cancelled.await;
        }
    }

    /// How long the handler goes on; `None` if it is not cancelled.
    fn time_left(&self) -> Option<Duration> {
        let state = self.state.lock();
        match state.phase {
            Phase::Running | Phase::Dropped(_) => None,
            Phase::Cancelled(_) => Some(state.grace),
            Phase::Aborted(_) => Some(Duration::ZERO),
        }
    }
}

/// A handler until it ends, or is cancelled and its grace period is over. `None` if it was cancelled: a later result
/// is dropped, because the caller gets the cancellation.
pub(crate) struct Cancellable<F> {
    pub(crate) handling: F,
    pub(crate) cancellation: Arc<Cancellation>,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// Fires at the end of the grace period, once that has begun.
    pub(crate) grace: Option<Pin<Box<dyn Timer>>>,
}

impl<F: Future + Unpin> Future for Cancellable<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // Register before the check, or a cancellation in between would be missed.
        this.cancellation.task.register(cx.waker());
        match this.cancellation.time_left() {
            None => Pin::new(&mut this.handling).poll(cx).map(Some),
            Some(Duration::ZERO) => Poll::Ready(None),
            Some(grace) => {
                let runtime = &this.runtime;
                let timer = this.grace.get_or_insert_with(|| runtime.timer(from_now(&**runtime, grace)));
                match Pin::new(&mut this.handling).poll(cx) {
                    Poll::Ready(_) => Poll::Ready(None),
                    Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
                }
            }
        }
    }
}
