//! What has to hold of the queue; for the simulation.

use std::collections::BTreeMap;

use super::{Control, Entry, Line, OVERHEAD, Outbox};

impl Outbox {
    /// # Panics
    /// If sums and parts differ.
    pub(in crate::session) fn audit(&self) {
        let mut lines = BTreeMap::<&Line, usize>::new();
        let blocked = self.blocked.values().flatten().map(|(_, waiting)| waiting);
        let (mut bytes, mut unsolicited) = (0, 0);
        for waiting in self.entries.values().chain(blocked) {
            bytes += waiting.entry.size();
            if let Entry::Reply(answer) = &waiting.entry
                && answer.refusal
            {
                unsolicited += waiting.entry.size();
            }
            if let Some(line) = &waiting.line {
                *lines.entry(line).or_default() += 1;
            }
        }
        for control in &self.control {
            if let Control::Ready(message) = control
                && message.frames()[0] == crate::wire::PONG
            {
                unsolicited += OVERHEAD + message.size();
            }
        }
        assert_eq!(self.bytes, bytes, "bytes that wait");
        assert_eq!(self.unsolicited, unsolicited, "bytes that the peer caused");
        assert!(lines.into_iter().eq(self.lines.iter().map(|(line, (count, _))| (line, *count))));
    }
}
