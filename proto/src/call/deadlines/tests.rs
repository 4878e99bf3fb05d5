use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::queue::FEW_GAPS;

/// What a test does: sets the deadline of call `0` at a time, stops it, or pops all that are due at a time.
#[derive(Clone, Copy, Debug)]
enum Step {
    Set(u64, u64),
    Stop(u64),
    Pop(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let call = 0..40_u64;
    let step = prop_oneof![
        // Most have the same timeout, from a time that goes on.
        6 => Just(Step::Set(u64::MAX, 0)),
        2 => (call.clone(), 0..200_u64).prop_map(|(call, at)| Step::Set(call, at)),
        4 => call.prop_map(Step::Stop),
        1 => (0..200_u64).prop_map(Step::Pop),
    ];
    prop::collection::vec(step, 0..300)
}

fn call(number: u64) -> Deadline {
    Deadline::Call(CallId(number))
}

proptest! {
    #[test]
    fn does_what_a_sorted_set_does(steps in steps()) {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut deadlines = Deadlines::default();
        // The time of each call's deadline, in the order in which they were set.
        let mut model: Vec<(Instant, u64)> = Vec::new();
        let mut made = 100;
        for step in steps {
            match step {
                Step::Set(number, time) => {
                    let (number, time) = match number {
                        u64::MAX => { made += 1; (made, made) }
                        number => (number, time),
                    };
                    if model.iter().all(|(_, other)| *other != number) {
                        model.push((at(time), number));
                        deadlines.set(at(time), call(number));
                    }
                }
                Step::Stop(index) => {
                    if !model.is_empty() {
                        let (time, number) = model.remove(index as usize % model.len());
                        deadlines.stop(Some(time), call(number));
                        // Once it is gone, nothing happens.
                        deadlines.stop(Some(time), call(number));
                    }
                }
                Step::Pop(time) => {
                    model.sort_unstable();
                    while let Some(due) = deadlines.pop(at(time)) {
                        prop_assert_eq!(due, call(model.remove(0).1));
                    }
                    prop_assert!(model.first().is_none_or(|(first, _)| *first > at(time)));
                }
            }
            prop_assert_eq!(deadlines.next(), model.iter().map(|(time, _)| *time).min());
            prop_assert_eq!(deadlines.iter().count(), model.len());
            prop_assert!(deadlines.queue.slots() <= 2 * model.len() + FEW_GAPS);
        }
    }
}

#[test]
fn those_that_are_stopped_behind_a_long_one_take_no_memory() {
    let start = Instant::now();
    let mut deadlines = Deadlines::default();
    deadlines.set(start, call(0));
    for number in 1..100_000 {
        let at = start + Duration::from_millis(number);
        deadlines.set(at, call(number));
        deadlines.stop(Some(at), call(number));
        assert!(deadlines.queue.slots() <= 2 + FEW_GAPS, "{}", deadlines.queue.slots());
    }
    assert_eq!(deadlines.next(), Some(start));
}
