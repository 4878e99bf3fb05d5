//! The state that all connections of a program share: which request may run, which reply may be sent, memory
//! for reassembly, draining.
//!
//! Responsible for requests from their arrival to their reply, for replies that wait for their order, for the
//! memory for reassembly, and for draining. Not for bytes, time, or the contents of requests: these stay in
//! the connection. The [`Scheduler`] decides the order; this module carries out its decisions.

#[cfg(any(test, feature = "internals"))]
mod audit;
mod budget;
mod config;
mod replies;
mod request;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Instant;

pub use self::config::EndpointConfig;

use self::budget::Budget;
use self::request::{OVERHEAD, Peer, Phase, Request, Running, Streamed};
use crate::connection::Connection;
use crate::event::{ConnectionEvent, EndpointEvent};
use crate::ids::{ConnectionId, RequestId};
use crate::kept::shrink_if_empty;
use crate::numbered::Numbered;
use crate::ordering::{Action, Arrival, KeyOrder, Scheduler};
use crate::reply::Reply;

/// The requests of all connections of one program.
///
/// An endpoint and its connections share no memory. They exchange small events, which the host passes between
/// them, so each can have its own lock, or none.
///
/// ```text
/// Connection ── EndpointEvent ───▶ Endpoint ◀── finish, begin_reply, suspend, resume ── host
/// Connection ◀── ConnectionEvent ── Endpoint
/// ```
///
/// # The run loop
/// 1. Get the id of each new connection from [`Endpoint::open`].
/// 2. Pass the events of connections to [`Endpoint::handle_event`]. Report what handlers do with
///    [`finish`](Endpoint::finish), [`suspend`](Endpoint::suspend), [`begin_reply`](Endpoint::begin_reply)
///    and so on.
/// 3. After any of these, call [`Endpoint::poll_event`] until it returns `None`, and pass each event to its
///    connection. Before the next poll, pass the connection's own events to the endpoint: one of them may
///    pause the connection, so that no more of its requests start.
///
/// # Cost
/// Each step is O(log n) amortized or better, independent of the waiting requests of other connections.
/// Exceptions: [`EndpointEvent::Closed`] takes O(log n) for each request of its connection, and
/// [`Endpoint::drain`] sorts the open connections once. Only ids that this side assigns are hashed.
pub struct Endpoint {
    max_held_reply_bytes: usize,
    scheduler: Box<dyn Scheduler>,
    peers: Numbered<Peer>,
    /// Memory for bodies while they are reassembled. A complete argument counts as waiting bytes in the
    /// scheduler instead: if it kept this memory until its request starts, the handler that it waits for
    /// could in turn wait for this memory.
    reassembly: Budget,
    /// Events that don't depend on the scheduler. `poll_event` skips those of connections that have closed.
    events: VecDeque<(ConnectionId, ConnectionEvent)>,
    /// Requests that have finished since the last poll, except for a released front.
    finished: VecDeque<RequestId>,
    next_connection: u64,
    /// Open connections.
    open: usize,
    /// Requests in any state.
    requests: usize,
    is_draining: bool,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::new(EndpointConfig::default())
    }
}

impl Endpoint {
    /// An endpoint with the built-in scheduler, [`KeyOrder`].
    pub fn new(config: EndpointConfig) -> Self {
        let scheduler = Box::new(KeyOrder::new(config.ordering.clone()));
        Self::with_scheduler(config, scheduler)
    }

    /// An endpoint with your own scheduler, which must be idle. [`EndpointConfig::ordering`] is not used.
    pub fn with_scheduler(config: EndpointConfig, scheduler: Box<dyn Scheduler>) -> Self {
        Self {
            max_held_reply_bytes: config.max_held_reply_bytes,
            scheduler,
            peers: Numbered::default(),
            reassembly: Budget::new(config.max_reassembly, config.max_reassembly_total),
            events: VecDeque::new(),
            finished: VecDeque::new(),
            next_connection: 0,
            open: 0,
            requests: 0,
            is_draining: false,
        }
    }

    /// Registers a connection, and returns its id. It is registered until [`EndpointEvent::Closed`].
    pub fn open(&mut self) -> ConnectionId {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.peers.insert(connection.0, Peer::default());
        self.open += 1;
        if self.is_draining {
            self.events.push_back((connection, ConnectionEvent::Drain));
        }
        connection
    }

    /// Handles an event from a connection. Poll for events afterwards.
    pub fn handle_event(&mut self, event: EndpointEvent) {
        match event {
            EndpointEvent::Arrived(arrival) => self.arrive(arrival),
            EndpointEvent::Ready { request, bytes } => self.ready(request, bytes),
            EndpointEvent::Withdrawn { request, reason, reply } => self.withdraw(request, reason, reply),
            EndpointEvent::NeverRan(request) => self.never_ran(request),
            // Only for open connections, like a pause: nothing would remove the entry of a closed one.
            EndpointEvent::ReassemblyWanted { connection, stream, bytes } => {
                if self.is_open(connection) {
                    self.reassembly.want(connection, stream, bytes);
                }
            }
            EndpointEvent::ReassemblyEnded { connection, stream } => {
                self.reassembly.end(connection, stream);
            }
            EndpointEvent::Paused(connection) => {
                if self.is_open(connection) {
                    self.scheduler.pause(connection);
                }
            }
            EndpointEvent::Resumed(connection) => {
                if self.is_open(connection) {
                    self.scheduler.unpause(connection);
                }
            }
            EndpointEvent::Quiet(connection) => {
                if let Some(peer) = self.peers.get_mut(connection.0) {
                    peer.requests.shrink();
                    self.scheduler.shrink(connection);
                }
            }
            EndpointEvent::Closed(connection) => self.close(connection),
        }
    }

    /// The next event for a connection. Call it until it returns `None`.
    ///
    /// Decisions are made when they are polled for, so each considers the events handled before it. Releases
    /// precede starts. The replies for one connection come in the order in which they are released.
    pub fn poll_event(&mut self) -> Option<(ConnectionId, ConnectionEvent)> {
        while let Some((connection, event)) = self.events.pop_front() {
            if self.is_open(connection) {
                return Some((connection, event));
            }
        }
        if let Some((connection, stream)) = self.reassembly.poll() {
            return Some((connection, ConnectionEvent::Reassemble(stream)));
        }
        while let Some(action) = self.scheduler.poll() {
            if matches!(action, Action::Start(_)) {
                // The scheduler releases before it starts, so the finished requests that are left must wait.
                self.hold_finished();
            }
            if let Some(event) = self.carry_out(action) {
                return Some(event);
            }
        }
        self.hold_finished();
        shrink_if_empty(&mut self.events);
        None
    }

    /// Passes events between this endpoint and its connections until there are none, for a host that has all
    /// of them under one lock, or none. `changed` is the connection that has just received input or a
    /// command. Returns `changed` and the other connections that received events: each may have
    /// [`Event`](crate::Event)s for the host, and bytes to send.
    pub fn settle(
        &mut self,
        now: Instant,
        connections: &mut BTreeMap<ConnectionId, Connection>,
        changed: ConnectionId,
    ) -> BTreeSet<ConnectionId> {
        let (mut moved, mut next) = (BTreeSet::from([changed]), Some(changed));
        while let Some(id) = next {
            // Before the next decision: one of these events may pause the connection.
            while let Some(event) = connections.get_mut(&id).and_then(Connection::poll_endpoint_event) {
                self.handle_event(event);
            }
            next = self.poll_event().map(|(id, event)| {
                match (connections.get_mut(&id), event) {
                    (Some(connection), event) => connection.handle_event(now, event),
                    // The host has dropped the connection.
                    (None, ConnectionEvent::Start(request)) => self.finish(request, None),
                    (None, _) => {}
                }
                moved.insert(id);
                id
            });
        }
        moved
    }

    /// A running handler wants to begin a streamed reply.
    ///
    /// [`ConnectionEvent::MayReply`] follows once every earlier reply that it has to follow has been
    /// released, at the earliest with the next poll. While the handler waits, it lends its slot to others,
    /// which may be the ones that it waits for. Returns false if there will be no event: the handler has
    /// asked before, its connection has closed, or it does not run.
    pub fn begin_reply(&mut self, request: RequestId) -> bool {
        if !self.is_open(request.connection()) {
            return false;
        }
        let Some(Request::Running(running)) = self.get_mut(request) else { return false };
        let asked = match running.streamed {
            Streamed::No => None,
            // The scheduler was asked before, and answers only once.
            Streamed::Cancelled { may } => Some(may),
            Streamed::Waiting | Streamed::Begun => return false,
        };
        // First, because `carry_out` gives the permission only to a handler that waits for it.
        self.change_running(request, |running| running.streamed = Streamed::Waiting);
        if asked.unwrap_or_else(|| self.scheduler.want_to_reply(request))
            && let Some(event) = self.carry_out(Action::MayReply(request))
        {
            self.events.push_back(event);
        }
        true
    }

    /// A running handler no longer waits for [`ConnectionEvent::MayReply`], or does not use it. It takes its
    /// slot back as in [`resume`](Self::resume), and may ask again.
    pub fn cancel_begin_reply(&mut self, request: RequestId) {
        self.change_running(request, |running| {
            match running.streamed {
                Streamed::Waiting => running.streamed = Streamed::Cancelled { may: false },
                // The event may not have reached the host yet.
                Streamed::Begun => running.streamed = Streamed::Cancelled { may: true },
                Streamed::No | Streamed::Cancelled { .. } => {}
            }
        });
    }

    /// A running handler waits for a nested call, and lends its slot. If it waits for several, it lends the
    /// slot until it has [resumed](Self::resume) as many times.
    pub fn suspend(&mut self, request: RequestId) {
        self.change_running(request, |running| running.nested_calls = running.nested_calls.saturating_add(1));
    }

    /// A nested call of a handler has ended. With the last one, the handler takes its slot back, even if more
    /// handlers than the limit run then. No request starts until there are fewer than the limit.
    pub fn resume(&mut self, request: RequestId) {
        // Saturating: one `resume` too many must not cancel out a later `suspend`.
        self.change_running(request, |running| running.nested_calls = running.nested_calls.saturating_sub(1));
    }

    /// A running handler releases its slot for good, because it runs for long and mostly waits, for example
    /// to stream events. It no longer counts against
    /// [`max_running`](crate::ordering::OrderingConfig::max_running) and the share of its connection, and
    /// [`resume`](Self::resume) takes no slot.
    ///
    /// It counts as an open request until it ends, so
    /// [`max_requests_per_connection`](crate::ordering::OrderingConfig::max_requests_per_connection) limits
    /// how many there are. It keeps its key: if keys are serialized, the next request with the key starts
    /// once this handler has finished.
    pub fn release_slot(&mut self, request: RequestId) {
        self.change_running(request, |running| running.slot_released = true);
    }

    /// Drains every connection, including those opened later: they make and accept no new calls. Requests
    /// that have arrived go on. Draining can't be undone.
    pub fn drain(&mut self) {
        if std::mem::replace(&mut self.is_draining, true) {
            return;
        }
        let open = self.peers.iter().filter(|(_, peer)| peer.is_open());
        let mut connections: Vec<_> = open.map(|(connection, _)| ConnectionId(connection)).collect();
        connections.sort_unstable();
        self.events.extend(connections.into_iter().map(|connection| (connection, ConnectionEvent::Drain)));
    }

    /// Whether [`drain`](Self::drain) has been called.
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Whether no request waits or runs, and no reply waits for its order.
    pub fn is_idle(&self) -> bool {
        self.requests == 0
    }

    /// Running handlers, including those without a slot and those of closed connections.
    pub fn running(&self) -> usize {
        self.scheduler.running()
    }

    /// Requests that have not started.
    pub fn waiting(&self) -> usize {
        self.scheduler.waiting()
    }

    /// Running handlers of one connection; 0 once it has closed.
    pub fn running_of(&self, connection: ConnectionId) -> usize {
        self.open_peer(connection).map_or(0, |peer| peer.running)
    }

    /// Requests of one connection that have not started; 0 once it has closed.
    pub fn waiting_of(&self, connection: ConnectionId) -> usize {
        self.open_peer(connection).map_or(0, |peer| peer.waiting)
    }

    /// Requests of one connection whose replies have not been released; 0 once it has closed.
    pub fn open_requests_of(&self, connection: ConnectionId) -> usize {
        self.open_peer(connection).map_or(0, |peer| peer.requests.len())
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.open
    }

    fn open_peer(&self, connection: ConnectionId) -> Option<&Peer> {
        self.peers.get(connection.0).filter(|peer| peer.is_open())
    }

    fn is_open(&self, connection: ConnectionId) -> bool {
        self.open_peer(connection).is_some()
    }

    fn get_mut(&mut self, request: RequestId) -> Option<&mut Request> {
        self.peers.get_mut(request.connection().0)?.requests.get_mut(request.number())
    }

    fn arrive(&mut self, mut arrival: Arrival) {
        let request = arrival.request;
        let connection = request.connection();
        let Some(peer) = self.peers.get_mut(connection.0).filter(|peer| peer.is_open()) else { return };
        // Ids are never reused, so the host has passed this event before.
        if peer.requests.contains(request.number()) {
            return;
        }
        arrival.bytes = arrival.bytes.saturating_add(OVERHEAD);
        match self.scheduler.arrive(&arrival) {
            Ok(()) => {
                peer.requests.insert(request.number(), Request::Waiting);
                peer.waiting += 1;
                self.requests += 1;
            }
            Err(busy) => {
                let refusal = ConnectionEvent::Refuse { request, reason: busy };
                self.events.push_back((connection, refusal));
            }
        }
    }

    /// The argument of a waiting request is complete. If it exceeds the limit on waiting bytes, the request
    /// is refused like one that exceeds a limit when it arrives.
    fn ready(&mut self, id: RequestId, bytes: usize) {
        if !matches!(self.get_mut(id), Some(Request::Waiting)) {
            return;
        }
        let Err(busy) = self.scheduler.ready(id, bytes) else { return };
        // O-14: refused out of order, so the scheduler must not release it, too.
        self.forget(id);
        let refusal = ConnectionEvent::Refuse { request: id, reason: busy };
        self.events.push_back((id.connection(), refusal));
    }

    fn close(&mut self, connection: ConnectionId) {
        let Some(peer) = self.peers.get_mut(connection.0).filter(|peer| peer.is_open()) else { return };
        peer.phase = Phase::Closed;
        (peer.held_bytes, peer.waiting) = (0, 0);
        let before = peer.requests.len();
        // O-12: running handlers keep slot and key until they end. The other replies would reach nobody.
        peer.requests.retain(|request| matches!(request, Request::Running(_)));
        self.requests -= before - peer.requests.len();
        let mut left: Vec<_> = peer.requests.iter().map(|(number, _)| number).collect();
        // A custom scheduler could depend on the order of these calls, which must be deterministic.
        left.sort_unstable();
        if left.is_empty() {
            self.peers.remove(connection.0);
        }
        self.open -= 1;
        self.reassembly.forget(connection);
        self.scheduler.forget_connection(connection);
        for number in left {
            // There will be no reply, so the handler does not wait for its order.
            self.change_running(RequestId::new(connection, number), |running| {
                (running.streamed, running.withdrawn) = (Streamed::No, None);
            });
        }
    }

    /// Changes the state of a running handler, and tells the scheduler if that lends or takes back its slot.
    fn change_running(&mut self, request: RequestId, change: impl FnOnce(&mut Running)) {
        let Some(Request::Running(running)) = self.get_mut(request) else { return };
        let before = running.lends_slot();
        change(running);
        // A handler may lend its slot for several reasons, but the scheduler counts it only once.
        match (before, running.lends_slot()) {
            (false, true) => self.scheduler.suspend(request),
            (true, false) => self.scheduler.resume(request),
            _ => {}
        }
    }

    /// Carries out a decision of the scheduler; `None` if the request is no longer in the state for it.
    fn carry_out(&mut self, action: Action) -> Option<(ConnectionId, ConnectionEvent)> {
        let (Action::Start(id) | Action::Release(id) | Action::MayReply(id)) = action;
        let connection = id.connection();
        let peer = self.peers.get_mut(connection.0).filter(|peer| peer.is_open())?;
        let request = peer.requests.get_mut(id.number())?;
        match (action, request) {
            (Action::Start(_), request @ Request::Waiting) => {
                *request = Request::Running(Running::default());
                peer.waiting -= 1;
                peer.running += 1;
                Some((connection, ConnectionEvent::Start(id)))
            }
            (Action::Release(_), Request::Finished(reply) | Request::Held { reply, .. }) => {
                // `Cancelled` is a placeholder: the request is removed below.
                let reply = std::mem::replace(reply, Reply::Cancelled);
                // The common case: replies are released in the order in which their handlers finished.
                if self.finished.front() == Some(&id) {
                    self.finished.pop_front();
                }
                peer.remove(id.number());
                self.requests -= 1;
                Some((connection, ConnectionEvent::Reply { request: id, reply }))
            }
            (Action::MayReply(_), Request::Running(Running { streamed: Streamed::Waiting, .. })) => {
                self.change_running(id, |running| running.streamed = Streamed::Begun);
                Some((connection, ConnectionEvent::MayReply(id)))
            }
            (
                Action::MayReply(_),
                Request::Running(Running { streamed: Streamed::Cancelled { may }, .. }),
            ) => {
                // The handler may ask again, and the scheduler does not answer a second time.
                *may = true;
                None
            }
            // A scheduler of the application may decide what does not fit the state: it has no effect.
            _ => None,
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("connections", &self.open)
            .field("requests", &self.requests)
            .field("running", &self.running())
            .field("waiting", &self.waiting())
            .field("is_draining", &self.is_draining)
            .finish_non_exhaustive()
    }
}
