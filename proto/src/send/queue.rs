//! Control messages, calls and replies that wait to be sent, and how many bytes that is.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::ids::CallId;
use crate::kept::free_if_empty;
use crate::queue::Queue;
use crate::wire::{Failure, Number, Record};
use crate::{Metadata, Multipart, OrderingKey, Text, Urgency};

/// What a queued message counts for besides its variable parts, in bytes.
pub(crate) const MESSAGE_OVERHEAD: usize = 256;

/// Most bytes of answers that the peer caused without a handler having run (PROTOCOL.md, K-4).
const MAX_UNSOLICITED: usize = 4 * 1024 * 1024;

/// A message that waits. It is encoded when it leaves, in the dialect that is known by then.
#[derive(Debug)]
pub(crate) enum Queued {
    Call(QueuedCall),
    Reply(QueuedReply),
}

#[derive(Debug)]
pub(crate) struct QueuedCall {
    pub(crate) call: CallId,
    pub(crate) method: Text,
    pub(crate) key: OrderingKey,
    pub(crate) body: Bytes,
    pub(crate) metadata: Metadata,
    /// Whether more of the argument follows `body`.
    pub(crate) is_stream: bool,
    pub(crate) compress: bool,
}

#[derive(Debug)]
pub(crate) struct QueuedReply {
    pub(crate) number: Number,
    pub(crate) key: OrderingKey,
    /// Bytes of what names the call on the wire.
    pub(crate) names: usize,
    pub(crate) body: ReplyBody,
    pub(crate) metadata: Metadata,
    /// The peer caused it without a handler having run.
    pub(crate) unsolicited: bool,
}

#[derive(Debug)]
pub(crate) enum ReplyBody {
    Result {
        body: Bytes,
        compress: bool,
    },
    /// The beginning of a result that is a stream; `size` is that of the whole, if it is known.
    Stream {
        size: Option<u64>,
        compress: bool,
    },
    /// Boxed, for it is rare, and three times as large as a result.
    Failure(Box<Failure>),
}

impl QueuedCall {
    fn size(&self) -> usize {
        self.method.as_bytes().len() + self.key.as_bytes().len() + self.metadata.size() + self.body.len()
    }
}

impl QueuedReply {
    pub(crate) fn size(&self) -> usize {
        self.names + self.body.size() + self.metadata.size()
    }
}

impl ReplyBody {
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Result { body, .. } => body.len(),
            Self::Stream { .. } => 0,
            Self::Failure(failure) => failure.size(),
        }
    }
}

impl From<Failure> for ReplyBody {
    fn from(failure: Failure) -> Self {
        Self::Failure(Box::new(failure))
    }
}

impl Queued {
    fn body_size(&self) -> usize {
        match self {
            Self::Call(call) => call.body.len(),
            Self::Reply(reply) => reply.body.size(),
        }
    }

    /// Its ordering key, and whether it is a reply.
    fn key(&self) -> (bool, &OrderingKey) {
        match self {
            Self::Call(call) => (false, &call.key),
            Self::Reply(reply) => (true, &reply.key),
        }
    }

    #[inline]
    fn size(&self) -> usize {
        MESSAGE_OVERHEAD
            + match self {
                Self::Call(call) => call.size(),
                Self::Reply(reply) => reply.size(),
            }
    }
}

/// A small message that overtakes calls and replies.
#[derive(Debug)]
pub(crate) enum Control {
    /// The hello, as it is sent.
    Hello(Multipart),
    Pong(Multipart),
    /// The number of a probe.
    Ping(u64),
    Record(Record),
}

/// The place of a queued message, by which it can be taken back: its priority class, then first in, first out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(Urgency, u64);

/// The peer makes this side answer faster than it reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    control: VecDeque<Control>,
    /// The messages of each priority class.
    classes: [Queue<Queued>; Urgency::CLASSES],
    /// The keys of what waits, from when there are messages of two classes until the queue is empty: those of one class don't overtake
    /// each other.
    keyed: Option<Box<Keyed>>,
    next: u64,
    /// A bit for each class, the lowest for the most urgent: whether messages wait there.
    filled: u8,
    bytes: usize,
    /// Bytes of PONGs and of unsolicited replies.
    unsolicited: usize,
}

/// Calls, and then replies, with the same key keep their order. Trees, for peers choose the keys of replies.
type Keyed = [BTreeMap<OrderingKey, KeyOrder>; 2];

#[derive(Clone, Copy, Debug)]
struct KeyOrder {
    count: usize,
    /// The least urgency among them; later ones are not more urgent.
    least: Urgency,
}

/// Counts the key of a message that is to leave with this urgency; the urgency that it may leave with.
fn count_in(keyed: &mut Keyed, queued: &Queued, urgency: Urgency) -> Urgency {
    let (is_reply, key) = queued.key();
    if !key.is_given() {
        return urgency;
    }
    let start = KeyOrder { count: 0, least: urgency };
    let order = keyed[usize::from(is_reply)].entry(key.clone()).or_insert(start);
    order.count += 1;
    order.least = order.least.max(urgency);
    order.least
}

impl SendQueue {
    /// Queues a message. It does not overtake an earlier one of its kind with the same key.
    pub(crate) fn push(&mut self, queued: Queued, urgency: Urgency) -> Place {
        if self.keyed.is_none() && self.filled & !(1 << urgency.get()) != 0 {
            let mut keyed = Box::<Keyed>::default();
            for (Place(urgency, _), queued) in self.iter() {
                count_in(&mut keyed, queued, urgency);
            }
            self.keyed = Some(keyed);
        }
        let urgency = self.keyed.as_mut().map_or(urgency, |keyed| count_in(keyed, &queued, urgency));
        let place = Place(urgency, self.next);
        self.next += 1;
        self.bytes += queued.size();
        self.filled |= 1 << urgency.get();
        self.class(urgency).push(place.1, queued);
        place
    }

    /// Takes back a message that has not left.
    pub(crate) fn remove(&mut self, place: Place) -> Option<Queued> {
        let queued = self.class(place.0).remove(place.1)?;
        self.count_out(&queued, usize::from(place.0.get()));
        Some(queued)
    }

    /// The next message: the most urgent, then the first.
    pub(crate) fn pop(&mut self) -> Option<Queued> {
        let class = self.first_class();
        let queued = self.classes.get_mut(class)?.pop();
        queued.iter().for_each(|queued| self.count_out(queued, class));
        queued
    }

    pub(crate) fn peek(&self) -> Option<&Queued> {
        self.classes.get(self.first_class())?.front().map(|(_, queued)| queued)
    }

    /// The most urgent class with messages; past the last one if there is none.
    fn first_class(&self) -> usize {
        self.filled.trailing_zeros() as usize
    }

    fn class(&mut self, urgency: Urgency) -> &mut Queue<Queued> {
        &mut self.classes[usize::from(urgency.get())]
    }

    /// Counts a message no more.
    fn count_out(&mut self, queued: &Queued, class: usize) {
        if self.classes[class].is_empty() {
            self.filled &= !(1 << class);
        }
        let size = queued.size();
        self.bytes -= size;
        if let Queued::Reply(reply) = queued
            && reply.unsolicited
        {
            self.unsolicited -= size;
        }
        if self.filled == 0 {
            self.keyed = None;
        } else if let Some(keyed) = &mut self.keyed {
            let (is_reply, key) = queued.key();
            let keyed = &mut keyed[usize::from(is_reply)];
            if let Some(order) = keyed.get_mut(key) {
                order.count -= 1;
                if order.count == 0 {
                    keyed.remove(key);
                }
            }
        }
    }

    /// Changes a reply that has not left.
    pub(crate) fn change_reply(&mut self, place: Place, change: impl FnOnce(&mut QueuedReply)) {
        let Some(queued) = self.class(place.0).get_mut(place.1) else { return };
        let before = queued.size();
        if let Queued::Reply(reply) = queued {
            change(reply);
        }
        let after = queued.size();
        self.bytes = self.bytes - before + after;
    }

    /// The places of messages whose content has more than `limit` bytes, in the order in which they would leave.
    pub(crate) fn larger_than(&self, limit: usize) -> Vec<Place> {
        let larger = self.iter().filter(|(_, queued)| queued.body_size() > limit);
        larger.map(|(place, _)| place).collect()
    }

    pub(crate) fn get(&self, place: Place) -> Option<&Queued> {
        self.classes[usize::from(place.0.get())].get(place.1)
    }

    /// All messages, in the order in which they would leave.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, &Queued)> {
        let classes = Urgency::all().zip(&self.classes);
        classes.flat_map(|(urgency, class)| {
            class.iter().map(move |(number, queued)| (Place(urgency, number), queued))
        })
    }

    pub(crate) fn push_control(&mut self, control: Control) {
        self.control.push_back(control);
    }

    /// Queues the answer to a PING. The `first` one completes the handshake, and leaves before all else: a Python connector takes
    /// nothing before it.
    pub(crate) fn push_pong(&mut self, pong: Multipart, first: bool) -> Result<(), Overflow> {
        self.count_unsolicited(MESSAGE_OVERHEAD + pong.size())?;
        match first {
            true => self.control.push_front(Control::Pong(pong)),
            false => self.control.push_back(Control::Pong(pong)),
        }
        Ok(())
    }

    /// Counts bytes that the peer caused without a handler having run, and that are about to be queued.
    pub(crate) fn count_unsolicited(&mut self, bytes: usize) -> Result<(), Overflow> {
        let total = self.unsolicited + bytes;
        if total > MAX_UNSOLICITED {
            return Err(Overflow);
        }
        self.unsolicited = total;
        Ok(())
    }

    /// Takes a probe back, if it has not left.
    pub(crate) fn remove_ping(&mut self, ping: u64) {
        self.control.retain(|control| !matches!(control, Control::Ping(number) if *number == ping));
    }

    /// The next control message; before the handshake is complete, only what belongs to it.
    pub(crate) fn pop_control(&mut self, established: bool) -> Option<Control> {
        let belongs = |control: &Control| matches!(control, Control::Hello(_) | Control::Pong(_));
        let at = self.control.iter().position(|control| established || belongs(control))?;
        let control = self.control.remove(at)?;
        if let Control::Pong(message) = &control {
            self.unsolicited -= MESSAGE_OVERHEAD + message.size();
        }
        Some(control)
    }

    /// Whether the next control message is about a call, so that it may share a packet.
    pub(crate) fn next_is_about_a_call(&self) -> bool {
        matches!(self.control.front(), Some(Control::Record(_)))
    }

    /// The next control message, if it is about a call.
    pub(crate) fn peek_record(&self) -> Option<&Record> {
        match self.control.front() {
            Some(Control::Record(record)) => Some(record),
            _ => None,
        }
    }

    /// Bytes of calls and replies.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn has_messages(&self) -> bool {
        self.filled != 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && !self.has_messages()
    }

    /// Forgets what only matters to the present transport. Returns false, and changes nothing, if a reply waits.
    pub(crate) fn keep_only_calls(&mut self) -> bool {
        let only_calls = self.iter().all(|(_, queued)| matches!(queued, Queued::Call(_)));
        if only_calls {
            self.control.clear();
            self.unsolicited = 0;
        }
        only_calls
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.classes.iter().map(Queue::len).sum()
    }

    /// Gives back the memory that is kept for messages to come.
    pub(crate) fn shrink(&mut self) {
        self.classes.iter_mut().for_each(Queue::shrink);
        free_if_empty(&mut self.control);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }

    /// # Panics
    /// If sums and parts differ. `held` are bytes that the peer caused and that wait elsewhere.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn audit(&self, held: usize) {
        let mut keyed = [BTreeMap::new(), BTreeMap::new()];
        let (mut bytes, mut unsolicited) = (0, held);
        for (_, queued) in self.classes.iter().flat_map(Queue::iter) {
            bytes += queued.size();
            if matches!(queued, Queued::Reply(reply) if reply.unsolicited) {
                unsolicited += queued.size();
            }
            let (is_reply, key) = queued.key();
            if key.is_given() {
                *keyed[usize::from(is_reply)].entry(key).or_insert(0) += 1;
            }
        }
        for control in &self.control {
            if let Control::Pong(message) = control {
                unsolicited += MESSAGE_OVERHEAD + message.size();
            }
        }
        assert_eq!(self.bytes, bytes, "bytes that wait");
        assert_eq!(self.unsolicited, unsolicited, "bytes that the peer caused");
        match &self.keyed {
            None => assert!(self.filled.count_ones() <= 1, "keys are not counted"),
            Some(kept) => {
                for (counted, kept) in keyed.into_iter().zip(&**kept) {
                    assert!(counted.into_iter().eq(kept.iter().map(|(key, order)| (key, order.count))));
                }
            }
        }
        for (class, queue) in self.classes.iter().enumerate() {
            assert_eq!(self.filled & (1 << class) == 0, queue.is_empty(), "class {class}");
        }
    }
}
