use super::*;

/// Exit-ordered, with a running handler `a(0)` that all other requests with key "k" wait for.
fn behind_one(limit: usize) -> Tested {
    let mut endpoint = Tested::new(|config| config.max_held_reply_bytes = limit);
    endpoint.start(a(0), "k");
    endpoint
}

/// Starts the request, and finishes it with a result of `bytes` bytes, which is held.
#[track_caller]
fn hold(endpoint: &mut Tested, request: RequestId, bytes: usize) {
    endpoint.start(request, "k");
    endpoint.0.finish(request, Some(result(bytes)));
    assert_eq!(endpoint.poll(), []);
}

#[test]
fn held_replies_at_the_limit_and_one_past_it() {
    for (last, expected) in [(344, "344 bytes"), (345, "ReplyTooLarge")] {
        let mut endpoint = behind_one(1_000);
        hold(&mut endpoint, a(1), 144);
        hold(&mut endpoint, a(2), last);
        hold(&mut endpoint, b(3), 900);
        let replies = endpoint.finish(a(0), "first");
        let expected = [
            replied(a(0), "first"),
            replied(a(1), "144 bytes"),
            replied(a(2), expected),
            replied(b(3), "900 bytes"),
        ];
        assert_eq!(replies, expected, "each reply counts with 256 bytes besides, against its connection");
        endpoint.assert_empty();
    }
}

#[test]
fn one_held_reply_alone_may_be_larger() {
    let mut endpoint = behind_one(1_000);
    hold(&mut endpoint, a(1), 5_000);
    hold(&mut endpoint, a(2), 0);
    let expected = [replied(a(0), "first"), replied(a(1), "5000 bytes"), replied(a(2), "ReplyTooLarge")];
    assert_eq!(endpoint.finish(a(0), "first"), expected);
    hold_nothing_after(&mut endpoint);
}

/// Asserts that nothing is held, so that the limit is available again.
fn hold_nothing_after(endpoint: &mut Tested) {
    endpoint.assert_empty();
    endpoint.start(a(0), "k");
    hold(endpoint, a(1), 244);
    hold(endpoint, a(2), 244);
    let expected = [replied(a(0), "first"), replied(a(1), "244 bytes"), replied(a(2), "244 bytes")];
    assert_eq!(endpoint.finish(a(0), "first"), expected);
}

#[test]
fn a_reply_that_leaves_at_once_does_not_count() {
    let mut endpoint = behind_one(1_000);
    hold(&mut endpoint, a(1), 700);
    endpoint.start(a(2), "");
    endpoint.0.finish(a(2), Some(result(5_000)));
    assert_eq!(endpoint.poll(), [replied(a(2), "5000 bytes")]);
    // The second finishes before the first is released, and in the same step.
    endpoint.start(a(3), "k");
    endpoint.0.finish(a(3), Some(result(5_000)));
    endpoint.0.finish(a(0), Some(Reply::result("first")));
    let expected = [replied(a(0), "first"), replied(a(1), "700 bytes"), replied(a(3), "5000 bytes")];
    assert_eq!(endpoint.poll(), expected);
    hold_nothing_after(&mut endpoint);
}

#[test]
fn a_withdrawn_reply_that_is_held_gives_its_memory_back() {
    let mut endpoint = behind_one(1_000);
    hold(&mut endpoint, a(1), 700);
    endpoint.withdraw(a(1), Reply::Cancelled);
    endpoint.withdraw(a(1), Reply::Cancelled);
    assert_eq!(endpoint.poll(), [replied(a(1), "cancelled")]);
    hold(&mut endpoint, a(2), 700);
    assert_eq!(endpoint.finish(a(0), "first"), [replied(a(0), "first"), replied(a(2), "700 bytes")]);
    hold_nothing_after(&mut endpoint);
}

/// The result waits for its order for longer than the execution timeout.
#[test]
fn a_result_that_came_in_time_is_not_replaced_by_an_execution_timeout() {
    for is_held in [false, true] {
        for (reason, expected) in [
            (StopReason::ExecutionTimedOut, "900 bytes"),
            (StopReason::DeadlinePassed, "ExecutionTimedOut"),
            (StopReason::Cancelled, "ExecutionTimedOut"),
        ] {
            let mut endpoint = behind_one(1_000);
            endpoint.start(a(1), "k");
            endpoint.0.finish(a(1), Some(result(900)));
            if is_held {
                assert_eq!(endpoint.poll(), []);
            }
            let reply = Refusal::ExecutionTimedOut.reply("");
            endpoint.tell(EndpointEvent::Withdrawn { request: a(1), reason, reply });
            let mut replies = [endpoint.poll(), endpoint.finish(a(0), "first")].concat();
            if reason != StopReason::ExecutionTimedOut {
                replies.rotate_left(1);
            }
            assert_eq!(replies, [replied(a(0), "first"), replied(a(1), expected)], "{reason:?}");
            hold_nothing_after(&mut endpoint);
        }
    }
}

#[test]
fn a_reply_is_replaced_by_a_withdrawal_before_the_next_poll() {
    let mut endpoint = behind_one(1_000);
    endpoint.start(a(1), "k");
    endpoint.0.finish(a(1), Some(result(900)));
    endpoint.withdraw(a(1), Reply::Cancelled);
    assert_eq!(endpoint.poll(), [replied(a(1), "cancelled")]);
    hold(&mut endpoint, a(2), 700);
    assert_eq!(endpoint.finish(a(0), "first"), [replied(a(0), "first"), replied(a(2), "700 bytes")]);
}

#[test]
fn cancellations_do_not_count_and_are_not_replaced() {
    let mut endpoint = behind_one(1_000);
    hold(&mut endpoint, a(1), 744);
    for number in 2..50 {
        endpoint.start(a(number), "k");
        endpoint.0.finish(a(number), None);
    }
    assert_eq!(endpoint.poll(), []);
    let replies = endpoint.finish(a(0), "first");
    assert!(replies[2..].iter().all(|told| matches!(told, Told::Reply(_, text) if text == "cancelled")));
    assert_eq!(replies.len(), 50);
    endpoint.assert_empty();
}

#[test]
fn replies_of_a_closed_connection_are_dropped_and_hold_up_nobody() {
    let mut endpoint = behind_one(1_000);
    hold(&mut endpoint, b(1), 5_000);
    hold(&mut endpoint, a(2), 10);
    endpoint.tell(EndpointEvent::Closed(B));
    assert_eq!(endpoint.poll(), []);
    assert_eq!(endpoint.finish(a(0), "first"), [replied(a(0), "first"), replied(a(2), "xxxxxxxxxx")]);
    endpoint.assert_empty();
}
