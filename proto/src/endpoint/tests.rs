mod closing;
mod giving_up;
mod holding;
mod scaling;
mod streaming;

use super::*;
use crate::error::Refusal;
use crate::event::StopReason;
use crate::ids::{CallId, OrderingKey, StreamId};
use crate::ordering::{Busy, OrderingMode};
use crate::reply::Reply;

const MODES: [OrderingMode; 3] =
    [OrderingMode::Unordered, OrderingMode::ExitOrdered, OrderingMode::KeySerialized];

/// An event for a connection, in short. Replies are identified by their bodies, or by the names of errors.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Start(RequestId),
    Refuse(RequestId, Busy),
    Reply(RequestId, String),
    MayReply(RequestId),
    Reassemble(ConnectionId, StreamId),
    Drain(ConnectionId),
}

use Told::{Drain, MayReply, Reassemble, Refuse, Start};

/// An endpoint with the connections `A` and `B`.
struct Tested(Endpoint);

const A: ConnectionId = ConnectionId(0);
const B: ConnectionId = ConnectionId(1);

fn a(number: u64) -> RequestId {
    RequestId::new(A, number)
}

fn b(number: u64) -> RequestId {
    RequestId::new(B, number)
}

fn replied(request: RequestId, text: &str) -> Told {
    Told::Reply(request, text.to_owned())
}

/// A result of this many bytes.
fn result(bytes: usize) -> Reply {
    Reply::result(vec![b'x'; bytes])
}

fn text_of(reply: &Reply) -> String {
    match reply {
        Reply::Result { body, .. } if body.len() > 100 => format!("{} bytes", body.len()),
        Reply::Result { body, .. } => String::from_utf8_lossy(body).into_owned(),
        Reply::Failure(info) | Reply::Error(info) => info.name.as_str().to_owned(),
        Reply::Cancelled => "cancelled".to_owned(),
        Reply::End => "end".to_owned(),
    }
}

impl Tested {
    fn new(change: impl FnOnce(&mut EndpointConfig)) -> Self {
        let mut config = EndpointConfig::default();
        change(&mut config);
        Self::of(Endpoint::new(config))
    }

    fn of(mut endpoint: Endpoint) -> Self {
        assert_eq!((endpoint.open(), endpoint.open()), (A, B));
        Self(endpoint)
    }

    fn mode(mode: OrderingMode) -> Self {
        Self::new(|config| config.ordering.mode = mode)
    }

    fn tell(&mut self, event: EndpointEvent) {
        self.0.handle_event(event);
        self.0.audit();
    }

    fn offer(&mut self, request: RequestId, key: &str, bytes: usize, ready: bool) {
        let key = if key.is_empty() { OrderingKey::none() } else { OrderingKey::text(key) };
        self.tell(EndpointEvent::Arrived(Arrival { request, key, bytes, ready }));
    }

    fn arrive(&mut self, request: RequestId, key: &str) {
        self.offer(request, key, 0, true);
    }

    /// A request arrives and starts.
    #[track_caller]
    fn start(&mut self, request: RequestId, key: &str) {
        self.arrive(request, key);
        assert_eq!(self.poll(), [Start(request)]);
    }

    fn withdraw(&mut self, request: RequestId, reply: Reply) {
        let reason = match reply {
            Reply::Cancelled => StopReason::Cancelled,
            _ => StopReason::ExecutionTimedOut,
        };
        self.tell(EndpointEvent::Withdrawn { request, reason, reply });
    }

    fn finish(&mut self, request: RequestId, text: &'static str) -> Vec<Told> {
        self.0.finish(request, Some(Reply::result(text)));
        self.0.audit();
        self.poll()
    }

    fn want(&mut self, connection: ConnectionId, call: u64, bytes: usize) {
        let stream = CallId(call).into();
        self.tell(EndpointEvent::ReassemblyWanted { connection, stream, bytes });
    }

    /// The argument of a request asks for memory, and gets it at once.
    #[track_caller]
    fn reassemble(&mut self, request: RequestId, bytes: usize) {
        let (connection, stream) = (request.connection(), request.into());
        self.tell(EndpointEvent::ReassemblyWanted { connection, stream, bytes });
        assert_eq!(self.poll(), [Reassemble(connection, stream)]);
    }

    /// The argument of a request is complete.
    fn complete(&mut self, request: RequestId, bytes: usize) {
        let (connection, stream) = (request.connection(), request.into());
        self.tell(EndpointEvent::ReassemblyEnded { connection, stream });
        self.tell(EndpointEvent::Ready { request, bytes });
    }

    fn next(&mut self) -> Option<Told> {
        let (connection, event) = self.0.poll_event()?;
        self.0.audit();
        let (told, of) = match event {
            ConnectionEvent::Start(request) => (Start(request), request.connection()),
            ConnectionEvent::Refuse { request, reason } => (Refuse(request, reason), request.connection()),
            ConnectionEvent::Reply { request, reply } => {
                (Told::Reply(request, text_of(&reply)), request.connection())
            }
            ConnectionEvent::MayReply(request) => (MayReply(request), request.connection()),
            ConnectionEvent::Reassemble(stream) => (Reassemble(connection, stream), connection),
            ConnectionEvent::Drain => (Drain(connection), connection),
        };
        assert_eq!(of, connection, "{told:?} goes to another");
        Some(told)
    }

    fn poll(&mut self) -> Vec<Told> {
        std::iter::from_fn(|| self.next()).collect()
    }

    #[track_caller]
    fn assert_empty(&self) {
        assert!(self.0.audit_empty(), "{:?}", self.0);
    }
}

#[test]
fn the_defaults_are_those_of_the_protocol() {
    let config = EndpointConfig::default();
    assert_eq!(config.max_held_reply_bytes, 64 << 20);
    assert_eq!((config.max_reassembly, config.max_reassembly_total), (64 << 20, 1 << 30));
    assert_eq!(config.ordering.max_running, 100);
}

#[test]
fn a_request_starts_and_is_replied_to() {
    for mode in MODES {
        let mut endpoint = Tested::mode(mode);
        endpoint.arrive(a(1), "k");
        assert_eq!((endpoint.0.waiting(), endpoint.0.running(), endpoint.0.is_idle()), (1, 0, false));
        assert_eq!(endpoint.poll(), [Start(a(1))]);
        assert_eq!((endpoint.0.waiting(), endpoint.0.running(), endpoint.0.is_idle()), (0, 1, false));
        assert_eq!(endpoint.finish(a(1), "one"), [replied(a(1), "one")]);
        endpoint.assert_empty();
    }
}

#[test]
fn keys_order_requests_of_all_connections() {
    for (mode, starts, replies) in [
        (OrderingMode::Unordered, 2, vec![replied(b(1), "two")]),
        (OrderingMode::ExitOrdered, 2, vec![]),
        (OrderingMode::KeySerialized, 1, vec![]),
    ] {
        let mut endpoint = Tested::mode(mode);
        endpoint.arrive(a(1), "k");
        endpoint.arrive(b(1), "k");
        assert_eq!(endpoint.poll().len(), starts, "{mode:?}");
        assert_eq!(endpoint.finish(b(1), "two"), replies, "{mode:?}");
        let then = match mode {
            OrderingMode::Unordered => vec![replied(a(1), "one")],
            OrderingMode::ExitOrdered => vec![replied(a(1), "one"), replied(b(1), "two")],
            OrderingMode::KeySerialized => vec![replied(a(1), "one"), Start(b(1))],
        };
        assert_eq!(endpoint.finish(a(1), "one"), then, "{mode:?}");
    }
}

#[test]
fn what_finds_no_place_is_refused_out_of_order() {
    let mut endpoint = Tested::new(|config| {
        config.ordering.max_running = 1;
        config.ordering.max_waiting_per_connection = 1;
    });
    endpoint.start(a(1), "k");
    endpoint.arrive(a(2), "k");
    endpoint.arrive(a(3), "k");
    let reason = Busy::WaitingRequests { limit: 1 };
    assert_eq!(endpoint.poll(), [Refuse(a(3), reason)]);
    assert_eq!(endpoint.finish(a(1), "one"), [replied(a(1), "one"), Start(a(2))]);
    assert_eq!(endpoint.finish(a(3), "three"), [], "it was refused");
    assert_eq!(endpoint.finish(a(2), "two"), [replied(a(2), "two")]);
    endpoint.assert_empty();
}

#[test]
fn a_waiting_request_counts_with_256_bytes_besides() {
    let mut endpoint = Tested::new(|config| {
        config.ordering.max_running = 1;
        config.ordering.max_waiting_bytes_per_connection = 1_000;
    });
    endpoint.start(a(0), "");
    endpoint.offer(a(1), "", 745, true);
    let reason = Busy::WaitingBytes { limit: 1_000 };
    assert_eq!(endpoint.poll(), [Refuse(a(1), reason)]);
    endpoint.offer(a(2), "", 744, true);
    assert_eq!(endpoint.poll(), []);
    endpoint.offer(b(3), "", usize::MAX, true);
    assert_eq!(endpoint.poll(), [Refuse(b(3), reason)]);
}

#[test]
fn an_unready_request_starts_when_it_is_ready() {
    for mode in MODES {
        let mut endpoint = Tested::mode(mode);
        endpoint.offer(a(1), "k", 0, false);
        endpoint.arrive(a(2), "k");
        let second = if mode == OrderingMode::KeySerialized { vec![] } else { vec![Start(a(2))] };
        assert_eq!(endpoint.poll(), second, "{mode:?}");
        endpoint.tell(EndpointEvent::Ready { request: a(1), bytes: 0 });
        assert_eq!(endpoint.poll(), [Start(a(1))]);
        endpoint.tell(EndpointEvent::Ready { request: a(1), bytes: 0 });
        assert_eq!(endpoint.poll(), []);
    }
}

#[test]
fn a_request_whose_argument_fails_is_answered_in_its_order() {
    let mut endpoint = Tested::mode(OrderingMode::KeySerialized);
    endpoint.start(a(1), "k");
    endpoint.offer(a(2), "k", 0, false);
    endpoint.arrive(a(3), "k");
    let reply = Refusal::BodyTooLarge.reply("");
    let reason = StopReason::IncompleteArgument;
    endpoint.tell(EndpointEvent::Withdrawn { request: a(2), reason, reply });
    endpoint.tell(EndpointEvent::Ready { request: a(2), bytes: 0 });
    assert_eq!(endpoint.poll(), []);
    let then = [replied(a(1), "one"), replied(a(2), "BodyTooLarge"), Start(a(3))];
    assert_eq!(endpoint.finish(a(1), "one"), then);
}

#[test]
fn a_withdrawn_request_never_starts() {
    for mode in MODES {
        let mut endpoint = Tested::mode(mode);
        endpoint.arrive(a(1), "k");
        endpoint.withdraw(a(1), Reply::Cancelled);
        endpoint.withdraw(a(1), Reply::result("late"));
        assert_eq!(endpoint.poll().len(), 1, "{mode:?}");
        endpoint.assert_empty();
    }
}

#[test]
fn the_reply_of_a_withdrawn_handler_is_its_own_or_the_first_of_its_withdrawals() {
    let timeout = || Refusal::ExecutionTimedOut.reply("");
    for (withdrawals, own, expected) in [
        (0, None, "cancelled"),
        (1, None, "ExecutionTimedOut"),
        (2, None, "ExecutionTimedOut"),
        (2, Some("own"), "own"),
    ] {
        let mut endpoint = Tested::mode(OrderingMode::ExitOrdered);
        endpoint.start(a(1), "k");
        let replies = [timeout(), Reply::Cancelled].into_iter().take(withdrawals);
        replies.for_each(|reply| endpoint.withdraw(a(1), reply));
        assert_eq!(endpoint.poll(), [], "its handler has not ended");
        assert_eq!(endpoint.0.running(), 1);
        endpoint.0.finish(a(1), own.map(Reply::result));
        assert_eq!(endpoint.poll(), [replied(a(1), expected)]);
        endpoint.assert_empty();
    }
}

#[test]
fn a_started_request_that_never_ran_frees_slot_and_key() {
    let mut endpoint = Tested::new(|config| {
        config.ordering.mode = OrderingMode::KeySerialized;
        config.ordering.max_running = 1;
    });
    endpoint.arrive(a(1), "k");
    endpoint.arrive(b(2), "k");
    assert_eq!(endpoint.poll(), [Start(a(1))]);
    // The two events have crossed.
    endpoint.withdraw(a(1), Reply::Cancelled);
    endpoint.tell(EndpointEvent::NeverRan(a(1)));
    assert_eq!(endpoint.poll(), [replied(a(1), "cancelled"), Start(b(2))]);
    endpoint.tell(EndpointEvent::Closed(B));
    endpoint.tell(EndpointEvent::NeverRan(b(2)));
    endpoint.assert_empty();
}

#[test]
fn a_waiting_request_that_never_runs_is_forgotten() {
    for mode in MODES {
        for ready in [true, false] {
            let mut endpoint = Tested::mode(mode);
            endpoint.start(a(1), "k");
            endpoint.offer(a(2), "k", 0, ready);
            endpoint.tell(EndpointEvent::NeverRan(a(2)));
            endpoint.tell(EndpointEvent::NeverRan(a(2)));
            assert_eq!((endpoint.0.waiting(), endpoint.0.open_requests_of(A)), (0, 1));
            endpoint.arrive(a(3), "k");
            let told = [endpoint.poll(), endpoint.finish(a(1), "one")].concat();
            assert_eq!(told.iter().filter(|told| **told == Start(a(3))).count(), 1);
            assert!(!told.iter().any(|told| matches!(told, Told::Reply(of, _) if *of == a(2))), "{told:?}");
            assert_eq!(endpoint.finish(a(3), "three"), [replied(a(3), "three")]);
            endpoint.assert_empty();
        }
    }
}

#[test]
fn what_is_told_between_two_polls_counts() {
    let mut endpoint = Tested::new(|config| config.ordering.max_running = 2);
    (1..=4).for_each(|number| endpoint.arrive(a(number), ""));
    assert_eq!(endpoint.next(), Some(Start(a(1))));
    endpoint.tell(EndpointEvent::Paused(A));
    assert_eq!(endpoint.poll(), []);
    endpoint.start(b(5), "");
    assert_eq!(endpoint.finish(a(1), "one"), [replied(a(1), "one")], "replies are not paused");
    endpoint.tell(EndpointEvent::Resumed(A));
    assert_eq!(endpoint.poll(), [Start(a(2))]);
}

#[test]
fn releases_come_before_starts() {
    let mut endpoint = Tested::new(|config| config.ordering.max_running = 2);
    (1..=4).for_each(|number| endpoint.arrive(a(number), ""));
    assert_eq!(endpoint.poll(), [Start(a(1)), Start(a(2))]);
    endpoint.0.finish(a(2), Some(Reply::result("two")));
    endpoint.0.finish(a(1), Some(Reply::result("one")));
    let then = [replied(a(2), "two"), replied(a(1), "one"), Start(a(3)), Start(a(4))];
    assert_eq!(endpoint.poll(), then);
}

#[test]
fn a_slot_is_lent_until_the_last_nested_call_has_ended() {
    let mut endpoint = Tested::new(|config| config.ordering.max_running = 1);
    endpoint.start(a(1), "");
    endpoint.0.suspend(a(1));
    endpoint.0.suspend(a(1));
    endpoint.start(a(2), "");
    endpoint.0.resume(a(1));
    assert_eq!(endpoint.finish(a(2), "two"), [replied(a(2), "two")]);
    endpoint.start(a(3), "");
    endpoint.0.resume(a(1));
    endpoint.0.resume(a(1));
    endpoint.arrive(a(4), "");
    assert_eq!(endpoint.finish(a(3), "three"), [replied(a(3), "three")], "the slot is taken back");
    endpoint.0.suspend(a(1));
    assert_eq!(endpoint.poll(), [Start(a(4))], "one resume too many is not kept");
    assert_eq!(endpoint.0.running(), 2);
}

/// A connection may hold 2 of 3 slots. A handler that has released its slot counts against neither limit,
/// whatever it waits for later.
#[test]
fn a_slot_can_be_released_for_good() {
    let mut endpoint = Tested::new(|config| {
        config.ordering = config.ordering.clone().max_running(3).max_share_per_connection(50);
        config.ordering.mode = OrderingMode::KeySerialized;
    });
    for number in 1..=20 {
        endpoint.start(a(number), if number == 1 { "k" } else { "" });
        endpoint.0.release_slot(a(number));
        endpoint.0.release_slot(a(number));
    }
    endpoint.0.suspend(a(1));
    endpoint.0.resume(a(1));
    endpoint.arrive(a(21), "k");
    assert_eq!(endpoint.poll(), [], "the key is not free");
    endpoint.start(a(22), "");
    endpoint.start(a(23), "");
    endpoint.arrive(a(24), "");
    assert_eq!(endpoint.poll(), [], "the share is used up");
    assert_eq!(endpoint.finish(a(2), "two"), [replied(a(2), "two")], "no slot comes free with it");
    assert_eq!(endpoint.finish(a(22), "22"), [replied(a(22), "22"), Start(a(24))]);
    assert_eq!(endpoint.finish(a(1), "one"), [replied(a(1), "one")]);
    assert_eq!(endpoint.finish(a(24), "24"), [replied(a(24), "24"), Start(a(21))]);
    assert_eq!((endpoint.0.running(), endpoint.0.running_of(A)), (20, 20));
    // Handlers of a closed connection keep their slots.
    endpoint.tell(EndpointEvent::Closed(A));
    (1..=3).for_each(|number| endpoint.arrive(b(number), ""));
    assert_eq!(endpoint.poll(), [Start(b(1))]);
    for number in 3..=23 {
        endpoint.finish(a(number), "late");
    }
    assert_eq!(endpoint.0.running(), 2);
}

#[test]
fn an_id_in_use_goes_on_and_unknown_ones_are_ignored() {
    let mut endpoint = Tested::mode(OrderingMode::ExitOrdered);
    endpoint.start(a(1), "k");
    endpoint.arrive(a(1), "");
    let nobody = ConnectionId(99);
    endpoint.arrive(RequestId::new(nobody, 1), "");
    endpoint.want(nobody, 1, 1);
    endpoint.tell(EndpointEvent::ReassemblyEnded { connection: A, stream: CallId(1).into() });
    [EndpointEvent::Paused(nobody), EndpointEvent::Resumed(nobody), EndpointEvent::Closed(nobody)]
        .into_iter()
        .for_each(|event| endpoint.tell(event));
    for unknown in [a(2), RequestId::new(nobody, 1)] {
        endpoint.tell(EndpointEvent::Ready { request: unknown, bytes: 1 });
        endpoint.tell(EndpointEvent::NeverRan(unknown));
        endpoint.withdraw(unknown, Reply::Cancelled);
        endpoint.0.finish(unknown, None);
        endpoint.0.begin_reply(unknown);
        endpoint.0.suspend(unknown);
        endpoint.0.resume(unknown);
        endpoint.0.release_slot(unknown);
    }
    assert_eq!(endpoint.poll(), []);
    assert_eq!(endpoint.finish(a(1), "one"), [replied(a(1), "one")]);
    assert_eq!(endpoint.finish(a(1), "again"), []);
    endpoint.assert_empty();
}

#[test]
fn drain_is_told_to_each_open_connection_once() {
    let mut endpoint = Tested::mode(OrderingMode::ExitOrdered);
    endpoint.tell(EndpointEvent::Closed(A));
    let c = endpoint.0.open();
    assert!(!endpoint.0.is_draining());
    endpoint.0.drain();
    endpoint.0.drain();
    let d = endpoint.0.open();
    assert_eq!(endpoint.poll(), [Drain(B), Drain(c), Drain(d)]);
    assert!(endpoint.0.is_draining());
    endpoint.start(b(1), "k");
    assert_eq!(endpoint.finish(b(1), "one"), [replied(b(1), "one")], "requests go on");
}

#[test]
fn bodies_wait_for_memory() {
    let mut endpoint = Tested::new(|config| {
        config.max_reassembly = 60;
        config.max_reassembly_total = 100;
    });
    endpoint.want(A, 1, 60);
    endpoint.want(A, 2, 10);
    endpoint.want(B, 1, 50);
    endpoint.want(B, 2, 10);
    let told = |connection, call: u64| Reassemble(connection, CallId(call).into());
    assert_eq!(endpoint.poll(), [told(A, 1)]);
    endpoint.tell(EndpointEvent::ReassemblyEnded { connection: A, stream: CallId(1).into() });
    assert_eq!(endpoint.poll(), [told(B, 1), told(A, 2), told(B, 2)]);
}

/// A handler waits for a result. Behind it, requests with its key have arguments that would take all memory.
#[test]
fn arguments_that_wait_for_their_key_hold_up_no_other_body() {
    let mut endpoint = Tested::new(|config| {
        config.ordering.mode = OrderingMode::KeySerialized;
        config.max_reassembly = 60;
    });
    endpoint.start(a(1), "k");
    endpoint.offer(a(2), "k", 0, false);
    endpoint.reassemble(a(2), 60);
    endpoint.complete(a(2), 60);
    endpoint.want(A, 7, 60);
    assert_eq!(endpoint.poll(), [Reassemble(A, CallId(7).into())]);
    endpoint.tell(EndpointEvent::ReassemblyEnded { connection: A, stream: CallId(7).into() });
    assert_eq!(endpoint.finish(a(1), "one"), [replied(a(1), "one"), Start(a(2))]);
    endpoint.finish(a(2), "two");
    endpoint.assert_empty();
}

/// The handler that all others with its key wait for makes a nested call, and gets one.
#[test]
fn a_nested_callback_gets_its_argument_though_others_wait_for_the_key() {
    let mut endpoint = Tested::new(|config| {
        config.ordering.mode = OrderingMode::KeySerialized;
        (config.max_reassembly, config.max_reassembly_total) = (60, 100);
    });
    endpoint.start(a(1), "k");
    for number in 2..10 {
        endpoint.offer(a(number), "k", 0, false);
        endpoint.reassemble(a(number), 60);
        endpoint.complete(a(number), 60);
    }
    endpoint.0.suspend(a(1));
    for callback in [a(20), b(20)] {
        endpoint.offer(callback, "", 0, false);
        endpoint.reassemble(callback, 60);
        endpoint.complete(callback, 60);
        assert_eq!(endpoint.poll(), [Start(callback)]);
        assert_eq!(endpoint.finish(callback, "back"), [replied(callback, "back")]);
    }
    endpoint.0.resume(a(1));
    assert_eq!(endpoint.finish(a(1), "one"), [replied(a(1), "one"), Start(a(2))]);
}

#[test]
fn an_argument_that_finds_no_place_when_it_is_complete_is_refused_out_of_order() {
    for (bytes, fits) in [(744, true), (745, false)] {
        let mut endpoint = Tested::new(|config| {
            config.ordering.mode = OrderingMode::KeySerialized;
            config.ordering.max_waiting_bytes_per_connection = 1_000;
        });
        endpoint.start(a(1), "k");
        endpoint.offer(a(2), "k", 0, false);
        endpoint.reassemble(a(2), bytes);
        endpoint.complete(a(2), bytes);
        let refused = Refuse(a(2), Busy::WaitingBytes { limit: 1_000 });
        assert_eq!(endpoint.poll(), if fits { vec![] } else { vec![refused] });
        // This event was sent before the refusal arrived.
        endpoint.withdraw(a(2), Reply::Cancelled);
        endpoint.arrive(a(3), "k");
        assert_eq!(endpoint.poll(), if fits { vec![replied(a(2), "cancelled")] } else { vec![] });
        assert_eq!(endpoint.finish(a(1), "one"), [replied(a(1), "one"), Start(a(3))]);
        assert_eq!(endpoint.finish(a(3), "three"), [replied(a(3), "three")]);
        endpoint.assert_empty();
    }
}

/// All events at once, for a scheduler without the optional methods.
#[test]
fn a_scheduler_of_ones_own_does_without_streamed_replies() {
    /// First come, first served, one at a time.
    #[derive(Default)]
    struct OneByOne {
        waiting: VecDeque<RequestId>,
        running: Option<RequestId>,
        released: VecDeque<RequestId>,
    }

    impl Scheduler for OneByOne {
        fn arrive(&mut self, arrival: &Arrival) -> Result<(), crate::ordering::Busy> {
            self.waiting.push_back(arrival.request);
            Ok(())
        }
        fn ready(&mut self, _: RequestId, _: usize) -> Result<(), crate::ordering::Busy> {
            Ok(())
        }
        fn finish(&mut self, request: RequestId) {
            self.running.take_if(|running| *running == request);
            self.released.push_back(request);
        }
        fn withdraw(&mut self, _: RequestId) {}
        fn forget_connection(&mut self, _: ConnectionId) {}
        fn suspend(&mut self, _: RequestId) {}
        fn resume(&mut self, _: RequestId) {}
        fn pause(&mut self, _: ConnectionId) {}
        fn unpause(&mut self, _: ConnectionId) {}
        fn poll(&mut self) -> Option<Action> {
            if let Some(request) = self.released.pop_front() {
                return Some(Action::Release(request));
            }
            if self.running.is_none() {
                self.running = self.waiting.pop_front();
                return self.running.map(Action::Start);
            }
            None
        }
        fn running(&self) -> usize {
            usize::from(self.running.is_some())
        }
        fn waiting(&self) -> usize {
            self.waiting.len()
        }
        fn is_idle(&self) -> bool {
            self.waiting.is_empty() && self.running.is_none() && self.released.is_empty()
        }
    }

    let scheduler = Box::new(OneByOne::default());
    let mut endpoint = Tested::of(Endpoint::with_scheduler(EndpointConfig::default(), scheduler));
    endpoint.arrive(a(1), "k");
    endpoint.arrive(b(2), "");
    assert_eq!(endpoint.poll(), [Start(a(1))]);
    endpoint.0.begin_reply(a(1));
    assert_eq!(endpoint.poll(), [MayReply(a(1))]);
    assert_eq!(endpoint.finish(a(1), "one"), [replied(a(1), "one"), Start(b(2))]);
    assert_eq!(endpoint.finish(b(2), "two"), [replied(b(2), "two")]);
    endpoint.assert_empty();
}
