//! Floods of requests that are cancelled: what they leave behind, and what each costs.

use super::*;
use crate::kept::kept_capacity;

/// Nothing is left, whatever the state of the requests when they were cancelled.
#[test]
fn a_flood_of_cancelled_requests_leaves_nothing_behind() {
    for mode in [OrderingMode::Unordered, OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let mut s = limited(mode, 1);
        arrive(&mut s, B, 0, "hangs");
        assert_eq!(drain(&mut s), starts([0]));
        s.pause(A);
        for number in 1..100_000 {
            let key = ["", "k", "l"][number as usize % 3];
            arrive(&mut s, A, number, key);
            assert_eq!(withdraw(&mut s, number), Withdrawn::Forgotten);
            assert_eq!(s.next(), None);
            assert_eq!(s.requests, 1);
        }
        s.unpause(A);
        assert_eq!(finish(&mut s, 0), releases([0]));
        assert!(s.is_idle());
    }
}

#[test]
fn a_flood_of_failed_requests_behind_one_that_hangs_is_bounded() {
    for mode in [OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let mut s = limited(mode, 1);
        arrive(&mut s, A, 0, "k");
        assert_eq!(drain(&mut s), starts([0]));
        for number in 1..10_000 {
            match offer(&mut s, A, number, "k", 1) {
                Ok(()) => s.finish(RequestId::new(A, number)),
                refusal => refused(refusal, Busy::Requests { limit: 4_000 }),
            }
            assert_eq!(s.poll(), None);
        }
        assert_eq!(s.requests, 4_000);
        assert_eq!(finish(&mut s, 0), releases(0..4_000));
        assert!(s.is_idle());
    }
}

#[test]
fn a_burst_of_replies_leaves_no_memory_behind() {
    let mut s = limited(OrderingMode::ExitOrdered, 10_000);
    (0..4_000).for_each(|number| arrive(&mut s, A, number, "k"));
    assert_eq!(drain(&mut s).len(), 4_000);
    for number in (0..4_000).rev() {
        let id = s.id(number);
        s.order.finish(id);
    }
    assert_eq!(s.release.due(), 4_000);
    assert_eq!(drain(&mut s), releases(0..4_000));
    assert!(s.release.due_capacity() <= kept_capacity::<(Seq, Action)>());
}

/// Nothing of them is left, and the others keep their order.
#[test]
fn a_flood_of_cancelled_requests_behind_one_that_hangs_leaves_nothing_behind() {
    for mode in [OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let mut s = limited(mode, 5);
        (0..2).for_each(|number| arrive(&mut s, A, number, "k"));
        drain(&mut s);
        for number in 2..10_000 {
            arrive(&mut s, A, number, "k");
            s.poll();
            let id = s.id(number);
            // Half of them have run.
            if number % 2 == 0 {
                s.order.finish(id);
            }
            if withdraw(&mut s, number) == Withdrawn::Running {
                s.order.finish(id);
                assert_eq!(withdraw(&mut s, number), Withdrawn::Forgotten);
            }
            assert_eq!((s.poll(), s.requests), (None, 2));
        }
        assert_eq!(s.release.due(), 0);
        arrive(&mut s, A, 10_000, "");
        arrive(&mut s, A, 10_001, "other");
        assert_eq!(drain(&mut s), starts([10_000, 10_001]), "whatever has another key, or none, goes on");
        arrive(&mut s, A, 10_002, "k");
        let mut left = drain(&mut s);
        [0, 1, 10_002].into_iter().for_each(|number| left.extend(finish(&mut s, number)));
        left.retain(|did| matches!(did, Did::Release(_)));
        assert_eq!(left, releases([0, 1, 10_002]));
    }
}
