//! The share of the slots that one connection may hold.

use super::*;

/// A scheduler with `running` slots, of which one connection may hold `percent`.
fn shared(mode: OrderingMode, running: usize, percent: u8) -> Tested {
    with(|config| {
        (config.mode, config.max_running, config.max_share_per_connection) = (mode, running, percent)
    })
}

#[test]
fn a_share_is_rounded_up_to_whole_slots() {
    for (running, percent, expected) in [
        (100, 80, 80),
        (0, 80, 1),
        (1, 80, 1),
        (2, 80, 2),
        (3, 80, 3),
        (4, 80, 4),
        (5, 80, 4),
        (6, 80, 5),
        (1_001, 80, 801),
        (100, 0, 1),
        (100, 1, 1),
        (101, 1, 2),
        (7, 100, 7),
        (7, 255, 7),
        (usize::MAX, 100, usize::MAX),
        (usize::MAX, 50, usize::MAX / 2 + 1),
    ] {
        let mut config = OrderingConfig::default();
        (config.max_running, config.max_share_per_connection) = (running, percent);
        assert_eq!(config.max_running_per_connection(), expected, "{percent} % of {running}");
    }
}

#[test]
fn one_connection_leaves_slots_to_others_whose_requests_start_at_once() {
    for mode in MODES {
        let mut s = with(|config| (config.mode, config.max_waiting_per_connection) = (mode, 1_000));
        (0..1_000).for_each(|number| arrive(&mut s, A, number, ""));
        assert_eq!(drain(&mut s), starts(0..80), "80 of 100");
        assert_eq!((s.running(), s.waiting()), (80, 920));
        for number in 1_000..1_020 {
            arrive(&mut s, [B, C][number as usize % 2], number, "k");
        }
        let started = drain(&mut s);
        let expected =
            if mode == OrderingMode::KeySerialized { starts([1_000]) } else { starts(1_000..1_020) };
        assert_eq!(started, expected, "{mode:?}");
        assert_eq!(finish(&mut s, 3), [releases([3]), starts([80])].concat());
    }
}

#[test]
fn a_connection_at_its_share_goes_on_when_a_handler_of_its_own_ends_or_lends_its_slot() {
    let mut s = shared(OrderingMode::Unordered, 5, 40);
    (0..6).for_each(|number| arrive(&mut s, A, number, ""));
    (10..14).for_each(|number| arrive(&mut s, B, number, ""));
    assert_eq!(drain(&mut s), starts([0, 10, 1, 11]), "one slot is left, to a third");
    assert_eq!(finish(&mut s, 10), [releases([10]), starts([12])].concat(), "it is of no use to the first");
    s.suspend(0);
    assert_eq!(drain(&mut s), starts([2]));
    s.suspend(1);
    s.suspend(1);
    assert_eq!(drain(&mut s), starts([3]));
    // Resumed handlers take their slots back, past the share.
    s.resume(0);
    s.resume(1);
    assert_eq!(s.running(), 6);
    assert_eq!(finish(&mut s, 2), releases([2]));
    assert_eq!(finish(&mut s, 1), releases([1]), "it has its share still");
    assert_eq!(finish(&mut s, 0), [releases([0]), starts([4])].concat());
    arrive(&mut s, C, 20, "");
    assert_eq!(drain(&mut s), starts([20]));
}

#[test]
fn a_suspended_handler_that_ends_returns_no_second_slot() {
    let mut s = shared(OrderingMode::Unordered, 10, 10);
    (0..3).for_each(|number| arrive(&mut s, A, number, ""));
    assert_eq!(drain(&mut s), starts([0]));
    s.suspend(0);
    assert_eq!(drain(&mut s), starts([1]));
    assert_eq!(finish(&mut s, 0), releases([0]));
    assert_eq!(finish(&mut s, 1), [releases([1]), starts([2])].concat());
}

#[test]
fn what_waits_for_its_share_counts_as_waiting() {
    let mut s = with(|config| {
        (config.max_running, config.max_share_per_connection) = (10, 20);
        (config.max_waiting_per_connection, config.max_waiting_bytes_per_connection) = (1, 10);
    });
    (0..2).for_each(|number| offer(&mut s, A, number, "", 1_000).unwrap());
    refused(offer(&mut s, A, 2, "", 11), Busy::WaitingBytes { limit: 10 });
    offer(&mut s, A, 2, "", 10).unwrap();
    refused(offer(&mut s, A, 3, "", 0), Busy::WaitingRequests { limit: 1 });
    offer(&mut s, B, 4, "", 1_000).unwrap();
    assert_eq!(drain(&mut s), starts([0, 4, 1]));
    assert_eq!(finish(&mut s, 0), [releases([0]), starts([2])].concat());
    // A request that waits for the share takes no slot from one that can start.
    arrive(&mut s, A, 3, "");
    (5..6).for_each(|number| offer(&mut s, B, number, "", 1_000).unwrap());
    s.offer(C, 7, OrderingKey::none(), 0, false).unwrap();
    s.complete(7, 1_000).unwrap();
    assert_eq!(drain(&mut s), starts([5, 7]));
}

#[test]
fn keys_keep_their_order_at_the_share() {
    let mut s = shared(OrderingMode::ExitOrdered, 10, 20);
    for number in 0..8 {
        arrive(&mut s, A, number, ["k", "l"][number as usize % 2]);
    }
    let mut order = drain(&mut s);
    for number in 0..8 {
        order.extend(finish(&mut s, number));
    }
    let started: Vec<_> = order.iter().filter(|did| matches!(did, Did::Start(_))).copied().collect();
    assert_eq!(started, starts(0..8));
    assert!(s.is_idle());
}

/// As with a pause. If keys are not shared, the connection only delays its own requests.
#[test]
fn a_connection_at_its_share_holds_up_serialized_keys_where_they_are_shared() {
    for (scope, expected) in [(KeyScope::Global, vec![]), (KeyScope::PerConnection, starts([2]))] {
        let mut s = with(|config| {
            (config.mode, config.scope) = (OrderingMode::KeySerialized, scope);
            (config.max_running, config.max_share_per_connection) = (10, 10);
        });
        arrive(&mut s, A, 0, "");
        assert_eq!(drain(&mut s), starts([0]));
        arrive(&mut s, A, 1, "k");
        arrive(&mut s, B, 2, "k");
        assert_eq!(drain(&mut s), expected, "{scope:?}");
        let then = if expected.is_empty() { vec![Did::Release(1), Did::Start(2)] } else { releases([1]) };
        assert_eq!(finish(&mut s, 0), [releases([0]), starts([1])].concat());
        assert_eq!(finish(&mut s, 1), then);
    }
}

#[test]
fn a_pause_and_a_share_hold_a_connection_back_until_both_are_over() {
    let mut s = shared(OrderingMode::Unordered, 5, 20);
    (0..3).for_each(|number| arrive(&mut s, A, number, ""));
    assert_eq!(drain(&mut s), starts([0]));
    s.pause(A);
    assert_eq!(finish(&mut s, 0), releases([0]));
    s.unpause(A);
    assert_eq!(drain(&mut s), starts([1]));
    s.pause(A);
    s.unpause(A);
    assert_eq!(drain(&mut s), []);
}

#[test]
fn handlers_of_a_forgotten_connection_hold_slots_but_no_share() {
    let mut s = shared(OrderingMode::Unordered, 3, 34);
    (0..3).for_each(|number| arrive(&mut s, A, number, ""));
    assert_eq!(drain(&mut s), starts([0, 1]));
    s.suspend(1);
    s.forget_connection(A);
    // A new connection with the same id.
    (3..5).for_each(|number| arrive(&mut s, A, number, ""));
    assert_eq!(drain(&mut s), starts([3, 4]));
    s.resume(1);
    assert_eq!([finish(&mut s, 0), finish(&mut s, 1)].concat(), []);
    assert_eq!([finish(&mut s, 3), finish(&mut s, 4)].concat(), releases([3, 4]));
    assert!(s.is_idle());
}
