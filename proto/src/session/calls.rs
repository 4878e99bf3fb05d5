//! The table of our calls: what waits for an outcome.

use std::collections::BTreeMap;
use std::time::Instant;

use super::outbox::Place;
use crate::{CallId, CallName, Metadata, OrderingKey, Text, Urgency};

/// A call of ours that has not ended.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) method: Text,
    pub(super) key: OrderingKey,
    pub(super) deadline: Option<Instant>,
    /// Its place in the outbox; `None` once the request has left.
    pub(super) queued: Option<Place>,
    /// Its number in dialect 2, once it has left.
    pub(super) wire: Option<u64>,
    pub(super) urgency: Urgency,
    pub(super) metadata: Metadata,
    /// More of its argument follows.
    pub(super) streamed: bool,
    /// Its result has begun.
    pub(super) responded: bool,
}

impl Call {
    pub(super) fn seq(&self) -> u32 {
        seq_of(self.id)
    }

    pub(super) fn name(&self) -> CallName {
        CallName { seq: self.seq(), method: self.method.clone(), key: self.key.clone() }
    }

    /// Whether dialect 1 can't carry it.
    pub(super) fn needs_dialect_2(&self) -> bool {
        self.streamed || !self.metadata.is_empty()
    }

    pub(super) fn sent(&self) -> bool {
        self.queued.is_none()
    }
}

/// The `seq` under which a call travels.
fn seq_of(call: CallId) -> u32 {
    call.0 as u32
}

/// Our calls by `seq`, which wraps at 2^32 and passes over those still in use.
#[derive(Debug)]
pub(super) struct Calls {
    /// Boxed, because a tree moves its values about.
    by_seq: BTreeMap<u32, Box<Call>>,
    next: CallId,
}

impl Calls {
    pub(super) fn new(first: CallId) -> Self {
        Self { by_seq: BTreeMap::new(), next: first }
    }

    /// The id that the next call gets, at the earliest.
    pub(super) fn next_id(&self) -> CallId {
        self.next
    }

    #[cfg(test)]
    pub(super) fn skip_to(&mut self, next: CallId) {
        self.next = next;
    }

    /// Takes the next id whose `seq` is free. Ends, because fewer than 2^32 calls fit into memory.
    pub(super) fn allocate(&mut self) -> CallId {
        while self.by_seq.contains_key(&seq_of(self.next)) {
            self.next.0 += 1;
        }
        let id = self.next;
        self.next.0 += 1;
        id
    }

    pub(super) fn insert(&mut self, call: Call) {
        self.by_seq.insert(seq_of(call.id), Box::new(call));
    }

    pub(super) fn get_mut(&mut self, id: CallId) -> Option<&mut Call> {
        self.by_seq.get_mut(&seq_of(id)).map(Box::as_mut).filter(|call| call.id == id)
    }

    #[cfg(feature = "fuzzing")]
    pub(super) fn contains(&self, id: CallId) -> bool {
        self.by_seq.get(&seq_of(id)).is_some_and(|call| call.id == id)
    }

    /// The calls that have not left, in the order in which they were made.
    pub(super) fn queued(&self) -> Vec<CallId> {
        self.by_seq.values().filter(|call| !call.sent()).map(|call| call.id).collect()
    }

    pub(super) fn remove(&mut self, id: CallId) -> Option<Call> {
        self.get_mut(id)?;
        self.by_seq.remove(&seq_of(id)).map(|call| *call)
    }

    /// Takes the call that a reply belongs to: one that has left, with the same method and key.
    pub(super) fn take_replied(&mut self, reply: &CallName) -> Option<Call> {
        let call = self.by_seq.get(&reply.seq)?;
        if !call.sent() || call.method != reply.method || call.key != reply.key {
            return None;
        }
        self.by_seq.remove(&reply.seq).map(|call| *call)
    }

    pub(super) fn pop_first(&mut self) -> Option<Call> {
        self.by_seq.pop_first().map(|(_, call)| *call)
    }

    pub(super) fn len(&self) -> usize {
        self.by_seq.len()
    }
}
