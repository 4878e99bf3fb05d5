//! How often a small call allocates, on each side: an exact number, so that a change that allocates more, or less, says so.

mod pair;

use std::alloc::System;

use callosum_proto::Role;
use pair::{Meter, Pair, Speaks};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Calls that are counted. Buffers are shared by many calls, so that one call has no number of its own.
const CALLS: usize = 1_000;

/// Bytes of an argument, and of a result.
const BODY: usize = 64;

/// The least of so many rounds counts: the thread that runs the tests allocates as well, at the beginning of one at most.
const ROUNDS: usize = 3;

/// Allocations and reallocations of [`CALLS`] calls: what is spoken, calls in flight, the client's, the server's.
const EXPECTED: [(Speaks, usize, Counts); 6] = [
    (Speaks::Dialect1, 1, Counts { client: 44, server: 36 }),
    (Speaks::Dialect1, 128, Counts { client: 44, server: 193 }),
    (Speaks::Dialect2, 1, Counts { client: 1000, server: 1000 }),
    (Speaks::Dialect2, 128, Counts { client: 1000, server: 1000 }),
    (Speaks::Curve, 1, Counts { client: 1000, server: 1000 }),
    (Speaks::Curve, 128, Counts { client: 1000, server: 1000 }),
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    client: usize,
    server: usize,
}

impl Meter for Counts {
    fn of<T>(&mut self, side: Role, work: impl FnOnce() -> T) -> T {
        let region = Region::new(HEAP);
        let result = work();
        let made = region.change();
        let count = match side {
            Role::Connector => &mut self.client,
            Role::Binder => &mut self.server,
        };
        *count += made.allocations + made.reallocations;
        result
    }
}

fn count(speaks: Speaks, in_flight: usize) -> Counts {
    let mut pair = Pair::new(speaks, BODY);
    pair.handles_timers = true;
    pair.connect();
    // What grows once has grown then.
    pair.call(CALLS, in_flight, &mut ());
    let rounds = [(); ROUNDS].map(|()| {
        let mut counts = Counts::default();
        pair.call(CALLS, in_flight, &mut counts);
        counts
    });
    let least = |of: fn(&Counts) -> usize| rounds.iter().map(of).min().unwrap_or_default();
    Counts { client: least(|counts| counts.client), server: least(|counts| counts.server) }
}

/// The only test of this file: another one would allocate at the same time.
#[test]
fn small_calls_allocate_exactly_this_often() {
    let counted = EXPECTED.map(|(speaks, in_flight, _)| (speaks, in_flight, count(speaks, in_flight)));
    let rows = counted.map(|(speaks, in_flight, Counts { client, server })| {
        format!("    (Speaks::{speaks:?}, {in_flight}, Counts {{ client: {client}, server: {server} }}),\n")
    });
    assert!(
        counted == EXPECTED,
        "{CALLS} calls allocate more or less often than before. If that is meant, EXPECTED in {} becomes\n{}",
        file!(),
        rows.concat(),
    );
}
