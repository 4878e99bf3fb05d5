//! Carries events between the endpoint and the connections, and knows which handlers run.
//!
//! Responsible for the lock of the endpoint, and for stopping handlers; not for running them, which is [`serve`](crate::serve)'s part. What
//! a connection reports is brought here by the driver of its link, and by nobody else. What the endpoint decides goes into the
//! inbox of each connection, from which its driver takes it. So the events of each connection stay in order in both directions, and
//! no connection is locked while the endpoint is. Lock order: the dispatcher, then an inbox or the handlers of a connection; or a peer's
//! state alone.

mod handling;
mod inbox;

use std::sync::Arc;

use callosum_proto::ordering::Scheduler;
use callosum_proto::{
    ConnectionEvent, ConnectionId, Endpoint, EndpointConfig, EndpointEvent, Reply, RequestId,
};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::cancel::{CancelReason, Cancellation};
use crate::lock::{Mutex, MutexGuard};
use crate::stats::{Counters, add};

pub(crate) use self::handling::{Handling, NotBegun};
pub(crate) use self::inbox::{Decisions, Inbox, Relayed};

/// The endpoint, and what runs for it.
pub(crate) struct Dispatcher {
    state: Mutex<State>,
    #[cfg(test)]
    locked: std::sync::atomic::AtomicUsize,
}

struct State {
    endpoint: Endpoint,
    connections: FxHashMap<ConnectionId, Served>,
    /// Connections that are open and not served yet.
    unserved: FxHashSet<ConnectionId>,
    /// Handlers that have tasks and whose connection is over, and how many they are.
    lingering: FxHashMap<ConnectionId, Arc<Handling>>,
    lingering_count: usize,
    intake: Intake,
}

/// Handlers of connections that are over and that may have a grace period at a time. Others are dropped without one.
const MAX_LINGERING: usize = 1_000;

/// Whether handlers are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    Open,
    /// None is, and those that run have their grace period left.
    Closed,
    /// None is, and none goes on.
    Aborted,
}

/// A connection whose requests are served.
struct Served {
    inbox: Arc<Inbox>,
    counters: Arc<Counters>,
    handling: Arc<Handling>,
}

/// Effects that run the application's code, so they are carried out once the lock is released.
#[derive(Default)]
struct Afterwards {
    wake: Vec<Arc<Inbox>>,
}

impl Afterwards {
    fn run(self) {
        self.wake.iter().for_each(|inbox| inbox.wake());
    }
}

impl Dispatcher {
    pub(crate) fn new(config: EndpointConfig, scheduler: Option<Box<dyn Scheduler>>) -> Self {
        let endpoint = match scheduler {
            Some(scheduler) => Endpoint::with_scheduler(config, scheduler),
            None => Endpoint::new(config),
        };
        Self {
            state: Mutex::new(State {
                endpoint,
                connections: FxHashMap::default(),
                unserved: FxHashSet::default(),
                lingering: FxHashMap::default(),
                lingering_count: 0,
                intake: Intake::Open,
            }),
            #[cfg(test)]
            locked: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        #[cfg(test)]
        self.locked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.state.lock()
    }

    /// How often the endpoint was locked.
    #[cfg(test)]
    pub(crate) fn times_locked(&self) -> usize {
        self.locked.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Names a new connection.
    pub(crate) fn open(&self) -> ConnectionId {
        let mut state = self.lock();
        let connection = state.endpoint.open();
        state.unserved.insert(connection);
        connection
    }

    /// From now on the requests of a connection are served, until it is [forgotten](Self::forget); not any more if it was, since
    /// nothing would end that. Returns its handlers.
    pub(crate) fn serve(
        &self,
        connection: ConnectionId,
        inbox: &Arc<Inbox>,
        counters: &Arc<Counters>,
    ) -> Arc<Handling> {
        let mut state = self.lock();
        if state.unserved.remove(&connection) {
            let handling = Arc::<Handling>::default();
            if state.intake != Intake::Open {
                handling.close(CancelReason::Shutdown);
            }
            let served = Served { inbox: inbox.clone(), counters: counters.clone(), handling };
            state.connections.insert(connection, served);
        }
        match state.connections.get(&connection) {
            Some(served) => served.handling.clone(),
            None => Arc::new(Handling::over(CancelReason::Disconnected)),
        }
    }

    /// Takes what a connection reports, and the replies of handlers that its driver has run, and puts what the endpoint decides into
    /// the inboxes. What is in the connection's own, and what belongs there, is added to `decisions` of the driver that calls this.
    pub(crate) fn relay(
        &self,
        on: ConnectionId,
        inbox: &Inbox,
        relayed: &mut Relayed,
        decisions: &mut Decisions,
    ) {
        let mut state = self.lock();
        // One by one: if a user's scheduler panics at one, those behind it stay in the queue.
        while let Some(event) = relayed.reports.pop_front() {
            state.take(event);
        }
        while let Some((request, reply)) = relayed.finished.pop_front() {
            state.endpoint.finish(request, reply);
        }
        // Earlier decisions come first.
        inbox.take(decisions);
        settle(state, Some((on, decisions)));
    }

    /// A handler whose connection is over, or whose endpoint is, has got no task by [`Handling::begin`]. If it has a grace period, it is
    /// counted and gets one all the same; its cancellation is the caller's part.
    pub(crate) fn linger(
        &self,
        handling: &Arc<Handling>,
        request: RequestId,
        cancellation: &Arc<Cancellation>,
    ) -> bool {
        let mut state = self.lock();
        if state.intake == Intake::Aborted || !cancellation.has_grace() {
            return false;
        }
        handling.linger(request, cancellation.clone());
        let connection = request.connection();
        if !state.connections.contains_key(&connection) {
            state.lingering_count += 1;
            state.lingering.insert(connection, handling.clone());
        }
        true
    }

    /// A handler that had a task has ended; `reply` is `None` if it was stopped.
    pub(crate) fn end_task(&self, handling: &Handling, request: RequestId, reply: Option<Reply>) {
        let mut state = self.lock();
        let connection = request.connection();
        let ended = handling.end(request);
        if ended.is_some() && !state.connections.contains_key(&connection) {
            state.lingering_count -= 1;
            if handling.is_empty() {
                state.lingering.remove(&connection);
            }
        }
        state.endpoint.finish(request, reply);
        settle(state, None);
        drop(ended);
    }

    /// A handler has ended that had no task, or never ran; `reply` is `None` if it was stopped.
    pub(crate) fn finish(&self, request: RequestId, reply: Option<Reply>) {
        let mut state = self.lock();
        state.endpoint.finish(request, reply);
        settle(state, None);
    }

    /// A connection is over: what waits vanishes, what runs is stopped and learns `why`.
    pub(crate) fn forget(&self, connection: ConnectionId, why: CancelReason) {
        let mut state = self.lock();
        state.take(EndpointEvent::Closed(connection));
        state.unserved.remove(&connection);
        let tasks = match state.connections.remove(&connection) {
            Some(served) => {
                let tasks = served.handling.close(why);
                if !tasks.is_empty() {
                    state.lingering.insert(connection, served.handling);
                }
                tasks
            }
            None => Vec::new(),
        };
        // Without this limit, a peer that reconnects repeatedly could leave any number of handlers behind.
        let room = MAX_LINGERING.saturating_sub(state.lingering_count);
        state.lingering_count += tasks.len();
        let afterwards = state.distribute(None);
        drop(state);
        tasks.iter().enumerate().for_each(|(n, handler)| match n < room {
            true => handler.cancel(why),
            false => handler.abort(why),
        });
        afterwards.run();
    }

    /// Stops every handler, and starts none any more. Those that have a grace period take it. What waits is left to
    /// [`forget`](Self::forget).
    pub(crate) fn close(&self) {
        let tasks = self.end_intake(Intake::Closed);
        tasks.iter().for_each(|handler| handler.cancel(CancelReason::Shutdown));
    }

    /// Ends every handler at its next await, whatever grace period it has, and starts none any more.
    pub(crate) fn abort(&self) {
        let tasks = self.end_intake(Intake::Aborted);
        tasks.iter().for_each(|handler| handler.abort(CancelReason::Shutdown));
    }

    /// Returns the handlers that run. To wake them is not to be done under the lock.
    fn end_intake(&self, intake: Intake) -> Vec<Arc<Cancellation>> {
        let mut state = self.lock();
        if state.intake != Intake::Aborted {
            state.intake = intake;
        }
        let served = state.connections.values().map(|served| &served.handling);
        served
            .chain(state.lingering.values())
            .flat_map(|handling| handling.close(CancelReason::Shutdown))
            .collect()
    }

    /// Requests of a connection that wait, and those that run.
    pub(crate) fn load(&self, connection: ConnectionId) -> (usize, usize) {
        let state = self.lock();
        (state.endpoint.waiting_of(connection), state.endpoint.running_of(connection))
    }

    /// The same for all connections; handlers that have not ended yet although their connection has are among them.
    pub(crate) fn total_load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.endpoint.waiting(), state.endpoint.running())
    }

    /// No request of a connection starts from now on.
    pub(crate) fn start_no_more(&self, connection: ConnectionId) {
        self.lock().take(EndpointEvent::Paused(connection));
    }

    /// A running request wants to begin its reply as a stream. Returns whether its connection will be told when it may.
    pub(crate) fn begin_reply(&self, request: RequestId) -> bool {
        let mut state = self.lock();
        let is_told = state.endpoint.begin_reply(request);
        settle(state, None);
        is_told
    }

    pub(crate) fn cancel_begin_reply(&self, request: RequestId) {
        self.lock().endpoint.cancel_begin_reply(request);
    }

    /// A handler lends its slot while it waits for a nested call.
    pub(crate) fn suspend(&self, request: RequestId) {
        let mut state = self.lock();
        state.endpoint.suspend(request);
        settle(state, None);
    }

    /// The handler of a request waits for one call less.
    pub(crate) fn resume(&self, request: RequestId) {
        self.lock().endpoint.resume(request);
    }

    /// A handler goes on without a slot.
    pub(crate) fn release_slot(&self, request: RequestId) {
        let mut state = self.lock();
        state.endpoint.release_slot(request);
        settle(state, None);
    }
}

impl State {
    fn take(&mut self, event: EndpointEvent) {
        if let EndpointEvent::Closed(connection) = event
            && let Some(served) = self.connections.get(&connection)
        {
            // Some wait, some run, and of some the reply waits for its order.
            let open = self.endpoint.open_requests_of(connection);
            add(&served.counters.requests_failed, open as u64);
        }
        self.endpoint.handle_event(event);
    }

    /// Puts what the endpoint decides into the inboxes; what it decides for the connection `on`, beside that.
    ///
    /// A peer that does not read is paused once its connection has been given these replies, so as many handlers may start before that as
    /// it has slots.
    fn distribute(&mut self, mut on: Option<(ConnectionId, &mut Decisions)>) -> Afterwards {
        let mut afterwards = Afterwards::default();
        while let Some((connection, event)) = self.endpoint.poll_event() {
            let Some(Served { inbox, counters, .. }) = self.connections.get(&connection) else { continue };
            if self.intake != Intake::Open {
                match event {
                    ConnectionEvent::Start(request) => self.endpoint.finish(request, None),
                    ConnectionEvent::Reply { .. } | ConnectionEvent::Refuse { .. } => {
                        add(&counters.requests_failed, 1);
                    }
                    _ => {}
                }
                continue;
            }
            if let Some((on, decisions)) = &mut on
                && *on == connection
            {
                decisions.push((connection, event));
                continue;
            }
            inbox.push(connection, event);
            if !afterwards.wake.last().is_some_and(|last| Arc::ptr_eq(last, inbox)) {
                afterwards.wake.push(inbox.clone());
            }
        }
        afterwards
    }
}

/// Hands out what the endpoint decides, and then, without the lock, does what runs code of the application.
fn settle(mut state: MutexGuard<'_, State>, on: Option<(ConnectionId, &mut Decisions)>) {
    let afterwards = state.distribute(on);
    drop(state);
    afterwards.run();
}
