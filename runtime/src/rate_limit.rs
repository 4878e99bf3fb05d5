//! Limits how many events of one kind are reported in a second.
//!
//! For events that anybody can cause. Those past the limit are counted, and the next one that is reported says how many there were.

use std::time::{Duration, Instant};

use crate::lock::Mutex;

/// Events of one kind that are reported within a [`WINDOW`].
const MAX: u32 = 16;

const WINDOW: Duration = Duration::from_secs(1);

/// Limits events that anybody can cause to 16 a second, so that they push no others out of the queues of a
/// [`Broadcast`](crate::rt::Broadcast). Events past the limit are only counted.
///
/// ```
/// # use std::time::Instant;
/// # use callosum_runtime::rt::{Broadcast, RateLimit};
/// #[derive(Clone)]
/// struct Refused {
///     address: String,
///     /// How many more there were since the last one that is an event.
///     unreported: u64,
/// }
///
/// fn report(events: &Broadcast<Refused>, limit: &RateLimit, now: Instant, address: String) {
///     if let Some(unreported) = limit.take(now) {
///         events.send(Refused { address, unreported });
///     }
/// }
/// ```
#[derive(Debug, Default)]
pub struct RateLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    reported: u32,
    unreported: u64,
}

impl RateLimit {
    /// Counts an event. `Some` if it may be reported, with the number of events since the last one that might be. A time
    /// before that of the last call counts as the same time.
    pub fn take(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            (state.since, state.reported) = (Some(now), 0);
        }
        if state.reported == MAX {
            state.unreported += 1;
            return None;
        }
        state.reported += 1;
        Some(std::mem::take(&mut state.unreported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_second_are_reported_and_the_rest_is_counted() {
        let start = Instant::now();
        let limit = RateLimit::default();
        let at = |millis| limit.take(start + Duration::from_millis(millis));
        assert!((0..16).all(|n| at(n * 10) == Some(0)));
        assert!((0..1_000).all(|_| at(999).is_none()));
        assert_eq!(at(1_000), Some(1_000));
        assert!((0..15).all(|_| at(1_999) == Some(0)));
        assert_eq!(at(1_999), None);
        assert_eq!(at(9_999), Some(1));
        // A clock that goes back counts as one that stands still.
        assert!((0..15).all(|_| at(0) == Some(0)));
        assert_eq!(at(0), None);
    }
}
