use super::*;

fn begin(endpoint: &mut Tested, request: RequestId) -> Vec<Told> {
    endpoint.0.begin_reply(request);
    endpoint.0.audit();
    endpoint.poll()
}

#[test]
fn a_streamed_reply_begins_when_its_order_has_come() {
    let mut endpoint = Tested::mode(OrderingMode::ExitOrdered);
    (1..=3).for_each(|number| endpoint.start(a(number), "k"));
    endpoint.start(b(4), "");
    assert_eq!(begin(&mut endpoint, b(4)), [MayReply(b(4))], "it has no key");
    assert_eq!(begin(&mut endpoint, a(1)), [MayReply(a(1))], "nothing is before it");
    assert_eq!([begin(&mut endpoint, a(2)), begin(&mut endpoint, a(3))].concat(), []);
    assert_eq!([begin(&mut endpoint, a(2)), begin(&mut endpoint, a(1))].concat(), [], "they have asked");
    endpoint.0.finish(a(1), Some(Reply::End));
    assert_eq!(endpoint.poll(), [replied(a(1), "end"), MayReply(a(2))]);
    endpoint.0.finish(a(2), Some(Reply::End));
    assert_eq!(endpoint.poll(), [replied(a(2), "end"), MayReply(a(3))]);
    assert_eq!(endpoint.finish(a(3), "instead"), [replied(a(3), "instead")]);
}

#[test]
fn only_a_handler_that_runs_begins_a_reply() {
    let mut endpoint = Tested::new(|config| config.ordering.max_running = 1);
    endpoint.start(a(1), "k");
    endpoint.arrive(a(2), "");
    assert_eq!(begin(&mut endpoint, a(2)), [], "it waits");
    endpoint.0.finish(a(1), Some(Reply::Cancelled));
    endpoint.0.begin_reply(a(1));
    assert_eq!(endpoint.poll(), [replied(a(1), "cancelled"), Start(a(2))]);
    assert_eq!(begin(&mut endpoint, a(2)), [MayReply(a(2))], "what came too early is not kept");
}

#[test]
fn one_that_waits_to_reply_lends_its_slot_to_the_one_that_it_waits_for() {
    let mut endpoint = Tested::new(|config| config.ordering.max_running = 1);
    endpoint.tell(EndpointEvent::Paused(A));
    endpoint.arrive(a(1), "k");
    endpoint.start(b(2), "k");
    endpoint.tell(EndpointEvent::Resumed(A));
    endpoint.arrive(a(3), "");
    assert_eq!(begin(&mut endpoint, b(2)), [Start(a(1))]);
    endpoint.0.finish(a(1), Some(Reply::result("one")));
    assert_eq!(endpoint.poll(), [replied(a(1), "one"), MayReply(b(2))], "it has its slot back");
    assert_eq!(endpoint.finish(b(2), "two"), [replied(b(2), "two"), Start(a(3))]);
}

#[test]
fn a_slot_that_is_lent_for_two_reasons_comes_back_when_both_are_over() {
    let mut endpoint = Tested::new(|config| config.ordering.max_running = 2);
    endpoint.start(a(1), "k");
    endpoint.start(a(2), "k");
    assert_eq!(begin(&mut endpoint, a(2)), []);
    endpoint.0.suspend(a(2));
    endpoint.0.resume(a(2));
    endpoint.0.resume(a(2));
    endpoint.start(a(3), "");
    endpoint.0.suspend(a(2));
    endpoint.arrive(a(4), "");
    let then = [replied(a(1), "one"), MayReply(a(2)), Start(a(4))];
    assert_eq!(endpoint.finish(a(1), "one"), then, "it waits for a nested call still");
    endpoint.arrive(a(5), "");
    endpoint.0.resume(a(2));
    assert_eq!(endpoint.finish(a(3), "three"), [replied(a(3), "three")]);
    assert_eq!(endpoint.finish(a(4), "four"), [replied(a(4), "four"), Start(a(5))]);
}

#[test]
fn one_that_waits_to_reply_can_end() {
    let mut endpoint = Tested::new(|config| config.ordering.max_running = 2);
    endpoint.start(a(1), "k");
    endpoint.start(a(2), "k");
    assert_eq!(begin(&mut endpoint, a(2)), []);
    endpoint.withdraw(a(2), Reply::Cancelled);
    endpoint.0.finish(a(2), None);
    assert_eq!(endpoint.poll(), [replied(a(2), "cancelled")], "its caller has gone");
    assert_eq!(endpoint.finish(a(1), "one"), [replied(a(1), "one")]);
    endpoint.assert_empty();
}

#[test]
fn one_of_a_closed_connection_takes_its_slot_back_and_never_begins() {
    let mut endpoint = Tested::new(|config| config.ordering.max_running = 2);
    endpoint.start(b(1), "k");
    endpoint.start(a(2), "k");
    assert_eq!(begin(&mut endpoint, a(2)), []);
    endpoint.tell(EndpointEvent::Closed(A));
    endpoint.arrive(b(3), "");
    assert_eq!(endpoint.poll(), []);
    assert_eq!(begin(&mut endpoint, a(2)), []);
    assert_eq!(endpoint.finish(b(1), "one"), [replied(b(1), "one"), Start(b(3))]);
    assert_eq!(endpoint.finish(a(2), "nobody hears it"), []);
    assert_eq!(endpoint.finish(b(3), "three"), [replied(b(3), "three")]);
    endpoint.assert_empty();
}

#[test]
fn one_that_does_not_wait_to_reply_any_more_has_its_slot_back() {
    let mut endpoint = Tested::new(|config| {
        (config.ordering.mode, config.ordering.max_running) = (OrderingMode::ExitOrdered, 2);
    });
    endpoint.start(a(1), "k");
    endpoint.start(a(2), "k");
    assert_eq!(begin(&mut endpoint, a(2)), []);
    endpoint.0.cancel_begin_reply(a(2));
    endpoint.arrive(a(3), "");
    assert_eq!(endpoint.poll(), [], "both slots are taken");
    // The handler asks again before its order has come, and cancels again.
    assert_eq!(begin(&mut endpoint, a(2)), [Start(a(3))]);
    endpoint.0.cancel_begin_reply(a(2));
    assert_eq!(endpoint.finish(a(1), "one"), [replied(a(1), "one")], "nobody waits");
    assert_eq!(begin(&mut endpoint, a(2)), [MayReply(a(2))], "its order has come");
    endpoint.0.cancel_begin_reply(a(2));
    assert_eq!(begin(&mut endpoint, a(2)), [MayReply(a(2))], "it may not have heard of the one before");
    endpoint.0.finish(a(2), Some(Reply::End));
    assert_eq!(endpoint.poll(), [replied(a(2), "end")]);
}
