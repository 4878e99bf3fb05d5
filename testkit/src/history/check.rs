//! The checks of a history.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use callosum_runtime::OrderingMode;

use super::{Event, What};

/// Something that must not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A caller that waited got nothing.
    #[error("call {call} has no outcome")]
    NoOutcome {
        /// The call.
        call: u64,
    },
    /// A call ended more than once.
    #[error("call {call} has {outcomes} outcomes")]
    SeveralOutcomes {
        /// The call.
        call: u64,
        /// How many.
        outcomes: usize,
    },
    /// A request was delivered more than once.
    #[error("{starts} handlers started for call {call}")]
    SeveralStarts {
        /// The call.
        call: u64,
        /// How many handlers.
        starts: usize,
    },
    /// A handler ran for a call that was never made, or such a call has an outcome.
    #[error("call {call} was never made, and a handler started for it or it has an outcome")]
    NeverMade {
        /// The call.
        call: u64,
    },
    /// A caller got a result that no handler had made.
    #[error("call {call} succeeded, and no handler had run")]
    SucceededWithoutRun {
        /// The call.
        call: u64,
    },
    /// A caller was told that it may safely repeat a call that had run.
    #[error("call {call} failed and said that no handler can have run, but one did")]
    RanAllTheSame {
        /// The call.
        call: u64,
    },
    /// Two calls with the same key have swapped places.
    #[error("call {later} was made after call {earlier}, with key {key:?}, but {what}")]
    OutOfOrder {
        /// The call that was made first.
        earlier: u64,
        /// The other one.
        later: u64,
        /// Their key.
        key: String,
        /// What came first that should not have.
        what: &'static str,
    },
    /// Two handlers of a key ran at the same time.
    #[error("a handler started for call {second} while that of call {first} ran, with key {key:?}")]
    RanTogether {
        /// The call whose handler ran.
        first: u64,
        /// The other one.
        second: u64,
        /// Their key.
        key: String,
    },
}

/// All that a check has found. One line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violations(pub Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(n, violation)| {
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{violation}")
        })
    }
}

impl std::error::Error for Violations {}

fn made(events: &[Event]) -> impl Iterator<Item = u64> {
    events.iter().filter(|event| matches!(event.what, What::Made { .. })).map(|event| event.call)
}

fn is_outcome(what: &What) -> bool {
    matches!(what, What::Succeeded | What::Failed { .. } | What::Abandoned)
}

/// Every call that was made has exactly one outcome, and no other call has any. That its caller has dropped it is an outcome too.
pub fn check_outcomes(events: &[Event]) -> Vec<Violation> {
    let made: BTreeSet<u64> = made(events).collect();
    let mut outcomes: BTreeMap<u64, usize> = made.iter().map(|call| (*call, 0)).collect();
    for event in events.iter().filter(|event| is_outcome(&event.what)) {
        *outcomes.entry(event.call).or_default() += 1;
    }
    let wrong = outcomes.into_iter().filter_map(|(call, outcomes)| match outcomes {
        _ if !made.contains(&call) => Some(Violation::NeverMade { call }),
        0 => Some(Violation::NoOutcome { call }),
        1 => None,
        outcomes => Some(Violation::SeveralOutcomes { call, outcomes }),
    });
    wrong.collect()
}

/// A handler starts at most once for each call, and for none that was not made.
pub fn check_starts(events: &[Event]) -> Vec<Violation> {
    let made: BTreeSet<u64> = made(events).collect();
    let mut starts: BTreeMap<u64, usize> = BTreeMap::new();
    for event in events.iter().filter(|event| event.what == What::Started) {
        *starts.entry(event.call).or_default() += 1;
    }
    let wrong = starts.into_iter().flat_map(|(call, starts)| {
        let unknown = (!made.contains(&call)).then_some(Violation::NeverMade { call });
        let again = (starts > 1).then_some(Violation::SeveralStarts { call, starts });
        unknown.into_iter().chain(again)
    });
    wrong.collect()
}

/// A handler had run for a call that succeeded, and never runs for one whose caller was told that none can have.
pub fn check_may_have_run(events: &[Event]) -> Vec<Violation> {
    let all: BTreeSet<u64> =
        events.iter().filter(|event| event.what == What::Started).map(|event| event.call).collect();
    let mut so_far = BTreeSet::new();
    let mut wrong = Vec::new();
    for Event { call, what, .. } in events {
        let call = *call;
        match what {
            What::Started => drop(so_far.insert(call)),
            What::Succeeded if !so_far.contains(&call) => wrong.push(Violation::SucceededWithoutRun { call }),
            What::Failed { may_have_run: false } if all.contains(&call) => {
                wrong.push(Violation::RanAllTheSame { call });
            }
            _ => {}
        }
    }
    wrong
}

/// Calls with the same key, on the same connection, keep the order in which they were made.
///
/// - Exit-ordered and key-serialized: of two that succeed, the later one does not succeed at an earlier time.
/// - Key-serialized besides: handlers start in order, and one has ended before the next starts, whatever the connection.
///
/// Keys are those of one serving endpoint with `KeyScope::Global`: record each serving endpoint in a history of its own, or put its
/// name into the key.
pub fn check_order(events: &[Event], mode: OrderingMode) -> Vec<Violation> {
    let mut keys: BTreeMap<u64, (&str, &str)> = BTreeMap::new();
    for event in events {
        if let What::Made { connection, key: Some(key) } = &event.what {
            keys.insert(event.call, (connection, key));
        }
    }
    match mode {
        OrderingMode::ExitOrdered => successes_in_order(events, &keys),
        OrderingMode::KeySerialized => {
            let mut wrong = successes_in_order(events, &keys);
            wrong.extend(starts_in_order(events, &keys));
            wrong.extend(one_at_a_time(events, &keys));
            wrong
        }
        // Unordered.
        _ => Vec::new(),
    }
}

type Keys<'a> = BTreeMap<u64, (&'a str, &'a str)>;

fn successes_in_order(events: &[Event], keys: &Keys<'_>) -> Vec<Violation> {
    // Of each connection and key, the latest call that has succeeded at an earlier time, and the latest of all.
    let mut latest: BTreeMap<(&str, &str), (Option<u64>, u64, std::time::Duration)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for event in events.iter().filter(|event| event.what == What::Succeeded) {
        let Some(lane) = keys.get(&event.call) else { continue };
        let entry = latest.entry(*lane).or_insert((None, event.call, event.at));
        if event.at > entry.2 {
            *entry = (entry.0.max(Some(entry.1)), event.call, event.at);
        }
        entry.1 = entry.1.max(event.call);
        if let Some(later) = entry.0.filter(|before| *before > event.call) {
            let (earlier, key) = (event.call, lane.1.to_owned());
            wrong.push(Violation::OutOfOrder {
                earlier,
                later,
                key,
                what: "its result came at an earlier time",
            });
        }
    }
    wrong
}

fn starts_in_order(events: &[Event], keys: &Keys<'_>) -> Vec<Violation> {
    let mut latest: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for event in events.iter().filter(|event| event.what == What::Started) {
        let Some(lane) = keys.get(&event.call) else { continue };
        let last = latest.entry(*lane).or_insert(event.call);
        if *last > event.call {
            let key = lane.1.to_owned();
            wrong.push(Violation::OutOfOrder {
                earlier: event.call,
                later: *last,
                key,
                what: "its handler started first",
            });
        }
        *last = event.call.max(*last);
    }
    wrong
}

fn one_at_a_time(events: &[Event], keys: &Keys<'_>) -> Vec<Violation> {
    let mut running: BTreeMap<&str, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for event in events {
        let Some((_, key)) = keys.get(&event.call) else { continue };
        match event.what {
            What::Started => {
                if let Some(first) = running.insert(key, event.call) {
                    wrong.push(Violation::RanTogether { first, second: event.call, key: (*key).to_owned() });
                }
            }
            What::Stopped if running.get(key) == Some(&event.call) => drop(running.remove(key)),
            _ => {}
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Events with the second at which they happen.
    fn events(list: &[(u64, u64, What)]) -> Vec<Event> {
        list.iter()
            .map(|(at, call, what)| Event { at: Duration::from_secs(*at), call: *call, what: what.clone() })
            .collect()
    }

    fn made(key: &str) -> What {
        What::Made { connection: "c".into(), key: Some(key.into()) }
    }

    /// Two calls of a key that do all they should.
    fn good() -> Vec<(u64, u64, What)> {
        vec![
            (0, 1, made("k")),
            (0, 2, made("k")),
            (1, 1, What::Started),
            (1, 1, What::Stopped),
            (2, 2, What::Started),
            (2, 1, What::Succeeded),
            (3, 2, What::Stopped),
            (3, 2, What::Failed { may_have_run: true }),
        ]
    }

    fn all(list: &[(u64, u64, What)], mode: OrderingMode) -> Vec<Violation> {
        let events = events(list);
        [
            check_outcomes(&events),
            check_starts(&events),
            check_may_have_run(&events),
            check_order(&events, mode),
        ]
        .concat()
    }

    #[test]
    fn what_is_allowed_is_found_to_be() {
        for mode in [OrderingMode::Unordered, OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
            assert_eq!(all(&good(), mode), []);
        }
        let refused = [(0, 1, made("k")), (1, 1, What::Failed { may_have_run: false })];
        assert_eq!(all(&refused, OrderingMode::KeySerialized), []);
        let abandoned =
            [(0, 1, made("k")), (0, 1, What::Started), (1, 1, What::Abandoned), (1, 1, What::Stopped)];
        assert_eq!(all(&abandoned, OrderingMode::KeySerialized), []);
    }

    #[test]
    fn a_call_without_outcome_and_one_with_two_are_found() {
        let mut events = good();
        events.truncate(7);
        assert_eq!(all(&events, OrderingMode::Unordered), [Violation::NoOutcome { call: 2 }]);
        events = good();
        events.push((4, 1, What::Abandoned));
        assert_eq!(
            all(&events, OrderingMode::Unordered),
            [Violation::SeveralOutcomes { call: 1, outcomes: 2 }]
        );
    }

    #[test]
    fn a_call_that_runs_twice_and_one_that_nobody_made_are_found() {
        let mut events = good();
        events.push((4, 1, What::Started));
        assert_eq!(all(&events, OrderingMode::Unordered), [Violation::SeveralStarts { call: 1, starts: 2 }]);
        events = good();
        events.push((4, 9, What::Started));
        assert_eq!(all(&events, OrderingMode::Unordered), [Violation::NeverMade { call: 9 }]);
        events = good();
        events.push((4, 9, What::Abandoned));
        assert_eq!(all(&events, OrderingMode::Unordered), [Violation::NeverMade { call: 9 }]);
    }

    #[test]
    fn an_error_that_lies_about_a_run_is_found_also_if_it_runs_later() {
        let mut events = good();
        events[7].2 = What::Failed { may_have_run: false };
        assert_eq!(all(&events, OrderingMode::Unordered), [Violation::RanAllTheSame { call: 2 }]);
        let late = [
            (0, 1, made("k")),
            (1, 1, What::Failed { may_have_run: false }),
            (2, 1, What::Started),
            (2, 1, What::Stopped),
        ];
        assert_eq!(all(&late, OrderingMode::Unordered), [Violation::RanAllTheSame { call: 1 }]);
        let made_up = [(0, 1, made("k")), (1, 1, What::Succeeded)];
        assert_eq!(all(&made_up, OrderingMode::Unordered), [Violation::SucceededWithoutRun { call: 1 }]);
    }

    #[test]
    fn results_out_of_order_are_found_unless_they_come_at_the_same_time() {
        let results = |first, second| {
            [
                (0, 1, made("k")),
                (0, 2, made("k")),
                (1, 1, What::Started),
                (1, 2, What::Started),
                (1, 1, What::Stopped),
                (1, 2, What::Stopped),
                (first, 2, What::Succeeded),
                (second, 1, What::Succeeded),
            ]
        };
        let order =
            |events: &[(u64, u64, What)]| check_order(&self::events(events), OrderingMode::ExitOrdered);
        assert_eq!(order(&results(5, 5)), []);
        assert!(matches!(order(&results(5, 6))[..], [Violation::OutOfOrder { earlier: 1, later: 2, .. }]));
        let mut other = results(5, 6);
        other[0].2 = made("another");
        assert_eq!(order(&other), []);
    }

    #[test]
    fn handlers_of_a_key_that_run_together_or_in_the_wrong_order_are_found() {
        let mut events = good();
        // The second starts before the first has stopped.
        events.swap(3, 4);
        let found = all(&events, OrderingMode::KeySerialized);
        assert!(matches!(found[..], [Violation::RanTogether { first: 1, second: 2, .. }]), "{found:?}");
        assert_eq!(all(&events, OrderingMode::ExitOrdered), []);
        let swapped = [
            (0, 1, made("k")),
            (0, 2, made("k")),
            (1, 2, What::Started),
            (1, 2, What::Stopped),
            (2, 1, What::Started),
            (2, 1, What::Stopped),
            (3, 1, What::Succeeded),
            (3, 2, What::Succeeded),
        ];
        let found = all(&swapped, OrderingMode::KeySerialized);
        assert!(matches!(found[..], [Violation::OutOfOrder { earlier: 1, later: 2, .. }]), "{found:?}");
    }
}
