use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::ordering::Busy;

#[test]
fn a_closed_connection_keeps_slot_and_key_until_its_handlers_have_ended() {
    let mut endpoint = Tested::new(|config| {
        config.ordering.mode = OrderingMode::KeySerialized;
        config.ordering.max_running = 2;
    });
    endpoint.start(a(1), "k");
    endpoint.start(a(2), "");
    endpoint.arrive(a(3), "");
    endpoint.arrive(b(4), "k");
    endpoint.arrive(b(5), "");
    endpoint.tell(EndpointEvent::Closed(A));
    assert_eq!(endpoint.poll(), []);
    assert_eq!((endpoint.0.running(), endpoint.0.waiting(), endpoint.0.connections()), (2, 2, 1));
    endpoint.0.finish(a(2), Some(Reply::Cancelled));
    assert_eq!(endpoint.poll(), [Start(b(5))]);
    endpoint.0.finish(a(1), None);
    assert_eq!(endpoint.poll(), [Start(b(4))]);
    assert_eq!(endpoint.finish(b(4), "four"), [replied(b(4), "four")]);
    assert_eq!(endpoint.finish(b(5), "five"), [replied(b(5), "five")]);
    endpoint.assert_empty();
}

#[test]
fn a_closed_connection_gets_no_event_and_takes_none() {
    let mut endpoint = Tested::new(|config| config.ordering.max_waiting_per_connection = 0);
    endpoint.start(a(1), "");
    endpoint.start(a(2), "");
    endpoint.0.finish(a(1), Some(Reply::result("one")));
    endpoint.0.begin_reply(a(2));
    endpoint.tell(EndpointEvent::Paused(A));
    endpoint.arrive(a(3), "");
    endpoint.want(A, 1, 1);
    endpoint.0.drain();
    endpoint.tell(EndpointEvent::Closed(A));
    endpoint.tell(EndpointEvent::Closed(A));
    endpoint.arrive(a(4), "");
    endpoint.want(A, 2, 1);
    endpoint.withdraw(a(2), Reply::Cancelled);
    assert_eq!(endpoint.poll(), [Drain(B)]);
    assert_eq!(endpoint.0.connections(), 1);
    endpoint.0.finish(a(2), None);
    endpoint.assert_empty();
}

#[test]
fn the_memory_of_a_closed_connection_is_free() {
    let mut endpoint = Tested::new(|config| config.max_reassembly_total = 100);
    endpoint.want(A, 1, 100);
    endpoint.want(A, 2, 100);
    endpoint.want(B, 3, 100);
    assert_eq!(endpoint.poll(), [Reassemble(A, CallId(1).into())]);
    endpoint.tell(EndpointEvent::Closed(A));
    assert_eq!(endpoint.poll(), [Reassemble(B, CallId(3).into())]);
    endpoint.tell(EndpointEvent::ReassemblyEnded { connection: A, stream: CallId(1).into() });
    endpoint.tell(EndpointEvent::ReassemblyEnded { connection: B, stream: CallId(3).into() });
    endpoint.assert_empty();
}

#[test]
fn a_suspended_handler_of_a_closed_connection_goes_on() {
    let mut endpoint = Tested::new(|config| config.ordering.max_running = 1);
    endpoint.start(a(1), "");
    endpoint.0.suspend(a(1));
    endpoint.tell(EndpointEvent::Closed(A));
    endpoint.start(b(2), "");
    endpoint.0.resume(a(1));
    endpoint.arrive(b(3), "");
    assert_eq!(endpoint.finish(b(2), "two"), [replied(b(2), "two")]);
    endpoint.0.finish(a(1), None);
    assert_eq!(endpoint.poll(), [Start(b(3))]);
}

#[test]
fn ids_of_connections_are_not_used_again() {
    let mut endpoint = Tested::mode(OrderingMode::ExitOrdered);
    endpoint.tell(EndpointEvent::Closed(B));
    assert_eq!(endpoint.0.open(), ConnectionId(2));
}

/// The built-in scheduler, and a counter of calls to it.
struct Counting(KeyOrder, Arc<AtomicUsize>);

impl Counting {
    fn order(&mut self) -> &mut KeyOrder {
        self.1.fetch_add(1, Ordering::Relaxed);
        &mut self.0
    }
}

impl Scheduler for Counting {
    fn arrive(&mut self, arrival: &Arrival) -> Result<(), Busy> {
        self.order().arrive(arrival)
    }
    fn ready(&mut self, request: RequestId, bytes: usize) -> Result<(), Busy> {
        self.order().ready(request, bytes)
    }
    fn finish(&mut self, request: RequestId) {
        self.order().finish(request);
    }
    fn withdraw(&mut self, request: RequestId) {
        self.order().withdraw(request);
    }
    fn forget_connection(&mut self, connection: ConnectionId) {
        self.order().forget_connection(connection);
    }
    fn suspend(&mut self, request: RequestId) {
        self.order().suspend(request);
    }
    fn resume(&mut self, request: RequestId) {
        self.order().resume(request);
    }
    fn pause(&mut self, connection: ConnectionId) {
        self.order().pause(connection);
    }
    fn unpause(&mut self, connection: ConnectionId) {
        self.order().unpause(connection);
    }
    fn want_to_reply(&mut self, request: RequestId) -> bool {
        self.order().want_to_reply(request)
    }
    fn poll(&mut self) -> Option<Action> {
        self.order().poll()
    }
    fn running(&self) -> usize {
        self.0.running()
    }
    fn waiting(&self) -> usize {
        self.0.waiting()
    }
    fn is_idle(&self) -> bool {
        self.0.is_idle()
    }
}

#[test]
fn a_close_asks_for_nothing_on_behalf_of_others() {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut config = EndpointConfig::default();
    config.ordering.max_running = 1_000;
    let scheduler = Box::new(Counting(KeyOrder::new(config.ordering.clone()), asked.clone()));
    let mut endpoint = Tested::of(Endpoint::with_scheduler(config, scheduler));
    // Each connection has 400 handlers, half of which wait to begin a reply.
    for number in 0..400 {
        endpoint.start(a(number), "k");
        endpoint.start(b(number), "k");
    }
    for number in (2..400).step_by(2) {
        endpoint.0.begin_reply(a(number));
        endpoint.0.begin_reply(b(number));
    }
    assert_eq!(endpoint.poll(), []);
    let before = asked.load(Ordering::Relaxed);
    endpoint.tell(EndpointEvent::Closed(A));
    let steps = asked.load(Ordering::Relaxed) - before;
    assert_eq!(steps, 1 + 199, "forget_connection, and resume for each of its own that waited");
    assert_eq!(endpoint.poll(), []);
    assert_eq!(asked.load(Ordering::Relaxed) - before, steps + 1, "nothing is due");
}
