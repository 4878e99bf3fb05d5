//! Decides which stream sends the next DATA.
//!
//! Within a priority class, streams share by self-clocked fair queueing (Golestani 1994): each quantum has a
//! virtual finish time, `max(bytes this stream has sent, virtual time of the class) + length of the quantum`,
//! and the earliest finish goes first. Example: a body with a quantum of 1 MiB and a stream that writes 10
//! KiB at a time start together. The finish times are 1,024 KiB for the body and 10, 20, 30 … KiB for the
//! stream. So the stream sends 10 KiB at once, without waiting for the body; in the long run, each gets half.
//!
//! A stream has quanta of one DATA (up to 64 KiB). A body, all of which is available, has quanta of 1 MiB: a
//! receiver can't use half of a body, and many bodies that arrive in parallel hold memory and delay each
//! other.

use std::collections::BTreeMap;

use crate::Urgency;
use crate::ids::StreamId;
use crate::stream::{Order, SendHalf};
use crate::wire::RECORD_COST;

/// The quantum of a body, in bytes.
const BODY_QUANTUM: u64 = 1024 * 1024;

/// One DATA in 8 goes to a less urgent class than the most urgent one with something to send.
const STARVED_AFTER: u32 = 8;

/// The streams of a connection that have something to send and credit for it.
#[derive(Debug, Default)]
pub(crate) struct StreamQueue {
    classes: [Class; Urgency::CLASSES],
    /// Queued streams in all classes.
    waiting: usize,
    next_place: u64,
    picks: u32,
    /// The less urgent class that was last served, for round robin.
    last_relieved: usize,
}

#[derive(Debug, Default)]
struct Class {
    waiting: BTreeMap<Order, StreamId>,
    /// Virtual time: the highest `served` of any stream that has sent in this class.
    time: u64,
}

impl Class {
    fn put(&mut self, id: StreamId, send: &mut SendHalf, order: Order) {
        send.order = Some(order);
        self.waiting.insert(order, id);
    }
}

impl StreamQueue {
    /// Starts a quantum of a stream, if it is not queued and has something to send.
    pub(crate) fn enqueue(&mut self, id: StreamId, urgency: Urgency, send: &mut SendHalf) {
        if send.order.is_some() || !send.is_ready() {
            return;
        }
        let class = &mut self.classes[class_of(urgency)];
        let length = match send.fixed_length {
            true => (send.queued() as u64).min(BODY_QUANTUM),
            false => send.next_len() as u64,
        };
        // A quantum that credit limits is a short one, so its finish is early.
        let length = length.min(send.credit_left());
        // A stream that was idle starts at the time of its class: it has saved up nothing.
        send.served = send.served.max(class.time);
        // Of equal finish times, the first to be queued goes first. It also makes each order unique.
        self.next_place += 1;
        self.waiting += 1;
        class.put(id, send, (send.served + RECORD_COST + length, self.next_place));
    }

    /// Takes the stream that sends next. The caller must clear its `order`.
    pub(crate) fn pop(&mut self) -> Option<(StreamId, Order)> {
        let mut filled = (0..Urgency::CLASSES).filter(|class| !self.classes[*class].waiting.is_empty());
        let mut class = filled.next()?;
        self.picks = self.picks.wrapping_add(1);
        if self.picks.is_multiple_of(STARVED_AFTER) {
            // Round robin over the less urgent classes.
            let mut others = filled.clone();
            let next = others.find(|other| *other > self.last_relieved).or_else(|| filled.next());
            class = next.unwrap_or(class);
            self.last_relieved = class;
        }
        self.waiting -= 1;
        self.classes[class].waiting.pop_first().map(|(order, id)| (id, order))
    }

    /// Counts a DATA, and queues the stream again if it has more to send: in the same quantum until that is
    /// used up.
    pub(crate) fn sent(
        &mut self,
        id: StreamId,
        urgency: Urgency,
        send: &mut SendHalf,
        cost: u64,
        order: Order,
    ) {
        let class = &mut self.classes[class_of(urgency)];
        send.served += cost;
        // Self-clocked: the time follows the streams that send, whatever the throughput is.
        class.time = class.time.max(send.served);
        match send.fixed_length && send.served < order.0 {
            // The rest of a quantum keeps its place, so that a body is not interleaved with its equals.
            true => self.requeue(id, urgency, send, order),
            false => self.enqueue(id, urgency, send),
        }
    }

    /// Puts a stream back in its place, if it has something to send.
    pub(crate) fn requeue(&mut self, id: StreamId, urgency: Urgency, send: &mut SendHalf, order: Order) {
        if send.is_ready() {
            self.waiting += 1;
            self.classes[class_of(urgency)].put(id, send, order);
        }
    }

    pub(crate) fn remove(&mut self, urgency: Urgency, send: &SendHalf) {
        if let Some(order) = send.order {
            self.classes[class_of(urgency)].waiting.remove(&order);
            self.waiting -= 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(crate) fn clear(&mut self) {
        (self.classes, self.waiting) = Default::default();
    }

    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn len(&self) -> usize {
        self.classes.iter().map(|class| class.waiting.len()).sum()
    }
}

fn class_of(urgency: Urgency) -> usize {
    usize::from(urgency.get())
}
