//! The calls of one connection, ours and the peer's, from the first byte to the last.
//!
//! Responsible for the table of calls: it has every call of which anything is left, each in one [`State`]
//! that owns what the state needs. The peer's records change the table ([`inbound`](self::inbound)), the
//! table yields records to send ([`outbound`](self::outbound)), and everything that concerns the host or the
//! endpoint is an event. Not responsible for the handshake, liveness and the transport, nor for which request
//! may run.
//!
//! Invariant: every call of this side ends once, with one [`Event::Ended`] unless its caller abandons it.
//! Every request of the peer is answered once while the connection is open, with a reply ([`Calls::reply`])
//! or a refusal.

#[cfg(any(test, feature = "internals"))]
mod audit;
mod bodies;
mod deadlines;
mod delivery;
mod inbound;
mod numbers;
mod ours;
mod outbound;
mod reassembly;
mod replies;
mod reply;
mod streams;
mod table;
mod theirs;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

pub(crate) use deadlines::Deadline;
pub use delivery::Delivery;
pub(crate) use inbound::Fatal;
pub use ours::Call;
pub use streams::{RecvStream, SendStream};

use self::bodies::Bodies;
use self::deadlines::Deadlines;
use self::numbers::Numbers;
use self::table::{OpenCall, State, Table};
use crate::Urgency;
use crate::config::{ConnectionConfig, Dialect};
use crate::event::EndpointEvent;
use crate::event::{Event, Outcome, StopReason};
use crate::ids::{CallId, ConnectionId, RequestId, StreamId};
use crate::kept::{free_if_empty, pop_or_shrink};
use crate::ordering::ReplyGate;
use crate::send::{Policy, QueuedReply, SendQueue, StreamQueue};
use crate::stream::{Flow, Spares};
use crate::wire::{Codec, Credit};

/// The limits that a peer has announced in the handshake, as far as calls depend on them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerLimits {
    /// Largest body that the peer accepts, in bytes; `None` if it has announced none.
    pub(crate) max_body: Option<u64>,
    /// Initial credit for each stream and for all of them; `None` in dialect 1, which has no streams.
    pub(crate) credit: Option<Credit>,
}

#[derive(Debug)]
pub(crate) struct Calls {
    connection: ConnectionId,
    config: Arc<ConnectionConfig>,
    /// `None` until the handshake is complete.
    peer: Option<PeerLimits>,
    draining: bool,
    peer_draining: bool,
    table: Table,
    numbers: Numbers,
    /// Messages and control records that wait to be sent.
    queue: SendQueue,
    policy: Policy,
    codec: Codec,
    gate: ReplyGate<(QueuedReply, Urgency)>,
    /// Streams that have something to send and credit for it.
    streams: StreamQueue,
    flow: Flow,
    // A tree, because CREDITs are sent in its order: the same input must give the same bytes.
    /// Streams for which a CREDIT may be due.
    credits: BTreeSet<StreamId>,
    bodies: Bodies,
    /// Why the connection must be closed, until the connection takes it.
    fatal: Option<Fatal>,
    /// Whether an answer or an acknowledgement since the last check shows that the peer reads.
    peer_reads: bool,
    /// Whether something was sent since the last check whose loss no later message would show: a reply, or the
    /// end of a stream.
    needs_acknowledgement: bool,
    /// Whether the endpoint was told to start no more requests.
    paused: bool,
    deadlines: Deadlines,
    spares: Spares,
    events: VecDeque<Event>,
    endpoint_events: VecDeque<EndpointEvent>,
}

impl Calls {
    pub(crate) fn new(
        connection: ConnectionId,
        connector: bool,
        config: Arc<ConnectionConfig>,
        first_call: CallId,
    ) -> Self {
        let flow = Flow::new(config.connection_window);
        Self {
            connection,
            config,
            peer: None,
            draining: false,
            peer_draining: false,
            table: Table::new(connection, first_call),
            numbers: Numbers::new(connector),
            queue: SendQueue::default(),
            policy: Policy::default(),
            codec: Codec::default(),
            gate: ReplyGate::default(),
            streams: StreamQueue::default(),
            flow,
            credits: BTreeSet::new(),
            bodies: Bodies::default(),
            fatal: None,
            peer_reads: false,
            needs_acknowledgement: false,
            paused: false,
            deadlines: Deadlines::default(),
            spares: Spares::default(),
            events: VecDeque::new(),
            endpoint_events: VecDeque::new(),
        }
    }

    /// The handshake is complete: checks queued messages against the limits of the peer.
    pub(crate) fn establish(&mut self, peer: PeerLimits) {
        self.peer = Some(peer);
        if let Some(credit) = peer.credit {
            self.flow.peer_limit = credit.link;
        }
        self.fit_queue();
        if self.draining {
            self.say_goodbye();
        }
    }

    /// Whether a call with streams or metadata can be accepted: the dialect is 2, or not known yet.
    fn may_have_streams(&self) -> bool {
        match self.peer {
            Some(peer) => peer.credit.is_some(),
            // If the peer turns out to speak dialect 1, `fit_queue` ends such calls.
            None => self.config.dialect >= Dialect::Two,
        }
    }

    /// Whether the dialect is 2, which has streams, metadata, deadlines and GOODBYE (K-6).
    fn has_streams(&self) -> bool {
        self.peer.is_some_and(|peer| peer.credit.is_some())
    }

    /// The transport was disconnected before the handshake was complete. If only calls wait, keeps them for
    /// another transport; otherwise returns false, and changes nothing.
    pub(crate) fn keep_for_another_transport(&mut self) -> bool {
        // The next transport may lead to another process, which has not made these requests.
        self.table.open_requests() == 0 && self.gate.is_empty() && self.queue.keep_only_calls()
    }

    pub(crate) fn drain(&mut self) {
        // Before the handshake, the dialect is not known: `establish` sends the GOODBYE.
        if !std::mem::replace(&mut self.draining, true) && self.peer.is_some() {
            self.say_goodbye();
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether there are no calls of either side, and nothing waits to be sent.
    pub(crate) fn is_idle(&self) -> bool {
        self.table.len() == 0 && self.queue.is_empty() && self.gate.is_empty()
    }

    /// Bytes of calls and replies that wait to be sent, without streams.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queue.bytes() + self.gate.bytes() + self.bodies.bytes()
    }

    /// Whether no more requests should start, because too many bytes wait to be sent. Arguments that are
    /// being sent don't count, to avoid a deadlock: the peer may grant credit for them only once its handler
    /// has started, and if both sides counted them, neither would start one.
    pub(crate) fn is_backlogged(&self) -> bool {
        self.queue.bytes() + self.gate.bytes() + self.bodies.results() > self.config.max_outgoing_bytes
    }

    /// Cost of DATA that was received, and neither read nor dropped.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.flow.held()
    }

    pub(crate) fn open_calls(&self) -> usize {
        self.table.open_calls()
    }

    pub(crate) fn open_requests(&self) -> usize {
        self.table.open_requests()
    }

    /// The first call of a connection that replaces this one.
    pub(crate) fn next_call(&self) -> CallId {
        self.table.next_call()
    }

    pub(crate) fn events(&mut self) -> &mut VecDeque<Event> {
        &mut self.events
    }

    pub(crate) fn is_open(&self, request: RequestId) -> bool {
        // `Replying` is not open: the request is answered, though its body is still being sent.
        let open = self.table.get(StreamId::Request(request));
        open.is_some_and(|call| matches!(call.state, State::Request(_)))
    }

    pub(crate) fn queue(&mut self) -> &mut SendQueue {
        &mut self.queue
    }

    #[cfg(test)]
    pub(crate) fn numbers(&mut self) -> &mut Numbers {
        &mut self.numbers
    }

    #[cfg(test)]
    pub(crate) fn has_no_streams_queued(&self) -> bool {
        self.streams.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn gate_is_empty(&self) -> bool {
        self.gate.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn set_peer_credit(&mut self, credit: Credit) {
        self.peer = self.peer.map(|peer| PeerLimits { credit: Some(credit), ..peer });
    }

    /// Sets the credit of a stream.
    #[cfg(test)]
    pub(crate) fn set_stream_limit(&mut self, id: StreamId, limit: u64) {
        self.table.get_mut(id).and_then(OpenCall::sender).expect("it is written").set_limit(limit);
        self.schedule(id);
    }

    pub(crate) fn flow(&mut self) -> &mut Flow {
        &mut self.flow
    }

    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.endpoint_events.is_empty() || self.is_backlogged() != self.paused
    }

    #[inline]
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        pop_or_shrink(&mut self.events)
    }

    /// A request will not be passed to the host, though the endpoint has started it, or may yet.
    pub(crate) fn never_ran(&mut self, request: RequestId) {
        self.endpoint_events.push_back(EndpointEvent::NeverRan(request));
    }

    /// The next event for the endpoint. A pause precedes all others, so that it takes effect before further
    /// requests are ready.
    pub(crate) fn poll_endpoint_event(&mut self) -> Option<EndpointEvent> {
        // Compared here, not where the queue changes: if it crosses the limit and comes back between two
        // polls, the endpoint need not know.
        if self.is_backlogged() != self.paused {
            self.paused = !self.paused;
            return Some(match self.paused {
                true => EndpointEvent::Paused(self.connection),
                false => EndpointEvent::Resumed(self.connection),
            });
        }
        pop_or_shrink(&mut self.endpoint_events)
    }

    /// Whether the peer has shown that it reads since the last call of this function.
    pub(crate) fn take_peer_reads(&mut self) -> bool {
        std::mem::take(&mut self.peer_reads)
    }

    /// Whether what was sent since the last call has to be acknowledged before the connection is closed.
    pub(crate) fn take_needs_acknowledgement(&mut self) -> bool {
        std::mem::take(&mut self.needs_acknowledgement)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Handles the timers that are due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        // This ends: no timer that is handled here sets another one.
        while let Some(deadline) = self.deadlines.pop(now) {
            match deadline {
                Deadline::Call(call) => {
                    let sent = self.table.get(call.into()).and_then(OpenCall::has_left) == Some(true);
                    self.retire(call, Outcome::TimedOut { sent });
                }
                Deadline::Caller(request) => self.withdraw(request, StopReason::DeadlinePassed),
                Deadline::Execution(request) => self.withdraw(request, StopReason::ExecutionTimedOut),
                Deadline::Reassembly(stream) => self.reassembly_timed_out(stream),
                Deadline::Spares => self.spares.clear(),
            }
        }
    }

    /// The connection is quiet: has the endpoint free spare memory, too.
    pub(crate) fn quiet(&mut self) {
        self.endpoint_events.push_back(EndpointEvent::Quiet(self.connection));
    }

    /// Frees memory that is kept for future calls.
    pub(crate) fn shrink(&mut self) {
        self.table.shrink();
        self.numbers.shrink();
        self.deadlines.shrink();
        self.queue.shrink();
        self.codec.shrink();
        free_if_empty(&mut self.events);
        free_if_empty(&mut self.endpoint_events);
    }

    /// The connection has ended: ends every call of this side, and forgets every request. Results that have
    /// arrived completely can still be read. `outcome` gets whether the call was sent.
    pub(crate) fn close(&mut self, outcome: impl Fn(bool) -> Outcome) {
        // First: a call whose whole result has arrived does not end as disconnected.
        self.reassemble_all_that_is_complete();
        let ours = self.table.ours_mut().filter_map(|(id, call)| Some((id, call.has_left()?)));
        let mut ours: Vec<_> = ours.collect();
        // By id, so that calls end in the order in which they were made. The table has another order.
        ours.sort_unstable();
        for (call, sent) in ours {
            self.events.push_back(Event::ended(call, outcome(sent)));
        }
        // Requests whose handlers have not been told to stop.
        let running = self.table.iter().filter_map(|(id, call)| match (id, &call.state) {
            (StreamId::Request(request), State::Request(state)) => {
                (!state.waits() && state.withdrawn.is_none()).then_some(request)
            }
            _ => None,
        });
        let mut running: Vec<_> = running.collect();
        running.sort_unstable();
        for request in running {
            self.events.push_back(Event::Stop { request, reason: StopReason::Disconnected });
        }
        // Nothing more will arrive, so only complete results are of use.
        self.table.keep_readable_results();
        let unread = self.table.ours_mut().filter_map(|(_, call)| call.receiver());
        self.flow.close(unread.map(|recv| (recv.unread_cost(), recv.growth())));
        self.numbers.end_all();
        self.queue.clear();
        self.codec.clear();
        self.gate.clear();
        self.streams.clear();
        self.credits.clear();
        self.bodies = Bodies::default();
        // Without `Resumed`: `Closed` below ends the pause at the endpoint, too.
        self.paused = false;
        self.deadlines.clear();
        self.spares.clear();
        // The endpoint still waits for the requests that it has started.
        self.endpoint_events.retain(|event| matches!(event, EndpointEvent::NeverRan(_)));
        self.endpoint_events.push_back(EndpointEvent::Closed(self.connection));
        // So that a result that is reassembled after the end queues no CREDIT.
        self.peer = None;
        self.fatal = None;
    }
}
