use callosum_proto::Call;

use crate::by_hand::Pair;

#[test]
fn a_request_without_a_key_locks_the_endpoint_once_on_its_way_in_and_once_out() {
    let mut pair = Pair::connected();
    for (method, needs_task) in [("at once", false), ("later", true)] {
        let before = pair.node.core.dispatcher.times_locked();
        pair.client.invoke(pair.runtime.now, Call::new(method, "")).expect("it is established");
        pair.exchange();
        if needs_task {
            assert_eq!(pair.node.core.dispatcher.times_locked() - before, 1, "{method}: on the way in");
            pair.runtime.run_tasks();
            assert!(!pair.has_result(), "{method} waits once");
            pair.runtime.run_tasks();
            pair.exchange();
        }
        assert!(pair.has_result(), "{method}");
        assert_eq!(pair.node.core.dispatcher.times_locked() - before, 2, "{method}: on the way in and out");
        // Nothing has happened since.
        pair.exchange();
        assert_eq!(pair.node.core.dispatcher.times_locked() - before, 2, "an idle link");
    }
}

#[test]
fn calls_that_follow_a_slow_one_get_tasks_and_more_of_them_if_the_next_is_slow_again() {
    let mut pair = Pair::connected();
    let mut is_on_the_spot = |method| {
        pair.client.invoke(pair.runtime.now, Call::new(method, "")).expect("it is established");
        pair.exchange();
        let is_on_the_spot = pair.has_result();
        if !is_on_the_spot {
            pair.runtime.run_tasks();
            pair.exchange();
            assert!(pair.has_result(), "it has a task");
        }
        is_on_the_spot
    };
    assert!(is_on_the_spot("a millisecond"));
    for tasks in [8, 16, 32] {
        let slow = std::iter::repeat_with(|| is_on_the_spot("a millisecond"));
        assert_eq!(slow.take_while(|is_on_the_spot| !is_on_the_spot).count(), tasks);
        assert!(is_on_the_spot("at once"), "another method");
    }
}
