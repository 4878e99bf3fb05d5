//! Whatever happens to a link, each call ends exactly once, and with the outcome that the other side replied.

#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use callosum_testkit::pair::{Op, Pair};
use proptest::prelude::*;

fn op() -> impl Strategy<Value = Op> {
    let side = any::<bool>;
    let some = any::<u8>;
    let time = || 0..60_u8;
    let count = || 1..8_u8;
    // Bodies and tracebacks are below and above either side's limit.
    let size = || prop_oneof![4 => 0..20_u8, 1 => 70..80_u8, 1 => 140..160_u8];
    prop_oneof![
        8 => (side(), some(), size(), side(), prop::option::of(time())).prop_map(
            |(binder, key, size, compressed, deadline)| Op::Invoke { binder, key, size, compressed, deadline }
        ),
        3 => (side(), some()).prop_map(|(binder, which)| Op::Abandon { binder, which }),
        6 => (side(), some(), some(), size())
            .prop_map(|(binder, which, kind, size)| Op::Reply { binder, which, kind, size }),
        1 => (side(), some(), some()).prop_map(|(binder, which, resumed)| Op::Suspend { binder, which, resumed }),
        1 => side().prop_map(|binder| Op::Ping { binder }),
        8 => (side(), count()).prop_map(|(binder, count)| Op::Transmit { binder, count }),
        8 => (side(), count()).prop_map(|(binder, count)| Op::Deliver { binder, count }),
        1 => (side(), side()).prop_map(|(binder, blocked)| Op::Write { binder, blocked }),
        3 => time().prop_map(Op::Pass),
        1 => Just(Op::Pass(120)),
        1 => side().prop_map(|binder| Op::Drain { binder }),
        1 => Just(Op::Close),
        4 => Just(Op::Connect),
    ]
}

fn run(ops: Vec<Op>) {
    let mut pair = Pair::new(std::time::Instant::now());
    ops.into_iter().for_each(|op| pair.apply(op));
    pair.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn each_call_ends_once_and_as_it_was_answered(ops in prop::collection::vec(op(), 0..120)) {
        run(ops);
    }

    /// In the test above most links close early; here the link stays open.
    #[test]
    fn each_call_ends_once_on_a_link_that_lives(ops in prop::collection::vec(op(), 0..120)) {
        let mut all = vec![Op::Connect];
        for op in ops {
            if !matches!(op, Op::Close | Op::Pass(_) | Op::Drain { .. } | Op::Write { .. }) {
                all.push(op);
            }
        }
        run(all);
    }
}
