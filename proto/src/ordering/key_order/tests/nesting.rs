//! Handlers that lend their slots while they wait.

use super::*;

#[test]
fn nested_calls_get_through_one_slot() {
    let mut s = limited(OrderingMode::KeySerialized, 1);
    arrive(&mut s, A, 1, "k");
    assert_eq!(drain(&mut s), starts([1]));
    for depth in 2..50 {
        arrive(&mut s, A, depth, "");
        assert_eq!(drain(&mut s), []);
        s.suspend(depth - 1);
        assert_eq!(drain(&mut s), starts([depth]));
    }
    arrive(&mut s, A, 50, "k");
    for depth in (2..50).rev() {
        assert_eq!(finish(&mut s, depth), releases([depth]), "the key is held while suspended");
        s.resume(depth - 1);
    }
    assert_eq!(finish(&mut s, 1), [releases([1]), starts([50])].concat());
}

#[test]
fn a_resumed_handler_may_exceed_the_limit_but_nothing_starts_meanwhile() {
    let mut s = limited(OrderingMode::Unordered, 1);
    (1..=3).for_each(|number| arrive(&mut s, A, number, ""));
    assert_eq!(drain(&mut s), starts([1]));
    s.suspend(1);
    s.suspend(1);
    assert_eq!(drain(&mut s), starts([2]));
    s.resume(1);
    s.resume(1);
    assert_eq!(s.running(), 2);
    assert_eq!(finish(&mut s, 2), releases([2]));
    assert_eq!(finish(&mut s, 1), [releases([1]), starts([3])].concat());
}

#[test]
fn a_suspended_handler_can_end() {
    let mut s = limited(OrderingMode::Unordered, 1);
    (1..=3).for_each(|number| arrive(&mut s, A, number, ""));
    assert_eq!(drain(&mut s), starts([1]));
    s.suspend(1);
    assert_eq!(finish(&mut s, 1), [releases([1]), starts([2])].concat());
    s.resume(1);
    assert_eq!(finish(&mut s, 2), [releases([2]), starts([3])].concat());
}
