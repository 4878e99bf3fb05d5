//! The table of calls, and the states that each can be in.

use crate::event::{Request, StopReason};
use crate::ids::{CallId, ConnectionId, RequestId, StreamId};
use crate::numbered::Numbered;
use crate::ordering::GatePlace;
use crate::send::Place;
use crate::stream::{RecvHalf, SendHalf};
use crate::wire::{Number, Options, Piece};
use crate::{Metadata, OrderingKey, Text, Urgency};

use std::time::Instant;

use super::delivery::Delivery;

/// The calls of which something is left.
#[derive(Debug)]
pub(super) struct Table {
    connection: ConnectionId,
    ours: Numbered<OpenCall>,
    requests: Numbered<OpenCall>,
    /// Those of the requests that have not started, by their numbers: apart, for these are larger than all that is kept of other calls.
    pub(super) waiting: Numbered<Request>,
}

impl Table {
    pub(super) fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            ours: Numbered::default(),
            requests: Numbered::default(),
            waiting: Numbered::default(),
        }
    }

    #[inline]
    pub(super) fn get(&self, id: StreamId) -> Option<&OpenCall> {
        match id {
            StreamId::Call(call) => self.ours.get(call.0),
            StreamId::Request(request) => self.requests.get(request.number()),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut OpenCall> {
        match id {
            StreamId::Call(call) => self.ours.get_mut(call.0),
            StreamId::Request(request) => self.requests.get_mut(request.number()),
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, id: StreamId, call: OpenCall) {
        match id {
            StreamId::Call(id) => self.ours.insert(id.0, call),
            StreamId::Request(id) => self.requests.insert(id.number(), call),
        }
    }

    pub(super) fn discard(&mut self, id: StreamId) {
        match id {
            StreamId::Call(call) => self.ours.discard(call.0),
            StreamId::Request(request) => {
                self.requests.discard(request.number());
                if !self.waiting.is_empty() {
                    self.waiting.discard(request.number());
                }
            }
        }
    }

    /// Gives back the memory that is kept for calls to come.
    pub(super) fn shrink(&mut self) {
        self.ours.shrink();
        self.requests.shrink();
        self.waiting.shrink();
    }

    pub(super) fn len(&self) -> usize {
        self.ours.len() + self.requests.len()
    }

    /// The peer's.
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

    /// Drops all but the calls of ours for which this is true.
    pub(super) fn retain_ours(&mut self, keep: impl FnMut(&OpenCall) -> bool) {
        self.ours.retain(keep);
        (self.requests, self.waiting) = (Numbered::default(), Numbered::default());
    }
}

/// A call of which something is left.
#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) urgency: Urgency,
    /// Of a call of ours, when it times out; of a request, when its caller is taken to have given up.
    pub(super) deadline: Option<Instant>,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// A call of ours that waits in the send queue. `argument` is what follows the body there, if it is a stream.
    Queued { place: Place, argument: Writer, delivery: Delivery },
    /// A call of ours that has left and has not ended.
    Sent { number: Number, argument: Writer, result: ResultState },
    /// A call of ours that has ended with a result that came as a whole, and waits to be read.
    /// `argument` is open no more.
    Unread { number: Number, argument: Writer, result: Box<RecvHalf> },
    /// A request of the peer's that has not been answered.
    Request(RequestState),
    /// A request that has been answered with a body, which is leaving or waits to.
    Replying { number: Number, key: OrderingKey, argument: Option<Box<RecvHalf>>, body: Box<SendHalf> },
}

#[derive(Debug)]
pub(super) enum ResultState {
    /// Nothing of it has come.
    Awaited(Delivery),
    /// It is being read; `None` once it has been read to its end, or is not wanted.
    Begun(Option<Box<RecvHalf>>),
    /// It is reassembled, and comes as a whole with the end of the call.
    Reassembled { metadata: Metadata, half: Box<RecvHalf> },
}

/// The writing end of a stream.
#[derive(Debug)]
pub(super) enum Writer {
    /// There is nothing to write, or all of it has been sent.
    Closed,
    Open(Box<SendHalf>),
    /// The reader wants no more.
    Stopped,
}

#[derive(Debug)]
pub(super) struct RequestState {
    pub(super) number: Number,
    pub(super) key: OrderingKey,
    pub(super) cancelled: bool,
    /// Why its handler is to be stopped, or is not to start.
    pub(super) withdrawn: Option<StopReason>,
    /// When its handler has run for too long.
    pub(super) execution_deadline: Option<Instant>,
    pub(super) argument: Option<Box<RecvHalf>>,
    pub(super) stage: Stage,
}

/// A request as it was opened.
pub(super) struct Opened {
    pub(super) call: Number,
    pub(super) method: Text,
    pub(super) key: OrderingKey,
    pub(super) options: Options,
    pub(super) piece: Piece,
    /// Bytes of the frame that all of this is a slice of; 0 if slices may be kept.
    pub(super) frame: usize,
}

/// How far a request has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// It waits for the rest of its argument, which is reassembled first.
    Incomplete,
    /// It waits to start.
    Waiting,
    /// It was withdrawn before it started, and never will. Nothing is kept but its name, which its reply needs when its order comes.
    Withdrawn,
    /// A handler runs.
    Running,
    /// A handler runs, and its result is a stream that has begun.
    Streaming(Box<StreamedResult>),
}

/// Boxed, for most results come as a whole, and it would make each entry of the table larger.
#[derive(Debug)]
pub(super) struct StreamedResult {
    pub(super) beginning: Beginning,
    pub(super) writer: Writer,
}

/// Where the RESULT is with which a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// It waits for a stream with the same key.
    AtGate(GatePlace),
    /// It waits in the send queue.
    Queued(Place),
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

    /// Leaves `rest`, unless the reader has stopped it.
    pub(super) fn take(&mut self, rest: Self) -> Option<Box<SendHalf>> {
        match std::mem::replace(self, rest) {
            Self::Open(half) => Some(half),
            Self::Stopped => {
                *self = Self::Stopped;
                None
            }
            Self::Closed => None,
        }
    }
}

impl RequestState {
    /// Whether its handler has not started.
    pub(super) fn waits(&self) -> bool {
        matches!(self.stage, Stage::Incomplete | Stage::Waiting | Stage::Withdrawn)
    }

    /// Why nobody waits for its reply any more, if nobody does.
    pub(super) fn given_up(&self) -> Option<StopReason> {
        self.withdrawn.filter(|reason| reason.is_given_up())
    }

    fn writer(&mut self) -> Option<&mut Writer> {
        match &mut self.stage {
            Stage::Streaming(result) => Some(&mut result.writer),
            Stage::Incomplete | Stage::Waiting | Stage::Withdrawn | Stage::Running => None,
        }
    }
}

impl OpenCall {
    /// The number on the wire, once it has one.
    pub(super) fn number(&self) -> Option<Number> {
        match &self.state {
            State::Queued { .. } => None,
            State::Sent { number, .. } | State::Unread { number, .. } | State::Replying { number, .. } => {
                Some(*number)
            }
            State::Request(request) => Some(request.number),
        }
    }

    /// Whether a call of ours that has not ended has left; `None` for any other.
    pub(super) fn has_left(&self) -> Option<bool> {
        match &self.state {
            State::Queued { .. } => Some(false),
            State::Sent { .. } => Some(true),
            _ => None,
        }
    }

    /// Whether it is a request whose handler has not started.
    pub(super) fn waits_to_start(&self) -> bool {
        matches!(&self.state, State::Request(request) if request.waits())
    }

    /// Whether a body is reassembled before the host learns of it.
    pub(super) fn is_owed_as_a_whole(&self) -> bool {
        match &self.state {
            State::Request(request) => matches!(request.stage, Stage::Incomplete),
            State::Sent { result, .. } => matches!(result, ResultState::Reassembled { .. }),
            _ => false,
        }
    }

    /// The key and the number of a request whose reply is a stream: others may wait for it at the gate.
    pub(super) fn leads(&self) -> Option<(OrderingKey, Number)> {
        let (key, number) = match &self.state {
            State::Replying { key, number, .. } => (key, *number),
            State::Request(RequestState { stage: Stage::Streaming(_), key, number, .. }) => (key, *number),
            _ => return None,
        };
        key.is_given().then(|| (key.clone(), number))
    }

    /// Whether the host may read its stream, if it has one.
    pub(super) fn is_readable(&self) -> bool {
        !self.waits_to_start() && !self.is_owed_as_a_whole()
    }

    pub(super) fn key(&self) -> Option<&OrderingKey> {
        match &self.state {
            State::Request(request) => Some(&request.key),
            State::Replying { key, .. } => Some(key),
            State::Queued { .. } | State::Sent { .. } | State::Unread { .. } => None,
        }
    }

    /// When the handler of a request has run for too long.
    pub(super) fn execution_deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Request(request) => request.execution_deadline,
            _ => None,
        }
    }

    /// The stream that this side writes.
    pub(super) fn writer(&mut self) -> Option<&mut Writer> {
        match &mut self.state {
            State::Queued { argument, .. }
            | State::Sent { argument, .. }
            | State::Unread { argument, .. } => Some(argument),
            State::Request(request) => request.writer(),
            State::Replying { .. } => None,
        }
    }

    pub(super) fn sender(&mut self) -> Option<&mut SendHalf> {
        match &mut self.state {
            State::Queued { argument, .. } | State::Sent { argument, .. } => argument.half(),
            State::Request(request) => request.writer()?.half(),
            State::Replying { body, .. } => Some(body),
            State::Unread { .. } => None,
        }
    }

    /// The stream that this side reads.
    pub(super) fn receiver(&mut self) -> Option<&mut RecvHalf> {
        match &mut self.state {
            State::Sent { result: ResultState::Begun(half), .. } => half.as_deref_mut(),
            State::Sent { result: ResultState::Reassembled { half, .. }, .. } => Some(half),
            State::Unread { result, .. } => Some(result),
            State::Request(request) => request.argument.as_deref_mut(),
            State::Replying { argument, .. } => argument.as_deref_mut(),
            State::Queued { .. } | State::Sent { .. } => None,
        }
    }

    /// Whether it is a request whose handler was handed out and may not have been told to stop.
    pub(super) fn runs(&self) -> bool {
        matches!(&self.state, State::Request(request) if !request.waits() && request.withdrawn.is_none())
    }
}

/// Which end of a call an id names.
pub(super) fn is_ours(id: StreamId) -> bool {
    matches!(id, StreamId::Call(_))
}
