//! Requests whose callers have given up (O-18).

use super::*;

const GIVEN_UP: [StopReason; 2] = [StopReason::Cancelled, StopReason::DeadlinePassed];

fn give_up(endpoint: &mut Tested, request: RequestId, reason: StopReason) {
    endpoint.0.handle_event(EndpointEvent::Withdrawn { request, reason, reply: Reply::Cancelled });
}

#[test]
fn a_request_that_does_not_run_is_answered_at_once_and_forgotten() {
    for reason in GIVEN_UP {
        // Waiting, waiting for its argument, finished in this round, and held.
        for stage in 0..4 {
            let mut endpoint = Tested::new(|config| config.max_held_reply_bytes = 1_000);
            endpoint.start(a(0), "k");
            endpoint.offer(a(1), "k", 0, stage != 1);
            if stage > 1 {
                assert_eq!(endpoint.poll(), [Start(a(1))]);
                endpoint.0.finish(a(1), Some(result(700)));
            }
            if stage > 2 {
                assert_eq!(endpoint.poll(), []);
            }
            endpoint.arrive(a(2), "k");
            give_up(&mut endpoint, a(1), reason);
            assert_eq!(endpoint.0.open_requests_of(A), 2);
            assert_eq!(endpoint.poll(), [replied(a(1), "cancelled"), Start(a(2))], "{reason:?} at {stage}");
            endpoint.0.finish(a(2), Some(result(700)));
            assert_eq!(endpoint.poll(), []);
            let then = [replied(a(0), "first"), replied(a(2), "700 bytes")];
            assert_eq!(endpoint.finish(a(0), "first"), then);
            endpoint.assert_empty();
        }
    }
}

#[test]
fn a_request_that_runs_is_answered_as_soon_as_its_handler_has_ended() {
    for reason in GIVEN_UP {
        for own in [None, Some("own")] {
            let mut endpoint = Tested::new(|config| config.ordering.max_running = 2);
            endpoint.start(a(0), "k");
            endpoint.start(a(1), "k");
            endpoint.arrive(a(2), "k");
            give_up(&mut endpoint, a(1), reason);
            assert_eq!((endpoint.poll(), endpoint.0.running()), (vec![], 2), "it keeps its slot");
            endpoint.0.finish(a(1), own.map(Reply::result));
            let expected = own.unwrap_or("cancelled");
            assert_eq!(endpoint.poll(), [replied(a(1), expected), Start(a(2))]);
            assert_eq!(endpoint.finish(a(2), "two"), []);
            assert_eq!(endpoint.finish(a(0), "first"), [replied(a(0), "first"), replied(a(2), "two")]);
            endpoint.assert_empty();
        }
    }
}

#[test]
fn a_request_that_never_ran_is_answered_at_once() {
    let mut endpoint = Tested::mode(OrderingMode::ExitOrdered);
    endpoint.start(a(0), "k");
    endpoint.start(a(1), "k");
    // The two events have crossed.
    give_up(&mut endpoint, a(1), StopReason::Cancelled);
    endpoint.tell(EndpointEvent::NeverRan(a(1)));
    assert_eq!(endpoint.poll(), [replied(a(1), "cancelled")]);
}

#[test]
fn a_request_whose_argument_failed_can_be_given_up() {
    let mut endpoint = Tested::mode(OrderingMode::KeySerialized);
    endpoint.start(a(0), "k");
    endpoint.offer(a(1), "k", 0, false);
    let reply = Refusal::BodyTooLarge.reply("");
    let reason = StopReason::IncompleteArgument;
    endpoint.tell(EndpointEvent::Withdrawn { request: a(1), reason, reply });
    assert_eq!(endpoint.poll(), []);
    give_up(&mut endpoint, a(1), StopReason::Cancelled);
    assert_eq!(endpoint.poll(), [replied(a(1), "cancelled")]);
}

/// However long a key is blocked, requests behind it whose callers have given up count against no limit, and
/// take no memory.
#[test]
fn calls_behind_a_stuck_key_that_are_given_up_hold_up_no_others() {
    for mode in MODES {
        let mut endpoint = Tested::new(|config| {
            config.ordering.mode = mode;
            config.ordering.max_requests_per_connection = 20;
            config.ordering.max_waiting_per_connection = 10;
        });
        endpoint.start(a(0), "stuck");
        endpoint.arrive(a(1), "stuck");
        endpoint.poll();
        for number in 2..10_000 {
            let request = a(number);
            endpoint.arrive(request, "stuck");
            if number % 3 == 0 {
                endpoint.poll();
            }
            give_up(&mut endpoint, request, GIVEN_UP[number as usize % 2]);
            endpoint.0.finish(request, None);
            let told = endpoint.poll();
            assert!(told.contains(&replied(request, "cancelled")), "{mode:?}: {told:?}");
            assert_eq!(endpoint.0.open_requests_of(A), 2);
        }
        endpoint.start(a(10_000), "");
        endpoint.start(a(10_001), "other");
        endpoint.arrive(a(10_002), "stuck");
        let mut left = endpoint.poll();
        for number in [10_001, 10_000, 0, 1, 10_002] {
            left.extend(endpoint.finish(a(number), "done"));
        }
        left.retain(|told| matches!(told, Told::Reply(..)));
        let order = [10_001, 10_000, 0, 1, 10_002].map(|number| replied(a(number), "done"));
        assert_eq!(left, order, "{mode:?}: what is left is in order");
        endpoint.assert_empty();
    }
}
