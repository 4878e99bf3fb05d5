//! Connections that close.

use super::*;

#[test]
fn a_forgotten_connection_holds_up_no_reply_but_keeps_its_slot() {
    let mut s = limited(OrderingMode::ExitOrdered, 3);
    arrive(&mut s, A, 1, "k");
    arrive(&mut s, B, 2, "k");
    arrive(&mut s, A, 3, "k");
    arrive(&mut s, A, 4, "k");
    arrive(&mut s, B, 5, "k");
    assert_eq!(drain(&mut s), starts([1, 2, 3]));
    assert_eq!(finish(&mut s, 2), starts([5]));
    assert_eq!(finish(&mut s, 3), starts([4]));
    s.forget_connection(A);
    assert_eq!(drain(&mut s), releases([2]));
    assert_eq!(finish(&mut s, 5), releases([5]));
    assert_eq!((s.running(), s.waiting()), (2, 0));
    assert_eq!(withdraw(&mut s, 1), Withdrawn::Running);
    (6..8).for_each(|number| arrive(&mut s, B, number, ""));
    assert_eq!(drain(&mut s), starts([6]));
    assert_eq!(finish(&mut s, 1), starts([7]));
    assert_eq!(finish(&mut s, 4), []);
    assert_eq!(s.running(), 2);
}

#[test]
fn a_forgotten_connection_keeps_its_key_until_its_handler_has_ended() {
    let mut s = scheduler(OrderingMode::KeySerialized);
    arrive(&mut s, A, 1, "k");
    arrive(&mut s, A, 2, "k");
    arrive(&mut s, B, 3, "k");
    assert_eq!(drain(&mut s), starts([1]));
    s.forget_connection(A);
    assert_eq!(drain(&mut s), []);
    assert!(!s.is_idle());
    assert_eq!(finish(&mut s, 1), starts([3]));
    assert_eq!(finish(&mut s, 3), releases([3]));
    assert!(s.is_idle());
}

#[test]
fn a_reply_not_yet_polled_vanishes_with_its_connection() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    arrive(&mut s, A, 1, "k");
    arrive(&mut s, B, 2, "");
    drain(&mut s);
    let ids = [s.id(1), s.id(2)];
    ids.into_iter().for_each(|id| s.finish(id));
    s.forget_connection(A);
    assert_eq!(drain(&mut s), releases([2]));
    assert!(s.is_idle());
}

#[test]
fn what_was_due_to_a_forgotten_request_is_not_taken_for_another_of_its_id() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    arrive(&mut s, A, 1, "");
    drain(&mut s);
    let id = s.id(1);
    s.finish(id);
    s.forget_connection(A);
    arrive(&mut s, B, 2, "k");
    arrive(&mut s, A, 1, "k");
    s.finish(id);
    assert_eq!(drain(&mut s), starts([2]), "it was withdrawn, and waits behind the other");
    assert_eq!(finish(&mut s, 2), releases([2, 1]));
    assert!(s.is_idle());
}

/// Closing a connection takes as many steps as it has requests, however many actions are due for others.
#[test]
fn what_is_due_to_others_is_not_looked_at_when_a_connection_closes() {
    let mut s = limited(OrderingMode::Unordered, 2_000);
    (0..1_000).for_each(|number| arrive(&mut s, B, number, ""));
    arrive(&mut s, A, 1_000, "");
    drain(&mut s);
    for number in 0..=1_000 {
        let id = s.id(number);
        s.order.finish(id);
    }
    s.forget_connection(A);
    assert_eq!(s.release.due(), 1_001, "it is skipped when it is polled");
    assert_eq!(drain(&mut s), releases(0..1_000));
    assert!(s.is_idle());
}

#[test]
fn a_quiet_connection_keeps_no_memory_for_keys() {
    let mut s = limited(OrderingMode::ExitOrdered, 1);
    (0..1_000).for_each(|number| arrive(&mut s, A, number, &number.to_string()));
    drain(&mut s);
    (0..1_000).for_each(|number| drop(finish(&mut s, number)));
    assert!(s.is_idle() && s.run.keyed_slots(A) > 0);
    s.shrink(A);
    assert_eq!(s.run.keyed_slots(A), 0);
}

#[test]
fn nothing_is_kept_of_requests_that_are_gone() {
    for mode in MODES {
        let mut s = limited(mode, 4_000);
        for round in 0..3 {
            for number in 0..1_000 {
                arrive(&mut s, A, 1_000 * round + number, ["", "k", "l"][number as usize % 3]);
            }
            for number in 0..1_000 {
                drain(&mut s);
                finish(&mut s, 1_000 * round + number);
            }
            assert!(s.is_idle());
            assert_eq!(s.run.kept(), 1, "the connection");
        }
        s.forget_connection(A);
        assert_eq!((s.run.kept(), s.connections.len(), s.keys.len()), (0, 0, 0));
    }
}
