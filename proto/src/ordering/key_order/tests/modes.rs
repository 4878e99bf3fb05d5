//! Which request starts and which reply is released, in the three modes.

use super::*;

#[test]
fn unordered_replies_leave_when_done() {
    let mut s = scheduler(OrderingMode::Unordered);
    (1..=3).for_each(|number| arrive(&mut s, A, number, "k"));
    assert_eq!(drain(&mut s), starts(1..=3));
    assert_eq!(finish(&mut s, 3), releases([3]));
    assert_eq!(finish(&mut s, 1), releases([1]));
    assert_eq!(finish(&mut s, 2), releases([2]));
    assert!(s.is_idle());
}

#[test]
fn exit_ordered_replies_leave_in_order_of_arrival_across_peers() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    arrive(&mut s, A, 1, "k");
    arrive(&mut s, B, 2, "k");
    arrive(&mut s, A, 3, "k");
    arrive(&mut s, A, 4, "other");
    arrive(&mut s, A, 5, "");
    assert_eq!(drain(&mut s).len(), 5);
    assert_eq!(finish(&mut s, 3), []);
    assert_eq!(finish(&mut s, 2), []);
    assert_eq!(finish(&mut s, 5), releases([5]));
    assert_eq!(finish(&mut s, 4), releases([4]));
    assert_eq!(finish(&mut s, 1), releases([1, 2, 3]));
    assert!(s.is_idle());
}

#[test]
fn key_serialized_runs_one_handler_per_key() {
    let mut s = scheduler(OrderingMode::KeySerialized);
    arrive(&mut s, A, 1, "k");
    arrive(&mut s, B, 2, "k");
    arrive(&mut s, A, 3, "k");
    arrive(&mut s, A, 4, "other");
    arrive(&mut s, A, 5, "");
    arrive(&mut s, A, 6, "");
    assert_eq!(drain(&mut s), starts([1, 4, 5, 6]));
    assert_eq!(finish(&mut s, 1), [releases([1]), starts([2])].concat());
    assert_eq!(finish(&mut s, 2), [releases([2]), starts([3])].concat());
}

#[test]
fn keys_per_connection_are_independent() {
    for mode in [OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let mut s = with(|config| (config.mode, config.scope) = (mode, KeyScope::PerConnection));
        arrive(&mut s, A, 1, "k");
        arrive(&mut s, B, 2, "k");
        assert_eq!(drain(&mut s), starts([1, 2]));
        assert_eq!(finish(&mut s, 2), releases([2]));
    }
}

#[test]
fn keys_of_other_type_are_other_keys() {
    let mut s = scheduler(OrderingMode::KeySerialized);
    for (number, key) in [(1, OrderingKey::text("k")), (2, OrderingKey::binary(&b"k"[..]))] {
        s.offer(A, number, key, 0, true).unwrap();
    }
    assert_eq!(drain(&mut s), starts([1, 2]));
}

#[test]
fn an_empty_text_is_a_key() {
    let mut s = scheduler(OrderingMode::KeySerialized);
    for number in [1, 2] {
        s.offer(A, number, OrderingKey::text(""), 0, true).unwrap();
    }
    assert_eq!(drain(&mut s), starts([1]));
}

#[test]
fn slots_go_round_among_connections() {
    let mut s = limited(OrderingMode::Unordered, 1);
    (0..100).for_each(|number| arrive(&mut s, A, number, ""));
    (100..102).for_each(|number| arrive(&mut s, B, number, ""));
    arrive(&mut s, C, 200, "k");
    let mut order = Vec::new();
    while let Some(action) = s.next() {
        if let Did::Start(number) = action {
            order.push(number);
            let id = s.id(number);
            s.finish(id);
        }
    }
    assert_eq!(order[..7], [0, 100, 200, 1, 101, 2, 3]);
    assert_eq!(order.len(), 103);
}

#[test]
fn slots_go_round_among_the_keys_of_a_connection() {
    let mut s = limited(OrderingMode::ExitOrdered, 1);
    (0..5).for_each(|number| arrive(&mut s, A, number, "flood"));
    arrive(&mut s, A, 10, "k");
    arrive(&mut s, A, 11, "k");
    arrive(&mut s, A, 20, "");
    let mut order = Vec::new();
    while let Some(action) = s.next() {
        if let Did::Start(number) = action {
            order.push(number);
            let id = s.id(number);
            s.finish(id);
        }
    }
    assert_eq!(order, [0, 10, 20, 1, 11, 2, 3, 4]);
}
