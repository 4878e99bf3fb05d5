//! How much of the bodies that are being sent is left.
//!
//! Arguments and results are counted apart: a connection whose results wait is backlogged, and one whose arguments wait is not, since the
//! peer may grant credit for them only once their handler has started.

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
