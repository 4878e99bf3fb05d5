//! From a peer's request to its reply: the scheduler decides when, tasks run the handlers.

mod running;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use callosum_proto::scheduler::{Action, Arrival, Scheduler, Withdrawn};
use callosum_proto::session::{IncomingId, Refusal, Reply, Request};
use callosum_proto::{PeerId, Ticket};
use futures_channel::oneshot;
use futures_util::future::{AbortHandle, Abortable};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use self::running::{Begun, Running, Started};
use crate::handler::Context;
use crate::node::Node;
use crate::peer::{Peer, PeerShared};
use crate::stats::{add, sub};

pub(crate) use self::running::Clock;

/// What a scheduler counts for a waiting request besides its body, in bytes.
const REQUEST_OVERHEAD: usize = 256;

/// The requests of all peers that have not been answered. Lock order: this, then a peer's state.
pub(crate) struct Dispatcher {
    state: Mutex<State>,
    /// Somebody has ever waited for a turn.
    takes_turns: AtomicBool,
}

struct State {
    scheduler: Box<dyn Scheduler>,
    requests: FxHashMap<Ticket, Open>,
    /// The ticket of a link's request.
    tickets: FxHashMap<(PeerId, IncomingId), Ticket>,
    next_ticket: u64,
    /// Bytes of the replies to each link that are done and wait for their turn.
    held: FxHashMap<PeerId, usize>,
    /// Handlers that wait for the turn of their result, where calls of one key leave in order.
    turns: FxHashMap<Ticket, oneshot::Sender<()>>,
    /// Those whose turn has come, to be woken once the lock is released.
    given: Vec<oneshot::Sender<()>>,
    /// Nothing is started any more.
    closed: bool,
}

struct Open {
    peer: Arc<PeerShared>,
    link: PeerId,
    id: IncomingId,
    stage: Stage,
    /// Calls that its handler waits for, through its context's peer.
    loans: usize,
    /// Bytes of its reply, while that waits for its turn.
    held: usize,
}

enum Stage {
    Waiting(Request),
    Running {
        /// Of its task; there is none during the handler's first poll.
        stop: Option<AbortHandle>,
        /// It is to be stopped, and this is to be the reply.
        stopped: Option<Reply>,
    },
    Done(Reply),
    /// The link is gone: nothing is to be replied.
    Forgotten,
}

impl Dispatcher {
    pub(crate) fn new(scheduler: Box<dyn Scheduler>) -> Self {
        let state = State {
            scheduler,
            requests: FxHashMap::default(),
            tickets: FxHashMap::default(),
            next_ticket: 0,
            held: FxHashMap::default(),
            turns: FxHashMap::default(),
            given: Vec::new(),
            closed: false,
        };
        Self { state: Mutex::new(state), takes_turns: AtomicBool::new(false) }
    }

    /// A request came in on a link; whether a handler runs now that is yet to end.
    pub(crate) fn arrive(
        &self,
        node: &Arc<Node>,
        peer: &Arc<PeerShared>,
        link: PeerId,
        request: Request,
        clock: &mut Clock,
    ) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            return false;
        }
        let ticket = Ticket(state.next_ticket);
        state.next_ticket += 1;
        let bytes = REQUEST_OVERHEAD + request.size();
        let arrival = Arrival { ticket, peer: link, key: &request.key, bytes };
        if let Err(busy) = state.scheduler.arrive(arrival) {
            drop(state);
            let error = Refusal::Busy.to_error(&busy.to_string());
            peer.reply(link, request.id, Reply::Refusal(error));
            return false;
        }
        add(&peer.counters.requests_queued, 1);
        let id = request.id;
        state.tickets.insert((link, id), ticket);
        let stage = Stage::Waiting(request);
        state.requests.insert(ticket, Open { peer: peer.clone(), link, id, stage, loans: 0, held: 0 });
        let started = state.pump(node);
        drop(state);
        self.run_as(node, started, Some(clock))
    }

    /// Gives each handler that has just been started a task of its own.
    fn run(&self, node: &Arc<Node>, started: Vec<Started>) {
        self.run_as(node, started, None);
    }

    /// With a clock, a handler is polled once here, which is all that many need, before it gets a task. Never from
    /// within a handler, or they would pile up on one stack. Returns whether one got a task.
    fn run_as(&self, node: &Arc<Node>, mut started: Vec<Started>, mut clock: Option<&mut Clock>) -> bool {
        let mut goes_on = false;
        self.wake_given();
        while let Some(call) = started.pop() {
            let ticket = call.ticket;
            match call.begin(node, clock.as_deref_mut()) {
                Begun::Ended(reply) => started.extend(self.finish(node, ticket, Some(reply))),
                Begun::Goes(running) => {
                    goes_on = true;
                    started.extend(self.detach(node, ticket, running));
                }
            }
            self.wake_given();
        }
        goes_on
    }

    /// Wakes those whose turn has come.
    fn wake_given(&self) {
        if self.takes_turns.load(Relaxed) {
            let given = std::mem::take(&mut self.state.lock().given);
            drop(given);
        }
    }

    /// Moves a handler to a task of its own.
    fn detach(&self, node: &Arc<Node>, ticket: Ticket, running: Running) -> Vec<Started> {
        let (handle, registration) = AbortHandle::new_pair();
        let mut state = self.state.lock();
        let wanted = match state.requests.get_mut(&ticket) {
            Some(Open { stage: Stage::Running { stop, stopped: None }, .. }) => {
                *stop = Some(handle);
                true
            }
            _ => false,
        };
        if !wanted || state.closed {
            drop(state);
            drop(running);
            return self.finish(node, ticket, None);
        }
        let task = node.tasks.guard();
        // An executor that is shutting down drops the task at once, and that takes the lock again.
        drop(state);
        let end = End { node: node.clone(), ticket, reply: None, polled: false, _task: task };
        node.runtime.spawn(Box::pin(async move {
            // It outlives the handler, which so has really ended when its place is freed.
            let mut end = end;
            end.polled = true;
            end.reply = Abortable::new(running, registration).await.ok();
        }));
        Vec::new()
    }

    /// A request is to be stopped: a running handler is dropped, a waiting one never starts.
    pub(crate) fn stop(&self, node: &Arc<Node>, link: PeerId, id: IncomingId, reply: Reply) {
        let mut state = self.state.lock();
        let Some(&ticket) = state.tickets.get(&(link, id)) else { return };
        match state.scheduler.withdraw(ticket) {
            Withdrawn::Waiting => {
                if let Some(open) = state.requests.get_mut(&ticket) {
                    sub(&open.peer.counters.requests_queued, 1);
                    open.stage = Stage::Done(reply);
                }
            }
            Withdrawn::Running => {
                if let Some(Open { stage: Stage::Running { stop, stopped }, .. }) =
                    state.requests.get_mut(&ticket)
                {
                    stopped.get_or_insert(reply);
                    if let Some(stop) = stop {
                        stop.abort();
                    }
                }
            }
            // Its reply waits for its turn, and nobody for its reply.
            Withdrawn::Unknown => {
                if let Some(open) = state.requests.get_mut(&ticket)
                    && let Stage::Done(done) = &mut open.stage
                {
                    *done = reply;
                    let (link, bytes) = (open.link, std::mem::take(&mut open.held));
                    state.let_go(link, bytes);
                }
            }
        }
        let started = state.pump(node);
        drop(state);
        self.run(node, started);
    }

    /// A handler has ended; `reply` is `None` if it was stopped.
    fn finish(&self, node: &Arc<Node>, ticket: Ticket, reply: Option<Reply>) -> Vec<Started> {
        let mut state = self.state.lock();
        if let Some(open) = state.requests.get_mut(&ticket) {
            sub(&open.peer.counters.requests_running, 1);
            match std::mem::replace(&mut open.stage, Stage::Forgotten) {
                Stage::Running { stopped, .. } => {
                    open.stage = Stage::Done(reply.or(stopped).unwrap_or(Reply::Cancelled));
                }
                _ => {
                    state.requests.remove(&ticket);
                }
            }
        }
        state.scheduler.finish(ticket);
        let started = state.pump(node);
        let displaced = state.hold(ticket, node.config.session.max_outgoing_bytes);
        drop(state);
        // Its owner's code may run here.
        drop(displaced);
        started
    }

    /// A link is gone: what waits vanishes, what runs is stopped.
    pub(crate) fn forget(&self, node: &Arc<Node>, link: PeerId) {
        let mut state = self.state.lock();
        state.scheduler.forget_peer(link);
        state.tickets.retain(|(of, _), _| *of != link);
        state.held.remove(&link);
        state.requests.retain(|_, open| {
            if open.link != link {
                return true;
            }
            add(&open.peer.counters.requests_failed, 1);
            match std::mem::replace(&mut open.stage, Stage::Forgotten) {
                Stage::Running { stop, .. } => {
                    if let Some(stop) = stop {
                        stop.abort();
                    }
                    true
                }
                Stage::Waiting(_) => {
                    sub(&open.peer.counters.requests_queued, 1);
                    false
                }
                Stage::Done(_) => false,
                // Its handler, which has been told to stop, has not ended yet.
                Stage::Forgotten => true,
            }
        });
        let started = state.pump(node);
        drop(state);
        self.run(node, started);
    }

    /// Stops every handler, and starts none any more. What waits is left to [`forget`](Self::forget).
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for open in state.requests.values() {
            if let Stage::Running { stop: Some(stop), .. } = &open.stage {
                stop.abort();
            }
        }
    }

    /// Starts no more handlers for a link whose replies pile up, or starts them again.
    pub(crate) fn pause_or_go_on(&self, node: &Arc<Node>, peer: &PeerShared, link: PeerId) {
        let mut state = self.state.lock();
        // Asked under the lock, under which replies are handed over.
        if peer.note_backlog() {
            state.scheduler.pause(link);
        } else {
            state.scheduler.unpause(link);
            let started = state.pump(node);
            drop(state);
            self.run(node, started);
        }
    }

    /// Waits until the result of a running call may begin to leave. Its place is lent meanwhile, or calls that have to leave
    /// before it might never start.
    pub(crate) async fn turn(&self, node: &Arc<Node>, ticket: Ticket) {
        let turn = {
            let mut state = self.state.lock();
            if state.scheduler.may_leave(ticket) {
                return;
            }
            let (sender, turn) = oneshot::channel();
            state.turns.insert(ticket, sender);
            self.takes_turns.store(true, Relaxed);
            turn
        };
        let _loan = Lender(ticket).lend(node);
        // It is dropped with the call.
        let _ = turn.await;
    }

    fn lend(&self, node: &Arc<Node>, ticket: Ticket) {
        let mut state = self.state.lock();
        let Some(open) = state.requests.get_mut(&ticket) else { return };
        open.loans += 1;
        if open.loans == 1 {
            state.scheduler.suspend(ticket);
            let started = state.pump(node);
            drop(state);
            self.run(node, started);
        }
    }

    fn give_back(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        let Some(open) = state.requests.get_mut(&ticket) else { return };
        open.loans = open.loans.saturating_sub(1);
        if open.loans == 0 {
            state.scheduler.resume(ticket);
        }
    }
}

impl State {
    /// Does what the scheduler says; returns the calls to run once the lock is released. Replies are handed over under
    /// the lock, which keeps their order.
    fn pump(&mut self, node: &Arc<Node>) -> Vec<Started> {
        let mut started = Vec::new();
        while let Some(action) = self.scheduler.poll() {
            match action {
                Action::Start(ticket) => started.extend(self.start(node, ticket)),
                Action::Release(ticket) => {
                    let Some(open) = self.requests.remove(&ticket) else { continue };
                    self.tickets.remove(&(open.link, open.id));
                    if open.held > 0 {
                        self.let_go(open.link, open.held);
                    }
                    // Before the next call starts: the link's task would be too late.
                    if let Stage::Done(reply) = open.stage
                        && open.peer.reply(open.link, open.id, reply)
                    {
                        self.scheduler.pause(open.link);
                    }
                }
            }
        }
        self.give_turns();
        // They are taken from the end.
        started.reverse();
        started
    }

    /// Tells the handlers whose results may begin now.
    fn give_turns(&mut self) {
        if self.turns.is_empty() {
            return;
        }
        let (scheduler, requests) = (&self.scheduler, &self.requests);
        let given = self.turns.extract_if(|ticket, sender| {
            sender.is_canceled() || !requests.contains_key(ticket) || scheduler.may_leave(*ticket)
        });
        self.given.extend(given.map(|(_, sender)| sender));
    }

    /// A reply that can't leave yet counts against its link until it does. Past the limit an ERROR takes its place: to
    /// start no more handlers instead could keep the very call from starting that all the others wait for.
    fn hold(&mut self, ticket: Ticket, limit: usize) -> Option<Reply> {
        let open = self.requests.get_mut(&ticket)?;
        let Stage::Done(reply) = &mut open.stage else { return None };
        let size = REQUEST_OVERHEAD
            + match reply {
                Reply::Result { body, metadata, .. } => body.len() + metadata.size(),
                Reply::Failure(info) | Reply::Error(info) | Reply::Refusal(info) => info.size(),
                Reply::Cancelled | Reply::End => 0,
            };
        let held = self.held.entry(open.link).or_default();
        if *held > 0 && size > limit.saturating_sub(*held) {
            let detail = format!("replies of {held} bytes already wait for their turn; the limit is {limit}");
            return Some(std::mem::replace(reply, Reply::Error(Refusal::ReplyTooLarge.to_error(&detail))));
        }
        *held += size;
        open.held = size;
        None
    }

    fn let_go(&mut self, link: PeerId, bytes: usize) {
        if let Some(held) = self.held.get_mut(&link) {
            *held -= bytes;
            if *held == 0 {
                self.held.remove(&link);
            }
        }
    }

    fn start(&mut self, node: &Arc<Node>, ticket: Ticket) -> Option<Started> {
        if self.closed {
            return None;
        }
        let open = self.requests.get_mut(&ticket)?;
        let running = Stage::Running { stop: None, stopped: None };
        let Stage::Waiting(request) = std::mem::replace(&mut open.stage, running) else { return None };
        sub(&open.peer.counters.requests_queued, 1);
        add(&open.peer.counters.requests_running, 1);
        let limit = node.config.execution_timeout.and_then(|limit| Instant::now().checked_add(limit));
        if let Some(deadline) = limit {
            let mut state = open.peer.lock();
            if state.link == open.link {
                state.session.started(open.id, deadline);
            }
            drop(state);
            open.peer.waker.wake();
        }
        let deadline = limit.into_iter().chain(request.deadline).min();
        let (link, peer) = (open.link, Peer { shared: open.peer.clone(), lender: Some(Lender(ticket)) });
        let Request { id, method, key, body, metadata, .. } = request;
        Some(Started {
            ticket,
            body,
            context: Context { method, key, peer, deadline, metadata, link, request: id },
        })
    }
}

/// Frees a handler's place when it has ended, in whatever way.
struct End {
    node: Arc<Node>,
    ticket: Ticket,
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
        let started = dispatcher.finish(&self.node, self.ticket, self.reply.take());
        dispatcher.run(&self.node, started);
    }
}

/// A running call whose place under the concurrency limit can be lent while it waits.
#[derive(Clone, Copy)]
pub(crate) struct Lender(Ticket);

impl Lender {
    pub(crate) fn lend(self, node: &Arc<Node>) -> Loan {
        node.dispatcher.lend(node, self.0);
        Loan { node: node.clone(), ticket: self.0 }
    }
}

/// A place that is lent until this is dropped.
pub(crate) struct Loan {
    node: Arc<Node>,
    ticket: Ticket,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.node.dispatcher.give_back(self.ticket);
    }
}
