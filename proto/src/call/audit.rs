//! The invariants of the calls of a connection, which hold between any two steps; for tests and the
//! simulation.

use std::collections::BTreeSet;

use super::bodies::Bodies;
use super::table::{Beginning, OpenCall, RequestState, Stage, State, Writer};
use super::{Calls, Deadline};
use crate::ids::StreamId;
use crate::send::{Queued, ReplyBody};
use crate::stream::{RecvHalf, SendHalf};
use crate::wire::{self, Number};

impl Calls {
    /// # Panics
    /// If a sum differs from its parts, if anything is retained of an ended call, or if a call that could go
    /// on is stuck.
    pub(crate) fn audit(&self) {
        let at_gate = self.gate.waiting().filter(|(reply, _)| reply.unsolicited);
        self.queue.audit(at_gate.map(|(reply, _)| reply.size()).sum());
        self.audit_sums();
        self.audit_streams();
        self.audit_deadlines();
        self.audit_messages();
        self.audit_gate();
        assert!(self.credits.iter().all(|id| self.table.get(*id).is_some()), "CREDIT for no stream");
    }

    /// # Panics
    /// If anything is left in the tables of an idle connection.
    pub(crate) fn audit_idle(&self) {
        assert!(
            self.table.len() == 0 && self.numbers.iter().next().is_none() && self.credits.is_empty(),
            "calls are left"
        );
        assert!(
            self.queue.is_empty() && self.gate.is_empty() && self.streams.is_empty(),
            "messages are left"
        );
        assert!(self.deadlines.iter().all(|deadline| deadline == Deadline::Spares), "deadlines are left");
        assert_eq!((self.open_calls(), self.open_requests()), (0, 0));
        assert_eq!((&self.bodies, self.gate.bytes()), (&Bodies::default(), 0));
        assert!(self.codec.has_no_names(), "names of dialect 1 are left");
        self.flow.audit(0, 0);
    }

    /// The number of calls and messages that an audit iterates over.
    #[cfg(test)]
    pub(crate) fn audit_size(&self) -> usize {
        self.table.len() + self.queue.len() + self.gate.bytes() / crate::send::MESSAGE_OVERHEAD
    }

    fn audit_sums(&self) {
        let (mut ours, mut unanswered) = (0, 0);
        for (id, call) in self.table.iter() {
            ours += usize::from(call.has_left().is_some());
            unanswered += usize::from(matches!(call.state, State::Request(_)));
            let is_request = matches!(call.state, State::Request(_) | State::Replying { .. });
            assert_eq!(is_request, matches!(id, StreamId::Request(_)), "{id:?}");
            if let (State::Sent { number, .. }, StreamId::Call(call)) = (&call.state, id) {
                assert_eq!(self.numbers.call(*number), Ok(Some(call)), "{id:?} can't be found by its number");
            }
        }
        assert_eq!((self.open_calls(), self.open_requests()), (ours, unanswered));
        let to_start = |call: &OpenCall| matches!(&call.state, State::Request(state) if matches!(state.stage, Stage::Incomplete | Stage::Waiting));
        let waiting = self.table.iter().filter(|(_, call)| to_start(call)).count();
        assert_eq!(self.table.waiting.len(), waiting, "requests that have not started");
        for (number, call) in self.numbers.iter() {
            let open = self.table.get(StreamId::Call(call)).and_then(OpenCall::number);
            assert_eq!(open.map(wire::ordinal), Some(number), "a number is left behind");
        }
    }

    fn audit_streams(&self) {
        let (mut bodies, mut held, mut growth, mut queued) = (Bodies::default(), 0, 0, 0);
        for (id, call) in self.table.iter() {
            if let Some(half) = receiver(call) {
                held += half.held_cost();
                growth += half.growth();
            }
            let Some(half) = sender(call) else { continue };
            *bodies.of(id) += half.body_left();
            queued += usize::from(half.order.is_some());
            assert!(
                half.order.is_some() || !half.is_ready(),
                "{id:?} could send, and is not queued: {call:?}"
            );
        }
        assert_eq!(self.bodies, bodies, "bytes of bodies");
        assert_eq!(self.streams.len(), queued, "streams that can send");
        self.flow.audit(held, growth);
    }

    fn audit_deadlines(&self) {
        for deadline in self.deadlines.iter() {
            let known = match deadline {
                Deadline::Call(call) => {
                    self.table.get(call.into()).is_some_and(|call| call.has_left().is_some())
                }
                Deadline::Caller(request) | Deadline::Execution(request) => {
                    let open = self.table.get(request.into());
                    open.is_some_and(|open| matches!(open.state, State::Request(_)))
                }
                Deadline::Reassembly(id) => {
                    let half = self.table.get(id).and_then(receiver);
                    half.is_some_and(|half| half.is_reassembled() && !half.awaits_memory())
                }
                Deadline::Spares => self.spares.is_timed(),
            };
            assert!(known, "{deadline:?} is left behind");
        }
    }

    /// Every queued message belongs to a call, and every call that waits for a message has one in the queue.
    fn audit_messages(&self) {
        let mut calls = 0;
        for (place, queued) in self.queue.iter() {
            match queued {
                Queued::Call(call) => {
                    calls += 1;
                    let open = self.table.get(StreamId::Call(call.call)).map(|open| &open.state);
                    assert!(
                        matches!(open, Some(State::Queued { place: at, .. }) if *at == place),
                        "{queued:?}"
                    );
                }
                Queued::Reply(reply) if matches!(reply.body, ReplyBody::Stream { .. }) => {
                    let state = self.request_state(reply.number).map(|state| &state.stage);
                    let known = matches!(state, Some(Stage::Streaming(result)) if result.beginning == Beginning::Queued(place));
                    // The handler may have ended since, or the caller may have cancelled the call after that.
                    assert!(known || self.request_state(reply.number).is_none(), "{queued:?}");
                }
                Queued::Reply(_) => {}
            }
        }
        let unsent = self.table.iter().filter(|(_, call)| matches!(call.state, State::Queued { .. })).count();
        assert_eq!(unsent, calls, "calls that have not left");
    }

    /// Every reply at the gate waits for an existing one, and no reply is lost.
    fn audit_gate(&self) {
        self.gate.audit(|(reply, _)| reply.size());
        let queued = self.queue.iter().filter_map(|(_, queued)| match queued {
            Queued::Reply(reply) => Some(reply.number),
            Queued::Call(_) => None,
        });
        let queued: BTreeSet<Number> = queued.collect();
        for (key, number) in self.gate.leaders() {
            let open = self.table.get(StreamId::Request(self.request(number)));
            let leads = open.and_then(OpenCall::leads) == Some((key.clone(), number));
            assert!(leads, "results with {key} wait for {number}, which is gone");
        }
        let at_gate: BTreeSet<Number> = self.gate.waiting().map(|(reply, _)| reply.number).collect();
        for (id, call) in self.table.iter() {
            if let State::Replying { number, body, .. } = &call.state {
                assert!(
                    body.has_started() || queued.contains(number) || at_gate.contains(number),
                    "{id:?} never leaves: {call:?}"
                );
            }
        }
    }

    fn request_state(&self, number: Number) -> Option<&RequestState> {
        match &self.table.get(StreamId::Request(self.request(number)))?.state {
            State::Request(state) => Some(state),
            _ => None,
        }
    }
}

fn sender(call: &OpenCall) -> Option<&SendHalf> {
    let writer = match &call.state {
        State::Queued { argument, .. } | State::Sent { argument, .. } | State::Unread { argument, .. } => {
            argument
        }
        State::Replying { body, .. } => return Some(body),
        State::Request(state) => match &state.stage {
            Stage::Streaming(result) => &result.writer,
            _ => return None,
        },
    };
    match writer {
        Writer::Open(half) => Some(half),
        Writer::Closed | Writer::Stopped => None,
    }
}

fn receiver(call: &OpenCall) -> Option<&RecvHalf> {
    match &call.state {
        State::Sent { result, .. } => result.half(),
        State::Unread { result, .. } => Some(result),
        State::Request(state) => state.argument.as_deref(),
        State::Replying { argument, .. } => argument.as_deref(),
        State::Queued { .. } => None,
    }
}
