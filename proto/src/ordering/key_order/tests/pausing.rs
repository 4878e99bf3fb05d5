//! Connections that are paused.

use super::*;

#[test]
fn a_paused_connection_starts_nothing_and_others_go_on() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    arrive(&mut s, A, 1, "");
    assert_eq!(drain(&mut s), starts([1]));
    s.pause(A);
    s.pause(A);
    arrive(&mut s, A, 2, "");
    arrive(&mut s, B, 3, "");
    assert_eq!(drain(&mut s), starts([3]));
    assert_eq!(finish(&mut s, 1), releases([1]));
    s.unpause(A);
    s.unpause(A);
    assert_eq!(drain(&mut s), starts([2]));
}

#[test]
fn a_paused_connection_holds_up_its_keys_where_they_are_shared() {
    for (scope, expected) in [(KeyScope::Global, vec![]), (KeyScope::PerConnection, starts([2]))] {
        let mut s = with(|config| (config.mode, config.scope) = (OrderingMode::KeySerialized, scope));
        s.pause(A);
        arrive(&mut s, A, 1, "k");
        arrive(&mut s, B, 2, "k");
        assert_eq!(drain(&mut s), expected);
        assert_eq!(withdraw(&mut s, 1), Withdrawn::Forgotten);
        assert_eq!(drain(&mut s).contains(&Did::Start(2)), expected.is_empty());
    }
}

#[test]
fn a_pause_ends_with_the_connection_and_is_not_a_request() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    s.pause(A);
    assert!(s.is_idle());
    arrive(&mut s, A, 1, "k");
    s.forget_connection(A);
    assert!(s.is_idle());
    assert_eq!(s.run.kept(), 0);
}

#[test]
fn a_paused_connection_starts_nothing_that_becomes_ready() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    arrive_unready(&mut s, A, 1, "");
    s.pause(A);
    s.ready(1);
    assert_eq!(drain(&mut s), []);
    s.unpause(A);
    assert_eq!(drain(&mut s), starts([1]));
}
