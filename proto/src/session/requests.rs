//! The table of the peer's calls: what waits for a reply of ours.

use std::collections::BTreeMap;
use std::time::Instant;

use super::IncomingId;
use crate::RequestId;

#[derive(Debug)]
struct Open {
    id: RequestId,
    cancelled: bool,
    execution_deadline: Option<Instant>,
}

/// The peer's open requests, by our number and by the peer's name for them.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Boxed, because a tree moves its values about.
    open: BTreeMap<IncomingId, Box<Open>>,
    /// Ordered by `seq` first, which hardly ever leaves a choice. Where a peer chooses names of which only the ends
    /// differ, a search must not compare them all.
    by_name: BTreeMap<RequestId, IncomingId>,
    next: u64,
}

impl Requests {
    pub(super) fn find(&self, name: &RequestId) -> Option<IncomingId> {
        self.by_name.get(name).copied()
    }

    pub(super) fn insert(&mut self, name: RequestId) -> IncomingId {
        let id = IncomingId(self.next);
        self.next += 1;
        self.by_name.insert(name.clone(), id);
        self.open.insert(id, Box::new(Open { id: name, cancelled: false, execution_deadline: None }));
        id
    }

    /// Takes a request and the deadline of its handler, if that runs against one.
    pub(super) fn remove(&mut self, id: IncomingId) -> Option<(RequestId, Option<Instant>)> {
        let open = self.open.remove(&id)?;
        self.by_name.remove(&open.id);
        Some((open.id, open.execution_deadline))
    }

    /// Notes a cancellation; `None` if the request is not open, or is cancelled already.
    pub(super) fn cancel(&mut self, name: &RequestId) -> Option<IncomingId> {
        let id = self.find(name)?;
        let open = self.open.get_mut(&id)?;
        (!std::mem::replace(&mut open.cancelled, true)).then_some(id)
    }

    /// Notes when a handler must have ended; `false` if the request is not open, or had a deadline already.
    pub(super) fn start(&mut self, id: IncomingId, deadline: Instant) -> bool {
        match self.open.get_mut(&id) {
            Some(open) if open.execution_deadline.is_none() => {
                open.execution_deadline = Some(deadline);
                true
            }
            _ => false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }
}
