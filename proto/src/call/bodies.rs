//! How much of the bodies that are being sent is left.
//!
//! Arguments and results are counted apart, because only results make a connection backlogged
//! ([`Calls::is_backlogged`](super::Calls::is_backlogged) says why).

use crate::ids::StreamId;

/// Unsent bytes of bodies whose OPEN or RESULT has been sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Bodies {
    arguments: usize,
    results: usize,
}

impl Bodies {
    /// The count to which the body of this call belongs that this side sends.
    pub(super) fn of(&mut self, id: StreamId) -> &mut usize {
        match id {
            StreamId::Call(_) => &mut self.arguments,
            StreamId::Request(_) => &mut self.results,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.arguments + self.results
    }

    pub(super) fn results(&self) -> usize {
        self.results
    }
}
