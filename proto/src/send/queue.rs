//! The send queue: control messages, calls and replies that wait to be sent, and the sum of their bytes.
//!
//! Messages are queued in order of arrival per priority class, and are encoded when they are sent. Not
//! responsible for limits on the sum, except that on unsolicited answers (K-4).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::ids::CallId;
use crate::kept::free_if_empty;
use crate::queue::Queue;
use crate::wire::{Failure, Number, Record};
use crate::{Metadata, Multipart, OrderingKey, Text, Urgency};

/// What a queued message counts for in addition to its variable parts, in bytes.
pub(crate) const MESSAGE_OVERHEAD: usize = 256;

/// Limit on unsolicited answers, that is, answers that needed no handler, in bytes (PROTOCOL.md, K-4).
const MAX_UNSOLICITED: usize = 4 * 1024 * 1024;

/// A queued message. It is encoded when it is sent, since the dialect may not be known before.
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
    /// Bytes of the names that the answer echoes on the wire.
    pub(crate) names: usize,
    pub(crate) body: ReplyBody,
    pub(crate) metadata: Metadata,
    /// Whether it counts against [`MAX_UNSOLICITED`].
    pub(crate) unsolicited: bool,
}

#[derive(Debug)]
pub(crate) enum ReplyBody {
    Result {
        body: Bytes,
        compress: bool,
    },
    /// The beginning of a streamed result; `size` is that of the whole stream in bytes, if known.
    Stream {
        size: Option<u64>,
        compress: bool,
    },
    /// Boxed, because it is rare, and three times as large as a result.
    Failure(Box<Failure>),
}

impl QueuedCall {
    /// What it counts for, in bytes.
    fn size(&self) -> usize {
        let names = self.method.as_bytes().len() + self.key.as_bytes().len();
        MESSAGE_OVERHEAD + names + self.metadata.size() + self.body.len()
    }
}

impl QueuedReply {
    /// What it counts for, in bytes.
    pub(crate) fn size(&self) -> usize {
        MESSAGE_OVERHEAD + self.names + self.body.size() + self.metadata.size()
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

    /// Whether it is a reply, and its ordering key.
    fn key(&self) -> (bool, &OrderingKey) {
        match self {
            Self::Call(call) => (false, &call.key),
            Self::Reply(reply) => (true, &reply.key),
        }
    }

    #[inline]
    fn size(&self) -> usize {
        match self {
            Self::Call(call) => call.size(),
            Self::Reply(reply) => reply.size(),
        }
    }
}

/// A small message that is sent before calls and replies.
#[derive(Debug)]
pub(crate) enum Control {
    /// The PING with our hello.
    Hello(Multipart),
    Pong(Multipart),
    /// The number of a probe.
    Ping(u64),
    Record(Record),
}

/// The place of a queued message, by which it can be changed or removed: its priority class, and its number
/// in order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(Urgency, u64);

/// The peer causes unsolicited answers faster than it reads them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    control: VecDeque<Control>,
    /// The messages of each priority class.
    classes: [Queue<Queued>; Urgency::CLASSES],
    /// The keys of queued messages. Only kept from when two classes have messages until the queue is empty:
    /// within one class, messages can't overtake each other.
    keyed: Option<Box<Keyed>>,
    next: u64,
    /// A bit for each class with messages; the lowest bit is the most urgent class.
    filled: u8,
    bytes: usize,
    /// Bytes of PONGs and of unsolicited replies.
    unsolicited: usize,
}

/// The keys of calls, and those of replies. Trees, because peers choose the keys of replies.
type Keyed = [BTreeMap<OrderingKey, Counts>; 2];

/// The messages with one key in each class. Later ones must not be more urgent than any of them.
#[derive(Clone, Copy, Debug, Default)]
struct Counts([u32; Urgency::CLASSES]);

impl Counts {
    /// The least urgent class of any message.
    fn least(&self) -> Option<Urgency> {
        Urgency::all().zip(self.0).filter(|(_, count)| *count > 0).last().map(|(urgency, _)| urgency)
    }
}

/// Counts the key of a message with this urgency. Returns the most urgent class that keeps its order.
fn count_in(keyed: &mut Keyed, queued: &Queued, urgency: Urgency) -> Urgency {
    let (is_reply, key) = queued.key();
    if !key.is_given() {
        return urgency;
    }
    let order = keyed[usize::from(is_reply)].entry(key.clone()).or_default();
    let urgency = order.least().map_or(urgency, |least| least.max(urgency));
    order.0[usize::from(urgency.get())] += 1;
    urgency
}

impl SendQueue {
    /// Queues a message. A call does not overtake an earlier call with the same key, nor a reply a reply
    /// (X-4, O-17).
    pub(crate) fn push(&mut self, queued: Queued, urgency: Urgency) -> Place {
        // Messages can only overtake each other once two classes have some, so keys are not counted before.
        if self.keyed.is_none() && self.filled & !(1 << urgency.get()) != 0 {
            // O(n), but amortized: the queue has been empty since this was done last, so each message is
            // counted here at most once.
            let mut keyed = Box::<Keyed>::default();
            for (Place(urgency, _), queued) in self.iter() {
                count_in(&mut keyed, queued, urgency);
            }
            self.keyed = Some(keyed);
        }
        // not more urgent than an earlier message with this key, so that it can't overtake it.
        let urgency = self.keyed.as_mut().map_or(urgency, |keyed| count_in(keyed, &queued, urgency));
        // One counter for all classes: no place is given out twice, so a stale one finds nothing.
        let place = Place(urgency, self.next);
        self.next += 1;
        self.bytes += queued.size();
        self.filled |= 1 << urgency.get();
        self.class(urgency).push(place.1, queued);
        place
    }

    /// Removes a queued message.
    pub(crate) fn remove(&mut self, place: Place) -> Option<Queued> {
        let queued = self.class(place.0).remove(place.1)?;
        self.count_out(&queued, usize::from(place.0.get()));
        Some(queued)
    }

    /// Takes the next message: the first of the most urgent class.
    pub(crate) fn pop(&mut self) -> Option<Queued> {
        let class = self.first_class();
        let queued = self.classes.get_mut(class)?.pop();
        queued.iter().for_each(|queued| self.count_out(queued, class));
        queued
    }

    pub(crate) fn peek(&self) -> Option<&Queued> {
        self.classes.get(self.first_class())?.front().map(|(_, queued)| queued)
    }

    /// The most urgent class with messages; out of range if there are none.
    fn first_class(&self) -> usize {
        self.filled.trailing_zeros() as usize
    }

    fn class(&mut self, urgency: Urgency) -> &mut Queue<Queued> {
        &mut self.classes[usize::from(urgency.get())]
    }

    /// Updates counters for a message that was taken out.
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
            // The next messages may all be of one class again, and need no keys.
            self.keyed = None;
        } else if let Some(keyed) = &mut self.keyed {
            let (is_reply, key) = queued.key();
            let keyed = &mut keyed[usize::from(is_reply)];
            if let Some(order) = keyed.get_mut(key) {
                order.0[class] -= 1;
                if order.least().is_none() {
                    keyed.remove(key);
                }
            }
        }
    }

    /// Changes a queued reply.
    pub(crate) fn change_reply(&mut self, place: Place, change: impl FnOnce(&mut QueuedReply)) {
        let Some(queued) = self.class(place.0).get_mut(place.1) else { return };
        let before = queued.size();
        if let Queued::Reply(reply) = queued {
            change(reply);
        }
        // `unsolicited` stays: no reply that counts there is changed, and a new one was counted before.
        let after = queued.size();
        self.bytes = self.bytes - before + after;
    }

    /// The places of messages whose bodies have more than `limit` bytes, in the order in which they would be
    /// sent.
    pub(crate) fn larger_than(&self, limit: usize) -> Vec<Place> {
        let larger = self.iter().filter(|(_, queued)| queued.body_size() > limit);
        larger.map(|(place, _)| place).collect()
    }

    pub(crate) fn get(&self, place: Place) -> Option<&Queued> {
        self.classes[usize::from(place.0.get())].get(place.1)
    }

    /// All messages, in the order in which they would be sent.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, &Queued)> {
        let classes = Urgency::all().zip(&self.classes);
        classes.flat_map(|(urgency, class)| {
            class.iter().map(move |(number, queued)| (Place(urgency, number), queued))
        })
    }

    pub(crate) fn push_control(&mut self, control: Control) {
        self.control.push_back(control);
    }

    /// Queues the answer to a PING. The `first` one completes the handshake, and is sent before everything
    /// else: a Python connector takes the first message as the answer (H-5, P-1).
    pub(crate) fn push_pong(&mut self, pong: Multipart, first: bool) -> Result<(), Overflow> {
        self.count_unsolicited(MESSAGE_OVERHEAD + pong.size())?;
        match first {
            // H-5: even before control messages that were queued earlier.
            true => self.control.push_front(Control::Pong(pong)),
            false => self.control.push_back(Control::Pong(pong)),
        }
        Ok(())
    }

    /// Counts bytes of an unsolicited answer that is about to be queued.
    pub(crate) fn count_unsolicited(&mut self, bytes: usize) -> Result<(), Overflow> {
        let total = self.unsolicited + bytes;
        if total > MAX_UNSOLICITED {
            return Err(Overflow);
        }
        self.unsolicited = total;
        Ok(())
    }

    /// Removes a probe from the queue.
    pub(crate) fn remove_ping(&mut self, ping: u64) {
        // Linear in the control queue, of up to 16,000 PONGs if the peer does not read. But no message of the
        // peer leads here, and a keepalive at most once in its interval: the host forgets a probe that has
        // not been sent, or asks for one more than 64.
        self.control.retain(|control| !matches!(control, Control::Ping(number) if *number == ping));
    }

    /// Takes the next control message; before the handshake is complete, only one of the handshake.
    pub(crate) fn pop_control(&mut self, established: bool) -> Option<Control> {
        let belongs = |control: &Control| matches!(control, Control::Hello(_) | Control::Pong(_));
        // H-10: probes and records stay in the queue until the handshake is complete. Afterwards, this is
        // the first one; until then, it is behind at most 64 probes, because there are no records yet.
        let at = self.control.iter().position(|control| established || belongs(control))?;
        let control = self.control.remove(at)?;
        if let Control::Pong(message) = &control {
            self.unsolicited -= MESSAGE_OVERHEAD + message.size();
        }
        Some(control)
    }

    /// Whether the next control message is a record, which can share a packet with others.
    pub(crate) fn next_is_about_a_call(&self) -> bool {
        matches!(self.control.front(), Some(Control::Record(_)))
    }

    /// Whether the next control message is none of the records that share a packet.
    pub(crate) fn next_is_alone(&self) -> bool {
        matches!(self.control.front(), Some(Control::Hello(_) | Control::Pong(_) | Control::Ping(_)))
    }

    /// The next control message, if it is a record.
    pub(crate) fn peek_record(&self) -> Option<&Record> {
        match self.control.front() {
            Some(Control::Record(record)) => Some(record),
            _ => None,
        }
    }

    /// Bytes of queued calls and replies.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn has_messages(&self) -> bool {
        self.filled != 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && !self.has_messages()
    }

    /// Drops control messages, which concern only the current transport. Returns false, and changes nothing,
    /// if a reply waits.
    pub(crate) fn keep_only_calls(&mut self) -> bool {
        let only_calls = self.iter().all(|(_, queued)| matches!(queued, Queued::Call(_)));
        if only_calls {
            self.control.clear();
            // These were PONGs: no reply waits.
            self.unsolicited = 0;
        }
        only_calls
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.classes.iter().map(Queue::len).sum()
    }

    /// Frees memory that is kept for future messages.
    pub(crate) fn shrink(&mut self) {
        self.classes.iter_mut().for_each(Queue::shrink);
        free_if_empty(&mut self.control);
    }

    pub(crate) fn clear(&mut self) {
        // `next` goes on, so that the places of dropped messages stay unknown.
        *self = Self { next: self.next, ..Self::default() };
    }

    /// # Panics
    /// If a sum differs from its parts. `held` is bytes of unsolicited answers that wait elsewhere.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn audit(&self, held: usize) {
        let mut keyed = [BTreeMap::new(), BTreeMap::new()];
        let (mut bytes, mut unsolicited) = (0, held);
        for (Place(urgency, _), queued) in self.iter() {
            bytes += queued.size();
            if matches!(queued, Queued::Reply(reply) if reply.unsolicited) {
                unsolicited += queued.size();
            }
            let (is_reply, key) = queued.key();
            if key.is_given() {
                let order = keyed[usize::from(is_reply)].entry(key).or_insert_with(Counts::default);
                order.0[usize::from(urgency.get())] += 1;
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
                    let counted = counted.into_iter().map(|(key, order)| (key, order.0));
                    assert!(counted.eq(kept.iter().map(|(key, order)| (key, order.0))), "keys");
                }
            }
        }
        for (class, queue) in self.classes.iter().enumerate() {
            assert_eq!(self.filled & (1 << class) == 0, queue.is_empty(), "class {class}");
        }
    }
}
