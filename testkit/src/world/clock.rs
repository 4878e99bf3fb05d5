//! Virtual time, and the tasks that wait for it.
//!
//! Responsible for which task is polled next, and for what time it is. The idea: time stands still while a task can be polled; when
//! none can, it jumps to the earliest timer. Among the tasks that can be polled a seeded generator chooses, so that each seed is one
//! interleaving, and the same one each time.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use callosum_runtime::rt::Timer;
use futures_util::future::BoxFuture;

use super::HostId;

/// Polls without any time passing, after which something must be spinning.
const MAX_POLLS_AT_ONCE: u64 = 5_000_000;

/// The task of [`Clock::run`]'s own future.
const MAIN: u64 = 0;

/// Time and tasks of one world.
pub(super) struct Clock {
    state: Mutex<State>,
}

struct State {
    start: Instant,
    now: Instant,
    limit: Duration,
    random: fastrand::Rng,
    tasks: BTreeMap<u64, Task>,
    /// Tasks that have been woken and not polled since, each once.
    ready: Vec<u64>,
    /// Whether [`MAIN`] is among them.
    main_is_ready: bool,
    timers: BTreeMap<(Instant, u64), Waker>,
    next_id: u64,
    fingerprint: u64,
}

struct Task {
    host: HostId,
    /// Absent while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Waker,
    is_ready: bool,
}

/// The next event.
enum Step {
    Main,
    Poll(u64, BoxFuture<'static, ()>, Waker),
    Wake(Vec<Waker>),
    /// The task has ended, or is the one that is being polled.
    Nothing,
    Stuck,
    TooLate(Duration),
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Clock").field("elapsed", &(state.now - state.start)).finish_non_exhaustive()
    }
}

impl Clock {
    pub(super) fn new(start: Instant, seed: u64, limit: Duration) -> Arc<Self> {
        let state = State {
            start,
            now: start,
            limit,
            random: fastrand::Rng::with_seed(seed),
            tasks: BTreeMap::new(),
            ready: Vec::new(),
            main_is_ready: false,
            timers: BTreeMap::new(),
            next_id: MAIN + 1,
            fingerprint: seed,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A task that panics holds no lock; a test may go on after it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Instant {
        self.lock().now
    }

    pub(super) fn elapsed(&self) -> Duration {
        let state = self.lock();
        state.now - state.start
    }

    pub(super) fn random<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.lock().random)
    }

    /// Mixes an event into the fingerprint, with its time and the bytes that it is about.
    pub(super) fn note(&self, event: u64, bytes: &[u8]) {
        let state = &mut *self.lock();
        let at = (state.now - state.start).as_nanos() as u64;
        let words = bytes.chunks(8).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        });
        for value in [at, event].into_iter().chain(words) {
            // FNV-1a, on words.
            state.fingerprint = (state.fingerprint ^ value).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.lock().fingerprint
    }

    pub(super) fn spawn(self: &Arc<Self>, host: HostId, future: BoxFuture<'static, ()>) {
        let mut state = self.lock();
        let id = state.next_id();
        let waker = self.waker(id);
        state.tasks.insert(id, Task { host, future: Some(future), waker, is_ready: true });
        state.ready.push(id);
    }

    fn waker(self: &Arc<Self>, id: u64) -> Waker {
        Arc::new(TaskWaker { id, clock: Arc::downgrade(self) }).into()
    }

    /// Drops the tasks of a host, without the lock: what they own may come back here.
    pub(super) fn kill(&self, host: HostId) {
        let mut dead = Vec::new();
        let mut state = self.lock();
        let ids: Vec<_> =
            state.tasks.iter().filter(|(_, task)| task.host == host).map(|(id, _)| *id).collect();
        dead.extend(ids.into_iter().filter_map(|id| state.tasks.remove(&id)));
        drop(state);
        drop(dead);
    }

    /// Drops all tasks.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        let dead = (std::mem::take(&mut state.tasks), std::mem::take(&mut state.timers));
        drop(state);
        drop(dead);
    }

    /// Wakes a task at the time `at`.
    pub(super) fn wake_at(&self, at: Instant, waker: Waker) {
        let mut state = self.lock();
        let id = state.next_id();
        state.timers.insert((at, id), waker);
    }

    pub(super) fn timer(self: &Arc<Self>, at: Instant) -> VirtualTimer {
        VirtualTimer { clock: self.clone(), at, armed: None }
    }

    /// Runs until `future` has ended.
    ///
    /// # Panics
    /// If a task does; if nothing can happen any more; past the limit of time; and if something spins.
    pub(super) fn run<F: Future>(self: &Arc<Self>, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let waker = self.waker(MAIN);
        waker.wake_by_ref();
        let mut polls = 0_u64;
        loop {
            match self.step() {
                Step::Main => {
                    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                        return output;
                    }
                }
                Step::Poll(id, task, waker) => self.poll(id, task, &waker),
                Step::Wake(wakers) => {
                    polls = 0;
                    wakers.into_iter().for_each(Waker::wake);
                }
                Step::Nothing => {}
                Step::Stuck => panic!("every task waits, and for no time: nothing can happen any more"),
                Step::TooLate(limit) => panic!("this has taken {limit:?} of virtual time, and has not ended"),
            }
            polls += 1;
            assert!(polls < MAX_POLLS_AT_ONCE, "{polls} polls, and no time has passed: a task spins");
        }
    }

    fn poll(&self, id: u64, mut task: BoxFuture<'static, ()>, waker: &Waker) {
        let is_over = task.as_mut().poll(&mut Context::from_waker(waker)).is_ready();
        let mut state = self.lock();
        if is_over {
            state.tasks.remove(&id);
        } else if let Some(left) = state.tasks.get_mut(&id) {
            left.future = Some(task);
            return;
        }
        // It has ended, or its host has crashed while it ran.
        drop(state);
        drop(task);
    }

    fn step(&self) -> Step {
        let state = &mut *self.lock();
        if state.ready.is_empty() {
            return state.pass_time();
        }
        let chosen = state.random.usize(..state.ready.len());
        let id = state.ready.swap_remove(chosen);
        if id == MAIN {
            state.main_is_ready = false;
            return Step::Main;
        }
        let Some(task) = state.tasks.get_mut(&id) else { return Step::Nothing };
        task.is_ready = false;
        match task.future.take() {
            Some(future) => Step::Poll(id, future, task.waker.clone()),
            None => Step::Nothing,
        }
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Nothing can be polled: it becomes as late as the earliest timer says.
    fn pass_time(&mut self) -> Step {
        let Some((&(at, _), _)) = self.timers.first_key_value() else { return Step::Stuck };
        if at.saturating_duration_since(self.start) > self.limit {
            return Step::TooLate(self.limit);
        }
        self.now = self.now.max(at);
        let later = self.timers.split_off(&(self.now, u64::MAX));
        Step::Wake(std::mem::replace(&mut self.timers, later).into_values().collect())
    }
}

struct TaskWaker {
    id: u64,
    clock: Weak<Clock>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let Some(clock) = self.clock.upgrade() else { return };
        let state = &mut *clock.lock();
        let is_ready = match state.tasks.get_mut(&self.id) {
            Some(task) => &mut task.is_ready,
            None if self.id == MAIN => &mut state.main_is_ready,
            None => return,
        };
        if !std::mem::replace(is_ready, true) {
            state.ready.push(self.id);
        }
    }
}

/// A timer of virtual time.
pub(super) struct VirtualTimer {
    clock: Arc<Clock>,
    at: Instant,
    armed: Option<(Instant, u64)>,
}

impl VirtualTimer {
    fn disarm(&mut self) {
        if let Some(armed) = self.armed.take() {
            let waker = self.clock.lock().timers.remove(&armed);
            drop(waker);
        }
    }
}

impl Timer for VirtualTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.disarm();
        self.at = at;
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.disarm();
        let mut state = self.clock.lock();
        if state.now >= self.at {
            return Poll::Ready(());
        }
        let armed = (self.at, state.next_id());
        state.timers.insert(armed, cx.waker().clone());
        drop(state);
        self.armed = Some(armed);
        Poll::Pending
    }
}

impl Drop for VirtualTimer {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// A queue that one task waits on.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    items: VecDeque<T>,
    waker: Option<Waker>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), waker: None }
    }
}

impl<T> Waiting<T> {
    pub(super) fn push(&mut self, item: T) -> Option<Waker> {
        self.items.push_back(item);
        self.waker.take()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<T> {
        match self.items.pop_front() {
            Some(item) => Poll::Ready(item),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// What is in it, and who waits.
    pub(super) fn into_parts(self) -> (VecDeque<T>, Option<Waker>) {
        (self.items, self.waker)
    }
}
