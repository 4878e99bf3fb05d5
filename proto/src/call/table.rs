//! The table of calls, and the states of a call.
//!
//! A call of this side goes from `Queued` to `Sent`, and to `Unread` if it ends before its result is read. A
//! request is a `Request` with a [`Stage`], then `Replying` if its reply takes more than one message. The
//! other modules of `call` carry out these transitions.

use crate::event::{Request, StopReason};
use crate::ids::{CallId, ConnectionId, RequestId, StreamId};
use crate::numbered::Numbered;
use crate::send::Place;
use crate::stream::{RecvHalf, SendHalf};
use crate::wire::{Number, Options, Piece};
use crate::{Metadata, OrderingKey, Text, Urgency};

use std::time::Instant;

use super::delivery::Delivery;

/// All calls of which anything is left.
#[derive(Debug)]
pub(super) struct Table {
    connection: ConnectionId,
    /// The next id for a call of this side, unless an open call has its low 32 bits.
    next_call: CallId,
    // The numbers of both are counted up, for which `Numbered` is as fast as an array.
    ours: Numbered<OpenCall>,
    requests: Numbered<OpenCall>,
    /// The requests that have not started, by number. Kept apart, so that the entries of other calls are
    /// small.
    pub(super) waiting: Numbered<Request>,
    /// How many of `ours` are `Unread`, and how many of `requests` are `Replying`.
    unread: usize,
    replying: usize,
}

impl Table {
    pub(super) fn new(connection: ConnectionId, first_call: CallId) -> Self {
        Self {
            connection,
            next_call: first_call,
            ours: Numbered::default(),
            requests: Numbered::default(),
            waiting: Numbered::default(),
            unread: 0,
            replying: 0,
        }
    }

    pub(super) fn next_call(&self) -> CallId {
        self.next_call
    }

    #[cfg(test)]
    pub(super) fn skip_to(&mut self, next: CallId) {
        self.next_call = next;
    }

    /// Assigns the next id whose low 32 bits, the `seq` of dialect 1, no open call has (C-1).
    pub(super) fn allocate(&mut self) -> CallId {
        let mut id = self.next_call;
        while self.has_seq_of(id) {
            id.0 += 1;
        }
        self.next_call = CallId(id.0 + 1);
        id
    }

    /// Ids ascend, so an older call with this `seq` has an id that is lower by a multiple of 2^32.
    fn has_seq_of(&self, id: CallId) -> bool {
        // No look-up at all until 2^32 calls have been made.
        (1..=id.0 >> 32).any(|wraps| self.ours.contains(id.0 - (wraps << 32)))
    }

    #[inline]
    pub(super) fn get(&self, id: StreamId) -> Option<&OpenCall> {
        match id {
            StreamId::Call(call) => self.ours.get(call.0),
            // The host may pass the id of a request of another connection, which may have the same number.
            StreamId::Request(request) if request.connection() == self.connection => {
                self.requests.get(request.number())
            }
            StreamId::Request(_) => None,
        }
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut OpenCall> {
        match id {
            StreamId::Call(call) => self.ours.get_mut(call.0),
            StreamId::Request(request) if request.connection() == self.connection => {
                self.requests.get_mut(request.number())
            }
            StreamId::Request(_) => None,
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, id: StreamId, call: OpenCall) {
        match id {
            StreamId::Call(id) => self.ours.insert(id.0, call),
            StreamId::Request(id) => self.requests.insert(id.number(), call),
        }
    }

    /// A call of this side has ended, or a request has been answered, but there is a `rest` of it: it is
    /// `Unread` or `Replying`.
    pub(super) fn keep(&mut self, id: StreamId, rest: State) {
        let Some(call) = self.get_mut(id) else { return };
        call.state = rest;
        match id {
            StreamId::Call(_) => self.unread += 1,
            StreamId::Request(request) => {
                self.replying += 1;
                // The host may reply to a request that has not started.
                self.waiting.discard(request.number());
            }
        }
    }

    pub(super) fn discard(&mut self, id: StreamId) {
        match id {
            StreamId::Call(call) => discard(&mut self.ours, &mut self.unread, call.0),
            StreamId::Request(request) => {
                discard(&mut self.requests, &mut self.replying, request.number());
                // Most requests have started by now, and are no longer here.
                if !self.waiting.is_empty() {
                    self.waiting.discard(request.number());
                }
            }
        }
    }

    /// Frees memory that is kept for future calls.
    pub(super) fn shrink(&mut self) {
        self.ours.shrink();
        self.requests.shrink();
        self.waiting.shrink();
    }

    pub(super) fn len(&self) -> usize {
        self.ours.len() + self.requests.len()
    }

    /// Calls of this side that have not ended.
    pub(super) fn open_calls(&self) -> usize {
        self.ours.len() - self.unread
    }

    /// Requests of the peer that have not been answered.
    pub(super) fn open_requests(&self) -> usize {
        self.requests.len() - self.replying
    }

    /// Requests of the peer, with those whose reply is being sent.
    pub(super) fn requests(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (StreamId, &OpenCall)> {
        let ours = self.ours.iter().map(|(number, call)| (CallId(number).into(), call));
        let request = |number| RequestId::new(self.connection, number).into();
        ours.chain(self.requests.iter().map(move |(number, call)| (request(number), call)))
    }

    pub(super) fn ours_mut(&mut self) -> impl Iterator<Item = (CallId, &mut OpenCall)> {
        self.ours.iter_mut().map(|(number, call)| (CallId(number), call))
    }

    /// Drops everything but the results that can be read to their ends.
    pub(super) fn keep_readable_results(&mut self) {
        self.ours.retain(
            |call| matches!(&call.state, State::Unread { result, .. } if result.is_readable_to_its_end()),
        );
        self.unread = self.ours.len();
        (self.requests, self.waiting, self.replying) = Default::default();
    }
}

fn discard(calls: &mut Numbered<OpenCall>, rests: &mut usize, number: u64) {
    // Most calls leave no rest, so there is nothing to look up.
    if *rests > 0 && calls.get(number).is_some_and(OpenCall::is_rest) {
        *rests -= 1;
    }
    calls.discard(number);
}

/// A call of either side.
#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) urgency: Urgency,
    /// When a call of this side times out, or when the caller of a request is assumed to have given up.
    pub(super) deadline: Option<Instant>,
    pub(super) state: State,
}

// Halves of streams are boxed: most calls have none, and an entry of the table should be small.
#[derive(Debug)]
pub(super) enum State {
    /// A call of this side that waits in the send queue. `argument` is the rest of a streamed argument.
    Queued { place: Place, argument: Writer, delivery: Delivery },
    /// A call of this side that has been sent and has not ended.
    Sent { number: Number, argument: Writer, result: ResultState },
    /// A call of this side that has ended with a complete result, which waits to be read. `argument` is not
    /// open.
    Unread { number: Number, argument: Writer, result: Box<RecvHalf> },
    /// A request that has not been answered.
    Request(RequestState),
    /// A request that has been answered with a body or stream, which is being sent or waits to be sent.
    Replying { number: Number, key: OrderingKey, argument: Option<Box<RecvHalf>>, body: Box<SendHalf> },
}

/// How far the result of a call of this side has come.
#[derive(Debug)]
pub(super) enum ResultState {
    /// Nothing has arrived.
    Awaited(Delivery),
    /// The host reads it as a stream; `None` once it has been read to its end, or stopped.
    Begun(Option<Box<RecvHalf>>),
    /// It is being reassembled, and is delivered with the end of the call.
    Reassembled { metadata: Metadata, half: Box<RecvHalf> },
}

/// The sending half of a stream.
#[derive(Debug)]
pub(super) enum Writer {
    /// There is no stream, or all of it has been sent.
    Closed,
    Open(Box<SendHalf>),
    /// The reader has stopped.
    Stopped,
}

/// A request that has not been answered.
#[derive(Debug)]
pub(super) struct RequestState {
    pub(super) number: Number,
    pub(super) key: OrderingKey,
    pub(super) cancelled: bool,
    /// Why its handler must stop, or must not start.
    pub(super) withdrawn: Option<StopReason>,
    /// When its handler exceeds the execution timeout.
    pub(super) execution_deadline: Option<Instant>,
    pub(super) argument: Option<Box<RecvHalf>>,
    pub(super) stage: Stage,
}

/// The fields of an OPEN.
pub(super) struct Opened {
    pub(super) call: Number,
    pub(super) method: Text,
    pub(super) key: OrderingKey,
    pub(super) options: Options,
    pub(super) piece: Piece,
    /// Size of the frame that the piece and the values of metadata are slices of; 0 if slices can be kept.
    pub(super) frame: usize,
}

/// How far a request has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// The request waits until its argument is reassembled.
    Incomplete,
    /// The request waits to start.
    Waiting,
    /// The request was withdrawn before it started, and waits for its reply, which may come in its order.
    /// Only its name is kept.
    Withdrawn,
    /// A handler runs.
    Running,
    /// A handler runs, and has begun a streamed result.
    Streaming(Box<StreamedResult>),
}

/// Boxed in [`Stage`], because it is rare, and would make every entry of the table larger.
#[derive(Debug)]
pub(super) struct StreamedResult {
    pub(super) beginning: Beginning,
    pub(super) writer: Writer,
}

/// Where the RESULT of a streamed reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// It waits at the gate for a stream with the same key.
    AtGate,
    /// It waits in the send queue.
    Queued(Place),
    /// It has been sent.
    Left,
}

impl ResultState {
    #[cfg(any(test, feature = "internals"))]
    pub(super) fn half(&self) -> Option<&RecvHalf> {
        match self {
            Self::Awaited(_) => None,
            Self::Begun(half) => half.as_deref(),
            Self::Reassembled { half, .. } => Some(half),
        }
    }
}

impl Writer {
    pub(super) fn half(&mut self) -> Option<&mut SendHalf> {
        match self {
            Self::Open(half) => Some(half),
            Self::Closed | Self::Stopped => None,
        }
    }

    /// Takes the sending half. A stopped writer stays stopped, so that later writes report it.
    pub(super) fn take(&mut self) -> Option<Box<SendHalf>> {
        match std::mem::replace(self, Self::Closed) {
            Self::Open(half) => Some(half),
            rest => {
                *self = rest;
                None
            }
        }
    }
}

impl RequestState {
    /// Whether the handler has not started.
    pub(super) fn waits(&self) -> bool {
        matches!(self.stage, Stage::Incomplete | Stage::Waiting | Stage::Withdrawn)
    }

    /// Whether the caller no longer waits for the reply.
    pub(super) fn is_given_up(&self) -> bool {
        self.withdrawn.is_some_and(StopReason::is_given_up)
    }

    fn writer(&mut self) -> Option<&mut Writer> {
        match &mut self.stage {
            Stage::Streaming(result) => Some(&mut result.writer),
            Stage::Incomplete | Stage::Waiting | Stage::Withdrawn | Stage::Running => None,
        }
    }
}

impl OpenCall {
    /// The number of the call, once it is sent.
    pub(super) fn number(&self) -> Option<Number> {
        match &self.state {
            State::Queued { .. } => None,
            State::Sent { number, .. } | State::Unread { number, .. } | State::Replying { number, .. } => {
                Some(*number)
            }
            State::Request(request) => Some(request.number),
        }
    }

    /// Whether a call of this side has been sent; `None` for a call that has ended, and for requests.
    pub(super) fn has_left(&self) -> Option<bool> {
        match &self.state {
            State::Queued { .. } => Some(false),
            State::Sent { .. } => Some(true),
            _ => None,
        }
    }

    /// Whether the call has ended, or the request has been answered.
    fn is_rest(&self) -> bool {
        matches!(self.state, State::Unread { .. } | State::Replying { .. })
    }

    /// Whether this is a request whose handler has not started.
    pub(super) fn waits_to_start(&self) -> bool {
        matches!(&self.state, State::Request(request) if request.waits())
    }

    /// Whether a body is being reassembled before the host learns of it.
    pub(super) fn is_owed_as_a_whole(&self) -> bool {
        match &self.state {
            State::Request(request) => matches!(request.stage, Stage::Incomplete),
            State::Sent { result, .. } => matches!(result, ResultState::Reassembled { .. }),
            _ => false,
        }
    }

    /// The key and the number of a request with a streamed reply, for which others may wait at the gate.
    pub(super) fn leads(&self) -> Option<(OrderingKey, Number)> {
        let (key, number) = match &self.state {
            State::Replying { key, number, .. } => (key, *number),
            State::Request(RequestState { stage: Stage::Streaming(_), key, number, .. }) => (key, *number),
            _ => return None,
        };
        // Replies without a key pass the gate, so nothing waits for them.
        key.is_given().then(|| (key.clone(), number))
    }

    /// Whether the host may read the stream, if there is one.
    pub(super) fn is_readable(&self) -> bool {
        !self.waits_to_start() && !self.is_owed_as_a_whole()
    }

    /// The half of the stream that this side writes, and whether it was stopped.
    pub(super) fn writer(&mut self) -> Option<&mut Writer> {
        match &mut self.state {
            State::Queued { argument, .. }
            | State::Sent { argument, .. }
            | State::Unread { argument, .. } => Some(argument),
            State::Request(request) => request.writer(),
            // The handler has ended, so the host has nothing more to write.
            State::Replying { .. } => None,
        }
    }

    pub(super) fn sender(&mut self) -> Option<&mut SendHalf> {
        match &mut self.state {
            State::Queued { argument, .. } | State::Sent { argument, .. } => argument.half(),
            State::Request(request) => request.writer()?.half(),
            State::Replying { body, .. } => Some(body),
            // A call only becomes `Unread` once its argument has been sent, or never will be.
            State::Unread { .. } => None,
        }
    }

    /// The half of the stream that this side reads.
    pub(super) fn receiver(&mut self) -> Option<&mut RecvHalf> {
        match &mut self.state {
            State::Sent { result: ResultState::Begun(half), .. } => half.as_deref_mut(),
            State::Sent { result: ResultState::Reassembled { half, .. }, .. } => Some(half),
            State::Unread { result, .. } => Some(result),
            State::Request(request) => request.argument.as_deref_mut(),
            State::Replying { argument, .. } => argument.as_deref_mut(),
            // `Awaited`: nothing of the result has arrived.
            State::Queued { .. } | State::Sent { .. } => None,
        }
    }
}
