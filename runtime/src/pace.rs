//! Which handlers are polled inline by the connection's task, and which get a task of their own from their first poll on.
//!
//! A handler that takes long on the spot keeps its link from reading, and other handlers from the second core. The idea: the next
//! calls of its method get tasks, at first few, because the thread may just have been preempted, and twice as many each time that
//! the next poll on the spot is slow again. Example: polls of 1 ms are made on the spot for calls 1, 10, 27, 60, …, and in the end
//! for one in a thousand.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A poll that takes longer is slow.
const QUICK: Duration = Duration::from_micros(50);

/// Calls that get tasks after a slow poll that follows a quick one, and after many slow ones.
const FEW: u32 = 8;
const MANY: u32 = 1_024;

/// What handlers may take together that are polled on the spot, one after the other, before the rest of them get tasks.
const BUDGET: Duration = Duration::from_micros(500);

/// How quick the handlers of one method are.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Calls that get tasks before the next one is polled on the spot.
    tasks: AtomicU32,
    /// How many did after the last poll on the spot; 0 if that was quick.
    penalty: AtomicU32,
}

impl Pace {
    /// Whether to poll the next call's handler on the spot.
    pub(crate) fn is_quick(&self) -> bool {
        let tasks = self.tasks.load(Relaxed);
        if tasks > 0 {
            self.tasks.store(tasks - 1, Relaxed);
        }
        tasks == 0
    }

    /// What a poll on the spot took. Links that poll handlers of the same method at the same time may overwrite each other's word, which
    /// does no harm.
    pub(crate) fn took(&self, time: Duration) {
        let before = self.penalty.load(Relaxed);
        let penalty = if time > QUICK { (2 * before).clamp(FEW, MANY) } else { 0 };
        if penalty != before {
            self.penalty.store(penalty, Relaxed);
        }
        if penalty > 0 {
            self.tasks.store(penalty, Relaxed);
        }
    }
}

/// What the handlers have taken that one poll of a link has polled on the spot. Where one follows the other, the clock is read once
/// for the end of the first and the beginning of the second.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    time: Duration,
    /// The end of the last one, if nothing that takes time has happened since.
    end: Option<Instant>,
}

impl Spent {
    /// Whether the rest gets tasks.
    pub(crate) fn is_all(&self) -> bool {
        self.time > BUDGET
    }

    /// Time from here on is not a handler's.
    pub(crate) fn pause(&mut self) {
        self.end = None;
    }

    /// When a handler begins that is polled on the spot.
    pub(crate) fn begin(&mut self, now: impl FnOnce() -> Instant) -> Instant {
        self.end.take().unwrap_or_else(now)
    }

    /// Its poll has ended. Returns what it took.
    pub(crate) fn end(&mut self, begun: Instant, now: Instant) -> Duration {
        let time = now.saturating_duration_since(begun);
        (self.time, self.end) = (self.time + time, Some(now));
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that get tasks after a poll that took so long.
    fn tasks_after(pace: &Pace, time: Duration) -> usize {
        pace.took(time);
        std::iter::repeat_with(|| pace.is_quick()).take_while(|quick| !quick).count()
    }

    #[test]
    fn a_penalty_doubles_while_polls_are_slow_and_ends_with_a_quick_one() {
        let pace = Pace::default();
        let slow = QUICK + Duration::from_nanos(1);
        let penalties: Vec<_> = (0..9).map(|_| tasks_after(&pace, slow)).collect();
        assert_eq!(penalties, [8, 16, 32, 64, 128, 256, 512, 1_024, 1_024]);
        assert_eq!(tasks_after(&pace, QUICK), 0);
        assert_eq!(tasks_after(&pace, slow), 8);
    }
    #[test]
    fn only_handlers_are_charged() {
        let (mut spent, start) = (Spent::default(), Instant::now());
        let at = |micros| start + Duration::from_micros(micros);
        assert_eq!(spent.begin(|| at(0)), at(0));
        assert_eq!(spent.end(at(0), at(300)), Duration::from_micros(300));
        assert_eq!(spent.begin(|| panic!("the clock was just read")), at(300));
        spent.end(at(300), at(500));
        spent.pause();
        assert_eq!(spent.begin(|| at(9_000)), at(9_000), "something else took long");
        assert!(!spent.is_all());
        spent.end(at(9_000), at(9_001));
        assert!(spent.is_all());
    }
}
