//! The log of the calls on each agent, in order.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use callosum_runtime::rt::Waiters;

use super::calls::{AGENTS, CALLS, COLUMN, KEYLESS, Row};
use super::timeline::Span;
use crate::executor::Executor;

/// How long a handler waits for what must come before its end; if that does not come, a promise is broken.
pub(super) const HANDLER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    Started,
    Done,
    Replied,
}

/// A step of one of the calls.
pub(super) type Event = (usize, Step);

#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub(super) agent: usize,
    row: usize,
    step: Step,
    pub(super) at: Instant,
}

/// Events of the calls, in order.
#[derive(Default)]
pub(super) struct Log {
    marks: Mutex<Vec<Mark>>,
    changed: Waiters,
}

impl Log {
    pub(super) fn mark(&self, agent: usize, row: usize, step: Step) {
        let at = Instant::now();
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).push(Mark { agent, row, step, at });
        self.changed.wake_all();
    }

    pub(super) fn marks(&self) -> Vec<Mark> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where in the order of events this one stands.
    fn place(&self, agent: usize, row: usize, step: Step) -> Option<usize> {
        self.marks().iter().position(|mark| (mark.agent, mark.row, mark.step) == (agent, row, step))
    }

    async fn wait_for(&self, agent: usize, events: &[Event]) {
        loop {
            let changed = self.changed.listen();
            if events.iter().all(|&(row, step)| self.place(agent, row, step).is_some()) {
                return;
            }
            changed.await;
        }
    }

    /// Handles one call on an agent.
    pub(super) async fn work(&self, executor: Executor, agent: usize, Row { row }: Row) {
        let Some(call) = CALLS.get(row) else { return };
        self.mark(agent, row, Step::Started);
        executor.sleep(COLUMN * call.columns).await;
        // Independent of the machine's speed: the shown events have happened when this ends.
        let _ = executor.within(HANDLER_TIMEOUT, self.wait_for(agent, &outlasted(agent, row))).await;
        self.mark(agent, row, Step::Done);
    }

    /// Whether the first of each pair came before the second.
    pub(super) fn came_before(&self, agent: usize, pairs: &[(Event, Event)]) -> bool {
        pairs.iter().all(|&(first, second)| {
            let (first, second) =
                (self.place(agent, first.0, first.1), self.place(agent, second.0, second.1));
            first.zip(second).is_some_and(|(first, second)| first < second)
        })
    }

    pub(super) fn span(&self, agent: usize, row: usize, start: Instant) -> Span {
        let mut span = Span::default();
        for mark in self.marks().iter().filter(|mark| (mark.agent, mark.row) == (agent, row)) {
            let at = Some(mark.at.saturating_duration_since(start));
            match mark.step {
                Step::Started => span.started = at,
                Step::Done => span.done = at,
                Step::Replied => span.replied = at,
            }
        }
        span
    }

    /// Which of these calls were answered, first come first.
    pub(super) fn replies(&self, agent: usize, rows: &[usize]) -> Vec<usize> {
        let marks = self.marks().into_iter();
        marks
            .filter(|mark| mark.agent == agent && mark.step == Step::Replied && rows.contains(&mark.row))
            .map(|mark| mark.row)
            .collect()
    }
}

/// What has to happen on an agent before a call's handler may end: the long calls outlast the short ones.
fn outlasted(agent: usize, row: usize) -> Vec<Event> {
    use Step::{Done, Replied, Started};
    match (AGENTS[agent].0, row) {
        ("alpha", 0) => vec![(1, Replied), (2, Replied), (KEYLESS, Replied)],
        ("alpha", 3) => vec![(4, Replied)],
        ("beta", 0) => vec![(1, Done), (2, Done), (KEYLESS, Replied)],
        ("beta", 3) => vec![(4, Done)],
        ("gamma", 0) => vec![(3, Started), (KEYLESS, Replied)],
        _ => Vec::new(),
    }
}
