use super::*;
use crate::ids::CallId;

const A: ConnectionId = ConnectionId(1);
const B: ConnectionId = ConnectionId(2);
const C: ConnectionId = ConnectionId(3);

fn stream(number: u64) -> StreamId {
    CallId(number).into()
}

struct Tested(Budget);

impl Tested {
    fn new(limit_per_connection: usize, limit: usize) -> Self {
        Self(Budget::new(limit_per_connection, limit))
    }

    fn want(&mut self, connection: ConnectionId, number: u64, bytes: usize) -> Vec<u64> {
        self.0.want(connection, stream(number), bytes);
        self.granted()
    }

    fn end(&mut self, connection: ConnectionId, number: u64) -> Vec<u64> {
        self.0.end(connection, stream(number));
        self.granted()
    }

    fn granted(&mut self) -> Vec<u64> {
        self.0.audit();
        let granted = std::iter::from_fn(|| self.0.poll());
        let numbers = granted
            .map(|(_, stream)| match stream {
                StreamId::Call(CallId(number)) => number,
                StreamId::Request(_) => unreachable!("there are none"),
            })
            .collect();
        self.0.audit();
        numbers
    }
}

#[test]
fn the_example_of_the_header() {
    let mut budget = Tested::new(60, 100);
    assert_eq!(budget.want(A, 50, 50), [50]);
    assert_eq!([budget.want(A, 40, 40), budget.want(A, 10, 10), budget.want(B, 60, 60)].concat(), []);
    assert_eq!(budget.end(A, 50), [60, 40]);
    assert_eq!(budget.end(B, 60), [10]);
    assert_eq!([budget.end(A, 40), budget.end(A, 10)].concat(), []);
    assert!(budget.0.is_empty());
}

#[test]
fn memory_goes_round_in_order_and_comes_back() {
    let mut budget = Tested::new(100, 100);
    assert_eq!(budget.want(A, 1, 60), [1]);
    assert_eq!(budget.want(B, 2, 50), []);
    assert_eq!(budget.want(C, 3, 10), [], "it does not overtake");
    assert_eq!(budget.end(A, 1), [2, 3]);
    assert_eq!(budget.want(A, 4, 40), [4], "to the byte");
    assert_eq!(budget.want(A, 5, 1), []);
}

#[test]
fn a_body_that_gives_up_holds_up_nobody() {
    let mut budget = Tested::new(100, 100);
    assert_eq!(budget.want(A, 1, 60), [1]);
    assert_eq!([budget.want(B, 2, 50), budget.want(B, 3, 30), budget.want(C, 4, 10)].concat(), []);
    assert_eq!(budget.end(B, 2), [3, 4], "the next of its connection has its place");
    assert_eq!(budget.want(B, 5, 70), []);
    assert_eq!(budget.want(C, 6, 1), [], "it waits behind B");
    assert_eq!(budget.end(A, 1), []);
    assert_eq!([budget.end(C, 4), budget.end(B, 3)].concat(), [5, 6]);
}

#[test]
fn a_body_that_waits_for_its_own_connection_holds_up_no_other() {
    let mut budget = Tested::new(50, 100);
    assert_eq!(budget.want(A, 1, 50), [1]);
    assert_eq!([budget.want(A, 2, 50), budget.want(A, 3, 1)].concat(), [], "in its order");
    assert_eq!(budget.want(B, 4, 50), [4]);
    assert_eq!(budget.end(A, 1), [2]);
    assert_eq!(budget.end(A, 2), [3]);
}

#[test]
fn one_alone_may_be_larger_than_a_limit() {
    let mut budget = Tested::new(50, 100);
    assert_eq!(budget.want(A, 1, usize::MAX), [1]);
    assert_eq!([budget.want(A, 2, 1), budget.want(B, 3, 1)].concat(), []);
    assert_eq!(budget.end(A, 1), [3, 2], "A's second began to wait for the total last");
    assert_eq!(budget.want(B, 4, 60), [], "not while it has another");
    assert_eq!(budget.end(B, 3), [4]);
    assert_eq!(budget.want(C, 5, 1_000), []);
    assert_eq!([budget.end(A, 2), budget.end(B, 4)].concat(), [5]);
}

#[test]
fn bodies_of_a_connection_that_is_gone_hold_up_nobody() {
    let mut budget = Tested::new(100, 100);
    assert_eq!(budget.want(A, 1, 70), [1]);
    assert_eq!([budget.want(A, 2, 30), budget.want(A, 3, 30)].concat(), [2]);
    assert_eq!(budget.want(B, 4, 100), []);
    budget.0.forget(A);
    assert_eq!(budget.granted(), [4]);
    assert_eq!(budget.end(A, 1), []);
    budget.0.forget(B);
    assert!(budget.0.is_empty());
}

#[test]
fn a_stream_has_one_body_and_unknown_ones_are_ignored() {
    let mut budget = Tested::new(100, 100);
    budget.0.end(A, stream(1));
    budget.0.forget(A);
    assert_eq!(budget.want(A, 1, 60), [1]);
    assert_eq!(budget.want(A, 1, 10), [], "it has one");
    assert_eq!(budget.want(A, 2, 50), []);
    assert_eq!(budget.want(A, 2, 1), [], "it waits already");
    assert_eq!(budget.end(A, 1), [2]);
}

#[test]
fn a_connection_with_many_bodies_shares_with_others() {
    let mut budget = Tested::new(100, 10);
    assert_eq!(budget.want(A, 0, 10), [0]);
    (1..100).for_each(|number| assert_eq!(budget.want(A, number, 10), []));
    assert_eq!(budget.want(B, 100, 10), []);
    assert_eq!(budget.end(A, 0), [1]);
    assert_eq!(budget.end(A, 1), [100], "one of A's at a time is before it");
}
