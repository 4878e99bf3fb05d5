//! The built-in scheduler: the table of requests, the limits, and the effect of each step on the run queue
//! and the release queue.
//!
//! Invariant: a ready request that waits is in the run queue, and a request whose reply is ordered by key is
//! in the release queue until it is released. Not responsible for which request is next: that is up to the
//! two queues.

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
/// If the mode orders replies, a failed request keeps its place like any other, whether it ran or not: its
/// reply is released after those of all earlier requests with its key. A withdrawn request loses its place,
/// unless it runs.
///
/// # Fairness
/// Free slots go round robin over the connections that have startable requests, and within each connection
/// round robin over its queues: one per key, and one for requests without a key. A queue is first in, first
/// out. New connections and queues join at the end. So a request at the front of its queue starts after at
/// most `(q + 1) × c` other starts, where `q` is the number of startable queues of its connection before it,
/// and `c` is the highest number of connections with startable requests until then. A connection that is
/// paused, or holds its share of the slots, loses its place.
///
/// A connection holds at most [a share of the slots](OrderingConfig::max_share_per_connection), not counting
/// slots that its suspended handlers lend. So other connections find free slots, even if its handlers never
/// end. If keys are serialized and [shared](KeyScope::Global), a request at the front of its key's queue that
/// waits for the share of its connection delays the requests behind it, of every connection, like a request
/// of a paused connection.
///
/// # Limits
/// The limits on waiting requests don't apply to a request that can start at once when it arrives: it is
/// ready, its connection is not paused and below its share, its key is not taken (if keys are serialized),
/// and there is a free slot that no other startable request will take. The same holds for the argument of a
/// request that becomes ready later. The limits per connection are checked when a request arrives, the one on
/// bytes again when an argument is complete; `max_running` and the share of a connection are checked at each
/// start, so only [`resume`](Scheduler::resume) can exceed them.
///
/// The scheduler does not know the size of replies that wait for their order. The caller has to limit them.
///
/// # Cost
/// A request without a key arrives, starts, finishes and is released in O(1) amortized each. Any other step
/// is O(log n) in the number of requests; [`forget_connection`](Scheduler::forget_connection) takes as much
/// for each request of the connection. No step depends on the waiting requests of other connections. Memory
/// is proportional to the retained requests, plus their connections until they are forgotten.
#[derive(Debug)]
pub struct KeyOrder {
    config: OrderingConfig,
    connections: Numbered<Account>,
    keys: Keys,
    run: RunQueue,
    release: ReleaseQueue,
    arrivals: Seq,
    /// Requests in the tables of all connections.
    requests: usize,
    waiting: usize,
    running: usize,
    suspended: usize,
}

/// The requests of one connection by number, and the sums that its limits apply to.
#[derive(Debug, Default)]
struct Account {
    requests: Numbered<Request>,
    /// Requests that are not abandoned.
    open: usize,
    queued: usize,
    queued_bytes: usize,
}

#[derive(Debug)]
struct Request {
    /// Its position in the order of arrival.
    seq: Seq,
    /// `None` for a request without a key.
    key: Option<KeyId>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting {
        ready: bool,
        /// Its bytes, if it counts against the limits on waiting requests.
        queued: Option<usize>,
    },
    Running {
        suspended: bool,
        /// The handler wants to begin its reply, or has begun it.
        replies: bool,
    },
    /// The handler runs, but the connection has ended.
    Abandoned { suspended: bool },
    /// The handler has ended, or never starts. The reply waits for its order.
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

    /// The mode and limits of this scheduler.
    pub fn config(&self) -> &OrderingConfig {
        &self.config
    }

    fn free_slots(&self) -> usize {
        // Saturating: handlers that take their slots back may exceed the limit (O-13).
        self.config.slots().saturating_sub(self.running - self.suspended)
    }

    #[inline]
    fn get_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        self.connections.get_mut(id.connection().0)?.requests.get_mut(id.number())
    }

    /// The queue in which a request waits to start.
    fn queue_of(&self, id: RequestId, key: Option<KeyId>) -> QueueId {
        match (self.config.mode, key) {
            (OrderingMode::KeySerialized, Some(key)) => QueueId::Serial(key),
            _ => QueueId::Parallel(id.connection(), key),
        }
    }

    /// The key by which the reply is ordered, if it is.
    fn order_of(&self, key: Option<KeyId>) -> Option<KeyId> {
        key.filter(|_| self.config.mode != OrderingMode::Unordered)
    }

    /// Checks the limits. Returns whether the request counts against those on waiting requests.
    fn admit(&self, arrival: &Arrival, queue: QueueId) -> Result<bool, Busy> {
        let limits = &self.config;
        let connection = arrival.request.connection();
        let account = self.connections.get(connection.0);
        // Before the limits: a duplicate is a bug of the caller, not a fault of the peer.
        if account.is_some_and(|account| account.requests.contains(arrival.request.number())) {
            return Err(Busy::DuplicateRequest);
        }
        if account.map_or(0, |account| account.open) >= limits.max_requests_per_connection {
            return Err(Busy::Requests { limit: limits.max_requests_per_connection });
        }
        // It would start with the next poll, so it does not count as waiting.
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

    /// Marks an unready request as ready, and counts `added` more bytes for it.
    fn make_ready(&mut self, id: RequestId, added: usize) -> Result<(), Busy> {
        let limit = self.config.max_waiting_bytes_per_connection;
        let Some(account) = self.connections.get_mut(id.connection().0) else { return Ok(()) };
        let Some(request) = account.requests.get_mut(id.number()) else { return Ok(()) };
        // A request that arrived unready always counts as waiting.
        let State::Waiting { ready, queued: Some(bytes) } = &mut request.state else { return Ok(()) };
        if added > limit.saturating_sub(account.queued_bytes) {
            return Err(Busy::WaitingBytes { limit });
        }
        account.queued_bytes += added;
        *bytes += added;
        *ready = true;
        Ok(())
    }

    /// Removes a request from the table.
    fn remove(&mut self, id: RequestId) {
        let Some(account) = self.connections.get_mut(id.connection().0) else { return };
        let Some(request) = account.requests.remove(id.number()) else { return };
        self.requests -= 1;
        let was_abandoned = matches!(request.state, State::Abandoned { .. });
        // `open` does not count abandoned requests.
        account.open -= usize::from(!was_abandoned);
        if account.requests.is_empty() && was_abandoned {
            // The connection has ended, and this was its last request.
            self.connections.remove(id.connection().0);
        }
        if let Some(key) = request.key {
            self.keys.release(key);
        }
    }

    /// Changes the state of a waiting request, which then no longer counts as waiting.
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

    /// Removes a waiting request from the run queue.
    fn unqueue(&mut self, id: RequestId) {
        let Some(&mut Request { seq, key, .. }) = self.get_mut(id) else { return };
        // Also if it is unready: in a serial queue, it has a place.
        self.run.remove(self.queue_of(id, key), seq);
        self.leave_waiting(id, State::Finished);
    }

    /// Frees the slot and the key of a request that ran.
    fn stop(&mut self, id: RequestId, key: Option<KeyId>, was_suspended: bool) {
        self.running -= 1;
        self.suspended -= usize::from(was_suspended);
        // Only a serial queue has a key that is taken.
        if let queue @ QueueId::Serial(_) = self.queue_of(id, key) {
            self.run.free(queue);
        }
    }

    /// Forgets a request whose reply nobody waits for, because it was withdrawn or its connection has ended.
    /// A running one stays until its handler has ended.
    fn abandon(&mut self, id: RequestId) {
        let Some(&mut Request { seq, key, state }) = self.get_mut(id) else { return };
        if let Some(key) = self.order_of(key) {
            self.release.remove(key, seq);
        }
        match state {
            // O-11: it keeps its slot and its key.
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

    /// The next reply that may be sent or begin, of a request that has not been forgotten.
    fn poll_due(&mut self) -> Option<Action> {
        while let Some((due, action)) = self.release.pop() {
            let (Action::Start(id) | Action::Release(id) | Action::MayReply(id)) = action;
            let Some(&mut Request { seq, state, .. }) = self.get_mut(id) else { continue };
            match (action, state) {
                // Stale: the id was reused after its connection was forgotten.
                _ if seq != due => {}
                (Action::Release(_), State::Finished) => {
                    self.remove(id);
                    return Some(action);
                }
                (Action::MayReply(_), State::Running { .. }) => return Some(action),
                // It wanted to begin its reply, and has finished since, or its connection has ended.
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

    /// Sets whether a running request lends its slot.
    fn set_suspended(&mut self, id: RequestId, suspend: bool) {
        let Some(request) = self.get_mut(id) else { return };
        // A connection that has ended has no share, so the slots of its handlers only count in all.
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
        // First, because `admit` checks whether the queue of this key is free.
        let key = arrival.key.is_given().then(|| self.keys.acquire(scope, &arrival.key));
        let queue = self.queue_of(id, key);
        let is_queued = match self.admit(arrival, queue) {
            Ok(is_queued) => is_queued,
            Err(busy) => {
                // Otherwise refused requests, each with a new key, would fill the table of keys.
                key.into_iter().for_each(|key| self.keys.release(key));
                return Err(busy);
            }
        };
        let seq = self.arrivals;
        self.insert(arrival, key, is_queued);
        // O-17: its reply has its place from the arrival on, even if the request is unready.
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
        // As in `admit`: what starts with the next poll does not count as waiting.
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
            // It never starts, but keeps its place in the order of replies.
            State::Waiting { .. } => self.unqueue(request),
            State::Running { suspended, .. } => {
                found.state = State::Finished;
                // A suspended handler has returned its slot already.
                if !suspended {
                    self.run.return_slot(request.connection());
                }
                self.stop(request, key, suspended);
            }
            // O-12: its reply was removed from the order when its connection ended.
            State::Abandoned { suspended } => {
                self.stop(request, key, suspended);
                return self.remove(request);
            }
        }
        self.release.finish(self.order_of(key), seq, request);
    }

    fn withdraw(&mut self, request: RequestId) {
        let state = self.get_mut(request).map(|request| request.state);
        // O-11: one that runs is not affected.
        if matches!(state, Some(State::Waiting { .. } | State::Finished)) {
            self.abandon(request);
        }
    }

    fn forget_connection(&mut self, connection: ConnectionId) {
        if let Some(account) = self.connections.get(connection.0) {
            let mut requests: Vec<_> =
                account.requests.iter().map(|(number, request)| (request.seq, number)).collect();
            // Deterministic: the order of these steps determines the order in which delayed replies are
            // released.
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
        // Last, when none of its requests is in a queue any more.
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
        // Always an action, so that it follows the releases that are due.
        self.release.want_to_reply(self.order_of(key), seq, request);
        false
    }

    /// Releases precede starts, because they free memory.
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
