//! The one queue of outgoing work: what leaves next, and how many bytes wait.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::{CallId, Message, Multipart, RequestId};

/// What a queued message counts for besides its variable parts, in bytes.
pub(super) const OVERHEAD: usize = 256;

/// Answers that the peer caused without a handler having run may pile up to this, in bytes.
const MAX_UNSOLICITED: usize = 4 * 1024 * 1024;

/// A message whose turn has not come yet. It is encoded when it leaves, in the dialect known by then.
#[derive(Debug)]
pub(super) enum Entry {
    /// Method and key are in the table of calls; `names` is their size.
    Call {
        call: CallId,
        names: usize,
        body: Bytes,
        compressed: bool,
    },
    Reply(Message),
    Refusal(Message),
}

impl Entry {
    fn payload_size(&self) -> usize {
        match self {
            Self::Call { body, .. } => body.len(),
            Self::Reply(message) | Self::Refusal(message) => message.payload.size(),
        }
    }

    fn size(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Call { names, body, .. } => names + body.len(),
                Self::Reply(message) | Self::Refusal(message) => message.size(),
            }
    }
}

/// A small message that overtakes the others.
#[derive(Debug)]
pub(super) enum Control {
    Ready(Multipart),
    Ping(u64),
    Cancel(RequestId),
}

/// The place of an entry, by which it can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

/// Two lanes: control overtakes, the rest leaves in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    control: VecDeque<Control>,
    /// Boxed, because a tree moves its values about.
    entries: BTreeMap<Place, Box<Entry>>,
    next: u64,
    bytes: usize,
    /// Bytes of refusals and of PONGs: what a peer can cause without a handler.
    unsolicited: usize,
}

/// The peer makes this side answer faster than it reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

impl Outbox {
    pub(super) fn push(&mut self, entry: Entry) -> Place {
        let place = Place(self.next);
        self.next += 1;
        self.bytes += entry.size();
        self.entries.insert(place, Box::new(entry));
        place
    }

    pub(super) fn push_refusal(&mut self, message: Message) -> Result<(), Overflow> {
        let refusal = Entry::Refusal(message);
        self.count_unsolicited(refusal.size())?;
        self.push(refusal);
        Ok(())
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
    pub(super) fn remove(&mut self, place: Place) {
        if let Some(entry) = self.entries.remove(&place) {
            self.bytes -= entry.size();
        }
    }

    /// Takes back every entry whose payload has more than `limit` bytes.
    pub(super) fn take_larger_than(&mut self, limit: usize) -> Vec<(Place, Entry)> {
        let larger: Vec<_> = self
            .entries
            .extract_if(.., |_, entry| entry.payload_size() > limit)
            .map(|(place, entry)| (place, *entry))
            .collect();
        self.bytes -= larger.iter().map(|(_, entry)| entry.size()).sum::<usize>();
        larger
    }

    pub(super) fn put_back(&mut self, place: Place, entry: Entry) {
        self.bytes += entry.size();
        self.entries.insert(place, Box::new(entry));
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

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let (_, entry) = self.entries.pop_first()?;
        self.bytes -= entry.size();
        if let Entry::Refusal(_) = *entry {
            self.unsolicited -= entry.size();
        }
        Some(*entry)
    }

    /// Bytes that calls and replies wait with.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets what only matters to the link. False, and nothing has changed, if there is a reply among the entries.
    pub(super) fn retain_calls(&mut self) -> bool {
        let calls_only = self.entries.values().all(|entry| matches!(**entry, Entry::Call { .. }));
        if calls_only {
            self.control.clear();
            self.unsolicited = 0;
        }
        calls_only
    }

    pub(super) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.entries.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }
}
