//! From a peer's request to its reply: the scheduler decides when, tasks run the handlers.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use callosum_proto::scheduler::{Action, Arrival, Scheduler, Withdrawn};
use callosum_proto::session::{IncomingId, Refusal, Reply, Request};
use callosum_proto::{ErrorInfo, PeerId, Ticket};
use futures_util::FutureExt;
use futures_util::future::{AbortHandle, Abortable};
use parking_lot::Mutex;
use tracing::Instrument;

use crate::handler::Context;
use crate::node::Node;
use crate::peer::{Peer, PeerShared};
use crate::stats::{add, sub};

/// What a scheduler counts for a waiting request besides its body, in bytes.
const REQUEST_OVERHEAD: usize = 256;

/// The requests of all peers that have not been answered. Lock order: this, then a peer's state.
pub(crate) struct Dispatcher {
    state: Mutex<State>,
}

struct State {
    scheduler: Box<dyn Scheduler>,
    requests: HashMap<Ticket, Open>,
    /// The ticket of a link's request.
    tickets: HashMap<(PeerId, IncomingId), Ticket>,
    next_ticket: u64,
}

struct Open {
    peer: Arc<PeerShared>,
    link: PeerId,
    id: IncomingId,
    stage: Stage,
    /// Calls that its handler waits for, through its context's peer.
    loans: usize,
}

enum Stage {
    Waiting(Request),
    Running {
        stop: AbortHandle,
        /// What to reply if the handler is stopped.
        stopped: Option<Reply>,
    },
    Done(Reply),
    /// The link is gone: nothing is to be replied.
    Forgotten,
}

impl Dispatcher {
    pub(crate) fn new(scheduler: Box<dyn Scheduler>) -> Self {
        let state = State { scheduler, requests: HashMap::new(), tickets: HashMap::new(), next_ticket: 0 };
        Self { state: Mutex::new(state) }
    }

    /// A request came in on a link.
    pub(crate) fn arrive(&self, node: &Arc<Node>, peer: &Arc<PeerShared>, link: PeerId, request: Request) {
        let mut state = self.state.lock();
        let ticket = Ticket(state.next_ticket);
        state.next_ticket += 1;
        let bytes = REQUEST_OVERHEAD + request.body.len() + request.method.as_bytes().len();
        let arrival = Arrival { ticket, peer: link, key: &request.key, bytes };
        if let Err(busy) = state.scheduler.arrive(arrival) {
            drop(state);
            let error = Refusal::Busy.to_error(&busy.to_string());
            return peer.reply(link, request.id, Reply::Error(error));
        }
        add(&peer.counters.requests_queued, 1);
        let id = request.id;
        state.tickets.insert((link, id), ticket);
        let stage = Stage::Waiting(request);
        state.requests.insert(ticket, Open { peer: peer.clone(), link, id, stage, loans: 0 });
        state.pump(node);
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
                    stop.abort();
                }
            }
            Withdrawn::Unknown => {}
        }
        state.pump(node);
    }

    /// A handler has ended; `reply` is `None` if it was stopped.
    fn finish(&self, node: &Arc<Node>, ticket: Ticket, reply: Option<Reply>) {
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
        state.pump(node);
    }

    /// A link is gone: what waits vanishes, what runs is stopped.
    pub(crate) fn forget(&self, node: &Arc<Node>, link: PeerId) {
        let mut state = self.state.lock();
        state.scheduler.forget_peer(link);
        state.tickets.retain(|(of, _), _| *of != link);
        state.requests.retain(|_, open| {
            if open.link != link {
                return true;
            }
            add(&open.peer.counters.requests_failed, 1);
            match std::mem::replace(&mut open.stage, Stage::Forgotten) {
                Stage::Running { stop, .. } => {
                    stop.abort();
                    true
                }
                Stage::Waiting(_) => {
                    sub(&open.peer.counters.requests_queued, 1);
                    false
                }
                Stage::Done(_) | Stage::Forgotten => false,
            }
        });
        state.pump(node);
    }

    /// Stops every handler, and starts none any more.
    pub(crate) fn stop_all(&self) {
        let state = self.state.lock();
        for open in state.requests.values() {
            if let Stage::Running { stop, .. } = &open.stage {
                stop.abort();
            }
        }
    }

    /// Starts no more handlers for a link whose replies pile up, or starts them again.
    pub(crate) fn set_paused(&self, node: &Arc<Node>, link: PeerId, paused: bool) {
        let mut state = self.state.lock();
        if paused {
            state.scheduler.pause(link);
        } else {
            state.scheduler.unpause(link);
            state.pump(node);
        }
    }

    fn lend(&self, node: &Arc<Node>, ticket: Ticket) {
        let mut state = self.state.lock();
        let Some(open) = state.requests.get_mut(&ticket) else { return };
        open.loans += 1;
        if open.loans == 1 {
            state.scheduler.suspend(ticket);
            state.pump(node);
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
    /// Does what the scheduler says. Replies are handed over under the lock, which keeps their order.
    fn pump(&mut self, node: &Arc<Node>) {
        while let Some(action) = self.scheduler.poll() {
            match action {
                Action::Start(ticket) => self.start(node, ticket),
                Action::Release(ticket) => {
                    let Some(open) = self.requests.remove(&ticket) else { continue };
                    self.tickets.remove(&(open.link, open.id));
                    if let Stage::Done(reply) = open.stage {
                        open.peer.reply(open.link, open.id, reply);
                    }
                }
            }
        }
    }

    fn start(&mut self, node: &Arc<Node>, ticket: Ticket) {
        let Some(open) = self.requests.get_mut(&ticket) else { return };
        let (stop, registration) = AbortHandle::new_pair();
        let running = Stage::Running { stop, stopped: None };
        let Stage::Waiting(request) = std::mem::replace(&mut open.stage, running) else { return };
        sub(&open.peer.counters.requests_queued, 1);
        add(&open.peer.counters.requests_running, 1);
        let deadline = node.config.execution_timeout.and_then(|limit| Instant::now().checked_add(limit));
        if let Some(deadline) = deadline {
            let mut state = open.peer.lock();
            if state.link == open.link {
                state.session.started(open.id, deadline);
            }
            drop(state);
            open.peer.waker.wake();
        }
        let lender = Lender { node: node.clone(), ticket };
        let peer = Peer { shared: open.peer.clone(), lender: Some(lender) };
        let Request { method, key, body, .. } = request;
        let span = tracing::debug_span!("call", method = &*method, key = %key, peer = %peer.id());
        let context = Context { method, key, peer, deadline };
        let end = End { node: node.clone(), ticket, reply: None, _task: node.tasks.guard() };
        let handling = handle(node.clone(), body, context).instrument(span);
        node.runtime.spawn(Box::pin(async move {
            // Declared first, dropped last: the handler has really ended when its place is freed.
            let mut end = end;
            end.reply = Abortable::new(handling, registration).await.ok();
        }));
    }
}

/// Runs a handler; its panic is its failure.
async fn handle(node: Arc<Node>, body: bytes::Bytes, context: Context) -> Reply {
    let Some(handler) = node.handlers.find(&context.method) else {
        let detail = format!("no handler is registered for `{}`", context.method);
        return Reply::Error(Refusal::NoSuchMethod.to_error(&detail));
    };
    let method = context.method.clone();
    let running = AssertUnwindSafe(async move { handler.call(body, context).await });
    match running.catch_unwind().await {
        Ok(reply) => reply,
        Err(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("(the panic has no message)");
            tracing::error!(%method, message, "handler panicked");
            Reply::Failure(ErrorInfo {
                name: "Panic".into(),
                repr: message.into(),
                traceback: format!("the handler of `{method}` panicked: {message}\n").into(),
            })
        }
    }
}

/// Frees a handler's place when it has ended, in whatever way.
struct End {
    node: Arc<Node>,
    ticket: Ticket,
    reply: Option<Reply>,
    _task: crate::tasks::TaskGuard,
}

impl Drop for End {
    fn drop(&mut self) {
        self.node.dispatcher.finish(&self.node, self.ticket, self.reply.take());
    }
}

/// A running call whose place under the concurrency limit can be lent while it waits.
#[derive(Clone)]
pub(crate) struct Lender {
    node: Arc<Node>,
    ticket: Ticket,
}

impl Lender {
    pub(crate) fn lend(&self) -> Loan {
        self.node.dispatcher.lend(&self.node, self.ticket);
        Loan(self.clone())
    }
}

/// A place that is lent until this is dropped.
pub(crate) struct Loan(Lender);

impl Drop for Loan {
    fn drop(&mut self) {
        self.0.node.dispatcher.give_back(self.0.ticket);
    }
}
