//! Replies that begin before their handler ends.

use super::*;

#[test]
fn a_streamed_reply_begins_in_its_order() {
    for (mode, waits) in [
        (OrderingMode::ExitOrdered, true),
        (OrderingMode::Unordered, false),
        (OrderingMode::KeySerialized, false),
    ] {
        let mut s = scheduler(mode);
        arrive(&mut s, A, 1, "k");
        arrive(&mut s, B, 2, "k");
        arrive(&mut s, A, 3, "");
        let serialized = mode == OrderingMode::KeySerialized;
        assert_eq!(drain(&mut s).len(), if serialized { 2 } else { 3 });
        s.want_to_reply(3);
        assert_eq!(drain(&mut s), [Did::MayReply(3)], "{mode:?}");
        if serialized {
            s.want_to_reply(2);
            assert_eq!(finish(&mut s, 1), [Did::Release(1), Did::Start(2)], "it did not run");
            s.want_to_reply(2);
            assert_eq!(drain(&mut s), [Did::MayReply(2)]);
        } else {
            s.want_to_reply(2);
            assert_eq!(drain(&mut s).is_empty(), waits, "{mode:?}");
            let then = if waits { vec![Did::Release(1), Did::MayReply(2)] } else { vec![Did::Release(1)] };
            assert_eq!(finish(&mut s, 1), then, "{mode:?}");
        }
        s.want_to_reply(2);
        assert_eq!(drain(&mut s), [], "it has asked before");
        assert_eq!(finish(&mut s, 2), releases([2]));
        s.want_to_reply(2);
        assert_eq!(finish(&mut s, 3), releases([3]));
        assert!(s.is_idle());
    }
}

#[test]
fn a_streamed_reply_that_waits_holds_up_later_ones_and_can_finish_first() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    (1..=4).for_each(|number| arrive(&mut s, A, number, "k"));
    drain(&mut s);
    (2..=4).for_each(|number| s.want_to_reply(number));
    assert_eq!(finish(&mut s, 3), []);
    assert_eq!(finish(&mut s, 1), [Did::Release(1), Did::MayReply(2)]);
    assert_eq!(finish(&mut s, 2), [Did::Release(2), Did::Release(3), Did::MayReply(4)]);
    assert_eq!(finish(&mut s, 4), releases([4]));
}

#[test]
fn a_streamed_reply_of_a_forgotten_connection_never_begins_and_holds_up_nobody() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    arrive(&mut s, A, 1, "k");
    arrive(&mut s, A, 2, "");
    arrive(&mut s, B, 3, "k");
    drain(&mut s);
    (1..=3).for_each(|number| s.want_to_reply(number));
    s.forget_connection(A);
    assert_eq!(drain(&mut s), [Did::MayReply(3)]);
    (1..=2).for_each(|number| s.want_to_reply(number));
    assert_eq!([finish(&mut s, 1), finish(&mut s, 2)].concat(), []);
    assert_eq!(finish(&mut s, 3), releases([3]));
    assert!(s.is_idle());
}

#[test]
fn however_many_wait_to_reply_one_is_looked_at_when_the_first_leaves() {
    let mut s = limited(OrderingMode::ExitOrdered, 4_000);
    (0..2_000).for_each(|number| arrive(&mut s, A, number, "k"));
    drain(&mut s);
    (1..2_000).for_each(|number| s.want_to_reply(number));
    assert_eq!(s.release.due(), 0);
    for number in 0..1_999 {
        let id = s.id(number);
        s.order.finish(id);
        assert_eq!(s.release.due(), 2, "one leaves, one begins");
        assert_eq!(drain(&mut s), [Did::Release(number), Did::MayReply(number + 1)]);
    }
}
