//! Runs seeded schedules of the simulation; the guarantees hold in each.

#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use callosum_testkit::sim::{self, Tally};

/// Number of schedules unless CALLOSUM_SIM_SCHEDULES is set.
const SCHEDULES: u64 = 4_000;

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

fn run(seed: u64, tally: &mut Tally) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| sim::run_seed(seed, Instant::now(), tally))) {
        eprintln!(
            "seed {seed} fails; to replay it: CALLOSUM_SIM_SEED={seed} \
             cargo nextest run -p callosum-testkit --test simulation"
        );
        resume_unwind(panic);
    }
}

/// Runs every `PARTS`-th seed, from `part` on. The parts run in parallel.
fn run_part(part: u64) {
    let mut tally = Tally::new();
    if let Some(seed) = setting("CALLOSUM_SIM_SEED") {
        return if part == 0 {
            run(seed, &mut tally)
        };
    }
    let schedules = setting("CALLOSUM_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let from = setting("CALLOSUM_SIM_FIRST");
    let first = from.unwrap_or(0);
    (first + part..first + schedules).step_by(PARTS as usize).for_each(|seed| run(seed, &mut tally));
    println!("{tally:#?}");
    // Of other seeds than the usual ones, a few thousand may miss what is rare.
    if schedules >= SCHEDULES && from.is_none() {
        for what in EXPECTED {
            assert!(tally.contains_key(*what), "no schedule has come to {what:?}");
        }
    }
}

/// Situations that enough schedules must reach; schedules that never do test nothing.
const EXPECTED: &[&str] = &[
    "Goodbye",
    "MayReply",
    "Readable",
    "Reassembled",
    "Response",
    "Writable",
    "answered after a half-close",
    "answered after a long result of the key",
    "answered under CURVE",
    "argument reassembled before its request",
    "arrived after a time",
    "binder restarted",
    "closed HandshakeTimedOut",
    "closed KeepaliveTimedOut",
    "closed LinkLost",
    "closed Local",
    "closed PeerNotReading in the middle",
    "closed PeerNotReading",
    "closed PeerRestarted",
    "connector of several binders",
    "connector restarted",
    "ended Busy",
    "ended Cancelled",
    "ended Complete",
    "ended Disconnected",
    "ended Failure",
    "ended Malformed",
    "ended NeedsDialect2",
    "ended ReplyTooLarge",
    "ended Result",
    "ended ShuttingDown",
    "ended TimedOut",
    "established under CURVE",
    "half-closed",
    "late hello admitted",
    "minutes passed on a stalled link",
    "minutes passed",
    "takeover admitted",
    "never ran",
    "not read until the end",
    "not reassembled Aborted",
    "not reassembled TimedOut",
    "paused",
    "several binders",
    "stopped Cancelled",
    "stopped Disconnected",
    "stopped DeadlinePassed",
    "stopped ExecutionTimedOut",
    "withdrawn",
];

const PARTS: u64 = 4;

#[test]
fn the_guarantees_hold_0() {
    run_part(0);
}

#[test]
fn the_guarantees_hold_1() {
    run_part(1);
}

#[test]
fn the_guarantees_hold_2() {
    run_part(2);
}

#[test]
fn the_guarantees_hold_3() {
    run_part(3);
}
