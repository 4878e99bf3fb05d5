//! The table of the peer's calls: what waits for a reply of ours.

use std::collections::BTreeMap;
use std::time::Instant;

use super::IncomingId;
use crate::{CallName, OrderingKey, Urgency};

/// What the peer calls a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// In dialect 1.
    One(CallName),
    /// In dialect 2, with the key by which its result is ordered.
    Two(u64, OrderingKey),
}

impl Name {
    pub(super) fn key(&self) -> &OrderingKey {
        match self {
            Self::One(id) => &id.key,
            Self::Two(_, key) => key,
        }
    }

    /// Bytes of its variable parts.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::One(id) => id.size(),
            Self::Two(_, key) => key.as_bytes().len(),
        }
    }

    /// The same, in buffers of its own.
    pub(super) fn detached(self) -> Self {
        match self {
            Self::One(id) => Self::One(id.detached()),
            two @ Self::Two(..) => two,
        }
    }
}

/// A request that was taken out of the table.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) name: Name,
    /// Urgency of its result.
    pub(super) urgency: Urgency,
    pub(super) cancelled: bool,
    /// When it is to be stopped.
    pub(super) deadline: Option<Instant>,
    /// Its result has begun.
    pub(super) begun: bool,
}

/// The peer's open requests, by our number and by the peer's name for them.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Boxed, because a tree moves its values about.
    open: BTreeMap<IncomingId, Box<Open>>,
    /// Those of dialect 1. Ordered by `seq` first, which hardly ever leaves a choice. Where a peer chooses names of which
    /// only the ends differ, a search must not compare them all.
    by_name: BTreeMap<CallName, IncomingId>,
    next: u64,
}

impl Requests {
    pub(super) fn find(&self, name: &CallName) -> Option<IncomingId> {
        self.by_name.get(name).copied()
    }

    pub(super) fn insert(&mut self, name: Name, urgency: Urgency, deadline: Option<Instant>) -> IncomingId {
        let id = IncomingId(self.next);
        self.next += 1;
        if let Name::One(name) = &name {
            self.by_name.insert(name.clone(), id);
        }
        self.open.insert(id, Box::new(Open { name, urgency, cancelled: false, deadline, begun: false }));
        id
    }

    pub(super) fn contains(&self, id: IncomingId) -> bool {
        self.open.contains_key(&id)
    }

    pub(super) fn get_mut(&mut self, id: IncomingId) -> Option<&mut Open> {
        self.open.get_mut(&id).map(Box::as_mut)
    }

    pub(super) fn remove(&mut self, id: IncomingId) -> Option<Open> {
        let open = self.open.remove(&id)?;
        if let Name::One(name) = &open.name {
            self.by_name.remove(name);
        }
        Some(*open)
    }

    /// Notes a cancellation; `false` if the request is not open, or is cancelled already.
    pub(super) fn cancel(&mut self, id: IncomingId) -> bool {
        self.open.get_mut(&id).is_some_and(|open| !std::mem::replace(&mut open.cancelled, true))
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }
}
