//! The reference model: what each call was made with, how far it got, and what its caller must be told.
//!
//! Hosts record here what applications do. Each event of a connection is compared with the record.

use std::time::Instant;

use bytes::Bytes;

use super::payload::{self, Direction};
use callosum_proto::internals::wire::DecodeError;
use callosum_proto::internals::wire::dialect2::MAX_FIRST;
use callosum_proto::{Delivery, ErrorInfo, Metadata, OrderingKey, Outcome, Refusal, Reply, Urgency};

/// Every accepted call. Its index is its number, and its method is that number as text.
#[derive(Default)]
pub(super) struct Model(pub(super) Vec<Call>);

#[derive(Debug)]
pub(super) struct Call {
    pub(super) key: OrderingKey,
    pub(super) urgency: Urgency,
    pub(super) deadline: Option<Instant>,
    pub(super) metadata: Metadata,
    pub(super) streamed: bool,
    /// How the caller takes the result.
    pub(super) delivery: Delivery,
    pub(super) argument: StreamState,
    pub(super) result: StreamState,
    /// The other connection has taken the request.
    pub(super) reached: bool,
    pub(super) started: bool,
    /// The caller's connection has reported the first part of a streamed result.
    pub(super) responded: bool,
    pub(super) answer: Option<Answer>,
    pub(super) end: Option<End>,
}

/// The bytes written to a stream, and those read from it.
#[derive(Debug, Default)]
pub(super) struct StreamState {
    pub(super) written: u64,
    /// Offsets at which items end.
    pub(super) items: Vec<u64>,
    pub(super) finished: bool,
    pub(super) aborted: bool,
    /// It is written piece by piece.
    pub(super) streamed: bool,
    /// Bytes that the application has read.
    pub(super) read: u64,
    /// The connection reassembles the body, so the model can't see how much of it is consumed.
    pub(super) reassembled: bool,
}

/// The answer of a handler, or of its host instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Result,
    Failure,
    Error(&'static str),
    Cancelled,
}

impl Answer {
    /// The caller's outcome for a reply.
    pub(super) fn of(reply: &Reply) -> Self {
        match reply {
            Reply::Result { .. } | Reply::End => Self::Result,
            Reply::Failure(_) => Self::Failure,
            Reply::Error(info) => Self::Error(Refusal::of(info).map_or(ERROR, Refusal::name)),
            Reply::Cancelled => Self::Cancelled,
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum End {
    Abandoned,
    Reported(Outcome),
}

/// Names of errors that handlers return.
pub(super) const FAILURE: &str = "F";
pub(super) const ERROR: &str = "E";

impl StreamState {
    /// A body that is given at once.
    pub(super) fn whole(len: usize) -> Self {
        Self { written: len as u64, items: vec![len as u64], finished: true, ..Self::default() }
    }
}

impl Call {
    pub(super) fn stream(&mut self, direction: Direction) -> &mut StreamState {
        match direction {
            Direction::Argument => &mut self.argument,
            Direction::Result => &mut self.result,
        }
    }

    /// Whether the caller still waits for an outcome.
    pub(super) fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// Whether the caller has given the call up without an answer.
    fn is_given_up(&self) -> bool {
        match &self.end {
            Some(End::Abandoned) => true,
            Some(End::Reported(outcome)) => !matches!(
                outcome,
                Outcome::Result(_) | Outcome::Failure(_) | Outcome::Cancelled | Outcome::Complete
            ),
            None => false,
        }
    }
}

impl Model {
    /// # Panics
    /// If the caller still waits for the call.
    pub(super) fn cancelled(&self, number: usize) {
        assert!(self.0[number].is_given_up(), "{number} was not given up: {:?}", self.0[number]);
    }

    pub(super) fn first_open(&self) -> Option<(usize, &Call)> {
        self.0.iter().enumerate().find(|(_, call)| call.is_open())
    }

    /// # Panics
    /// If the body differs from what was written.
    pub(super) fn check_whole(&mut self, number: usize, direction: Direction, got: &Bytes) {
        let stream = self.0[number].stream(direction);
        assert!(stream.finished && !stream.aborted, "{number}: {direction:?} is not complete");
        assert_eq!(got.len() as u64, stream.written, "{number}: bytes of its {direction:?}");
        stream.read = stream.written;
        payload::check(number, direction, 0, got);
    }

    /// # Panics
    /// If more is acknowledged than was consumed.
    pub(super) fn acknowledged(&mut self, number: usize, direction: Direction, written: u64, consumed: u64) {
        let stream = self.0[number].stream(direction);
        assert_eq!(written, stream.written, "{number}: {direction:?}");
        let read = if stream.reassembled { stream.written } else { stream.read };
        assert!(consumed <= read, "{number}: {consumed} of {written}, and {read} was read");
    }

    /// A call has ended. Returns whether its answer is one message that had to wait for earlier answers with the same key.
    ///
    /// # Panics
    /// If the outcome differs from what happened, or the call had ended before.
    pub(super) fn ended(&mut self, number: usize, outcome: &Outcome) -> bool {
        let call = &mut self.0[number];
        assert!(call.is_open(), "{number} ends again, as {outcome:?}: {call:?}");
        call.end = Some(End::Reported(outcome.clone()));
        match outcome {
            Outcome::TimedOut { sent } | Outcome::Disconnected { sent, .. } => {
                assert!(*sent || !call.reached, "{number} was reported as not sent, and requested: {call:?}");
                false
            }
            Outcome::Result(body) => {
                // A streamed result that is taken as a whole may be complete before its handler has ended.
                let early = call.delivery == Delivery::Whole && call.result.finished;
                let answered = call.answer == Some(Answer::Result) || early;
                assert!(!call.responded && answered, "{number}: {call:?}");
                let in_order = body.len() <= MAX_FIRST && !call.result.streamed;
                self.check_whole(number, Direction::Result, body);
                // A larger one waits for memory, and its end may come after that of later ones.
                in_order
            }
            Outcome::Complete => {
                assert!(call.responded && call.result.finished, "{number} is not complete: {call:?}");
                // The order was checked when the result began; the end may come later, with the end of the argument.
                false
            }
            Outcome::Failure(info) => {
                assert!(call.answer == Some(Answer::Failure) && info.name.as_str() == FAILURE, "{call:?}");
                true
            }
            Outcome::Error(info) => check_error(number, call, info),
            Outcome::Cancelled => {
                assert_eq!(call.answer, Some(Answer::Cancelled), "{number}");
                true
            }
            Outcome::TooLarge { size, limit } => {
                assert!(!call.reached && size > limit, "{number}: {call:?}");
                false
            }
            Outcome::NeedsDialect2 => {
                assert!(!call.reached && (call.streamed || !call.metadata.is_empty()), "{call:?}");
                false
            }
            // A body under reassembly may exceed its limit.
            Outcome::Malformed(DecodeError::TooLarge { .. }) => {
                assert!(call.responded || call.delivery == Delivery::Whole, "{number}: {call:?}");
                false
            }
            Outcome::Malformed(_) | Outcome::Fault(_) => panic!("{number}: {outcome:?} between honest peers"),
        }
    }

    /// # Panics
    /// If a call has not ended, or was reported as not sent although a request arrived.
    pub(super) fn check_end(&self) {
        for (number, call) in self.0.iter().enumerate() {
            let end = call.end.as_ref().unwrap_or_else(|| panic!("{number} has not ended: {call:?}"));
            let End::Reported(outcome) = end else { continue };
            let never = match outcome {
                Outcome::TimedOut { sent } | Outcome::Disconnected { sent, .. } => !*sent,
                Outcome::TooLarge { .. } | Outcome::NeedsDialect2 => true,
                _ => false,
            };
            assert!(
                !never || !call.reached,
                "{number} was reported as not sent, and requested later: {call:?}"
            );
            if let Outcome::Error(info) = outcome
                && Refusal::of(info).is_some_and(|refusal| !refusal.may_have_run())
            {
                assert!(!call.started, "{number} was refused, and started: {call:?}");
            }
        }
    }
}

fn check_error(number: usize, call: &Call, info: &ErrorInfo) -> bool {
    let Some(refusal) = Refusal::of(info) else {
        assert_eq!(call.answer, Some(Answer::Error(ERROR)), "{number}: {info:?}");
        return true;
    };
    assert!(refusal.may_have_run() || !call.started, "{number}: {info:?}, and it started: {call:?}");
    match call.answer {
        Some(Answer::Error(name)) => {
            assert_eq!(name, refusal.name(), "{number}: {call:?}");
            // Busy is sent at once, out of order.
            name != Refusal::Busy.name()
        }
        None => {
            let by_itself = matches!(
                refusal,
                Refusal::Busy | Refusal::ShuttingDown | Refusal::BodyTooLarge | Refusal::MalformedBody
            );
            assert!(by_itself && !call.reached, "{number}: {info:?}, {call:?}");
            false
        }
        // The peer's limit is known only after the handshake, and a reply may be made before it.
        Some(_) if refusal == Refusal::ReplyTooLarge => true,
        _ => panic!("{number}: {info:?} instead of {:?}", call.answer),
    }
}
