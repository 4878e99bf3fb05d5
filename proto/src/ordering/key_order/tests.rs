mod shares;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use super::*;
use crate::OrderingKey;

const A: ConnectionId = ConnectionId(1);
const B: ConnectionId = ConnectionId(2);
const C: ConnectionId = ConnectionId(3);

const MODES: [OrderingMode; 3] =
    [OrderingMode::Unordered, OrderingMode::ExitOrdered, OrderingMode::KeySerialized];

/// An action, with the number of its request, which is unique in each test.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Did {
    Start(u64),
    Release(u64),
    MayReply(u64),
}

/// A scheduler, and which connection the request of each number came from.
struct Tested {
    order: KeyOrder,
    origins: BTreeMap<u64, ConnectionId>,
    audits: Cell<usize>,
}

impl Deref for Tested {
    type Target = KeyOrder;

    fn deref(&self) -> &KeyOrder {
        &self.order
    }
}

impl DerefMut for Tested {
    fn deref_mut(&mut self) -> &mut KeyOrder {
        &mut self.order
    }
}

impl Tested {
    fn id(&self, number: u64) -> RequestId {
        RequestId::new(self.origins.get(&number).copied().unwrap_or(A), number)
    }

    fn offer(
        &mut self,
        connection: ConnectionId,
        number: u64,
        key: OrderingKey,
        bytes: usize,
        ready: bool,
    ) -> Result<(), Busy> {
        self.origins.insert(number, connection);
        let arrived = self.order.arrive(&Arrival { request: self.id(number), key, bytes, ready });
        self.audit();
        arrived
    }

    fn next(&mut self) -> Option<Did> {
        let action = self.order.poll();
        self.audit();
        action.map(|action| match action {
            Action::Start(request) => Did::Start(request.number()),
            Action::Release(request) => Did::Release(request.number()),
            Action::MayReply(request) => Did::MayReply(request.number()),
        })
    }

    fn audit(&self) {
        self.audits.set(self.audits.get() + 1);
        // Floods would take for ever.
        if self.audits.get() < 1_000 && self.order.requests < 100 {
            self.order.audit();
        }
    }

    fn ready(&mut self, number: u64) {
        self.complete(number, 0).unwrap();
    }

    /// The argument of a request is complete, and has so many bytes.
    fn complete(&mut self, number: u64, bytes: usize) -> Result<(), Busy> {
        let id = self.id(number);
        let ready = self.order.ready(id, bytes);
        self.audit();
        ready
    }

    fn suspend(&mut self, number: u64) {
        let id = self.id(number);
        self.order.suspend(id);
    }

    fn resume(&mut self, number: u64) {
        let id = self.id(number);
        self.order.resume(id);
    }

    fn want_to_reply(&mut self, number: u64) {
        let id = self.id(number);
        assert!(!self.order.want_to_reply(id), "the answer is an action");
        self.audit();
    }
}

fn with(change: impl FnOnce(&mut OrderingConfig)) -> Tested {
    let mut config = OrderingConfig::default();
    change(&mut config);
    Tested { order: KeyOrder::new(config), origins: BTreeMap::new(), audits: Cell::default() }
}

fn scheduler(mode: OrderingMode) -> Tested {
    with(|config| config.mode = mode)
}

fn limited(mode: OrderingMode, running: usize) -> Tested {
    with(|config| (config.mode, config.max_running) = (mode, running))
}

/// An empty text means no key.
fn key(text: &str) -> OrderingKey {
    if text.is_empty() { OrderingKey::none() } else { OrderingKey::text(text) }
}

fn offer(
    on: &mut Tested,
    connection: ConnectionId,
    number: u64,
    text: &str,
    bytes: usize,
) -> Result<(), Busy> {
    on.offer(connection, number, key(text), bytes, true)
}

#[track_caller]
fn arrive(on: &mut Tested, connection: ConnectionId, number: u64, text: &str) {
    offer(on, connection, number, text, 0).unwrap();
}

#[track_caller]
fn arrive_unready(on: &mut Tested, connection: ConnectionId, number: u64, text: &str) {
    on.offer(connection, number, key(text), 0, false).unwrap();
}

#[track_caller]
fn refused(result: Result<(), Busy>, reason: BusyReason) {
    assert_eq!(result, Err(Busy { reason }));
}

fn starts(numbers: impl IntoIterator<Item = u64>) -> Vec<Did> {
    numbers.into_iter().map(Did::Start).collect()
}

fn releases(numbers: impl IntoIterator<Item = u64>) -> Vec<Did> {
    numbers.into_iter().map(Did::Release).collect()
}

fn drain(on: &mut Tested) -> Vec<Did> {
    std::iter::from_fn(|| on.next()).collect()
}

fn finish(on: &mut Tested, number: u64) -> Vec<Did> {
    let id = on.id(number);
    on.finish(id);
    Tested::audit(on);
    drain(on)
}

fn withdraw(on: &mut Tested, number: u64) -> Withdrawn {
    let id = on.id(number);
    let withdrawn = on.order.withdraw(id);
    Tested::audit(on);
    withdrawn
}

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
fn a_request_that_fails_before_it_starts_never_starts_and_keeps_its_place() {
    for mode in [OrderingMode::ExitOrdered, OrderingMode::KeySerialized] {
        let mut s = limited(mode, 1);
        (1..=3).for_each(|number| arrive(&mut s, A, number, "k"));
        assert_eq!(drain(&mut s), starts([1]));
        assert_eq!(finish(&mut s, 2), [], "its reply waits for the first");
        assert_eq!(finish(&mut s, 2), []);
        assert_eq!(finish(&mut s, 1), [releases([1, 2]), starts([3])].concat());
        assert_eq!(finish(&mut s, 3), releases([3]));
        assert!(s.is_idle());
    }
}

#[test]
fn a_withdrawn_request_never_starts_and_is_forgotten_at_once() {
    for mode in MODES {
        let mut s = limited(mode, 1);
        (1..=4).for_each(|number| arrive(&mut s, A, number, "k"));
        assert_eq!(drain(&mut s), starts([1]));
        assert_eq!(withdraw(&mut s, 2), Withdrawn::Forgotten);
        assert_eq!((s.waiting(), s.requests), (2, 3));
        assert_eq!(drain(&mut s), [], "its caller is answered without it");
        assert_eq!(withdraw(&mut s, 2), Withdrawn::Unknown);
        assert_eq!(withdraw(&mut s, 1), Withdrawn::Running);
        assert_eq!(finish(&mut s, 1), [releases([1]), starts([3])].concat());
        assert_eq!(finish(&mut s, 3), [releases([3]), starts([4])].concat());
        assert_eq!(withdraw(&mut s, 3), Withdrawn::Unknown);
        assert_eq!(finish(&mut s, 4), releases([4]));
        assert!(s.is_idle());
    }
}

#[test]
fn a_finished_request_that_is_withdrawn_holds_up_nobody() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    (1..=4).for_each(|number| arrive(&mut s, A, number, "k"));
    drain(&mut s);
    assert_eq!([finish(&mut s, 2), finish(&mut s, 3)].concat(), [], "they wait for the first");
    assert_eq!(withdraw(&mut s, 2), Withdrawn::Forgotten);
    let id = s.id(1);
    s.order.finish(id);
    assert_eq!(withdraw(&mut s, 1), Withdrawn::Forgotten, "it is due, and has not been polled");
    assert_eq!(drain(&mut s), releases([3]));
    assert_eq!(finish(&mut s, 4), releases([4]));
    assert!(s.is_idle());
}

#[test]
fn a_request_withdrawn_before_the_poll_never_starts() {
    let mut s = scheduler(OrderingMode::Unordered);
    arrive(&mut s, A, 1, "k");
    assert_eq!(withdraw(&mut s, 1), Withdrawn::Forgotten);
    assert_eq!(drain(&mut s), []);
    assert!(s.is_idle());
}

#[test]
fn a_withdrawn_running_request_keeps_slot_and_key_until_it_has_ended() {
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
fn finishing_a_waiting_request_withdraws_it() {
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
    let limit = BusyReason::WaitingRequests { limit: 2 };
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
    let none_may_wait = BusyReason::WaitingRequests { limit: 0 };
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
fn all_requests_of_a_connection_at_the_limit_and_one_past_it() {
    let mut s = with(|config| config.max_requests_per_connection = 3);
    let limit = BusyReason::Requests { limit: 3 };
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
fn an_id_in_use_is_refused_and_its_request_goes_on() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    arrive(&mut s, A, 1, "k");
    refused(offer(&mut s, A, 1, "l", 0), BusyReason::DuplicateRequest);
    assert_eq!(drain(&mut s), starts([1]));
    refused(offer(&mut s, A, 1, "k", 0), BusyReason::DuplicateRequest);
    assert_eq!(finish(&mut s, 1), releases([1]));
    assert!(s.is_idle());
}

#[test]
fn unknown_ids_are_ignored() {
    let mut s = scheduler(OrderingMode::KeySerialized);
    s.finish(RequestId::new(A, 1));
    s.suspend(1);
    s.resume(1);
    assert_eq!(withdraw(&mut s, 1), Withdrawn::Unknown);
    s.forget_connection(A);
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

#[test]
fn a_forgotten_connection_holds_up_no_reply_but_keeps_its_slot() {
    let mut s = limited(OrderingMode::ExitOrdered, 3);
    arrive(&mut s, A, 1, "k");
    arrive(&mut s, B, 2, "k");
    arrive(&mut s, A, 3, "k");
    arrive(&mut s, A, 4, "k");
    arrive(&mut s, B, 5, "k");
    assert_eq!(drain(&mut s), starts([1, 2, 3]));
    assert_eq!(finish(&mut s, 2), starts([5]));
    assert_eq!(finish(&mut s, 3), starts([4]));
    s.forget_connection(A);
    assert_eq!(drain(&mut s), releases([2]));
    assert_eq!(finish(&mut s, 5), releases([5]));
    assert_eq!((s.running(), s.waiting()), (2, 0));
    assert_eq!(withdraw(&mut s, 1), Withdrawn::Running);
    (6..8).for_each(|number| arrive(&mut s, B, number, ""));
    assert_eq!(drain(&mut s), starts([6]));
    assert_eq!(finish(&mut s, 1), starts([7]));
    assert_eq!(finish(&mut s, 4), []);
    assert_eq!(s.running(), 2);
}

#[test]
fn a_forgotten_connection_keeps_its_key_until_its_handler_has_ended() {
    let mut s = scheduler(OrderingMode::KeySerialized);
    arrive(&mut s, A, 1, "k");
    arrive(&mut s, A, 2, "k");
    arrive(&mut s, B, 3, "k");
    assert_eq!(drain(&mut s), starts([1]));
    s.forget_connection(A);
    assert_eq!(drain(&mut s), []);
    assert!(!s.is_idle());
    assert_eq!(finish(&mut s, 1), starts([3]));
    assert_eq!(finish(&mut s, 3), releases([3]));
    assert!(s.is_idle());
}

#[test]
fn a_reply_not_yet_polled_vanishes_with_its_connection() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    arrive(&mut s, A, 1, "k");
    arrive(&mut s, B, 2, "");
    drain(&mut s);
    let ids = [s.id(1), s.id(2)];
    ids.into_iter().for_each(|id| s.finish(id));
    s.forget_connection(A);
    assert_eq!(drain(&mut s), releases([2]));
    assert!(s.is_idle());
}

#[test]
fn what_was_due_to_a_forgotten_request_is_not_taken_for_another_of_its_id() {
    let mut s = scheduler(OrderingMode::ExitOrdered);
    arrive(&mut s, A, 1, "");
    drain(&mut s);
    let id = s.id(1);
    s.finish(id);
    s.forget_connection(A);
    arrive(&mut s, B, 2, "k");
    arrive(&mut s, A, 1, "k");
    s.finish(id);
    assert_eq!(drain(&mut s), starts([2]), "it was withdrawn, and waits behind the other");
    assert_eq!(finish(&mut s, 2), releases([2, 1]));
    assert!(s.is_idle());
}

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

/// What a flood must not leave behind, wherever the request was when it was cancelled.
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
                refusal => refused(refusal, BusyReason::Requests { limit: 4_000 }),
            }
            assert_eq!(s.poll(), None);
        }
        assert_eq!(s.requests, 4_000);
        assert_eq!(finish(&mut s, 0), releases(0..4_000));
        assert!(s.is_idle());
    }
}

/// Nothing of them is left, and the order of the others is.
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
            // Half of them have run in vain.
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

#[test]
fn errors_say_what_limit_was_met() {
    let reason = BusyReason::WaitingRequests { limit: 2 };
    assert_eq!(
        Busy { reason }.to_string(),
        "request not accepted: 2 requests of this connection are waiting"
    );
}

#[test]
fn can_be_a_trait_object_of_another_thread() {
    let boxed: Box<dyn Scheduler> = Box::new(KeyOrder::new(OrderingConfig::default()));
    assert!(std::thread::spawn(move || boxed.is_idle()).join().unwrap());
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

#[test]
fn an_unready_request_keeps_its_place_but_takes_no_slot() {
    for mode in MODES {
        let mut s = limited(mode, 1);
        arrive_unready(&mut s, A, 1, "k");
        arrive(&mut s, B, 2, "k");
        arrive(&mut s, A, 3, "");
        let (first, second) = match mode {
            OrderingMode::KeySerialized => (3, None),
            _ => (2, Some(3)),
        };
        assert_eq!(drain(&mut s), starts([first]), "{mode:?}");
        assert_eq!((s.running(), s.waiting()), (1, 2));
        let mut expected = if mode == OrderingMode::ExitOrdered { vec![] } else { releases([first]) };
        expected.extend(second.map(Did::Start));
        assert_eq!(finish(&mut s, first), expected, "{mode:?}");
        s.ready(1);
        s.ready(1);
        match mode {
            OrderingMode::Unordered => {
                assert_eq!(finish(&mut s, 3), [releases([3]), starts([1])].concat());
                assert_eq!(finish(&mut s, 1), releases([1]));
            }
            OrderingMode::ExitOrdered => {
                assert_eq!(finish(&mut s, 3), [releases([3]), starts([1])].concat());
                assert_eq!(finish(&mut s, 1), releases([1, 2]));
            }
            OrderingMode::KeySerialized => {
                assert_eq!(drain(&mut s), starts([1]));
                assert_eq!(finish(&mut s, 1), [releases([1]), starts([2])].concat());
                assert_eq!(finish(&mut s, 2), releases([2]));
            }
        }
        s.ready(1);
        assert!(s.is_idle(), "{mode:?}");
    }
}

#[test]
fn requests_that_become_ready_late_start_in_the_order_in_which_they_arrived() {
    for mode in MODES {
        for text in ["", "k"] {
            let mut s = limited(mode, 1);
            arrive(&mut s, A, 0, text);
            drain(&mut s);
            (1..=3).for_each(|number| arrive_unready(&mut s, A, number, text));
            (4..=5).for_each(|number| arrive(&mut s, A, number, text));
            [3, 1, 2].into_iter().for_each(|number| s.ready(number));
            for number in 0..5 {
                assert_eq!(finish(&mut s, number), [releases([number]), starts([number + 1])].concat());
            }
            assert_eq!(finish(&mut s, 5), releases([5]));
            assert!(s.is_idle());
        }
    }
}

#[test]
fn an_unready_request_that_is_withdrawn_or_forgotten_holds_up_nobody() {
    for mode in MODES {
        for forget in [false, true] {
            let mut s = scheduler(mode);
            arrive_unready(&mut s, A, 1, "k");
            arrive(&mut s, B, 2, "k");
            let runs = if mode == OrderingMode::KeySerialized { vec![] } else { starts([2]) };
            assert_eq!(drain(&mut s), runs, "{mode:?}");
            let mut expected = match forget {
                true => {
                    s.forget_connection(A);
                    vec![]
                }
                false => {
                    assert_eq!(withdraw(&mut s, 1), Withdrawn::Forgotten);
                    vec![]
                }
            };
            if mode == OrderingMode::KeySerialized {
                expected.extend(starts([2]));
            }
            assert_eq!(drain(&mut s), expected, "{mode:?}");
            s.ready(1);
            assert_eq!(finish(&mut s, 2), releases([2]), "{mode:?}");
            assert!(s.is_idle());
        }
    }
}

#[test]
fn an_unready_request_counts_as_waiting_until_it_starts() {
    let mut s = with(|config| {
        config.max_waiting_per_connection = 2;
        config.max_waiting_bytes_per_connection = 10;
    });
    s.offer(A, 1, OrderingKey::none(), 4, false).unwrap();
    refused(s.offer(A, 2, OrderingKey::none(), 7, false), BusyReason::WaitingBytes { limit: 10 });
    s.offer(A, 2, OrderingKey::none(), 6, false).unwrap();
    refused(s.offer(A, 3, OrderingKey::none(), 0, false), BusyReason::WaitingRequests { limit: 2 });
    offer(&mut s, A, 4, "", 99).unwrap();
    s.ready(1);
    assert_eq!(drain(&mut s), starts([1, 4]));
    s.offer(A, 3, OrderingKey::none(), 4, false).unwrap();
    assert_eq!(s.waiting(), 2);
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
        refused(s.complete(2, 7), BusyReason::WaitingBytes { limit: 10 });
        refused(s.complete(2, usize::MAX), BusyReason::WaitingBytes { limit: 10 });
        s.complete(2, 6).unwrap();
        s.complete(2, 6).unwrap();
        refused(s.complete(3, 1), BusyReason::WaitingBytes { limit: 10 });
        // What leaves gives back all that it had counted.
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

/// A closed connection costs as many steps as it has requests, however much is due to others.
#[test]
fn what_is_due_to_others_is_not_looked_at_when_a_connection_closes() {
    let mut s = limited(OrderingMode::Unordered, 2_000);
    (0..1_000).for_each(|number| arrive(&mut s, B, number, ""));
    arrive(&mut s, A, 1_000, "");
    drain(&mut s);
    for number in 0..=1_000 {
        let id = s.id(number);
        s.order.finish(id);
    }
    s.forget_connection(A);
    assert_eq!(s.release.due(), 1_001, "it is skipped when it is polled");
    assert_eq!(drain(&mut s), releases(0..1_000));
    assert!(s.is_idle());
}

#[test]
fn nothing_is_kept_of_requests_that_are_gone() {
    for mode in MODES {
        let mut s = limited(mode, 4_000);
        for round in 0..3 {
            for number in 0..1_000 {
                arrive(&mut s, A, 1_000 * round + number, ["", "k", "l"][number as usize % 3]);
            }
            for number in 0..1_000 {
                drain(&mut s);
                finish(&mut s, 1_000 * round + number);
            }
            assert!(s.is_idle());
            assert_eq!(s.run.kept(), 1, "the connection");
        }
        s.forget_connection(A);
        assert_eq!((s.run.kept(), s.connections.len(), s.keys.len()), (0, 0, 0));
    }
}
