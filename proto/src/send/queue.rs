//! Control messages, calls and replies that wait to be sent, and how many bytes that is.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::ids::CallId;
use crate::queue::Queue;
use crate::wire::{Failure, Number, Record};
use crate::{Metadata, Multipart, OrderingKey, Urgency};

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

/// The table of calls has method, key and metadata; `names` is their size.
#[derive(Debug)]
pub(crate) struct QueuedCall {
    pub(crate) call: CallId,
    pub(crate) names: usize,
    pub(crate) body: Bytes,
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

    fn size(&self) -> usize {
        MESSAGE_OVERHEAD
            + match self {
                Self::Call(call) => call.names + call.body.len(),
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
    classes: [Queue<Entry>; Urgency::CLASSES],
    keyed: BTreeMap<Keyed, KeyOrder>,
    next: u64,
    bytes: usize,
    /// Bytes of PONGs and of unsolicited replies.
    unsolicited: usize,
}

#[derive(Debug)]
struct Entry {
    queued: Queued,
    keyed: Option<Keyed>,
}

/// Calls (false) or replies (true) with this key keep their order. A tree: peers choose the keys of replies, and could choose
/// such as collide in a hash table.
type Keyed = (bool, OrderingKey);

#[derive(Clone, Copy, Debug)]
struct KeyOrder {
    count: usize,
    /// The least urgency among them; later ones are not more urgent.
    least: Urgency,
}

impl SendQueue {
    /// Queues a message. It does not overtake an earlier one of its kind with the same key.
    pub(crate) fn push(&mut self, queued: Queued, key: &OrderingKey, urgency: Urgency) -> Place {
        let keyed = key.is_given().then(|| (matches!(queued, Queued::Reply(_)), key.clone()));
        let urgency = match &keyed {
            None => urgency,
            Some(keyed) => {
                let start = KeyOrder { count: 0, least: urgency };
                let order = self.keyed.entry(keyed.clone()).or_insert(start);
                order.count += 1;
                order.least = order.least.max(urgency);
                order.least
            }
        };
        let place = Place(urgency, self.next);
        self.next += 1;
        self.bytes += queued.size();
        self.class(place.0).push(place.1, Entry { queued, keyed });
        place
    }

    /// Takes back a message that has not left.
    pub(crate) fn remove(&mut self, place: Place) -> Option<Queued> {
        let entry = self.class(place.0).remove(place.1)?;
        Some(self.taken(entry))
    }

    /// The next message: the most urgent, then the first.
    pub(crate) fn pop(&mut self) -> Option<Queued> {
        let (_, entry) = self.classes.iter_mut().find_map(Queue::pop)?;
        Some(self.taken(entry))
    }

    pub(crate) fn peek(&self) -> Option<&Queued> {
        self.classes.iter().find_map(Queue::front).map(|(_, entry)| &entry.queued)
    }

    fn class(&mut self, urgency: Urgency) -> &mut Queue<Entry> {
        &mut self.classes[usize::from(urgency.get())]
    }

    /// Counts a message no more.
    fn taken(&mut self, entry: Entry) -> Queued {
        let Entry { queued, keyed } = entry;
        self.bytes -= queued.size();
        if let Queued::Reply(reply) = &queued
            && reply.unsolicited
        {
            self.unsolicited -= queued.size();
        }
        if let Some(keyed) = keyed
            && let Some(order) = self.keyed.get_mut(&keyed)
        {
            order.count -= 1;
            if order.count == 0 {
                self.keyed.remove(&keyed);
            }
        }
        queued
    }

    /// Changes a reply that has not left.
    pub(crate) fn change_reply(&mut self, place: Place, change: impl FnOnce(&mut QueuedReply)) {
        let Some(entry) = self.class(place.0).get_mut(place.1) else { return };
        let before = entry.queued.size();
        if let Queued::Reply(reply) = &mut entry.queued {
            change(reply);
        }
        let after = entry.queued.size();
        self.bytes = self.bytes - before + after;
    }

    /// The places of messages whose content has more than `limit` bytes, in the order in which they would leave.
    pub(crate) fn larger_than(&self, limit: usize) -> Vec<Place> {
        let larger = self.iter().filter(|(_, queued)| queued.body_size() > limit);
        larger.map(|(place, _)| place).collect()
    }

    pub(crate) fn get(&self, place: Place) -> Option<&Queued> {
        self.classes[usize::from(place.0.get())].get(place.1).map(|entry| &entry.queued)
    }

    /// All messages, in the order in which they would leave.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, &Queued)> {
        let classes = Urgency::all().zip(&self.classes);
        classes.flat_map(|(urgency, class)| {
            class.iter().map(move |(number, entry)| (Place(urgency, number), &entry.queued))
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
        self.classes.iter().any(|class| !class.is_empty())
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

    pub(crate) fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }

    /// # Panics
    /// If sums and parts differ. `held` are bytes that the peer caused and that wait elsewhere.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn audit(&self, held: usize) {
        let mut keyed = BTreeMap::<&Keyed, usize>::new();
        let (mut bytes, mut unsolicited) = (0, held);
        for (_, entry) in self.classes.iter().flat_map(Queue::iter) {
            bytes += entry.queued.size();
            if matches!(&entry.queued, Queued::Reply(reply) if reply.unsolicited) {
                unsolicited += entry.queued.size();
            }
            if let Some(key) = &entry.keyed {
                *keyed.entry(key).or_default() += 1;
            }
        }
        for control in &self.control {
            if let Control::Pong(message) = control {
                unsolicited += MESSAGE_OVERHEAD + message.size();
            }
        }
        assert_eq!(self.bytes, bytes, "bytes that wait");
        assert_eq!(self.unsolicited, unsolicited, "bytes that the peer caused");
        assert!(keyed.into_iter().eq(self.keyed.iter().map(|(key, order)| (key, order.count))));
    }
}
