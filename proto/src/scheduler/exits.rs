//! Whose reply may leave.

use std::collections::{BTreeMap, VecDeque};

use super::builtin::Lane;
use crate::ids::{PeerId, Ticket};

/// A call in the order of arrival.
pub(super) type Seq = u64;

/// Calls that leave in the order in which they came, and the replies that may leave now.
#[derive(Debug, Default)]
pub(super) struct Exits {
    /// No line is empty, and the first of each is not done.
    lines: BTreeMap<Lane, BTreeMap<Seq, Entry>>,
    due: VecDeque<(Ticket, PeerId)>,
}

#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    peer: PeerId,
    done: bool,
}

impl Exits {
    pub(super) fn line_up(&mut self, line: Lane, seq: Seq, ticket: Ticket, peer: PeerId) {
        self.lines.entry(line).or_default().insert(seq, Entry { ticket, peer, done: false });
    }

    /// A call that stands in no line may leave at once.
    pub(super) fn release(&mut self, ticket: Ticket, peer: PeerId) {
        self.due.push_back((ticket, peer));
    }

    pub(super) fn done(&mut self, line: &Lane, seq: Seq) {
        if let Some(entry) = self.lines.get_mut(line).and_then(|line| line.get_mut(&seq)) {
            entry.done = true;
        }
        self.advance(line);
    }

    /// Takes a call out of its line without releasing it.
    pub(super) fn remove(&mut self, line: &Lane, seq: Seq) {
        if let Some(line) = self.lines.get_mut(line) {
            line.remove(&seq);
        }
        self.advance(line);
    }

    /// Whether no call of this line has to leave before this one.
    pub(super) fn is_next(&self, line: &Lane, call: Ticket) -> bool {
        let first = self.lines.get(line).and_then(|line| line.first_key_value());
        // Earlier ones may be due, and are polled before anybody asks again.
        first.is_none_or(|(_, first)| first.ticket == call)
    }

    /// Drops the replies of a peer that could have left.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.due.retain(|(_, of)| *of != peer);
    }

    pub(super) fn pop(&mut self) -> Option<Ticket> {
        self.due.pop_front().map(|(ticket, _)| ticket)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.due.is_empty()
    }

    fn advance(&mut self, key: &Lane) {
        let Some(line) = self.lines.get_mut(key) else { return };
        while let Some(first) = line.first_entry().filter(|first| first.get().done) {
            let Entry { ticket, peer, .. } = first.remove();
            self.due.push_back((ticket, peer));
        }
        if line.is_empty() {
            self.lines.remove(key);
        }
    }
}
