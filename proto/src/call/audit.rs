//! What has to hold of the table of calls between any two steps; for the simulation.

use super::table::State;
use super::{Calls, Deadline};
use crate::ids::StreamId;
use crate::send::MESSAGE_OVERHEAD;
use crate::wire;

impl Calls {
    /// # Panics
    /// If sums and parts differ, or something that could go on is in no queue.
    pub(crate) fn audit(&mut self) {
        let (mut bodies, mut held, mut growth, mut queued) = (0, 0, 0, 0);
        let (mut open_calls, mut open_requests, mut requests) = (0, 0, 0);
        for (id, call) in &mut self.table {
            open_calls += usize::from(call.has_left().is_some());
            requests += usize::from(matches!(id, StreamId::Request(_)));
            open_requests += usize::from(matches!(call.state, State::Request(_)));
            if let Some(half) = call.receiver() {
                held += half.held_cost();
                growth += half.growth();
            }
            if let Some(half) = call.sender() {
                bodies += if half.fixed_length { half.queued() } else { 0 };
                queued += usize::from(half.order.is_some());
                assert!(half.order.is_some() || !half.is_ready(), "{id:?} could send and is not queued: {half:?}");
            }
            if let (StreamId::Call(ours), State::Sent { number, .. }) = (id, &call.state)
                && !wire::is_dialect_1(*number)
            {
                assert_eq!(self.ours.get(number), Some(ours));
            }
        }
        assert_eq!((self.open_calls, self.open_requests, self.requests), (open_calls, open_requests, requests));
        assert_eq!(self.body_bytes, bodies, "bytes of bodies");
        assert_eq!(self.streams.len(), queued, "streams that can send");
        self.flow.audit(held, growth);
        self.audit_replies();
        self.audit_deadlines();
    }

    fn audit_replies(&self) {
        let (mut bytes, mut unsolicited) = (0, 0);
        for (reply, _) in self.gate.waiting() {
            let size = MESSAGE_OVERHEAD + reply.size();
            bytes += size;
            unsolicited += if reply.unsolicited { size } else { 0 };
        }
        assert_eq!(self.gate_bytes, bytes, "bytes that wait at the gate");
        self.queue.audit(unsolicited);
    }

    fn audit_deadlines(&self) {
        for deadline in self.deadlines.iter() {
            let id = match deadline {
                Deadline::Call(call) => call.into(),
                Deadline::Execution(request) => request.into(),
                Deadline::Reassembly(stream) => stream,
            };
            assert!(self.table.contains_key(&id), "{deadline:?} is left behind");
        }
    }

    /// # Panics
    /// If anything is left though all is done.
    pub(crate) fn audit_idle(&self) {
        assert!(self.table.is_empty() && self.ours.is_empty(), "{:?}", self.table);
        assert!(self.queue.is_empty() && self.streams.is_empty() && self.gate.is_empty());
        assert!(self.credits.is_empty() && self.deadlines.next().is_none());
        assert!(self.codec.is_idle(), "a name is left behind");
        assert_eq!(self.queued_bytes(), 0);
    }
}
