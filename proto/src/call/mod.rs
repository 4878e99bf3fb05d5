//! The calls of one connection, ours and the peer's, from the first byte to the last.
//!
//! One table has every call of which anything is left, each in one [`State`] that owns what it needs. Records of the peer come in
//! ([`inbound`](self::inbound)), records leave ([`outbound`](self::outbound)); what concerns the host or the endpoint is an event. Nothing here knows
//! of handshakes, liveness or sockets.
//!
//! Every call of ours ends in [`Calls::end`], and with one [`Event::Ended`], unless its caller abandons it. Every request of the peer's is
//! answered in [`Calls::reply`], once.

#[cfg(any(test, feature = "internals"))]
mod audit;
mod deadlines;
mod delivery;
mod inbound;
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

use self::deadlines::Deadlines;
use self::table::{State, Table};
use crate::Urgency;
use crate::config::{ConnectionConfig, Dialect};
use crate::event::EndpointEvent;
use crate::event::{Event, Outcome, StopReason};
use crate::ids::{CallId, ConnectionId, RequestId, StreamId};
use crate::kept::{free_if_empty, pop_or_shrink};
use crate::numbered::Numbered;
use crate::ordering::ReplyGate;
use crate::send::{Policy, QueuedReply, SendQueue, StreamQueue};
use crate::stream::{Flow, Spares};
use crate::wire::{Codec, Credit, Number};

/// What a peer said of itself in the handshake, as far as calls depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerLimits {
    /// Largest body that it takes; `None` if it has not said.
    pub(crate) max_body: Option<u64>,
    /// What it gives each stream and all of them from the start; `None` in dialect 1, which has no streams.
    pub(crate) credit: Option<Credit>,
}

#[derive(Debug)]
pub(crate) struct Calls {
    connection: ConnectionId,
    config: Arc<ConnectionConfig>,
    /// Once the handshake is complete.
    peer: Option<PeerLimits>,
    draining: bool,
    peer_draining: bool,
    table: Table,
    /// Calls of ours that have left, by their [ordinal](wire::ordinal) in dialect 2.
    pub(crate) ours: Numbered<CallId>,
    next_call: CallId,
    pub(crate) next_ours: Number,
    pub(crate) next_theirs: Number,
    /// Calls of ours that have not ended, and requests that have not been answered.
    open_calls: usize,
    open_requests: usize,
    /// Messages and control that wait to be sent.
    queue: SendQueue,
    policy: Policy,
    codec: Codec,
    gate: ReplyGate<(QueuedReply, Urgency)>,
    /// Streams that can send.
    streams: StreamQueue,
    flow: Flow,
    /// Streams for which a CREDIT may be due.
    credits: BTreeSet<StreamId>,
    /// Bytes of bodies, not of streams, that have begun to leave, and of replies that wait at the gate.
    body_bytes: usize,
    /// Those of `body_bytes` that are of calls of ours.
    argument_bytes: usize,
    gate_bytes: usize,
    /// Why the connection has to be closed.
    fatal: Option<Fatal>,
    /// Whether the peer has acknowledged or answered something since the last look, and so has read it.
    peer_reads: bool,
    /// Whether something has left since the last look whose loss no later message would show: a reply, or the end of a stream.
    needs_acknowledgement: bool,
    /// Whether the endpoint was told to start no more requests.
    paused: bool,
    deadlines: Deadlines,
    spares: Spares,
    events: VecDeque<Event>,
    endpoint_events: VecDeque<EndpointEvent>,
}

impl Calls {
    /// `connector` decides which numbers are ours.
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
            table: Table::new(connection),
            ours: Numbered::default(),
            next_call: first_call,
            next_ours: u64::from(!connector),
            next_theirs: u64::from(connector),
            open_calls: 0,
            open_requests: 0,
            queue: SendQueue::default(),
            policy: Policy::default(),
            codec: Codec::default(),
            gate: ReplyGate::default(),
            streams: StreamQueue::default(),
            flow,
            credits: BTreeSet::new(),
            body_bytes: 0,
            argument_bytes: 0,
            gate_bytes: 0,
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

    /// The handshake is complete: what waits is held against the limits that the peer turned out to have.
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

    /// Whether a call may need streams or metadata: dialect 2 is spoken, or may turn out to be.
    fn may_have_streams(&self) -> bool {
        match self.peer {
            Some(peer) => peer.credit.is_some(),
            None => self.config.dialect >= Dialect::Two,
        }
    }

    /// Whether dialect 2 is spoken: streams, metadata and deadlines travel, and GOODBYE exists (K-6).
    fn has_streams(&self) -> bool {
        self.peer.is_some_and(|peer| peer.credit.is_some())
    }

    /// The transport is gone before the handshake was complete. Returns false, and changes nothing, unless all that waits can wait for
    /// another one.
    pub(crate) fn keep_for_another_transport(&mut self) -> bool {
        self.open_requests == 0 && self.gate.is_empty() && self.queue.keep_only_calls()
    }

    pub(crate) fn drain(&mut self) {
        if !std::mem::replace(&mut self.draining, true) && self.peer.is_some() {
            self.say_goodbye();
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether no call is left, and nothing waits to be sent.
    pub(crate) fn is_idle(&self) -> bool {
        self.table.len() == 0 && self.queue.is_empty() && self.gate.is_empty()
    }

    /// Bytes of calls and replies that wait to be sent, without those of streams.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queue.bytes() + self.gate_bytes + self.body_bytes
    }

    /// Whether so much waits that no more requests should start. Arguments that have begun to leave do not count: the peer may give
    /// credit for them only once a handler of its own has started, and that must not wait for the same on this side.
    pub(crate) fn is_backlogged(&self) -> bool {
        self.queued_bytes() - self.argument_bytes > self.config.max_outgoing_bytes
    }

    /// Counts bytes of a body that has begun to leave, or has left.
    fn count_body(&mut self, id: StreamId, change: impl Fn(usize) -> usize) {
        self.body_bytes = change(self.body_bytes);
        if table::is_ours(id) {
            self.argument_bytes = change(self.argument_bytes);
        }
    }

    /// Bytes of streams that were received and neither read nor dropped, and what they count for besides.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.flow.held()
    }

    pub(crate) fn open_calls(&self) -> usize {
        self.open_calls
    }

    pub(crate) fn open_requests(&self) -> usize {
        self.open_requests
    }

    /// The first call of a connection that replaces this one.
    pub(crate) fn next_call(&self) -> CallId {
        self.next_call
    }

    pub(crate) fn events(&mut self) -> &mut VecDeque<Event> {
        &mut self.events
    }

    pub(crate) fn is_open(&self, request: RequestId) -> bool {
        let open = self.table.get(StreamId::Request(request));
        open.is_some_and(|call| matches!(call.state, State::Request(_)))
    }

    pub(crate) fn queue(&mut self) -> &mut SendQueue {
        &mut self.queue
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

    /// Sets what the peer lets the DATA of a stream cost.
    #[cfg(test)]
    pub(crate) fn set_stream_limit(&mut self, id: StreamId, limit: u64) {
        self.table.get_mut(id).and_then(table::OpenCall::sender).expect("it is written").set_limit(limit);
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

    /// The endpoint has started a request that is not handed out any more.
    pub(crate) fn never_ran(&mut self, request: RequestId) {
        self.endpoint_events.push_back(EndpointEvent::NeverRan(request));
    }

    /// What the endpoint has to know. First comes whether requests may start, so that this counts before it hears of others that are
    /// ready.
    pub(crate) fn poll_endpoint_event(&mut self) -> Option<EndpointEvent> {
        if self.is_backlogged() != self.paused {
            self.paused = !self.paused;
            return Some(match self.paused {
                true => EndpointEvent::Paused(self.connection),
                false => EndpointEvent::Resumed(self.connection),
            });
        }
        pop_or_shrink(&mut self.endpoint_events)
    }

    /// Whether the peer has shown since the last call that it reads.
    pub(crate) fn take_peer_reads(&mut self) -> bool {
        std::mem::take(&mut self.peer_reads)
    }

    /// Whether what has left since the last call has to be acknowledged before the connection is closed.
    pub(crate) fn take_needs_acknowledgement(&mut self) -> bool {
        std::mem::take(&mut self.needs_acknowledgement)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(deadline) = self.deadlines.pop(now) {
            match deadline {
                Deadline::Call(call) => self.time_out(call),
                Deadline::Caller(request) => self.withdraw(request, StopReason::DeadlinePassed),
                Deadline::Execution(request) => self.withdraw(request, StopReason::ExecutionTimedOut),
                Deadline::Reassembly(stream) => self.reassembly_timed_out(stream),
                Deadline::Spares => self.spares.clear(),
            }
        }
        self.shrink();
    }

    /// The endpoint, too, need not keep memory for requests to come.
    pub(crate) fn quiet(&mut self) {
        self.endpoint_events.push_back(EndpointEvent::Quiet(self.connection));
    }

    /// Gives back the memory that is kept for calls to come.
    fn shrink(&mut self) {
        self.table.shrink();
        self.ours.shrink();
        self.queue.shrink();
        self.codec.shrink();
        free_if_empty(&mut self.events);
        free_if_empty(&mut self.endpoint_events);
    }

    /// The connection is over: every call of ours ends, every request of the peer's is forgotten. Results that have come as a whole can
    /// still be read.
    pub(crate) fn close(&mut self, outcome: impl Fn(bool) -> Outcome) {
        self.reassemble_all_that_is_complete();
        let mut ours: Vec<_> =
            self.table.iter().filter_map(|(id, call)| Some((call_of(id)?, call.has_left()?))).collect();
        ours.sort_unstable();
        for (call, sent) in ours {
            self.events.push_back(Event::ended(call, outcome(sent)));
        }
        let mut running: Vec<_> =
            self.table.iter().filter(|(_, call)| call.runs()).filter_map(|(id, _)| request_of(id)).collect();
        running.sort_unstable();
        for request in running {
            self.events.push_back(Event::Stop { request, reason: StopReason::Disconnected });
        }
        self.table.retain_ours(
            |call| matches!(&call.state, State::Unread { result, .. } if result.is_readable_to_its_end()),
        );
        let unread = self.table.ours_mut().filter_map(|(_, call)| call.receiver());
        self.flow.close(unread.map(|recv| (recv.unread_cost(), recv.growth())));
        self.ours = Numbered::default();
        (self.open_calls, self.open_requests) = (0, 0);
        self.queue.clear();
        self.codec.clear();
        self.gate.clear();
        self.streams.clear();
        self.credits.clear();
        (self.body_bytes, self.argument_bytes, self.gate_bytes, self.paused) = (0, 0, 0, false);
        self.deadlines.clear();
        self.spares.clear();
        // The endpoint waits for the end of what it has started.
        self.endpoint_events.retain(|event| matches!(event, EndpointEvent::NeverRan(_)));
        self.endpoint_events.push_back(EndpointEvent::Closed(self.connection));
        self.peer = None;
        self.fatal = None;
    }
}

fn request_of(id: StreamId) -> Option<RequestId> {
    match id {
        StreamId::Request(request) => Some(request),
        StreamId::Call(_) => None,
    }
}

fn call_of(id: StreamId) -> Option<CallId> {
    match id {
        StreamId::Call(call) => Some(call),
        StreamId::Request(_) => None,
    }
}
