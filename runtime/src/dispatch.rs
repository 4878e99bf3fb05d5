//! Runs handlers: carries events between the endpoint and the connections, and starts and stops what they say.
//!
//! What a connection reports is brought here by whoever drives its link, and by nobody else. What the endpoint decides goes into the
//! inbox of each connection, from which its driver takes it. So the events of each connection stay in order in both directions, and
//! no connection is locked while the endpoint is. Lock order: the dispatcher, then an inbox; or a peer's state alone.

mod inbox;
mod running;

use std::sync::Arc;

use callosum_proto::ordering::Scheduler;
use callosum_proto::{
    ConnectionEvent, ConnectionId, Endpoint, EndpointConfig, EndpointEvent, Reply, Request, RequestId,
};
use futures_channel::oneshot;
use rustc_hash::{FxHashMap, FxHashSet};

use self::running::{Begun, Running, Started};
use crate::cancel::{CancelReason, Cancellable, Cancellation};
use crate::handler::Context;
use crate::lock::{Mutex, MutexGuard, assert_unlocked};
use crate::node::Node;
use crate::peer::{Peer, PeerShared};
use crate::stats::add;

pub(crate) use self::inbox::{Inbox, Relayed};
pub(crate) use self::running::Clock;

/// The endpoint, and what runs for it.
pub(crate) struct Dispatcher {
    state: Mutex<State>,
}

struct State {
    endpoint: Endpoint,
    connections: FxHashMap<ConnectionId, Served>,
    /// Connections that are open and not served yet.
    unserved: FxHashSet<ConnectionId>,
    /// Handlers that have tasks and whose connection is over.
    lingering: Handling,
    intake: Intake,
}

/// Handlers of connections that are over and that may have a grace period at a time. Others are dropped without one.
const MAX_LINGERING: usize = 1_000;

/// Handlers that have tasks.
type Handling = FxHashMap<RequestId, Arc<Cancellation>>;

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
    peer: Arc<PeerShared>,
    tasks: Handling,
}

/// What is to be done once the lock is released, because it runs other people's code.
#[derive(Default)]
struct Afterwards {
    wake: Vec<Arc<PeerShared>>,
    /// The bytes of a reply may be anybody's, and so is what their destructor does.
    unsent: Vec<ConnectionEvent>,
}

impl Afterwards {
    fn run(self) {
        assert_unlocked();
        self.wake.into_iter().for_each(|peer| peer.waker.wake());
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
                lingering: Handling::default(),
                intake: Intake::Open,
            }),
        }
    }

    /// Names a new connection.
    pub(crate) fn open(&self) -> ConnectionId {
        let mut state = self.state.lock();
        let connection = state.endpoint.open();
        state.unserved.insert(connection);
        connection
    }

    /// From now on the requests of a connection are served, until it is [forgotten](Self::forget); not any more if it was, since
    /// nothing would end that.
    pub(crate) fn serve(&self, connection: ConnectionId, peer: &Arc<PeerShared>) {
        let mut state = self.state.lock();
        if state.unserved.remove(&connection) {
            let served = Served { peer: peer.clone(), tasks: Handling::default() };
            state.connections.insert(connection, served);
        }
    }

    /// Takes what a connection reports, and the replies of handlers that its driver has run, and puts what the endpoint decides into
    /// the inboxes. The driver that calls this needs no wake-up.
    pub(crate) fn relay(&self, on: ConnectionId, relayed: &mut Relayed) {
        let mut state = self.state.lock();
        // One by one: what is behind one at which a user's scheduler panics stays.
        while let Some(event) = relayed.reports.pop_front() {
            state.take(event);
        }
        while let Some((request, reply)) = relayed.finished.pop_front() {
            state.endpoint.finish(request, reply);
        }
        settle(state, Some(on));
    }

    /// Runs the handler of a request. Gives back its reply if it has ended.
    ///
    /// With a clock, the handler is polled once here, which is all that many need, before it gets a task. Never from within a handler,
    /// or they would pile up on one stack.
    pub(crate) fn run(
        &self,
        node: &Arc<Node>,
        peer: &Arc<PeerShared>,
        request: Request,
        clock: Option<&mut Clock>,
    ) -> Option<(RequestId, Option<Reply>)> {
        let Request { id, method, key, body, metadata, deadline } = request;
        let started = StartedRequest { dispatcher: self, request: Some(id) };
        let peer = Peer::new(peer.clone(), Some(Lender(id)));
        let cancellation = Arc::default();
        let context = Context { method, key, peer, deadline, metadata, request: id, cancellation };
        let begun = (Started { request: id, body, context }).begin(node, clock);
        started.has_begun();
        match begun {
            Begun::Ended(reply) => Some((id, Some(reply))),
            Begun::Goes(running) => self.detach(node, id, running).err().map(|Unwanted| (id, None)),
        }
    }

    /// Moves a handler to a task of its own.
    fn detach(&self, node: &Arc<Node>, request: RequestId, running: Running) -> Result<(), Unwanted> {
        let cancellation = running.cancellation.clone();
        let mut state = self.state.lock();
        let unwanted = state.unwanted(request);
        let lingers = state.intake != Intake::Aborted && cancellation.has_grace();
        match unwanted {
            None => {
                state.tasks_of(request).map(|tasks| tasks.insert(request, cancellation.clone()));
            }
            Some(_) if lingers => {
                state.lingering.insert(request, cancellation.clone());
            }
            Some(reason) => {
                drop(state);
                cancellation.cancel(reason);
                drop(running);
                return Err(Unwanted);
            }
        }
        let task = node.tasks.guard();
        // An executor that is shutting down drops the task at once, and that takes the lock again.
        drop(state);
        unwanted.into_iter().for_each(|reason| cancellation.cancel(reason));
        let runtime = node.runtime.clone();
        let handling = Cancellable { handling: running, cancellation, runtime, grace: None };
        let end = End { node: node.clone(), request, reply: None, polled: false, _task: task };
        node.runtime.spawn(Box::pin(async move {
            // It outlives the handler, which so has really ended when its slot is freed.
            let mut end = end;
            end.polled = true;
            end.reply = handling.await;
        }));
        Ok(())
    }

    /// A handler is to be stopped.
    pub(crate) fn stop(&self, request: RequestId, reason: CancelReason) {
        let mut state = self.state.lock();
        let handling = state.tasks_of(request).and_then(|tasks| tasks.get(&request)).cloned();
        drop(state);
        handling.iter().for_each(|handling| handling.cancel(reason));
    }

    /// A handler has ended, or never ran; `reply` is `None` if it was stopped.
    pub(crate) fn finish(&self, request: RequestId, reply: Option<Reply>) {
        let mut state = self.state.lock();
        let known = state.tasks_of(request).and_then(|tasks| tasks.remove(&request));
        if known.is_none() {
            state.lingering.remove(&request);
        }
        state.endpoint.finish(request, reply);
        settle(state, None);
    }

    /// A connection is over: what waits vanishes, what runs is stopped.
    pub(crate) fn forget(&self, connection: ConnectionId) {
        let mut state = self.state.lock();
        state.take(EndpointEvent::Closed(connection));
        state.unserved.remove(&connection);
        let tasks = state.connections.remove(&connection).map(|served| served.tasks).unwrap_or_default();
        // A peer that comes again and again could else leave any number of handlers behind.
        let room = MAX_LINGERING.saturating_sub(state.lingering.len());
        state.lingering.extend(tasks.iter().map(|(&request, handling)| (request, handling.clone())));
        let afterwards = state.distribute(None);
        drop(state);
        let tasks = tasks.values().enumerate();
        tasks.for_each(|(n, handling)| match n < room {
            true => handling.cancel(CancelReason::Disconnected),
            false => handling.abort(CancelReason::Disconnected),
        });
        afterwards.run();
    }

    /// Stops every handler, and starts none any more. Those that have a grace period take it. What waits is left to
    /// [`forget`](Self::forget).
    pub(crate) fn close(&self) {
        let tasks = self.end_intake(Intake::Closed);
        tasks.iter().for_each(|handling| handling.cancel(CancelReason::Shutdown));
    }

    /// Ends every handler at its next await, whatever grace period it has, and starts none any more.
    pub(crate) fn abort(&self) {
        let tasks = self.end_intake(Intake::Aborted);
        tasks.iter().for_each(|handling| handling.abort(CancelReason::Shutdown));
    }

    /// Returns the handlers that run. To wake them is not to be done under the lock.
    fn end_intake(&self, intake: Intake) -> Vec<Arc<Cancellation>> {
        let mut state = self.state.lock();
        if state.intake != Intake::Aborted {
            state.intake = intake;
        }
        let served = state.connections.values().map(|served| &served.tasks);
        served.chain([&state.lingering]).flat_map(Handling::values).cloned().collect()
    }

    /// Requests of a connection that wait, and those that run.
    pub(crate) fn load(&self, connection: ConnectionId) -> (usize, usize) {
        let state = self.state.lock();
        (state.endpoint.waiting_of(connection), state.endpoint.running_of(connection))
    }

    /// The same for all connections; handlers that have not ended yet although their connection has are among them.
    pub(crate) fn total_load(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.endpoint.waiting(), state.endpoint.running())
    }

    /// A running request wants to begin its reply as a stream. Returns whether its connection will be told when it may.
    fn begin_reply(&self, request: RequestId) -> bool {
        let mut state = self.state.lock();
        let is_told = state.endpoint.begin_reply(request);
        settle(state, None);
        is_told
    }

    fn cancel_begin_reply(&self, request: RequestId) {
        self.state.lock().endpoint.cancel_begin_reply(request);
    }

    fn suspend(&self, request: RequestId) {
        let mut state = self.state.lock();
        state.endpoint.suspend(request);
        settle(state, None);
    }

    fn resume(&self, request: RequestId) {
        self.state.lock().endpoint.resume(request);
    }

    /// A handler goes on without a slot.
    pub(crate) fn release_slot(&self, request: RequestId) {
        let mut state = self.state.lock();
        state.endpoint.release_slot(request);
        settle(state, None);
    }
}

impl State {
    fn tasks_of(&mut self, request: RequestId) -> Option<&mut Handling> {
        self.connections.get_mut(&request.connection()).map(|served| &mut served.tasks)
    }

    /// Why a handler is not to go on, if it is not.
    fn unwanted(&self, request: RequestId) -> Option<CancelReason> {
        match self.intake {
            Intake::Open if self.connections.contains_key(&request.connection()) => None,
            Intake::Open => Some(CancelReason::Disconnected),
            Intake::Closed | Intake::Aborted => Some(CancelReason::Shutdown),
        }
    }

    fn take(&mut self, event: EndpointEvent) {
        if let EndpointEvent::Closed(connection) = event
            && let Some(served) = self.connections.get(&connection)
        {
            // Some wait, some run, and of some the reply waits for its order.
            let open = self.endpoint.open_requests_of(connection);
            add(&served.peer.counters.requests_failed, open as u64);
        }
        self.endpoint.handle_event(event);
    }

    /// Puts what the endpoint decides into the inboxes.
    ///
    /// A peer that does not read is paused once its connection has been given these replies, so as many handlers may start before that as
    /// it has slots.
    fn distribute(&mut self, on: Option<ConnectionId>) -> Afterwards {
        let mut afterwards = Afterwards::default();
        while let Some((connection, event)) = self.endpoint.poll_event() {
            let Some(Served { peer, .. }) = self.connections.get(&connection) else {
                afterwards.unsent.push(event);
                continue;
            };
            if self.intake != Intake::Open {
                match &event {
                    ConnectionEvent::Start(request) => self.endpoint.finish(*request, None),
                    ConnectionEvent::Reply { .. } | ConnectionEvent::Refuse { .. } => {
                        add(&peer.counters.requests_failed, 1);
                    }
                    _ => {}
                }
                afterwards.unsent.push(event);
                continue;
            }
            peer.inbox.push(connection, event);
            let is_known = afterwards.wake.last().is_some_and(|last| Arc::ptr_eq(last, peer));
            if on != Some(connection) && !is_known {
                afterwards.wake.push(peer.clone());
            }
        }
        afterwards
    }
}

/// Hands out what the endpoint decides, and then, without the lock, does what runs other people's code.
fn settle(mut state: MutexGuard<'_, State>, on: Option<ConnectionId>) {
    let afterwards = state.distribute(on);
    drop(state);
    afterwards.run();
}

/// A request that has been started. If something of the user's panics before its handler has begun, such as a subscriber of `tracing`,
/// its slot is freed all the same.
struct StartedRequest<'a> {
    dispatcher: &'a Dispatcher,
    request: Option<RequestId>,
}

impl StartedRequest<'_> {
    fn has_begun(mut self) {
        self.request = None;
    }
}

impl Drop for StartedRequest<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.request {
            self.dispatcher.finish(request, None);
        }
    }
}

/// A handler whose connection is over, or whose endpoint is.
struct Unwanted;

/// Waits until the reply of a running request may begin to leave as a stream. Its slot is lent meanwhile. Returns `false` if it may
/// not, because its handler or its connection has ended.
pub(crate) async fn may_reply(peer: &PeerShared, request: RequestId) -> bool {
    let (sender, told) = oneshot::channel();
    if !peer.lock().wait_to_reply(request, sender) {
        return false;
    }
    let mut wait = ReplyWait { peer, request, is_over: false };
    // The sender is dropped with the request.
    let may = peer.node.dispatcher.begin_reply(request) && told.await.is_ok();
    wait.is_over = true;
    may
}

/// A handler that waits until its reply may begin. Dropping this gives the wait up.
struct ReplyWait<'a> {
    peer: &'a PeerShared,
    request: RequestId,
    is_over: bool,
}

impl Drop for ReplyWait<'_> {
    fn drop(&mut self) {
        let sender = self.peer.lock().stop_waiting_to_reply(self.request);
        if sender.is_some() && !self.is_over {
            self.peer.node.dispatcher.cancel_begin_reply(self.request);
        }
    }
}

/// Frees a handler's slot when it has ended, in whatever way.
struct End {
    node: Arc<Node>,
    request: RequestId,
    reply: Option<Reply>,
    polled: bool,
    _task: crate::tasks::TaskGuard,
}

impl Drop for End {
    fn drop(&mut self) {
        let dispatcher = &self.node.dispatcher;
        if !self.polled {
            // The executor runs no more tasks: to start the next call, and the next, would only fill this stack.
            dispatcher.abort();
        }
        dispatcher.finish(self.request, self.reply.take());
    }
}

/// A running request whose slot can be lent while its handler waits.
#[derive(Clone, Copy)]
pub(crate) struct Lender(RequestId);

impl Lender {
    pub(crate) fn lend(self, node: &Arc<Node>) -> Loan {
        node.dispatcher.suspend(self.0);
        Loan { node: node.clone(), request: self.0 }
    }
}

/// A slot that is lent until this is dropped.
pub(crate) struct Loan {
    node: Arc<Node>,
    request: RequestId,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.node.dispatcher.resume(self.request);
    }
}
