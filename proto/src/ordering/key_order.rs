//! The scheduler that ships: the table of requests, the limits, and what each step means for the run queue
//! and the release queue.

#[cfg(any(test, feature = "internals"))]
mod audit;
#[cfg(test)]
mod tests;

use super::keys::{KeyId, Keys};
use super::release_queue::{ReleaseQueue, Seq};
use super::run_queue::{QueueId, RunQueue};
use super::{Action, Arrival, Busy, KeyScope, OrderingConfig, OrderingMode, Scheduler};
use crate::ids::{ConnectionId, RequestId};
use crate::numbered::Numbered;

/// The built-in [`Scheduler`]: orders requests by key.
///
/// # Order
/// Where a mode orders replies, a request that failed keeps its place like any other, whether it ran or not:
/// its reply is released after those of all earlier requests of its key. One that is withdrawn has no place
/// any more, unless it runs.
///
/// # Fairness
/// Free slots go round robin over the connections that have startable requests, and for each connection round
/// robin over its queues: one per key, and one for its requests without a key. Within a queue the first to
/// come is the first to start. Newcomers join at the end, so when a request has become the first of its queue
/// and startable, and `q` queues of its connection are startable before it, it starts after at most `(q + 1)
/// * c` other starts, where `c` is the highest number of connections with startable requests until then. A
/// connection that is paused, or holds its share of the slots, loses its place.
///
/// A connection holds [a share of the slots](OrderingConfig::max_share_per_connection) at most, without those
/// that its suspended handlers lend. So the others find slots, even if its handlers never end. Where keys are
/// serialized and [shared](KeyScope::Global), a request at the head of its key's queue that waits for the
/// share of its connection holds up the requests behind it, of every connection, as one of a paused
/// connection does.
///
/// # Limits
/// A request that could start at once when it arrived is not subject to the limits of waiting requests: it is
/// ready, its connection not paused, its key not taken (where keys are serialized), and a slot is free, also
/// of those that its connection may hold, that no other startable request will take. The same holds for the
/// argument of one that becomes ready later. The limits per connection are tested at arrival, the one of
/// bytes again when an argument is complete; `max_running` and the share of a connection at each start, so
/// only [`resume`](Scheduler::resume) can exceed them.
///
/// The size of replies that wait for their order is not known here; their owner has to bound it.
///
/// # Cost
/// A request without a key arrives, starts, finishes and leaves in O(1) amortized each; any other step is
/// O(log n) in the number of requests. [`forget_connection`](Scheduler::forget_connection) takes as much for
/// each request of that connection. No step looks at what others have waiting. Memory is proportional to the
/// requests retained, and the connections that made them until they are forgotten.
#[derive(Debug)]
pub struct KeyOrder {
    config: OrderingConfig,
    connections: Numbered<Account>,
    keys: Keys,
    run: RunQueue,
    release: ReleaseQueue,
    arrivals: Seq,
    /// In the tables of all connections.
    requests: usize,
    waiting: usize,
    running: usize,
    suspended: usize,
}

/// The requests of one connection, and what counts against its limits.
#[derive(Debug, Default)]
struct Account {
    requests: Numbered<Request>,
    /// Those of them that are not abandoned.
    open: usize,
    queued: usize,
    queued_bytes: usize,
}

#[derive(Debug)]
struct Request {
    /// Its place in the order of arrival.
    seq: Seq,
    /// `None` if none was given.
    key: Option<KeyId>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting {
        ready: bool,
        /// Its bytes, if it counts against the limits of waiting requests.
        queued: Option<usize>,
    },
    Running {
        suspended: bool,
        /// It wants to begin its reply, or has begun it.
        replies: bool,
    },
    /// It runs, and its connection is gone.
    Abandoned { suspended: bool },
    /// It never starts, or has ended; its reply is to be released.
    Finished,
}

impl KeyOrder {
    /// A scheduler without requests.
    pub fn new(config: OrderingConfig) -> Self {
        let run = RunQueue::new(config.max_running_per_connection());
        Self {
            config,
            connections: Numbered::default(),
            keys: Keys::default(),
            run,
            release: ReleaseQueue::default(),
            arrivals: 0,
            requests: 0,
            waiting: 0,
            running: 0,
            suspended: 0,
        }
    }

    /// The mode and limits it was made with.
    pub fn config(&self) -> &OrderingConfig {
        &self.config
    }

    fn free_slots(&self) -> usize {
        self.config.slots().saturating_sub(self.running - self.suspended)
    }

    #[inline]
    fn get_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        self.connections.get_mut(id.connection().0)?.requests.get_mut(id.number())
    }

    /// Where a request waits for its start.
    fn queue_of(&self, id: RequestId, key: Option<KeyId>) -> QueueId {
        match (self.config.mode, key) {
            (OrderingMode::KeySerialized, Some(key)) => QueueId::Serial(key),
            _ => QueueId::Parallel(id.connection(), key),
        }
    }

    /// The key by which replies are ordered.
    fn order_of(&self, key: Option<KeyId>) -> Option<KeyId> {
        key.filter(|_| self.config.mode != OrderingMode::Unordered)
    }

    /// Whether the request counts against the limits of waiting requests.
    fn admit(&self, arrival: &Arrival, queue: QueueId) -> Result<bool, Busy> {
        let limits = &self.config;
        let connection = arrival.request.connection();
        let account = self.connections.get(connection.0);
        if account.is_some_and(|account| account.requests.contains(arrival.request.number())) {
            return Err(Busy::DuplicateRequest);
        }
        if account.map_or(0, |account| account.open) >= limits.max_requests_per_connection {
            return Err(Busy::Requests { limit: limits.max_requests_per_connection });
        }
        if arrival.ready
            && self.run.startable() < self.free_slots()
            && self.run.would_be_startable(queue, connection)
        {
            return Ok(false);
        }
        let (queued, bytes) = account.map_or((0, 0), |account| (account.queued, account.queued_bytes));
        if queued >= limits.max_waiting_per_connection {
            return Err(Busy::WaitingRequests { limit: limits.max_waiting_per_connection });
        }
        if arrival.bytes > limits.max_waiting_bytes_per_connection.saturating_sub(bytes) {
            return Err(Busy::WaitingBytes { limit: limits.max_waiting_bytes_per_connection });
        }
        Ok(true)
    }

    fn insert(&mut self, arrival: &Arrival, key: Option<KeyId>, is_queued: bool) {
        let &Arrival { request: id, bytes, ready, .. } = arrival;
        let queued = is_queued.then_some(bytes);
        let request = Request { seq: self.arrivals, key, state: State::Waiting { ready, queued } };
        let account = self.connections.get_or_insert_with(id.connection().0, Account::default);
        account.requests.insert(id.number(), request);
        account.open += 1;
        if let Some(bytes) = queued {
            account.queued += 1;
            account.queued_bytes += bytes;
        }
        self.arrivals += 1;
        self.requests += 1;
        self.waiting += 1;
    }

    /// An unready request is ready, and takes so many bytes more while it waits.
    fn make_ready(&mut self, id: RequestId, added: usize) -> Result<(), Busy> {
        let limit = self.config.max_waiting_bytes_per_connection;
        let Some(account) = self.connections.get_mut(id.connection().0) else { return Ok(()) };
        let Some(request) = account.requests.get_mut(id.number()) else { return Ok(()) };
        // One that arrives unready always counts.
        let State::Waiting { ready, queued: Some(bytes) } = &mut request.state else { return Ok(()) };
        if added > limit.saturating_sub(account.queued_bytes) {
            return Err(Busy::WaitingBytes { limit });
        }
        account.queued_bytes += added;
        *bytes += added;
        *ready = true;
        Ok(())
    }

    /// Takes a request out of the table.
    fn remove(&mut self, id: RequestId) {
        let Some(account) = self.connections.get_mut(id.connection().0) else { return };
        let Some(request) = account.requests.remove(id.number()) else { return };
        self.requests -= 1;
        let was_abandoned = matches!(request.state, State::Abandoned { .. });
        account.open -= usize::from(!was_abandoned);
        if account.requests.is_empty() && was_abandoned {
            // Its connection is gone, and nobody else tidies up.
            self.connections.remove(id.connection().0);
        }
        if let Some(key) = request.key {
            self.keys.release(key);
        }
    }

    /// A request waits no more, because it starts, was withdrawn, or vanishes.
    fn leave_waiting(&mut self, id: RequestId, next: State) {
        let Some(account) = self.connections.get_mut(id.connection().0) else { return };
        let Some(request) = account.requests.get_mut(id.number()) else { return };
        if let State::Waiting { queued, .. } = std::mem::replace(&mut request.state, next) {
            self.waiting -= 1;
            if let Some(bytes) = queued {
                account.queued -= 1;
                account.queued_bytes -= bytes;
            }
        }
    }

    /// Takes a waiting request out of the run queue.
    fn unqueue(&mut self, id: RequestId) {
        let Some(&mut Request { seq, key, .. }) = self.get_mut(id) else { return };
        self.run.remove(self.queue_of(id, key), seq);
        self.leave_waiting(id, State::Finished);
    }

    /// Frees the slot and the key of a request that ran.
    fn stop(&mut self, id: RequestId, key: Option<KeyId>, was_suspended: bool) {
        self.running -= 1;
        self.suspended -= usize::from(was_suspended);
        if let queue @ QueueId::Serial(_) = self.queue_of(id, key) {
            self.run.free(queue);
        }
    }

    /// Nobody waits for this request's reply any more, for it was withdrawn, or its connection is gone.
    fn abandon(&mut self, id: RequestId) {
        let Some(&mut Request { seq, key, state }) = self.get_mut(id) else { return };
        if let Some(key) = self.order_of(key) {
            self.release.remove(key, seq);
        }
        match state {
            State::Running { suspended, .. } => {
                if let Some(request) = self.get_mut(id) {
                    request.state = State::Abandoned { suspended };
                }
            }
            State::Abandoned { .. } => {}
            State::Waiting { .. } => {
                self.unqueue(id);
                self.remove(id);
            }
            State::Finished => self.remove(id),
        }
    }

    /// The next request that is due to leave or to begin its reply, and is still known.
    fn poll_due(&mut self) -> Option<Action> {
        while let Some((due, action)) = self.release.pop() {
            let (Action::Start(id) | Action::Release(id) | Action::MayReply(id)) = action;
            let Some(&mut Request { seq, state, .. }) = self.get_mut(id) else { continue };
            match (action, state) {
                // An id that was used again after its connection was forgotten.
                _ if seq != due => {}
                (Action::Release(_), State::Finished) => {
                    self.remove(id);
                    return Some(action);
                }
                (Action::MayReply(_), State::Running { .. }) => return Some(action),
                _ => {}
            }
        }
        None
    }

    fn poll_start(&mut self) -> Option<Action> {
        if self.free_slots() == 0 {
            return None;
        }
        let id = self.run.pop()?;
        self.leave_waiting(id, State::Running { suspended: false, replies: false });
        self.running += 1;
        Some(Action::Start(id))
    }

    /// Sets whether the slot of a running request is lent.
    fn set_suspended(&mut self, id: RequestId, suspend: bool) {
        let Some(request) = self.get_mut(id) else { return };
        let (suspended, connection) = match &mut request.state {
            State::Running { suspended, .. } => (suspended, Some(id.connection())),
            State::Abandoned { suspended } => (suspended, None),
            State::Waiting { .. } | State::Finished => return,
        };
        match (std::mem::replace(suspended, suspend), suspend) {
            (false, true) => {
                self.suspended += 1;
                connection.into_iter().for_each(|connection| self.run.return_slot(connection));
            }
            (true, false) => {
                self.suspended -= 1;
                connection.into_iter().for_each(|connection| self.run.take_slot(connection));
            }
            _ => {}
        }
    }
}

impl Scheduler for KeyOrder {
    fn arrive(&mut self, arrival: &Arrival) -> Result<(), Busy> {
        let id = arrival.request;
        let scope = (self.config.scope == KeyScope::PerConnection).then(|| id.connection());
        let key = arrival.key.is_given().then(|| self.keys.acquire(scope, &arrival.key));
        let queue = self.queue_of(id, key);
        let is_queued = match self.admit(arrival, queue) {
            Ok(is_queued) => is_queued,
            Err(busy) => {
                key.into_iter().for_each(|key| self.keys.release(key));
                return Err(busy);
            }
        };
        let seq = self.arrivals;
        self.insert(arrival, key, is_queued);
        if let Some(key) = self.order_of(key) {
            self.release.push(key, seq, id);
        }
        self.run.push(queue, seq, id, arrival.ready);
        Ok(())
    }

    fn ready(&mut self, request: RequestId, bytes: usize) -> Result<(), Busy> {
        let Some(&mut Request { seq, key, state }) = self.get_mut(request) else { return Ok(()) };
        let State::Waiting { ready: false, .. } = state else { return Ok(()) };
        let queue = self.queue_of(request, key);
        let starts_at_once = self.run.startable() < self.free_slots()
            && self.run.would_become_startable(queue, seq, request.connection());
        let added = if starts_at_once { 0 } else { bytes };
        self.make_ready(request, added)?;
        self.run.ready(queue, seq, request);
        Ok(())
    }

    fn finish(&mut self, request: RequestId) {
        let Some(found) = self.get_mut(request) else { return };
        let &mut Request { seq, key, state } = found;
        match state {
            State::Finished => return,
            State::Waiting { .. } => self.unqueue(request),
            State::Running { suspended, .. } => {
                found.state = State::Finished;
                if !suspended {
                    self.run.return_slot(request.connection());
                }
                self.stop(request, key, suspended);
            }
            State::Abandoned { suspended } => {
                self.stop(request, key, suspended);
                return self.remove(request);
            }
        }
        self.release.finish(self.order_of(key), seq, request);
    }

    fn withdraw(&mut self, request: RequestId) {
        let state = self.get_mut(request).map(|request| request.state);
        if matches!(state, Some(State::Waiting { .. } | State::Finished)) {
            self.abandon(request);
        }
    }

    fn forget_connection(&mut self, connection: ConnectionId) {
        if let Some(account) = self.connections.get(connection.0) {
            let mut requests: Vec<_> =
                account.requests.iter().map(|(number, request)| (request.seq, number)).collect();
            // What it held up is released in an order that depends on this one.
            requests.sort_unstable();
            for (_, number) in requests {
                self.abandon(RequestId::new(connection, number));
            }
        }
        if let Some(account) = self.connections.get_mut(connection.0) {
            account.open = 0;
            if account.requests.is_empty() {
                self.connections.remove(connection.0);
            }
        }
        self.run.forget(connection);
    }

    fn suspend(&mut self, request: RequestId) {
        self.set_suspended(request, true);
    }

    fn resume(&mut self, request: RequestId) {
        self.set_suspended(request, false);
    }

    fn pause(&mut self, connection: ConnectionId) {
        self.run.pause(connection);
    }

    fn unpause(&mut self, connection: ConnectionId) {
        self.run.unpause(connection);
    }

    fn shrink(&mut self, connection: ConnectionId) {
        if let Some(account) = self.connections.get_mut(connection.0) {
            account.requests.shrink();
        }
        self.run.shrink(connection);
    }

    fn want_to_reply(&mut self, request: RequestId) -> bool {
        let Some(Request { seq, key, state }) = self.get_mut(request) else { return false };
        let State::Running { replies: replies @ false, .. } = state else { return false };
        *replies = true;
        let (seq, key) = (*seq, *key);
        self.release.want_to_reply(self.order_of(key), seq, request);
        false
    }

    /// Releases come before starts: they free memory.
    fn poll(&mut self) -> Option<Action> {
        self.poll_due().or_else(|| self.poll_start())
    }

    fn running(&self) -> usize {
        self.running
    }

    fn waiting(&self) -> usize {
        self.waiting
    }

    fn is_idle(&self) -> bool {
        self.requests == 0
    }
}
