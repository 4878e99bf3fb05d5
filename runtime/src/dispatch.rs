//! Runs handlers: carries events between the endpoint and the connections, and starts and stops what they say.
//!
//! Lock order: a link's pump, then the dispatcher, then a peer's state. An event between the endpoint and a connection moves
//! while both the dispatcher and the peer are locked, never in a batch that outlives one of the locks: another thread could
//! overtake the batch with later events.

mod running;

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use callosum_proto::ordering::Scheduler;
use callosum_proto::{
    ConnectionEvent, ConnectionId, Endpoint, EndpointConfig, EndpointEvent, Reply, Request, RequestId,
};
use futures_channel::oneshot;
use futures_util::future::{AbortHandle, Abortable};
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::{FxHashMap, FxHashSet};

use self::running::{Begun, Running, Started};
use crate::handler::Context;
use crate::node::Node;
use crate::peer::{Peer, PeerShared, PeerState};
use crate::stats::{add, sub};

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
    /// Handlers that wait until their streamed reply may begin.
    beginning: FxHashMap<RequestId, oneshot::Sender<()>>,
    /// Nothing is started any more.
    closed: bool,
}

/// A connection whose requests are served.
struct Served {
    peer: Arc<PeerShared>,
    /// Requests that have come and that the connection was given no answer for.
    open: usize,
    waiting: FxHashSet<RequestId>,
    running: FxHashMap<RequestId, Handling>,
}

/// A handler that has been started and has not ended.
enum Handling {
    /// It has no task: it has still to be polled for the first time, or is being polled.
    Inline {
        stopped: bool,
    },
    Task(AbortHandle),
}

/// What is to be done once the lock is released, because it runs other people's code.
#[derive(Default)]
struct Afterwards {
    wake: Vec<Arc<PeerShared>>,
    begin: Vec<oneshot::Sender<()>>,
    wakers: Vec<Waker>,
    /// The bytes of a reply may be anybody's, and so is what their destructor does.
    unsent: Vec<ConnectionEvent>,
}

impl Afterwards {
    fn run(self) {
        self.wake.into_iter().for_each(|peer| peer.waker.wake());
        self.wakers.into_iter().for_each(Waker::wake);
        // Whoever waited may have gone.
        for sender in self.begin {
            let _ = sender.send(());
        }
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
                beginning: FxHashMap::default(),
                closed: false,
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
            let (waiting, running) = (FxHashSet::default(), FxHashMap::default());
            state.connections.insert(connection, Served { peer: peer.clone(), open: 0, waiting, running });
        }
    }

    /// Takes what a peer's connection reports, and gives every connection what the endpoint decides. `on` is the connection
    /// whose driver calls this, and needs no wake-up.
    pub(crate) fn relay(&self, on: ConnectionId, peer: &PeerShared) {
        let mut state = self.state.lock();
        state.report_back(peer.lock());
        settle(state, Some(on));
    }

    /// Runs the handler of a request; returns whether it is yet to end.
    ///
    /// With a clock, the handler is polled once here, which is all that many need, before it gets a task. Never from within a handler,
    /// or they would pile up on one stack.
    pub(crate) fn run(
        &self,
        node: &Arc<Node>,
        peer: &Arc<PeerShared>,
        request: Request,
        clock: Option<&mut Clock>,
    ) -> bool {
        let Request { id, method, key, body, metadata, deadline } = request;
        let peer = Peer { shared: peer.clone(), lender: Some(Lender(id)) };
        let context = Context { method, key, peer, deadline, metadata, request: id };
        match (Started { request: id, body, context }).begin(node, clock) {
            Begun::Ended(reply) => {
                self.finish(Some(id.connection()), id, Some(reply));
                false
            }
            Begun::Goes(running) => {
                self.detach(node, id, running);
                true
            }
        }
    }

    /// Moves a handler to a task of its own.
    fn detach(&self, node: &Arc<Node>, request: RequestId, running: Running) {
        let (handle, registration) = AbortHandle::new_pair();
        let mut state = self.state.lock();
        let wanted = !state.closed
            && match state.handling(request) {
                Some(handling @ Handling::Inline { stopped: false }) => {
                    *handling = Handling::Task(handle);
                    true
                }
                _ => false,
            };
        if !wanted {
            drop(state);
            drop(running);
            return self.finish(None, request, None);
        }
        let task = node.tasks.guard();
        // An executor that is shutting down drops the task at once, and that takes the lock again.
        drop(state);
        let end = End { node: node.clone(), request, reply: None, polled: false, _task: task };
        node.runtime.spawn(Box::pin(async move {
            // It outlives the handler, which so has really ended when its slot is freed.
            let mut end = end;
            end.polled = true;
            end.reply = Abortable::new(running, registration).await.ok();
        }));
    }

    /// A handler is to be stopped.
    pub(crate) fn stop(&self, request: RequestId) {
        let mut state = self.state.lock();
        match state.handling(request) {
            Some(Handling::Inline { stopped }) => *stopped = true,
            Some(Handling::Task(handle)) => {
                let handle = handle.clone();
                drop(state);
                handle.abort();
            }
            None => {}
        }
    }

    /// A handler has ended, or never ran; `reply` is `None` if it was stopped.
    pub(crate) fn finish(&self, on: Option<ConnectionId>, request: RequestId, reply: Option<Reply>) {
        let mut state = self.state.lock();
        state.runs_no_more(request);
        // Dropped when the lock is released: that wakes.
        let _waiter = state.beginning.remove(&request);
        state.endpoint.finish(request, reply);
        settle(state, on);
    }

    /// A connection is over: what waits vanishes, what runs is stopped.
    pub(crate) fn forget(&self, connection: ConnectionId) {
        let mut state = self.state.lock();
        state.endpoint.handle_event(EndpointEvent::Closed(connection));
        state.unserved.remove(&connection);
        let served = state.connections.remove(&connection);
        let afterwards = state.drive(None);
        drop(state);
        if let Some(Served { peer, open, waiting, running }) = served {
            // Some wait, some run, and of some the reply waited for its order or came too late.
            add(&peer.counters.requests_failed, open as u64);
            sub(&peer.counters.requests_queued, waiting.len() as u64);
            sub(&peer.counters.requests_running, running.len() as u64);
            for handling in running.into_values() {
                if let Handling::Task(handle) = handling {
                    handle.abort();
                }
            }
        }
        afterwards.run();
    }

    /// Stops every handler, and starts none any more. What waits is left to [`forget`](Self::forget).
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let running = state.connections.values().flat_map(|served| served.running.values());
        let tasks: Vec<_> = running
            .filter_map(|handling| match handling {
                Handling::Task(handle) => Some(handle.clone()),
                Handling::Inline { .. } => None,
            })
            .collect();
        drop(state);
        tasks.iter().for_each(AbortHandle::abort);
    }

    /// Waits until the reply of a running request may begin to leave as a stream. Its slot is lent meanwhile.
    pub(crate) async fn may_reply(&self, request: RequestId) {
        let mut wish = Wish { dispatcher: self, request, waits: true };
        let may_reply = self.want_to_reply(request);
        // The sender is dropped with the request; whoever asks after that is told by the connection that it is not open.
        let _ = may_reply.await;
        wish.waits = false;
    }

    fn want_to_reply(&self, request: RequestId) -> oneshot::Receiver<()> {
        let (sender, may_reply) = oneshot::channel();
        let mut state = self.state.lock();
        if state.handling(request).is_some() {
            state.beginning.insert(request, sender);
            state.endpoint.begin_reply(request);
            settle(state, None);
        }
        may_reply
    }

    fn wants_no_more_to_reply(&self, request: RequestId) {
        let mut state = self.state.lock();
        let waiter = state.beginning.remove(&request);
        if waiter.is_some() {
            state.endpoint.cancel_begin_reply(request);
        }
        drop(state);
        drop(waiter);
    }

    fn suspend(&self, request: RequestId) {
        let mut state = self.state.lock();
        state.endpoint.suspend(request);
        settle(state, None);
    }

    fn resume(&self, request: RequestId) {
        self.state.lock().endpoint.resume(request);
    }
}

impl State {
    fn handling(&mut self, request: RequestId) -> Option<&mut Handling> {
        self.connections.get_mut(&request.connection())?.running.get_mut(&request)
    }

    fn take(&mut self, event: EndpointEvent) {
        match &event {
            EndpointEvent::Arrived(arrival) => {
                if let Some(served) = self.connections.get_mut(&arrival.request.connection()) {
                    served.open += 1;
                    served.waiting.insert(arrival.request);
                    add(&served.peer.counters.requests_queued, 1);
                }
            }
            EndpointEvent::Withdrawn { request, .. } => self.waits_no_more(*request),
            EndpointEvent::NeverRan(request) => self.runs_no_more(*request),
            _ => {}
        }
        self.endpoint.handle_event(event);
    }

    fn waits_no_more(&mut self, request: RequestId) {
        if let Some(served) = self.connections.get_mut(&request.connection())
            && served.waiting.remove(&request)
        {
            sub(&served.peer.counters.requests_queued, 1);
        }
    }

    fn runs_no_more(&mut self, request: RequestId) {
        if let Some(served) = self.connections.get_mut(&request.connection())
            && served.running.remove(&request).is_some()
        {
            sub(&served.peer.counters.requests_running, 1);
        }
    }

    /// Gives each connection what the endpoint decides, under both locks, which keeps the order of replies. What a connection reports in
    /// turn counts before the next decision.
    fn drive(&mut self, on: Option<ConnectionId>) -> Afterwards {
        let mut afterwards = Afterwards::default();
        let mut now = None;
        if self.closed {
            return afterwards;
        }
        while let Some((connection, event)) = self.endpoint.poll_event() {
            if let ConnectionEvent::MayReply(request) = event {
                afterwards.begin.extend(self.beginning.remove(&request));
                continue;
            }
            if let ConnectionEvent::Start(request) | ConnectionEvent::Refuse { request, .. } = &event {
                self.waits_no_more(*request);
            }
            let Some(served) = self.connections.get_mut(&connection) else { continue };
            if let ConnectionEvent::Start(request) = &event {
                add(&served.peer.counters.requests_running, 1);
                served.running.insert(*request, Handling::Inline { stopped: false });
            }
            let peer = served.peer.clone();
            let mut state = peer.lock();
            match &event {
                // It is closing, and would not hand the request out any more.
                ConnectionEvent::Start(request) if !state.serves(connection) => {
                    self.take(EndpointEvent::NeverRan(*request));
                }
                // The connection is about to be forgotten, and its open requests are counted then.
                _ if !state.serves(connection) => afterwards.unsent.push(event),
                _ => {
                    if let ConnectionEvent::Reply { .. } | ConnectionEvent::Refuse { .. } = &event {
                        served.open -= 1;
                    }
                    let now = *now.get_or_insert_with(Instant::now);
                    afterwards.wakers.extend(peer.decided(&mut state, now, event));
                }
            }
            self.report_back(state);
            let is_known = afterwards.wake.last().is_some_and(|last| Arc::ptr_eq(last, &peer));
            if on != Some(connection) && !is_known {
                afterwards.wake.push(peer);
            }
        }
        afterwards
    }

    /// Takes what a connection reports. Both locks are held from the poll to here, so that the endpoint sees the events of a
    /// connection in their order: `Paused` before `Resumed`, `ReassemblyWanted` before `ReassemblyEnded`.
    fn report_back(&mut self, mut peer: MutexGuard<'_, PeerState>) {
        while let Some(event) = peer.connection.poll_endpoint_event() {
            self.take(event);
        }
    }
}

/// Carries out what the endpoint decides, and then, without the lock, what runs other people's code.
fn settle(mut state: MutexGuard<'_, State>, on: Option<ConnectionId>) {
    let afterwards = state.drive(on);
    drop(state);
    afterwards.run();
}

/// A handler that waits until its reply may begin. Dropping this gives the wait up.
struct Wish<'a> {
    dispatcher: &'a Dispatcher,
    request: RequestId,
    waits: bool,
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        if self.waits {
            self.dispatcher.wants_no_more_to_reply(self.request);
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
            dispatcher.close();
        }
        dispatcher.finish(None, self.request, self.reply.take());
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
