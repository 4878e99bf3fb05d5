//! The one queue of outgoing work: what leaves next, and how many bytes wait.

#[cfg(feature = "fuzzing")]
mod audit;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::requests::Name;
use crate::wire::dialect2::Record;
use crate::{CallId, CallName, Metadata, Multipart, OrderingKey, Payload, Urgency};

/// What a queued message counts for besides its variable parts, in bytes.
pub(super) const OVERHEAD: usize = 256;

/// Answers that the peer caused without a handler having run may pile up to this, in bytes.
const MAX_UNSOLICITED: usize = 4 * 1024 * 1024;

/// A message whose turn has not come yet. It is encoded when it leaves, in the dialect known by then.
#[derive(Debug)]
pub(super) enum Entry {
    /// Method, key and metadata are in the table of calls; `names` is their size.
    Call {
        call: CallId,
        names: usize,
        body: Bytes,
        compressed: bool,
    },
    Reply(Answer),
}

/// A reply on its way.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) name: Name,
    pub(super) payload: Payload,
    pub(super) compressed: bool,
    pub(super) metadata: Metadata,
    /// More of the result follows.
    pub(super) streamed: bool,
    /// No handler has seen the request.
    pub(super) refusal: bool,
    /// It waits for no other answer with its key.
    pub(super) out_of_turn: bool,
    /// It ends a result under way, so that it does not wait for its end.
    pub(super) is_end: bool,
}

impl Answer {
    pub(super) fn new(name: Name, payload: Payload) -> Self {
        let (metadata, compressed, streamed) = (Metadata::new(), false, false);
        Self {
            name,
            payload,
            compressed,
            metadata,
            streamed,
            refusal: false,
            out_of_turn: false,
            is_end: false,
        }
    }

    pub(super) fn size(&self) -> usize {
        self.name.size() + self.payload.size() + self.metadata.size()
    }
}

impl Entry {
    fn payload_size(&self) -> usize {
        match self {
            Self::Call { body, .. } => body.len(),
            Self::Reply(answer) => answer.payload.size(),
        }
    }

    fn size(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Call { names, body, .. } => names + body.len(),
                Self::Reply(answer) => answer.size(),
            }
    }
}

/// A small message that overtakes the others.
#[derive(Debug)]
pub(super) enum Control {
    Ready(Multipart),
    Ping(u64),
    /// In dialect 1.
    Cancel(CallName),
    /// In dialect 2.
    Record(Record),
}

/// The place of an entry, by which it can be taken back: its urgency, then its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(Urgency, u64);

/// Calls, or replies, that have the same key and keep their order.
type Line = (bool, OrderingKey);

/// Two lanes: control overtakes; the rest leaves by urgency, and then in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    control: VecDeque<Control>,
    /// Boxed, because a tree moves its values about.
    entries: BTreeMap<Place, Box<Waiting>>,
    /// How many of each line wait, and the least urgency among them, which no later one exceeds.
    lines: BTreeMap<Line, (usize, Urgency)>,
    /// Replies that wait until one of the same key has left as a whole.
    blocked: BTreeMap<OrderingKey, Vec<(Place, Box<Waiting>)>>,
    next: u64,
    bytes: usize,
    /// Bytes of refusals and of PONGs: what a peer can cause without a handler.
    unsolicited: usize,
}

#[derive(Debug)]
struct Waiting {
    entry: Entry,
    line: Option<Line>,
}

/// The peer makes this side answer faster than it reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

impl Outbox {
    /// Adds an entry. One with a key does not overtake earlier ones of its kind and key.
    pub(super) fn push(&mut self, entry: Entry, key: &OrderingKey, urgency: Urgency) -> Place {
        let line = key.is_given().then(|| (matches!(entry, Entry::Reply(_)), key.clone()));
        let urgency = match &line {
            None => urgency,
            Some(line) => {
                let (count, least) = self.lines.entry(line.clone()).or_insert((0, urgency));
                *count += 1;
                *least = (*least).max(urgency);
                *least
            }
        };
        let place = Place(urgency, self.next);
        self.next += 1;
        self.bytes += entry.size();
        self.entries.insert(place, Box::new(Waiting { entry, line }));
        place
    }

    fn unline(&mut self, line: Option<&Line>) {
        if let Some(line) = line
            && let Some((count, _)) = self.lines.get_mut(line)
        {
            *count -= 1;
            if *count == 0 {
                self.lines.remove(line);
            }
        }
    }

    pub(super) fn push_refusal(&mut self, answer: Answer, urgency: Urgency) -> Result<(), Overflow> {
        let answer = self.count_refusal(answer)?;
        let key = answer.name.key().clone();
        self.push(Entry::Reply(answer), &key, urgency);
        Ok(())
    }

    pub(super) fn count_refusal(&mut self, mut answer: Answer) -> Result<Answer, Overflow> {
        answer.refusal = true;
        self.count_unsolicited(OVERHEAD + answer.size())?;
        Ok(answer)
    }

    pub(super) fn push_pong(&mut self, pong: Multipart) -> Result<(), Overflow> {
        self.count_unsolicited(OVERHEAD + pong.size())?;
        self.control.push_back(Control::Ready(pong));
        Ok(())
    }

    /// The PONG that completes the handshake leaves before all else: a Python connector takes nothing before it.
    pub(super) fn push_first_pong(&mut self, pong: Multipart) -> Result<(), Overflow> {
        self.count_unsolicited(OVERHEAD + pong.size())?;
        self.control.push_front(Control::Ready(pong));
        Ok(())
    }

    fn count_unsolicited(&mut self, size: usize) -> Result<(), Overflow> {
        let total = self.unsolicited + size;
        if total > MAX_UNSOLICITED {
            return Err(Overflow);
        }
        self.unsolicited = total;
        Ok(())
    }

    pub(super) fn push_control(&mut self, control: Control) {
        self.control.push_back(control);
    }

    /// Takes an entry back that has not left.
    pub(super) fn remove(&mut self, place: Place) -> Option<Entry> {
        let Waiting { entry, line } = *self.entries.remove(&place)?;
        self.bytes -= entry.size();
        self.unline(line.as_ref());
        Some(entry)
    }

    /// Takes back every entry whose payload has more than `limit` bytes, for [`put_back`](Self::put_back) or for good.
    pub(super) fn take_larger_than(&mut self, limit: usize) -> Vec<(Place, Entry)> {
        let larger: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, waiting)| waiting.entry.payload_size() > limit)
            .map(|(place, _)| *place)
            .collect();
        larger.into_iter().filter_map(|place| Some((place, self.remove(place)?))).collect()
    }

    /// Gives an entry its place again.
    pub(super) fn put_back(&mut self, place: Place, entry: Entry, key: &OrderingKey) {
        let waiting = self.line_up(place, entry, key);
        self.entries.insert(place, waiting);
    }

    /// Counts an entry that was taken out.
    fn line_up(&mut self, place: Place, entry: Entry, key: &OrderingKey) -> Box<Waiting> {
        let line = key.is_given().then(|| (matches!(entry, Entry::Reply(_)), key.clone()));
        if let Some(line) = &line {
            let (count, least) = self.lines.entry(line.clone()).or_insert((0, place.0));
            *count += 1;
            *least = (*least).max(place.0);
        }
        self.bytes += entry.size();
        Box::new(Waiting { entry, line })
    }

    /// Takes a probe back, if it has not left.
    pub(super) fn remove_ping(&mut self, ping: u64) {
        self.control.retain(|control| !matches!(control, Control::Ping(id) if *id == ping));
    }

    /// Before the link is established, only what belongs to the handshake leaves.
    pub(super) fn pop_control(&mut self, established: bool) -> Option<Control> {
        let at =
            self.control.iter().position(|control| established || matches!(control, Control::Ready(_)))?;
        let control = self.control.remove(at)?;
        if let Control::Ready(message) = &control
            && message.frames()[0] == crate::wire::PONG
        {
            self.unsolicited -= OVERHEAD + message.size();
        }
        Some(control)
    }

    /// The next control, if it is a record.
    pub(super) fn pop_record(&mut self) -> Option<Record> {
        match self.control.front() {
            Some(Control::Record(_)) => match self.control.pop_front() {
                Some(Control::Record(record)) => Some(record),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn next_is_record(&self) -> bool {
        matches!(self.control.front(), Some(Control::Record(_)))
    }

    pub(super) fn pop(&mut self) -> Option<(Place, Entry)> {
        let (place, waiting) = self.entries.pop_first()?;
        let Waiting { entry, line } = *waiting;
        self.bytes -= entry.size();
        self.unline(line.as_ref());
        if let Entry::Reply(answer) = &entry
            && answer.refusal
        {
            self.unsolicited -= entry.size();
        }
        Some((place, entry))
    }

    /// Whether the next entry is an answer of dialect 1.
    pub(super) fn next_is_of_dialect_1(&self) -> bool {
        self.entries.first_key_value().is_some_and(|(_, waiting)| {
            matches!(&waiting.entry, Entry::Reply(Answer { name: Name::One(_), .. }))
        })
    }

    /// Sets a reply that was popped aside until [`unblock`](Self::unblock). It counts as before, and those of its key
    /// that come later don't overtake it.
    pub(super) fn block(&mut self, place: Place, answer: Answer) {
        let key = answer.name.key().clone();
        let refusal = answer.refusal;
        let waiting = self.line_up(place, Entry::Reply(answer), &key);
        if refusal {
            self.unsolicited += waiting.entry.size();
        }
        self.blocked.entry(key).or_default().push((place, waiting));
    }

    pub(super) fn unblock(&mut self, key: &OrderingKey) {
        self.entries.extend(self.blocked.remove(key).into_iter().flatten());
    }

    /// Gives a reply the place of another, which is taken back.
    pub(super) fn replace(&mut self, place: Place, answer: Answer) {
        let key = answer.name.key();
        let found = match self.entries.get_mut(&place) {
            Some(found) => Some(found),
            None => self.blocked.get_mut(key).and_then(|waiting| {
                waiting.iter_mut().find(|(other, _)| *other == place).map(|(_, found)| found)
            }),
        };
        if let Some(found) = found {
            self.bytes -= found.entry.size();
            found.entry = Entry::Reply(answer);
            self.bytes += found.entry.size();
        }
    }

    /// Whether calls or replies wait for nothing but their turn.
    pub(super) fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Bytes that calls and replies wait with.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets what only matters to the link. False, and nothing has changed, if there is a reply among the entries.
    pub(super) fn retain_calls(&mut self) -> bool {
        let calls_only = self.entries.values().all(|waiting| matches!(waiting.entry, Entry::Call { .. }));
        if calls_only {
            self.control.clear();
            self.unsolicited = 0;
        }
        calls_only
    }

    pub(super) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.entries.is_empty() && self.blocked.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }
}
