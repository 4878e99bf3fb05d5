//! The reference model: what was promised of each call, and what came of it.

use std::time::Instant;

use bytes::Bytes;

use super::content::{self, Way};
use crate::session::{Acknowledged, Outcome, Refusal};
use crate::{ErrorInfo, Metadata, OrderingKey, Urgency};

/// Every call that was accepted, by number; the number is its method.
#[derive(Default)]
pub(super) struct Book(pub(super) Vec<Call>);

#[derive(Debug)]
pub(super) struct Call {
    pub(super) key: OrderingKey,
    pub(super) urgency: Urgency,
    pub(super) deadline: Option<Instant>,
    pub(super) metadata: Metadata,
    pub(super) streamed: bool,
    pub(super) argument: Content,
    pub(super) result: Content,
    /// A request of it has come out.
    pub(super) reached: bool,
    pub(super) started: bool,
    /// Its result has begun to come out.
    pub(super) responded: bool,
    pub(super) said: Option<Said>,
    pub(super) end: Option<End>,
}

/// What is known of a content.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) written: u64,
    /// Where items end.
    pub(super) items: Vec<u64>,
    pub(super) finished: bool,
    pub(super) aborted: bool,
    /// What its reader has taken.
    pub(super) read: u64,
    /// It is put together, out of sight.
    pub(super) collected: bool,
}

/// What a responder answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Result,
    Failure,
    Error(&'static str),
    Cancelled,
}

#[derive(Clone, Debug)]
pub(super) enum End {
    Abandoned,
    Told(Outcome),
}

/// Names of errors that handlers return.
pub(super) const FAILURE: &str = "F";
pub(super) const ERROR: &str = "E";

impl Content {
    /// All of it is given at once.
    pub(super) fn whole(len: usize) -> Self {
        Self { written: len as u64, items: vec![len as u64], finished: true, ..Self::default() }
    }
}

impl Call {
    pub(super) fn content(&mut self, way: Way) -> &mut Content {
        match way {
            Way::Argument => &mut self.argument,
            Way::Result => &mut self.result,
        }
    }

    /// Whether it still waits for an outcome.
    pub(super) fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// Whether the requester has let go of it without an answer.
    fn is_given_up(&self) -> bool {
        match &self.end {
            Some(End::Abandoned) => true,
            Some(End::Told(outcome)) => !matches!(
                outcome,
                Outcome::Result(_) | Outcome::Failure(_) | Outcome::Cancelled | Outcome::Complete
            ),
            None => false,
        }
    }
}

impl Book {
    /// # Panics
    /// If the call is of no interest to anybody, or was cancelled though somebody waits for it.
    pub(super) fn cancelled(&self, number: usize) {
        assert!(self.0[number].is_given_up(), "nobody cancelled {number}: {:?}", self.0[number]);
    }

    pub(super) fn first_open(&self) -> Option<(usize, &Call)> {
        self.0.iter().enumerate().find(|(_, call)| call.is_open())
    }

    /// # Panics
    /// If a content reads otherwise than it was written.
    pub(super) fn whole_came(&mut self, number: usize, way: Way, got: &Bytes) {
        let content = self.0[number].content(way);
        assert!(content.finished && !content.aborted, "{number}: {way:?} is not complete");
        assert_eq!(got.len() as u64, content.written, "{number}: bytes of its {way:?}");
        content.read = content.written;
        content::check(number, way, 0, got);
    }

    /// # Panics
    /// If the writer is told more than is true.
    pub(super) fn acknowledged(&mut self, number: usize, way: Way, told: Acknowledged) {
        let content = self.0[number].content(way);
        assert_eq!(told.written, content.written, "{number}: {way:?}");
        let read = if content.collected { content.written } else { content.read };
        assert!(told.consumed <= read, "{number}: {told:?}, and {read} was read");
    }

    /// A call has ended; whether what was said had to wait for its turn.
    ///
    /// # Panics
    /// If that is not how it went, or it had ended.
    pub(super) fn ended(&mut self, number: usize, outcome: &Outcome) -> bool {
        let call = &mut self.0[number];
        assert!(call.is_open(), "{number} ends again, as {outcome:?}: {call:?}");
        call.end = Some(End::Told(outcome.clone()));
        match outcome {
            Outcome::TimedOut { sent } | Outcome::Disconnected { sent, .. } => {
                assert!(*sent || !call.reached, "{number} was not sent, and came out: {call:?}");
                false
            }
            Outcome::Result(body) => {
                assert!(!call.responded && call.said == Some(Said::Result), "{number}: {call:?}");
                self.whole_came(number, Way::Result, body);
                true
            }
            Outcome::Complete => {
                assert!(call.responded && call.result.finished, "{number} is not complete: {call:?}");
                // Its result was in its turn when it began; the rest of its argument may have taken longer.
                false
            }
            Outcome::Failure(info) => {
                assert!(call.said == Some(Said::Failure) && info.name.as_str() == FAILURE, "{call:?}");
                true
            }
            Outcome::Error(info) => error_came(number, call, info),
            Outcome::Cancelled => {
                assert_eq!(call.said, Some(Said::Cancelled), "{number}");
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
            // What is put together has a limit, and a time.
            Outcome::Malformed(crate::wire::DecodeError::TooLarge { .. }) => {
                assert!(call.responded, "{number}: {call:?}");
                false
            }
            Outcome::Malformed(_) | Outcome::Fault(_) => panic!("{number}: {outcome:?} between honest peers"),
        }
    }

    /// # Panics
    /// If a call has not ended, or was said not to have been sent and came out later.
    pub(super) fn check_end(&self) {
        for (number, call) in self.0.iter().enumerate() {
            let end = call.end.as_ref().unwrap_or_else(|| panic!("{number} has not ended: {call:?}"));
            let End::Told(outcome) = end else { continue };
            let never = match outcome {
                Outcome::TimedOut { sent } | Outcome::Disconnected { sent, .. } => !*sent,
                Outcome::TooLarge { .. } | Outcome::NeedsDialect2 => true,
                _ => false,
            };
            assert!(!never || !call.reached, "{number} came out after all: {call:?}");
            if let Outcome::Error(info) = outcome
                && Refusal::of(info).is_some_and(|refusal| !refusal.may_have_run())
            {
                assert!(!call.started, "{number} was refused, and started: {call:?}");
            }
        }
    }
}

fn error_came(number: usize, call: &Call, info: &ErrorInfo) -> bool {
    let Some(refusal) = Refusal::of(info) else {
        assert_eq!(call.said, Some(Said::Error(ERROR)), "{number}: {info:?}");
        return true;
    };
    assert!(refusal.may_have_run() || !call.started, "{number}: {info:?}, and it started: {call:?}");
    match call.said {
        Some(Said::Error(name)) => {
            assert_eq!(name, refusal.name(), "{number}: {call:?}");
            // Who finds no place is told so at once.
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
        // What the peer takes is known only after the handshake, which some answers come before.
        Some(_) if refusal == Refusal::ReplyTooLarge => true,
        _ => panic!("{number}: {info:?} instead of {:?}", call.said),
    }
}
