//! The numbers of calls on the wire (PROTOCOL.md, X-1). Each side counts its own calls, so a number shows which
//! side made the call, whether the call was made at all, and whether it has ended.
//!
//! In dialect 1, a call has a name instead. The codec translates it, so only the range of its number counts.

use crate::event::Violation;
use crate::ids::CallId;
use crate::numbered::Numbered;
use crate::wire::{self, MAX_CALL, Number};

#[derive(Debug)]
pub(crate) struct Numbers {
    /// Number of the next call that this side sends, in dialect 2.
    next_ours: Number,
    /// Number of the next request of the peer, in dialect 2.
    next_theirs: Number,
    /// Calls of this side that have been sent in dialect 2 and have not ended, by [ordinal](wire::ordinal).
    ours: Numbered<CallId>,
}

impl Numbers {
    pub(super) fn new(connector: bool) -> Self {
        // even numbers for the connector's calls, odd ones for the binder's.
        let (next_ours, next_theirs) = (u64::from(!connector), u64::from(connector));
        Self { next_ours, next_theirs, ours: Numbered::default() }
    }

    /// Assigns the number of a call that is sent in dialect 2; `None` if there are no more.
    pub(super) fn assign(&mut self, call: CallId) -> Option<Number> {
        let number = Some(self.next_ours).filter(|number| *number <= MAX_CALL)?;
        self.next_ours += 2;
        self.ours.insert(wire::ordinal(number), call);
        Some(number)
    }

    /// A call of this side has ended: from now on, records with its number are ignored.
    pub(super) fn end(&mut self, number: Number) {
        self.ours.remove(wire::ordinal(number));
    }

    /// Whether a number of dialect 2 is that of a call of this side.
    pub(super) fn is_ours(&self, number: Number) -> bool {
        number % 2 == self.next_ours % 2
    }

    /// The call of this side with this number; `None` if it has ended.
    pub(crate) fn call(&self, number: Number) -> Result<Option<CallId>, Violation> {
        // C-4: in dialect 1, the codec has found the call by the name in its answer.
        if let Some(call) = wire::call_in_dialect_1(number) {
            return Ok(Some(call));
        }
        self.check_used(number, true)?;
        // a record about a call that has ended is ignored.
        Ok(self.ours.get(wire::ordinal(number)).copied())
    }

    /// Calls of this side with this number or a higher one that have not ended, in the order of their numbers.
    pub(super) fn calls_from(&self, number: Number) -> Vec<CallId> {
        let from = self.ours.iter().filter(|(ordinal, _)| *ordinal >= wire::ordinal(number));
        let mut from: Vec<_> = from.map(|(ordinal, call)| (ordinal, *call)).collect();
        // The order of `ours` is another one.
        from.sort_unstable();
        from.into_iter().map(|(_, call)| call).collect()
    }

    /// Checks that a new request of the peer has the next number.
    pub(super) fn take(&mut self, number: Number) -> Result<(), Violation> {
        // C-1: dialect 1 has names, to which the codec has assigned the number.
        if wire::is_dialect_1(number) {
            return Ok(());
        }
        if self.is_ours(number) {
            return Err(Violation::WrongSide);
        }
        if number != self.next_theirs {
            return Err(Violation::Sequence);
        }
        self.next_theirs += 2;
        Ok(())
    }

    /// Checks the number of a request that the peer must have made.
    pub(super) fn check_request(&self, number: Number) -> Result<(), Violation> {
        // D-5: in dialect 1, the codec has found the request by its name.
        if wire::is_dialect_1(number) { Ok(()) } else { self.check_used(number, false) }
    }

    /// a number of the wrong side, and one that was never used, are fatal.
    fn check_used(&self, number: Number, by_us: bool) -> Result<(), Violation> {
        if self.is_ours(number) != by_us {
            return Err(Violation::WrongSide);
        }
        let next = if by_us { self.next_ours } else { self.next_theirs };
        if number < next { Ok(()) } else { Err(Violation::Sequence) }
    }

    pub(crate) fn next_theirs(&self) -> Number {
        self.next_theirs
    }

    /// Frees memory that is kept for future calls.
    pub(super) fn shrink(&mut self) {
        self.ours.shrink();
    }

    /// The connection has ended, and with it all calls.
    pub(super) fn end_all(&mut self) {
        self.ours = Numbered::default();
    }

    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, ours: Number, theirs: Number) {
        (self.next_ours, self.next_theirs) = (ours, theirs);
    }

    /// Calls of this side that have been sent in dialect 2, and the ordinals of their numbers.
    #[cfg(any(test, feature = "internals"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, CallId)> {
        self.ours.iter().map(|(ordinal, call)| (ordinal, *call))
    }
}
