//! Limits, at their edges.

use super::*;

#[test]
fn running_handlers_at_the_limit_and_one_past_it() {
    let mut s = limited(OrderingMode::Unordered, 3);
    (1..=4).for_each(|number| arrive(&mut s, A, number, ""));
    assert_eq!(drain(&mut s), starts(1..=3));
    assert_eq!((s.running(), s.waiting()), (3, 1));
    assert_eq!(finish(&mut s, 2), [releases([2]), starts([4])].concat());
}

#[test]
fn a_limit_of_no_handlers_counts_as_one() {
    let mut s = limited(OrderingMode::Unordered, 0);
    arrive(&mut s, A, 1, "");
    arrive(&mut s, A, 2, "");
    assert_eq!(drain(&mut s), starts([1]));
}

#[test]
fn waiting_requests_at_the_limit_and_one_past_it() {
    let mut s = with(|config| (config.max_running, config.max_waiting_per_connection) = (1, 2));
    let limit = Busy::WaitingRequests { limit: 2 };
    (1..=3).for_each(|number| arrive(&mut s, A, number, ""));
    refused(offer(&mut s, A, 4, "", 0), limit);
    arrive(&mut s, B, 5, "");
    assert_eq!(drain(&mut s), starts([1]));
    refused(offer(&mut s, A, 4, "", 0), limit);
    assert_eq!(withdraw(&mut s, 2), Withdrawn::Forgotten);
    arrive(&mut s, A, 4, "");
    refused(offer(&mut s, A, 6, "", 0), limit);
    assert_eq!(s.waiting(), 3);
}

#[test]
fn requests_that_can_start_at_once_do_not_wait() {
    let mut s = with(|config| {
        config.mode = OrderingMode::KeySerialized;
        config.max_running = 3;
        config.max_waiting_per_connection = 0;
        config.max_waiting_bytes_per_connection = 0;
    });
    let none_may_wait = Busy::WaitingRequests { limit: 0 };
    offer(&mut s, A, 1, "k", 9).unwrap();
    refused(offer(&mut s, A, 2, "k", 9), none_may_wait);
    offer(&mut s, A, 3, "", 9).unwrap();
    offer(&mut s, B, 4, "", 9).unwrap();
    refused(offer(&mut s, B, 5, "", 9), none_may_wait);
    assert_eq!(drain(&mut s), starts([1, 4, 3]), "slots go round");
    assert_eq!(finish(&mut s, 4), releases([4]));
    s.pause(B);
    refused(offer(&mut s, B, 6, "", 0), none_may_wait);
    refused(offer(&mut s, A, 7, "k", 0), none_may_wait);
    offer(&mut s, A, 8, "l", 9).unwrap();
}

#[test]
fn waiting_bytes_at_the_limit_and_one_past_it() {
    let mut s = with(|config| (config.max_running, config.max_waiting_bytes_per_connection) = (1, 10));
    let limit = Busy::WaitingBytes { limit: 10 };
    offer(&mut s, A, 1, "", usize::MAX).unwrap();
    refused(offer(&mut s, A, 2, "", 11), limit);
    offer(&mut s, A, 2, "", 4).unwrap();
    refused(offer(&mut s, A, 3, "", usize::MAX), limit);
    refused(offer(&mut s, A, 3, "", 7), limit);
    offer(&mut s, A, 3, "", 6).unwrap();
    refused(offer(&mut s, A, 4, "", 1), limit);
    offer(&mut s, A, 4, "", 0).unwrap();
    assert_eq!(drain(&mut s), starts([1]));
    assert_eq!(finish(&mut s, 1), [releases([1]), starts([2])].concat());
    refused(offer(&mut s, A, 5, "", 5), limit);
    offer(&mut s, A, 5, "", 4).unwrap();
}

#[test]
fn all_requests_of_a_connection_at_the_limit_and_one_past_it() {
    let mut s = with(|config| config.max_requests_per_connection = 3);
    let limit = Busy::Requests { limit: 3 };
    (1..=3).for_each(|number| arrive(&mut s, A, number, "k"));
    refused(offer(&mut s, A, 4, "", 0), limit);
    arrive(&mut s, B, 5, "k");
    drain(&mut s);
    s.suspend(2);
    assert_eq!(finish(&mut s, 3), []);
    refused(offer(&mut s, A, 4, "", 0), limit);
    assert_eq!(finish(&mut s, 1), releases([1]));
    arrive(&mut s, A, 4, "");
    refused(offer(&mut s, A, 6, "", 0), limit);
}

#[test]
fn errors_say_what_limit_was_met() {
    let busy = Busy::WaitingRequests { limit: 2 };
    assert_eq!(busy.to_string(), "2 requests of this connection are waiting");
}

#[test]
fn the_defaults_are_those_of_the_protocol() {
    let config = OrderingConfig::default();
    assert_eq!((config.mode, config.scope), (OrderingMode::ExitOrdered, KeyScope::Global));
    assert_eq!((config.max_running, config.max_waiting_per_connection), (100, 1_000));
    assert_eq!((config.max_share_per_connection, config.max_running_per_connection()), (80, 80));
    assert_eq!(
        (config.max_waiting_bytes_per_connection, config.max_requests_per_connection),
        (64 << 20, 4_000)
    );
}

#[test]
fn arguments_that_are_complete_count_as_waiting_at_the_limit_and_one_past_it() {
    for (mode, text) in [(OrderingMode::KeySerialized, "k"), (OrderingMode::ExitOrdered, "")] {
        let mut s = with(|config| {
            (config.mode, config.max_running) = (mode, 1);
            config.max_waiting_bytes_per_connection = 10;
        });
        arrive(&mut s, A, 1, text);
        assert_eq!(drain(&mut s), starts([1]));
        s.offer(A, 2, key(text), 3, false).unwrap();
        s.offer(A, 3, key(text), 1, false).unwrap();
        refused(s.complete(2, 7), Busy::WaitingBytes { limit: 10 });
        refused(s.complete(2, usize::MAX), Busy::WaitingBytes { limit: 10 });
        s.complete(2, 6).unwrap();
        s.complete(2, 6).unwrap();
        refused(s.complete(3, 1), Busy::WaitingBytes { limit: 10 });
        // A released request no longer counts against any limit.
        assert_eq!(finish(&mut s, 1), [releases([1]), starts([2])].concat());
        s.complete(3, 9).unwrap();
        assert_eq!(withdraw(&mut s, 3), Withdrawn::Forgotten);
        s.offer(A, 4, key(text), 10, false).unwrap();
        assert_eq!(withdraw(&mut s, 4), Withdrawn::Forgotten);
        assert_eq!(finish(&mut s, 2), releases([2]));
        assert!(s.is_idle());
    }
}

#[test]
fn an_argument_of_a_request_that_can_start_at_once_is_not_limited() {
    for mode in MODES {
        let mut s = with(|config| {
            config.mode = mode;
            config.max_waiting_bytes_per_connection = 10;
        });
        s.offer(A, 1, key("k"), 1, false).unwrap();
        s.offer(A, 2, key("k"), 1, false).unwrap();
        s.complete(1, 1_000).unwrap();
        let is_next = mode != OrderingMode::KeySerialized;
        assert_eq!(s.complete(2, 1_000).is_ok(), is_next, "{mode:?}");
        assert_eq!(drain(&mut s), if is_next { starts([1, 2]) } else { starts([1]) });
    }
}
