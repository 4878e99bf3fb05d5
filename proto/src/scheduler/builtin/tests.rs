use super::*;

const A: PeerId = PeerId(1);
const B: PeerId = PeerId(2);
const C: PeerId = PeerId(3);

fn scheduler(mode: OrderingMode) -> BuiltinScheduler {
    BuiltinScheduler::new(SchedulerConfig::default().with_mode(mode))
}

fn limited(mode: OrderingMode, running: usize) -> BuiltinScheduler {
    BuiltinScheduler::new(SchedulerConfig::default().with_mode(mode).with_max_running(running))
}

/// An empty key means none.
fn offer(on: &mut impl Scheduler, peer: PeerId, ticket: u64, key: &str, bytes: usize) -> Result<(), Busy> {
    let key = if key.is_empty() { OrderingKey::none() } else { OrderingKey::text(key) };
    on.arrive(Arrival { ticket: Ticket(ticket), peer, key: &key, bytes })
}

#[track_caller]
fn arrive(on: &mut impl Scheduler, peer: PeerId, ticket: u64, key: &str) {
    offer(on, peer, ticket, key, 0).unwrap();
}

#[track_caller]
fn refused(result: Result<(), Busy>, reason: BusyReason) {
    assert_eq!(result, Err(Busy { reason }));
}

fn starts(tickets: impl IntoIterator<Item = u64>) -> Vec<Action> {
    tickets.into_iter().map(|ticket| Action::Start(Ticket(ticket))).collect()
}

fn releases(tickets: impl IntoIterator<Item = u64>) -> Vec<Action> {
    tickets.into_iter().map(|ticket| Action::Release(Ticket(ticket))).collect()
}

fn drain(on: &mut impl Scheduler) -> Vec<Action> {
    std::iter::from_fn(|| on.poll()).collect()
}

fn finish(on: &mut impl Scheduler, ticket: u64) -> Vec<Action> {
    on.finish(Ticket(ticket));
    drain(on)
}

fn withdraw(on: &mut impl Scheduler, ticket: u64) -> Withdrawn {
    on.withdraw(Ticket(ticket))
}

#[test]
fn unordered_replies_leave_when_done() {
    let mut s = scheduler(OrderingMode::Unordered);
    (1..=3).for_each(|ticket| arrive(&mut s, A, ticket, "k"));
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
fn per_peer_keys_are_independent() {
    for mode in [OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let config = SchedulerConfig::default().with_mode(mode).with_scope(KeyScope::PerPeer);
        let mut s = BuiltinScheduler::new(config);
        arrive(&mut s, A, 1, "k");
        arrive(&mut s, B, 2, "k");
        assert_eq!(drain(&mut s), starts([1, 2]));
        assert_eq!(finish(&mut s, 2), releases([2]));
    }
}

#[test]
fn keys_of_other_type_are_other_keys() {
    let mut s = scheduler(OrderingMode::KeySerialized);
    for (ticket, key) in [(1, OrderingKey::text("k")), (2, OrderingKey::binary(&b"k"[..]))] {
        s.arrive(Arrival { ticket: Ticket(ticket), peer: A, key: &key, bytes: 0 }).unwrap();
    }
    assert_eq!(drain(&mut s), starts([1, 2]));
}

#[test]
fn an_empty_text_is_a_key() {
    let mut s = scheduler(OrderingMode::KeySerialized);
    for ticket in [1, 2] {
        let key = OrderingKey::text("");
        s.arrive(Arrival { ticket: Ticket(ticket), peer: A, key: &key, bytes: 0 }).unwrap();
    }
    assert_eq!(drain(&mut s), starts([1]));
}

#[test]
fn a_withdrawn_call_never_starts_and_takes_its_turn() {
    for mode in [OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let mut s = limited(mode, 1);
        (1..=3).for_each(|ticket| arrive(&mut s, A, ticket, "k"));
        assert_eq!(drain(&mut s), starts([1]));
        assert_eq!(withdraw(&mut s, 2), Withdrawn::Waiting);
        assert_eq!(drain(&mut s), [], "its reply waits for the first");
        assert_eq!(withdraw(&mut s, 2), Withdrawn::Unknown);
        assert_eq!(withdraw(&mut s, 1), Withdrawn::Running);
        assert_eq!(finish(&mut s, 1), [releases([1, 2]), starts([3])].concat());
        assert_eq!(finish(&mut s, 3), releases([3]));
        assert_eq!(withdraw(&mut s, 3), Withdrawn::Unknown);
        assert!(s.is_idle());
    }
}

#[test]
fn a_call_withdrawn_before_the_poll_never_starts() {
    let mut s = scheduler(OrderingMode::Unordered);
    arrive(&mut s, A, 1, "k");
    assert_eq!(withdraw(&mut s, 1), Withdrawn::Waiting);
    assert_eq!(drain(&mut s), releases([1]));
    assert!(s.is_idle());
}

#[test]
fn a_withdrawn_running_call_keeps_slot_and_key_until_it_has_ended() {
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
fn finishing_a_waiting_call_withdraws_it() {
    let mut s = limited(OrderingMode::Unordered, 1);
    arrive(&mut s, A, 1, "");
    arrive(&mut s, A, 2, "");
    assert_eq!(drain(&mut s), starts([1]));
    assert_eq!(finish(&mut s, 2), releases([2]));
    assert_eq!((s.running(), s.waiting()), (1, 0));
}

#[test]
fn running_handlers_at_the_limit_and_one_past_it() {
    let mut s = limited(OrderingMode::Unordered, 3);
    (1..=4).for_each(|ticket| arrive(&mut s, A, ticket, ""));
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
fn waiting_calls_at_the_limit_and_one_past_it() {
    let config = SchedulerConfig::default().with_max_running(1).with_max_waiting_per_peer(2);
    let mut s = BuiltinScheduler::new(config);
    let limit = BusyReason::WaitingCalls { limit: 2 };
    (1..=3).for_each(|ticket| arrive(&mut s, A, ticket, ""));
    refused(offer(&mut s, A, 4, "", 0), limit);
    arrive(&mut s, B, 5, "");
    assert_eq!(drain(&mut s), starts([1]));
    refused(offer(&mut s, A, 4, "", 0), limit);
    assert_eq!(withdraw(&mut s, 2), Withdrawn::Waiting);
    arrive(&mut s, A, 4, "");
    refused(offer(&mut s, A, 6, "", 0), limit);
    assert_eq!(s.waiting(), 3);
}

#[test]
fn calls_that_can_start_at_once_do_not_wait() {
    let config = SchedulerConfig::default()
        .with_mode(OrderingMode::KeySerialized)
        .with_max_running(3)
        .with_max_waiting_per_peer(0)
        .with_max_waiting_bytes_per_peer(0);
    let mut s = BuiltinScheduler::new(config);
    let none_may_wait = BusyReason::WaitingCalls { limit: 0 };
    offer(&mut s, A, 1, "k", 9).unwrap();
    refused(offer(&mut s, A, 2, "k", 9), none_may_wait);
    offer(&mut s, A, 3, "", 9).unwrap();
    offer(&mut s, B, 4, "", 9).unwrap();
    refused(offer(&mut s, B, 5, "", 9), none_may_wait);
    assert_eq!(drain(&mut s), starts([1, 4, 3]), "peers take turns");
    assert_eq!(finish(&mut s, 4), releases([4]));
    s.pause(B);
    refused(offer(&mut s, B, 6, "", 0), none_may_wait);
    refused(offer(&mut s, A, 7, "k", 0), none_may_wait);
    offer(&mut s, A, 8, "l", 9).unwrap();
}

#[test]
fn waiting_bytes_at_the_limit_and_one_past_it() {
    let config = SchedulerConfig::default().with_max_running(1).with_max_waiting_bytes_per_peer(10);
    let mut s = BuiltinScheduler::new(config);
    let limit = BusyReason::WaitingBytes { limit: 10 };
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
fn all_calls_of_a_peer_at_the_limit_and_one_past_it() {
    let config = SchedulerConfig::default().with_max_calls_per_peer(3);
    let mut s = BuiltinScheduler::new(config);
    let limit = BusyReason::Calls { limit: 3 };
    (1..=3).for_each(|ticket| arrive(&mut s, A, ticket, "k"));
    refused(offer(&mut s, A, 4, "", 0), limit);
    arrive(&mut s, B, 5, "k");
    drain(&mut s);
    s.suspend(Ticket(2));
    assert_eq!(finish(&mut s, 3), []);
    refused(offer(&mut s, A, 4, "", 0), limit);
    assert_eq!(finish(&mut s, 1), releases([1]));
    arrive(&mut s, A, 4, "");
    refused(offer(&mut s, A, 6, "", 0), limit);
}

#[test]
fn a_ticket_in_use_is_refused_and_its_call_goes_on() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    arrive(&mut s, A, 1, "k");
    refused(offer(&mut s, B, 1, "l", 0), BusyReason::DuplicateTicket);
    assert_eq!(drain(&mut s), starts([1]));
    refused(offer(&mut s, A, 1, "k", 0), BusyReason::DuplicateTicket);
    assert_eq!(finish(&mut s, 1), releases([1]));
    assert!(s.is_idle());
}

#[test]
fn unknown_tickets_are_ignored() {
    let mut s = scheduler(OrderingMode::KeySerialized);
    s.finish(Ticket(1));
    s.suspend(Ticket(1));
    s.resume(Ticket(1));
    assert_eq!(withdraw(&mut s, 1), Withdrawn::Unknown);
    s.forget_peer(A);
    assert_eq!(drain(&mut s), []);
    assert!(s.is_idle());
}

#[test]
fn nested_calls_get_through_one_slot() {
    let mut s = limited(OrderingMode::KeySerialized, 1);
    arrive(&mut s, A, 1, "k");
    assert_eq!(drain(&mut s), starts([1]));
    for depth in 2..50 {
        arrive(&mut s, A, depth, "");
        assert_eq!(drain(&mut s), []);
        s.suspend(Ticket(depth - 1));
        assert_eq!(drain(&mut s), starts([depth]));
    }
    arrive(&mut s, A, 50, "k");
    for depth in (2..50).rev() {
        assert_eq!(finish(&mut s, depth), releases([depth]), "the key is held while suspended");
        s.resume(Ticket(depth - 1));
    }
    assert_eq!(finish(&mut s, 1), [releases([1]), starts([50])].concat());
}

#[test]
fn a_resumed_handler_may_exceed_the_limit_but_nothing_starts_meanwhile() {
    let mut s = limited(OrderingMode::Unordered, 1);
    (1..=3).for_each(|ticket| arrive(&mut s, A, ticket, ""));
    assert_eq!(drain(&mut s), starts([1]));
    s.suspend(Ticket(1));
    s.suspend(Ticket(1));
    assert_eq!(drain(&mut s), starts([2]));
    s.resume(Ticket(1));
    s.resume(Ticket(1));
    assert_eq!(s.running(), 2);
    assert_eq!(finish(&mut s, 2), releases([2]));
    assert_eq!(finish(&mut s, 1), [releases([1]), starts([3])].concat());
}

#[test]
fn a_suspended_handler_can_end() {
    let mut s = limited(OrderingMode::Unordered, 1);
    (1..=3).for_each(|ticket| arrive(&mut s, A, ticket, ""));
    assert_eq!(drain(&mut s), starts([1]));
    s.suspend(Ticket(1));
    assert_eq!(finish(&mut s, 1), [releases([1]), starts([2])].concat());
    s.resume(Ticket(1));
    assert_eq!(finish(&mut s, 2), [releases([2]), starts([3])].concat());
}

#[test]
fn a_forgotten_peer_holds_up_no_reply_but_keeps_its_slot() {
    let mut s = limited(OrderingMode::ExitOrdered, 3);
    arrive(&mut s, A, 1, "k");
    arrive(&mut s, B, 2, "k");
    arrive(&mut s, A, 3, "k");
    arrive(&mut s, A, 4, "k");
    arrive(&mut s, B, 5, "k");
    assert_eq!(drain(&mut s), starts([1, 2, 3]));
    assert_eq!(finish(&mut s, 2), starts([5]));
    assert_eq!(finish(&mut s, 3), starts([4]));
    s.forget_peer(A);
    assert_eq!(drain(&mut s), releases([2]));
    assert_eq!(finish(&mut s, 5), releases([5]));
    assert_eq!((s.running(), s.waiting()), (2, 0));
    assert_eq!(withdraw(&mut s, 1), Withdrawn::Running);
    (6..8).for_each(|ticket| arrive(&mut s, B, ticket, ""));
    assert_eq!(drain(&mut s), starts([6]));
    assert_eq!(finish(&mut s, 1), starts([7]));
    assert_eq!(finish(&mut s, 4), []);
    assert_eq!(s.running(), 2);
}

#[test]
fn a_forgotten_peer_keeps_its_key_until_its_handler_has_ended() {
    let mut s = scheduler(OrderingMode::KeySerialized);
    arrive(&mut s, A, 1, "k");
    arrive(&mut s, A, 2, "k");
    arrive(&mut s, B, 3, "k");
    assert_eq!(drain(&mut s), starts([1]));
    s.forget_peer(A);
    assert_eq!(drain(&mut s), []);
    assert!(!s.is_idle());
    assert_eq!(finish(&mut s, 1), starts([3]));
    assert_eq!(finish(&mut s, 3), releases([3]));
    assert!(s.is_idle());
}

#[test]
fn a_reply_not_yet_polled_vanishes_with_its_peer() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    arrive(&mut s, A, 1, "k");
    arrive(&mut s, B, 2, "");
    drain(&mut s);
    s.finish(Ticket(1));
    s.finish(Ticket(2));
    s.forget_peer(A);
    assert_eq!(drain(&mut s), releases([2]));
    assert!(s.is_idle());
}

#[test]
fn a_paused_peer_starts_nothing_and_others_go_on() {
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
fn a_paused_peer_holds_up_its_keys_where_they_are_shared() {
    for (scope, expected) in [(KeyScope::Global, vec![]), (KeyScope::PerPeer, starts([2]))] {
        let config = SchedulerConfig::default().with_mode(OrderingMode::KeySerialized).with_scope(scope);
        let mut s = BuiltinScheduler::new(config);
        s.pause(A);
        arrive(&mut s, A, 1, "k");
        arrive(&mut s, B, 2, "k");
        assert_eq!(drain(&mut s), expected);
        assert_eq!(withdraw(&mut s, 1), Withdrawn::Waiting);
        assert_eq!(drain(&mut s).contains(&Action::Start(Ticket(2))), expected.is_empty());
    }
}

#[test]
fn a_pause_ends_with_the_peer_and_is_not_a_call() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    s.pause(A);
    assert!(s.is_idle());
    arrive(&mut s, A, 1, "k");
    s.forget_peer(A);
    assert!(s.is_idle());
    assert!(!s.starts.remembers_pauses());
}

#[test]
fn peers_take_turns() {
    let mut s = limited(OrderingMode::Unordered, 1);
    (0..100).for_each(|ticket| arrive(&mut s, A, ticket, ""));
    (100..102).for_each(|ticket| arrive(&mut s, B, ticket, ""));
    arrive(&mut s, C, 200, "k");
    let mut order = Vec::new();
    while let Some(action) = s.poll() {
        if let Action::Start(ticket) = action {
            order.push(ticket.0);
            s.finish(ticket);
        }
    }
    assert_eq!(order[..7], [0, 100, 200, 1, 101, 2, 3]);
    assert_eq!(order.len(), 103);
}

#[test]
fn keys_of_a_peer_take_turns() {
    let mut s = limited(OrderingMode::ExitOrdered, 1);
    (0..5).for_each(|ticket| arrive(&mut s, A, ticket, "flood"));
    arrive(&mut s, A, 10, "k");
    arrive(&mut s, A, 11, "k");
    arrive(&mut s, A, 20, "");
    let mut order = Vec::new();
    while let Some(action) = s.poll() {
        if let Action::Start(ticket) = action {
            order.push(ticket.0);
            s.finish(ticket);
        }
    }
    assert_eq!(order, [0, 10, 20, 1, 11, 2, 3, 4]);
}

/// What a flood must not leave behind, wherever the call was when it was cancelled.
#[test]
fn a_flood_of_cancelled_calls_leaves_nothing_behind() {
    for mode in [OrderingMode::Unordered, OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let mut s = limited(mode, 1);
        arrive(&mut s, B, 0, "hangs");
        assert_eq!(drain(&mut s), starts([0]));
        s.pause(A);
        for ticket in 1..100_000 {
            let key = ["", "k", "l"][ticket as usize % 3];
            arrive(&mut s, A, ticket, key);
            assert_eq!(withdraw(&mut s, ticket), Withdrawn::Waiting);
            assert_eq!(s.poll(), Some(Action::Release(Ticket(ticket))));
            assert_eq!(s.calls.len(), 1);
        }
        s.unpause(A);
        assert_eq!(finish(&mut s, 0), releases([0]));
        assert!(s.is_idle());
    }
}

#[test]
fn a_flood_of_cancelled_calls_behind_one_that_hangs_is_bounded() {
    for mode in [OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let mut s = limited(mode, 1);
        arrive(&mut s, A, 0, "k");
        assert_eq!(drain(&mut s), starts([0]));
        for ticket in 1..10_000 {
            match offer(&mut s, A, ticket, "k", 1) {
                Ok(()) => assert_eq!(withdraw(&mut s, ticket), Withdrawn::Waiting),
                refusal => refused(refusal, BusyReason::Calls { limit: 4_000 }),
            }
            assert_eq!(s.poll(), None);
        }
        assert_eq!(s.calls.len(), 4_000);
        assert_eq!(finish(&mut s, 0), releases(0..4_000));
        assert!(s.is_idle());
    }
}

#[test]
fn errors_say_what_limit_was_met() {
    let reason = BusyReason::WaitingCalls { limit: 2 };
    assert_eq!(Busy { reason }.to_string(), "call not accepted: 2 calls of this peer are waiting");
}

#[test]
fn can_be_a_trait_object_of_another_thread() {
    let boxed: Box<dyn Scheduler> = Box::new(scheduler(OrderingMode::default()));
    assert!(std::thread::spawn(move || boxed.is_idle()).join().unwrap());
}

#[test]
fn the_defaults_are_those_of_the_protocol() {
    let config = SchedulerConfig::default();
    assert_eq!((config.mode, config.scope), (OrderingMode::ExitOrdered, KeyScope::Global));
    assert_eq!((config.max_running, config.max_waiting_per_peer), (100, 1_000));
    assert_eq!((config.max_waiting_bytes_per_peer, config.max_calls_per_peer), (64 << 20, 4_000));
}

#[test]
fn a_streamed_reply_begins_when_it_is_its_turn() {
    for (mode, waits) in [
        (OrderingMode::ExitOrdered, true),
        (OrderingMode::Unordered, false),
        (OrderingMode::KeySerialized, true),
    ] {
        let mut scheduler = BuiltinScheduler::new(SchedulerConfig::default().with_mode(mode));
        let (key, none) = (OrderingKey::text("k"), OrderingKey::none());
        let arrival = |ticket, key| Arrival { ticket: Ticket(ticket), peer: PeerId(1), key, bytes: 1 };
        scheduler.arrive(arrival(1, &key)).unwrap();
        scheduler.arrive(arrival(2, &key)).unwrap();
        scheduler.arrive(arrival(3, &none)).unwrap();
        while scheduler.poll().is_some() {}
        assert!(scheduler.may_leave(Ticket(1)) && scheduler.may_leave(Ticket(3)), "{mode:?}");
        assert_eq!(scheduler.may_leave(Ticket(2)), !waits, "{mode:?}");
        scheduler.finish(Ticket(1));
        while scheduler.poll().is_some() {}
        assert!(scheduler.may_leave(Ticket(2)), "{mode:?}");
    }
}
