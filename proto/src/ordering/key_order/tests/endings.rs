//! Requests that are withdrawn, or fail before they start.

use super::*;

#[test]
fn a_request_that_fails_before_it_starts_never_starts_and_keeps_its_place() {
    for mode in [OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let mut s = limited(mode, 1);
        (1..=3).for_each(|number| arrive(&mut s, A, number, "k"));
        assert_eq!(drain(&mut s), starts([1]));
        assert_eq!(finish(&mut s, 2), [], "its reply waits for the first");
        assert_eq!(finish(&mut s, 2), []);
        assert_eq!(finish(&mut s, 1), [releases([1, 2]), starts([3])].concat());
        assert_eq!(finish(&mut s, 3), releases([3]));
        assert!(s.is_idle());
    }
}

#[test]
fn a_withdrawn_request_never_starts_and_is_forgotten_at_once() {
    for mode in MODES {
        let mut s = limited(mode, 1);
        (1..=4).for_each(|number| arrive(&mut s, A, number, "k"));
        assert_eq!(drain(&mut s), starts([1]));
        assert_eq!(withdraw(&mut s, 2), Withdrawn::Forgotten);
        assert_eq!((s.waiting(), s.requests), (2, 3));
        assert_eq!(drain(&mut s), [], "its caller is answered without it");
        assert_eq!(withdraw(&mut s, 2), Withdrawn::Unknown);
        assert_eq!(withdraw(&mut s, 1), Withdrawn::Running);
        assert_eq!(finish(&mut s, 1), [releases([1]), starts([3])].concat());
        assert_eq!(finish(&mut s, 3), [releases([3]), starts([4])].concat());
        assert_eq!(withdraw(&mut s, 3), Withdrawn::Unknown);
        assert_eq!(finish(&mut s, 4), releases([4]));
        assert!(s.is_idle());
    }
}

#[test]
fn a_finished_request_that_is_withdrawn_holds_up_nobody() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    (1..=4).for_each(|number| arrive(&mut s, A, number, "k"));
    drain(&mut s);
    assert_eq!([finish(&mut s, 2), finish(&mut s, 3)].concat(), [], "they wait for the first");
    assert_eq!(withdraw(&mut s, 2), Withdrawn::Forgotten);
    let id = s.id(1);
    s.order.finish(id);
    assert_eq!(withdraw(&mut s, 1), Withdrawn::Forgotten, "it is due, and has not been polled");
    assert_eq!(drain(&mut s), releases([3]));
    assert_eq!(finish(&mut s, 4), releases([4]));
    assert!(s.is_idle());
}

#[test]
fn a_request_withdrawn_before_the_poll_never_starts() {
    let mut s = scheduler(OrderingMode::Unordered);
    arrive(&mut s, A, 1, "k");
    assert_eq!(withdraw(&mut s, 1), Withdrawn::Forgotten);
    assert_eq!(drain(&mut s), []);
    assert!(s.is_idle());
}

#[test]
fn a_withdrawn_running_request_keeps_slot_and_key_until_it_has_ended() {
    let mut s = limited(OrderingMode::KeySerialized, 1);
    arrive(&mut s, A, 1, "k");
    arrive(&mut s, A, 2, "");
    assert_eq!(drain(&mut s), starts([1]));
    assert_eq!(withdraw(&mut s, 1), Withdrawn::Running);
    assert_eq!(drain(&mut s), []);
    assert_eq!(s.running(), 1);
    assert_eq!(finish(&mut s, 1), [releases([1]), starts([2])].concat());
}

#[test]
fn finishing_a_waiting_request_withdraws_it() {
    let mut s = limited(OrderingMode::Unordered, 1);
    arrive(&mut s, A, 1, "");
    arrive(&mut s, A, 2, "");
    assert_eq!(drain(&mut s), starts([1]));
    assert_eq!(finish(&mut s, 2), releases([2]));
    assert_eq!((s.running(), s.waiting()), (1, 0));
}

#[test]
fn an_id_in_use_is_refused_and_its_request_goes_on() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    arrive(&mut s, A, 1, "k");
    refused(offer(&mut s, A, 1, "l", 0), Busy::DuplicateRequest);
    assert_eq!(drain(&mut s), starts([1]));
    refused(offer(&mut s, A, 1, "k", 0), Busy::DuplicateRequest);
    assert_eq!(finish(&mut s, 1), releases([1]));
    assert!(s.is_idle());
}

#[test]
fn unknown_ids_are_ignored() {
    let mut s = scheduler(OrderingMode::KeySerialized);
    s.finish(RequestId::new(A, 1));
    s.suspend(1);
    s.resume(1);
    assert_eq!(withdraw(&mut s, 1), Withdrawn::Unknown);
    s.forget_connection(A);
    assert_eq!(drain(&mut s), []);
    assert!(s.is_idle());
}
