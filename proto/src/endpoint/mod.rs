//! The state that the connections of one program share: which request may run, which reply may be sent,
//! memory, drain.
//!
//! Responsible for the requests of all connections from their arrival to their reply, the replies that wait
//! for their order, the memory for reassembly, and draining. Not for bytes, time, or what a request contains:
//! that stays with its connection. The order is the [`Scheduler`]'s decision, which this module carries out.

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
use crate::numbered::Numbered;
use crate::ordering::{Action, Arrival, KeyOrder, Scheduler};
use crate::reply::Reply;

/// The requests of all connections of one program.
///
/// The idea: an endpoint and its connections share nothing, and exchange small events, which the host passes
/// between them. So each of them can have a lock of its own, or none.
///
/// ```text
/// Connection ── EndpointEvent ───▶ Endpoint ◀── finish, begin_reply, suspend, resume ── host
/// Connection ◀── ConnectionEvent ── Endpoint
/// ```
///
/// # The run loop
/// 1. Get an id for each connection from [`Endpoint::open`].
/// 2. Pass the events of connections to [`Endpoint::handle_event`], and call [`finish`](Endpoint::finish),
///    [`suspend`](Endpoint::suspend) and the like for handlers.
/// 3. After any of these, call [`Endpoint::poll_event`] until `None`, and pass each event to its connection.
///    Pass the connection's own events to the endpoint before the next poll: if one of them pauses the
///    connection, no more of its requests start.
///
/// # Cost
/// Each step is O(log n) amortized at most, independently of the waiting requests of other connections;
/// [`EndpointEvent::Closed`] takes that for each request of its connection, and [`Endpoint::drain`] sorts the
/// open connections once. Only ids that this side assigns are hashed.
pub struct Endpoint {
    max_held_reply_bytes: usize,
    scheduler: Box<dyn Scheduler>,
    peers: Numbered<Peer>,
    /// Memory for bodies as long as they are being reassembled. A complete argument counts as waiting at the
    /// scheduler instead: if it kept this memory until its request starts, the handler that it waits for
    /// could wait for the same memory.
    reassembly: Budget,
    /// What is to be told at once, whatever the scheduler says. Events of connections that have closed since
    /// are still among it.
    events: VecDeque<(ConnectionId, ConnectionEvent)>,
    /// Those that have finished since the last poll, without those at the front that have been released.
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
    /// An endpoint without connections, with the built-in scheduler.
    pub fn new(config: EndpointConfig) -> Self {
        let scheduler = Box::new(KeyOrder::new(config.ordering.clone()));
        Self::with_scheduler(config, scheduler)
    }

    /// The same with a scheduler of your own, which must be idle; [`EndpointConfig::ordering`] is not used.
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

    /// Registers a connection, until [`EndpointEvent::Closed`], and returns its id.
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

    /// Handles an event of a connection.
    pub fn handle_event(&mut self, event: EndpointEvent) {
        match event {
            EndpointEvent::Arrived(arrival) => self.arrive(arrival),
            EndpointEvent::Ready { request, bytes } => self.ready(request, bytes),
            EndpointEvent::Withdrawn { request, reason, reply } => self.withdraw(request, reason, reply),
            EndpointEvent::NeverRan(request) => self.finish(request, None),
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

    /// The next event for a connection: call it until it returns `None`.
    ///
    /// Each decision is made when it is polled for, so it takes account of events between two polls. Releases
    /// come before starts, and the replies to one connection in the order in which they are released.
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
                // Releases come first, so the order of what has not been released has not come.
                self.hold_finished();
            }
            if let Some(event) = self.carry_out(action) {
                return Some(event);
            }
        }
        self.hold_finished();
        None
    }

    /// Passes events between this endpoint and its connections until there are none, for a host that has all
    /// of them under one lock, or none. `changed` is the connection that has just received input or a
    /// command. Returns it, and the other connections that received events: these may have
    /// [`Event`](crate::Event)s for the host, and bytes to send.
    pub fn settle(
        &mut self,
        now: Instant,
        connections: &mut BTreeMap<ConnectionId, Connection>,
        changed: ConnectionId,
    ) -> BTreeSet<ConnectionId> {
        let (mut moved, mut next) = (BTreeSet::from([changed]), Some(changed));
        while let Some(id) = next {
            while let Some(event) = connections.get_mut(&id).and_then(Connection::poll_endpoint_event) {
                self.handle_event(event);
            }
            next = self.poll_event().map(|(id, event)| {
                match (connections.get_mut(&id), event) {
                    (Some(connection), event) => connection.handle_event(now, event),
                    // The host has let it go.
                    (None, ConnectionEvent::Start(request)) => self.finish(request, None),
                    (None, _) => {}
                }
                moved.insert(id);
                id
            });
        }
        moved
    }

    /// The running handler wants to begin a streamed reply.
    ///
    /// [`ConnectionEvent::MayReply`] follows when all earlier replies that it has to follow have been
    /// released, at the earliest with the next poll. While the handler waits, its slot is lent to others,
    /// possibly to those that it waits for. Returns false if the event will not come: the handler has asked
    /// before, its connection has closed, or it does not run.
    pub fn begin_reply(&mut self, request: RequestId) -> bool {
        if !self.is_open(request.connection()) {
            return false;
        }
        let Some(Request::Running(running)) = self.get_mut(request) else { return false };
        let asked = match running.streamed {
            Streamed::No => None,
            // The scheduler is asked once.
            Streamed::Cancelled { may } => Some(may),
            Streamed::Waiting | Streamed::Begun => return false,
        };
        self.change_running(request, |running| running.streamed = Streamed::Waiting);
        if asked.unwrap_or_else(|| self.scheduler.want_to_reply(request))
            && let Some(event) = self.carry_out(Action::MayReply(request))
        {
            self.events.push_back(event);
        }
        true
    }

    /// The running handler no longer waits for [`ConnectionEvent::MayReply`], or does not use it, and takes
    /// its slot back as in [`resume`](Self::resume). It may ask again.
    pub fn cancel_begin_reply(&mut self, request: RequestId) {
        self.change_running(request, |running| {
            match running.streamed {
                Streamed::Waiting => running.streamed = Streamed::Cancelled { may: false },
                // The host may not have heard of it yet.
                Streamed::Begun => running.streamed = Streamed::Cancelled { may: true },
                Streamed::No | Streamed::Cancelled { .. } => {}
            }
        });
    }

    /// The running handler waits for a nested call, and lends its slot. A handler that waits for several
    /// calls lends it until it has [resumed](Self::resume) as many times.
    pub fn suspend(&mut self, request: RequestId) {
        self.change_running(request, |running| running.nested_calls = running.nested_calls.saturating_add(1));
    }

    /// A nested call of the handler has ended. With the last one, the handler takes its slot back, even if
    /// more handlers than the limit then run; no request starts until fewer do.
    pub fn resume(&mut self, request: RequestId) {
        self.change_running(request, |running| running.nested_calls = running.nested_calls.saturating_sub(1));
    }

    /// The running handler releases its slot for good, because it runs for long and mostly waits, for example
    /// to stream events. It no longer counts against
    /// [`max_running`](crate::ordering::OrderingConfig::max_running) and the share of its connection, and
    /// [`resume`](Self::resume) takes no slot back.
    ///
    /// It counts as an open request until it ends, so
    /// [`max_requests_per_connection`](crate::ordering::OrderingConfig::max_requests_per_connection) bounds
    /// how many there are. It keeps its key: where keys are serialized, the next request with it starts once
    /// this one has finished.
    pub fn release_slot(&mut self, request: RequestId) {
        self.change_running(request, |running| running.slot_released = true);
    }

    /// Drains every connection, also those opened later: they make and accept no new calls. Requests that
    /// have arrived go on.
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

    /// Whether no request waits or runs, and no reply is held.
    pub fn is_idle(&self) -> bool {
        self.requests == 0
    }

    /// Handlers that run, also without a slot, and those of closed connections.
    pub fn running(&self) -> usize {
        self.scheduler.running()
    }

    /// Requests that have not started.
    pub fn waiting(&self) -> usize {
        self.scheduler.waiting()
    }

    /// Handlers of one connection that run; 0 once it has closed.
    pub fn running_of(&self, connection: ConnectionId) -> usize {
        self.open_peer(connection).map_or(0, |peer| peer.running)
    }

    /// Requests of one connection that have not started.
    pub fn waiting_of(&self, connection: ConnectionId) -> usize {
        self.open_peer(connection).map_or(0, |peer| peer.waiting)
    }

    /// Requests of one connection whose reply has not been released; 0 once it has closed.
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

    /// The argument of a waiting request is complete. If there is no place for it to wait, the request is
    /// refused as one that finds none when it arrives.
    fn ready(&mut self, id: RequestId, bytes: usize) {
        if !matches!(self.get_mut(id), Some(Request::Waiting)) {
            return;
        }
        let Err(busy) = self.scheduler.ready(id, bytes) else { return };
        self.scheduler.withdraw(id);
        if let Some(peer) = self.peers.get_mut(id.connection().0) {
            peer.remove(id.number());
            self.requests -= 1;
        }
        let refusal = ConnectionEvent::Refuse { request: id, reason: busy };
        self.events.push_back((id.connection(), refusal));
    }

    fn close(&mut self, connection: ConnectionId) {
        let Some(peer) = self.peers.get_mut(connection.0).filter(|peer| peer.is_open()) else { return };
        peer.phase = Phase::Closed;
        (peer.held_bytes, peer.waiting) = (0, 0);
        let before = peer.requests.len();
        peer.requests.retain(|request| matches!(request, Request::Running(_)));
        self.requests -= before - peer.requests.len();
        let mut left: Vec<_> = peer.requests.iter().map(|(number, _)| number).collect();
        // The scheduler may be one that tells their order.
        left.sort_unstable();
        if left.is_empty() {
            self.peers.remove(connection.0);
        }
        self.open -= 1;
        self.reassembly.forget(connection);
        self.scheduler.forget_connection(connection);
        for number in left {
            // No reply is sent, so it waits for no order.
            self.change_running(RequestId::new(connection, number), |running| {
                (running.streamed, running.withdrawn) = (Streamed::No, None);
            });
        }
    }

    /// Changes what a running handler waits for, and whether its slot is lent.
    fn change_running(&mut self, request: RequestId, change: impl FnOnce(&mut Running)) {
        let Some(Request::Running(running)) = self.get_mut(request) else { return };
        let before = running.lends_slot();
        change(running);
        match (before, running.lends_slot()) {
            (false, true) => self.scheduler.suspend(request),
            (true, false) => self.scheduler.resume(request),
            _ => {}
        }
    }

    /// Does what the scheduler says.
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
                let reply = std::mem::replace(reply, Reply::Cancelled);
                // Most are released in the order in which they have finished.
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
                *may = true;
                None
            }
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
