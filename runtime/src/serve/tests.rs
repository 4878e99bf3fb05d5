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
